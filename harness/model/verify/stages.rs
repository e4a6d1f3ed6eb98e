use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::given::{Given, requests};
use crate::demo::demo_versions;
use crate::routing::{
    Chance, Client, Finding, Live, Mesh, Naming, NotModelled, Outbound, Problem, Request, RouteTable, Severity, check,
    client_of, pods_of,
};
use crate::scenario::{Claim, Count, Expectation, Scenario, Share, Stage, Statuses, Step};

/// How far a share may be from the claimed one and still be the same: a claim writes a third as 33.3 %.
const SAME: f64 = 0.001;

/// A stage as the manifests have it.
#[derive(Debug)]
pub struct VerifiedStage<'a> {
    /// Its position, from 1.
    pub number: usize,
    /// Its name.
    pub name: &'a str,
    /// Its claims.
    pub claims: Vec<VerifiedClaim<'a>>,
    /// What the model does not know of its objects.
    pub not_modelled: Vec<NotModelled>,
}

/// A claim, and what the manifests give.
#[derive(Debug)]
pub struct VerifiedClaim<'a> {
    /// What is claimed.
    pub expectation: &'a Expectation,
    /// What is given to the population, where the claim is about one.
    pub given: Given,
    /// Whether the claim holds.
    pub decided: Decided,
    /// Why requests do not get where the rules send them.
    pub findings: Vec<Finding>,
}

/// Whether a claim holds by the manifests alone.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    /// It does.
    Holds,
    /// It does not: what is off.
    Fails(Vec<Off>),
    /// The model cannot tell.
    Open(String),
}

/// A share that is not the claimed one.
#[derive(Debug, Clone, PartialEq)]
pub struct Off {
    /// Of what.
    pub measure: Measure,
    /// What is claimed.
    pub claimed: Share,
    /// What is given.
    pub given: Chance,
    /// Whether a sample would tell, with the errors of the claim: whether the share is off by the smallest deviation that it catches.
    pub caught: bool,
}

/// What a share is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Measure {
    /// Requests that a version serves.
    Version(String),
    /// Requests that no version serves.
    NoVersion,
    /// Requests with a status.
    Status(u16),
    /// Requests that a workload serves.
    Workload(String),
    /// Objects that are left.
    Left(String),
}

impl fmt::Display for Measure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => formatter.write_str(version),
            Self::NoVersion => formatter.write_str("no version"),
            Self::Status(status) => write!(formatter, "status {status}"),
            Self::Workload(workload) => write!(formatter, "a route leads to {workload}"),
            Self::Left(object) => write!(formatter, "left: {object}"),
        }
    }
}

impl fmt::Display for Off {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} instead of {}", self.measure, self.given, self.claimed)?;
        formatter.write_str(if self.caught { "" } else { ", too little for a sample to tell" })
    }
}

impl Decided {
    /// Whether the claim fails, and a walk on a cluster would see it.
    #[must_use]
    pub fn is_caught(&self) -> bool {
        matches!(self, Self::Fails(off) if off.iter().any(|off| off.caught))
    }
}

/// The stages of a scenario, one after the other, as the applied objects change.
#[derive(Debug)]
pub struct Stages<'a> {
    scenario: &'a Scenario,
    live: Live,
    naming: Naming,
    next: usize,
}

/// Decides every claim of a scenario by its manifests.
#[must_use]
pub fn verify(scenario: &Scenario) -> Vec<VerifiedStage<'_>> {
    let mut stages = Stages::new(scenario);
    let mut verified = Vec::new();
    while let Some(stage) = stages.advance() {
        verified.push(stages.decide(stage));
    }
    verified
}

/// What is wrong with the manifests, or looks so, at any stage; each once.
#[must_use]
pub fn problems(scenario: &Scenario) -> Vec<Problem> {
    let mut stages = Stages::new(scenario);
    let mut problems = BTreeSet::new();
    for stage in &scenario.stages {
        problems.extend(deletions(stages.live(), stage));
        stages.advance();
        problems.extend(check(stages.live()));
    }
    problems.into_iter().collect()
}

/// What is wrong with the deletions of a stage: a kind that cannot be told, or an object that is not there.
fn deletions(live: &Live, stage: &Stage) -> Vec<Problem> {
    let mut live = live.clone();
    let mut problems = Vec::new();
    for step in &stage.steps {
        match step {
            Step::Apply(manifests) => manifests.iter().for_each(|manifest| live.apply(manifest)),
            Step::Delete(targets) => {
                for target in targets {
                    let found = match live.resolve(target) {
                        Err(source) => Some((Severity::Error, source.to_string())),
                        // a controller may have made it
                        Ok(id) if live.named(target).is_none() => Some((
                            Severity::Warning,
                            format!("no stage before has applied {id}, which is deleted here"),
                        )),
                        Ok(_) => None,
                    };
                    let problem = |(severity, message)| Problem { origin: target.place.clone(), severity, message };
                    problems.extend(found.map(problem));
                    live.delete(target);
                }
            }
            Step::Mesh(_) => {}
        }
    }
    problems
}

/// The labels and images that tell the version of a pod, as far as the scenario and the demo images say so.
#[must_use]
pub fn naming(scenario: &Scenario) -> Naming {
    Naming { versions: scenario.versions(), images: demo_versions() }
}

impl<'a> Stages<'a> {
    /// Before the first stage: only the client is there.
    #[must_use]
    pub fn new(scenario: &'a Scenario) -> Self {
        let mut live = Live::new(&scenario.namespace, &scenario.namespace);
        scenario.client.manifests.iter().for_each(|manifest| live.apply(manifest));
        Self { scenario, live, naming: naming(scenario), next: 0 }
    }

    /// Does what the next stage does; none behind the last.
    pub fn advance(&mut self) -> Option<&'a Stage> {
        let stage = self.scenario.stages.get(self.next)?;
        self.live.step_through(stage);
        self.next += 1;
        Some(stage)
    }

    /// The routes of the client to the scenario's service; empty where there is no connection.
    #[must_use]
    pub fn table(&self, outbound: &Outbound<'_>) -> RouteTable {
        let service = &self.scenario.service;
        let routes = outbound.routes(&Request::get(&service.host, service.port, "/"));
        routes.map(|routes| routes.table).unwrap_or_default()
    }

    /// The applied objects.
    #[must_use]
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// What the applied objects come to.
    #[must_use]
    pub fn mesh(&self) -> Mesh {
        Mesh::new(&self.live, pods_of(&self.live, &self.naming))
    }

    /// The client; one that is not applied is taken for one in the mesh, without labels.
    #[must_use]
    pub fn client(&self) -> Client {
        client_of(&self.live, &self.scenario.client.pod).unwrap_or_else(|| Client {
            namespace: self.scenario.namespace.clone(),
            labels: BTreeMap::new(),
            sidecar: true,
        })
    }

    /// Decides the claims of the stage that was walked last.
    #[must_use]
    pub fn decide(&self, stage: &'a Stage) -> VerifiedStage<'a> {
        let mesh = self.mesh();
        let outbound = mesh.outbound(self.client());
        let service = &self.scenario.service;
        let request = Request::get(&service.host, service.port, "/");
        let mut claims: Vec<VerifiedClaim<'a>> = Vec::new();
        for expectation in &stage.expect {
            let (given, decided) = match expectation {
                Expectation::Claim(claim) => {
                    let population = self.scenario.population(&claim.from);
                    let given = population.map(|population| Given::to(population, service, &claim.path, &outbound));
                    let given = given.unwrap_or_default();
                    let decided = decide(claim, &given);
                    (given, decided)
                }
                Expectation::Served { workload, requests, .. } => {
                    (Given::default(), count(workload, *requests, &self.workloads(stage, &outbound)))
                }
                Expectation::NoObjects { .. } => (Given::default(), self.left()),
                Expectation::During(_) => {
                    let open = "what happens while a stage is applied is seen on a mesh alone";
                    (Given::default(), Decided::Open(open.to_owned()))
                }
            };
            let fails = matches!(decided, Decided::Fails(_));
            let findings = if fails { outbound.diagnose(&request) } else { Vec::new() };
            claims.push(VerifiedClaim { expectation, given, decided, findings });
        }
        VerifiedStage { number: self.next, name: &stage.name, claims, not_modelled: mesh.not_modelled().to_vec() }
    }

    /// The workloads that a stage's claimed requests, or copies of them, may get to.
    fn workloads(&self, stage: &Stage, outbound: &Outbound<'_>) -> BTreeSet<String> {
        let service = &self.scenario.service;
        let asked = stage.claims().filter_map(|claim| Some((self.scenario.population(&claim.from)?, &claim.path)));
        let requests = asked.flat_map(|(population, path)| requests(population, service, path));
        requests.flat_map(|request| outbound.workloads(&request)).collect()
    }

    fn left(&self) -> Decided {
        let left: Vec<Off> = self
            .live
            .left()
            .map(|id| Off {
                measure: Measure::Left(id.to_string()),
                claimed: Share::NONE,
                given: Chance::CERTAIN,
                caught: true,
            })
            .collect();
        if left.is_empty() { Decided::Holds } else { Decided::Fails(left) }
    }
}

fn count(workload: &str, requests: Count, served: &BTreeSet<String>) -> Decided {
    let off = |claimed, given| {
        Decided::Fails(vec![Off { measure: Measure::Workload(workload.to_owned()), claimed, given, caught: true }])
    };
    match (requests, served.contains(workload)) {
        (Count::Exactly(0), false) | (Count::Some, true) => Decided::Holds,
        (Count::Exactly(0), true) => off(Share::NONE, Chance::CERTAIN),
        (Count::Some, false) => off(Share::ALL, Chance::NONE),
        _ => Decided::Open("how many requests a sample takes is not known".to_owned()),
    }
}

/// Compares the expected distribution of a population with a claim about it.
#[must_use]
pub fn decide(claim: &Claim, given: &Given) -> Decided {
    let mut off = Vec::new();
    let mut compare = |measure: Measure, claimed: Share, given: Chance| {
        let distance = (given.fraction() - claimed.fraction()).abs();
        // what is claimed of all or of none has no tolerance
        let same = if claimed.is_part() { distance <= SAME } else { distance == 0.0 };
        if !same {
            let reach = if claimed.is_part() { claim.errors.deviation } else { claim.errors.leak };
            off.push(Off { measure, claimed, given, caught: distance >= reach - 1e-9 });
        }
    };
    if !claim.versions.is_empty() {
        let seen = given.seen.keys().filter_map(|seen| seen.version.clone());
        let versions: BTreeSet<String> = claim.versions.keys().cloned().chain(seen).collect();
        for version in versions {
            let claimed = claim.versions.get(&version).copied().unwrap_or(Share::NONE);
            let chance = given.chance(|seen| seen.version.as_ref() == Some(&version));
            compare(Measure::Version(version), claimed, chance);
        }
        compare(Measure::NoVersion, Share::NONE, given.chance(|seen| seen.version.is_none()));
    }
    // what the application answers is its own affair, unless it is known
    let unknown = given.chance(|seen| seen.version.is_some() && seen.status.is_none());
    if unknown == Chance::NONE || claim.versions.is_empty() && unknown < Chance::CERTAIN {
        let claimed: BTreeSet<u16> = match &claim.statuses {
            Statuses::Implied => BTreeSet::from([200]),
            Statuses::Claimed(shares) => shares.keys().copied().collect(),
        };
        let seen = given.seen.keys().filter_map(|seen| seen.status);
        let statuses: BTreeSet<u16> = claimed.into_iter().chain(seen).collect();
        for status in statuses {
            let chance = given.chance(|seen| seen.status == Some(status));
            compare(Measure::Status(status), claim.statuses.share(status), chance);
        }
    } else if claim.versions.is_empty() {
        return Decided::Open("which status the application answers with is not known".to_owned());
    }
    if off.is_empty() { Decided::Holds } else { Decided::Fails(off) }
}
