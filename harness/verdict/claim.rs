use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::binomial::{Band, requests_for_leak};
use crate::scenario::Share;

/// The chance of an error, above 0 and below one half.
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

/// The errors that a verdict may make, and what it has to see.
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
}

impl Default for Errors {
    /// α = 10⁻⁶, β = 10⁻³, δ = 10 points, leaks below 1 %.
    fn default() -> Self {
        Self { false_alarm: Rate(1e-6), miss: Rate(1e-3), deviation: 0.10, leak: 0.01 }
    }
}

/// How a claim is going to be decided: fixed before the first request.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The number of requests.
    pub requests: u64,
    /// The accepted counts of each version; none where one version has to answer everything.
    pub bands: BTreeMap<String, Band>,
}

/// A claim that cannot be decided.
#[derive(Debug, Error, PartialEq)]
pub enum PlanError {
    /// The number of requests would be out of all proportion.
    #[error("{share} of `{version}` with a deviation of {deviation} points needs more than {limit} requests")]
    TooManyRequests {
        /// The version.
        version: String,
        /// Its claimed share.
        share: Share,
        /// δ in points.
        deviation: f64,
        /// The most that are sent.
        limit: u64,
    },
}

/// The most requests that one claim may cost.
const LIMIT: u64 = 100_000;

impl Plan {
    /// The smallest number of requests that decides a claim with these errors, and the counts accepted then.
    ///
    /// With several versions each has its own band and α is divided among them.
    ///
    /// # Errors
    /// The deviation is too small for any sensible number of requests.
    pub fn new(shares: &BTreeMap<String, Share>, errors: Errors) -> Result<Self, PlanError> {
        let split: Vec<_> = shares.iter().filter(|(_, share)| !share.is_none()).collect();
        if split.iter().any(|(_, share)| share.is_all()) {
            let requests = requests_for_leak(errors.leak, 1.0 - errors.miss.chance());
            return Ok(Self { requests, bands: BTreeMap::new() });
        }
        // one margin decides both of two versions
        let margins = if split.len() == 2 { 1 } else { split.len() };
        #[expect(clippy::cast_precision_loss, reason = "a handful of versions")]
        let alpha = errors.false_alarm.chance() / margins as f64;
        let mut requests = 0;
        for (version, share) in &split {
            let needed = smallest(share.fraction(), alpha, errors).ok_or_else(|| PlanError::TooManyRequests {
                version: (*version).clone(),
                share: **share,
                deviation: errors.deviation * 100.0,
                limit: LIMIT,
            })?;
            requests = requests.max(needed);
        }
        let bands = split
            .iter()
            .map(|(version, share)| ((*version).clone(), Band::exact(requests, share.fraction(), alpha)))
            .collect();
        Ok(Self { requests, bands })
    }
}

/// The smallest n whose exact band accepts a share that is off by δ with a chance of at most β.
fn smallest(share: f64, alpha: f64, errors: Errors) -> Option<u64> {
    let wrong: Vec<f64> = [share - errors.deviation, share + errors.deviation]
        .into_iter()
        .filter(|wrong| (0.0..=1.0).contains(wrong))
        .collect();
    if wrong.is_empty() {
        return None;
    }
    let decides = |n: u64| {
        let band = Band::exact(n, share, alpha);
        wrong.iter().all(|wrong| band.chance(n, *wrong) <= errors.miss.chance())
    };
    let mut high = 16;
    while !decides(high) {
        high *= 2;
        if high > 2 * LIMIT {
            return None;
        }
    }
    // The chances step up and down with n, so the last stretch is searched one by one.
    let mut low = high / 2;
    while high - low > 64 {
        let middle = low + (high - low) / 2;
        if decides(middle) { high = middle } else { low = middle }
    }
    (low.saturating_sub(64)..=high).find(|n| *n > 0 && decides(*n)).filter(|n| *n <= LIMIT)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn split(shares: &[(&str, f64)]) -> BTreeMap<String, Share> {
        shares.iter().map(|(name, share)| ((*name).to_owned(), Share::from_fraction(*share).unwrap())).collect()
    }

    #[rstest]
    #[case(1e-3, 1e-3, 0.05, 4063, Band { low: 1927, high: 2136 })]
    #[case(1e-3, 1e-3, 0.10, 1010, Band { low: 453, high: 557 })]
    #[case(1e-3, 1e-3, 0.15, 440, Band { low: 186, high: 254 })]
    #[case(1e-6, 1e-6, 0.10, 2291, Band { low: 1029, high: 1262 })]
    fn halves_agree_with_the_exact_tables(
        #[case] alpha: f64,
        #[case] beta: f64,
        #[case] deviation: f64,
        #[case] requests: u64,
        #[case] band: Band,
    ) {
        let errors = Errors { false_alarm: Rate(alpha), miss: Rate(beta), deviation, ..Errors::default() };
        let plan = Plan::new(&split(&[("v1", 0.5), ("v2", 0.5)]), errors).unwrap();
        assert_eq!((plan.requests, plan.bands["v1"], plan.bands["v2"]), (requests, band, band));
    }

    #[test]
    fn the_defaults_cost_1573_requests_for_halves_and_688_for_all() {
        let halves = Plan::new(&split(&[("v1", 0.5), ("v2", 0.5)]), Errors::default()).unwrap();
        assert_eq!(halves.requests, 1573);
        let all = Plan::new(&split(&[("v1", 1.0)]), Errors::default()).unwrap();
        assert_eq!(all.requests, 688);
    }

    #[test]
    fn a_deviation_that_nothing_could_show_is_refused() {
        let errors = Errors { deviation: 0.0001, ..Errors::default() };
        let error = Plan::new(&split(&[("v1", 0.5), ("v2", 0.5)]), errors).unwrap_err();
        assert_eq!(error.to_string(), "50 % of `v1` with a deviation of 0.01 points needs more than 100000 requests");
    }
}
