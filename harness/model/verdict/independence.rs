use std::collections::BTreeMap;

use statrs::distribution::{Binomial, ChiSquared, ContinuousCDF, DiscreteCDF, Normal};
use statrs::function::erf::erfc;

use super::binomial::two_sided_chance;
use super::scores::{ScoreSum, squares};

/// The chance with which [`Findings::independent`] is false although every request is routed independently with the claimed share.
pub const CALIBRATION_ALARM: f64 = 1e-4;
/// The part of it that refused samples take.
const REFUSED: f64 = 0.4;
/// The part that the spread of the samples takes; shares that move between samples are what ruins verdicts most.
const SPREAD: f64 = 0.2;
/// The part that each of the four other tests takes: mean, blocks, order and connections.
const EACH: f64 = 0.1;
/// The sizes of the blocks of successive answers whose variance is tested.
const BLOCKS: [u64; 7] = [2, 4, 8, 16, 32, 64, 100];
/// A sample with fewer hits, or fewer misses, says nothing about runs: their number is far from normal then.
const LEAST_FOR_RUNS: f64 = 10.0;
/// A connection with fewer requests is left out.
const LEAST_OF_A_CONNECTION: u64 = 10;
/// The chance with which what [`Power`] names is found.
pub const FOUND: f64 = 0.99;

/// Whether successive answers of a sample depend on each other, over several samples: too few runs of one version mean that answers
/// stick together, too many that versions take turns. (Wald and Wolfowitz 1940; conditional on the counts.)
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RunsTest {
    excess: f64,
    variance: f64,
}

impl RunsTest {
    /// Takes one sample: for each answer, in the order of sending, whether it came from the version that is looked at. A sample with
    /// fewer than ten hits or misses is left out.
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
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

/// Whether counts of hits in groups of requests vary as independent requests with the claimed share do: the sum of their squared
/// deviations, each divided by its exact variance, against the exact law of such sums, on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispersion {
    share: f64,
    sum: f64,
    /// How many groups there are of each number of requests.
    sizes: BTreeMap<u64, u64>,
}

impl Dispersion {
    /// No groups yet, of requests that count with this chance each, strictly between 0 and 1.
    #[must_use]
    pub const fn new(share: f64) -> Self {
        Self { share, sum: 0.0, sizes: BTreeMap::new() }
    }

    /// Takes a group of so many requests with so many hits; one without requests is left out.
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
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

    /// The chance of a dispersion as far from the expected one on either side; 1 for no groups.
    #[must_use]
    pub fn chance(&self) -> f64 {
        if self.sizes.is_empty() { 1.0 } else { self.law().chance(self.sum) }
    }

    /// The smallest factor by which the variances of all groups have to be larger for [`chance`](Self::chance) to fall below this level in 99 of
    /// 100 cases; none for no groups.
    #[expect(clippy::cast_precision_loss, reason = "a number of groups is far below 2^52")]
    fn detectable(&self, level: f64) -> Option<f64> {
        let groups = self.sizes.values().sum::<u64>();
        let law = ChiSquared::new(groups as f64).ok()?;
        Some(self.law().exceeded(level / 2.0) / law.inverse_cdf(1.0 - FOUND))
    }
}

/// Many samples of one route that should split as claimed, tested for whether every request is routed independently with the claimed share.
#[derive(Debug, Clone, PartialEq)]
pub struct Independence {
    share: f64,
    /// The type I error of a sample's verdict.
    false_alarm: f64,
    samples: u64,
    refused: u64,
    requests: u64,
    hits: u64,
    spread: Dispersion,
    blocks: Vec<(u64, Dispersion)>,
    runs: RunsTest,
    connections: Dispersion,
}

/// What the tests of many samples say: for each the chance of what was seen, or worse, if requests are routed independently.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Findings {
    /// The share of all samples together: exact binomial test, two-sided.
    pub mean: f64,
    /// The variance of the samples' counts, too large or too small.
    pub spread: f64,
    /// The variances of blocks of 2 to 100 successive answers, too large or too small.
    pub blocks: f64,
    /// The size of the blocks whose variance is the least likely.
    pub block: u64,
    /// The number of runs in the order of sending.
    pub order: f64,
    /// By how many standard deviations there were too many runs (above 0) or too few.
    pub excess_runs: f64,
    /// The variance of the counts of connections.
    pub connections: f64,
    /// How many samples a verdict refused.
    pub refused: u64,
    /// How many may be refused; for 40 samples at a type I error of 10⁻⁶ none.
    pub refusable: u64,
}

impl Findings {
    /// Whether the test of the mean passes.
    #[must_use]
    pub fn mean_passes(&self) -> bool {
        self.mean >= EACH * CALIBRATION_ALARM
    }

    /// Whether the test of the spread of the samples passes.
    #[must_use]
    pub fn spread_passes(&self) -> bool {
        self.spread >= SPREAD * CALIBRATION_ALARM
    }

    /// Whether the test of the variances of blocks passes.
    #[must_use]
    pub fn blocks_pass(&self) -> bool {
        self.blocks >= EACH * CALIBRATION_ALARM
    }

    /// Whether the test of the order passes.
    #[must_use]
    pub fn order_passes(&self) -> bool {
        self.order >= EACH * CALIBRATION_ALARM
    }

    /// Whether the test of the connections passes.
    #[must_use]
    pub fn connections_pass(&self) -> bool {
        self.connections >= EACH * CALIBRATION_ALARM
    }

    /// Whether no more samples were refused than may be.
    #[must_use]
    pub const fn verdicts_pass(&self) -> bool {
        self.refused <= self.refusable
    }

    /// Whether there is no evidence against requests that are routed independently with the claimed share. Wrongly false with a chance of at
    /// most [`CALIBRATION_ALARM`]: 40 % of it for refused samples, 20 % for the spread of the samples, 10 % for each of the other tests.
    #[must_use]
    pub fn independent(&self) -> bool {
        self.verdicts_pass()
            && self.mean_passes()
            && self.spread_passes()
            && self.blocks_pass()
            && self.order_passes()
            && self.connections_pass()
    }
}

/// The smallest departures from independent requests that a calibration finds with a chance of [`FOUND`], all in fractions of 1; each is
/// none where the samples are too few to find any.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Power {
    /// A share that is off by so much in all samples.
    pub shift: Option<f64>,
    /// A share that differs from sample to sample with this standard deviation.
    pub movement: Option<f64>,
    /// A share that swings within a sample by this much to either side, slowly against 100 answers.
    pub swing: Option<f64>,
    /// Answers that repeat the one before with this chance.
    pub repeats: Option<f64>,
    /// Answers that repeat the one eight before with this chance.
    pub repeats_of_eighth: Option<f64>,
}

impl Independence {
    /// No samples yet of a share strictly between 0 and 1, whose verdicts have this type I error.
    #[must_use]
    pub fn new(share: f64, false_alarm: f64) -> Self {
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

    /// Takes a sample: for each answer in the order of sending whether it counts, for each connection its requests and those that count,
    /// and whether a verdict refused the claim.
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
            // a single block is the sample itself, more or less
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
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    /// The share of all answers that count.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub fn seen(&self) -> f64 {
        self.hits as f64 / self.requests.max(1) as f64
    }

    /// What the tests say.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let blocks = self.blocks.iter().map(|(size, blocks)| (blocks.chance(), *size));
        let (least, block) = blocks.min_by(|one, other| one.0.total_cmp(&other.0)).unwrap_or((1.0, 0));
        Findings {
            mean: if self.requests == 0 { 1.0 } else { two_sided_chance(self.requests, self.hits, self.share) },
            spread: self.spread.chance(),
            // the least of several chances, by Bonferroni
            blocks: (least * self.sizes()).min(1.0),
            block,
            order: self.runs.chance(),
            excess_runs: self.runs.deviations(),
            connections: self.connections.chance(),
            refused: self.refused,
            refusable: self.refusable(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a handful of sizes")]
    fn sizes(&self) -> f64 {
        self.blocks.len() as f64
    }

    /// The number of refused samples that more than so many are with too small a chance.
    fn refusable(&self) -> u64 {
        let Ok(law) = Binomial::new(self.false_alarm.clamp(0.0, 1.0), self.samples) else { return 0 };
        (0..self.samples).find(|refused| law.sf(*refused) <= REFUSED * CALIBRATION_ALARM).unwrap_or(self.samples)
    }

    /// What these samples would have found.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
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
        // n requests with a share that moves by σ: n p q + n (n - 1) σ²
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
            // a sine of amplitude a has the variance a²/2
            swing: least(&mut blocks.iter().map(|(size, factor)| moved(*factor, *size) * std::f64::consts::SQRT_2))
                .and_then(within),
            repeats: (self.runs.variance > 0.0).then_some(deviations / all.sqrt()).and_then(within),
            repeats_of_eighth: least(&mut blocks.iter().filter_map(|(size, factor)| repeats(8.0, *size, *factor))),
        }
    }
}

/// The chance of repeating the answer so many places before that makes the variance of a block larger by this factor.
fn repeats(lag: f64, size: f64, factor: f64) -> Option<f64> {
    // answers j lags apart are correlated by the jth power of the chance
    let larger = |chance: f64| {
        let lags = (1..).map(|j| (f64::from(j), size - f64::from(j) * lag)).take_while(|(_, pairs)| *pairs > 0.0);
        1.0 + 2.0 * lags.map(|(j, pairs)| pairs / size * chance.powf(j)).sum::<f64>()
    };
    if larger(1.0) < factor {
        return None;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if larger(middle) < factor { low = middle } else { high = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SAMPLES: usize = 40;
    const REQUESTS: usize = 400;
    const CONNECTIONS: usize = 8;

    /// A calibration whose answers come from the sample, the answers before and a random number.
    fn calibrated(
        share: f64,
        seed: u64,
        mut answer: impl FnMut(usize, &[bool], &mut fastrand::Rng) -> bool,
    ) -> Independence {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut independence = Independence::new(share, 1e-6);
        for sample in 0..SAMPLES {
            let mut connections = vec![(0, 0); CONNECTIONS];
            let mut answers = Vec::with_capacity(REQUESTS);
            for n in 0..REQUESTS {
                let hit = answer(sample, &answers, &mut random);
                answers.push(hit);
                let (requests, hits) = &mut connections[n % CONNECTIONS];
                *requests += 1;
                *hits += u64::from(hit);
            }
            independence.add(&answers, &connections, false);
        }
        independence
    }

    /// How many of so many calibrations find something.
    fn found(times: u64, one: impl Fn(u64) -> Independence) -> u64 {
        (0..times).filter(|seed| !one(*seed).findings().independent()).count() as u64
    }

    fn normal(random: &mut fastrand::Rng) -> f64 {
        (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
    }

    /// A share that differs from sample to sample with this standard deviation.
    fn moving(share: f64, deviation: f64, seed: u64) -> Independence {
        let (mut at, mut now) = (usize::MAX, share);
        calibrated(share, seed, move |sample, _, random| {
            if sample != at {
                (at, now) = (sample, share + deviation * normal(random));
            }
            random.f64() < now
        })
    }

    /// Answers that repeat the one `lag` before with this chance.
    fn sticky(share: f64, lag: usize, chance: f64, seed: u64) -> Independence {
        calibrated(share, seed, |_, before, random| {
            let repeated = before.len().checked_sub(lag).filter(|_| random.f64() < chance);
            repeated.map_or_else(|| random.f64() < share, |n| before[n])
        })
    }

    /// A share that swings by this much to either side, once in a sample.
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn swinging(share: f64, swing: f64, seed: u64) -> Independence {
        calibrated(share, seed, |_, before, random| {
            let turn = before.len() as f64 / REQUESTS as f64 * std::f64::consts::TAU;
            random.f64() < share + swing * turn.sin()
        })
    }

    #[rstest]
    #[case::halves(0.5)]
    #[case::tenth(0.1)]
    #[case::hundredth(0.01)]
    fn independent_requests_are_not_denied(#[case] share: f64) {
        // a chance of 2 % at the stated 10⁻⁴
        let denied = found(200, |seed| calibrated(share, seed, |_, _, random| random.f64() < share));
        assert_eq!(denied, 0);
    }

    #[rstest]
    #[case::halves(0.5)]
    #[case::thirtieth(0.03)]
    #[case::hundredth(0.01)]
    fn each_test_keeps_its_chance(#[case] share: f64) {
        const TIMES: u64 = 400;
        let mut below = [0_u64; 5];
        for seed in 0..TIMES {
            let findings = calibrated(share, seed, |_, _, random| random.f64() < share).findings();
            let chances = [findings.mean, findings.spread, findings.blocks, findings.order, findings.connections];
            for (below, chance) in below.iter_mut().zip(chances) {
                *below += u64::from(chance < 0.02);
            }
        }
        // 8 are due at the most; 21 or more come with a chance of 10⁻⁴
        for (test, below) in ["mean", "spread", "blocks", "order", "connections"].iter().zip(below) {
            assert!(below <= 20, "{test}: {below} of {TIMES} below 2 %");
        }
    }

    #[test]
    fn a_share_that_moves_by_three_points_between_samples_is_found_more_often_than_not() {
        // found by the spread alone with 63 % at a level of 3.3 · 10⁻⁵, and refused verdicts come to it; Kolmogorov's test found 0.3 %
        let found = found(100, |seed| moving(0.5, 0.03, seed));
        assert!(found >= 45, "{found} of 100");
    }

    #[test]
    fn answers_that_repeat_the_eighth_before_are_found() {
        assert_eq!(found(30, |seed| sticky(0.5, 8, 0.4, seed)), 30);
    }

    #[test]
    fn a_share_that_swings_by_ten_points_within_a_sample_is_found() {
        assert_eq!(found(30, |seed| swinging(0.5, 0.10, seed)), 30);
    }

    #[test]
    fn answers_that_stick_together_or_take_turns_are_found() {
        let stick = sticky(0.5, 1, 0.9, 1).findings();
        assert!(!stick.order_passes() && stick.excess_runs < 0.0, "{stick:?}");
        let turns = calibrated(0.5, 1, |_, before, _| before.len() % 2 == 0).findings();
        assert!(!turns.order_passes() && turns.excess_runs > 0.0, "{turns:?}");
        // counts that are more even than chance makes them
        assert!(!turns.spread_passes() && !turns.blocks_pass(), "{turns:?}");
    }

    #[test]
    fn connections_that_keep_their_version_are_found_however_even_they_are() {
        let kept = calibrated(0.5, 1, |_, before, _| before.len() % CONNECTIONS < CONNECTIONS / 2).findings();
        assert!(!kept.connections_pass() && kept.connections < 1e-12, "{kept:?}");
    }

    #[test]
    fn a_share_that_is_off_and_samples_of_one_version_each_are_found() {
        let off = calibrated(0.5, 1, |_, _, random| random.f64() < 0.55).findings();
        assert!(!off.mean_passes() && off.mean < 1e-6, "{off:?}");
        let whole = calibrated(0.5, 1, |sample, _, _| sample % 2 == 0).findings();
        assert!(!whole.spread_passes() && whole.mean_passes(), "{whole:?}");
    }

    #[rstest]
    #[case::halves(0.5)]
    #[case::tenth(0.1)]
    fn what_the_power_names_is_found(#[case] share: f64) {
        let power = calibrated(share, 0, |_, _, random| random.f64() < share).power();
        let name = |what: &str, size: Option<f64>| {
            let size = size.unwrap_or_else(|| panic!("no {what} would be found"));
            assert!(0.0 < size && size < 0.5, "{what}: {size}");
            size
        };
        let shift = name("shift", power.shift);
        let movement = name("movement", power.movement);
        let swing = name("swing", power.swing);
        let repeats = name("repeats", power.repeats);
        let eighth = name("repeats of the eighth", power.repeats_of_eighth);
        // 99 % of 50, but for chance: fewer than 45 come with a chance of 10⁻⁵
        let enough =
            |what: &str, found: u64| assert!(found >= 45, "{what}: {found} of 50 at a share of {share}: {power:?}");
        enough("shift", found(50, |seed| calibrated(share, seed, |_, _, random| random.f64() < share + shift)));
        enough("movement", found(50, |seed| moving(share, movement, seed)));
        enough("swing", found(50, |seed| swinging(share, swing, seed)));
        enough("repeats", found(50, |seed| sticky(share, 1, repeats, seed)));
        enough("repeats of the eighth", found(50, |seed| sticky(share, 8, eighth, seed)));
        // and what is much smaller is not: the power says something
        assert!(found(50, |seed| moving(share, movement / 4.0, seed)) < 25);
    }

    #[rstest]
    #[case::none(40, 1e-6, 0)]
    #[case::a_large_error(40, 1e-2, 5)]
    fn as_many_refused_samples_are_allowed_as_the_errors_of_verdicts_explain(
        #[case] samples: u64,
        #[case] false_alarm: f64,
        #[case] refusable: u64,
    ) {
        let after = |refused: u64| {
            let mut independence = Independence::new(0.5, false_alarm);
            (0..samples).for_each(|sample| independence.add(&[true, false], &[], sample < refused));
            independence.findings()
        };
        assert_eq!(after(0).refusable, refusable);
        assert!(after(refusable).verdicts_pass() && !after(refusable + 1).verdicts_pass());
    }

    #[test]
    fn nothing_seen_tells_nothing() {
        let nothing = Independence::new(0.5, 1e-6);
        assert!(nothing.findings().independent());
        assert_eq!(nothing.power(), Power::default());
        let mut runs = RunsTest::default();
        runs.add(&[true; 30]);
        assert!((runs.chance() - 1.0).abs() < 1e-12);
    }
}
