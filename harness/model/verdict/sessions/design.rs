use super::beta_binomial::RingCount;
use crate::scenario::{ErrorRates, SessionClaim, Sessions, Share};
use crate::verdict::binomial::requests_for_leak;
use crate::verdict::design::DesignError;
use crate::verdict::search::bisect;

/// The largest ring of Envoy.
const LARGEST_RING: u64 = 8_388_608;

/// The statistical design of a claim about sessions, fixed before the first request.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionDesign {
    /// The claim.
    pub claim: SessionClaim,
    /// The number of points of the hash ring.
    pub(super) ring: u64,
    /// The shares that are tested: one of two, otherwise each.
    pub(super) tests: Vec<SessionTest>,
    /// The number of requests of each session; the largest number of a claim that sessions keep a version.
    pub(super) rounds: u64,
    /// The number of requests that exclude a leak.
    pub(super) clean: u64,
}

/// The test of the share of the sessions that a version gets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SessionTest {
    pub version: String,
    pub share: Share,
    /// The smallest and the largest number of sessions with which the claim passes.
    pub band: (u64, u64),
}

impl SessionDesign {
    /// Designs the verdict on a claim about sessions whose pods are found on a hash ring with at least so many points.
    ///
    /// If there are more than two shares, α is divided among them. Each test keeps β. All requests after the first of each session together
    /// exclude a leak: a share of requests that goes elsewhere. A claim that sessions keep a version counts the requests after an answer of the
    /// version alone, whose number depends on the share of the version: the sample ends when there are enough.
    ///
    /// # Errors
    /// There are too few sessions for the error rates, or too many for the requests that are allowed.
    pub fn new(claim: &SessionClaim, ring: u64) -> Result<Self, DesignError> {
        let (errors, count) = (claim.errors, claim.count);
        let split: Vec<_> = claim.versions.iter().filter(|(_, share)| share.is_part()).collect();
        let tested = if split.len() == 2 { &split[1..] } else { &split[..] };
        let clean = requests_for_leak(errors.leak, errors.confidence());
        if !claim.versions.is_empty() && split.is_empty() && count < clean {
            return Err(DesignError::TooFewForALeak { leak: errors.leak * 100.0, needed: clean, count });
        }
        let parts = u32::try_from(tested.len()).unwrap_or(u32::MAX);
        let errors = ErrorRates { false_alarm: errors.false_alarm.divided_among(parts.max(1)), ..errors };
        let test = |(version, share): &(&String, &Share)| {
            let band = band(count, **share, ring, errors).ok_or_else(|| DesignError::TooFewSessions {
                part: (*version).clone(),
                share: **share,
                deviation: (errors.deviation * 1e6).round() / 1e4,
                count,
                needed: needed(**share, ring, errors),
            })?;
            Ok(SessionTest { version: (*version).clone(), share: **share, band })
        };
        let tests = tested.iter().map(test).collect::<Result<_, _>>()?;
        let fewest = 1 + clean.div_ceil(count);
        let rounds = if claim.keep.is_some() { fewest.max(errors.max_requests / count) } else { fewest };
        let design = Self { claim: claim.clone(), ring, tests, rounds, clean };
        if design.requests() > errors.max_requests {
            let (needed, limit) = (design.requests(), errors.max_requests);
            return Err(DesignError::TooManySessions { count, needed, limit });
        }
        Ok(design)
    }

    /// The number of requests of the verdict, or the largest number of a claim that sessions keep a version.
    pub const fn requests(&self) -> u64 {
        self.rounds.saturating_mul(self.claim.count)
    }

    /// The smallest number of requests of the verdict.
    pub const fn least(&self) -> u64 {
        let (requests, fewest) = (self.requests(), self.clean.saturating_add(1));
        if self.claim.keep.is_some() && fewest < requests { fewest } else { requests }
    }

    /// The number of requests of the verdict, as a mean; at least so many of a claim that sessions keep a version.
    pub const fn mean(&self) -> f64 {
        let requests = self.requests();
        let fewest = self.claim.count.saturating_add(self.clean);
        (if self.claim.keep.is_some() && fewest < requests { fewest } else { requests }) as f64
    }

    /// Whether a correct route can fail the claim by chance.
    pub const fn is_split(&self) -> bool {
        !self.tests.is_empty()
    }

    /// The interval of a version's share of the points, given the number of its sessions, with the confidence of the claim.
    pub(super) fn interval(&self, sessions: u64) -> (f64, f64) {
        let n = self.claim.count;
        let tail = (1.0 - self.claim.errors.confidence().fraction()) / 2.0;
        let seen = sessions as f64 / n as f64;
        let low = bisect(0.0, seen, 40, |share| RingCount::new(n, share, self.ring).at_least(sessions) > tail).0;
        let high = bisect(1.0, seen, 40, |share| RingCount::new(n, share, self.ring).at_most(sessions) > tail).0;
        (low, high)
    }
}

/// The numbers of sessions with which a share passes; none if they would also pass too often if the share is off by the deviation.
fn band(count: u64, share: Share, ring: u64, errors: ErrorRates) -> Option<(u64, u64)> {
    let share = share.fraction();
    let band = RingCount::new(count, share, ring).band(errors.false_alarm.divided_among(2).value());
    let wrong = [share - errors.deviation, share + errors.deviation];
    let passes = |share: f64| RingCount::new(count, share, ring).within(band);
    wrong.into_iter().all(|share| passes(share) <= errors.miss.value()).then_some(band)
}

/// What it takes to decide a share.
fn needed(share: Share, ring: u64, errors: ErrorRates) -> String {
    let decides = |count: u64, ring: u64| band(count, share, ring, errors).is_some();
    if decides(Sessions::MOST, ring) {
        let needed = smallest(Sessions::MOST, |count| decides(count, ring));
        return format!("set `count: {needed}`, or a larger `deviation`");
    }
    let more = (1..).map(|exponent| ring << exponent).take_while(|ring| *ring <= LARGEST_RING);
    let larger = more.into_iter().find(|ring| decides(Sessions::MOST, *ring));
    let ring_size = larger.map(|ring| {
        let count = smallest(Sessions::MOST, |count| decides(count, ring));
        format!(", or `count: {count}` and a `minimumRingSize` of {ring}")
    });
    format!(
        "no number of them is enough, as shares vary by chance on a hash ring of {ring} points; set a larger `deviation`{}",
        ring_size.unwrap_or_default()
    )
}

/// A number of sessions that is enough, while one that is little smaller is not.
fn smallest(enough: u64, decides: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (1, enough);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if decides(middle) { high = middle } else { low = middle }
    }
    high
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;
    use crate::scenario::{Origin, Stay};

    pub fn claim(count: u64, versions: &[(&str, f64)], deviation: f64) -> SessionClaim {
        let share = |part: &f64| Share::from_fraction(*part).unwrap();
        SessionClaim {
            from: "users".to_owned(),
            path: "/".to_owned(),
            stay: Stay::Pod,
            names_stay: true,
            versions: versions.iter().map(|(name, part)| ((*name).to_owned(), share(part))).collect::<BTreeMap<_, _>>(),
            keep: None,
            status: 200,
            cookie: None,
            count,
            connects_each: false,
            errors: ErrorRates { deviation, ..ErrorRates::default() },
            origin: Origin::new("scenario.yaml", 20, 9),
        }
    }

    const THIRDS: [(&str, f64); 2] = [("v1", 2.0 / 3.0), ("v2", 1.0 / 3.0)];

    #[test]
    fn requests_after_the_first_of_each_session_exclude_a_leak() {
        let design = SessionDesign::new(&claim(200, &[], 0.1), 1024).unwrap();
        assert_eq!((design.rounds, design.requests(), design.is_split()), (5, 1000, false));
        assert_eq!(SessionDesign::new(&claim(1000, &[], 0.1), 1024).unwrap().requests(), 2000);
    }

    /// The verdict keeps its error probabilities, and with fewer sessions it would not.
    #[rstest]
    #[case::thirds(1.0 / 3.0, 0.2, 1024)]
    #[case::halves(0.5, 0.2, 1024)]
    #[case::thirds_of_a_large_ring(1.0 / 3.0, 0.1, 65_536)]
    fn the_band_of_a_share_keeps_the_error_rates(#[case] share: f64, #[case] deviation: f64, #[case] ring: u64) {
        let errors = ErrorRates { deviation, ..ErrorRates::default() };
        let part = Share::from_fraction(share).unwrap();
        let enough = smallest(Sessions::MOST, |count| band(count, part, ring, errors).is_some());
        let found = band(enough, part, ring, errors).unwrap();
        let passes = |share: f64| RingCount::new(enough, share, ring).within(found);
        assert!(1.0 - passes(share) <= 1e-6 && passes(share - deviation) <= 1e-3 && passes(share + deviation) <= 1e-3);
        assert!(band(enough * 9 / 10, part, ring, errors).is_none(), "{enough}");
    }

    #[rstest]
    #[case::too_few(
        claim(200, &THIRDS, 0.2),
        "33.3333 % of v2 with a deviation of 20 points cannot be decided with 200 sessions: set `count: 628`, or a larger `deviation`"
    )]
    #[case::a_ring_that_is_too_small(
        claim(10_000, &THIRDS, 0.1),
        "33.3333 % of v2 with a deviation of 10 points cannot be decided with 10000 sessions: no number of them is enough, as shares vary by chance on a hash ring of 1024 points; set a larger `deviation`, or `count: 5680` and a `minimumRingSize` of 2048"
    )]
    #[case::all_of_a_version(claim(200, &[("v1", 1.0)], 0.1), "excluding a leak of 1 % of the sessions takes 688 sessions, not 200: set `count: 688`, or a larger `leak`")]
    #[case::too_many_requests(
        SessionClaim { errors: ErrorRates { max_requests: 999, ..ErrorRates::default() }, ..claim(200, &[], 0.1) },
        "200 sessions take 1000 requests; 999 are allowed by `max-requests`"
    )]
    fn claims_that_cannot_be_decided_are_refused(#[case] claim: SessionClaim, #[case] message: &str) {
        assert_eq!(SessionDesign::new(&claim, 1024).unwrap_err().to_string(), message);
    }
}
