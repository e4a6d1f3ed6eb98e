use std::fmt;

use displaydoc::Display;

use crate::routing::{Chance, NotModelled};
use crate::scenario::{ErrorRates, Share, StatusCode, Stay};

/// The largest difference of two shares that count as equal: a claim writes a third as 33.3 %.
const TOLERANCE: f64 = 0.001;

/// Whether a claim holds by the manifests alone.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    /// The claim holds.
    Holds,
    /// Something that the model does not cover can affect the claim.
    Undecided(Vec<NotModelled>),
    /// The claim fails, with every share that differs.
    Fails(Vec<ShareMismatch>),
    /// Only a run can decide the claim, for this reason.
    Open(String),
}

/// A share that differs from the claimed one.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareMismatch {
    /// The events whose share differs.
    pub measure: Measure,
    /// The claimed share.
    pub claimed: Share,
    /// The share that the manifests give.
    pub given: Chance,
    /// Whether a sample would detect the difference: whether it reaches the claim's detectable effect.
    pub detectable: bool,
}

/// The events that a share counts.
#[derive(Debug, Clone, PartialEq, Eq, Display)]
#[non_exhaustive]
pub enum Measure {
    /// Requests that a version serves.
    #[displaydoc("{0}")]
    Version(String),
    /// Requests that no version serves.
    #[displaydoc("no version")]
    NoVersion,
    /// Requests that are answered before or after a time.
    #[displaydoc("{0}")]
    Speed(String),
    /// Sessions that stay at their pod or their version.
    #[displaydoc("sessions that stay at their {0}")]
    Sessions(Stay),
    /// Sessions that keep a version once it has answered them.
    #[displaydoc("sessions that keep {0}")]
    Kept(String),
    /// Requests with a status.
    #[displaydoc("status {0}")]
    Status(StatusCode),
    /// Requests that a workload serves.
    #[displaydoc("a route leads to {0}")]
    Workload(String),
    /// The weight of a destination in the route.
    #[displaydoc("the weight of {0} is")]
    Weight(&'static str),
    /// Objects that are left.
    #[displaydoc("left: {0}")]
    Left(String),
}

impl fmt::Display for ShareMismatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} instead of {}", self.measure, self.given, self.claimed)?;
        formatter.write_str(if self.detectable { "" } else { ", too small a difference for a sample to detect" })
    }
}

impl Decided {
    /// What the model does not cover and what can affect the claim.
    pub fn not_modelled(&self) -> &[NotModelled] {
        match self {
            Self::Undecided(notes) => notes,
            Self::Holds | Self::Fails(_) | Self::Open(_) => &[],
        }
    }

    /// Whether the claim fails, and a run on a cluster would detect it.
    pub fn is_detectable(&self) -> bool {
        matches!(self, Self::Fails(mismatches) if mismatches.iter().any(|mismatch| mismatch.detectable))
    }
}

/// A claim that fails without any tolerance.
pub(super) fn mismatch(measure: Measure, claimed: Share, given: Chance) -> ShareMismatch {
    ShareMismatch { measure, claimed, given, detectable: true }
}

/// Compares a claimed share with the given one.
pub(super) fn compare(errors: ErrorRates, measure: Measure, claimed: Share, given: Chance) -> Option<ShareMismatch> {
    let distance = (given.fraction() - claimed.fraction()).abs();
    // a claim of 0 % or 100 % has no tolerance
    let same = if claimed.is_part() { distance <= TOLERANCE } else { distance == 0.0 };
    let effect = if claimed.is_part() { errors.deviation } else { errors.leak };
    (!same).then_some(ShareMismatch { measure, claimed, given, detectable: distance >= effect - 1e-9 })
}
