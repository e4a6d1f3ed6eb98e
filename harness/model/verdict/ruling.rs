use displaydoc::Display;

/// Whether a claim holds. Of several rulings the greatest decides about all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Display)]
pub enum Ruling {
    /// The claim holds.
    #[displaydoc("pass")]
    Pass,
    /// The sample ended before a decision.
    #[displaydoc("inconclusive")]
    Inconclusive,
    /// The claim does not hold.
    #[displaydoc("FAIL")]
    Fail,
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
