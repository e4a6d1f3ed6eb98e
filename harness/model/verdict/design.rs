use displaydoc::Display;
use thiserror::Error;

use super::binomial::requests_for_leak;
use super::sequential::ShareDesign;
use crate::scenario::{Claim, ErrorRates, Share, StatusCode, Statuses};

/// The answers that one share of a claim counts.
#[derive(Debug, Clone, PartialEq, Eq, Display)]
pub enum Part {
    /// The answers of a version.
    #[displaydoc("{0}")]
    Version(String),
    /// The answers before or after a time.
    #[displaydoc("{0}")]
    Speed(String),
    /// The answers with a status.
    #[displaydoc("status {0}")]
    Status(StatusCode),
}

/// The statistical design of a claim, fixed before the first request.
#[derive(Debug, Clone, PartialEq)]
pub struct Design {
    /// The claim.
    pub claim: Claim,
    /// A test for each share between 0 % and 100 %; if there are two parts, one test decides both.
    pub(super) tests: Vec<(Part, ShareDesign)>,
    /// The number of clean requests that a claim of 100 % needs to exclude a leak; 0 if there is no such claim.
    pub(super) clean: u64,
    /// The largest number of requests of the verdict.
    pub allowed: u64,
    /// The number of the population's variants, which take turns.
    pub(super) variants: u64,
}

/// Why a claim cannot be decided.
#[derive(Debug, Error, PartialEq)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
pub enum DesignError {
    /// A test may need more requests than are allowed. The deviation is in percentage points.
    #[error(
        "{share} of {part} with a deviation of {deviation} points may need more than the {limit} requests that are allowed"
    )]
    TooManyRequests { part: String, share: Share, deviation: f64, limit: u64 },
    /// Excluding the leak takes more requests than are allowed. The leak is in percent.
    #[error("excluding a leak of {leak} % takes {needed} clean requests; {limit} are allowed")]
    TooSmallALeak { leak: f64, needed: u64, limit: u64 },
    /// More sessions are needed. The deviation is in percentage points.
    #[error(
        "{share} of {part} with a deviation of {deviation} points cannot be decided with {count} sessions: {needed}"
    )]
    TooFewSessions { part: String, share: Share, deviation: f64, count: u64, needed: String },
    /// A claim of all sessions excludes no leak as small as that. The leak is in percent.
    #[error(
        "excluding a leak of {leak} % of the sessions takes {needed} sessions, not {count}: set `count: {needed}`, or a larger `leak`"
    )]
    TooFewForALeak { leak: f64, needed: u64, count: u64 },
    /// Each session sends one request, and all of them together as many as exclude a leak.
    #[error("{count} sessions take {needed} requests; {limit} are allowed by `max-requests`")]
    TooManySessions { count: u64, needed: u64, limit: u64 },
    /// A one-sided test takes more requests than are allowed, on average.
    #[error("{what} takes about {needed:.0} requests; {limit} are allowed by `max-requests`")]
    TooSmallAnEffect { what: String, needed: f64, limit: u64 },
}

impl Design {
    /// Designs the verdict on a claim, with its error rates.
    ///
    /// If a claim has more than two parts, each part has a test, and α is divided among the tests; each test keeps β, so that every part has to
    /// hold. If versions and statuses are split, α is divided among the tests of both.
    ///
    /// # Errors
    /// The claim may need more requests than it allows.
    pub fn new(claim: &Claim) -> Result<Self, DesignError> {
        let errors = claim.errors;
        let mut split = Vec::new();
        let mut clean = 0;
        for group in groups(claim) {
            let group: Vec<_> = group.into_iter().filter(|(_, share)| !share.is_none()).collect();
            match group.as_slice() {
                [] => {}
                [_all] => clean = requests_for_leak(errors.leak, errors.confidence()),
                // one of two shares determines the other
                [_, second] => split.push(second.clone()),
                many => split.extend(many.iter().cloned()),
            }
        }
        if clean > errors.max_requests {
            return Err(DesignError::TooSmallALeak {
                leak: errors.leak * 100.0,
                needed: clean,
                limit: errors.max_requests,
            });
        }
        let parts = u32::try_from(split.len()).unwrap_or(u32::MAX);
        let tests = split
            .into_iter()
            .map(|(part, share)| {
                let false_alarm = errors.false_alarm.divided_among(parts);
                let test = ShareDesign::new(share, ErrorRates { false_alarm, ..errors });
                let test = test.ok_or_else(|| DesignError::TooManyRequests {
                    part: part.to_string(),
                    share,
                    deviation: (errors.deviation * 1e6).round() / 1e4,
                    limit: errors.max_requests,
                })?;
                Ok((part, test))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let allowed = tests.iter().map(|(_, test)| test.cap()).chain([clean]).max().unwrap_or(0);
        Ok(Self { claim: claim.clone(), tests, clean, allowed, variants: 1 })
    }

    /// Sets the number of the population's variants. The verdict then also bounds the result of each variant.
    #[must_use]
    pub fn of_variants(self, variants: usize) -> Self {
        Self { variants: u64::try_from(variants).unwrap_or(u64::MAX).max(1), ..self }
    }

    /// The mean number of requests of the verdict if the claim is correct.
    pub fn mean(&self) -> f64 {
        self.tests.iter().map(|(_, test)| test.mean()).fold(self.clean as f64, f64::max)
    }

    /// The smallest number of requests with which the claim can pass, give or take one or two.
    pub fn least(&self) -> u64 {
        self.tests.iter().map(|(_, test)| test.least()).chain([self.clean]).max().unwrap_or(0)
    }
}

/// The claimed shares of versions and of statuses. Each list sums to 100 %, or is empty if nothing is claimed.
pub(super) fn groups(claim: &Claim) -> [Vec<(Part, Share)>; 2] {
    let part = |name: &String| match claim.slower_than {
        Some(_) => Part::Speed(name.clone()),
        None => Part::Version(name.clone()),
    };
    let versions = claim.versions.iter().map(|(name, share)| (part(name), *share)).collect();
    let statuses = match &claim.statuses {
        Statuses::Implied(_) => Vec::new(),
        Statuses::Claimed(statuses) => {
            statuses.iter().map(|(status, share)| (Part::Status(StatusCode(*status)), *share)).collect()
        }
    };
    [versions, statuses]
}

/// The error rates of several claims together: bounds on the probability of any error, by the union bound.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// The number of claims.
    pub claims: usize,
    /// The probability that a correct rollout fails. Claims of 100 % add nothing to it.
    pub false_alarm: f64,
    /// If every claim has a fault that it has to detect, the probability that at least one of these faults is missed.
    pub miss: f64,
    /// The largest probability that a single claim misses its fault.
    pub worst_miss: f64,
    /// The mean number of requests of all claims if they are correct.
    pub requests: f64,
}

impl Totals {
    /// The probability that a correct rollout fails because a request is lost or fails for another reason, if that happens to each request
    /// independently with this probability: no claim tolerates an answer that it excludes.
    ///
    /// ```
    /// let totals = shiftcheck_model::verdict::Totals { requests: 16_418.0, ..Default::default() };
    /// assert!((totals.refused_by_losses(1e-6) - 0.016).abs() < 5e-4);
    /// ```
    pub fn refused_by_losses(&self, chance: f64) -> f64 {
        -(self.requests * (-chance).ln_1p()).exp_m1()
    }
}

impl<'a> FromIterator<&'a Design> for Totals {
    fn from_iter<I: IntoIterator<Item = &'a Design>>(designs: I) -> Self {
        let mut totals = Self::default();
        for design in designs {
            totals.claims += 1;
            totals.requests += design.mean();
            totals.miss += design.claim.errors.miss.value();
            totals.worst_miss = totals.worst_miss.max(design.claim.errors.miss.value());
            if !design.tests.is_empty() {
                totals.false_alarm += design.claim.errors.false_alarm.value();
            }
        }
        totals
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;
    use crate::scenario::{ErrorProbability, Origin};

    pub fn claim(versions: &[(&str, f64)], statuses: &[(u16, f64)]) -> Claim {
        let share = |share: f64| Share::from_fraction(share).unwrap();
        let statuses: BTreeMap<_, _> = statuses.iter().map(|(status, part)| (*status, share(*part))).collect();
        Claim {
            slower_than: None,
            from: "testers".to_owned(),
            path: "/".to_owned(),
            versions: versions.iter().map(|(name, part)| ((*name).to_owned(), share(*part))).collect(),
            statuses: if statuses.is_empty() { Statuses::Implied(200) } else { Statuses::Claimed(statuses) },
            errors: ErrorRates::default(),
            origin: Origin::new("scenario.yaml", 27, 9),
        }
    }

    fn shape(design: &Design) -> (Vec<String>, u64, u64) {
        (design.tests.iter().map(|(part, _)| part.to_string()).collect(), design.clean, design.allowed)
    }

    #[rstest]
    #[case::halves(&[("v1", 0.5), ("v2", 0.5)], &[], &["v2"], 0, 1711)]
    #[case::all(&[("v1", 1.0), ("v2", 0.0)], &[], &[], 688, 688)]
    #[case::all_with_a_status(&[("v1", 1.0)], &[(503, 1.0)], &[], 688, 688)]
    #[case::halves_with_a_status(&[("v1", 0.5), ("v2", 0.5)], &[(503, 1.0)], &["v2"], 688, 1711)]
    #[case::only_a_status(&[], &[(404, 1.0)], &[], 688, 688)]
    #[case::split_statuses(&[], &[(200, 0.9), (503, 0.1)], &["status 503"], 0, 838)]
    #[case::three(&[("v1", 0.5), ("v2", 0.25), ("v3", 0.25)], &[], &["v1", "v2", "v3"], 0, 1797)]
    fn the_error_rates_of_a_claim_determine_its_sample_size(
        #[case] versions: &[(&str, f64)],
        #[case] statuses: &[(u16, f64)],
        #[case] tests: &[&str],
        #[case] clean: u64,
        #[case] allowed: u64,
    ) {
        let tests: Vec<String> = tests.iter().map(|part| (*part).to_owned()).collect();
        assert_eq!(shape(&Design::new(&claim(versions, statuses)).unwrap()), (tests, clean, allowed));
    }

    #[test]
    fn a_deviation_that_needs_too_many_requests_is_refused() {
        let mut claim = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
        claim.errors.deviation = 0.0001;
        assert_eq!(
            Design::new(&claim).unwrap_err().to_string(),
            "50 % of v2 with a deviation of 0.01 points may need more than the 100000 requests that are allowed"
        );
        claim.errors = ErrorRates { max_requests: 1700, ..ErrorRates::default() };
        assert!(Design::new(&claim).is_err());
        claim.errors.max_requests = 1711;
        assert!(Design::new(&claim).is_ok());
    }

    #[test]
    fn a_leak_that_would_cost_too_much_is_refused() {
        let mut claim = claim(&[("v1", 1.0)], &[]);
        claim.errors.max_requests = 100;
        assert_eq!(
            Design::new(&claim).unwrap_err().to_string(),
            "excluding a leak of 1 % takes 688 clean requests; 100 are allowed"
        );
    }

    #[test]
    fn the_errors_of_all_claims_add_up() {
        let mut halves = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
        halves.errors.false_alarm = ErrorProbability::new(1e-3).unwrap();
        let designs = [&halves, &claim(&[("v1", 1.0)], &[]), &claim(&[("v1", 0.5), ("v2", 0.5)], &[])]
            .map(|claim| Design::new(claim).unwrap());
        let totals: Totals = designs.iter().collect();
        assert_eq!(totals.claims, 3);
        assert!((totals.false_alarm - 1.001e-3).abs() < 1e-12);
        assert!((totals.miss - 3e-3).abs() < 1e-12);
        let mean = |design: &Design| design.tests[0].1.mean();
        assert!((totals.requests - mean(&designs[0]) - 688.0 - mean(&designs[2])).abs() < 1e-9);
    }
}
