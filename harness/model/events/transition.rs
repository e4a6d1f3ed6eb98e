use std::collections::BTreeMap;
use std::time::Duration;

use super::traffic::Tallied;

/// The traffic while a stage was applied, from before its first object was applied until the client's sidecar had converged.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transition {
    /// All requests.
    pub requests: u64,
    /// The answers that neither the stage before nor this one gives, in words, counted.
    pub errors: BTreeMap<String, u64>,
    /// The answers over time, in steps of [`STEP`]; steps without an answer are left out.
    pub timeline: Vec<Moment>,
    /// For each population whose answers change with the stage: when the change was seen.
    pub shifts: Vec<Shift>,
    /// The answers of each population, counted.
    pub answers: Vec<Tallied>,
    /// The longest time in which a population got no right answer: one that the stage before or this one gives.
    pub gap: Gap,
    /// Time between two due requests of a population, at the rate that the watch began with.
    pub resolution: Duration,
    /// When the last object was applied or deleted, since the start of the watch.
    pub applied: Option<Duration>,
    /// The shares that the requests exclude, where they are claimed.
    pub bounds: Vec<Bound>,
    /// How long requests were sent.
    pub took: Duration,
}

impl Transition {
    /// The number of errors.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// A time in which a population got no right answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gap {
    /// The population.
    pub from: String,
    /// When it began, since the start of the watch: with the last right answer before it, or with the watch.
    pub began: Duration,
    /// How long it lasted: until the next right answer, or until the last request was due.
    pub lasted: Duration,
}

/// The length of the steps of [`Transition::timeline`].
pub const STEP: Duration = Duration::from_millis(100);

/// The answers to a population in one step of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moment {
    /// The population.
    pub from: String,
    /// The number of steps before this one, since the start of the watch.
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

/// When the answers to a population changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shift {
    /// The population.
    pub from: String,
    /// The new answers, in words; empty where there are none.
    pub new: String,
    /// When the first request with a new answer was due, since the start of the watch.
    pub first_new: Option<Duration>,
    /// When the last request with an answer that only the stage before gives was due.
    pub last_old: Option<Duration>,
}

/// An upper bound on a share, from the requests of a watch.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// The kind of requests: `errors`, or `v2 later than 5 s after the change`.
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
