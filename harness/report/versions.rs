//! What a comparison saw of both versions, in `report.json`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::{OptionalSeconds, Seconds, SecondsRange};
use crate::scenario::Share;
use crate::verdict::{ComparedPart, ComparedVersion, LatencyQuantile, SlowerShare};

/// What a part of a comparison saw of both versions until the claim was decided. All intervals are valid at any stopping time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Compared {
    /// The smallest multiple of the baseline's share of bad answers to detect.
    pub factor: f64,
    /// For slow answers, the share of the baseline's answers that are not slow; null for errors.
    pub share: Option<f64>,
    /// For slow answers, the latest threshold, in seconds; null before enough answers of the baseline have arrived.
    #[serde(with = "OptionalSeconds")]
    #[schemars(with = "Option<f64>")]
    pub threshold: Option<Duration>,
    /// The confidence of the intervals.
    pub confidence: f64,
    /// The version that is judged, and the one that it is compared with.
    pub versions: [VersionSeen; 2],
}

/// What a part of a comparison saw of one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VersionSeen {
    /// The version.
    pub version: String,
    /// The number of answers of which it is known whether they are bad.
    pub answers: u64,
    /// The number of bad ones.
    pub bad: u64,
    /// The confidence interval of the share of bad answers: lower and upper end.
    pub interval: [f64; 2],
    /// For slow answers, the quantile of the latency at the share; null if the answers are too few to bound it.
    pub quantile: Option<Quantile>,
    /// For slow answers, some points of the distribution of the latency.
    pub slower: Vec<Slower>,
}

/// A quantile of the latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quantile {
    /// The quantile, in seconds.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub latency: Duration,
    /// Its confidence interval: lower and upper end, in seconds.
    #[serde(with = "SecondsRange")]
    #[schemars(with = "[f64; 2]")]
    pub interval: [Duration; 2],
}

/// The share of answers that took longer than a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slower {
    /// The time, in seconds.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub latency: Duration,
    /// The share.
    pub share: f64,
    /// Its confidence interval: lower and upper end.
    pub interval: [f64; 2],
}

impl From<&ComparedPart> for Compared {
    fn from(part: &ComparedPart) -> Self {
        Self {
            factor: part.factor.value(),
            share: part.share.map(Share::fraction),
            threshold: part.threshold,
            confidence: part.confidence.fraction(),
            versions: part.versions.each_ref().map(VersionSeen::from),
        }
    }
}

impl From<&ComparedVersion> for VersionSeen {
    fn from(own: &ComparedVersion) -> Self {
        Self {
            version: own.version.clone(),
            answers: own.answers,
            bad: own.bad,
            interval: own.interval.into(),
            quantile: own.quantile.map(Quantile::from),
            slower: own.slower.iter().copied().map(Slower::from).collect(),
        }
    }
}

impl From<LatencyQuantile> for Quantile {
    fn from(LatencyQuantile { latency, interval }: LatencyQuantile) -> Self {
        Self { latency, interval: interval.into() }
    }
}

impl From<SlowerShare> for Slower {
    fn from(SlowerShare { latency, share, interval }: SlowerShare) -> Self {
        Self { latency, share, interval: interval.into() }
    }
}
