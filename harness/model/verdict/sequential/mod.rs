mod boundary;
mod calibration;
mod frontier;
mod paths;
mod share_test;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

pub use boundary::{Boundaries, Line};
pub(super) use boundary::{Levels, Side, Steps};
use frontier::Frontier;
pub use paths::Characteristics;
pub use share_test::ShareTest;

use super::binomial::{Band, confidence_interval, smallest};
use crate::scenario::{Confidence, ErrorProbability, ErrorRates, Share};

/// The weight of M in the bound on the type I error before the cap.
const GROSS: f64 = 0.02;
/// The largest cap for which the pass levels are calibrated by recursion.
const RECURSION_LIMIT: u64 = 10_000;
/// The number of requests up to which the boundary of M is shown. Beyond it, the lines are narrower for all but tiny shares.
const GROSS_SHOWN: u64 = 400;
/// The part of β for an interval that excludes the true share, whatever the ruling is.
const EXCLUDES: f64 = 0.02;

/// A truncated two-sided sequential probability ratio test of one share `p₀` against `p₀ ± δ`.
///
/// `L±` is the likelihood ratio of `p₀ ± δ` to `p₀`, and M that of a Beta(½, ½) mixture of all shares to `p₀`. The test fails as soon as one of
/// `L±` reaches `4.08/α` or M reaches `100/α`. It passes as soon as `L+` and `L-` are both at most their pass levels, and at the cap within a
/// band of counts. The cap is the smallest number of requests whose exact binomial band keeps `(α/2, β/2)`.
///
/// - **False alarm.** Under `p₀`, each of `L±` and M is a nonnegative martingale that starts at 1. By Ville's inequality, they ever reach
///   their levels with a probability of at most `0.245 α`, `0.245 α` and `0.01 α`. The band at the cap uses the rest of α, exactly.
/// - **Miss.** The pass levels are approximately the largest at which the miss at `p₀ ± δ` is at most β; a failure whose interval excludes
///   `p₀ ± δ` counts as a miss.
///
/// Band and pass levels are computed at design time by a forward recursion that sums the probabilities of all paths over the boundaries that
/// [`ShareTest`] stops at. For a cap above 10,000 that would take too long: the pass levels are `β/2` there, and the band is that of
/// `(α/2, β/2)`. Under `p₀ + δ` the ratio `1/L+` is a martingale, so that the test passes before the cap with a probability of at most `β/2`,
/// and at the cap with at most `β/2`.
///
/// Levels and bands from the recursion are valid only for a share that is constant during the sample. If weights change during the sample,
/// as in a rollout by a controller, only the constants from Ville's inequality are valid.
/// (Wald 1945; Sobel and Wald 1949; Ville 1939; Robbins 1970; Novikov et al. 2021.)
#[derive(Debug, Clone, PartialEq)]
pub struct ShareDesign {
    share: f64,
    /// `p₀ - δ` and `p₀ + δ`.
    others: (f64, f64),
    /// The type I error.
    pub(in crate::verdict) alpha: ErrorProbability,
    beta: ErrorProbability,
    more: Side,
    fewer: Side,
    /// The level of M.
    gross: f64,
    cap: u64,
    /// The counts that pass at the cap.
    band: Band,
    /// The mean number of requests if the claim is correct; none without recursion.
    mean: Option<f64>,
}

/// The arguments of a design.
type Key = [u64; 5];

/// A cache of designs: the claims of a scenario are similar, and those of its mutants more so.
static KNOWN: LazyLock<Mutex<HashMap<Key, Option<ShareDesign>>>> = LazyLock::new(Mutex::default);
/// The largest number of designs in the cache.
const MOST_KNOWN: usize = 1024;

impl ShareDesign {
    /// The test of a share strictly between 0 and 1. Returns none if it may need more than `max_requests`, or if `p₀ ± δ` is not within 0
    /// and 1.
    pub fn new(share: Share, errors: ErrorRates) -> Option<Self> {
        let ErrorRates { false_alarm, miss, deviation, max_requests, .. } = errors;
        let bits = [share.fraction(), deviation, false_alarm.value(), miss.value()].map(f64::to_bits);
        let key = [bits[0], bits[1], bits[2], bits[3], max_requests];
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(design) = known().get(&key) {
            return design.clone();
        }
        let design = Self::computed(share, errors);
        let mut known = known();
        if known.len() < MOST_KNOWN {
            known.insert(key, design.clone());
        }
        design
    }

    fn computed(share: Share, errors: ErrorRates) -> Option<Self> {
        let ErrorRates { false_alarm: alpha, miss: beta, deviation, .. } = errors;
        let share = share.fraction();
        // 10 % ± 10 points may reach beyond 0 by rounding
        let (low, high) = ((share - deviation).max(-1e-9), (share + deviation).min(1.0 + 1e-9));
        if deviation <= 0.0 || share - deviation < low || share + deviation > high {
            return None;
        }
        let (low, high) = (low.max(0.0), high.min(1.0));
        let halves = ErrorRates { false_alarm: alpha.divided_among(2), miss: beta.divided_among(2), ..errors };
        let (cap, band) = smallest(share, &[low, high], halves)?;
        let fail = (4.0 / ((1.0 - GROSS) * alpha.value())).ln();
        let levels = Levels { fail, pass: (beta.value() / 2.0).ln() };
        let design = Self {
            share,
            others: (low, high),
            alpha,
            beta,
            more: Side::new(Steps::new(high, share), levels),
            fewer: Side::new(Steps::new(low, share), levels),
            gross: 2.0 / (GROSS * alpha.value()),
            cap,
            band,
            mean: None,
        };
        Some(if cap <= RECURSION_LIMIT { design.calibrated() } else { design })
    }

    /// The confidence interval of the share after some number of hits, with a confidence of `1 - β`. `passed` says whether this test has
    /// passed with these requests or before.
    ///
    /// The interval contains each p that the Beta(½, ½) mixture of all shares does not exclude with `0.02 β`, at any time; if the test has
    /// passed, only those within `p₀ ± δ`. The probability that the true share lies outside is at most β: for a share within `p₀ ± δ` by Ville's
    /// inequality (at most `0.02 β`); at `p₀ ± δ` because the calibration sums the probabilities of a pass and of a failure whose interval
    /// excludes `p₀ ± δ`; and beyond, where a pass is less likely. For a design without calibration, only `1.02 β` is proven at `p₀ ± δ`: at most β
    /// for a pass and `0.02 β` for such a failure.
    pub fn interval(&self, requests: u64, hits: u64, passed: bool) -> (f64, f64) {
        let (low, high) = confidence_interval(requests, hits, None, Confidence::of(self.beta.part(EXCLUDES)));
        let within = (low.max(self.others.0), high.min(self.others.1));
        // answers after the ruling may leave nothing within
        if passed && within.0 <= within.1 { within } else { (low, high) }
    }

    /// The boundary of M, where it stops the test before those of `p₀ ± δ`: numbers of requests, each with the share below which and the share
    /// above which the test fails; 0 or 1 if there is none.
    pub fn gross_faults(&self) -> Vec<(u64, f64, f64)> {
        let mut frontier = Frontier::START;
        let mut found = Vec::new();
        for n in 1..=self.cap.min(GROSS_SHOWN) {
            frontier.step(self);
            let (requests, many, misses) = (n as f64, frontier.many.count as f64, frontier.few.count as f64);
            let above = if many <= requests && many < self.more.fails.after(n) { many / requests } else { 1.0 };
            let hits = requests - misses;
            let below = if hits >= 0.0 && hits > self.fewer.fails.after(n) { hits / requests } else { 0.0 };
            if above < 1.0 || below > 0.0 {
                found.push((n, below, above));
            }
        }
        found
    }

    /// The largest number of requests.
    pub const fn cap(&self) -> u64 {
        self.cap
    }

    /// The exact mean number of requests if the claim is correct; the cap if the mean was not computed.
    pub fn mean(&self) -> f64 {
        self.mean.unwrap_or(self.cap as f64)
    }

    /// The smallest number of requests with which the test can pass.
    pub fn least(&self) -> u64 {
        let mut frontier = Frontier::START;
        let passes = |_: &u64| {
            frontier.step(self);
            let limits = frontier.limits(self);
            limits.passes_low <= limits.passes_high
        };
        (1..self.cap).find(passes).unwrap_or(self.cap)
    }

    /// The claimed share, as a fraction.
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// The lines where the likelihood ratios of `p₀ ± δ` stop the test. M stops it slightly earlier within the first hundred requests.
    pub const fn boundaries(&self) -> Boundaries {
        Boundaries {
            fails_above: self.more.fails,
            passes_below: self.more.passes,
            passes_above: self.fewer.passes,
            fails_below: self.fewer.fails,
        }
    }
}
