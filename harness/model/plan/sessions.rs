//! What sessions need: sample designs for the pods that the manifests give, and claims that sessions make wrong.

use std::collections::BTreeSet;

use thiserror::Error;

use super::given::Given;
use super::stages::PlannedStage;
use crate::routing::{Affinity, HashTable};
use crate::scenario::{Claim, Origin, Population};
use crate::verdict::{DesignError, SessionDesign};

/// A claim about a share of requests where requests of one caller are not independent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "consistentHash ({place}) sends all requests of `{from}` with the same key to the same pod, so that a share of requests tells nothing: claim shares of sessions, {hint}"
)]
pub struct Sticky {
    /// The population.
    pub from: String,
    /// The position of the `consistentHash`.
    pub place: String,
    /// The claim to make instead.
    pub hint: String,
}

/// The sample designs of a stage's claims about sessions.
///
/// # Errors
/// The first claim that no sample can decide, with its position.
pub(super) fn session_designs(planned: &PlannedStage<'_>) -> Result<Vec<SessionDesign>, (Origin, DesignError)> {
    let senders = planned.after.senders();
    let designs = planned.stage.session_claims().map(|claim| {
        let population = planned.after.scenario.population(&claim.from);
        let given = population.map(|own| planned.after.given(own, &claim.path, &senders)).unwrap_or_default();
        let ring = given.tables.iter().map(|table| table.size()).min().unwrap_or(HashTable::RING.size());
        SessionDesign::new(claim, ring).map_err(|source| (claim.origin.clone(), source))
    });
    designs.collect()
}

/// The first claim about a share of requests that a hash sends to the pods of several versions, with its position.
pub(super) fn refused(planned: &PlannedStage<'_>) -> Option<(Origin, Sticky)> {
    let splits = |claim: &&Claim| claim.slower_than.is_none() && claim.versions.values().any(|share| share.is_part());
    let senders = planned.after.senders();
    planned.stage.claims().filter(splits).find_map(|claim| {
        let population = planned.after.scenario.population(&claim.from)?;
        let place = sticky(&planned.after.given(population, &claim.path, &senders))?;
        let (from, hint) = (claim.from.clone(), hint(claim, population));
        Some((claim.origin.clone(), Sticky { from, place, hint }))
    })
}

/// The position of the hash that sends requests to several versions.
fn sticky(given: &Given) -> Option<String> {
    let versions: BTreeSet<_> = given.seen.keys().filter_map(|seen| seen.version.as_ref()).collect();
    let place = given.affinities.iter().find_map(|affinity| match affinity {
        Affinity::ByKey { place, .. } => Some(place.to_string()),
        _ => None,
    });
    place.filter(|_| versions.len() > 1)
}

/// The claim about sessions that a claim about requests stands for.
fn hint(claim: &Claim, population: &Population) -> String {
    let shares = claim.versions.iter().map(|(version, share)| format!("{version}: {}%", 100.0 * share.fraction()));
    let shares: Vec<String> = shares.collect();
    let instead = format!("`{{from: {}, sessions: {{get: {{{}}}}}}}`", claim.from, shares.join(", "));
    match population.sessions {
        Some(_) => instead,
        None => format!("{instead}, and give the population `sessions: {{header: NAME, count: 1000}}`"),
    }
}
