/// The type I error of a calibration: the probability that [`Findings::independent`] is false although every request is routed independently
/// with the claimed share.
pub const CALIBRATION_ALARM: f64 = 1e-4;
/// The part of it for failed verdicts.
pub(super) const REFUSED: f64 = 0.4;
/// The part for the spread of the samples. It is larger than the others, since shares that change between samples harm verdicts most.
pub(super) const SPREAD: f64 = 0.2;
/// The part for each of the four other tests: mean, blocks, order and connections.
pub(super) const EACH: f64 = 0.1;
/// The probability with which a calibration detects the effects in [`Power`](super::Power).
pub const FOUND: f64 = 0.99;

/// The result of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestResult {
    /// The p-value if requests are routed independently.
    pub chance: f64,
    /// The type I error of the test.
    pub level: f64,
}

impl TestResult {
    /// Whether the test finds no evidence against independent requests.
    pub fn passes(self) -> bool {
        self.chance >= self.level
    }
}

/// The results of all tests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Findings {
    /// The share of all samples together: an exact two-sided binomial test.
    pub mean: TestResult,
    /// The variance of the counts of samples, two-sided.
    pub spread: TestResult,
    /// The variances of the counts of blocks of 2 to 100 successive answers, two-sided.
    pub blocks: TestResult,
    /// The block size with the smallest p-value.
    pub block: u64,
    /// The number of runs in the order of sending.
    pub order: TestResult,
    /// The excess of runs, in standard deviations; negative for too few runs.
    pub excess_runs: f64,
    /// The variance of the counts of connections.
    pub connections: TestResult,
    /// The number of samples whose verdict failed.
    pub refused: u64,
    /// The number of samples that may fail; for 40 samples at a type I error of 10⁻⁶ none.
    pub refusable: u64,
}

impl Findings {
    /// Whether the number of failed verdicts is within its limit.
    pub const fn verdicts_pass(&self) -> bool {
        self.refused <= self.refusable
    }

    /// Whether there is no evidence against independent routing with the claimed share. The type I error is at most [`CALIBRATION_ALARM`]: 40 %
    /// of it for failed verdicts, 20 % for the spread of the samples, 10 % for each of the other tests.
    pub fn independent(&self) -> bool {
        let tests = [self.mean, self.spread, self.blocks, self.order, self.connections];
        self.verdicts_pass() && tests.into_iter().all(TestResult::passes)
    }
}
