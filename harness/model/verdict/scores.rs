use std::f64::consts::{PI, SQRT_2};

use statrs::distribution::{Binomial, Discrete};
use statrs::function::erf::erfc;

use super::search::bisect;

/// Values with a smaller probability are left out of a distribution.
const NEGLIGIBLE: f64 = 1e-18;
/// The largest number of steps in the search for the saddlepoint.
const STEPS: usize = 60;

/// The distribution of a sum of independent scores, each of which takes finitely many values.
///
/// The tails come from the exact cumulants of the scores by the saddlepoint formula of Lugannani and Rice (1980), which is accurate far from the
/// mean and for skewed scores, where a normal approximation is not.
#[derive(Debug, Clone, Default)]
pub(super) struct ScoreSum {
    groups: Vec<Group>,
}

/// Scores with the same distribution: its values with their probabilities, and the number of scores.
#[derive(Debug, Clone)]
struct Group {
    values: Vec<(f64, f64)>,
    times: f64,
}

impl Group {
    /// The cumulant generating function at θ with its first two derivatives.
    fn cumulants(&self, theta: f64) -> [f64; 3] {
        // the largest exponent is factored out to prevent overflow
        let exponent = |(value, _): &(f64, f64)| theta * value;
        let largest = self.values.iter().map(exponent).fold(f64::NEG_INFINITY, f64::max);
        let mut sums = [0.0; 3];
        for (value, chance) in &self.values {
            let weight = chance * (theta * value - largest).exp();
            sums[0] += weight;
            sums[1] += weight * value;
            sums[2] += weight * value * value;
        }
        let mean = sums[1] / sums[0];
        [
            self.times * (sums[0].ln() + largest),
            self.times * mean,
            self.times * (sums[2] / sums[0] - mean * mean).max(0.0),
        ]
    }
}

impl ScoreSum {
    /// Adds scores, each with these values and their probabilities.
    pub fn add(&mut self, values: Vec<(f64, f64)>, times: u64) {
        self.groups.push(Group { values, times: times as f64 });
    }

    fn cumulants(&self, theta: f64) -> [f64; 3] {
        self.groups.iter().fold([0.0; 3], |sum, group| {
            let next = group.cumulants(theta);
            [sum[0] + next[0], sum[1] + next[1], sum[2] + next[2]]
        })
    }

    /// The probability of the smaller tail: of at least `sum`, or of at most `sum`; and whether it is the upper tail.
    fn tail(&self, sum: f64) -> (f64, bool) {
        let [_, mean, variance] = self.cumulants(0.0);
        if variance <= 0.0 {
            return (1.0, true);
        }
        let upper = sum > mean;
        let deviations = (sum - mean) / variance.sqrt();
        if deviations.abs() < 0.1 {
            // near the mean the formula divides 0 by 0, and the normal distribution is accurate enough
            return (erfc(deviations.abs() / SQRT_2) / 2.0, upper);
        }
        // K'(θ) increases from the smallest sum to the largest: a search within brackets that grow until they contain it
        let (mut low, mut high) = if upper { (0.0, f64::INFINITY) } else { (f64::NEG_INFINITY, 0.0) };
        let mut theta = (sum - mean) / variance;
        let mut found = None;
        for _ in 0..STEPS {
            let [value, slope, curve] = self.cumulants(theta);
            if (slope - sum).abs() < 1e-6 * variance.sqrt() {
                found = Some((value, curve));
                break;
            }
            if slope < sum {
                low = theta;
            } else {
                high = theta;
            }
            let newton = theta + (sum - slope) / curve.max(f64::MIN_POSITIVE);
            let bisected = match (low.is_finite(), high.is_finite()) {
                (true, true) => f64::midpoint(low, high),
                _ => 2.0 * theta,
            };
            theta = if low < newton && newton < high && newton.abs() < 4.0 * theta.abs() { newton } else { bisected };
        }
        // no θ reaches the smallest or the largest possible sum
        let Some((value, curve)) = found else { return (0.0, upper) };
        let w = theta.signum() * (2.0 * (theta * sum - value)).max(0.0).sqrt();
        let u = theta * curve.sqrt();
        let density = (-w * w / 2.0).exp() / (2.0 * PI).sqrt();
        let above = erfc(w / SQRT_2) / 2.0 + density * (1.0 / u - 1.0 / w);
        let below = erfc(-w / SQRT_2) / 2.0 - density * (1.0 / u - 1.0 / w);
        // Chernoff's bound, also for the smallest and the largest possible sum, where the formula has no value
        let bound = (-w * w / 2.0).exp();
        let chance = if upper { above } else { below };
        (if chance.is_finite() { chance.clamp(0.0, bound) } else { bound }, upper)
    }

    /// The two-sided p-value of a sum.
    pub fn chance(&self, sum: f64) -> f64 {
        (2.0 * self.tail(sum).0).min(1.0)
    }

    /// The sum that is exceeded with this probability, which is below one half.
    pub fn exceeded(&self, chance: f64) -> f64 {
        let [_, mean, variance] = self.cumulants(0.0);
        let mut high = mean + variance.sqrt();
        while self.tail(high).0 > chance && high < mean + 1e6 * variance.sqrt() {
            high += high - mean;
        }
        bisect(mean, high, 40, |sum| self.tail(sum).0 <= chance).1
    }
}

/// The distribution of the squared deviation of a binomial count from its mean, divided by its variance: values with their probabilities.
pub(super) fn squares(n: u64, share: f64) -> Vec<(f64, f64)> {
    let (mean, variance) = (n as f64 * share, n as f64 * share * (1.0 - share));
    let Ok(law) = Binomial::new(share.clamp(0.0, 1.0), n) else { return Vec::new() };
    let values = (0..=n).map(|count| ((count as f64 - mean).powi(2) / variance, law.pmf(count)));
    values.filter(|(_, chance)| *chance > NEGLIGIBLE).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use statrs::distribution::{ChiSquared, ContinuousCDF};

    use super::*;

    /// The law of a sum of whole scores by convolution.
    fn exactly(law: &[(u32, f64)], times: usize) -> Vec<f64> {
        let mut sum = vec![1.0];
        for _ in 0..times {
            let largest = law.iter().map(|(value, _)| *value as usize).max().unwrap();
            let mut next = vec![0.0; sum.len() + largest];
            for (at, chance) in sum.iter().enumerate() {
                for (value, own) in law {
                    next[at + *value as usize] += chance * own;
                }
            }
            sum = next;
        }
        sum
    }

    #[rstest]
    #[case::binomial(&[(0, 0.7), (1, 0.3)], 200)]
    #[case::skewed(&[(0, 0.9), (1, 0.07), (4, 0.02), (9, 0.01)], 100)]
    #[case::few(&[(0, 0.2), (1, 0.3), (4, 0.3), (9, 0.2)], 20)]
    fn tails_are_those_of_the_convolution(#[case] law: &[(u32, f64)], #[case] times: usize) {
        let exact = exactly(law, times);
        let mut sums = ScoreSum::default();
        sums.add(law.iter().map(|(value, chance)| (f64::from(*value), *chance)).collect(), times as u64);
        let mean: f64 =
            exact.iter().enumerate().map(|(sum, chance)| f64::from(u32::try_from(sum).unwrap()) * chance).sum();
        let mut compared = 0;
        // but for the least sum, where there is only a bound
        for sum in 1..exact.len() {
            let at = f64::from(u32::try_from(sum).unwrap());
            // half of the chance of the sum itself, as for a law without steps
            let outside: f64 = if at > mean { exact[sum + 1..].iter().sum() } else { exact[..sum].iter().sum() };
            let within = outside + exact[sum] / 2.0;
            if (1e-7..0.2).contains(&within) {
                let found = sums.tail(at).0;
                assert!((found / within - 1.0).abs() < 0.25, "{found:e} where {within:e} is exact, a sum of {sum}");
                compared += 1;
            }
        }
        assert!(compared > 10, "{compared}");
    }

    #[test]
    fn squares_of_large_counts_are_chi_squared() {
        let mut sums = ScoreSum::default();
        sums.add(squares(4000, 0.5), 40);
        let law = ChiSquared::new(40.0).unwrap();
        for sum in [15.0, 20.0, 60.0, 80.0, 95.0_f64] {
            let expected = law.sf(sum).min(law.cdf(sum));
            assert!((sums.tail(sum).0 / expected - 1.0).abs() < 0.03, "{sum}");
        }
        let limit = sums.exceeded(1e-5);
        assert!((law.sf(limit) / 1e-5 - 1.0).abs() < 0.05, "{limit}");
    }

    #[test]
    fn the_largest_sum_has_its_chance() {
        let mut sums = ScoreSum::default();
        sums.add(vec![(0.0, 0.5), (1.0, 0.5)], 60);
        let found = sums.tail(60.0).0;
        assert!((found * 2_f64.powi(60) - 1.0).abs() < 0.05, "{found:e}");
    }

    #[test]
    fn what_cannot_be_has_no_chance_and_what_must_be_has_all() {
        let mut sums = ScoreSum::default();
        sums.add(vec![(0.0, 0.5), (1.0, 0.5)], 10);
        assert!(sums.chance(11.0) < 1e-12 && sums.chance(-1.0) < 1e-12);
        assert!((sums.chance(5.0) - 1.0).abs() < 1e-12);
        let mut certain = ScoreSum::default();
        certain.add(vec![(2.0, 1.0)], 10);
        assert!((certain.chance(20.0) - 1.0).abs() < 1e-12);
        assert!((ScoreSum::default().chance(0.0) - 1.0).abs() < 1e-12);
    }
}
