use std::fmt;

/// The chance of an error, above 0 and below one half.
///
/// ```
/// use shiftcheck_model::scenario::Rate;
///
/// assert!(Rate::new(1e-6).is_some());
/// assert!(Rate::new(0.5).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// A rate, if the chance lies strictly between 0 and 0.5.
    #[must_use]
    pub fn new(chance: f64) -> Option<Self> {
        (chance > 0.0 && chance < 0.5).then_some(Self(chance))
    }

    /// The chance.
    #[must_use]
    pub const fn chance(self) -> f64 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:e}", self.0)
    }
}

/// The errors that a verdict may make, what it has to see, and what it may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// α: the chance that a right route is called wrong.
    pub false_alarm: Rate,
    /// β: the chance that a route wrong by δ is called right.
    pub miss: Rate,
    /// δ: the smallest deviation of a share, as a fraction, that has to be seen.
    pub deviation: f64,
    /// The leak, as a fraction, that "all to one version" has to exclude with a confidence of `1 - miss`.
    pub leak: f64,
    /// The most requests that one claim may cost; a claim that may need more is refused.
    pub max_requests: u64,
}

impl Errors {
    /// The confidence of intervals and bounds: `1 - miss`.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        1.0 - self.miss.chance()
    }
}

impl Default for Errors {
    /// α = 10⁻⁶, β = 10⁻³, δ = 10 points, leaks below 1 %, 100,000 requests.
    fn default() -> Self {
        Self { false_alarm: Rate(1e-6), miss: Rate(1e-3), deviation: 0.10, leak: 0.01, max_requests: 100_000 }
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
    #[case(1.0)]
    #[case(f64::NAN)]
    #[case(f64::INFINITY)]
    fn a_chance_outside_of_zero_and_one_half_is_no_rate(#[case] chance: f64) {
        assert_eq!(Rate::new(chance), None);
    }
}
