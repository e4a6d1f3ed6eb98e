use std::collections::BTreeSet;

use super::decided::{Decided, Measure, ShareMismatch, compare, mismatch};
use super::sessions::{decide_sessions, why_sessions_move};
use crate::plan::{Given, Plan, PlannedStage, RouteWeights, Senders, Snapshot, requests};
use crate::routing::{Chance, Finding, Live, NotModelled, Problem, Scope, Severity, check};
use crate::scenario::{Claim, Count, Expectation, Share, Stage, StatusCode, Statuses, Step, Weights};

/// The result of checking a stage against its manifests.
#[derive(Debug)]
pub struct VerifiedStage<'a> {
    /// The position of the stage, from 1.
    pub number: usize,
    /// The name of the stage.
    pub name: &'a str,
    /// The results of its claims.
    pub claims: Vec<VerifiedClaim<'a>>,
    /// The fields of applied objects that the model does not cover.
    pub not_modelled: Vec<NotModelled>,
}

/// The result of checking a claim against the manifests.
#[derive(Debug)]
pub struct VerifiedClaim<'a> {
    /// The claim.
    pub expectation: &'a Expectation,
    /// What the manifests give the population; empty if the claim names none.
    pub given: Given,
    /// Whether the claim holds.
    pub decided: Decided,
    /// Why requests do not reach the destinations of the rules.
    pub findings: Vec<Finding>,
}

/// Decides every claim of a plan from its manifests.
pub fn verify<'a>(plan: &Plan<'a>) -> Vec<VerifiedStage<'a>> {
    plan.stages.iter().map(decide_stage).collect()
}

/// Errors and suspicious settings in the manifests, over all stages, without duplicates.
pub fn problems(plan: &Plan<'_>) -> Vec<Problem> {
    let of_stage = |planned: &PlannedStage<'_>| {
        let deletions = deletions(&planned.before.live, planned.stage);
        deletions.into_iter().chain(check(&planned.after.live, planned.after.definitions))
    };
    let problems: BTreeSet<Problem> = plan.stages.iter().flat_map(of_stage).collect();
    problems.into_iter().collect()
}

/// Problems of the deletions of a stage: a kind that is unknown or ambiguous, or an object that does not exist.
fn deletions(live: &Live, stage: &Stage) -> Vec<Problem> {
    let mut live = live.clone();
    let mut problems = Vec::new();
    for step in &stage.steps {
        match step {
            Step::Apply(manifest) => live.apply_shared(manifest),
            Step::Delete(target) => {
                let found = match live.resolve(target) {
                    Err(source) => Some((Severity::Error, source.to_string())),
                    // a controller may have created it
                    Ok(id) if live.named(target).is_none() => {
                        Some((Severity::Warning, format!("no stage before has applied {id}, which is deleted here")))
                    }
                    Ok(_) => None,
                };
                let problem = |(severity, message)| Problem { origin: target.origin.clone(), severity, message };
                problems.extend(found.map(problem));
                live.delete(target);
            }
            Step::Act(_) | Step::Gate(_) | Step::Mesh(_) => {}
        }
    }
    problems
}

/// Decides the claims of a stage.
pub(super) fn decide_stage<'a>(planned: &PlannedStage<'a>) -> VerifiedStage<'a> {
    let (stage, after) = (planned.stage, &planned.after);
    let senders = after.senders();
    let mut claims: Vec<VerifiedClaim<'a>> = Vec::new();
    for expectation in &stage.expect {
        let (given, decided) = match expectation {
            Expectation::Claim(claim) => {
                let population = after.scenario.population(&claim.from);
                let given = population.map(|population| after.given(population, &claim.path, &senders));
                let given = given.unwrap_or_default();
                let decided = decide(claim, &given);
                (given, decided)
            }
            Expectation::Served { workload, requests, .. } => {
                let (served, not_modelled) = workloads(planned, &senders);
                let decided = count(workload, *requests, &served);
                (Given::default(), if not_modelled.is_empty() { decided } else { Decided::Undecided(not_modelled) })
            }
            Expectation::NoObjects(_) => (Given::default(), left(&after.live)),
            Expectation::Weights { weights, .. } => {
                let unknown = after.unknown_controller();
                let decided = routed(*weights, after.weights());
                (Given::default(), if unknown.is_empty() { decided } else { Decided::Undecided(unknown) })
            }
            Expectation::Sessions(claim) => {
                let population = after.scenario.population(&claim.from);
                let given = population.map(|population| after.given(population, &claim.path, &senders));
                let mut given = given.unwrap_or_default();
                let decided = decide_sessions(claim, &given);
                if claim.keep.is_some() && given.succession.is_some() {
                    // a version has many pods, and the claim is not about them
                    given.affinities.clear();
                }
                (given, decided)
            }
            Expectation::ServiceLevel(_) => {
                (Given::default(), Decided::Open("only a run shows errors and latency".to_owned()))
            }
            Expectation::Reports { .. } => {
                (Given::default(), Decided::Open("only a run shows what the controller reports".to_owned()))
            }
            Expectation::During(_) | Expectation::Declared(_) => {
                let open = "only a run on a mesh shows what happens while a stage is applied";
                (Given::default(), Decided::Open(open.to_owned()))
            }
        };
        let fails = matches!(decided, Decided::Fails(_));
        let mut findings = if fails { findings(after, &senders, expectation) } else { Vec::new() };
        if let (Expectation::Sessions(claim), true) = (expectation, fails) {
            findings.extend(why_sessions_move(claim, &given));
        }
        claims.push(VerifiedClaim { expectation, given, decided, findings });
    }
    // a hash is modelled, and leaves claims undecided where it chooses among versions by a key that is not known
    let notes = after.mesh().not_modelled.iter();
    let not_modelled = notes.filter(|note| !matches!(note.scope, Scope::Hash(..))).cloned().collect();
    VerifiedStage { number: planned.number, name: &stage.name, claims, not_modelled }
}

/// Why requests of the sender that a claim is about do not reach the destinations of the rules.
fn findings(after: &Snapshot<'_>, senders: &Senders<'_>, expectation: &Expectation) -> Vec<Finding> {
    let claim = match expectation {
        Expectation::Claim(claim) => claim,
        Expectation::Sessions(claim) => {
            let population = after.scenario.population(&claim.from);
            let of = |own| senders.of(own).diagnose_along(&after.request_for(own, &claim.path));
            return population.map(of).unwrap_or_default();
        }
        _ => return senders.client().diagnose(&after.request()),
    };
    let Some(population) = after.scenario.population(&claim.from) else { return Vec::new() };
    let mut findings = senders.of(population).diagnose_along(&after.request_for(population, &claim.path));
    findings.extend(after.lost_headers(senders, claim, |given| decide(claim, given) == Decided::Holds));
    findings
}

/// The workloads that may receive a stage's claimed requests, or mirrored copies of them, and what the model does not cover.
fn workloads(planned: &PlannedStage<'_>, senders: &Senders<'_>) -> (BTreeSet<String>, Vec<NotModelled>) {
    let (mut served, mut notes) = (BTreeSet::new(), BTreeSet::new());
    for (from, path) in planned.stage.asked() {
        let Some(population) = planned.after.scenario.population(from) else { continue };
        let outbound = senders.of(population);
        for request in requests(population, &planned.after.service(population), path) {
            notes.extend(outbound.not_modelled(&request, outbound.routes(&request).ok().as_ref()));
            served.extend(outbound.workloads_along(&request));
        }
    }
    (served, notes.into_iter().collect())
}

/// Compares claimed weights with those in the route; without such a route, the canary has no weight.
fn routed(claimed: Weights, given: Option<RouteWeights>) -> Decided {
    let Some(given) = given else {
        return Decided::Fails(vec![mismatch(Measure::Weight("canary"), claimed.canary, Chance::NONE)]);
    };
    let shares = [("canary", claimed.canary, given.canary), ("stable", claimed.stable, given.stable)];
    let wrong = shares.into_iter().filter(|(_, claimed, given)| (claimed.fraction() - given.fraction()).abs() > 1e-9);
    let wrong: Vec<ShareMismatch> =
        wrong.map(|(name, claimed, given)| mismatch(Measure::Weight(name), claimed, given)).collect();
    if wrong.is_empty() { Decided::Holds } else { Decided::Fails(wrong) }
}

fn left(live: &Live) -> Decided {
    let left = live.left().map(|id| mismatch(Measure::Left(id.to_string()), Share::NONE, Chance::CERTAIN));
    let left: Vec<ShareMismatch> = left.collect();
    if left.is_empty() { Decided::Holds } else { Decided::Fails(left) }
}

fn count(workload: &str, requests: Count, served: &BTreeSet<String>) -> Decided {
    let fails = |claimed, given| Decided::Fails(vec![mismatch(Measure::Workload(workload.to_owned()), claimed, given)]);
    match (requests, served.contains(workload)) {
        (Count::Exactly(0), false) | (Count::Some, true) => Decided::Holds,
        (Count::Exactly(0), true) => fails(Share::NONE, Chance::CERTAIN),
        (Count::Some, false) => fails(Share::ALL, Chance::NONE),
        _ => Decided::Open("the number of requests of a sample is not known beforehand".to_owned()),
    }
}

/// Compares what a population is given with a claim about it.
pub fn decide(claim: &Claim, given: &Given) -> Decided {
    if !given.not_modelled.is_empty() {
        return Decided::Undecided(given.not_modelled.clone());
    }
    let mut mismatches = Vec::new();
    if let Some(limit) = claim.slower_than {
        for (speed, given) in Claim::speeds(limit).into_iter().zip(given.speeds(limit)) {
            let claimed = claim.versions.get(&speed).copied().unwrap_or(Share::NONE);
            mismatches.extend(compare(claim.errors, Measure::Speed(speed), claimed, given));
        }
        return if mismatches.is_empty() { Decided::Holds } else { Decided::Fails(mismatches) };
    }
    if !claim.versions.is_empty() {
        let seen = given.seen.keys().filter_map(|seen| seen.version.clone());
        let versions: BTreeSet<String> = claim.versions.keys().cloned().chain(seen).collect();
        for version in versions {
            let claimed = claim.versions.get(&version).copied().unwrap_or(Share::NONE);
            let chance = given.chance(|seen| seen.version.as_ref() == Some(&version));
            mismatches.extend(compare(claim.errors, Measure::Version(version), claimed, chance));
        }
        let without = given.chance(|seen| seen.version.is_none());
        mismatches.extend(compare(claim.errors, Measure::NoVersion, Share::NONE, without));
    }
    // statuses of the application are compared only if they are known
    let unknown = given.chance(|seen| seen.version.is_some() && seen.status.is_none());
    if unknown == Chance::NONE || claim.versions.is_empty() && unknown < Chance::CERTAIN {
        let claimed: BTreeSet<u16> = match &claim.statuses {
            Statuses::Implied(success) => BTreeSet::from([*success]),
            Statuses::Claimed(shares) => shares.keys().copied().collect(),
        };
        let seen = given.seen.keys().filter_map(|seen| seen.status);
        let statuses: BTreeSet<u16> = claimed.into_iter().chain(seen).collect();
        for status in statuses {
            let chance = given.chance(|seen| seen.status == Some(status));
            let measure = Measure::Status(StatusCode(status));
            mismatches.extend(compare(claim.errors, measure, claim.statuses.share(status), chance));
        }
    } else if claim.versions.is_empty() {
        return Decided::Open("the status that the application answers with is not known".to_owned());
    }
    if mismatches.is_empty() { Decided::Holds } else { Decided::Fails(mismatches) }
}
