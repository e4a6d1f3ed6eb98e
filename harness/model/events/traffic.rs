use std::time::Duration;

use crate::verdict::Answer;

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

/// How long answers took, from when their requests were due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Latency {
    /// Half of them took no longer.
    pub median: Duration,
    /// 99 % took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}
