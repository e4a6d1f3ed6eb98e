use super::frontier::Frontier;
use super::{GROSS, ShareDesign};
use crate::verdict::binomial::log_mixture;
use crate::verdict::ruling::{Ruling, Stop};

/// The state of a sequential test.
///
/// ```
/// use shiftcheck_model::scenario::{ErrorRates, Share};
/// use shiftcheck_model::verdict::{Ruling, ShareDesign, ShareTest};
///
/// let half: Share = "50%".parse()?;
/// let design = ShareDesign::new(half, ErrorRates::default()).unwrap();
/// let mut test = ShareTest::default();
/// // one version answers everything: no route splits the traffic
/// let needed = (1..).find(|_| test.observe(&design, true) == Some(Ruling::Fail));
/// assert_eq!(needed, Some(30));
/// # Ok::<(), shiftcheck_model::scenario::InvalidShare>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareTest {
    pub(super) hits: u64,
    pub(super) frontier: Frontier,
}

impl Default for ShareTest {
    /// A test before its first request.
    fn default() -> Self {
        Self { hits: 0, frontier: Frontier::START }
    }
}

impl ShareTest {
    /// Takes the next request in the order of sending: whether it counts for the share. Returns the ruling, once there is one.
    #[inline]
    pub fn observe(&mut self, design: &ShareDesign, hit: bool) -> Option<Ruling> {
        self.frontier.step(design);
        self.hits += u64::from(hit);
        self.state(design).map(|(ruling, _)| ruling)
    }

    /// The event that stopped the test, if it has stopped.
    pub fn stop(&self, design: &ShareDesign) -> Option<Stop> {
        self.state(design).map(|(_, stop)| stop)
    }

    #[inline]
    #[expect(clippy::cast_possible_wrap, reason = "a number of requests is far below 2^52")]
    pub(super) fn state(&self, design: &ShareDesign) -> Option<(Ruling, Stop)> {
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

    /// A bound, valid at any stopping time, on the probability of evidence this strong if the claim is correct: `0.49 (L+ + L-) + 0.02 M` is
    /// a martingale that starts at 1, so that it reaches `1/p` with a probability of at most p.
    pub fn chance(&self, design: &ShareDesign) -> f64 {
        let (hits, n) = (self.hits, self.requests());
        let ratios = design.more.steps.sum(hits, n).exp() + design.fewer.steps.sum(hits, n).exp();
        let mixture = log_mixture(n, hits, design.share).exp();
        (1.0 / ((1.0 - GROSS) / 2.0).mul_add(ratios, GROSS * mixture)).min(1.0)
    }

    /// The number of requests so far.
    #[expect(clippy::cast_sign_loss, reason = "a number of requests")]
    pub const fn requests(&self) -> u64 {
        self.frontier.requests as u64
    }

    /// The number of requests that counted for the share.
    pub const fn hits(&self) -> u64 {
        self.hits
    }
}
