use super::binomial::{Band, smallest};
use super::trial::{Ruling, Stop};

/// A truncated two-sided sequential probability ratio test of one share `p₀` against `p₀ ± δ`.
///
/// With `L±` the likelihood ratio of `p₀ ± δ` to `p₀`, the test fails as soon as one of them reaches `4/α`, passes as soon as
/// both are at most `β/2`, and at the cap decides by the exact binomial band for `(α/2, β/2)`. Under `p₀` each of `L±` is a
/// nonnegative martingale that starts at 1, so that by Ville's inequality it ever reaches `4/α` with a chance of at most
/// `α/4`; both with the band's `α/2` make α. Under `p₀ + δ` the same holds for `1/L+`, so that the test passes before the cap
/// with a chance of at most `β/2` and at the cap with at most `β/2`. (Wald 1945; Sobel and Wald 1949; Ville 1939.)
#[derive(Debug, Clone, PartialEq)]
pub struct ShareDesign {
    share: f64,
    more: Steps,
    fewer: Steps,
    fail_at: f64,
    pass_at: f64,
    cap: u64,
    band: Band,
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
}

impl Steps {
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

impl ShareDesign {
    /// The test of a share strictly between 0 and 1 with these errors; none if it could need more requests than `limit`, or if
    /// `p₀ ± δ` leaves 0 to 1.
    #[must_use]
    pub fn new(share: f64, deviation: f64, alpha: f64, beta: f64, limit: u64) -> Option<Self> {
        // 10 % ± 10 points, in binary digits
        let (low, high) = ((share - deviation).max(-1e-9), (share + deviation).min(1.0 + 1e-9));
        if deviation <= 0.0 || share - deviation < low || share + deviation > high {
            return None;
        }
        let (low, high) = (low.max(0.0), high.min(1.0));
        let (cap, band) = smallest(share, &[low, high], alpha / 2.0, beta / 2.0, limit)?;
        Some(Self {
            share,
            more: Steps::new(high, share),
            fewer: Steps::new(low, share),
            fail_at: (4.0 / alpha).ln(),
            pass_at: (beta / 2.0).ln(),
            cap,
            band,
        })
    }

    /// The most requests that it takes.
    #[must_use]
    pub const fn cap(&self) -> u64 {
        self.cap
    }

    /// The fewest requests with which it can pass.
    #[must_use]
    pub fn least(&self) -> u64 {
        let passes = |n: u64| {
            // `L-` falls with every hit and `L+` rises: the fewest hits that exclude the one have to exclude the other
            let (mut low, mut high) = (0, n);
            while low < high {
                let middle = u64::midpoint(low, high);
                if self.fewer.sum(middle, n) <= self.pass_at { high = middle } else { low = middle + 1 }
            }
            self.fewer.sum(low, n) <= self.pass_at && self.more.sum(low, n) <= self.pass_at
        };
        (1..self.cap).find(|n| passes(*n)).unwrap_or(self.cap)
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

    /// Where the test stops.
    #[must_use]
    pub fn boundaries(&self) -> Boundaries {
        Boundaries {
            fails_above: self.more.line(self.fail_at),
            passes_below: self.more.line(self.pass_at),
            passes_above: self.fewer.line(self.pass_at),
            fails_below: self.fewer.line(self.fail_at),
        }
    }
}

/// Where a sequential test stops, in the plane of requests and hits: it fails above the first line and below the last, and passes
/// between the two in the middle, which cross where it can first pass.
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
        self.slope.mul_add(requests as f64, self.start)
    }
}

/// The state of a sequential test.
///
/// ```
/// use shiftcheck::verdict::{Ruling, ShareDesign, ShareTest};
///
/// let halves = ShareDesign::new(0.5, 0.10, 1e-6, 1e-3, 100_000).unwrap();
/// let mut test = ShareTest::new();
/// // one version answers everything: no route splits the traffic
/// let needed = (1..).find(|_| test.observe(&halves, true) == Some(Ruling::Fail));
/// assert_eq!(needed, Some(84));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ShareTest {
    requests: u64,
    hits: u64,
    more: f64,
    fewer: f64,
}

impl ShareTest {
    /// A test before its first request.
    #[must_use]
    pub const fn new() -> Self {
        Self { requests: 0, hits: 0, more: 0.0, fewer: 0.0 }
    }

    /// Takes the next request in the order of sending: whether it counts for the share. The ruling, if it stands now.
    #[inline]
    pub fn observe(&mut self, design: &ShareDesign, hit: bool) -> Option<Ruling> {
        self.requests += 1;
        self.hits += u64::from(hit);
        self.more += if hit { design.more.hit } else { design.more.miss };
        self.fewer += if hit { design.fewer.hit } else { design.fewer.miss };
        let largest = self.more.max(self.fewer);
        if largest >= design.fail_at {
            Some(Ruling::Fail)
        } else if largest <= design.pass_at {
            Some(Ruling::Pass)
        } else if self.requests >= design.cap {
            Some(if design.band.contains(self.hits) { Ruling::Pass } else { Ruling::Fail })
        } else {
            None
        }
    }

    /// Why it stopped, if it did.
    #[must_use]
    pub fn stop(&self, design: &ShareDesign) -> Option<Stop> {
        let largest = self.more.max(self.fewer);
        if largest >= design.fail_at || largest <= design.pass_at {
            Some(Stop::Boundary)
        } else {
            (self.requests >= design.cap).then_some(Stop::Cap)
        }
    }

    /// A bound, valid at any stopping time, on the chance under the claim of evidence this strong: the mean of `L+` and `L-` is
    /// a martingale from 1, which reaches `1/p` with a chance of at most p.
    #[must_use]
    pub fn chance(&self) -> f64 {
        (2.0 * (-self.more.max(self.fewer)).exp()).min(1.0)
    }

    /// The number of requests so far.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
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

    /// Exact operating characteristics at a true share, by summing over all paths: the chance to fail, and the mean requests.
    fn exactly(design: &ShareDesign, truth: f64) -> (f64, f64) {
        // the likelihood ratios depend on the path only through its counts, but for the last bits of a sum
        let cap = usize::try_from(design.cap).unwrap();
        let mut alive = vec![0.0_f64; cap + 2];
        alive[0] = 1.0;
        let (mut fail, mut mean) = (0.0, 0.0);
        for n in 1..=cap {
            let mut next = vec![0.0_f64; cap + 2];
            for hits in 0..n {
                next[hits] += alive[hits] * (1.0 - truth);
                next[hits + 1] += alive[hits] * truth;
            }
            for (hits, chance) in next.iter_mut().enumerate().take(n + 1).filter(|(_, chance)| **chance > 0.0) {
                let test = ShareTest {
                    requests: n as u64 - 1,
                    hits: hits as u64,
                    more: design.more.sum(hits as u64, n as u64),
                    fewer: design.fewer.sum(hits as u64, n as u64),
                };
                let largest = test.more.max(test.fewer);
                let ruling = if largest >= design.fail_at {
                    Some(Ruling::Fail)
                } else if largest <= design.pass_at {
                    Some(Ruling::Pass)
                } else if n == cap {
                    Some(if design.band.contains(hits as u64) { Ruling::Pass } else { Ruling::Fail })
                } else {
                    None
                };
                if let Some(ruling) = ruling {
                    #[expect(clippy::cast_precision_loss, reason = "small counts")]
                    let requests = n as f64;
                    mean += *chance * requests;
                    fail += if ruling == Ruling::Fail { *chance } else { 0.0 };
                    *chance = 0.0;
                }
            }
            alive = next;
        }
        (fail, mean)
    }

    #[rstest]
    #[case(0.5, 0.10, 1e-6, 1e-3, 1711, 530.0, 758.0)]
    #[case(0.5, 0.15, 1e-6, 1e-3, 746, 231.0, 335.0)]
    #[case(0.5, 0.10, 1e-3, 1e-3, 1130, 528.0, 415.0)]
    #[case(0.5, 0.10, 1e-9, 1e-3, 2237, 530.0, 1101.0)]
    #[case(0.9, 0.05, 1e-3, 1e-3, 1985, 787.0, f64::NAN)]
    fn characteristics_agree_with_the_exact_tables_and_errors_are_kept(
        #[case] share: f64,
        #[case] deviation: f64,
        #[case] alpha: f64,
        #[case] beta: f64,
        #[case] cap: u64,
        #[case] right: f64,
        #[case] wrong: f64,
    ) {
        let design = ShareDesign::new(share, deviation, alpha, beta, 100_000).unwrap();
        assert!(design.cap.abs_diff(cap) * 50 <= cap, "a cap of {}", design.cap);
        let (alarm, mean) = exactly(&design, share);
        assert!(alarm <= alpha, "a false alarm of {alarm:e}");
        assert!((mean / right - 1.0).abs() < 0.02, "a mean of {mean} where the route is right");
        for truth in [share - deviation, share + deviation] {
            let (caught, mean) = exactly(&design, truth);
            assert!(1.0 - caught <= beta, "a miss of {:e} at {truth}", 1.0 - caught);
            assert!(wrong.is_nan() || (mean / wrong - 1.0).abs() < 0.02, "a mean of {mean} at {truth}");
        }
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
            (ruling == Ruling::Pass).then_some(test.requests)
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
        assert!(test.more.is_infinite());
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
            prop_assert!(exactly(&design, share).0 <= alpha);
            for truth in [share - deviation, share + deviation] {
                let missed = 1.0 - exactly(&design, truth).0;
                // the sum over all paths is itself exact to some digits only
                prop_assert!(missed <= beta * (1.0 + 1e-6), "{missed:e} at {truth}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_lines_are_where_the_test_stops(n in 1_u64..2000, part in 0.0_f64..=1.0, share in 0.1_f64..=0.9) {
            let design = ShareDesign::new(share, 0.1, 1e-6, 1e-3, 100_000).unwrap();
            #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
            let hits = (n as f64 * part) as u64;
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let seen = hits as f64;
            let (more, fewer) = (design.more.sum(hits, n), design.fewer.sum(hits, n));
            let lines = design.boundaries();
            // a whole point beside a line, for the last bits
            for (line, above, crossed) in [
                (lines.fails_above, true, more >= design.fail_at),
                (lines.passes_below, false, more <= design.pass_at),
                (lines.passes_above, true, fewer <= design.pass_at),
                (lines.fails_below, false, fewer >= design.fail_at),
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
