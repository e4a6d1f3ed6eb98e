use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::binomial::{Band, log_mixture, mixture_interval, smallest};
use super::trial::{Ruling, Stop};

/// The part of the type I error before the cap that is bet on gross faults.
const GROSS: f64 = 0.02;
/// The largest cap for which the pass boundary is calibrated by recursion.
const RECURSION_LIMIT: u64 = 10_000;
/// Up to how many requests the mixture's boundary is shown; behind, the lines are narrower for all but tiny shares.
const GROSS_SHOWN: u64 = 400;
/// The most recursions that a calibration takes.
const RECURSIONS: usize = 7;
/// The part of β that a calibrated miss may take; rounding may add to a sum over all paths.
const MOST: f64 = 1.0 - 1e-6;
/// A chance that is no larger part of β is counted as a miss without a look: thousands of them change nothing.
const NEGLIGIBLE: f64 = 1e-11;
/// Levels that are nearer to each other are not told apart: the mean would change by less than a tenth of a request.
const FINE: f64 = 3e-4;
/// A miss between this part of β and `MOST` of it is near enough.
const NEAR: f64 = 0.9995;
/// The part of β with which an interval may exclude the true share, whatever the ruling is.
const EXCLUDES: f64 = 0.02;
/// What rounding may add to a sum over all paths, as a part of it.
const ROUNDING: f64 = 1e-9;
/// The largest pass level, in multiples of β: above, a level is as good as none.
const HIGHEST: f64 = 20.0;

/// A truncated two-sided sequential probability ratio test of one share `p₀` against `p₀ ± δ`.
///
/// `L±` is the likelihood ratio of `p₀ ± δ` to `p₀`, and M that of a Beta(½, ½) mixture of all shares to `p₀`. The test fails as soon as one of
/// `L±` reaches `4.08/α` or M reaches `100/α`, passes as soon as `L+` and `L-` are both at most their pass levels, and at the cap passes
/// within a band of counts. The cap is the smallest number of requests whose exact binomial band keeps `(α/2, β/2)`.
///
/// - **False alarm.** Under `p₀` each of `L±` and M is a nonnegative martingale that starts at 1. By Ville's inequality it ever reaches
///   its level with a chance of at most `0.245 α`, `0.245 α` and `0.01 α`. The band at the cap refuses with what is left of α, exactly.
/// - **Miss.** The pass levels are about the largest at which the miss at `p₀ ± δ` is at most β; a failure whose interval excludes `p₀ ± δ`
///   counts as a miss.
///
/// Band and pass levels are found at design time by forward recursion: the chances of all paths are summed over the very boundaries that
/// [`ShareTest`] stops at. Where the cap is above 10,000 that would take too long: there the pass levels are `β/2` and the band is that of
/// `(α/2, β/2)`. Under `p₀ + δ` the ratio `1/L+` is a martingale, so that the test passes before the cap with a chance of at most `β/2` and
/// at the cap with at most `β/2`.
///
/// Levels and bands from the recursion hold only for a share that stays the same during the sample. Where weights move during the sample, as
/// in a rollout that a controller drives, only the constants that Ville's inequality gives hold.
/// (Wald 1945; Sobel and Wald 1949; Ville 1939; Robbins 1970; Novikov et al. 2021.)
#[derive(Debug, Clone, PartialEq)]
pub struct ShareDesign {
    share: f64,
    /// `p₀ - δ` and `p₀ + δ`.
    others: (f64, f64),
    alpha: f64,
    beta: f64,
    more: Side,
    fewer: Side,
    /// The level of M.
    gross: f64,
    cap: u64,
    band: Band,
    /// The mean number of requests where the claim is right; none without recursion.
    mean: Option<f64>,
}

/// One of the two alternatives, in the counts that the test stops at.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Side {
    steps: Steps,
    /// The log likelihood ratio at which the test fails.
    fail_at: f64,
    /// The log likelihood ratio at which this side passes.
    pass_at: f64,
    fails: Line,
    passes: Line,
}

impl Side {
    fn new(other: f64, share: f64, fail_at: f64, pass_at: f64) -> Self {
        let steps = Steps::new(other, share);
        Self { steps, fail_at, pass_at, fails: steps.line(fail_at), passes: steps.line(pass_at) }
    }

    /// The same with another pass level.
    fn passing_at(self, pass_at: f64) -> Self {
        Self { pass_at, passes: self.steps.line(pass_at), ..self }
    }
}

/// What one request adds to a log likelihood ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Steps {
    hit: f64,
    miss: f64,
}

impl Steps {
    fn new(other: f64, share: f64) -> Self {
        Self { hit: (other / share).ln(), miss: ((1.0 - other) / (1.0 - share)).ln() }
    }

    /// Where the log likelihood ratio is so large. One request that excludes the other share altogether leaves no room beside all hits,
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

    /// The log likelihood ratio after `n` requests with so many hits.
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    fn sum(self, hits: u64, n: u64) -> f64 {
        // no request adds nothing, even where one would exclude all
        let times = |count: u64, step: f64| if count == 0 { 0.0 } else { count as f64 * step };
        times(hits, self.hit) + times(n - hits, self.miss)
    }
}

/// The counts of hits at which a test stops after some number of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    /// So many hits or fewer fail.
    fails_low: i64,
    /// From so many hits on the share is not too small.
    passes_low: i64,
    /// Up to so many hits the share is not too large.
    passes_high: i64,
    /// So many hits or more fail.
    fails_high: i64,
}

/// How far the boundaries of a test have got: what both the test and the recursion over all of its paths step through.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Frontier {
    requests: i64,
    /// Of hits.
    many: Gross,
    /// Of misses.
    few: Gross,
}

/// The smallest count of hits (or of misses) at which M reaches its level.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Gross {
    /// The count; above all requests where M cannot reach it yet.
    count: i64,
    /// M with so many, or with all.
    value: f64,
}

impl Gross {
    const START: Self = Self { count: 1, value: 1.0 };

    /// One more request, after `n`, where each counts with chance `share`. The smallest count grows by one or stays.
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
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
    const START: Self = Self { requests: 0, many: Gross::START, few: Gross::START };

    /// One more request.
    #[inline]
    fn step(&mut self, design: &ShareDesign) {
        self.many.step(self.requests, design.share, design.gross);
        self.few.step(self.requests, 1.0 - design.share, design.gross);
        self.requests += 1;
    }

    /// Where the test stops after these requests.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a number of requests is far below 2^52"
    )]
    fn limits(&self, design: &ShareDesign) -> Limits {
        let (n, requests) = (self.requests as f64, self.requests);
        let (more, fewer) = (&design.more, &design.fewer);
        let (fails_high, passes_high) = if more.steps.miss.is_finite() {
            (more.fails.at(n).ceil() as i64, more.passes.at(n).floor() as i64)
        } else {
            // a miss excludes that the share is 1
            (if n * more.steps.hit >= more.fail_at { requests } else { requests + 1 }, requests - 1)
        };
        let (fails_low, passes_low) = if fewer.steps.hit.is_finite() {
            (fewer.fails.at(n).floor() as i64, fewer.passes.at(n).ceil() as i64)
        } else {
            // a hit excludes that the share is 0
            (if n * fewer.steps.miss >= fewer.fail_at { 0 } else { -1 }, 1)
        };
        Limits {
            fails_low: fails_low.max(requests - self.few.count),
            passes_low,
            passes_high,
            fails_high: fails_high.min(self.many.count),
        }
    }
}

/// What a test does at a true share, exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Characteristics {
    /// The chance that the test fails.
    pub fails: f64,
    /// The chance that it passes.
    pub passes: f64,
    /// The mean number of requests.
    pub mean: f64,
}

/// What identifies a design.
type Key = [u64; 5];

/// Designs that were computed before: claims of one scenario are much alike, and mutants of it more so.
static KNOWN: LazyLock<Mutex<HashMap<Key, Option<ShareDesign>>>> = LazyLock::new(Mutex::default);
/// The most of them that are kept.
const MOST_KNOWN: usize = 1024;

impl ShareDesign {
    /// The test of a share strictly between 0 and 1 with these errors; none if it could need more requests than `limit`, or if
    /// `p₀ ± δ` leaves 0 to 1.
    #[must_use]
    pub fn new(share: f64, deviation: f64, alpha: f64, beta: f64, limit: u64) -> Option<Self> {
        let key = [share.to_bits(), deviation.to_bits(), alpha.to_bits(), beta.to_bits(), limit];
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(design) = known().get(&key) {
            return design.clone();
        }
        let design = Self::computed(share, deviation, alpha, beta, limit);
        let mut known = known();
        if known.len() < MOST_KNOWN {
            known.insert(key, design.clone());
        }
        design
    }

    fn computed(share: f64, deviation: f64, alpha: f64, beta: f64, limit: u64) -> Option<Self> {
        // 10 % ± 10 points, in binary digits
        let (low, high) = ((share - deviation).max(-1e-9), (share + deviation).min(1.0 + 1e-9));
        if deviation <= 0.0 || share - deviation < low || share + deviation > high {
            return None;
        }
        let (low, high) = (low.max(0.0), high.min(1.0));
        let (cap, band) = smallest(share, &[low, high], alpha / 2.0, beta / 2.0, limit)?;
        let fail_at = (4.0 / ((1.0 - GROSS) * alpha)).ln();
        let pass_at = (beta / 2.0).ln();
        let design = Self {
            share,
            others: (low, high),
            alpha,
            beta,
            more: Side::new(high, share, fail_at, pass_at),
            fewer: Side::new(low, share, fail_at, pass_at),
            gross: 2.0 / (GROSS * alpha),
            cap,
            band,
            mean: None,
        };
        Some(if cap <= RECURSION_LIMIT { design.calibrated() } else { design })
    }

    /// The same with the band that keeps α, and with about the largest pass levels whose misses are at most β, all exactly.
    fn calibrated(self) -> Self {
        let mut best: Option<Self> = None;
        let mut sides = [Search::new(self.beta), Search::new(self.beta)];
        for _ in 0..RECURSIONS {
            let mut design = Self {
                more: self.more.passing_at(sides[0].level),
                fewer: self.fewer.passing_at(sides[1].level),
                ..self.clone()
            };
            let Realised { band, misses, mean } = design.realised();
            (design.band, design.mean) = (band, Some(mean));
            let kept = misses.iter().all(|miss| *miss <= self.beta * MOST);
            if kept && best.as_ref().is_none_or(|best| design.mean() < best.mean()) {
                best = Some(design);
            }
            let mut moved = false;
            for (side, miss) in sides.iter_mut().zip(misses) {
                moved |= side.take(miss / self.beta);
            }
            if !moved {
                break;
            }
        }
        best.unwrap_or_else(|| {
            // Ville's levels and the band of the cap need no recursion to be valid
            let mean = Some(self.characteristics(self.share).mean);
            Self { mean, ..self }
        })
    }

    /// The band at the cap that keeps α, the misses at `p₀ + δ` and `p₀ - δ` with it, and the mean number of requests at `p₀`: all exactly and
    /// from one recursion at `p₀`, since the chance of a path at another share is that at `p₀` times the likelihood ratio.
    fn realised(&self) -> Realised {
        let (mut fails, mut mean, mut misses) = (0.0, 0.0, [0.0; 2]);
        let at_others =
            |n: u64, hits: u64, chance: f64| [self.more, self.fewer].map(|side| chance * side.steps.sum(hits, n).exp());
        // a failure is a miss where its interval excludes the true share
        let excluded_at_others = |n: u64, hits: u64, chance: f64| {
            let excluded = |at: f64, other: f64| {
                // what is hardly there is counted without a look
                if at < self.beta * NEGLIGIBLE || self.excludes(n, hits, other) { at } else { 0.0 }
            };
            let [more, fewer] = at_others(n, hits, chance);
            [excluded(more, self.others.1), excluded(fewer, self.others.0)]
        };
        #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
        let undecided = self.paths(self.share, |ruling, n, hits, chance| {
            mean += chance * n as f64;
            let [more, fewer] = if ruling == Ruling::Pass {
                at_others(n, hits, chance)
            } else {
                fails += chance;
                excluded_at_others(n, hits, chance)
            };
            misses = [misses[0] + more, misses[1] + fewer];
        });
        #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
        let cap = self.cap as f64;
        mean += cap * undecided.iter().map(|(_, chance)| chance).sum::<f64>();
        // sums from the lowest count on: of the chances, and of what a pass adds to a failure's part of the two misses
        let mut sums = vec![[0.0; 3]];
        for (hits, chance) in &undecided {
            let last = sums[sums.len() - 1];
            let passed = at_others(self.cap, *hits, *chance);
            let failed = excluded_at_others(self.cap, *hits, *chance);
            misses = [misses[0] + failed[0], misses[1] + failed[1]];
            sums.push([last[0] + chance, last[1] + passed[0] - failed[0], last[2] + passed[1] - failed[1]]);
        }
        let (all, left) = (sums[undecided.len()][0], self.alpha * (1.0 - ROUNDING) - fails);
        let mut found: Option<(f64, Band, [f64; 2])> = None;
        let mut above = undecided.len();
        // each part of what is left of α below the band, the rest above: the one with the smaller of the larger misses
        for below in 0..undecided.len() {
            while above < undecided.len() && sums[below][0] + all - sums[above][0] > left {
                above += 1;
            }
            if below == 0 {
                above = (0..=undecided.len()).find(|above| all - sums[*above][0] <= left).unwrap_or(undecided.len());
            }
            if sums[below][0] + (all - sums[above][0]) > left {
                break;
            }
            // one count is left at the least
            above = above.max(below + 1);
            let within = [1, 2].map(|other| sums[above][other] - sums[below][other]);
            let both = [misses[0] + within[0], misses[1] + within[1]];
            let larger = both[0].max(both[1]);
            if found.as_ref().is_none_or(|(other, ..)| larger <= *other) {
                let band = Band { low: undecided[below].0, high: undecided[above - 1].0 };
                found = Some((larger, band, both));
            }
        }
        // where no path is left at the cap, any band will do; where α is used up, none
        let used_up = [f64::INFINITY; 2];
        let (_, band, misses) = found.unwrap_or((0.0, self.band, if undecided.is_empty() { misses } else { used_up }));
        Realised { band, misses, mean }
    }

    /// Whether an interval excludes this share whatever the ruling is.
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    fn excludes(&self, requests: u64, hits: u64, share: f64) -> bool {
        let (n, count, spread) = (requests as f64, hits as f64, share * (1.0 - share));
        if spread <= 0.0 {
            return false; // no path leads away from it
        }
        let level = -(EXCLUDES * self.beta).ln();
        // The mixture is at most the likelihood of the observed share, and the logarithm of that at most Pearson's statistic: both are quicker to compute.
        let off = count - n * share;
        if off * off < level * n * spread {
            return false;
        }
        let part = |count: f64, share: f64| if count > 0.0 { count * (count / (n * share)).ln() } else { 0.0 };
        part(count, share) + part(n - count, 1.0 - share) >= level && log_mixture(requests, hits, share) >= level
    }

    /// What the test does at a true share: the sum over all paths.
    #[must_use]
    pub fn characteristics(&self, truth: f64) -> Characteristics {
        let mut found = Characteristics { fails: 0.0, passes: 0.0, mean: 0.0 };
        let mut ends = |ruling, requests: u64, chance: f64| {
            #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
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

    /// The ruling of a test that no boundary has stopped.
    const fn at_cap(&self, hits: u64) -> Ruling {
        if self.band.contains(hits) { Ruling::Pass } else { Ruling::Fail }
    }

    /// Calls `ends` for each ruling, number of requests and number of hits with which a boundary can stop the test at a true share, with the
    /// chance of it; returns the numbers of hits with which none has at the cap. A forward recursion over the boundaries that [`ShareTest`] stops at.
    fn paths(&self, truth: f64, mut ends: impl FnMut(Ruling, u64, u64, f64)) -> Vec<(u64, f64)> {
        let (hit, miss) = (truth, 1.0 - truth);
        let mut frontier = Frontier::START;
        let size = usize::try_from(self.cap).unwrap_or(usize::MAX).saturating_add(2);
        let mut alive = vec![0.0_f64; size];
        alive[0] = 1.0;
        // Paths are under way with `low` to `high` hits, but for a gap of those that have passed: `gap.0` to `gap.1`, empty if not in order.
        let (mut low, mut high) = (0_usize, 0_usize);
        let mut gap = (1_usize, 0_usize);
        let mut n = 0_u64;
        while n < self.cap && low <= high {
            n += 1;
            frontier.step(self);
            alive[high + 1] = 0.0;
            let split = gap.0 <= gap.1;
            if split {
                one_request(&mut alive[gap.1 + 1..high + 2], hit, miss);
                one_request(&mut alive[low..=gap.0], hit, miss);
            } else {
                one_request(&mut alive[low..high + 2], hit, miss);
            }
            high += 1;
            let limits = frontier.limits(self);
            while low <= high && index(low) <= limits.fails_low {
                ends(Ruling::Fail, n, low as u64, alive[low]);
                alive[low] = 0.0;
                low += 1;
            }
            while low <= high && index(high) >= limits.fails_high {
                ends(Ruling::Fail, n, high as u64, alive[high]);
                alive[high] = 0.0;
                if high == 0 {
                    return Vec::new();
                }
                high -= 1;
            }
            if low > high {
                return Vec::new();
            }
            let passes = (clamped(limits.passes_low, low), clamped(limits.passes_high, 0).min(high));
            let passes = if limits.passes_high < 0 { (1, 0) } else { passes };
            let mut k = passes.0;
            while k <= passes.1 {
                // what lies deeper in the gap of before has been empty since
                if split && k > gap.0 && k <= gap.1 {
                    k = gap.1 + 1;
                    continue;
                }
                if alive[k] > 0.0 {
                    ends(Ruling::Pass, n, k as u64, alive[k]);
                    alive[k] = 0.0;
                }
                k += 1;
            }
            gap = passes;
            if gap.0 <= gap.1 && gap.0 <= low {
                low = gap.1 + 1;
                gap = (1, 0);
            }
            if gap.0 <= gap.1 && gap.1 >= high {
                high = gap.0 - 1;
                gap = (1, 0);
            }
        }
        let left = alive.iter().enumerate().take(high + 1).skip(low).filter(|(_, chance)| **chance > 0.0);
        left.map(|(hits, chance)| (hits as u64, *chance)).collect()
    }

    /// The shares that so many hits do not exclude with a confidence of `1 - β`, where `passed` says that this test has passed with them or before.
    ///
    /// The interval holds each p that the Beta(½, ½) mixture of all shares does not exclude with `0.02 β`, at any time; where the test has
    /// passed, only those of them that lie within `p₀ ± δ`. The true share lies outside with a chance of at most β: within `p₀ ± δ` by
    /// Ville's inequality (at most `0.02 β`); at `p₀ ± δ` because the calibration sums the chance of a pass and that of a failure whose interval
    /// excludes `p₀ ± δ`; and beyond, where a pass is rarer still. For a design without that calibration only `1.02 β` is proven at `p₀ ± δ`: at most
    /// β for a pass and `0.02 β` for such a failure.
    #[must_use]
    pub fn interval(&self, requests: u64, hits: u64, passed: bool) -> (f64, f64) {
        let (low, high) = mixture_interval(requests, hits, 1.0 - EXCLUDES * self.beta);
        let within = (low.max(self.others.0), high.min(self.others.1));
        // answers behind the verdict may have left nothing of it
        if passed && within.0 <= within.1 { within } else { (low, high) }
    }

    /// Where the mixture stops the test before the boundaries of `p₀ ± δ` do: for some numbers of requests the shares below which and above
    /// which it fails, 0 and 1 where none does.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub fn gross_faults(&self) -> Vec<(u64, f64, f64)> {
        let mut frontier = Frontier::START;
        let mut found = Vec::new();
        for n in 1..=self.cap.min(GROSS_SHOWN) {
            frontier.step(self);
            let (requests, many, misses) = (n as f64, frontier.many.count as f64, frontier.few.count as f64);
            let above = if many <= requests && many < self.more.fails.after(n) { many / requests } else { 1.0 };
            let hits = requests - misses;
            let below = if hits >= 0.0 && hits > self.fewer.fails.after(n) { hits / requests } else { 0.0 };
            if above < 1.0 || below > 0.0 {
                found.push((n, below, above));
            }
        }
        found
    }

    /// The type I error.
    #[must_use]
    pub const fn alpha(&self) -> f64 {
        self.alpha
    }

    /// The most requests that it takes.
    #[must_use]
    pub const fn cap(&self) -> u64 {
        self.cap
    }

    /// The mean number of requests where the claim is right, exactly; the cap where that was not computed.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub fn mean(&self) -> f64 {
        self.mean.unwrap_or(self.cap as f64)
    }

    /// The fewest requests with which it can pass.
    #[must_use]
    pub fn least(&self) -> u64 {
        let mut frontier = Frontier::START;
        let passes = |_: &u64| {
            frontier.step(self);
            let limits = frontier.limits(self);
            limits.passes_low <= limits.passes_high
        };
        (1..self.cap).find(passes).unwrap_or(self.cap)
    }

    /// The counts that it accepts at the cap.
    #[must_use]
    pub const fn band(&self) -> Band {
        self.band
    }

    /// The claimed share.
    #[must_use]
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// Where the likelihood ratios of `p₀ ± δ` stop the test. M stops it a little earlier in the first hundred requests.
    #[must_use]
    pub const fn boundaries(&self) -> Boundaries {
        Boundaries {
            fails_above: self.more.fails,
            passes_below: self.more.passes,
            passes_above: self.fewer.passes,
            fails_below: self.fewer.fails,
        }
    }
}

/// The exact errors and cost of a design, with the band that keeps α.
struct Realised {
    band: Band,
    /// At `p₀ + δ` and at `p₀ - δ`.
    misses: [f64; 2],
    mean: f64,
}

/// The search for the largest pass level of one side, a log likelihood ratio, whose miss is at most β: by secants.
struct Search {
    level: f64,
    highest: f64,
    /// The level before, with the logarithm of its miss over β.
    before: Option<(f64, f64)>,
    /// The largest level that kept β and the smallest that did not, likewise.
    kept: Option<(f64, f64)>,
    missed: Option<(f64, f64)>,
}

impl Search {
    fn new(beta: f64) -> Self {
        Self { level: beta.ln(), highest: (HIGHEST * beta).ln().min(0.0), before: None, kept: None, missed: None }
    }

    /// Takes the miss at the level, divided by β; whether another level is to be tried.
    fn take(&mut self, ratio: f64) -> bool {
        if (NEAR..=MOST).contains(&ratio) || ratio <= 0.0 {
            return false;
        }
        let (level, miss) = (self.level, ratio.ln());
        // the other side and the band move the misses, too: what contradicts the last miss no longer holds
        if ratio <= MOST {
            self.kept = Some((level, miss));
            self.missed = self.missed.filter(|(other, _)| *other > level);
        } else {
            self.missed = Some((level, miss));
            self.kept = self.kept.filter(|(other, _)| *other < level);
        }
        let aim = f64::midpoint(NEAR, MOST).ln();
        // the miss grows with the level, by less than it
        let before = self.before.replace((level, miss)).filter(|(other, _)| (other - level).abs() > 1e-9);
        let slope = before.map_or(0.6, |(other, then)| (miss - then) / (level - other)).clamp(0.3, 1.5);
        let step = ((aim - miss) / slope).clamp(-1.0, 1.0);
        let next = if let (Some((low, below)), Some((high, above))) = (self.kept, self.missed) {
            // counts are whole, so that the miss may leap: never the ends of the bracket again
            let part = ((aim - below) / (above - below)).clamp(0.1, 0.9);
            low + part * (high - low)
        } else {
            level + step
        };
        self.level = next.min(self.highest);
        (self.level - level).abs() > FINE
    }
}

/// The chances of counts after one more request; before the first there is none. The inner loop of a design: in chunks with fixed indices, so that it
/// is quick where nothing is optimised, too.
fn one_request(chances: &mut [f64], hit: f64, miss: f64) {
    let mut before = 0.0;
    let (chunks, rest) = chances.as_chunks_mut::<8>();
    let mut at = 0;
    while at < chunks.len() {
        let chunk = &mut chunks[at];
        let own = *chunk;
        *chunk = [
            own[0] * miss + before * hit,
            own[1] * miss + own[0] * hit,
            own[2] * miss + own[1] * hit,
            own[3] * miss + own[2] * hit,
            own[4] * miss + own[3] * hit,
            own[5] * miss + own[4] * hit,
            own[6] * miss + own[5] * hit,
            own[7] * miss + own[6] * hit,
        ];
        before = own[7];
        at += 1;
    }
    for chance in rest {
        let own = *chance;
        *chance = own * miss + before * hit;
        before = own;
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

/// Where the likelihood ratios of a sequential test stop it, in the plane of requests and hits: it fails above the first line and below the last,
/// and passes between the two in the middle, which cross where it can first pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Boundaries {
    /// More hits than this refuse the claim.
    pub fails_above: Line,
    /// Fewer hits than this exclude that the share is too large.
    pub passes_below: Line,
    /// More hits than this exclude that the share is too small.
    pub passes_above: Line,
    /// Fewer hits than this refuse the claim.
    pub fails_below: Line,
}

/// A straight line: so many hits after so many requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// The hits before the first request.
    pub start: f64,
    /// The hits that each request adds.
    pub slope: f64,
}

impl Line {
    /// The hits after so many requests.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub fn after(self, requests: u64) -> f64 {
        self.at(requests as f64)
    }

    #[inline]
    fn at(self, requests: f64) -> f64 {
        self.start + self.slope * requests
    }
}

/// The state of a sequential test.
///
/// ```
/// use shiftcheck_model::verdict::{Ruling, ShareDesign, ShareTest};
///
/// let halves = ShareDesign::new(0.5, 0.10, 1e-6, 1e-3, 100_000).unwrap();
/// let mut test = ShareTest::new();
/// // one version answers everything: no route splits the traffic
/// let needed = (1..).find(|_| test.observe(&halves, true) == Some(Ruling::Fail));
/// assert_eq!(needed, Some(30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareTest {
    hits: u64,
    frontier: Frontier,
}

impl Default for ShareTest {
    fn default() -> Self {
        Self::new()
    }
}

impl ShareTest {
    /// A test before its first request.
    #[must_use]
    pub const fn new() -> Self {
        Self { hits: 0, frontier: Frontier::START }
    }

    /// Takes the next request in the order of sending: whether it counts for the share. The ruling, if it stands now.
    #[inline]
    pub fn observe(&mut self, design: &ShareDesign, hit: bool) -> Option<Ruling> {
        self.frontier.step(design);
        self.hits += u64::from(hit);
        self.state(design).map(|(ruling, _)| ruling)
    }

    /// Why it stopped, if it did.
    #[must_use]
    pub fn stop(&self, design: &ShareDesign) -> Option<Stop> {
        self.state(design).map(|(_, stop)| stop)
    }

    #[inline]
    #[expect(clippy::cast_possible_wrap, reason = "a number of requests is far below 2^52")]
    fn state(&self, design: &ShareDesign) -> Option<(Ruling, Stop)> {
        let (hits, limits) = (self.hits as i64, self.frontier.limits(design));
        if hits <= limits.fails_low || hits >= limits.fails_high {
            Some((Ruling::Fail, Stop::Boundary))
        } else if limits.passes_low <= hits && hits <= limits.passes_high {
            Some((Ruling::Pass, Stop::Boundary))
        } else if self.requests() >= design.cap {
            Some((design.at_cap(self.hits), Stop::Cap))
        } else {
            None
        }
    }

    /// A bound, valid at any stopping time, on the chance under the claim of evidence this strong: `0.49 (L+ + L-) + 0.02 M` is
    /// a martingale from 1, which reaches `1/p` with a chance of at most p.
    #[must_use]
    pub fn chance(&self, design: &ShareDesign) -> f64 {
        let (hits, n) = (self.hits, self.requests());
        let ratios = design.more.steps.sum(hits, n).exp() + design.fewer.steps.sum(hits, n).exp();
        let mixture = log_mixture(n, hits, design.share).exp();
        (1.0 / ((1.0 - GROSS) / 2.0).mul_add(ratios, GROSS * mixture)).min(1.0)
    }

    /// The number of requests so far.
    #[must_use]
    #[expect(clippy::cast_sign_loss, reason = "a number of requests")]
    pub const fn requests(&self) -> u64 {
        self.frontier.requests as u64
    }

    /// How many of them counted for the share.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.hits
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::halves(0.5, 0.10, 1e-6, 1e-3, 1711, 490.0, 758.5)]
    #[case::thirds(1.0 / 3.0, 0.10, 1e-6, 1e-3, 1625, 418.0, f64::NAN)]
    #[case::tenth(0.1, 0.05, 1e-6, 1e-3, 0, 710.0, f64::NAN)]
    #[case::twentieth(0.05, 0.05, 1e-6, 1e-3, 1823, 430.0, f64::NAN)]
    #[case::hundredth(0.01, 0.01, 1e-6, 1e-3, 9715, 2305.5, f64::NAN)]
    #[case::lax(0.5, 0.10, 0.05, 0.1, 0, 160.0, f64::NAN)]
    #[case::wider(0.5, 0.15, 1e-6, 1e-3, 746, 231.0, 336.0)]
    #[case::larger_alpha(0.5, 0.10, 1e-3, 1e-3, 1130, 528.0, 416.0)]
    #[case::smaller_alpha(0.5, 0.10, 1e-9, 1e-3, 2237, 530.0, 1102.0)]
    #[case::high(0.9, 0.05, 1e-3, 1e-3, 1985, 787.0, f64::NAN)]
    fn means_are_within_their_bars_and_exact_errors_below_their_bounds(
        #[case] share: f64,
        #[case] deviation: f64,
        #[case] alpha: f64,
        #[case] beta: f64,
        #[case] cap: u64,
        #[case] right: f64,
        #[case] wrong: f64,
    ) {
        let design = ShareDesign::new(share, deviation, alpha, beta, 100_000).unwrap();
        assert!(cap == 0 || design.cap == cap, "a cap of {}", design.cap);
        let at_claim = design.characteristics(share);
        assert!(at_claim.fails <= alpha, "a false alarm of {:e}", at_claim.fails);
        assert!(at_claim.mean <= right, "a mean of {} where the route is right", at_claim.mean);
        assert!((at_claim.mean - design.mean()).abs() < 1e-6, "{} and {}", at_claim.mean, design.mean());
        for truth in [share - deviation, share + deviation] {
            let off = design.characteristics(truth.max(0.0));
            assert!(off.passes <= beta, "a miss of {:e} at {truth}", off.passes);
            assert!((off.passes + off.fails - 1.0).abs() < 1e-9, "all paths end: {off:?}");
            assert!(wrong.is_nan() || off.mean <= wrong, "a mean of {} at {truth}", off.mean);
        }
    }

    /// The same by every path one by one, as `ShareTest` takes them.
    fn by_every_path(design: &ShareDesign, truth: f64) -> Characteristics {
        let mut found = Characteristics { fails: 0.0, passes: 0.0, mean: 0.0 };
        let mut alive = vec![(ShareTest::new(), 1.0)];
        while let Some((test, chance)) = alive.pop() {
            for (hit, part) in [(true, truth), (false, 1.0 - truth)] {
                let mut next = test;
                let chance = chance * part;
                match next.observe(design, hit) {
                    None => alive.push((next, chance)),
                    Some(ruling) => {
                        #[expect(clippy::cast_precision_loss, reason = "small counts")]
                        let requests = next.requests() as f64;
                        found.mean += chance * requests;
                        *(if ruling == Ruling::Pass { &mut found.passes } else { &mut found.fails }) += chance;
                    }
                }
            }
        }
        found
    }

    #[rstest]
    #[case(0.5, 0.4, 0.2, 0.3)]
    #[case(0.4, 0.4, 0.1, 0.2)]
    #[case(0.6, 0.4, 0.2, 0.2)]
    #[case(0.3, 0.3, 0.4, 0.4)]
    fn the_recursion_walks_the_boundaries_of_the_test_itself(
        #[case] share: f64,
        #[case] deviation: f64,
        #[case] alpha: f64,
        #[case] beta: f64,
    ) {
        let design = ShareDesign::new(share, deviation, alpha, beta, 100_000).unwrap();
        assert!((4..=22).contains(&design.cap), "{} requests are 2^n paths", design.cap);
        for truth in [share, share - deviation, share + deviation, 0.37] {
            let truth = truth.max(0.0);
            let (fast, slow) = (design.characteristics(truth), by_every_path(&design, truth));
            for (fast, slow) in [(fast.fails, slow.fails), (fast.passes, slow.passes), (fast.mean, slow.mean)] {
                assert!((fast - slow).abs() < 1e-12 * slow.abs().max(1.0), "{fast} and {slow} at {truth}: {design:?}");
            }
        }
    }

    /// Every ending that the recursion meets is one of the test, at counts where no path can have ended before.
    #[rstest]
    #[case(0.5, 0.10, 1e-6, 1e-3)]
    #[case(0.1, 0.10, 1e-4, 1e-2)]
    #[case(0.9, 0.08, 1e-3, 1e-2)]
    fn each_ending_of_the_recursion_is_one_of_the_test(
        #[case] share: f64,
        #[case] deviation: f64,
        #[case] alpha: f64,
        #[case] beta: f64,
    ) {
        let design = ShareDesign::new(share, deviation, alpha, beta, 100_000).unwrap();
        let mut endings = Vec::new();
        let undecided = design.paths(share, |ruling, n, hits, _| endings.push((n, hits, ruling)));
        endings.extend(undecided.into_iter().map(|(hits, _)| (design.cap, hits, design.at_cap(hits))));
        let mut frontier = Frontier::START;
        for n in 1..=design.cap {
            frontier.step(&design);
            for (_, hits, ruling) in endings.iter().filter(|(at, ..)| *at == n) {
                let test = ShareTest { hits: *hits, frontier };
                assert_eq!(test.state(&design).map(|(ruling, _)| ruling), Some(*ruling), "{hits} of {n}");
            }
        }
    }

    #[test]
    fn a_level_of_beta_breaks_beta_where_the_share_is_small_and_calibration_does_not() {
        // 1.41 times β with the band of the cap, by the exact tables; 1.2 times with that of the design
        let design = ShareDesign::new(0.05, 0.05, 1e-6, 1e-3, 100_000).unwrap();
        let at_beta = ShareDesign {
            more: design.more.passing_at(1e-3_f64.ln()),
            fewer: design.fewer.passing_at(1e-3_f64.ln()),
            ..design.clone()
        };
        let missed = |design: &ShareDesign| design.characteristics(0.10).passes;
        assert!(missed(&at_beta) > 1.15e-3, "{:e}", missed(&at_beta));
        assert!(missed(&design) <= 1e-3 && missed(&design) > 0.9e-3, "{:e}", missed(&design));
    }

    /// The chance that the interval at the end of a test does not hold the true share.
    fn not_covered(design: &ShareDesign, truth: f64) -> f64 {
        let mut missed = 0.0;
        let mut ends = |ruling, n, hits, chance| {
            let (low, high) = design.interval(n, hits, ruling == Ruling::Pass);
            missed += if truth <= low || high <= truth { chance } else { 0.0 };
        };
        let undecided = design.paths(truth, &mut ends);
        for (hits, chance) in undecided {
            ends(design.at_cap(hits), design.cap, hits, chance);
        }
        missed
    }

    #[rstest]
    #[case::halves(0.5, 0.10, 1e-6, 1e-3)]
    #[case::thirds(1.0 / 3.0, 0.10, 1e-6, 1e-3)]
    #[case::lax(0.5, 0.10, 0.05, 0.1)]
    #[case::twentieth(0.05, 0.05, 1e-4, 1e-2)]
    #[case::fifth(0.2, 0.10, 0.1, 0.01)]
    fn what_has_passed_lies_within_the_deviation_and_intervals_keep_their_confidence(
        #[case] share: f64,
        #[case] deviation: f64,
        #[case] alpha: f64,
        #[case] beta: f64,
    ) {
        let design = ShareDesign::new(share, deviation, alpha, beta, 100_000).unwrap();
        let ends = |ruling, n, hits, _| {
            let (low, high) = design.interval(n, hits, ruling == Ruling::Pass);
            let within = share - deviation - 1e-9 <= low && high <= share + deviation + 1e-9;
            assert!(ruling != Ruling::Pass || within, "{low} to {high} after {hits} of {n}");
        };
        design.paths(share, ends);
        for part in [-1.3, -1.05, -1.01, -1.0, -0.9, -0.5, 0.0, 0.5, 0.9, 1.0, 1.01, 1.05, 1.3] {
            let truth: f64 = share + part * deviation;
            if 0.0 < truth && truth < 1.0 {
                let missed = not_covered(&design, truth);
                assert!(missed <= beta, "{truth} is not covered with {missed:e}");
            }
        }
    }

    #[test]
    fn above_the_limit_of_the_recursion_the_levels_are_those_that_need_none() {
        let design = ShareDesign::new(0.5, 0.02, 1e-6, 1e-3, 100_000).unwrap();
        assert!(design.cap > RECURSION_LIMIT, "{}", design.cap);
        assert_eq!((design.more.pass_at, design.mean), ((1e-3_f64 / 2.0).ln(), None));
        let (right, off) = (design.characteristics(0.5), design.characteristics(0.52));
        assert!(right.fails <= 1e-6 && off.passes <= 1e-3, "{right:?} {off:?}");
    }

    #[rstest]
    #[case::all_hits(0.5, 0.10, true, 30)]
    #[case::all_misses(0.5, 0.10, false, 30)]
    #[case::a_tenth(0.1, 0.05, true, 9)]
    fn a_gross_fault_fails_at_once(#[case] share: f64, #[case] deviation: f64, #[case] hit: bool, #[case] needed: u64) {
        let design = ShareDesign::new(share, deviation, 1e-6, 1e-3, 100_000).unwrap();
        let mut test = ShareTest::new();
        let found = (1..=design.cap()).find(|_| test.observe(&design, hit) == Some(Ruling::Fail)).unwrap();
        assert!(found <= needed, "{found}");
        assert!(test.chance(&design) <= 0.5e-6, "{:e}", test.chance(&design));
    }

    #[test]
    fn gross_faults_are_shown_where_the_test_stops_for_them() {
        let design = ShareDesign::new(0.5, 0.10, 1e-6, 1e-3, 100_000).unwrap();
        let gross = design.gross_faults();
        // 30 of 30 is the earliest; of 31 it takes all or none, too
        let (first, below, above) = gross.iter().find(|(n, ..)| *n > 30).copied().unwrap();
        assert!(first < 40 && below > 0.0 && above < 1.0, "{first}: {below} to {above}");
        for (n, below, above) in gross {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "small"
            )]
            let hits = (above * n as f64).round() as u64;
            let mut test = ShareTest::new();
            // misses first: no boundary is met on the way
            let rulings = (0..n).map(|at| test.observe(&design, at >= n - hits));
            assert_eq!(rulings.last().unwrap(), Some(Ruling::Fail), "{hits} of {n}");
            assert!((below + above - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_mixture_is_followed_request_by_request() {
        // the counts at which M reaches its level, by its closed form
        for share in [0.5, 0.1, 0.01] {
            let design = ShareDesign::new(share, share, 1e-6, 1e-3, 100_000).unwrap();
            let mut frontier = Frontier::START;
            for n in 1..=2000_u64 {
                frontier.step(&design);
                let reached = |hits: u64| log_mixture(n, hits, share) >= design.gross.ln();
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "small"
                )]
                let middle = (n as f64 * share) as u64;
                let many = (middle..=n).find(|hits| reached(*hits)).unwrap_or(n + 1);
                let few = (n - middle..=n).find(|misses| reached(n - misses)).unwrap_or(n + 1);
                let found = [frontier.many.count, frontier.few.count].map(|count| u64::try_from(count).unwrap());
                assert_eq!(found, [many, few], "{n} requests, a share of {share}");
            }
        }
    }

    #[test]
    fn a_design_at_the_defaults_takes_less_than_twenty_milliseconds() {
        // the best of 20, since other tests run meanwhile
        let times = (0..20).map(|_| {
            let start = std::time::Instant::now();
            let design = ShareDesign::computed(0.5, 0.10, 1e-6, 1e-3, 100_000);
            assert!(design.is_some());
            start.elapsed()
        });
        let best = times.min().unwrap();
        assert!(best < std::time::Duration::from_millis(20), "{best:?}");
    }

    #[test]
    fn the_same_claim_is_designed_once() {
        let first = ShareDesign::new(0.37, 0.05, 1e-6, 1e-3, 100_000).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..100 {
            assert_eq!(ShareDesign::new(0.37, 0.05, 1e-6, 1e-3, 100_000).as_ref(), Some(&first));
        }
        assert!(start.elapsed() < std::time::Duration::from_millis(20), "{:?}", start.elapsed());
        assert_eq!(ShareDesign::computed(0.37, 0.05, 1e-6, 1e-3, 100_000), Some(first));
    }

    #[rstest]
    #[case(0.5, 0.10)]
    #[case(0.9, 0.05)]
    #[case(0.2, 0.10)]
    #[case(0.1, 0.10)]
    fn no_sample_passes_with_fewer_requests_than_the_least(#[case] share: f64, #[case] deviation: f64) {
        let design = ShareDesign::new(share, deviation, 1e-6, 1e-3, 100_000).unwrap();
        let mut random = fastrand::Rng::with_seed(9);
        let passed = |truth: f64, random: &mut fastrand::Rng| {
            let mut test = ShareTest::new();
            let ruling = (0..).find_map(|_| test.observe(&design, random.f64() < truth)).unwrap();
            (ruling == Ruling::Pass).then_some(test.requests())
        };
        // from shares all over the place, so that some pass as early as can be
        let truths = (0..=20).map(|part| share + deviation * (f64::from(part) / 10.0 - 1.0) * 0.8);
        let earliest =
            truths.flat_map(|truth| (0..2000).map(move |_| truth)).filter_map(|truth| passed(truth, &mut random)).min();
        let (earliest, least) = (earliest.unwrap(), design.least());
        assert!(least <= earliest && earliest < least + 8, "{least} and {earliest}");
    }

    #[test]
    fn the_cap_of_the_defaults_is_that_of_the_tables() {
        assert_eq!(ShareDesign::new(0.5, 0.10, 1e-6, 1e-3, 100_000).unwrap().cap(), 1711);
    }

    #[rstest]
    #[case::too_fine(0.5, 0.0001)]
    #[case::beyond_nothing(0.05, 0.10)]
    #[case::beyond_all(0.95, 0.10)]
    #[case::no_deviation(0.5, 0.0)]
    fn a_test_that_cannot_decide_is_refused(#[case] share: f64, #[case] deviation: f64) {
        assert_eq!(ShareDesign::new(share, deviation, 1e-6, 1e-3, 100_000), None);
    }

    #[test]
    fn a_deviation_to_the_very_edge_ends_with_the_first_answer_that_excludes_it() {
        // 90 % ± 10 points: one miss excludes 100 %
        let design = ShareDesign::new(0.9, 0.1, 1e-6, 1e-3, 100_000).unwrap();
        let mut test = ShareTest::new();
        assert_eq!(test.observe(&design, false), None);
        assert!(design.more.steps.sum(test.hits(), 1).is_infinite());
        let ruling = (1..design.cap()).find_map(|n| test.observe(&design, n % 10 != 0));
        assert_eq!(ruling, Some(Ruling::Pass));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn errors_are_kept_at_any_share(percent in 15_u32..86, points in 8_u32..15, alpha in 1_i32..5, beta in 1_i32..4) {
            let (share, deviation) = (f64::from(percent) / 100.0, f64::from(points) / 100.0);
            let (alpha, beta) = (10_f64.powi(-alpha), 10_f64.powi(-beta));
            let design = ShareDesign::new(share, deviation, alpha, beta, 100_000).unwrap();
            prop_assert!(design.characteristics(share).fails <= alpha);
            for truth in [share - deviation, share + deviation] {
                let missed = design.characteristics(truth).passes;
                // the sum over all paths is itself exact to some digits only
                prop_assert!(missed <= beta * (1.0 + 1e-9), "{missed:e} at {truth}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_lines_are_where_the_test_stops(n in 1_u64..2000, part in 0.0_f64..=1.0, share in 0.1_f64..=0.9) {
            // one of 100 shares: each is designed
            let share = (share * 100.0).round() / 100.0;
            let design = ShareDesign::new(share, 0.1, 1e-6, 1e-3, 100_000).unwrap();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
            let hits = (n as f64 * part) as u64;
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let seen = hits as f64;
            let (more, fewer) = (design.more.steps.sum(hits, n), design.fewer.steps.sum(hits, n));
            let lines = design.boundaries();
            // a whole point beside a line, for the last bits
            for (line, above, crossed) in [
                (lines.fails_above, true, more >= design.more.fail_at),
                (lines.passes_below, false, more <= design.more.pass_at),
                (lines.passes_above, true, fewer <= design.fewer.pass_at),
                (lines.fails_below, false, fewer >= design.fewer.fail_at),
            ] {
                let at = line.after(n);
                if (at - seen).abs() > 1e-6 {
                    prop_assert_eq!(crossed, (seen > at) == above);
                }
            }
        }
    }

    #[test]
    fn a_share_that_leaves_no_room_below_has_a_flat_line_there() {
        let design = ShareDesign::new(0.1, 0.1, 1e-6, 1e-3, 100_000).unwrap();
        assert_eq!(design.boundaries().fails_below, Line { start: 0.0, slope: 0.0 });
    }
}
