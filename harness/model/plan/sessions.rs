//! What sessions need: sample designs for the pods that the manifests give, and claims that sessions make wrong.

use std::collections::BTreeSet;

use thiserror::Error;

use super::given::Given;
use super::seen::Seen;
use super::stages::PlannedStage;
use crate::routing::{Affinity, HashTable, KeyOf};
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

/// A claim about sessions whose cookie is never set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{from}` has no sessions at {path}: {why}. Give the DestinationRule a `consistentHash` with `httpCookie: {{name: {cookie}, ttl: 0s}}`, or name the cookie that is set"
)]
pub struct NoCookie {
    /// The population.
    pub from: String,
    /// The name of the cookie.
    pub cookie: String,
    /// The request path.
    pub path: String,
    /// Why it is not set.
    pub why: Affinity,
}

/// A claim that sessions keep a version that they never get.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "no request of `{from}` at {path} gets {version}, so that no session can keep it: the manifests give {given}. Name a version that they give"
)]
pub struct NeverKept {
    /// The population.
    pub from: String,
    /// The request path.
    pub path: String,
    /// The version.
    pub version: String,
    /// What the manifests give.
    pub given: String,
}

/// The first claim that sessions keep a version that they never get, with the position of the version.
pub(super) fn never_kept(planned: &PlannedStage<'_>) -> Option<(Origin, NeverKept)> {
    let senders = planned.after.senders();
    planned.stage.session_claims().find_map(|claim| {
        let (population, keep) = (planned.after.scenario.population(&claim.from)?, claim.keep.as_ref()?);
        let given = planned.after.given(population, &claim.path, &senders);
        let is_kept = |seen: &Seen| seen.version.as_ref() == Some(&keep.version);
        let later = given.succession.as_ref();
        let is_given = given.seen.keys().any(is_kept) || later.is_some_and(|later| later.seen.iter().any(is_kept));
        let is_known = given.not_modelled.is_empty() && later.is_none_or(|later| later.not_modelled.is_empty());
        if is_given || !is_known {
            return None;
        }
        let (from, path, version) = (claim.from.clone(), claim.path.clone(), keep.version.clone());
        Some((keep.origin.clone(), NeverKept { from, path, version, given: given.to_string() }))
    })
}

/// The first claim about sessions whose cookie is never set, with the position of the sessions. A claim that sessions keep a version is decided by
/// the answers to the sessions, with or without the cookie.
pub(super) fn without_cookie(planned: &PlannedStage<'_>) -> Option<(Origin, NoCookie)> {
    let senders = planned.after.senders();
    planned.stage.session_claims().filter(|claim| claim.keep.is_none()).find_map(|claim| {
        let population = planned.after.scenario.population(&claim.from)?;
        let (sessions, cookie) = (population.sessions.as_ref()?, claim.cookie.as_ref()?);
        let given = planned.after.given(population, &claim.path, &senders);
        let is_lacking = |own: &&Affinity| matches!(own, Affinity::NoCookie { .. });
        let is_known = given.not_modelled.is_empty() && given.unknown_shares.is_empty();
        let why = given.affinities.iter().find(is_lacking).filter(|_| is_known)?.clone();
        let (from, cookie, path) = (claim.from.clone(), cookie.clone(), claim.path.clone());
        Some((sessions.origin.clone(), NoCookie { from, cookie, path, why }))
    })
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
        let (keys, place) = sticky(&planned.after.given(population, &claim.path, &senders))?;
        let (from, hint) = (claim.from.clone(), hint(claim, population, &keys));
        Some((claim.origin.clone(), Sticky { from, place, hint }))
    })
}

/// The keys of the hash that sends requests to several versions, and its position.
fn sticky(given: &Given) -> Option<(Vec<KeyOf>, String)> {
    let versions: BTreeSet<_> = given.seen.keys().filter_map(|seen| seen.version.as_ref()).collect();
    let place = given.affinities.iter().find_map(|affinity| match affinity {
        Affinity::ByKey { keys, place } => Some((keys.clone(), place.to_string())),
        _ => None,
    });
    place.filter(|_| versions.len() > 1)
}

/// The claim about sessions that a claim about requests stands for.
fn hint(claim: &Claim, population: &Population, keys: &[KeyOf]) -> String {
    let shares = claim.versions.iter().map(|(version, share)| format!("{version}: {}%", 100.0 * share.fraction()));
    let shares: Vec<String> = shares.collect();
    let instead = format!("`{{from: {}, sessions: {{get: {{{}}}}}}}`", claim.from, shares.join(", "));
    if population.sessions.is_some() {
        return instead;
    }
    let key = if keys.contains(&KeyOf::Connection) { "cookie" } else { "header" };
    format!("{instead}, and give the population `sessions: {{{key}: NAME, count: 1000}}`")
}
