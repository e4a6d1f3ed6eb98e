use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::Origin;

/// The version of the form of a report.
pub const SCHEMA_VERSION: u32 = 1;

/// A run of shiftcheck: what `report.json` holds. Times are in seconds, shares and chances are fractions of 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this form.
    pub schema_version: u32,
    /// The program that wrote it.
    pub tool: Tool,
    /// The run's id.
    pub run: String,
    /// When it started, in UTC.
    pub started: String,
    /// How long it took, in seconds.
    pub took: f64,
    /// How it ended.
    pub result: Outcome,
    /// How it ended, in words.
    pub note: String,
    /// What kept it from going on, if anything did.
    pub failure: Option<Failure>,
    /// The command that runs it again.
    pub reproduce: String,
    /// The scenario.
    pub scenario: ScenarioFiles,
    /// Where it ran.
    pub place: String,
    /// What it stood on.
    pub environment: Environment,
    /// The summed errors of all claims.
    pub errors: Option<Totals>,
    /// The set-up, in its order.
    pub setup: Vec<Ready>,
    /// The stages that were begun, in order.
    pub stages: Vec<Stage>,
    /// The folder with the state of the cluster, where something failed.
    pub state: Option<String>,
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// How a run, a stage or a claim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything held.
    Passed,
    /// A claim failed.
    Failed,
    /// It could not be told.
    Inconclusive,
    /// The scenario, a manifest or an argument is wrong.
    BadInput,
    /// The engine, the cluster or the mesh failed.
    EnvironmentFailed,
    /// It was called off.
    Interrupted,
}

impl Outcome {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::BadInput => "bad input",
            Self::EnvironmentFailed => "environment failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What kept a run from going on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The link of the chain that broke, in words.
    pub link: String,
    /// What happened.
    pub message: String,
    /// Where in the scenario or its manifests, if that is to blame.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub place: Option<Origin>,
    /// What to do.
    pub hint: Option<String>,
}

/// The scenario and its files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioFiles {
    /// Its name.
    pub name: String,
    /// The namespace that it was walked in.
    pub namespace: String,
    /// The client's pod.
    pub client: String,
    /// The service's host and port.
    pub service: String,
    /// The names of all its stages, walked or not.
    pub stages: Vec<String>,
    /// Its files with their SHA-256, the scenario first.
    pub files: Vec<SourceFile>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceFile {
    /// Its path.
    pub path: String,
    /// The SHA-256 of its content, in hexadecimal digits.
    pub sha256: String,
}

/// What a run stood on; what is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The version of Kubernetes.
    pub kubernetes: Option<String>,
    /// The version of Istio.
    pub istio: Option<String>,
    /// The version of Envoy in the client's sidecar.
    pub envoy: Option<String>,
    /// Images with their digests, as the container runtime tells them.
    pub images: BTreeMap<String, String>,
}

/// The summed errors of all claims.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// The number of claims.
    pub claims: usize,
    /// A bound on the chance that a right rollout is refused.
    pub false_alarm: f64,
    /// A bound on the chance that any fault that is to be seen is missed.
    pub miss: f64,
    /// The largest such chance of a single claim.
    pub worst_miss: f64,
    /// The mean number of requests of all claims where they are right.
    #[serde(default)]
    pub requests: f64,
    /// The chance that a right rollout is refused if one request in a million fails by itself. The errors above cover chance alone.
    #[serde(default)]
    pub refused_by_losses: f64,
}

/// A part of the set-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// What became ready.
    pub what: String,
    /// When, in seconds since the start.
    pub after: f64,
}

/// A stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// Its position, from 1.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// How it ended; none where the run ended within it.
    pub result: Option<Outcome>,
    /// When it began, in seconds since the start of the run.
    pub began: f64,
    /// How long it took, in seconds.
    pub took: f64,
    /// How long applying its objects and their rollouts took, in seconds.
    pub rolled_out: Option<f64>,
    /// When the client's sidecar did what the manifests ask for, in seconds since the rollouts.
    pub converged: Option<f64>,
    /// What it did to objects.
    pub edits: Vec<Edit>,
    /// How the client's requests were routed then.
    pub routing: Option<Routing>,
    /// The workloads that were there then.
    pub workloads: Vec<Workload>,
    /// What the traffic saw while the stage was applied.
    pub transition: Option<Transition>,
    /// The sample.
    pub traffic: Option<Traffic>,
    /// The claims.
    pub claims: Vec<Claim>,
}

/// What a stage did to an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Edit {
    /// `Kind/name`.
    pub object: String,
    /// Where the object is written.
    pub place: Option<String>,
    /// `created`, `changed`, `unchanged` or `deleted`.
    pub what: String,
    /// The difference, line by line: `+`, `-` or a blank in front.
    pub diff: Vec<String>,
}

/// How the client's requests were routed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Routing {
    /// The routes, the clusters and their endpoints, in words.
    pub lines: Vec<String>,
    /// The rules that decided.
    pub rules: Vec<String>,
    /// Whether a route split requests.
    pub traffic_shifting: bool,
    /// Whether a route answered faults on purpose.
    pub fault_injection: bool,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// The Deployment.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its image.
    pub image: String,
    /// Its pods.
    pub pods: Vec<String>,
    /// How many of them were ready.
    pub ready: usize,
    /// Whether all had a sidecar.
    pub sidecar: bool,
}

/// What the traffic saw while a stage was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// All requests.
    pub requests: u64,
    /// Answers that neither the stage before nor this one gives, with their numbers.
    pub errors: BTreeMap<String, u64>,
    /// How long requests were sent, in seconds. 0 in reports of older versions.
    #[serde(default)]
    pub took: f64,
    /// When the last object was applied or deleted, in seconds since the start of the watch.
    #[serde(default)]
    pub applied: Option<f64>,
    /// The longest time in which a population got no right answer.
    #[serde(default)]
    pub gap: Option<Gap>,
    /// From one due request of a population to its next, at the rate that the watch began with, in seconds. 0 in reports of older versions.
    #[serde(default)]
    pub resolution: f64,
    /// What the requests exclude, where that is claimed.
    #[serde(default)]
    pub bounds: Vec<Bound>,
    /// When populations were given something else.
    pub shifts: Vec<Shift>,
    /// The length of a step, in seconds.
    pub step: f64,
    /// What came when.
    pub timeline: Vec<Moment>,
}

/// A time in which a population got no right answer: one that the stage before or this one gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The population.
    pub from: String,
    /// When it began, in seconds since the start of the watch.
    pub began: f64,
    /// How long it lasted, in seconds.
    pub lasted: f64,
}

/// What watched requests exclude.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bound {
    /// Of what the share is: `errors`, or `v2 later than 5 s after the change`.
    pub of: String,
    /// How many requests were of that kind.
    pub count: u64,
    /// Among how many.
    pub requests: u64,
    /// A larger share than this is excluded.
    pub excluded: f64,
    /// With this confidence.
    pub confidence: f64,
}

/// When a population was given something else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shift {
    /// The population.
    pub from: String,
    /// What was new.
    pub new: String,
    /// When the first request was due that was answered so, in seconds since the start of the watch.
    pub first_new: Option<f64>,
    /// When the last request was due that got an answer that only the stage before gives.
    pub last_old: Option<f64>,
}

/// What came to a population in a step of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// The population.
    pub from: String,
    /// The steps before it.
    pub step: u64,
    /// Answers that only the stage before gives.
    pub old: u64,
    /// Answers that both stages give.
    pub both: u64,
    /// Answers that only this stage gives.
    pub new: u64,
    /// Answers that neither gives.
    pub errors: u64,
}

/// A sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// The number of requests.
    pub requests: u64,
    /// Requests a second.
    pub rate: f64,
    /// Half of the answers took no longer, in seconds.
    pub median: f64,
    /// 99 % of the answers took no longer, in seconds.
    pub p99: f64,
    /// The longest, in seconds.
    pub max: f64,
    /// Who was answered what.
    pub answers: Vec<Answers>,
}

/// How often a population was answered so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answers {
    /// The population.
    pub from: String,
    /// The path.
    pub path: String,
    /// The version that answered; none where nobody did, or somebody who tells none.
    pub version: Option<String>,
    /// The HTTP status; none where there was no answer.
    pub status: Option<u16>,
    /// What an answer without a version said, or why there was none.
    pub said: Option<String>,
    /// The pod.
    pub pod: Option<String>,
    /// How often.
    pub count: u64,
}

/// A claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// What it is about: a population, a workload, the change, the objects.
    pub subject: String,
    /// The population, where it is about one.
    pub from: Option<String>,
    /// The path, where it is about a population.
    pub path: Option<String>,
    /// What was claimed.
    pub claim: String,
    /// The verdict.
    pub result: Outcome,
    /// Why, in a sentence.
    pub reason: String,
    /// The link of the chain that broke, in words.
    pub link: Option<String>,
    /// What explains a failure.
    pub hints: Vec<String>,
    /// Where it is claimed, as `FILE:LINE:COLUMN`; empty in reports of older versions that did not know it.
    #[serde(with = "super::place")]
    #[schemars(with = "String")]
    pub place: Option<Origin>,
    /// The requests that the verdict took.
    pub requests: u64,
    /// The most that it could have taken.
    pub allowed: u64,
    /// What ended the sample: `excluded`, `boundary`, `cap`, `clean`, `time` or `counted`.
    pub stop: String,
    /// The errors that the verdict may make; none where it is counted.
    pub errors: Option<Errors>,
    /// A bound on the chance, if the claim is right, of evidence against it as strong as this.
    pub chance: Option<f64>,
    /// The claimed shares and what was seen of them.
    pub shares: Vec<Share>,
    /// The way of each sequential test to its end.
    pub paths: Vec<Path>,
}

/// The errors of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Errors {
    /// α: the chance that a right route is refused.
    pub false_alarm: f64,
    /// β: the chance that a route that is off by the deviation is accepted.
    pub miss: f64,
    /// δ: the smallest deviation that is to be seen.
    pub deviation: f64,
    /// The leak that a claim without tolerance excludes.
    pub leak: f64,
}

/// A share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// The version, or `status 503`.
    pub part: String,
    /// What was claimed.
    pub claimed: f64,
    /// How many of the verdict's requests it got.
    pub count: u64,
    /// The shares that these counts do not exclude, at any stopping time, with a confidence of 1 − β: lower and upper end.
    pub interval: [f64; 2],
}

/// The way of a sequential test to its end. A line is given by the hits before the first request and those that each request adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Path {
    /// The version, or `status 503`.
    pub part: String,
    /// What was claimed.
    pub claimed: f64,
    /// The most requests that the test takes.
    pub cap: u64,
    /// More hits than this refuse the claim.
    pub fails_above: [f64; 2],
    /// Fewer hits than this exclude that the share is too large.
    pub passes_below: [f64; 2],
    /// More hits than this exclude that the share is too small.
    pub passes_above: [f64; 2],
    /// Fewer hits than this refuse the claim.
    pub fails_below: [f64; 2],
    /// Where the test refuses gross faults before those lines do.
    #[serde(default)]
    pub gross_faults: Vec<GrossFault>,
    /// Requests and hits, some of them.
    pub points: Vec<[u64; 2]>,
}

/// Which shares are refused after some number of requests as gross faults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GrossFault {
    /// The number of requests.
    pub requests: u64,
    /// This share and those below are refused; 0 where none is.
    pub below: f64,
    /// This share and those above are refused; 1 where none is.
    pub above: f64,
}

impl Report {
    /// The form of a report as a JSON schema.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// The number of claims that were judged, and of those that held.
    #[must_use]
    pub fn claims(&self) -> (usize, usize) {
        let claims = || self.stages.iter().flat_map(|stage| &stage.claims);
        (claims().count(), claims().filter(|claim| claim.result == Outcome::Passed).count())
    }
}
