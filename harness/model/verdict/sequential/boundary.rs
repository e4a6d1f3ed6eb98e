//! Likelihood ratios of two shares, and the lines on which they stop a test.

/// Where the likelihood ratios of a sequential test stop it, in the plane of requests and hits: it fails above the first line and below the
/// last, and passes between the two in the middle, which cross where it can first pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boundaries {
    /// More hits than this fail the claim.
    pub fails_above: Line,
    /// Fewer hits than this exclude that the share is too large.
    pub passes_below: Line,
    /// More hits than this exclude that the share is too small.
    pub passes_above: Line,
    /// Fewer hits than this fail the claim.
    pub fails_below: Line,
}

/// A straight line: a number of hits as a function of the number of requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// The hits before the first request.
    pub start: f64,
    /// The hits that each request adds.
    pub slope: f64,
}

impl Line {
    /// The hits after a number of requests.
    pub fn after(self, requests: u64) -> f64 {
        self.at(requests as f64)
    }

    #[inline]
    pub(super) fn at(self, requests: f64) -> f64 {
        self.start + self.slope * requests
    }
}

/// The log likelihood ratios that end a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::verdict) struct Levels {
    /// At this ratio or a larger one, the test fails.
    pub fail: f64,
    /// At this ratio or a smaller one, this side passes.
    pub pass: f64,
}

/// One of the two alternatives to the claimed share, with the counts at which it stops the test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::verdict) struct Side {
    pub steps: Steps,
    pub levels: Levels,
    pub fails: Line,
    pub passes: Line,
}

impl Side {
    pub fn new(steps: Steps, levels: Levels) -> Self {
        Self { steps, levels, fails: steps.line(levels.fail), passes: steps.line(levels.pass) }
    }

    /// Replaces the pass level.
    pub fn passing_at(self, pass: f64) -> Self {
        Self { levels: Levels { pass, ..self.levels }, passes: self.steps.line(pass), ..self }
    }
}

/// The summands of one request in the log likelihood ratio of another share to the claimed one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::verdict) struct Steps {
    pub hit: f64,
    pub miss: f64,
}

impl Steps {
    pub fn new(other: f64, share: f64) -> Self {
        Self { hit: (other / share).ln(), miss: ((1.0 - other) / (1.0 - share)).ln() }
    }

    /// The counts at which the log likelihood ratio has this level. Where a single request excludes the other share, that is after all hits
    /// or none.
    fn line(self, level: f64) -> Line {
        match (self.hit.is_finite(), self.miss.is_finite()) {
            (true, true) => {
                let distance = self.hit - self.miss;
                Line { start: level / distance, slope: -self.miss / distance }
            }
            (true, false) => Line { start: 0.0, slope: 1.0 },
            (false, _) => Line { start: 0.0, slope: 0.0 },
        }
    }

    /// The log likelihood ratio after `n` requests.
    pub fn sum(self, hits: u64, n: u64) -> f64 {
        // 0 times infinity counts as 0
        let times = |count: u64, step: f64| if count == 0 { 0.0 } else { count as f64 * step };
        times(hits, self.hit) + times(n - hits, self.miss)
    }
}
