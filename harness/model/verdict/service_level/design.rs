use std::fmt;
use std::time::Duration;

use super::one_sided::OneSidedDesign;
use crate::scenario::{Comparison, ErrorRates, Factor, Limits, ServiceLevel, Share};
use crate::verdict::design::DesignError;

/// The statistical design of a claim about errors or latency, fixed before the first request.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceLevelDesign {
    /// The claim.
    pub claim: ServiceLevel,
    /// One test for each part of the claim.
    pub(super) tests: Vec<PartDesign>,
}

/// The test of one part of a claim.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PartDesign {
    pub bad: BadEvent,
    pub claimed: Claimed,
    /// In a comparison, the test of the canary's share of the bad events. Otherwise, the test of the share of bad events.
    pub design: OneSidedDesign,
}

/// The events that a test is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum BadEvent {
    /// Answers with a status of 500 or above.
    Error,
    /// Answers that are slower than this share of the baseline's answers.
    Slower(Share),
    /// Answers that take longer than this time.
    Longer(Duration),
}

/// What a part of a claim says of its bad events.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Claimed {
    /// They are not so many times as frequent for the canary as for the baseline.
    Below(Factor),
    /// They are at most this share of all requests.
    AtMost(Share),
}

/// A part of a claim: its bad events, what it says of them, and the shares of the test.
type Part = (BadEvent, Claimed, [f64; 2]);

impl ServiceLevelDesign {
    /// Designs the verdict on a comparison of two versions. `weight` is the canary's share of the requests to the two versions, strictly between
    /// 0 and 1. The type I error is divided among the parts of the claim; each part keeps the type II error.
    ///
    /// # Errors
    /// The claim needs more requests than it allows, on average.
    pub fn of_comparison(claim: &ServiceLevel, comparison: &Comparison, weight: f64) -> Result<Self, DesignError> {
        let errors = comparison.errors.map(|factor| (BadEvent::Error, factor));
        let slower = comparison.slower_than.iter().map(|(share, factor)| (BadEvent::Slower(*share), *factor));
        let part = |(bad, factor): (BadEvent, Factor)| {
            let other = weight * factor.value() / (1.0 - weight + weight * factor.value());
            (bad, Claimed::Below(factor), [weight, other])
        };
        Self::of_parts(claim, errors.into_iter().chain(slower).map(part).collect())
    }

    /// Designs the verdict on limits of errors and latency, with the error probabilities of [`of_comparison`](Self::of_comparison).
    ///
    /// # Errors
    /// The claim needs more requests than it allows, on average.
    pub fn of_limits(claim: &ServiceLevel, limits: &Limits) -> Result<Self, DesignError> {
        let errors = limits.errors.map(|share| (BadEvent::Error, share));
        let latency = limits.latency.iter().map(|(share, limit)| (BadEvent::Longer(*limit), share.rest()));
        let part = |(bad, share): (BadEvent, Share)| {
            let excess = limits.excess.unwrap_or(share).fraction();
            (bad, Claimed::AtMost(share), [share.fraction(), share.fraction() + excess])
        };
        Self::of_parts(claim, errors.into_iter().chain(latency).map(part).collect())
    }

    fn of_parts(claim: &ServiceLevel, parts: Vec<Part>) -> Result<Self, DesignError> {
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let errors = ErrorRates { false_alarm: claim.errors.false_alarm.divided_among(count), ..claim.errors };
        let tests = parts.into_iter().map(|(bad, claimed, shares)| {
            let design = OneSidedDesign::new(shares, errors);
            // only slow answers are known to be rare
            let used = if let BadEvent::Slower(share) = bad { 1.0 - share.fraction() } else { 1.0 };
            let needed = design.mean().max(design.mean_at_other()) / used;
            let limit = claim.errors.max_requests;
            if needed > limit as f64 {
                return Err(DesignError::TooSmallAnEffect { what: format!("{bad} {claimed}"), needed, limit });
            }
            Ok(PartDesign { bad, claimed, design })
        });
        Ok(Self { claim: claim.clone(), tests: tests.collect::<Result<_, _>>()? })
    }

    /// The largest number of requests of the verdict.
    pub const fn allowed(&self) -> u64 {
        self.claim.errors.max_requests
    }

    /// The smallest number of requests with which the verdict can be decided.
    pub fn least(&self) -> u64 {
        let least = self.tests.iter().map(|part| part.design.least());
        let [pass, fail] = least.fold([0, u64::MAX], |[pass, fail], least| [pass.max(least[0]), fail.min(least[1])]);
        pass.min(fail)
    }
}

impl fmt::Display for BadEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error => formatter.write_str("errors"),
            Self::Slower(share) => write!(formatter, "answers slower than {share}"),
            Self::Longer(limit) => write!(formatter, "answers slower than {} ms", limit.as_secs_f64() * 1e3),
        }
    }
}

impl fmt::Display for Claimed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(factor) => write!(formatter, "below {factor}"),
            Self::AtMost(share) => write!(formatter, "at most {share}"),
        }
    }
}
