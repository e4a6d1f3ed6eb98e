//! Statistics: a verdict on a claim from the answers to a population, in the order of sending, with stated error rates.
//!
//! A truncated two-sided sequential test ([`ShareTest`]) decides a claimed share: it stops as soon as the answers exclude the claim, or exclude
//! every share that is off by δ. A correct route fails with a probability of at most α, a route that is off by δ passes with a probability of
//! at most β, both exactly and for any share. A claim that one version answers all requests has no tolerance, and the verdict states the leak
//! that it excludes. A claim about errors or latency is decided by one-sided tests ([`ServiceLevelTrial`]). There is one sample and no retry. The cost of a claim is known beforehand ([`Design`]); a claim that cannot be decided is
//! refused. Claims about sessions ([`SessionTrial`]) count each session once.

#![expect(clippy::cast_precision_loss, reason = "numbers of requests and of pods are far below 2^52")]

mod answer;
mod binomial;
mod compared;
mod declared;
mod design;
mod exclusion;
mod identify;
mod independence;
mod quantile_ranks;
mod ruling;
mod scores;
mod search;
mod sequential;
mod service_level;
mod sessions;
mod tails;
mod trial;

pub use answer::{Answer, AnswerKind};
pub use binomial::{Band, confidence_interval, leak_bound, requests_for_leak, two_sided_chance};
pub use compared::{ComparedPart, ComparedVersion, LatencyQuantile, SlowerShare};
pub use declared::{DeclaredDesign, DeclaredTest};
pub use design::{Design, DesignError, Totals};
pub use exclusion::{excluded_share, requests_to_exclude, requests_to_limit};
pub use identify::{Unidentified, identify};
pub use independence::{CALIBRATION_ALARM, FOUND, Findings, Independence, Power, TestResult};
pub use quantile_ranks::quantile_ranks;
pub use ruling::{Ruling, Stop};
pub use sequential::{Boundaries, Characteristics, Line, ShareDesign, ShareTest};
pub use service_level::{
    AnswerTimes, OneSidedDesign, OneSidedTest, RunningQuantile, ServiceLevelDesign, ServiceLevelTrial,
};
pub use sessions::{SessionDesign, SessionTrial};
pub use trial::{DecisionPath, ServedShare, Trial, Verdict};
