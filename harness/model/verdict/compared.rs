use std::time::Duration;

use crate::scenario::{Confidence, Factor, Share};

/// What a part of a comparison saw of both versions until the claim was decided.
///
/// Each interval of a share or of a quantile is valid at any stopping time.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedPart {
    /// The smallest multiple of the baseline's share of bad answers to detect.
    pub factor: Factor,
    /// For slow answers, the share of the baseline's answers that are not slow.
    pub share: Option<Share>,
    /// For slow answers, the latest threshold; none before enough answers of the baseline have arrived.
    pub threshold: Option<Duration>,
    /// The confidence of the intervals.
    pub confidence: Confidence,
    /// The canary and the baseline.
    pub versions: [ComparedVersion; 2],
}

/// What a part of a comparison saw of one version.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedVersion {
    /// The version.
    pub version: String,
    /// The number of answers of which it is known whether they are bad.
    pub answers: u64,
    /// The number of bad ones.
    pub bad: u64,
    /// The confidence interval of the share of bad answers, as fractions.
    pub interval: (f64, f64),
    /// For slow answers, the quantile of the latency at the share; none if the answers are too few to bound it.
    pub quantile: Option<LatencyQuantile>,
    /// For slow answers, the distribution of the latency: some points, by latency.
    pub slower: Vec<SlowerShare>,
}

/// A quantile of a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatencyQuantile {
    /// The quantile.
    pub latency: Duration,
    /// Its confidence interval.
    pub interval: (Duration, Duration),
}

/// The share of answers that took longer than a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowerShare {
    /// The time.
    pub latency: Duration,
    /// The share, as a fraction.
    pub share: f64,
    /// Its confidence interval.
    pub interval: (f64, f64),
}
