use statrs::function::beta::ln_beta;

use super::search::{bisect, largest};
use super::tails::Tails;
use crate::scenario::{Confidence, ErrorProbability, ErrorRates, Share};

/// The weight of the claimed share in a confidence interval; the rest is for a mixture of all shares.
pub(super) const DIRECT: f64 = 0.95;

/// The range of counts that are compatible with a claimed share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Band {
    /// The smallest accepted count.
    pub low: u64,
    /// The largest accepted count.
    pub high: u64,
}

impl Band {
    /// The exact band for `n` requests, each of which counts with probability `share`: the probability of either tail outside of the band is
    /// at most `alpha / 2`.
    pub fn exact(n: u64, share: f64, alpha: ErrorProbability) -> Self {
        let (tails, half) = (Tails::new(n, share), alpha.divided_among(2).value());
        // the largest low with P(S < low) <= α/2
        let low = largest(n, |low| low == 0 || tails.at_most(low - 1) <= half);
        // the smallest high with P(S > high) <= α/2
        let high = n - largest(n, |gap| tails.more_than(n - gap) <= half);
        Self { low, high }
    }

    /// The exact band for `n` requests, computed from the band for the same number or one less: both ends stay or grow.
    fn grown_to(self, n: u64, share: f64, alpha: ErrorProbability) -> Self {
        let (tails, half) = (Tails::new(n, share), alpha.divided_among(2).value());
        let Self { mut low, mut high } = self;
        while low <= n && tails.at_most(low) <= half {
            low += 1;
        }
        while tails.more_than(high) > half {
            high += 1;
        }
        Self { low, high }
    }

    /// Whether the band contains a count.
    pub const fn contains(self, count: u64) -> bool {
        self.low <= count && count <= self.high
    }

    /// The probability that the count of `n` requests with another share lies within the band.
    pub fn chance(self, n: u64, share: f64) -> f64 {
        let tails = Tails::new(n, share);
        let below = if self.low == 0 { 0.0 } else { tails.at_most(self.low - 1) };
        (tails.at_most(self.high) - below).max(0.0)
    }
}

/// The probability, if `share` is correct, of a count at least as extreme as this one, on either side: the two-sided p-value.
pub fn two_sided_chance(n: u64, count: u64, share: f64) -> f64 {
    let tails = Tails::new(n, share);
    let at_most = tails.at_most(count);
    let at_least = if count == 0 { 1.0 } else { tails.more_than(count - 1) };
    (2.0 * at_most.min(at_least)).min(1.0)
}

/// The leak that `n` clean requests exclude with the given confidence: `1 - (1 - confidence)^(1/n)`.
///
/// ```
/// use shiftcheck_model::{scenario::ErrorRates, verdict::leak_bound};
///
/// // the exact rule of three: 688 clean requests exclude a leak of 1 % with 99.9 %
/// let confidence = ErrorRates::default().confidence();
/// assert!(leak_bound(688, confidence) < 0.01 && leak_bound(687, confidence) > 0.01);
/// ```
pub fn leak_bound(n: u64, confidence: Confidence) -> f64 {
    1.0 - (1.0 - confidence.fraction()).powf(1.0 / n as f64)
}

/// The number of clean requests that exclude a leak with the given confidence. `leak` is a fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
pub fn requests_for_leak(leak: f64, confidence: Confidence) -> u64 {
    ((1.0 - confidence.fraction()).ln() / (-leak).ln_1p()).ceil() as u64
}

/// A confidence interval that is valid at any stopping time: with the given confidence, the true share lies in all intervals of a growing
/// sample.
///
/// The interval contains each p with `0.05 M(p) + 0.95 C(p) < 1 / (1 - confidence)`. Both are martingales from 1 under p: the Beta(½, ½)
/// mixture `M(p) = B(S + ½, n - S + ½) / B(½, ½) / (p^S (1-p)^(n-S))`, which detects any wrong share, and the likelihood ratio `C(p)` of
/// the claimed share to p. (Robbins 1970; Howard et al. 2021.) Without a claim, the interval contains each p
/// with `M(p) < 1 / (1 - confidence)`. The interval of a share that a test decides is `ShareDesign::interval`.
///
/// ```
/// use shiftcheck_model::{scenario::ErrorRates, verdict::confidence_interval};
///
/// let (low, high) = confidence_interval(500, 260, Some("50%".parse()?), ErrorRates::default().confidence());
/// assert!(0.42 < low && low < 0.46 && 0.58 < high && high < 0.62);
/// # Ok::<(), shiftcheck_model::scenario::InvalidShare>(())
/// ```
pub fn confidence_interval(n: u64, count: u64, claimed: Option<Share>, confidence: Confidence) -> (f64, f64) {
    let (hits, misses) = (count.min(n) as f64, n.saturating_sub(count) as f64);
    let power = |times: f64, share: f64| if times > 0.0 { times * share.ln() } else { 0.0 };
    let likelihood = |share: f64| power(hits, share) + power(misses, 1.0 - share);
    let mixture = log_marginal(hits, misses);
    let together = claimed.map_or(mixture, |claimed| {
        let (mixture, direct) = ((1.0 - DIRECT).ln() + mixture, DIRECT.ln() + likelihood(claimed.fraction()));
        // ln(0.05 M + 0.95 C) + ln L(p), the same for all p
        let larger = mixture.max(direct);
        larger + ((mixture - larger).exp() + (direct - larger).exp()).ln()
    });
    let within = |share: f64| together - likelihood(share) < -(1.0 - confidence.fraction()).ln();
    let seen = if n == 0 { 0.5 } else { hits / (hits + misses) };
    let edge = |end: f64| if within(end) { end } else { bisect(seen, end, 60, |share| !within(share)).0 };
    (edge(0.0), edge(1.0))
}

/// The logarithm of the probability of one sequence with these numbers of hits and misses, if the share is drawn from Beta(½, ½).
fn log_marginal(hits: f64, misses: f64) -> f64 {
    ln_beta(hits + 0.5, misses + 0.5) - ln_beta(0.5, 0.5)
}

/// The log likelihood ratio of a Beta(½, ½) mixture of all shares to this share, strictly between 0 and 1.
pub(super) fn log_mixture(n: u64, count: u64, share: f64) -> f64 {
    let (hits, misses) = (count as f64, n.saturating_sub(count) as f64);
    log_marginal(hits, misses) - hits * share.ln() - misses * (1.0 - share).ln()
}

/// The smallest number of requests, up to `max_requests`, whose exact band for α contains the count with a probability of at most β for each of
/// the wrong shares. Returns the number and the band.
pub(super) fn smallest(share: f64, wrong: &[f64], errors: ErrorRates) -> Option<(u64, Band)> {
    let ErrorRates { false_alarm: alpha, miss: beta, max_requests: limit, .. } = errors;
    let decides = |n: u64| {
        let band = Band::exact(n, share, alpha);
        wrong.iter().all(|wrong| band.chance(n, *wrong) <= beta.value())
    };
    let mut high = 16;
    while !decides(high) {
        high *= 2;
        if high > 2 * limit.max(16) {
            return None;
        }
    }
    // The probabilities do not decrease monotonically with n: the last numbers are tried one by one.
    let mut low = high / 2;
    while high - low > 64 {
        let middle = low + (high - low) / 2;
        if decides(middle) { high = middle } else { low = middle }
    }
    let first = low.saturating_sub(64).max(1);
    let mut band = Band::exact(first, share, alpha);
    for n in first..=high.min(limit) {
        band = band.grown_to(n, share, alpha);
        if wrong.iter().all(|wrong| band.chance(n, *wrong) <= beta.value()) {
            return Some((n, band));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;
    use num_traits::ToPrimitive;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn probability(value: f64) -> ErrorProbability {
        ErrorProbability::new(value).unwrap()
    }

    fn confidence(miss: f64) -> Confidence {
        Confidence::of(probability(miss))
    }

    fn share(fraction: f64) -> Share {
        Share::from_fraction(fraction).unwrap()
    }

    /// `P(S <= count)` as a sum of exact integers over a power of the denominator; the ratio is rounded once.
    fn exact_cdf(n: u32, count: u32, numerator: u32, denominator: u32) -> f64 {
        let (hit, miss) = (BigUint::from(numerator), BigUint::from(denominator - numerator));
        let mut term = miss.pow(n);
        let mut sum = BigUint::ZERO;
        for k in 0..=count {
            sum += &term;
            term = if k == n { BigUint::ZERO } else { term * (n - k) * &hit / (k + 1) / &miss };
        }
        ratio(&sum, &BigUint::from(denominator).pow(n))
    }

    fn ratio(part: &BigUint, whole: &BigUint) -> f64 {
        // 64 digits after the point of a part that is made as long as the whole
        let shift = whole.bits().saturating_sub(part.bits());
        let digits = (part << (shift + 64)) / whole;
        digits.to_f64().unwrap() * (-(64.0 + f64::from(u32::try_from(shift).unwrap()))).exp2()
    }

    #[rstest]
    #[case(400, 1e-3, 167, 233)]
    #[case(600, 1e-6, 240, 360)]
    #[case(1000, 1e-3, 448, 552)]
    #[case(2000, 1e-6, 891, 1109)]
    fn the_band_agrees_with_the_exact_tables(#[case] n: u64, #[case] alpha: f64, #[case] low: u64, #[case] high: u64) {
        assert_eq!(Band::exact(n, 0.5, probability(alpha)), Band { low, high });
    }

    #[rstest]
    #[case(0.1, 1e-3, 66)]
    #[case(0.01, 1e-3, 688)]
    #[case(0.01, 0.05, 299)]
    #[case(0.001, 1e-6, 13_809)]
    fn leaks_agree_with_the_exact_tables(#[case] leak: f64, #[case] miss: f64, #[case] n: u64) {
        assert_eq!(requests_for_leak(leak, confidence(miss)), n);
    }

    #[test]
    fn an_interval_misses_the_truth_at_some_time_as_rarely_as_it_says() {
        // 2,000 samples of 1,000 requests, looked at after every one: 5 % may miss at any time
        let mut random = fastrand::Rng::with_seed(7);
        let missed = (0..2000)
            .filter(|_| {
                let mut count = 0;
                (1..=1000).any(|n| {
                    count += u64::from(random.f64() < 0.3);
                    // a look at every request costs; these are where it moves
                    (n < 50 || n % 10 == 0) && {
                        let (low, high) = confidence_interval(n, count, Some(share(0.4)), confidence(0.05));
                        0.3 < low || high < 0.3
                    }
                })
            })
            .count();
        assert!((1..=100).contains(&missed), "{missed} of 2000");
    }

    #[test]
    fn nothing_seen_excludes_nothing() {
        assert_eq!(confidence_interval(0, 0, Some(share(0.5)), confidence(1e-3)), (0.0, 1.0));
    }

    #[rstest]
    #[case(1e-3, 1e-3, 0.05, 4063, Band { low: 1927, high: 2136 })]
    #[case(1e-3, 1e-3, 0.10, 1010, Band { low: 453, high: 557 })]
    #[case(1e-3, 1e-3, 0.15, 440, Band { low: 186, high: 254 })]
    #[case(1e-6, 1e-6, 0.10, 2291, Band { low: 1029, high: 1262 })]
    fn fixed_numbers_of_requests_agree_with_the_exact_tables(
        #[case] alpha: f64,
        #[case] beta: f64,
        #[case] deviation: f64,
        #[case] requests: u64,
        #[case] band: Band,
    ) {
        let (false_alarm, miss) = (probability(alpha), probability(beta));
        let errors = ErrorRates { false_alarm, miss, ..ErrorRates::default() };
        assert_eq!(smallest(0.5, &[0.5 - deviation, 0.5 + deviation], errors), Some((requests, band)));
    }

    proptest! {
        #[test]
        fn chances_are_those_of_exact_sums(n in 1_u32..1800, part in 0.0_f64..1.0, numerator in 1_u32..20) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count up to n")]
            let count = ((f64::from(n) * part) as u32).min(n);
            let share = f64::from(numerator) / 20.0;
            let exact = exact_cdf(n, count, numerator, 20);
            let law = Tails::new(u64::from(n), share);
            let ours = law.at_most(u64::from(count));
            // tails are small: the relative error is what counts
            prop_assert!((ours - exact).abs() <= 1e-9 * exact + 1e-300, "{ours:e} is not {exact:e}");
            let upper = law.more_than(u64::from(count));
            // n! is a sum of n logarithms, whose rounding errors add up
            let rounding = 4.0 * f64::from(n) * f64::from(n + 2).ln() * f64::EPSILON;
            prop_assert!((upper - (1.0 - exact)).abs() <= rounding, "{upper:e} is not {:e}", 1.0 - exact);
        }

        #[test]
        fn an_interval_holds_what_was_seen_and_shrinks(n in 1_u64..5000, part in 0.0_f64..1.0) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let (count, seen) = { let count = ((n as f64 * part) as u64).min(n); (count, count as f64 / n as f64) };
            let (low, high) = confidence_interval(n, count, Some(share(0.5)), confidence(1e-3));
            prop_assert!(0.0 <= low && low <= seen && seen <= high && high <= 1.0);
            let (finer_low, finer_high) = confidence_interval(10 * n, 10 * count, Some(share(0.5)), confidence(1e-3));
            prop_assert!(low <= finer_low && finer_high <= high);
            let (surer_low, surer_high) = confidence_interval(n, count, Some(share(0.5)), confidence(1e-6));
            prop_assert!(surer_low <= low && high <= surer_high);
        }

        #[test]
        fn a_band_grows_with_the_requests(n in 1_u64..400, percent in 1_u32..100, exponent in 1_i32..7) {
            let (share, alpha) = (f64::from(percent) / 100.0, probability(10_f64.powi(-exponent)));
            let grown = Band::exact(n, share, alpha).grown_to(n + 1, share, alpha);
            prop_assert_eq!(grown, Band::exact(n + 1, share, alpha));
        }

        #[test]
        fn a_band_keeps_its_false_alarm_and_could_not_be_narrower(n in 1_u64..400, percent in 1_u32..100, exponent in 1_i32..7) {
            let share = f64::from(percent) / 100.0;
            let alpha = 10_f64.powi(-exponent);
            let band = Band::exact(n, share, probability(alpha));
            let law = Tails::new(n, share);
            prop_assert!(band.low == 0 || law.at_most(band.low - 1) <= alpha / 2.0);
            prop_assert!(law.more_than(band.high) <= alpha / 2.0);
            prop_assert!(law.at_most(band.low) > alpha / 2.0);
            prop_assert!(band.high == 0 || law.more_than(band.high - 1) > alpha / 2.0);
        }
    }
}
