use std::collections::BTreeMap;

use statrs::distribution::{ChiSquared, ContinuousCDF};
use statrs::function::erf::erfc;

use super::findings::FOUND;
use crate::verdict::scores::{ScoreSum, squares};

/// A sample with fewer hits, or fewer misses, is ignored: the number of its runs is far from normally distributed.
const LEAST_FOR_RUNS: f64 = 10.0;

/// A runs test of whether successive answers depend on each other, over several samples: too few runs mean that answers repeat, too many that
/// they alternate. (Wald and Wolfowitz 1940; conditional on the counts.)
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct RunsTest {
    excess: f64,
    pub variance: f64,
}

impl RunsTest {
    /// Adds a sample: for each answer, in the order of sending, whether it counts. A sample with fewer than ten hits or misses is ignored.
    pub fn add(&mut self, answers: &[bool]) {
        let hits = answers.iter().filter(|hit| **hit).count() as f64;
        let n = answers.len() as f64;
        let misses = n - hits;
        if hits < LEAST_FOR_RUNS || misses < LEAST_FOR_RUNS {
            return;
        }
        let runs = 1 + answers.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let mean = 2.0 * hits * misses / n + 1.0;
        self.excess += runs as f64 - mean;
        self.variance += (mean - 1.0) * (mean - 2.0) / (n - 1.0);
    }

    /// The excess of runs, in standard deviations; negative for too few runs.
    pub fn deviations(&self) -> f64 {
        if self.variance > 0.0 { self.excess / self.variance.sqrt() } else { 0.0 }
    }

    /// The p-value: the probability of a number of runs this extreme if answers are independent.
    pub fn chance(&self) -> f64 {
        erfc(self.deviations().abs() / std::f64::consts::SQRT_2)
    }
}

/// A two-sided test of whether the counts of hits in groups of requests vary like independent requests with the claimed share: the sum of
/// squared deviations, each divided by its exact variance, against the exact distribution of such sums.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dispersion {
    share: f64,
    sum: f64,
    /// By number of requests, the number of groups.
    sizes: BTreeMap<u64, u64>,
}

impl Dispersion {
    /// A test without groups, for requests that count with probability `share`, strictly between 0 and 1.
    pub const fn new(share: f64) -> Self {
        Self { share, sum: 0.0, sizes: BTreeMap::new() }
    }

    /// Adds a group. A group without requests is ignored.
    pub fn add(&mut self, requests: u64, hits: u64) {
        if requests > 0 {
            let n = requests as f64;
            self.sum += (hits as f64 - n * self.share).powi(2) / (n * self.share * (1.0 - self.share));
            *self.sizes.entry(requests).or_default() += 1;
        }
    }

    fn law(&self) -> ScoreSum {
        let mut law = ScoreSum::default();
        for (size, groups) in &self.sizes {
            law.add(squares(*size, self.share), *groups);
        }
        law
    }

    /// The p-value: the probability of a dispersion this extreme, on either side; 1 without groups.
    pub fn chance(&self) -> f64 {
        if self.sizes.is_empty() { 1.0 } else { self.law().chance(self.sum) }
    }

    /// The smallest factor on the variances of all groups at which [`chance`](Self::chance) is below this level with a probability of [`FOUND`];
    /// none without groups.
    pub fn detectable(&self, level: f64) -> Option<f64> {
        let groups = self.sizes.values().sum::<u64>();
        let law = ChiSquared::new(groups as f64).ok()?;
        Some(self.law().exceeded(level / 2.0) / law.inverse_cdf(1.0 - FOUND))
    }
}
