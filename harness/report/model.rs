use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::versions::Compared;
use crate::events::{
    Environment, Latency, OptionalSeconds, Routing, Seconds, SourceFile, Tallied, Transition, Workload,
};
use crate::scenario::Origin;
use crate::verdict::{Answer, Ruling, ServedShare};

/// The schema version of `report.json`.
pub const SCHEMA_VERSION: u32 = 1;

/// The report of a run, `report.json`. Times are in seconds; shares and probabilities are between 0 and 1.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub took: Duration,
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
    /// The recording of the run as JSON, which only the page has.
    #[serde(skip)]
    pub(super) recorded: String,
}

/// The program that wrote a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tool {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
}

impl Default for Tool {
    /// This program.
    fn default() -> Self {
        Self { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// The result of a run, a stage or a claim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Outcome {
    /// Every claim holds.
    Passed,
    /// A claim fails.
    Failed,
    /// The data do not decide.
    Inconclusive,
    /// A stage without a claim to decide.
    NotJudged,
    /// The scenario, a manifest or an argument is invalid.
    BadInput,
    /// The engine, the cluster or the mesh failed.
    EnvironmentFailed,
    /// The run was interrupted.
    #[default]
    Interrupted,
}

impl Outcome {
    /// The result in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::NotJudged => "not judged",
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
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub after: Duration,
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
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub began: Duration,
    /// The duration of the stage, in seconds.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub took: Duration,
    /// The duration of applying objects and of their rollouts, in seconds.
    #[serde(with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub rolled_out: Option<Duration>,
    /// The convergence time of the client's sidecar, in seconds since the rollouts.
    #[serde(with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub converged: Option<Duration>,
    /// The changes to objects.
    pub edits: Vec<Edit>,
    /// The state to which a controller has brought its object, or the pods that an autoscaler has started, in words. Null for other stages.
    #[serde(default)]
    pub controller: Option<String>,
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

/// A sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// The number of requests.
    pub requests: u64,
    /// Requests per second.
    pub rate: f64,
    /// The latencies.
    #[serde(flatten)]
    pub latency: Latency,
    /// The numbers of answers.
    pub answers: Vec<Answers>,
}

impl From<Ruling> for Outcome {
    fn from(ruling: Ruling) -> Self {
        match ruling {
            Ruling::Pass => Self::Passed,
            Ruling::Fail => Self::Failed,
            Ruling::Inconclusive => Self::Inconclusive,
        }
    }
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

impl From<&Tallied> for Answers {
    fn from(tallied: &Tallied) -> Self {
        let (version, status, said) = match &tallied.answer {
            Answer::Version { version, status } => (Some(version.clone()), Some(*status), None),
            Answer::Unknown { status, excerpt } => (None, Some(*status), Some(excerpt.clone())),
            Answer::Nothing { reason } => (None, None, Some(reason.clone())),
        };
        Self {
            from: tallied.from.clone(),
            path: tallied.path.clone(),
            version,
            status,
            said,
            pod: tallied.pod.clone(),
            count: tallied.count,
        }
    }
}

/// A claim.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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

impl Claim {
    /// Whether the claim is about the requests of a population on a path.
    pub(super) fn is_about(&self, from: &str, path: &str) -> bool {
        self.from.as_deref() == Some(from) && self.path.as_deref() == Some(path)
    }

    /// The layer of a failure, the explanations and the position of the claim, line by line. None if the claim holds.
    pub fn explanation(&self) -> Vec<String> {
        if self.result == Outcome::Passed {
            return Vec::new();
        }
        let because = self.hints.iter().map(|hint| format!("because {hint}"));
        let place = self.place.iter().map(|place| format!("claimed in {place}"));
        self.link.iter().cloned().chain(because).chain(place).collect()
    }
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

impl From<&ServedShare> for Share {
    fn from(share: &ServedShare) -> Self {
        Self {
            part: share.part.clone(),
            claimed: share.claimed.fraction(),
            count: share.count,
            interval: [share.interval.0, share.interval.1],
        }
    }
}

/// The path of a sequential test. A boundary line is given by its hits before the first request and the hits that each request adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Path {
    /// The version, or `status 503`.
    pub part: String,
    /// What the test takes: `requests`, or bad events, such as `errors`, of which the part is a share.
    #[serde(default = "requests")]
    pub of: String,
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
    /// In a comparison of two versions, what was seen of both; missing in reports of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
}

fn requests() -> String {
    "requests".to_owned()
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
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// The numbers of decided claims and of claims that hold.
    pub fn claims(&self) -> (usize, usize) {
        let claims = || self.stages.iter().flat_map(|stage| &stage.claims);
        (claims().count(), claims().filter(|claim| claim.result == Outcome::Passed).count())
    }
}
