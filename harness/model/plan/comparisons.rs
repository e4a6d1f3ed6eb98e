//! The weights that a comparison of versions needs.

use thiserror::Error;

use super::stages::PlannedStage;
use crate::routing::RoutingUnit;
use crate::scenario::{Comparison, Population, ServiceLevel};

/// Why two versions cannot be compared at a stage.
#[derive(Debug, Clone, PartialEq, Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum NotComparable {
    /// No request reaches a version.
    #[error("`{from}` gets no `{version}` in this stage: the manifests give {given}")]
    NoRequests { version: String, from: String, given: String },
    /// Kinds of requests reach the versions with different weights.
    #[error(
        "the kinds of requests of `{from}` reach `{version}` with different weights; compare one kind in a population of its own"
    )]
    Kinds { from: String, version: String },
    /// The weights are not known.
    #[error("the weight of `{version}` is not known: {field} ({place}) is not modelled")]
    Unknown { version: String, field: String, place: String },
    /// A controller changes the weights while requests are sent.
    #[error(
        "the weight of `{version}` changes in this stage, which follows the controller; compare in a stage that waits"
    )]
    Moves { version: String },
    /// Connections are routed, not requests.
    #[error("connections to `{host}` are routed, not requests, so that answers on one connection depend on each other")]
    Connections { host: String },
}

/// The canary's share of the requests of the claim's population to the two versions.
pub(super) fn weight(
    planned: &PlannedStage<'_>,
    level: &ServiceLevel,
    comparison: &Comparison,
) -> Result<f64, NotComparable> {
    let (snapshot, senders) = (&planned.after, planned.after.senders());
    let population = snapshot.scenario.population(&level.from);
    let is_balanced = |own: &Population| {
        !snapshot.scenario.service.scheme.is_of_connections()
            && own.through.is_none()
            && senders
                .of(own)
                .routes(&snapshot.request_of(own))
                .is_ok_and(|routes| routes.table.unit == RoutingUnit::Connection)
    };
    if population.is_some_and(is_balanced) {
        return Err(NotComparable::Connections { host: snapshot.scenario.service.host.clone() });
    }
    let Comparison { canary, baseline, .. } = comparison;
    if planned.stage.wait.as_ref().is_some_and(|wait| wait.follows.is_some()) {
        return Err(NotComparable::Moves { version: canary.clone() });
    }
    let mut weights = Vec::new();
    let kinds = population.into_iter().flat_map(|own| own.variants.iter().map(move |variant| (own, variant)));
    for (population, variant) in kinds {
        let one = Population { variants: vec![variant.clone()], sessions: None, ..population.clone() };
        let given = snapshot.given(&one, &level.path, &senders);
        if let Some(note) = given.not_modelled.first() {
            let (field, place) = (note.field.clone(), note.origin.to_string());
            return Err(NotComparable::Unknown { version: canary.clone(), field, place });
        }
        let share = |version: &String| given.chance(|seen| seen.version.as_ref() == Some(version)).fraction();
        if let Some(version) = [canary, baseline].into_iter().find(|version| share(version) <= 0.0) {
            let (version, from, given) = (version.clone(), level.from.clone(), given.to_string());
            return Err(NotComparable::NoRequests { version, from, given });
        }
        weights.push(share(canary) / (share(canary) + share(baseline)));
    }
    let (first, others) = weights.split_first().unwrap_or((&0.5, &[]));
    if others.iter().any(|other| (other - first).abs() > 1e-9) {
        return Err(NotComparable::Kinds { from: level.from.clone(), version: canary.clone() });
    }
    Ok(*first)
}
