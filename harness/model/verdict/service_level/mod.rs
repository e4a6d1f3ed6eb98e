//! Verdicts on claims about errors and latency: one-sided sequential tests.
//!
//! A version is compared with another one by the versions of bad events: errors, or answers slower than a threshold that is fixed before the
//! request. If the versions are alike, the version of each bad event is an independent draw with the weight that the routes give it, whatever
//! makes events bad: bursts, and latency that depends on earlier latency, do not matter. If the canary has r times the bad share of the
//! baseline, its share of the bad events is `w r / (1 - w + w r)`.
//! (Lindon and Malek 2022; Lindon, Sanden and Shirikian 2022.)

mod buckets;
mod design;
mod latencies;
mod one_sided;
mod paths;
mod quantile;
mod reason;
#[cfg(test)]
mod tests;
mod trial;

pub use design::ServiceLevelDesign;
pub use one_sided::{OneSidedDesign, OneSidedTest};
pub use quantile::RunningQuantile;
pub use trial::{AnswerTimes, ServiceLevelTrial};
