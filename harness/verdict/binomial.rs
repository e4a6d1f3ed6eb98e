use statrs::distribution::{Binomial, DiscreteCDF};

/// The counts that a claimed share is compatible with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Band {
    /// The smallest accepted count.
    pub low: u64,
    /// The largest accepted count.
    pub high: u64,
}

impl Band {
    /// The exact band for `n` requests of which each counts with chance `share`: either tail outside of it has a chance of
    /// at most `alpha / 2`.
    #[must_use]
    pub fn exact(n: u64, share: f64, alpha: f64) -> Self {
        let binomial = binomial(n, share);
        // P(S < low) <= α/2, with low as large as it can be
        let low = largest(n, |low| low == 0 || binomial.cdf(low - 1) <= alpha / 2.0);
        // P(S > high) <= α/2, with high as small as it can be
        let high = n - largest(n, |gap| binomial.sf(n - gap) <= alpha / 2.0);
        Self { low, high }
    }

    /// Whether the count is accepted.
    #[must_use]
    pub const fn contains(self, count: u64) -> bool {
        self.low <= count && count <= self.high
    }

    /// The chance that `n` requests with another share fall into the band.
    #[must_use]
    pub fn chance(self, n: u64, share: f64) -> f64 {
        let binomial = binomial(n, share);
        let below = if self.low == 0 { 0.0 } else { binomial.cdf(self.low - 1) };
        (binomial.cdf(self.high) - below).max(0.0)
    }
}

/// The chance, if `share` is right, of a count at least as far out as this one, on either side.
pub(super) fn two_sided_chance(n: u64, count: u64, share: f64) -> f64 {
    let binomial = binomial(n, share);
    let at_most = binomial.cdf(count);
    let at_least = if count == 0 { 1.0 } else { binomial.sf(count - 1) };
    (2.0 * at_most.min(at_least)).min(1.0)
}

/// The leak that `n` clean requests exclude with the given confidence: `1 - (1 - confidence)^(1/n)`.
///
/// ```
/// // the rule of three, exact: none of 688 foreign excludes a leak of 1 % with 99.9 %
/// assert!(shiftcheck::verdict::leak_bound(688, 0.999) < 0.01);
/// assert!(shiftcheck::verdict::leak_bound(687, 0.999) > 0.01);
/// ```
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
pub fn leak_bound(n: u64, confidence: f64) -> f64 {
    1.0 - (1.0 - confidence).powf(1.0 / n as f64)
}

/// The number of clean requests that exclude a leak of this share with the given confidence.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
pub fn requests_for_leak(leak: f64, confidence: f64) -> u64 {
    ((1.0 - confidence).ln() / (-leak).ln_1p()).ceil() as u64
}

fn binomial(n: u64, share: f64) -> Binomial {
    // the share is a `Share` wherever it comes from, so that it lies between 0 and 1
    Binomial::new(share.clamp(0.0, 1.0), n).unwrap_or_else(|_| unreachable!("a share is between 0 and 1"))
}

/// The largest value up to `limit` for which a predicate holds that is true up to some value and false beyond.
fn largest(limit: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, limit);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) { low = middle } else { high = middle - 1 }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// The binomial tail as a sum of exact integers: n is small enough for `u128` and the share is a ratio.
    fn exact_cdf(n: u32, count: u32, numerator: u128, denominator: u128) -> f64 {
        let mut choose: u128 = 1;
        let mut sum: u128 = 0;
        for k in 0..=count {
            sum += choose * numerator.pow(k) * (denominator - numerator).pow(n - k);
            choose = choose * u128::from(n - k) / u128::from(k + 1);
        }
        #[expect(clippy::cast_precision_loss, reason = "the ratio is what counts")]
        let ratio = sum as f64 / denominator.pow(n) as f64;
        ratio
    }

    #[rstest]
    #[case(400, 1e-3, 167, 233)]
    #[case(600, 1e-6, 240, 360)]
    #[case(1000, 1e-3, 448, 552)]
    #[case(2000, 1e-6, 891, 1109)]
    fn the_band_agrees_with_the_exact_tables(#[case] n: u64, #[case] alpha: f64, #[case] low: u64, #[case] high: u64) {
        assert_eq!(Band::exact(n, 0.5, alpha), Band { low, high });
    }

    #[rstest]
    #[case(0.1, 0.999, 66)]
    #[case(0.01, 0.999, 688)]
    #[case(0.01, 0.95, 299)]
    #[case(0.001, 0.999_999, 13_809)]
    fn leaks_agree_with_the_exact_tables(#[case] leak: f64, #[case] confidence: f64, #[case] n: u64) {
        assert_eq!(requests_for_leak(leak, confidence), n);
    }

    proptest! {
        #[test]
        fn chances_are_those_of_exact_sums(n in 1_u32..24, count in 0_u32..24, numerator in 1_u128..10) {
            let count = count.min(n);
            #[expect(clippy::cast_precision_loss, reason = "below ten")]
            let share = numerator as f64 / 10.0;
            let exact = exact_cdf(n, count, numerator, 10);
            let ours = binomial(u64::from(n), share).cdf(u64::from(count));
            prop_assert!((ours - exact).abs() <= 1e-12, "{ours} is not {exact}");
        }

        #[test]
        fn a_band_keeps_its_false_alarm_and_could_not_be_narrower(n in 1_u64..400, percent in 1_u32..100, exponent in 1_i32..7) {
            let share = f64::from(percent) / 100.0;
            let alpha = 10_f64.powi(-exponent);
            let band = Band::exact(n, share, alpha);
            let law = binomial(n, share);
            prop_assert!(band.low == 0 || law.cdf(band.low - 1) <= alpha / 2.0);
            prop_assert!(law.sf(band.high) <= alpha / 2.0);
            prop_assert!(law.cdf(band.low) > alpha / 2.0);
            prop_assert!(band.high == 0 || law.sf(band.high - 1) > alpha / 2.0);
        }
    }
}
