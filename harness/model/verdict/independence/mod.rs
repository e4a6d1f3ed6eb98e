mod dispersion;
mod findings;
#[cfg(test)]
mod tests;

use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal};

use dispersion::{Dispersion, RunsTest};
pub use findings::{CALIBRATION_ALARM, FOUND, Findings, TestResult};
use findings::{EACH, REFUSED, SPREAD};

use super::binomial::two_sided_chance;
use super::search::bisect;
use crate::scenario::{ErrorProbability, Share};

/// The sizes of the blocks of successive answers whose variance is tested.
const BLOCKS: [u64; 7] = [2, 4, 8, 16, 32, 64, 100];
/// A connection with fewer requests is ignored.
const LEAST_OF_A_CONNECTION: u64 = 10;

/// Tests over many samples of a split route: whether every request is routed independently with the claimed share.
#[derive(Debug, Clone, PartialEq)]
pub struct Independence {
    share: f64,
    /// The type I error of a sample's verdict.
    false_alarm: ErrorProbability,
    samples: u64,
    refused: u64,
    requests: u64,
    hits: u64,
    spread: Dispersion,
    blocks: Vec<(u64, Dispersion)>,
    runs: RunsTest,
    connections: Dispersion,
}

/// The smallest effects that a calibration detects with a probability of [`FOUND`], as fractions; none if there are too few samples to detect
/// any.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Power {
    /// A constant deviation of the share in all samples.
    pub shift: Option<f64>,
    /// The standard deviation of a share that changes between samples.
    pub movement: Option<f64>,
    /// The amplitude of a share that oscillates within a sample, with a period that is long compared with 100 answers.
    pub swing: Option<f64>,
    /// The probability that an answer repeats the previous one.
    pub repeats: Option<f64>,
    /// The probability that an answer repeats the one eight answers before.
    pub repeats_of_eighth: Option<f64>,
}

impl Independence {
    /// Tests without samples, for a share strictly between 0 and 1 and verdicts with this type I error.
    pub fn new(share: Share, false_alarm: ErrorProbability) -> Self {
        let share = share.fraction();
        Self {
            share,
            false_alarm,
            samples: 0,
            refused: 0,
            requests: 0,
            hits: 0,
            spread: Dispersion::new(share),
            blocks: BLOCKS.map(|size| (size, Dispersion::new(share))).to_vec(),
            runs: RunsTest::default(),
            connections: Dispersion::new(share),
        }
    }

    /// Adds a sample: for each answer, in the order of sending, whether it counts; for each connection, its number of requests and of hits; and
    /// whether the verdict failed.
    pub fn add(&mut self, answers: &[bool], connections: &[(u64, u64)], refused: bool) {
        let count = |answers: &[bool]| answers.iter().filter(|hit| **hit).count() as u64;
        let (requests, hits) = (answers.len() as u64, count(answers));
        self.samples += 1;
        self.refused += u64::from(refused);
        self.requests += requests;
        self.hits += hits;
        self.spread.add(requests, hits);
        for (size, blocks) in &mut self.blocks {
            let whole = answers.chunks_exact(usize::try_from(*size).unwrap_or(usize::MAX));
            // a single block is nearly the whole sample, which the spread tests
            if whole.len() > 1 {
                whole.for_each(|block| blocks.add(*size, count(block)));
            }
        }
        self.runs.add(answers);
        for (requests, hits) in connections.iter().filter(|(requests, _)| *requests >= LEAST_OF_A_CONNECTION) {
            self.connections.add(*requests, *hits);
        }
    }

    /// The number of samples.
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// The share of all answers that count.
    pub fn seen(&self) -> f64 {
        self.hits as f64 / self.requests.max(1) as f64
    }

    /// The results of the tests.
    pub fn findings(&self) -> Findings {
        let blocks = self.blocks.iter().map(|(size, blocks)| (blocks.chance(), *size));
        let (least, block) = blocks.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or((1.0, 0));
        let at = |part: f64, chance: f64| TestResult { chance, level: part * CALIBRATION_ALARM };
        Findings {
            mean: at(
                EACH,
                if self.requests == 0 { 1.0 } else { two_sided_chance(self.requests, self.hits, self.share) },
            ),
            spread: at(SPREAD, self.spread.chance()),
            // the smallest of several p-values, with Bonferroni's correction
            blocks: at(EACH, (least * self.sizes()).min(1.0)),
            block,
            order: at(EACH, self.runs.chance()),
            excess_runs: self.runs.deviations(),
            connections: at(EACH, self.connections.chance()),
            refused: self.refused,
            refusable: self.refusable(),
        }
    }
    fn sizes(&self) -> f64 {
        self.blocks.len() as f64
    }

    /// The largest number of failed verdicts that is not significant.
    fn refusable(&self) -> u64 {
        let Ok(law) = Binomial::new(self.false_alarm.value(), self.samples) else { return 0 };
        (0..self.samples).find(|refused| law.sf(*refused) <= REFUSED * CALIBRATION_ALARM).unwrap_or(self.samples)
    }

    /// The power of the tests with these samples.
    pub fn power(&self) -> Power {
        let Ok(normal) = Normal::new(0.0, 1.0) else { return Power::default() };
        let all = self.requests as f64;
        if self.requests == 0 {
            return Power::default();
        }
        let one = self.share * (1.0 - self.share);
        let level = EACH * CALIBRATION_ALARM;
        let deviations = normal.inverse_cdf(1.0 - level / 2.0) + normal.inverse_cdf(FOUND);
        let n = all / self.samples as f64;
        // the variance of n requests with a share of standard deviation σ is n p q + n (n - 1) σ²
        let moved = |factor: f64, n: f64| ((factor - 1.0) * one / (n - 1.0)).sqrt();
        let blocks: Vec<(f64, f64)> = self
            .blocks
            .iter()
            .filter_map(|(size, blocks)| Some((*size as f64, blocks.detectable(level / self.sizes())?)))
            .collect();
        let least = |values: &mut dyn Iterator<Item = f64>| values.min_by(f64::total_cmp);
        let within = |fraction: f64| (fraction < 1.0).then_some(fraction);
        Power {
            shift: Some(deviations * (one / all).sqrt()),
            movement: self
                .spread
                .detectable(SPREAD * CALIBRATION_ALARM)
                .map(|factor| moved(factor, n))
                .and_then(within),
            // a sine of amplitude a has a variance of a²/2
            swing: least(&mut blocks.iter().map(|(size, factor)| moved(*factor, *size) * std::f64::consts::SQRT_2))
                .and_then(within),
            repeats: (self.runs.variance > 0.0).then_some(deviations / all.sqrt()).and_then(within),
            repeats_of_eighth: least(&mut blocks.iter().filter_map(|(size, factor)| repeats(8.0, *size, *factor))),
        }
    }
}

/// The probability of repeating the answer `lag` answers before at which the variance of a block grows by this factor.
fn repeats(lag: f64, size: f64, factor: f64) -> Option<f64> {
    // the correlation of answers j lags apart is the jth power of the probability
    let larger = |chance: f64| {
        let lags = (1..).map(|j| (f64::from(j), size - f64::from(j) * lag)).take_while(|(_, pairs)| *pairs > 0.0);
        1.0 + 2.0 * lags.map(|(j, pairs)| pairs / size * chance.powf(j)).sum::<f64>()
    };
    (larger(1.0) >= factor).then(|| bisect(0.0, 1.0, 40, |chance| larger(chance) >= factor).1)
}
