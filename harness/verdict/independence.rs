use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, Discrete, DiscreteCDF};
use statrs::function::erf::erfc;

/// The distribution function of a count under its claimed share, made continuous: uniform between 0 and 1 if the share is right and
/// the requests are independent.
///
/// A count is discrete, so that `P(S < s) + u P(S = s)` is taken, with the `index`th point u of the golden-ratio sequence: chosen
/// without a look at the data, and the same at every reading of it.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
pub fn randomised_p(n: u64, count: u64, share: f64, index: usize) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let within = ((index as f64 + 0.5) * GOLDEN).fract();
    let Ok(law) = Binomial::new(share.clamp(0.0, 1.0), n) else { return f64::NAN };
    let below = if count == 0 { 0.0 } else { law.cdf(count - 1) };
    within.mul_add(law.pmf(count), below).clamp(0.0, 1.0)
}

/// The chance that this many values, if they are uniform between 0 and 1, lie as far from an even spread as these do: Kolmogorov's
/// test, with Stephens' correction for a finite number of values (1970). 1 for no values.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a handful of samples")]
pub fn uniform_chance(values: &[f64]) -> f64 {
    if values.is_empty() {
        return 1.0;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let distance = sorted
        .iter()
        .enumerate()
        .map(|(index, value)| (value - index as f64 / n).max((index as f64 + 1.0) / n - value))
        .fold(0.0, f64::max);
    let scaled = (n.sqrt() + 0.12 + 0.11 / n.sqrt()) * distance;
    if scaled < 0.3 {
        // the series needs too many terms there, and the chance is 1 to five digits
        return 1.0;
    }
    let terms = (1..=100_i32).map(|j| {
        let sign = if j % 2 == 1 { 1.0 } else { -1.0 };
        sign * (-2.0 * f64::from(j * j) * scaled * scaled).exp()
    });
    (2.0 * terms.sum::<f64>()).clamp(0.0, 1.0)
}

/// Whether successive answers of a sample depend on each other, over several samples: too few runs of one version mean that answers
/// stick together, too many that versions take turns. (Wald and Wolfowitz 1940; conditional on the counts.)
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunsTest {
    excess: f64,
    variance: f64,
}

impl RunsTest {
    /// Takes one sample: for each answer, in the order of sending, whether it came from the version that is looked at.
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub fn add(&mut self, answers: &[bool]) {
        let hits = answers.iter().filter(|hit| **hit).count() as f64;
        let n = answers.len() as f64;
        let misses = n - hits;
        if hits < 1.0 || misses < 1.0 || n < 3.0 {
            return;
        }
        let runs = 1 + answers.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let mean = 2.0 * hits * misses / n + 1.0;
        self.excess += runs as f64 - mean;
        self.variance += (mean - 1.0) * (mean - 2.0) / (n - 1.0);
    }

    /// How many standard deviations there are too many runs (above 0) or too few.
    #[must_use]
    pub fn deviations(&self) -> f64 {
        if self.variance > 0.0 { self.excess / self.variance.sqrt() } else { 0.0 }
    }

    /// The chance of so many or so few runs if the answers are independent.
    #[must_use]
    pub fn chance(&self) -> f64 {
        erfc(self.deviations().abs() / std::f64::consts::SQRT_2)
    }
}

/// Whether the version depends on the connection, over several samples: Pearson's test that all connections of a sample see the same
/// share.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Homogeneity {
    statistic: f64,
    freedom: f64,
}

impl Homogeneity {
    /// Takes one sample: for each connection the number of its requests and of those that the version answered.
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub fn add(&mut self, connections: &[(u64, u64)]) {
        // Pearson's approximation wants a handful of each kind
        let used: Vec<(f64, f64)> =
            connections.iter().filter(|(n, _)| *n >= 10).map(|(n, hits)| (*n as f64, *hits as f64)).collect();
        let (n, hits) = used.iter().fold((0.0, 0.0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        let share = hits / f64::max(n, 1.0);
        if used.len() < 2 || share <= 0.0 || share >= 1.0 {
            return;
        }
        self.statistic +=
            used.iter().map(|(n, hits)| (hits - n * share).powi(2) / (n * share * (1.0 - share))).sum::<f64>();
        self.freedom += used.len() as f64 - 1.0;
    }

    /// The chance of connections this different if all see the same share.
    #[must_use]
    pub fn chance(&self) -> f64 {
        ChiSquared::new(self.freedom).map_or(1.0, |law| law.sf(self.statistic))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn counts_under_their_claim_are_uniform_and_others_are_not() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut values = |share: f64| -> Vec<f64> {
            (0..400)
                .map(|index| {
                    let count = (0..300).filter(|_| random.f64() < share).count();
                    randomised_p(300, count as u64, 0.5, index)
                })
                .collect()
        };
        assert!(uniform_chance(&values(0.5)) > 0.01);
        assert!(uniform_chance(&values(0.54)) < 1e-6);
    }

    #[test]
    fn the_test_of_uniformity_keeps_its_chance() {
        let mut random = fastrand::Rng::with_seed(2);
        let below = (0..4000)
            .filter(|_| uniform_chance(&std::iter::repeat_with(|| random.f64()).take(40).collect::<Vec<_>>()) < 0.05)
            .count();
        assert!((130..270).contains(&below), "{below} of 4000 where 200 are due");
    }

    /// Tabulated for 40 values: 5 % beyond 0.210, 1 % beyond 0.252.
    #[rstest]
    #[case(0.210, 0.05)]
    #[case(0.252, 0.01)]
    fn kolmogorovs_table_is_met(#[case] distance: f64, #[case] chance: f64) {
        // evenly spread values, moved up by so much that the largest distance is the one asked for
        let values: Vec<f64> = (0..40).map(|n| f64::from(n) / 40.0 * (1.0 - distance) + distance).collect();
        let found = uniform_chance(&values);
        assert!((found / chance - 1.0).abs() < 0.1, "{found}");
    }

    #[test]
    fn independent_answers_have_their_runs_and_dependent_ones_do_not() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut free = RunsTest::default();
        let mut sticky = RunsTest::default();
        let mut turns = RunsTest::default();
        for _ in 0..40 {
            free.add(&std::iter::repeat_with(|| random.bool()).take(300).collect::<Vec<_>>());
            let mut last = false;
            let stick = std::iter::repeat_with(|| {
                last = if random.f64() < 0.1 { random.bool() } else { last };
                last
            });
            sticky.add(&stick.take(300).collect::<Vec<_>>());
            turns.add(&(0..300).map(|n| n % 2 == 0).collect::<Vec<_>>());
        }
        assert!(free.chance() > 0.01, "{}", free.chance());
        assert!(sticky.chance() < 1e-12 && sticky.deviations() < 0.0);
        assert!(turns.chance() < 1e-12 && turns.deviations() > 0.0);
    }

    #[test]
    fn the_runs_test_keeps_its_chance() {
        let mut random = fastrand::Rng::with_seed(4);
        let below = (0..4000)
            .filter(|_| {
                let mut runs = RunsTest::default();
                runs.add(&std::iter::repeat_with(|| random.f64() < 0.3).take(400).collect::<Vec<_>>());
                runs.chance() < 0.05
            })
            .count();
        assert!((130..270).contains(&below), "{below} of 4000 where 200 are due");
    }

    #[test]
    fn connections_that_stick_to_a_version_are_told_from_those_that_do_not() {
        let mut random = fastrand::Rng::with_seed(5);
        let (mut free, mut stuck) = (Homogeneity::default(), Homogeneity::default());
        for _ in 0..40 {
            let mut connection = || (40, (0..40).filter(|_| random.bool()).count() as u64);
            free.add(&std::iter::repeat_with(&mut connection).take(8).collect::<Vec<_>>());
            // the total is as even as can be
            stuck.add(&(0..8).map(|n| (40, if n % 2 == 0 { 40 } else { 0 })).collect::<Vec<_>>());
        }
        assert!(free.chance() > 0.01, "{}", free.chance());
        assert!(stuck.chance() < 1e-12);
    }

    #[test]
    fn nothing_seen_tells_nothing() {
        assert_eq!(
            (uniform_chance(&[]), RunsTest::default().chance(), Homogeneity::default().chance()),
            (1.0, 1.0, 1.0)
        );
        let mut runs = RunsTest::default();
        runs.add(&[true; 30]);
        assert!((runs.chance() - 1.0).abs() < 1e-12);
    }
}
