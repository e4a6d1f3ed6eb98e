use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::traffic::{OptionalSeconds, Seconds, Tallied};

/// The traffic while a stage was applied, from before its first object was applied until the client's sidecar had converged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transition {
    /// The number of requests.
    pub requests: u64,
    /// The numbers of unexpected answers, by answer. The stage before and this stage define the expected answers.
    pub errors: BTreeMap<String, u64>,
    /// The duration of the traffic, in seconds. 0 in reports of older versions.
    #[serde(default, with = "Seconds")]
    #[schemars(with = "f64")]
    pub took: Duration,
    /// The time at which the last object was applied or deleted, in seconds since the start of the traffic.
    #[serde(default, with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub applied: Option<Duration>,
    /// The longest time without an expected answer to a population.
    #[serde(default)]
    pub gap: Option<Gap>,
    /// The time between two requests of a population at the initial rate, in seconds. 0 in reports of older versions.
    #[serde(default, with = "Seconds")]
    #[schemars(with = "f64")]
    pub resolution: Duration,
    /// The claimed limits on shares of requests.
    #[serde(default)]
    pub bounds: Vec<Bound>,
    /// The times at which populations got other answers, for each population whose answers change with the stage.
    pub shifts: Vec<Shift>,
    /// The length of a time step, in seconds.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub step: Duration,
    /// The answers over time; steps without an answer are left out.
    pub timeline: Vec<Moment>,
    /// The answers of each population, counted. Not in reports.
    #[serde(skip)]
    pub answers: Vec<Tallied>,
}

impl Transition {
    /// The number of errors.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// A time without an expected answer to a population.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The population.
    pub from: String,
    /// The start, in seconds since the start of the traffic: the last expected answer, or the start itself.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub began: Duration,
    /// The duration, in seconds: until the next expected answer, or until the last request was due.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub lasted: Duration,
}

/// The length of the steps of [`Transition::timeline`].
pub const STEP: Duration = Duration::from_millis(100);

/// The answers to a population in a time step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// The times at which a population got other answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shift {
    /// The population.
    pub from: String,
    /// The new answers, in words; empty where there are none.
    pub new: String,
    /// The due time of the first request with a new answer, in seconds since the start of the traffic.
    #[serde(with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub first_new: Option<Duration>,
    /// The due time of the last request with an answer that only the stage before gives.
    #[serde(with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub last_old: Option<Duration>,
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
