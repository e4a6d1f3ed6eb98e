//! A sequential test of shares that may change from one request to the next.

#[cfg(test)]
mod tests;

use super::binomial::requests_for_leak;
use super::ruling::Ruling;
use crate::scenario::ErrorRates;

/// The error rates of a test of shares that may change while requests are sent, as in a rollout that a controller drives. The share `w` of a
/// request has to be known before the request is sent.
///
/// `L±` is the product, over the requests of a round, of the likelihood ratios of `q = w ± δ` to `w`, where δ is smaller if `w ± δ` would
/// leave 0 to 1. For a share of 0 or 1 the only alternative is the leak. Round `i` fails as soon as one of `L±` reaches `2 i (i + 1) / α`. It
/// passes as soon as both are at most β. Then the next round begins, so that a share which becomes wrong later fails soon.
///
/// - **False alarm.** If each share is as declared, `L±` of each round are nonnegative martingales that start at 1. By Ville's inequality, round
///   `i` fails with a probability of at most `α / (i (i + 1))`. These bounds sum to α. So the probability that any round fails is at most α,
///   whenever the rounds end.
/// - **Miss.** If each share is off by δ or more in the same direction, `1 / L+` or `1 / L-` is a supermartingale that starts at 1, so that a
///   round passes with a probability of at most β.
/// - **Cap.** A round ends without a decision when its requests carry enough information: each counts `1 / n`, where `n` is
///   [the number of requests](Self::requests) that a decision on its share takes. A number of requests would be no cap, since a share near one
///   half takes more of them than a small one.
///
/// (Wald 1945; Ville 1939.)
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeclaredDesign {
    alpha: f64,
    beta: f64,
    deviation: f64,
    leak: f64,
    /// The number of clean requests that excludes the leak.
    clean: u64,
}

/// The open round of a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeclaredTest {
    design: DeclaredDesign,
    /// The number of the round, from 1.
    round: u32,
    /// The logarithms of `L-` and `L+`; none before the first request that has such an alternative.
    ratios: [Option<f64>; 2],
    information: f64,
    /// The share of the last request, and the information that such a request carries.
    last: (f64, f64),
}

impl DeclaredDesign {
    /// The design of one of several tests that share α.
    pub fn new(errors: ErrorRates, tests: u32) -> Self {
        let ErrorRates { false_alarm, miss, deviation, leak, .. } = errors;
        let alpha = false_alarm.divided_among(tests.max(1)).value();
        Self { alpha, beta: miss.value(), deviation, leak, clean: requests_for_leak(leak, errors.confidence()) }
    }

    /// The alternatives below and above a share.
    fn others(self, share: f64) -> [Option<f64>; 2] {
        if share <= 0.0 {
            [None, Some(self.leak)]
        } else if share >= 1.0 {
            [Some(1.0 - self.leak), None]
        } else {
            let deviation = self.deviation.min(share).min(1.0 - share);
            [Some(share - deviation), Some(share + deviation)]
        }
    }

    /// The number of requests with which a round passes if all have this share and the route is right, except with a probability of about β.
    pub fn requests(self, share: f64) -> u64 {
        if share <= 0.0 || share >= 1.0 {
            return self.clean;
        }
        let sides = self.others(share).into_iter().flatten();
        let needed = sides.map(|other| self.requests_to_exclude(other, share)).fold(1.0, f64::max);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of requests")]
        let needed = needed.ceil() as u64;
        needed
    }

    /// The same for one alternative. `log L` is a sum of independent terms: it is below the mean plus z standard deviations, except with a
    /// probability of at most `β/2` if its tails are no larger than those of a normal distribution.
    fn requests_to_exclude(self, other: f64, share: f64) -> f64 {
        let half = self.beta / 2.0;
        if other <= 0.0 || other >= 1.0 {
            // one request of the other kind excludes it
            return half.ln() / if other <= 0.0 { (-share).ln_1p() } else { share.ln() };
        }
        let (hit, miss) = steps(other, share);
        let mean = -(share * hit + (1.0 - share) * miss);
        let spread = (share * (1.0 - share)).sqrt() * (hit - miss).abs();
        let spread = spread * (-2.0 * half.ln()).sqrt();
        let root = (spread + (spread * spread - 4.0 * mean * self.beta.ln()).sqrt()) / (2.0 * mean);
        root * root
    }

    /// A test before its first request.
    pub const fn test(self) -> DeclaredTest {
        DeclaredTest { design: self, round: 1, ratios: [None; 2], information: 0.0, last: (0.0, 0.0) }
    }
}

/// The logarithms of the likelihood ratios of another share to a share, of a request that counts for the share and of one that does not.
fn steps(other: f64, share: f64) -> (f64, f64) {
    ((other / share).ln(), ((1.0 - other) / (1.0 - share)).ln())
}

impl DeclaredTest {
    /// Takes the next request in the order of sending: its share, and whether it counts for the share. Returns the ruling on the round, if
    /// this request ends it.
    pub fn observe(&mut self, share: f64, hit: bool) -> Option<Ruling> {
        // the alternatives of 0 and 1 have a ratio of infinity for this request
        let is_excluded = if hit { share <= 0.0 } else { share >= 1.0 };
        for (ratio, other) in self.ratios.iter_mut().zip(self.design.others(share)) {
            let Some(other) = other.filter(|_| !is_excluded) else { continue };
            let (on_hit, on_miss) = steps(other, share);
            *ratio.get_or_insert(0.0) += if hit { on_hit } else { on_miss };
        }
        let round = f64::from(self.round);
        let fails_at = (2.0 * round * (round + 1.0) / self.design.alpha).ln();
        let passes_at = self.design.beta.ln();
        if share.to_bits() != self.last.0.to_bits() {
            // a share of 0 or 1 needs no cap: each request decides, or brings the test nearer to a pass
            let is_part = share > 0.0 && share < 1.0;
            self.last = (share, if is_part { 1.0 / self.design.requests(share) as f64 } else { 0.0 });
        }
        self.information += self.last.1;
        let mut sides = self.ratios.iter().flatten();
        let ruling = if is_excluded || sides.clone().any(|ratio| *ratio >= fails_at) {
            Ruling::Fail
        } else if sides.all(|ratio| *ratio <= passes_at) {
            Ruling::Pass
        } else if self.information >= 1.0 {
            Ruling::Inconclusive
        } else {
            return None;
        };
        self.renew();
        Some(ruling)
    }

    /// Drops the open round and begins the next one.
    pub fn renew(&mut self) {
        *self = Self { round: self.round + 1, ratios: [None; 2], information: 0.0, ..*self };
    }
}
