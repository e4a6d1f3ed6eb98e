use std::time::Duration;

use crate::plan::{during_claims, slow_requests, watch_rate};
use crate::scenario::{DeclaredClaim, During, Scenario, Stage};
use crate::session::judge::{Sighting, micros, tells_version};
use crate::traffic::WatchOptions;
use crate::verdict::{DeclaredDesign, requests_to_exclude};

/// How a change is watched for its claims, on a venue that would watch it in this way without any.
pub(crate) fn watch_for(
    stage: &Stage,
    scenario: &Scenario,
    venue: WatchOptions,
    with_claims: WatchOptions,
) -> WatchOptions {
    let mut watch = if during_claims(stage).next().is_some() { with_claims } else { venue };
    watch.rate = watch.rate.max(watch_rate(stage, scenario.populations.len()).unwrap_or(0));
    watch.raised = watch.raised.max(watch.rate);
    watch.busy = watch.busy.max(watch.rate);
    watch
}

/// What is still missing for the claims of a stage to be decided, kept current with each request.
#[derive(Debug)]
pub(crate) struct Missing {
    claims: Vec<Need>,
    /// For each population, when the latest request was due and whether it got a right answer.
    latest: Vec<(u64, bool)>,
    watches_gaps: bool,
    seen: u64,
    failed: u64,
}

/// What one claim takes.
#[derive(Debug)]
struct Need {
    /// How many errors there may be, and how many requests a bound takes then.
    errors: Option<(u64, u64)>,
    /// How many requests the claims about latency take.
    latency: u64,
    last_of: Vec<Later>,
}

/// The requests that are due later than some time after the change that a claim takes.
#[derive(Debug)]
struct Later {
    /// The version that must not answer any more, if the claim is about one.
    version: Option<String>,
    time: u64,
    least: u64,
    seen: u64,
    /// Whether the version answered.
    answered: bool,
}

impl Later {
    const fn new(version: Option<String>, time: u64, least: u64) -> Self {
        Self { version, time, least, seen: 0, answered: false }
    }

    const fn is_enough(&self) -> bool {
        self.answered || self.seen >= self.least
    }
}

/// The requests that decide the shares with which a controller leaves the traffic, of all populations.
fn last_shares(claim: &DeclaredClaim, populations: usize) -> Need {
    let design = DeclaredDesign::new(claim.errors, 1);
    let least = design.requests(0.5).max(design.requests(1.0)) * u64::try_from(populations).unwrap_or(1);
    Need { errors: None, latency: 0, last_of: vec![Later::new(None, micros(claim.lag), least)] }
}

impl Missing {
    pub fn of(stage: &Stage, populations: usize) -> Self {
        let need = |during: &During| {
            let least = |errors| requests_to_exclude(during.excludes, errors, during.miss);
            let least = |errors| least(errors).unwrap_or(u64::MAX);
            let last_of = during.last_of.iter();
            let latency = during.latency.iter().map(|(share, _)| slow_requests(during, *share).unwrap_or(u64::MAX));
            Need {
                latency: latency.max().unwrap_or(0),
                errors: during.errors.map(|errors| (errors, least(errors))),
                last_of: last_of
                    .map(|(version, time)| Later::new(Some(version.clone()), micros(*time), least(0)))
                    .collect(),
            }
        };
        Self {
            claims: during_claims(stage)
                .map(need)
                .chain(stage.declared().map(|claim| last_shares(claim, populations)))
                .collect(),
            latest: vec![(0, false); populations],
            watches_gaps: during_claims(stage).any(|during| during.gap.is_some()),
            seen: 0,
            failed: 0,
        }
    }

    /// The most requests that a bound takes.
    pub fn requests(&self) -> u64 {
        let errors = self.claims.iter().filter_map(|need| need.errors.map(|(_, least)| least));
        let last = self.claims.iter().flat_map(|need| &need.last_of).map(|later| later.least);
        let latency = self.claims.iter().map(|need| need.latency);
        errors.chain(last).chain(latency).max().unwrap_or(0)
    }

    /// How long the versions of all claims may answer after the change was applied.
    pub fn longest(&self) -> Duration {
        let all = self.claims.iter().flat_map(|need| &need.last_of).map(|later| later.time);
        Duration::from_micros(all.max().unwrap_or(0))
    }

    /// Takes a request with the version that answered. `applied` is the latest time at which the change may have been applied.
    pub fn see(&mut self, sighting: &Sighting, version: Option<&str>, applied: Option<u64>) {
        self.seen += 1;
        self.failed += u64::from(!sighting.good);
        if let Some(latest) = self.latest.get_mut(sighting.population)
            && latest.0 <= sighting.due
        {
            *latest = (sighting.due, sighting.good);
        }
        let Some(applied) = applied else { return };
        for later in self.claims.iter_mut().flat_map(|need| &mut need.last_of) {
            if sighting.due > applied + later.time {
                later.seen += u64::from(tells_version(sighting));
                later.answered |= version.is_some() && version == later.version.as_deref();
            }
        }
    }

    /// Whether nothing is missing.
    pub fn is_nothing(&self) -> bool {
        self.claims.iter().all(|need| {
            need.errors.is_none_or(|(most, least)| self.failed > most || self.seen >= least)
                && self.seen >= need.latency
                && need.last_of.iter().all(Later::is_enough)
        }) && (!self.watches_gaps || self.latest.iter().all(|(_, good)| *good))
    }

    /// Whether requests are missing, and not only the time after which a version must not answer.
    pub fn is_requests(&self) -> bool {
        self.claims.iter().any(|need| {
            need.errors.is_some_and(|(most, least)| self.failed <= most && self.seen < least)
                || self.seen < need.latency
                || need.last_of.iter().any(|later| later.seen > 0 && !later.is_enough())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Expectation;
    use crate::session::judge::fixtures::{MS, during, failed, good, place, v2};

    fn stage(during: During) -> Stage {
        Stage {
            name: "change".to_owned(),
            steps: Vec::new(),
            wait: None,
            growth: None,
            expect: vec![Expectation::During(during)],
            origin: place(),
        }
    }

    #[test]
    fn a_watch_goes_on_until_nothing_is_missing() {
        let mut missing = Missing::of(&stage(during(Some(0), Some(200), &[("v2", 2000)])), 1);
        assert_eq!((missing.requests(), missing.longest()), (688, Duration::from_secs(2)));
        for n in 0..688 {
            assert!(!missing.is_nothing() && missing.is_requests(), "after {n}");
            missing.see(&good(1000 + n), Some("v1"), Some(1000 * MS));
        }
        // enough for the errors, none of them later than 2 s after the change: there is nothing to hurry for until then
        assert!(!missing.is_nothing() && !missing.is_requests());
        for n in 0..688 {
            assert_eq!(missing.is_requests(), n > 0, "after {n} that were due later");
            assert!(!missing.is_nothing(), "after {n} that were due later");
            missing.see(&good(3001 + n), Some("v1"), Some(1000 * MS));
        }
        assert!(missing.is_nothing());
        // a failed request leaves the gap open
        missing.see(&failed(4000), None, Some(1000 * MS));
        assert!(!missing.is_nothing());
    }

    #[test]
    fn a_watch_goes_on_for_latency() {
        let claim =
            During { latency: vec![("90%".parse().unwrap(), Duration::from_millis(200))], ..during(None, None, &[]) };
        let mut missing = Missing::of(&stage(claim), 1);
        let needed = missing.requests();
        assert!((100..1000).contains(&needed), "{needed}");
        for n in 0..needed {
            assert!(!missing.is_nothing() && missing.is_requests(), "after {n}");
            missing.see(&good(1000 + n), Some("v1"), None);
        }
        assert!(missing.is_nothing() && !missing.is_requests());
    }

    #[test]
    fn a_watch_does_not_go_on_for_what_has_failed_already() {
        let mut missing = Missing::of(&stage(during(Some(0), None, &[("v2", 2000)])), 1);
        missing.see(&failed(1500), None, Some(1000 * MS));
        assert!(!missing.is_nothing());
        missing.see(&v2(3500), Some("v2"), Some(1000 * MS));
        assert!(missing.is_nothing());
    }

    #[test]
    fn a_short_gap_raises_the_rate_of_the_watch() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        assert_eq!(scenario.populations.len(), 3);
        let (venue, claimed) = (
            WatchOptions { rate: 50, raised: 50, busy: 50, connections: 4 },
            WatchOptions { rate: 275, raised: 1200, busy: 275, connections: 4 },
        );
        let watch = |claim: Option<During>| {
            let expect = claim.map(Expectation::During).into_iter().collect();
            watch_for(
                &Stage { name: String::new(), steps: Vec::new(), wait: None, growth: None, expect, origin: place() },
                &scenario,
                venue,
                claimed,
            )
        };
        assert_eq!(watch(None), venue);
        assert_eq!(watch(Some(during(Some(0), None, &[]))), claimed);
        assert_eq!(watch(Some(during(None, Some(200), &[]))), claimed);
        assert_eq!(watch(Some(during(None, Some(20), &[]))).rate, 600);
    }
}
