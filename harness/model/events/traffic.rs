use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::{As, DurationSecondsWithFrac};

use crate::verdict::{Answer, Ruling, ServedShare};

/// The form of a duration in reports: seconds.
pub type Seconds = As<DurationSecondsWithFrac<f64>>;
/// The form of an interval of durations: seconds.
pub type SecondsRange = As<[DurationSecondsWithFrac<f64>; 2]>;
/// The form of a duration that may be missing.
pub type OptionalSeconds = As<Option<DurationSecondsWithFrac<f64>>>;

/// How often a population got an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tallied {
    /// The population.
    pub from: String,
    /// The path of its requests.
    pub path: String,
    /// The answer.
    pub answer: Answer,
    /// The pod that answered, where the service names it.
    pub pod: Option<String>,
    /// How often.
    pub count: u64,
}

/// A claim about the requests of a population while its sample is taken.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimProgress {
    /// The population.
    pub from: String,
    /// The path of its requests.
    pub path: String,
    /// The claim: `v1 50 %, v2 50 %`.
    pub claim: String,
    /// The number of requests so far, or until the ruling.
    pub requests: u64,
    /// The shares so far, or at the ruling; empty for a claim about errors or latency.
    pub shares: Vec<ServedShare>,
    /// The ruling, once there is one.
    pub ruling: Option<Ruling>,
}

/// The latencies of requests, from the time at which they were due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// The median latency, in seconds.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub median: Duration,
    /// The 99th percentile of the latency, in seconds.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub p99: Duration,
    /// The confidence interval of the median, valid at any stopping time, with a confidence of 99.9 %: lower and upper end, in seconds.
    #[serde(default, with = "SecondsRange")]
    #[schemars(with = "[f64; 2]")]
    pub median_interval: [Duration; 2],
    /// The same for the 99th percentile.
    #[serde(default, with = "SecondsRange")]
    #[schemars(with = "[f64; 2]")]
    pub p99_interval: [Duration; 2],
    /// The largest latency, in seconds.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub max: Duration,
}
