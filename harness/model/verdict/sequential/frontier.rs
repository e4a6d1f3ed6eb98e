//! The boundaries of a test, request by request.

use super::ShareDesign;

/// The counts of hits at which a test stops after some number of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// With at most this many hits the test fails.
    pub fails_low: i64,
    /// With at least this many hits the share is not too small.
    pub passes_low: i64,
    /// With at most this many hits the share is not too large.
    pub passes_high: i64,
    /// With at least this many hits the test fails.
    pub fails_high: i64,
}

/// The boundaries after some number of requests. Both the test and the recursion over all of its paths step through them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frontier {
    pub requests: i64,
    /// The limit of hits.
    pub many: GrossLimit,
    /// The limit of misses.
    pub few: GrossLimit,
}

/// The smallest count of hits, or of misses, at which M reaches its level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GrossLimit {
    /// The count; larger than the number of requests while M cannot reach its level.
    pub count: i64,
    /// M at this count, or with all requests.
    value: f64,
}

impl GrossLimit {
    const START: Self = Self { count: 1, value: 1.0 };

    /// Adds the request after the `n`th. `share` is the probability that a request counts. The smallest count grows by one or stays.
    fn step(&mut self, n: i64, share: f64, level: f64) {
        let total = (n + 1) as f64;
        if self.count > n {
            self.value *= (n as f64 + 0.5) / (total * share);
            self.count = if self.value >= level { n + 1 } else { n + 2 };
            return;
        }
        let without = self.value * ((n - self.count) as f64 + 0.5) / (total * (1.0 - share));
        if without >= level {
            self.value = without;
        } else {
            self.value *= (self.count as f64 + 0.5) / (total * share);
            self.count += 1;
        }
    }
}

impl Frontier {
    pub const START: Self = Self { requests: 0, many: GrossLimit::START, few: GrossLimit::START };

    /// Adds one request.
    #[inline]
    pub fn step(&mut self, design: &ShareDesign) {
        self.many.step(self.requests, design.share, design.gross);
        self.few.step(self.requests, 1.0 - design.share, design.gross);
        self.requests += 1;
    }

    /// The counts at which the test stops.
    #[expect(clippy::cast_possible_truncation, reason = "a number of requests is far below 2^52")]
    pub fn limits(&self, design: &ShareDesign) -> Limits {
        let (n, requests) = (self.requests as f64, self.requests);
        let (more, fewer) = (&design.more, &design.fewer);
        let (fails_high, passes_high) = if more.steps.miss.is_finite() {
            (more.fails.at(n).ceil() as i64, more.passes.at(n).floor() as i64)
        } else {
            // a miss excludes that the share is 1
            (if n * more.steps.hit >= more.levels.fail { requests } else { requests + 1 }, requests - 1)
        };
        let (fails_low, passes_low) = if fewer.steps.hit.is_finite() {
            (fewer.fails.at(n).floor() as i64, fewer.passes.at(n).ceil() as i64)
        } else {
            // a hit excludes that the share is 0
            (if n * fewer.steps.miss >= fewer.levels.fail { 0 } else { -1 }, 1)
        };
        Limits {
            fails_low: fails_low.max(requests - self.few.count),
            passes_low,
            passes_high,
            fails_high: fails_high.min(self.many.count),
        }
    }
}
