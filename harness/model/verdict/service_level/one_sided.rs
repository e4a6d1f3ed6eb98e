use crate::scenario::{Confidence, ErrorProbability, ErrorRates, Share};
use crate::verdict::binomial::confidence_interval;
use crate::verdict::ruling::Ruling;
use crate::verdict::sequential::{Characteristics, Levels, Line, Side, Steps};

/// The largest number of recursions of a calibration.
const RECURSIONS: usize = 12;
/// The part of an error probability that a calibration aims at; the rest covers rounding and the paths that are left.
const AIM: f64 = 1.0 - 1e-3;
/// The part of β for an interval that excludes the true share.
const EXCLUDES: f64 = 0.005;
/// A calibration ends with error probabilities between this part of the stated ones and all of them.
const NEAR: f64 = 0.97;
/// A recursion ends when the paths that are left have this part of the error probability.
const LEFT: f64 = 1e-5;
/// The largest mean number of events for which the lines are calibrated by recursion.
const RECURSION_LIMIT: f64 = 10_000.0;

/// A one-sided sequential probability ratio test of a share of at most `p₀` against a share of at least `p₁ > p₀`.
///
/// It fails as soon as the likelihood ratio L of `p₁` to `p₀` reaches a level, and passes as soon as L falls to another level. The levels `1/α`
/// and β keep the error probabilities by Ville's inequality: L is a nonnegative martingale from 1 under `p₀`, and 1/L is one under `p₁`. Since L
/// overshoots them, the levels are moved towards each other until the error probabilities, summed over all paths, are nearly α and β. The
/// test has no cap: it ends with probability 1. For a mean above 10,000 events the recursion would take too long, and the levels are `1/α` and β.
///
/// More events that count move a path towards a failure only, so that a smaller share than `p₀` fails with less than α, and a larger one than
/// `p₁` passes with less than β. (Wald 1945; Ville 1939; Novikov et al. 2021.)
///
/// ```
/// use shiftcheck_model::scenario::ErrorRates;
/// use shiftcheck_model::verdict::OneSidedDesign;
///
/// let errors = ErrorRates::default();
/// // two versions with half of the requests each, and twice the bad events for one of them
/// let design = OneSidedDesign::new([1.0 / 2.0, 2.0 / 3.0], errors);
/// assert!(design.mean() < 120.5 && design.mean_at_other() < 246.5);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct OneSidedDesign {
    share: f64,
    other: f64,
    alpha: ErrorProbability,
    beta: ErrorProbability,
    side: Side,
    means: [f64; 2],
}

/// The exact errors and means of a test.
struct Realised {
    fails: f64,
    passes: f64,
    means: [f64; 2],
}

impl OneSidedDesign {
    /// The test of a share of at most `share` against one of at least `other`, both strictly between 0 and 1, with the type I and the type II
    /// error of these error rates.
    pub fn new([share, other]: [f64; 2], errors: ErrorRates) -> Self {
        let (alpha, beta) = (errors.false_alarm, errors.miss);
        let steps = Steps::new(other, share);
        let passes_at_most = beta.value() * (1.0 - EXCLUDES);
        let mut levels = Levels { fail: -alpha.value().ln(), pass: passes_at_most.ln() };
        // by Wald's approximation
        let drift = |truth: f64| truth * steps.hit + (1.0 - truth) * steps.miss;
        let means = [levels.pass / drift(share), levels.fail / drift(other)];
        let wald = Self { share, other, alpha, beta, side: Side::new(steps, levels), means };
        if means.iter().any(|mean| *mean > RECURSION_LIMIT) {
            return wald;
        }
        let mut best: Option<Self> = None;
        for _ in 0..RECURSIONS {
            let design = Self { side: Side::new(steps, levels), ..wald.clone() };
            let Realised { fails, passes, means } = design.realised();
            let kept = fails <= alpha.value() && passes <= passes_at_most;
            if kept && best.as_ref().is_none_or(|best| means.iter().sum::<f64>() < best.means.iter().sum()) {
                best = Some(Self { means, ..design });
            }
            if kept && fails >= alpha.value() * NEAR && passes >= passes_at_most * NEAR {
                break;
            }
            // an error probability changes about as much as its level does
            levels.fail += (fails / (alpha.value() * AIM)).ln();
            levels.pass -= (passes / (passes_at_most * AIM)).ln();
        }
        best.unwrap_or(wald)
    }

    fn realised(&self) -> Realised {
        let at_share = self.until_left(self.share, self.alpha.value() * LEFT);
        let at_other = self.until_left(self.other, self.beta.value() * LEFT);
        // what is left could still end in an error
        Realised { fails: 1.0 - at_share.passes, passes: 1.0 - at_other.fails, means: [at_share.mean, at_other.mean] }
    }

    /// The behaviour of the test at a true share, summed over all paths but for one in a billion.
    pub fn characteristics(&self, truth: f64) -> Characteristics {
        self.until_left(truth, 1e-9)
    }

    /// The sums over all paths, until those that are left have at most this probability.
    fn until_left(&self, truth: f64, negligible: f64) -> Characteristics {
        let mut found = Characteristics { fails: 0.0, passes: 0.0, mean: 0.0 };
        // by the number of hits, from `low` on
        let (mut chances, mut low, mut n, mut left) = (vec![1.0], 0_u64, 0_u64, 1.0);
        while left > negligible {
            n += 1;
            let mut before = 0.0;
            for chance in &mut chances {
                let own = *chance;
                *chance = own * (1.0 - truth) + before * truth;
                before = own;
            }
            chances.push(before * truth);
            left = 0.0;
            let mut kept = 0..0;
            for (index, chance) in chances.iter().enumerate() {
                match self.ruling(n, low + index as u64) {
                    None => {
                        kept = if kept.is_empty() { index..index + 1 } else { kept.start..index + 1 };
                        left += chance;
                        continue;
                    }
                    Some(Ruling::Pass) => found.passes += chance,
                    Some(_) => found.fails += chance,
                }
                found.mean += chance * n as f64;
            }
            low += kept.start as u64;
            chances.truncate(kept.end);
            chances.drain(..kept.start);
        }
        found.mean += left * n as f64;
        found
    }

    /// The ruling after some number of events and hits.
    #[inline]
    pub fn ruling(&self, events: u64, hits: u64) -> Option<Ruling> {
        let hits = hits as f64;
        if hits >= self.side.fails.after(events) {
            Some(Ruling::Fail)
        } else if hits <= self.side.passes.after(events) {
            Some(Ruling::Pass)
        } else {
            None
        }
    }

    /// The mean number of events if the share is `p₀`.
    pub const fn mean(&self) -> f64 {
        self.means[0]
    }

    /// The mean number of events if the share is `p₁`.
    pub const fn mean_at_other(&self) -> f64 {
        self.means[1]
    }

    /// The smallest number of events with which the test can pass, and with which it can fail.
    pub fn least(&self) -> [u64; 2] {
        const MOST: u64 = 1 << 20;
        let first = |hits: fn(u64) -> u64| (1..MOST).find(|n| self.ruling(*n, hits(*n)).is_some()).unwrap_or(MOST);
        [first(|_| 0), first(|n| n)]
    }

    /// `p₀`, as a fraction.
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// `p₁`, as a fraction.
    pub const fn other(&self) -> f64 {
        self.other
    }

    /// The lines on which the test ends: it fails with more hits than the first, and passes with fewer than the second.
    pub const fn lines(&self) -> [Line; 2] {
        [self.side.fails, self.side.passes]
    }

    /// A bound on the probability of evidence this strong or stronger against a share of at most `p₀`, valid at any stopping time.
    pub fn chance(&self, events: u64, hits: u64) -> f64 {
        let ratio = self.side.steps.sum(hits, events).exp();
        let bound = (1.0 / ratio).min(1.0);
        // a failure at calibrated levels has a probability of at most α
        if self.ruling(events, hits) == Some(Ruling::Fail) { bound.min(self.alpha.value()) } else { bound }
    }

    /// The confidence interval of the share after some number of events and hits, valid at any stopping time, with a confidence of `1 - β`. If the
    /// test has passed, it contains no share of `p₁` or more: a small part of β is for the interval, and the rest for a pass.
    pub fn interval(&self, events: u64, hits: u64, passed: bool) -> (f64, f64) {
        let confidence = Confidence::of(self.beta.part(EXCLUDES));
        // by the evidence of the test as well, so that a failure excludes the claimed share
        let (low, high) = confidence_interval(events, hits, Share::from_fraction(self.other).ok(), confidence);
        (low, if passed { high.min(self.other) } else { high })
    }

    /// The mean number of further events until the test passes, if the share is `p₀`.
    pub fn remaining(&self, events: u64, hits: u64) -> f64 {
        let Steps { hit, miss } = self.side.steps;
        let drift = self.share * hit + (1.0 - self.share) * miss;
        ((self.side.levels.pass - self.side.steps.sum(hits, events)) / drift).ceil().max(1.0)
    }
}

/// The state of a one-sided test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OneSidedTest {
    /// The number of events.
    pub events: u64,
    /// The number of events that count.
    pub hits: u64,
    /// The ruling, once there is one.
    pub ruling: Option<Ruling>,
}

impl OneSidedTest {
    /// Takes the next event, unless there is a ruling: whether it counts. Returns the ruling, once there is one.
    #[inline]
    pub fn observe(&mut self, design: &OneSidedDesign, hit: bool) -> Option<Ruling> {
        if self.ruling.is_none() {
            self.events += 1;
            self.hits += u64::from(hit);
            self.ruling = design.ruling(self.events, self.hits);
        }
        self.ruling
    }
}
