use std::collections::BTreeMap;
use std::fmt;
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
    /// The due times of the first and the last request with an unexpected answer, in seconds since the start of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<Failing>,
    /// The number of connections of HTTP/2 that the client's sidecar, the gateway or the server has ended with GOAWAY.
    #[serde(default)]
    pub goaways: u64,
    /// What was written to the rules and to the controlled object, in order. Empty where no controller moves the traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<Write>,
    /// When the step that the stage waits for took effect. Null where no controller moves the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_times: Option<StepTimes>,
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
    /// The connections that were ended with GOAWAY, in words; none if there are none.
    pub fn goaways_in_words(&self) -> Option<String> {
        match self.goaways {
            0 => None,
            1 => Some("1 connection was ended with GOAWAY".to_owned()),
            many => Some(format!("{many} connections were ended with GOAWAY")),
        }
    }

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

/// The time in which requests got unexpected answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failing {
    /// The due time of the first of them.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub first: Duration,
    /// The due time of the last of them.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub last: Duration,
}

/// A write to a rule or to a controlled object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Write {
    /// The time at which a watch showed it, in seconds since the start of the traffic.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub at: Duration,
    /// The object: `VirtualService/hello`.
    pub object: String,
    /// What changed, in words: `http primary, route canary, weight: 20 instead of 0`. For a controlled object: its state.
    pub changes: Vec<String>,
}

impl Write {
    /// The kind of the object.
    pub fn kind(&self) -> &str {
        self.object.split('/').next().unwrap_or_default()
    }
}

/// When a step of a controlled object took effect, in seconds since the start of the traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepTimes {
    /// The last write to a `VirtualService`.
    #[serde(default, with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub route: Option<Duration>,
    /// The last change of the routes of the client's sidecar, by Envoy's own time.
    #[serde(default, with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub sidecar: Option<Duration>,
    /// The due time of the first request with an answer that only this stage gives.
    #[serde(default, with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub answered: Option<Duration>,
    /// The write of the state that the stage waits for to the status of the controlled object.
    #[serde(default, with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub status: Option<Duration>,
}

impl fmt::Display for StepTimes {
    /// `in the status after 6.21 s, in the route after 6.18 s`; empty where no time is known.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = [
            ("in the status", self.status),
            ("in the route", self.route),
            ("in the sidecar", self.sidecar),
            ("first answered", self.answered),
        ];
        let known = times.into_iter().filter_map(|(what, at)| Some(format!("{what} after {:.2} s", at?.as_secs_f64())));
        formatter.write_str(&known.collect::<Vec<_>>().join(", "))
    }
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
