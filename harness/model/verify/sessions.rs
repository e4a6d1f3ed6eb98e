//! Claims about sessions, decided by the manifests.

use super::decided::{Decided, Measure, compare, mismatch};
use crate::plan::{Given, Seen, Succession};
use crate::routing::{Affinity, Chance, Finding, NotModelled, Scope};
use crate::scenario::{SessionClaim, Share, StatusCode, Stay};

/// Compares what the sessions of a population are given with a claim about them.
pub fn decide_sessions(claim: &SessionClaim, given: &Given) -> Decided {
    if let (Some(keep), Some(succession)) = (&claim.keep, &given.succession) {
        return decide_kept(claim, &keep.version, succession);
    }
    if !given.unknown_shares.is_empty() {
        return Decided::Undecided(given.unknown_shares.clone());
    }
    if !given.not_modelled.is_empty() && !keep_one_pod(claim, given) {
        return Decided::Undecided(given.not_modelled.clone());
    }
    let mut mismatches = Vec::new();
    let without = given.chance(|seen| seen.version.is_none());
    if without > Chance::NONE {
        mismatches.push(mismatch(Measure::NoVersion, Share::NONE, without));
    }
    let fails = given.chance(|seen| seen.version.is_some() && seen.status.is_some_and(|status| status != claim.status));
    if fails > Chance::NONE {
        mismatches.push(mismatch(Measure::Status(StatusCode(claim.status)), Share::ALL, fails.otherwise()));
    }
    if mismatches.is_empty() {
        if let Some(affinity) = given
            .affinities
            .iter()
            .find(|own| own.depends_on_connections() && !claim.connects_each && !keeps(claim, given, own))
        {
            return Decided::Undecided(vec![by_connection(claim, affinity)]);
        }
        if moving(claim, given).next().is_some() {
            mismatches.push(mismatch(Measure::Sessions(claim.stay), Share::ALL, Chance::NONE));
        }
    }
    if mismatches.is_empty() && !claim.versions.is_empty() {
        let seen = given.seen.keys().filter_map(|seen| seen.version.clone());
        let mut versions: Vec<String> = claim.versions.keys().cloned().chain(seen).collect();
        versions.sort_unstable();
        versions.dedup();
        for version in versions {
            let claimed = claim.versions.get(&version).copied().unwrap_or(Share::NONE);
            let chance = given.chance(|seen| seen.version.as_ref() == Some(&version));
            mismatches.extend(compare(claim.errors, Measure::Version(version), claimed, chance));
        }
    }
    if mismatches.is_empty() { Decided::Holds } else { Decided::Fails(mismatches) }
}

/// Compares what follows after the answers of a version with the claim that sessions keep the version.
fn decide_kept(claim: &SessionClaim, version: &str, succession: &Succession) -> Decided {
    if !succession.not_modelled.is_empty() {
        return Decided::Undecided(succession.not_modelled.clone());
    }
    let mut mismatches = Vec::new();
    if succession.seen.iter().any(|seen| seen.version.is_none()) {
        mismatches.push(mismatch(Measure::NoVersion, Share::NONE, Chance::CERTAIN));
    }
    let fails = |seen: &&Seen| seen.version.is_some() && seen.status.is_some_and(|status| status != claim.status);
    if succession.seen.iter().any(|seen| fails(&seen)) {
        mismatches.push(mismatch(Measure::Status(StatusCode(claim.status)), Share::ALL, Chance::NONE));
    }
    if mismatches.is_empty() && !succession.keeps(version) {
        mismatches.push(mismatch(Measure::Kept(version.to_owned()), Share::ALL, Chance::NONE));
    }
    if mismatches.is_empty() { Decided::Holds } else { Decided::Fails(mismatches) }
}

/// Whether the sessions of a claim stay, whichever pod a hash chooses for all of them.
fn keep_one_pod(claim: &SessionClaim, given: &Given) -> bool {
    let by_hash = given.not_modelled.iter().all(|note| matches!(note.scope, Scope::Hash(..)));
    let answers =
        given.seen.keys().all(|seen| seen.version.is_some() && seen.status.is_none_or(|own| own == claim.status));
    by_hash && answers && claim.versions.is_empty() && given.affinities.iter().all(Affinity::keeps_pod)
}

/// Why sessions do not stay, one finding for each reason.
pub fn why_sessions_move(claim: &SessionClaim, given: &Given) -> Vec<Finding> {
    if let (Some(keep), Some(succession)) = (&claim.keep, &given.succession) {
        let why = succession.why_not(&keep.version, &claim.from).into_iter();
        return why.map(|message| Finding { lacks_endpoints: false, message }).collect();
    }
    let reasons =
        moving(claim, given).map(|affinity| Finding { lacks_endpoints: false, message: affinity.to_string() });
    reasons.collect()
}

/// How the pods of sessions are chosen that do not stay.
fn moving<'g>(claim: &'g SessionClaim, given: &'g Given) -> impl Iterator<Item = &'g Affinity> {
    given.affinities.iter().filter(|affinity| !keeps(claim, given, affinity))
}

/// Whether sessions stay whose pods are chosen in this way.
fn keeps(claim: &SessionClaim, given: &Given, affinity: &Affinity) -> bool {
    let mut versions = given.seen.keys().filter_map(|seen| seen.version.as_ref());
    let first = versions.next();
    let is_one = versions.all(|version| Some(version) == first);
    affinity.keeps_pod() || claim.stay == Stay::Version && is_one
}

fn by_connection(claim: &SessionClaim, affinity: &Affinity) -> NotModelled {
    let origin = match affinity {
        Affinity::ByKey { place, .. } => place.clone(),
        _ => claim.origin.clone(),
    };
    let field = "which connection each request of a session takes".to_owned();
    NotModelled { origin, field, scope: Scope::Nothing, only_answers: true }
}
