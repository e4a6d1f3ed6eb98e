//! The sum over all paths of a test: a forward recursion over its boundaries.

use super::ShareDesign;
use super::frontier::{Frontier, Limits};
use crate::verdict::ruling::Ruling;

/// The exact behaviour of a test at some true share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Characteristics {
    /// The probability that the test fails.
    pub fails: f64,
    /// The probability that the test passes.
    pub passes: f64,
    /// The mean number of requests.
    pub mean: f64,
}

impl ShareDesign {
    /// The behaviour of the test at a true share, summed over all paths.
    pub fn characteristics(&self, truth: f64) -> Characteristics {
        let mut found = Characteristics { fails: 0.0, passes: 0.0, mean: 0.0 };
        let mut ends = |ruling, requests: u64, chance: f64| {
            let requests = requests as f64;
            found.mean += chance * requests;
            *(if ruling == Ruling::Pass { &mut found.passes } else { &mut found.fails }) += chance;
        };
        let undecided = self.paths(truth, |ruling, n, _, chance| ends(ruling, n, chance));
        for (hits, chance) in undecided {
            ends(self.at_cap(hits), self.cap, chance);
        }
        found
    }

    /// The ruling of a test that no boundary has stopped before the cap.
    pub(super) const fn at_cap(&self, hits: u64) -> Ruling {
        if self.band.contains(hits) { Ruling::Pass } else { Ruling::Fail }
    }

    /// Calls `ends` for each ruling, number of requests and number of hits at which a boundary stops the test, with the probability at a true
    /// share. Returns the counts of hits at the cap that no boundary has stopped, with their probabilities.
    pub(super) fn paths(&self, truth: f64, mut ends: impl FnMut(Ruling, u64, u64, f64)) -> Vec<(u64, f64)> {
        let (hit, miss) = (truth, 1.0 - truth);
        let mut frontier = Frontier::START;
        let mut running = Running::new(self.cap);
        let mut n = 0_u64;
        while n < self.cap && running.low <= running.high {
            n += 1;
            frontier.step(self);
            running.request(hit, miss);
            let limits = frontier.limits(self);
            if !running.fail(&limits, |hits, chance| ends(Ruling::Fail, n, hits, chance)) {
                return Vec::new();
            }
            running.pass(&limits, |hits, chance| ends(Ruling::Pass, n, hits, chance));
        }
        let counts = running.chances.iter().enumerate().take(running.high + 1).skip(running.low);
        counts.filter(|(_, chance)| **chance > 0.0).map(|(hits, chance)| (hits as u64, *chance)).collect()
    }
}

/// The probabilities of the counts of hits at which a test is still running.
struct Running {
    /// By count of hits.
    chances: Vec<f64>,
    /// The smallest count.
    low: usize,
    /// The largest count.
    high: usize,
    /// The first and the last count between them that have passed; empty unless in order.
    gap: (usize, usize),
}

impl Running {
    fn new(cap: u64) -> Self {
        let size = usize::try_from(cap).unwrap_or(usize::MAX).saturating_add(2);
        let mut chances = vec![0.0_f64; size];
        chances[0] = 1.0;
        Self { chances, low: 0, high: 0, gap: (1, 0) }
    }

    const fn has_gap(&self) -> bool {
        self.gap.0 <= self.gap.1
    }

    /// Adds one request.
    fn request(&mut self, hit: f64, miss: f64) {
        self.chances[self.high + 1] = 0.0;
        if self.has_gap() {
            one_request(&mut self.chances[self.gap.1 + 1..self.high + 2], hit, miss);
            one_request(&mut self.chances[self.low..=self.gap.0], hit, miss);
        } else {
            one_request(&mut self.chances[self.low..self.high + 2], hit, miss);
        }
        self.high += 1;
    }

    /// Removes the counts that fail; returns whether any count is left.
    fn fail(&mut self, limits: &Limits, mut fails: impl FnMut(u64, f64)) -> bool {
        while self.low <= self.high && index(self.low) <= limits.fails_low {
            fails(self.low as u64, self.chances[self.low]);
            self.chances[self.low] = 0.0;
            self.low += 1;
        }
        while self.low <= self.high && index(self.high) >= limits.fails_high {
            fails(self.high as u64, self.chances[self.high]);
            self.chances[self.high] = 0.0;
            if self.high == 0 {
                return false;
            }
            self.high -= 1;
        }
        self.low <= self.high
    }

    /// Removes the counts that pass.
    fn pass(&mut self, limits: &Limits, mut passes: impl FnMut(u64, f64)) {
        let passing = (clamped(limits.passes_low, self.low), clamped(limits.passes_high, 0).min(self.high));
        let passing = if limits.passes_high < 0 { (1, 0) } else { passing };
        let mut count = passing.0;
        while count <= passing.1 {
            // counts within the previous gap are empty, except the first, which a hit may have reached
            if self.has_gap() && count > self.gap.0 && count <= self.gap.1 {
                count = self.gap.1 + 1;
                continue;
            }
            if self.chances[count] > 0.0 {
                passes(count as u64, self.chances[count]);
                self.chances[count] = 0.0;
            }
            count += 1;
        }
        self.gap = passing;
        if self.has_gap() && self.gap.0 <= self.low {
            self.low = self.gap.1 + 1;
            self.gap = (1, 0);
        }
        if self.has_gap() && self.gap.1 >= self.high {
            self.high = self.gap.0 - 1;
            self.gap = (1, 0);
        }
    }
}

/// The probabilities of counts after one more request. This is the inner loop of a design: it works in chunks with fixed indices, so that it
/// is fast in unoptimised builds, too.
fn one_request(chances: &mut [f64], hit: f64, miss: f64) {
    let mut before = 0.0;
    let (chunks, rest) = chances.as_chunks_mut::<8>();
    let mut at = 0;
    while at < chunks.len() {
        let chunk = &mut chunks[at];
        let old = *chunk;
        *chunk = [
            old[0] * miss + before * hit,
            old[1] * miss + old[0] * hit,
            old[2] * miss + old[1] * hit,
            old[3] * miss + old[2] * hit,
            old[4] * miss + old[3] * hit,
            old[5] * miss + old[4] * hit,
            old[6] * miss + old[5] * hit,
            old[7] * miss + old[6] * hit,
        ];
        before = old[7];
        at += 1;
    }
    for chance in rest {
        let old = *chance;
        *chance = old * miss + before * hit;
        before = old;
    }
}

/// A count as a signed number.
#[expect(clippy::cast_possible_wrap, reason = "a number of requests is far below 2^52")]
const fn index(count: usize) -> i64 {
    count as i64
}

/// A signed count, not below `least`.
fn clamped(count: i64, least: usize) -> usize {
    usize::try_from(count).map_or(least, |count| count.max(least))
}
