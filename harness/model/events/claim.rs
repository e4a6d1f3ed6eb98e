use std::fmt;
use std::time::Duration;

use super::layer::FailureLayer;
use crate::scenario::{ErrorRates, Origin, Share};
use crate::verdict::{Findings, Power, Verdict};

/// A decided claim.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The subject of the claim.
    pub subject: Subject,
    /// The claim: `v1 50 %, v2 50 %, status 503`.
    pub claim: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Explanations of a failure: the manifests that cause it, with file and line.
    pub hints: Vec<String>,
    /// Where the scenario claims it.
    pub place: Origin,
    /// The error probabilities of the verdict, where it is a statistical test.
    pub errors: Option<ErrorRates>,
    /// The layer that a failure is in.
    pub layer: Option<FailureLayer>,
}

/// The subject of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The answers to a population.
    Population {
        /// Its name.
        name: String,
        /// The path of its requests.
        path: String,
    },
    /// The requests that a workload serves.
    Workload(String),
    /// The answers while a stage is applied.
    Change,
    /// The weights in the route of a controlled object.
    Weights,
    /// What a controller reports.
    Reports,
    /// The objects left in the namespace.
    Objects,
    /// The routes of the client's sidecar.
    Routes,
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Population { name, path } if path == "/" => formatter.write_str(name),
            Self::Population { name, path } => write!(formatter, "{name} at {path}"),
            Self::Workload(name) => formatter.write_str(name),
            Self::Change => formatter.write_str("during the change"),
            Self::Weights => formatter.write_str("weights in the route"),
            Self::Reports => formatter.write_str("weight reported by the controller"),
            Self::Objects => formatter.write_str("objects left"),
            Self::Routes => formatter.write_str("routes"),
        }
    }
}

/// The result of many samples of one route that should split requests as claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// The population.
    pub from: String,
    /// The version whose share is tested.
    pub version: String,
    /// The claimed share.
    pub claimed: Share,
    /// The number of samples.
    pub samples: usize,
    /// The tested requests of each sample.
    pub requests: u64,
    /// All requests that were sent.
    pub sent: u64,
    /// The share of the tested requests that the version served.
    pub share: f64,
    /// The results of the tests for independent requests.
    pub findings: Findings,
    /// The deviations that these tests detect.
    pub power: Power,
    /// How many samples a verdict with the claim's error probabilities accepted.
    pub accepted: usize,
    /// How many it refused: false alarms, if the route is right.
    pub refused: usize,
    /// The mean number of requests until a verdict.
    pub mean: f64,
    /// The median time of traffic until a verdict.
    pub decided: Duration,
}
