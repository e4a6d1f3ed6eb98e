use std::fmt;

/// Whether a claim holds. Of several rulings the greatest decides about all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ruling {
    /// The claim holds.
    Pass,
    /// The sample ended before a decision.
    Inconclusive,
    /// The claim does not hold.
    Fail,
}

impl fmt::Display for Ruling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// The event that ended a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// An answer that the claim excludes, however rare.
    Excluded,
    /// A likelihood ratio crossed a boundary.
    Boundary,
    /// The cap was reached, and the exact band decided.
    Cap,
    /// There were enough clean answers to exclude the leak.
    Clean,
    /// The time limit.
    Time,
    /// None: the result was counted, not sampled.
    Counted,
}
