use displaydoc::Display;

/// The probability of an error, at least 10⁻¹² and below one half. A smaller one cannot be told from 0 in `1 - probability`.
///
/// ```
/// use shiftcheck_model::scenario::ErrorProbability;
///
/// assert!(ErrorProbability::new(1e-6).is_some());
/// assert!(ErrorProbability::new(0.5).is_none());
/// assert!(ErrorProbability::new(1e-300).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Display)]
#[displaydoc("{0:e}")]
pub struct ErrorProbability(f64);

impl ErrorProbability {
    /// The smallest error probability.
    pub const SMALLEST: f64 = 1e-12;

    /// An error probability; none unless it is at least [`SMALLEST`](Self::SMALLEST) and below 0.5.
    pub fn new(probability: f64) -> Option<Self> {
        (Self::SMALLEST..0.5).contains(&probability).then_some(Self(probability))
    }

    /// The probability.
    pub const fn value(self) -> f64 {
        self.0
    }

    /// The probability of each of several equal parts.
    #[must_use]
    pub fn divided_among(self, parts: u32) -> Self {
        Self(self.0 / f64::from(parts))
    }

    /// A part of the probability, as a fraction between 0 and 1.
    pub(crate) fn part(self, fraction: f64) -> Self {
        Self(fraction * self.0)
    }
}

/// A confidence level, such as 99.9 %.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Confidence(f64);

impl Confidence {
    /// The confidence of a statement that is wrong with this probability.
    pub fn of(miss: ErrorProbability) -> Self {
        Self(1.0 - miss.0)
    }

    /// The level as a fraction of 1.
    pub const fn fraction(self) -> f64 {
        self.0
    }
}

/// The error probabilities of a verdict, the effects that it has to detect, and its largest sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorRates {
    /// α: the probability that a correct route fails (type I error).
    pub false_alarm: ErrorProbability,
    /// β: the probability that a route whose share is off by δ passes (type II error).
    pub miss: ErrorProbability,
    /// δ: the detectable effect, the smallest deviation of a share that a verdict has to detect, as a fraction.
    pub deviation: f64,
    /// The leak, as a fraction, that a claim of 100 % has to exclude with a confidence of `1 - miss`.
    pub leak: f64,
    /// The largest number of requests for one claim, at most [`MAX_REQUESTS`](Self::MAX_REQUESTS). A claim that may need more is rejected.
    pub max_requests: u64,
}

impl ErrorRates {
    /// The largest number of requests that a scenario may allow for one claim: an hour at the usual rate of a driver.
    pub const MAX_REQUESTS: u64 = 10_000_000;
    /// The smallest deviation and the smallest leak that a verdict detects.
    pub const SMALLEST_EFFECT: f64 = 1e-5;

    /// The confidence of intervals and bounds: `1 - miss`.
    pub fn confidence(&self) -> Confidence {
        Confidence::of(self.miss)
    }
}

impl Default for ErrorRates {
    /// α = 10⁻⁶, β = 10⁻³, δ = 10 points, leaks below 1 %, 100,000 requests.
    fn default() -> Self {
        Self {
            false_alarm: ErrorProbability(1e-6),
            miss: ErrorProbability(1e-3),
            deviation: 0.10,
            leak: 0.01,
            max_requests: 100_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(0.0)]
    #[case(0.5)]
    #[case(-1e-9)]
    #[case(1e-13)]
    #[case(1.0)]
    #[case(f64::NAN)]
    #[case(f64::INFINITY)]
    fn only_numbers_above_zero_and_below_one_half_are_error_probabilities(#[case] probability: f64) {
        assert_eq!(ErrorProbability::new(probability), None);
    }
}
