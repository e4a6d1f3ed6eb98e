use statrs::function::beta::ln_beta;
use statrs::function::factorial::ln_factorial;

use crate::verdict::search::largest;

/// The number of sessions that a version gets from a hash ring.
///
/// The points of a ring are as good as random. A version whose pods own a of its M points owns the sum of a of M spacings, which has the
/// distribution Beta(a, M − a). So the number of n keys that fall there is beta-binomial: it varies more than a binomial number, as if there were
/// at most M + 1 sessions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RingCount {
    n: u64,
    /// The points of the version, and of the others.
    points: [f64; 2],
}

impl RingCount {
    /// The number for `n` sessions, of a version with a share of the points of a ring.
    pub fn new(n: u64, share: f64, ring: u64) -> Self {
        let own = share.clamp(0.0, 1.0) * ring as f64;
        Self { n, points: [own, ring as f64 - own] }
    }

    /// The probability of at most this count.
    pub fn at_most(self, count: u64) -> f64 {
        if count >= self.n { 1.0 } else { self.sum((0..=count).rev()) }
    }

    /// The probability of at least this count.
    pub fn at_least(self, count: u64) -> f64 {
        if count == 0 { 1.0 } else { self.sum(count..=self.n) }
    }

    /// The counts that are neither too small nor too large: the probability of either side is at most `tail`.
    pub fn band(self, tail: f64) -> (u64, u64) {
        let low = largest(self.n, |low| low == 0 || self.at_most(low - 1) <= tail);
        let high = self.n - largest(self.n, |gap| gap == 0 || self.at_least(self.n - gap + 1) <= tail);
        (low, high)
    }

    /// The probability of a count in a band.
    pub fn within(self, (low, high): (u64, u64)) -> f64 {
        self.sum(low..=high)
    }

    /// The summed probability of counts.
    fn sum(self, counts: impl Iterator<Item = u64>) -> f64 {
        let mut sum = 0.0;
        let mut last = 0.0;
        for count in counts {
            let term = self.term(count);
            sum += term;
            // terms that fall, and are too small to count, are followed by smaller ones
            if term < last && term < sum * f64::EPSILON * 0.001 {
                break;
            }
            last = term;
        }
        f64::min(sum, 1.0)
    }

    fn term(self, count: u64) -> f64 {
        let [own, others] = self.points;
        let (hits, misses) = (count as f64, (self.n - count) as f64);
        // a version without points gets nothing, and one with all of them everything
        if own <= 0.0 || others <= 0.0 {
            let expected = if own <= 0.0 { 0 } else { self.n };
            return f64::from(u8::from(count == expected));
        }
        let ways = ln_factorial(self.n) - ln_factorial(count) - ln_factorial(self.n - count);
        (ways + ln_beta(own + hits, others + misses) - ln_beta(own, others)).exp()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::verdict::tails::Tails;

    #[rstest]
    #[case(200, 1.0 / 3.0, 1024)]
    #[case(1000, 0.5, 1024)]
    #[case(50, 0.1, 64)]
    fn the_mean_and_the_variance_are_those_of_keys_on_a_ring(#[case] n: u64, #[case] share: f64, #[case] ring: u64) {
        let count = RingCount::new(n, share, ring);
        let terms = || (0..=n).map(|k| (k as f64, count.term(k)));
        let total: f64 = terms().map(|(_, chance)| chance).sum();
        let mean: f64 = terms().map(|(k, chance)| k * chance).sum();
        let variance: f64 = terms().map(|(k, chance)| (k - mean).powi(2) * chance).sum();
        assert!((total - 1.0).abs() < 1e-9, "{total}");
        assert!((mean - n as f64 * share).abs() < 1e-6, "{mean}");
        let binomial = n as f64 * share * (1.0 - share);
        let expected = binomial * (1.0 + (n as f64 - 1.0) / (ring as f64 + 1.0));
        assert!((variance - expected).abs() < 1e-6 * expected, "{variance} {expected}");
    }

    #[test]
    fn with_ever_more_points_the_count_is_binomial() {
        let (count, tails) = (RingCount::new(300, 0.25, 1 << 30), Tails::new(300, 0.25));
        for k in [40, 60, 75, 90, 110] {
            assert!((count.at_most(k) / tails.at_most(k) - 1.0).abs() < 1e-4, "{k}");
            assert!((count.at_least(k + 1) / tails.more_than(k) - 1.0).abs() < 1e-4, "{k}");
        }
    }

    #[test]
    fn the_tails_beside_a_band_are_as_small_as_asked_for_and_no_smaller() {
        let count = RingCount::new(1000, 0.3, 1024);
        let (low, high) = count.band(5e-7);
        assert!(count.at_most(low - 1) <= 5e-7 && count.at_most(low) > 5e-7, "{low}");
        assert!(count.at_least(high + 1) <= 5e-7 && count.at_least(high) > 5e-7, "{high}");
        assert!(low < 300 && 300 < high);
        assert!(RingCount::new(10, 1.0, 64).within((10, 10)) > 1.0 - 1e-12);
        assert!(RingCount::new(10, 0.0, 64).within((1, 10)) < 1e-12);
    }

    /// Rings as Envoy builds them: so many points for each of three pods, at random, and each key belongs to the next point.
    #[test]
    fn the_share_of_a_pod_on_a_random_ring_varies_as_assumed() {
        let (rings, points) = (400, 342);
        let mut random = fastrand_like(2026);
        let shares: Vec<f64> = (0..rings)
            .map(|_| {
                let mut ring: Vec<(u64, u64)> = (0..3 * points).map(|index| (random(), index % 3)).collect();
                ring.sort_unstable();
                let before = ring.iter().map(|(at, _)| *at);
                let first = ring.last().map_or(0, |(at, _)| *at);
                let starts = std::iter::once(first).chain(before);
                let owned = starts.zip(&ring).filter(|(_, (_, pod))| *pod == 0);
                owned.map(|(start, (at, _))| at.wrapping_sub(start) as f64).sum::<f64>() / 2_f64.powi(64)
            })
            .collect();
        let mean = shares.iter().sum::<f64>() / f64::from(rings);
        let deviation = (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / f64::from(rings)).sqrt();
        let expected = (2.0 / 9.0 / (3.0 * points as f64 + 1.0)).sqrt();
        assert!((mean - 1.0 / 3.0).abs() < 0.003, "{mean}");
        assert!((deviation / expected - 1.0).abs() < 0.15, "{deviation} {expected}");
    }

    /// Splitmix64.
    fn fastrand_like(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }
}
