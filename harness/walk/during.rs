//! Claims about what callers see while a stage is applied, judged by the requests that were watched. Nothing here does any I/O.

use std::time::Duration;

use thiserror::Error;

use crate::events::Bound;
use crate::scenario::{Confidence, During, Expectation, Origin, Scenario, Share, Stage};
use crate::traffic::WatchOptions;
use crate::verdict::{Ruling, excluded_share, requests_to_exclude};

/// The most requests a second that a change is watched with. A mesh on two cores answers them next to a rollout.
pub(crate) const MOST_A_SECOND: u32 = 1200;
/// How many requests to a population are due within a `gap` that is claimed: a gap is measured to a quarter of the limit.
const REQUESTS_A_GAP: u32 = 4;
/// The most requests that a bound may take.
const MOST_REQUESTS: u64 = 100_000;

/// A request that was watched. Times are in microseconds since the start of the watch, by the driver's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sighting {
    /// The population, by its position.
    pub population: usize,
    /// When it was due.
    pub due: u64,
    /// When it was sent.
    pub sent: u64,
    /// When it was answered or given up.
    pub at: u64,
    /// Whether the answer is one that the stage before or this one gives.
    pub good: bool,
    /// The version that answered, by its position.
    pub version: Option<usize>,
}

/// All requests of a watch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Watched {
    /// The populations.
    pub populations: Vec<String>,
    /// The versions that answered.
    pub versions: Vec<String>,
    /// The requests, in any order.
    pub sightings: Vec<Sighting>,
    /// When the change was applied, in microseconds by the driver's clock: not before and not after.
    pub applied: Option<(u64, u64)>,
    /// From one due request of a population to its next at first, in microseconds.
    pub spacing: u64,
}

impl Watched {
    /// The position of a version.
    pub fn version(&mut self, name: &str) -> usize {
        self.versions.iter().position(|own| own == name).unwrap_or_else(|| {
            self.versions.push(name.to_owned());
            self.versions.len() - 1
        })
    }
}

/// The longest time in which a population got no right answer, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Silence {
    /// The population, by its position.
    pub population: usize,
    /// When it began.
    pub began: u64,
    /// How long it lasted.
    pub lasted: u64,
    /// The longest time within it in which no request was sent.
    pub unsent: u64,
}

/// How a claim was decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub ruling: Ruling,
    pub reason: String,
    pub bounds: Vec<Bound>,
}

/// The `during` claims of a stage.
pub(super) fn claims(stage: &Stage) -> impl Iterator<Item = &During> {
    stage.expect.iter().filter_map(|expectation| match expectation {
        Expectation::During(during) => Some(during),
        _ => None,
    })
}

/// Why a claim cannot be decided by any watch.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Undecidable {
    /// The gap is shorter than the spacing of requests allows.
    #[error("a gap of {} is too short to be measured: the shortest limit for {populations} {} is {}", shown(micros(*gap)), if *populations == 1 { "population" } else { "populations" }, shown(micros(*shortest)))]
    ShortGap {
        /// The claimed limit.
        gap: Duration,
        /// How many populations take turns.
        populations: usize,
        /// The shortest limit that can be decided.
        shortest: Duration,
    },
    /// The bound takes more requests than are sent.
    #[error("excluding a share above {excludes} with {errors} errors takes more than {MOST_REQUESTS} requests")]
    RareErrors {
        /// The share that a pass has to exclude.
        excludes: Share,
        /// How many errors are allowed.
        errors: u64,
    },
}

/// Why a claim cannot be decided by any watch.
pub(super) fn undecidable(during: &During, populations: usize) -> Option<Undecidable> {
    if let Some(gap) = during.gap
        && rate_for(gap, populations).is_none()
    {
        let shortest =
            Duration::from_secs(1) * REQUESTS_A_GAP * u32::try_from(populations).unwrap_or(u32::MAX) / MOST_A_SECOND;
        return Some(Undecidable::ShortGap { gap, populations, shortest });
    }
    let (errors, excludes, miss) = (during.errors.unwrap_or(0), during.excludes, during.miss);
    match requests_to_exclude(excludes, errors, miss) {
        Some(needed) if needed <= MOST_REQUESTS => None,
        _ => Some(Undecidable::RareErrors { excludes, errors }),
    }
}

/// The requests a second of all populations that are due so often within a gap; none where they are too many.
fn rate_for(gap: Duration, populations: usize) -> Option<u32> {
    let populations = u128::try_from(populations).ok()?;
    let rate = (1_000_000 * u128::from(REQUESTS_A_GAP) * populations).div_ceil(gap.as_micros().max(1));
    u32::try_from(rate).ok().filter(|rate| *rate <= MOST_A_SECOND)
}

/// How a change is watched for its claims, on a venue that would watch it in this way without any.
pub(super) fn watch_for(
    stage: &Stage,
    scenario: &Scenario,
    venue: WatchOptions,
    with_claims: WatchOptions,
) -> WatchOptions {
    let mut watch = if claims(stage).next().is_some() { with_claims } else { venue };
    for during in claims(stage) {
        let rate = during.gap.and_then(|gap| rate_for(gap, scenario.populations.len()));
        watch.rate = watch.rate.max(rate.unwrap_or(0));
        watch.raised = watch.raised.max(watch.rate);
    }
    watch
}

/// What is still missing for the claims of a stage to be decided, kept current with each request.
#[derive(Debug)]
pub(super) struct Missing {
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
    /// For each version: how long it may answer, how many requests a bound takes, how many were due later, whether it answered then.
    last_of: Vec<(String, u64, u64, u64, bool)>,
}

impl Missing {
    pub fn of(stage: &Stage, populations: usize) -> Self {
        let need = |during: &During| {
            let least = |errors| requests_to_exclude(during.excludes, errors, during.miss);
            let least = |errors| least(errors).unwrap_or(u64::MAX);
            let last_of = during.last_of.iter();
            Need {
                errors: during.errors.map(|errors| (errors, least(errors))),
                last_of: last_of.map(|(version, time)| (version.clone(), micros(*time), least(0), 0, false)).collect(),
            }
        };
        Self {
            claims: claims(stage).map(need).collect(),
            latest: vec![(0, false); populations],
            watches_gaps: claims(stage).any(|during| during.gap.is_some()),
            seen: 0,
            failed: 0,
        }
    }

    /// The most requests that a bound takes.
    pub fn requests(&self) -> u64 {
        let errors = self.claims.iter().filter_map(|need| need.errors.map(|(_, least)| least));
        let last = self.claims.iter().flat_map(|need| &need.last_of).map(|(_, _, least, _, _)| *least);
        errors.chain(last).max().unwrap_or(0)
    }

    /// How long the versions of all claims may answer after the change was applied.
    pub fn longest(&self) -> Duration {
        let all = self.claims.iter().flat_map(|need| &need.last_of).map(|(_, time, _, _, _)| *time);
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
        for (own, time, _, seen, answered) in self.claims.iter_mut().flat_map(|need| &mut need.last_of) {
            if sighting.due > applied + *time {
                *seen += u64::from(tells_version(sighting));
                *answered |= version == Some(own.as_str());
            }
        }
    }

    /// Whether nothing is missing.
    pub fn is_nothing(&self) -> bool {
        self.claims.iter().all(|need| {
            need.errors.is_none_or(|(most, least)| self.failed > most || self.seen >= least)
                && need.last_of.iter().all(|(_, _, least, seen, answered)| *answered || seen >= least)
        }) && (!self.watches_gaps || self.latest.iter().all(|(_, good)| *good))
    }

    /// Whether requests are missing, and not only the time after which a version must not answer.
    pub fn is_requests(&self) -> bool {
        self.claims.iter().any(|need| {
            need.errors.is_some_and(|(most, least)| self.failed <= most && self.seen < least)
                || need.last_of.iter().any(|(_, _, least, seen, answered)| !answered && *seen > 0 && seen < least)
        })
    }
}

/// Whether an answer tells who gave it: a request without an answer says nothing of the version that would have answered.
fn tells_version(sighting: &Sighting) -> bool {
    sighting.version.is_some() || sighting.good
}

/// Decides a claim.
pub(super) fn judge(during: &During, watched: &Watched) -> Found {
    let errors = during.errors.map(|most| judge_errors(most, during, watched));
    let gap = during.gap.map(|limit| judge_gap(limit, watched));
    let last = during.last_of.iter().map(|(version, limit)| judge_last(version, *limit, during, watched));
    let parts: Vec<Found> = errors.into_iter().chain(gap).chain(last).collect();
    let any = |ruling: Ruling| parts.iter().any(|part| part.ruling == ruling);
    let ruling = if any(Ruling::Fail) {
        Ruling::Fail
    } else if any(Ruling::Inconclusive) || parts.is_empty() {
        Ruling::Inconclusive
    } else {
        Ruling::Pass
    };
    // what decides comes first
    let mut reasons: Vec<&Found> = parts.iter().collect();
    reasons.sort_by_key(|part| part.ruling != ruling);
    let reason = reasons.iter().map(|part| part.reason.as_str()).collect::<Vec<_>>().join("; ");
    Found { ruling, reason, bounds: parts.into_iter().flat_map(|part| part.bounds).collect() }
}

fn judge_errors(most: u64, during: &During, watched: &Watched) -> Found {
    let requests = watched.sightings.len() as u64;
    let failed = watched.sightings.iter().filter(|sighting| !sighting.good).count() as u64;
    let seen = format!("{failed} of {requests} requests failed while the stage was applied");
    if failed > most {
        return Found { ruling: Ruling::Fail, reason: seen, bounds: Vec::new() };
    }
    bounded("errors".to_owned(), "an error share", &seen, (failed, requests), during, most)
}

/// A pass if the requests exclude as much as is claimed.
fn bounded(of: String, share: &str, seen: &str, (count, requests): (u64, u64), during: &During, most: u64) -> Found {
    let excluded = excluded_share(requests, count, during.miss);
    let confidence = Confidence::of(during.miss).fraction();
    let needed = requests_to_exclude(during.excludes, most, during.miss);
    let bounds = vec![Bound { of, count, requests, excluded, confidence }];
    let confidence = percent(confidence);
    if needed.is_some_and(|needed| requests >= needed) {
        let reason =
            format!("{seen}; {share} above {} % is excluded with {confidence} % confidence", rounded_up(excluded));
        return Found { ruling: Ruling::Pass, reason, bounds };
    }
    let needed = needed.map_or("more requests than can be sent".to_owned(), |needed| format!("{needed} requests"));
    let reason = format!(
        "{seen}; too few: to exclude {share} above {} with {confidence} % confidence takes {needed}",
        during.excludes
    );
    Found { ruling: Ruling::Inconclusive, reason, bounds }
}

fn judge_gap(limit: Duration, watched: &Watched) -> Found {
    let limit = micros(limit);
    let Some(silence) = longest_silence(watched) else {
        let reason = "no request was sent while the stage was applied".to_owned();
        return Found { ruling: Ruling::Inconclusive, reason, bounds: Vec::new() };
    };
    let name = watched.populations.get(silence.population).map_or("", String::as_str);
    let seen = format!(
        "the longest time without a right answer was {} ({name}, from {} after the watch began; a request was due every {})",
        shown(silence.lasted),
        shown(silence.began),
        shown(watched.spacing),
    );
    let open = (0..watched.populations.len()).find(|own| !ends_well(watched, *own));
    // the driver was held up: nobody knows what a request would have been answered
    let held_up = silence.unsent.saturating_sub(watched.spacing);
    let (ruling, reason) = if silence.lasted <= limit {
        match open {
            None => (Ruling::Pass, seen),
            Some(own) => {
                let reason = format!("{seen}; the last request of {} got no right answer", watched.populations[own]);
                (Ruling::Inconclusive, reason)
            }
        }
    } else if silence.lasted.saturating_sub(held_up) <= limit {
        let reason = format!("{seen}; the driver was held up and sent no request for {} of it", shown(silence.unsent));
        (Ruling::Inconclusive, reason)
    } else {
        (Ruling::Fail, seen)
    };
    Found { ruling, reason, bounds: Vec::new() }
}

fn judge_last(version: &str, limit: Duration, during: &During, watched: &Watched) -> Found {
    let limit = micros(limit);
    let Some((earliest, latest)) = watched.applied else {
        let reason = format!("nobody knows when the change was applied, so that {version} cannot be late");
        return Found { ruling: Ruling::Inconclusive, reason, bounds: Vec::new() };
    };
    let position = watched.versions.iter().position(|own| own == version);
    let of_version = |sighting: &&Sighting| position.is_some() && sighting.version == position;
    let last = watched.sightings.iter().filter(of_version).map(|sighting| sighting.due).max();
    let after = |due: u64| shown(due.saturating_sub(latest));
    let last_seen = match last {
        Some(due) if due > latest => {
            format!("the last request that {version} answered was due {} after it", after(due))
        }
        Some(_) => format!("{version} answered no request that was due after it"),
        None => format!("{version} answered no request"),
    };
    let later = || watched.sightings.iter().filter(|sighting| sighting.due > latest + limit);
    let count = later().filter(of_version).count() as u64;
    if count > 0 {
        let reason = format!(
            "{count} requests due later than {} after the change was applied were answered by {version}; {last_seen}",
            shown(limit)
        );
        return Found { ruling: Ruling::Fail, reason, bounds: Vec::new() };
    }
    if last.is_some_and(|due| due > earliest + limit) {
        let reason = format!("{last_seen}, too close to {} to be told with the clocks of two machines", shown(limit));
        return Found { ruling: Ruling::Inconclusive, reason, bounds: Vec::new() };
    }
    let requests = later().filter(|sighting| tells_version(sighting)).count() as u64;
    let of = format!("{version} later than {} after the change", shown(limit));
    let seen = format!(
        "{version} answered 0 of {requests} requests due later than {} after the change was applied ({last_seen})",
        shown(limit)
    );
    bounded(of, &format!("a share of {version}"), &seen, (0, requests), during, 0)
}

/// The longest time without a right answer to one population: from the start of the watch, or the right answer before, to the next one, or the
/// time at which the last request was due. None without a request.
pub(super) fn longest_silence(watched: &Watched) -> Option<Silence> {
    let end = watched.sightings.iter().map(|sighting| sighting.due).max()?;
    let populations = 0..watched.populations.len();
    let of_each = populations.filter_map(|population| {
        let own = || watched.sightings.iter().filter(move |sighting| sighting.population == population);
        // a request that is answered when none is due any more tells nothing of the time until then
        let answered = own().filter(|sighting| sighting.good && sighting.at < end).map(|sighting| sighting.at);
        let mut edges: Vec<u64> = answered.chain([0, end]).collect();
        edges.sort_unstable();
        let silences = edges.windows(2).map(|pair| (pair[0], pair[1]));
        let (began, ended) = silences.max_by_key(|(from, to)| to - from)?;
        let mut sent: Vec<u64> =
            own().map(|sighting| sighting.sent).filter(|sent| (began..=ended).contains(sent)).collect();
        sent.extend([began, ended]);
        sent.sort_unstable();
        let unsent = sent.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        Some(Silence { population, began, lasted: ended - began, unsent })
    });
    // of equals the first
    of_each.reduce(|longest, own| if own.lasted > longest.lasted { own } else { longest })
}

/// Whether the request of a population that was due last got a right answer.
fn ends_well(watched: &Watched, population: usize) -> bool {
    let own = watched.sightings.iter().filter(|sighting| sighting.population == population);
    own.max_by_key(|sighting| sighting.due).is_some_and(|sighting| sighting.good)
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// `84 ms`, `1.2 s`.
fn shown(micros: u64) -> String {
    let time = Duration::from_micros(micros);
    let number = |value: f64, digits: i32| {
        let ten = 10_f64.powi(digits);
        (value * ten).round() / ten
    };
    match time.as_secs_f64() {
        seconds if seconds < 0.01 => format!("{} ms", number(seconds * 1e3, 1)),
        seconds if seconds < 1.0 => format!("{} ms", number(seconds * 1e3, 0)),
        seconds => format!("{} s", number(seconds, 2)),
    }
}

/// A share in percent, rounded up, so that the bound stays one.
fn rounded_up(share: f64) -> String {
    let digits = if share < 0.001 { 4 } else { 2 };
    let ten = 10_f64.powi(digits);
    format!("{:.*}", usize::try_from(digits).unwrap_or(2), (share * 100.0 * ten).ceil() / ten)
}

/// A fraction in percent without binary noise.
fn percent(fraction: f64) -> f64 {
    (fraction * 1e7).round() / 1e5
}

/// For each `during` claim of a scenario, how many bounds it states, and the chance with which each is wrong.
pub(super) fn bounds(scenario: &Scenario) -> Vec<(u32, f64)> {
    let all = scenario.stages.iter().flat_map(claims);
    let stated = |during: &During| during.last_of.len() + usize::from(during.errors.is_some());
    all.map(|during| (u32::try_from(stated(during)).unwrap_or(u32::MAX), during.miss.value())).collect()
}

/// The first `during` claim of a scenario that cannot be decided: its place, and why not.
pub(super) fn refused(scenario: &Scenario) -> Option<(Origin, Undecidable)> {
    let mut all = scenario.stages.iter().flat_map(claims);
    all.find_map(|during| Some((during.origin.clone(), undecidable(during, scenario.populations.len())?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::scenario::ErrorRates;

    const MS: u64 = 1000;

    fn place() -> Origin {
        Origin::new("scenario.yaml", 3, 9)
    }

    fn during(errors: Option<u64>, gap: Option<u64>, last_of: &[(&str, u64)]) -> During {
        During {
            errors,
            excludes: During::EXCLUDES,
            miss: ErrorRates::default().miss,
            gap: gap.map(Duration::from_millis),
            last_of: last_of
                .iter()
                .map(|(version, millis)| ((*version).to_owned(), Duration::from_millis(*millis)))
                .collect(),
            origin: place(),
        }
    }

    /// A request of the first population that was due then, in milliseconds, and answered by v1 a millisecond later.
    fn good(due: u64) -> Sighting {
        Sighting { population: 0, due: due * MS, sent: due * MS, at: (due + 1) * MS, good: true, version: Some(0) }
    }

    fn failed(due: u64) -> Sighting {
        Sighting { good: false, version: None, at: (due + 500) * MS, ..good(due) }
    }

    fn v2(due: u64) -> Sighting {
        Sighting { version: Some(1), ..good(due) }
    }

    /// A watch with a request to everyone every 5 ms; the change was applied between 1,000 and 1,020 ms.
    fn watched(sightings: Vec<Sighting>) -> Watched {
        Watched {
            populations: vec!["everyone".to_owned()],
            versions: vec!["v1".to_owned(), "v2".to_owned()],
            sightings,
            applied: Some((1000 * MS, 1020 * MS)),
            spacing: 5 * MS,
        }
    }

    fn every_5_ms(until: u64, of: impl Fn(u64) -> Sighting) -> Vec<Sighting> {
        (0..until / 5).map(|n| of(n * 5)).collect()
    }

    #[rstest]
    #[case::clean(
        912,
        0,
        0,
        Ruling::Pass,
        "0 of 912 requests failed while the stage was applied; an error share above 0.76 % is excluded with 99.9 % confidence"
    )]
    #[case::least(688, 0, 0, Ruling::Pass, "an error share above 1.00 % is excluded with 99.9 % confidence")]
    #[case::one_too_few(
        687,
        0,
        0,
        Ruling::Inconclusive,
        "0 of 687 requests failed while the stage was applied; too few: to exclude an error share above 1 % with 99.9 % confidence takes 688 requests"
    )]
    #[case::none(0, 0, 0, Ruling::Inconclusive, "0 of 0 requests failed while the stage was applied; too few")]
    #[case::one_failed(912, 1, 0, Ruling::Fail, "1 of 912 requests failed while the stage was applied")]
    #[case::few_failed(12, 1, 0, Ruling::Fail, "1 of 12 requests failed while the stage was applied")]
    #[case::one_allowed(
        920,
        1,
        1,
        Ruling::Pass,
        "1 of 920 requests failed while the stage was applied; an error share above 1.00 % is excluded"
    )]
    #[case::one_allowed_none_seen(700, 0, 1, Ruling::Inconclusive, "with 99.9 % confidence takes 920 requests")]
    #[case::more_than_allowed(5000, 6, 5, Ruling::Fail, "6 of 5000 requests failed while the stage was applied")]
    fn errors_with_their_bound(
        #[case] requests: u64,
        #[case] errors: u64,
        #[case] most: u64,
        #[case] ruling: Ruling,
        #[case] reason: &str,
    ) {
        let seen = (0..requests).map(|n| if n < errors { failed(n) } else { good(n) });
        let found = judge(&during(Some(most), None, &[]), &watched(seen.collect()));
        assert_eq!(found.ruling, ruling, "{}", found.reason);
        assert!(found.reason.contains(reason), "{}", found.reason);
    }

    proptest! {
        #[test]
        fn no_claim_passes_with_too_few_requests(requests in 0_u64..1500, errors in 0_u64..5, most in 0_u64..5, percent in 1_u32..6) {
            let errors = errors.min(requests);
            let mut claim = during(Some(most), None, &[]);
            claim.excludes = format!("{percent}%").parse().unwrap();
            let seen = (0..requests).map(|n| if n < errors { failed(n) } else { good(n) });
            let found = judge(&claim, &watched(seen.collect()));
            let excluded = excluded_share(requests, errors, claim.miss);
            if found.ruling == Ruling::Pass {
                prop_assert!(errors <= most && excluded <= f64::from(percent) / 100.0 + 1e-12);
            }
            prop_assert_eq!(found.ruling == Ruling::Fail, errors > most);
        }
    }

    #[rstest]
    #[case::steady(
        every_5_ms(2000, good),
        Ruling::Pass,
        "the longest time without a right answer was 5 ms (everyone, from "
    )]
    #[case::outage(every_5_ms(2000, |due| if (500..800).contains(&due) { failed(due) } else { good(due) }), Ruling::Fail, "was 305 ms (everyone, from 496 ms after the watch began; a request was due every 5 ms)")]
    #[case::short_outage(every_5_ms(2000, |due| if (500..690).contains(&due) { failed(due) } else { good(due) }), Ruling::Pass, "was 195 ms")]
    #[case::at_the_start(every_5_ms(2000, |due| if due < 300 { failed(due) } else { good(due) }), Ruling::Fail, "was 301 ms (everyone, from 0 ms after the watch began")]
    #[case::at_the_end(every_5_ms(2000, |due| if due > 1500 { failed(due) } else { good(due) }), Ruling::Fail, "was 494 ms (everyone, from 1.5 s after the watch began")]
    #[case::open_at_the_end(every_5_ms(2000, |due| if due > 1900 { failed(due) } else { good(due) }), Ruling::Inconclusive, "the last request of everyone got no right answer")]
    #[case::answered_late(every_5_ms(2000, |due| if (500..800).contains(&due) { Sighting { at: 900 * MS, ..good(due) } } else { good(due) }), Ruling::Fail, "was 305 ms")]
    #[case::never(every_5_ms(2000, failed), Ruling::Fail, "was 2 s")]
    #[case::driver_held_up(every_5_ms(2000, |due| if (500..800).contains(&due) { Sighting { sent: 800 * MS, at: 801 * MS, ..good(due) } } else { good(due) }), Ruling::Inconclusive, "the driver was held up and sent no request for 304 ms of it")]
    #[case::straggler(every_5_ms(1000, |due| if due > 980 { Sighting { at: 5000 * MS, ..good(due) } } else { good(due) }), Ruling::Pass, "was 14 ms")]
    #[case::nothing_sent(Vec::new(), Ruling::Inconclusive, "no request was sent while the stage was applied")]
    fn a_gap_of_at_most_200_ms(#[case] sightings: Vec<Sighting>, #[case] ruling: Ruling, #[case] reason: &str) {
        let found = judge(&during(None, Some(200), &[]), &watched(sightings));
        assert_eq!(found.ruling, ruling, "{}", found.reason);
        assert!(found.reason.contains(reason), "{}", found.reason);
    }

    #[test]
    fn the_gap_is_that_of_the_population_that_waits_longest() {
        let mut seen = every_5_ms(2000, good);
        seen.extend(every_5_ms(2000, |due| {
            let own = if (1000..1400).contains(&due) { failed(due) } else { good(due) };
            Sighting { population: 1, ..own }
        }));
        let mut both = watched(seen);
        both.populations.push("testers".to_owned());
        let found = judge(&during(None, Some(200), &[]), &both);
        assert_eq!(found.ruling, Ruling::Fail);
        assert!(found.reason.contains("was 405 ms (testers, from 996 ms"), "{}", found.reason);
    }

    #[rstest]
    #[case::gone_in_time(every_5_ms(8000, |due| if due < 1500 { v2(due) } else { good(due) }), Ruling::Pass, "v2 answered 0 of 995 requests due later than 2 s after the change was applied (the last request that v2 answered was due 475 ms after it); a share of v2 above 0.70 % is excluded with 99.9 % confidence")]
    #[case::never_there(every_5_ms(8000, good), Ruling::Pass, "(v2 answered no request)")]
    #[case::too_late(every_5_ms(8000, |due| if due == 5000 { v2(due) } else { good(due) }), Ruling::Fail, "1 requests due later than 2 s after the change was applied were answered by v2; the last request that v2 answered was due 3.98 s after it")]
    #[case::at_the_edge(every_5_ms(8000, |due| if due == 3010 { v2(due) } else { good(due) }), Ruling::Inconclusive, "too close to 2 s to be told")]
    #[case::too_short(every_5_ms(4000, good), Ruling::Inconclusive, "takes 688 requests")]
    #[case::answers_without_a_version(every_5_ms(8000, |due| if due > 2500 { failed(due) } else { good(due) }), Ruling::Inconclusive, "v2 answered 0 of 0 requests due later")]
    fn no_v2_later_than_2_s(#[case] sightings: Vec<Sighting>, #[case] ruling: Ruling, #[case] reason: &str) {
        let found = judge(&during(None, None, &[("v2", 2000)]), &watched(sightings));
        assert_eq!(found.ruling, ruling, "{}", found.reason);
        assert!(found.reason.contains(reason), "{}", found.reason);
    }

    #[test]
    fn a_version_cannot_be_late_where_nobody_knows_when_the_change_was_applied() {
        let unknown = Watched { applied: None, ..watched(every_5_ms(8000, good)) };
        assert_eq!(judge(&during(None, None, &[("v2", 2000)]), &unknown).ruling, Ruling::Inconclusive);
    }

    #[test]
    fn a_claim_fails_with_any_of_its_parts_and_says_that_first() {
        let seen = every_5_ms(8000, |due| if due == 5000 { v2(due) } else { good(due) });
        let found = judge(&during(Some(0), Some(200), &[("v2", 2000)]), &watched(seen));
        assert_eq!(found.ruling, Ruling::Fail);
        assert!(found.reason.starts_with("1 requests due later than 2 s"), "{}", found.reason);
        assert!(found.reason.contains("; 0 of 1600 requests failed"), "{}", found.reason);
        assert!(found.reason.contains("; the longest time without a right answer was 5 ms"), "{}", found.reason);
        assert_eq!(found.bounds.len(), 1);
    }

    fn stage(during: During) -> Stage {
        Stage {
            name: "change".to_owned(),
            steps: Vec::new(),
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
    fn a_watch_does_not_go_on_for_what_has_failed_already() {
        let mut missing = Missing::of(&stage(during(Some(0), None, &[("v2", 2000)])), 1);
        missing.see(&failed(1500), None, Some(1000 * MS));
        assert!(!missing.is_nothing());
        missing.see(&v2(3500), Some("v2"), Some(1000 * MS));
        assert!(missing.is_nothing());
    }

    #[rstest]
    #[case::usual(during(Some(0), Some(200), &[("v2", 5000)]), 2, None)]
    #[case::short_gap(during(None, Some(5), &[]), 2, Some("a gap of 5 ms is too short to be measured: the shortest limit for 2 populations is 6.7 ms"))]
    #[case::shortest_gap(during(None, Some(7), &[]), 2, None)]
    #[case::rare(During { excludes: "0.001%".parse().unwrap(), ..during(Some(0), None, &[]) }, 1, Some("excluding a share above 0.001 % with 0 errors takes more than 100000 requests"))]
    fn what_no_watch_can_decide_is_refused(
        #[case] claim: During,
        #[case] populations: usize,
        #[case] why: Option<&str>,
    ) {
        let found = undecidable(&claim, populations).map(|found| found.to_string());
        assert_eq!(found.as_deref(), why);
    }

    #[test]
    fn a_short_gap_raises_the_rate_of_the_watch() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        assert_eq!(scenario.populations.len(), 3);
        let (venue, claimed) = (
            WatchOptions { rate: 50, raised: 50, connections: 4 },
            WatchOptions { rate: 275, raised: 1200, connections: 4 },
        );
        let watch = |claim: Option<During>| {
            let expect = claim.map(Expectation::During).into_iter().collect();
            watch_for(
                &Stage { name: String::new(), steps: Vec::new(), expect, origin: place() },
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
