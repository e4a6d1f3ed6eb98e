use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::scenario::Origin;

/// The schema version of `report.json`.
pub const SCHEMA_VERSION: u32 = 1;

/// The report of a run, `report.json`. Times are in seconds; shares and probabilities are between 0 and 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The schema version of the report.
    pub schema_version: u32,
    /// The program that wrote the report.
    pub tool: Tool,
    /// The id of the run.
    pub run: String,
    /// The start of the run, in UTC.
    pub started: String,
    /// The duration of the run, in seconds.
    pub took: f64,
    /// The result.
    pub result: Outcome,
    /// The result, in words.
    pub note: String,
    /// The failure that ended the run early, if there was one.
    pub failure: Option<Failure>,
    /// The command that repeats the run.
    pub reproduce: String,
    /// The scenario.
    pub scenario: ScenarioFiles,
    /// The cluster of the run, in words.
    pub place: String,
    /// The versions of the environment.
    pub environment: Environment,
    /// The total error probabilities of all claims.
    pub errors: Option<Totals>,
    /// The steps of the set-up, in order.
    pub setup: Vec<Ready>,
    /// The stages that the run reached, in order.
    pub stages: Vec<Stage>,
    /// The folder with the saved cluster state, if a run failed.
    pub state: Option<String>,
}

/// The program that wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
}

/// The result of a run, a stage or a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every claim holds.
    Passed,
    /// A claim fails.
    Failed,
    /// The data do not decide.
    Inconclusive,
    /// The scenario, a manifest or an argument is invalid.
    BadInput,
    /// The engine, the cluster or the mesh failed.
    EnvironmentFailed,
    /// The run was interrupted.
    Interrupted,
}

impl Outcome {
    /// The result in words.
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

/// The failure that ended a run early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The layer that failed, in words.
    pub link: String,
    /// The error message.
    pub message: String,
    /// The position in the scenario or a manifest, if the error is there.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub place: Option<Origin>,
    /// A hint for the user.
    pub hint: Option<String>,
}

/// The scenario and its files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScenarioFiles {
    /// The name.
    pub name: String,
    /// The namespace of the run.
    pub namespace: String,
    /// The pod of the client.
    pub client: String,
    /// The host and port of the service.
    pub service: String,
    /// The names of all stages, reached or not.
    pub stages: Vec<String>,
    /// The files, the scenario first.
    pub files: Vec<SourceFile>,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceFile {
    /// The path.
    pub path: String,
    /// The SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// The versions of the environment. Unknown versions are null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The version of Kubernetes.
    pub kubernetes: Option<String>,
    /// The version of Istio.
    pub istio: Option<String>,
    /// The version of Envoy in the client's sidecar.
    pub envoy: Option<String>,
    /// The digests of images, as the container runtime reports them.
    pub images: BTreeMap<String, String>,
}

/// The total error probabilities of all claims.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// The number of claims.
    pub claims: usize,
    /// An upper bound on the probability that a correct rollout fails (type I error).
    pub false_alarm: f64,
    /// An upper bound on the probability that any detectable fault is missed (type II error).
    pub miss: f64,
    /// The largest type II error of a single claim.
    pub worst_miss: f64,
    /// The expected number of requests of all claims if they hold.
    #[serde(default)]
    pub requests: f64,
    /// The probability that a correct rollout fails if one request in a million is lost. The error probabilities above only cover sampling
    /// errors.
    #[serde(default)]
    pub refused_by_losses: f64,
}

/// A step of the set-up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ready {
    /// The part that became ready.
    pub what: String,
    /// The time since the start, in seconds.
    pub after: f64,
}

/// A stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// The position, from 1.
    pub number: usize,
    /// The name.
    pub name: String,
    /// The result; null if the run ended within the stage.
    pub result: Option<Outcome>,
    /// The start of the stage, in seconds since the start of the run.
    pub began: f64,
    /// The duration of the stage, in seconds.
    pub took: f64,
    /// The duration of applying objects and of their rollouts, in seconds.
    pub rolled_out: Option<f64>,
    /// The convergence time of the client's sidecar, in seconds since the rollouts.
    pub converged: Option<f64>,
    /// The changes to objects.
    pub edits: Vec<Edit>,
    /// The routing of the client's requests.
    pub routing: Option<Routing>,
    /// The workloads.
    pub workloads: Vec<Workload>,
    /// The traffic while the stage was applied.
    pub transition: Option<Transition>,
    /// The sample.
    pub traffic: Option<Traffic>,
    /// The claims.
    pub claims: Vec<Claim>,
}

/// A change to an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Edit {
    /// `Kind/name`.
    pub object: String,
    /// The position of the object in a manifest.
    pub place: Option<String>,
    /// `created`, `changed`, `unchanged` or `deleted`.
    pub what: String,
    /// The diff by line, with `+`, `-` or a space in front.
    pub diff: Vec<String>,
}

/// The routing of the client's requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Routing {
    /// The routes, the clusters and their endpoints, in words.
    pub lines: Vec<String>,
    /// The rules that applied.
    pub rules: Vec<String>,
    /// Whether a route splits requests.
    pub traffic_shifting: bool,
    /// Whether a route injects faults.
    pub fault_injection: bool,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// The name of the Deployment.
    pub name: String,
    /// The version.
    pub version: String,
    /// The image.
    pub image: String,
    /// The pods.
    pub pods: Vec<String>,
    /// The number of ready pods.
    pub ready: usize,
    /// Whether all pods have a sidecar.
    pub sidecar: bool,
}

/// The traffic while a stage was applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// The number of requests.
    pub requests: u64,
    /// The numbers of unexpected answers, by answer. The stage before and this stage define the expected answers.
    pub errors: BTreeMap<String, u64>,
    /// The duration of the traffic, in seconds. 0 in reports of older versions.
    #[serde(default)]
    pub took: f64,
    /// The time at which the last object was applied or deleted, in seconds since the start of the traffic.
    #[serde(default)]
    pub applied: Option<f64>,
    /// The longest time without an expected answer to a population.
    #[serde(default)]
    pub gap: Option<Gap>,
    /// The time between two requests of a population at the initial rate, in seconds. 0 in reports of older versions.
    #[serde(default)]
    pub resolution: f64,
    /// The claimed limits on shares of requests.
    #[serde(default)]
    pub bounds: Vec<Bound>,
    /// The times at which populations got other answers.
    pub shifts: Vec<Shift>,
    /// The length of a time step, in seconds.
    pub step: f64,
    /// The answers over time.
    pub timeline: Vec<Moment>,
}

/// A time without an expected answer to a population.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The population.
    pub from: String,
    /// The start, in seconds since the start of the traffic.
    pub began: f64,
    /// The duration, in seconds.
    pub lasted: f64,
}

/// An upper limit on a share of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bound {
    /// The kind of request: `errors`, or `v2 later than 5 s after the change`.
    pub of: String,
    /// The number of requests of that kind.
    pub count: u64,
    /// The number of all requests.
    pub requests: u64,
    /// The limit: a larger share is excluded.
    pub excluded: f64,
    /// The confidence.
    pub confidence: f64,
}

/// The times at which a population got other answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shift {
    /// The population.
    pub from: String,
    /// The new answer.
    pub new: String,
    /// The due time of the first request with the new answer, in seconds since the start of the traffic.
    pub first_new: Option<f64>,
    /// The due time of the last request with an answer that only the stage before gives.
    pub last_old: Option<f64>,
}

/// The answers to a population in a time step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// The population.
    pub from: String,
    /// The number of the step, from 0.
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
    /// Requests per second.
    pub rate: f64,
    /// The median latency, in seconds.
    pub median: f64,
    /// The 99th percentile of the latency, in seconds.
    pub p99: f64,
    /// The largest latency, in seconds.
    pub max: f64,
    /// The numbers of answers.
    pub answers: Vec<Answers>,
}

/// The number of equal answers to a population.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answers {
    /// The population.
    pub from: String,
    /// The path.
    pub path: String,
    /// The version that answered; null without an answer or without a version in the answer.
    pub version: Option<String>,
    /// The HTTP status; null without an answer.
    pub status: Option<u16>,
    /// The text of an answer without a version, or the reason for no answer.
    pub said: Option<String>,
    /// The pod.
    pub pod: Option<String>,
    /// The number of such answers.
    pub count: u64,
}

/// A claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// The subject: a population, a workload, the change, the objects.
    pub subject: String,
    /// The population, for a claim about a population.
    pub from: Option<String>,
    /// The path, for a claim about a population.
    pub path: Option<String>,
    /// The claim.
    pub claim: String,
    /// The verdict.
    pub result: Outcome,
    /// The reason for the verdict, in a sentence.
    pub reason: String,
    /// The layer that failed, in words.
    pub link: Option<String>,
    /// Explanations of a failure.
    pub hints: Vec<String>,
    /// The position of the claim, as `FILE:LINE:COLUMN`; empty in some reports of older versions.
    #[serde(with = "super::place")]
    #[schemars(with = "String")]
    pub place: Option<Origin>,
    /// The number of requests that the verdict took.
    pub requests: u64,
    /// The largest number of requests that the verdict could have taken.
    pub allowed: u64,
    /// The reason for the end of the sample: `excluded`, `boundary`, `cap`, `clean`, `time` or `counted`.
    pub stop: String,
    /// The error probabilities of the verdict; null if the verdict is not a statistical test.
    pub errors: Option<Errors>,
    /// An upper bound on the probability of evidence this strong against the claim if the claim holds (p-value).
    pub chance: Option<f64>,
    /// The claimed and the observed shares.
    pub shares: Vec<Share>,
    /// The path of each sequential test.
    pub paths: Vec<Path>,
}

/// The error probabilities of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Errors {
    /// α (type I error): the probability that a correct route fails.
    pub false_alarm: f64,
    /// β (type II error): the probability that a route that differs by the deviation passes.
    pub miss: f64,
    /// δ (detectable effect): the smallest deviation to detect.
    pub deviation: f64,
    /// The smallest leak to detect for a claim without tolerance.
    pub leak: f64,
}

/// A share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Share {
    /// The version, or `status 503`.
    pub part: String,
    /// The claimed share.
    pub claimed: f64,
    /// The number of requests.
    pub count: u64,
    /// The confidence interval of the share, valid at any stopping time, with confidence 1 − β: lower and upper end.
    pub interval: [f64; 2],
}

/// The path of a sequential test. A boundary line is given by its hits before the first request and the hits that each request adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Path {
    /// The version, or `status 503`.
    pub part: String,
    /// The claimed share.
    pub claimed: f64,
    /// The largest number of requests of the test.
    pub cap: u64,
    /// Above this line the claim fails.
    pub fails_above: [f64; 2],
    /// Below this line the share is not too large.
    pub passes_below: [f64; 2],
    /// Above this line the share is not too small.
    pub passes_above: [f64; 2],
    /// Below this line the claim fails.
    pub fails_below: [f64; 2],
    /// Earlier checks for gross faults.
    #[serde(default)]
    pub gross_faults: Vec<GrossFault>,
    /// Some points of the path: requests and hits.
    pub points: Vec<[u64; 2]>,
}

/// A check for a gross fault after a number of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GrossFault {
    /// The number of requests.
    pub requests: u64,
    /// The claim fails at this share and below; 0 for no such limit.
    pub below: f64,
    /// The claim fails at this share and above; 1 for no such limit.
    pub above: f64,
}

impl Report {
    /// The JSON schema of `report.json`.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// The numbers of decided claims and of claims that hold.
    #[must_use]
    pub fn claims(&self) -> (usize, usize) {
        let claims = || self.stages.iter().flat_map(|stage| &stage.claims);
        (claims().count(), claims().filter(|claim| claim.result == Outcome::Passed).count())
    }
}
