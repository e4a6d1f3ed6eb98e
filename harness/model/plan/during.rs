use std::time::Duration;

use thiserror::Error;

use crate::scenario::{During, ErrorRates, Expectation, Origin, Scenario, Share, Stage};
use crate::verdict::{requests_to_exclude, requests_to_limit};

/// The most requests a second that a change is watched with. A mesh on two cores answers them next to a rollout.
pub const HIGHEST_RATE: u32 = 1200;
/// How many requests to a population are due within a `gap` that is claimed: a gap is measured to a quarter of the limit.
const REQUESTS_A_GAP: u32 = 4;
/// The most requests that a bound may take.
const MOST_REQUESTS: u64 = 100_000;

/// The `during` claims of a stage.
pub fn during_claims(stage: &Stage) -> impl Iterator<Item = &During> {
    stage.expect.iter().filter_map(|expectation| match expectation {
        Expectation::During(during) => Some(during),
        _ => None,
    })
}

/// Why a `during` claim cannot be decided by any watch.
#[derive(Debug, Clone, PartialEq, Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
#[non_exhaustive]
pub enum Undecidable {
    /// The gap is shorter than the spacing of requests allows.
    #[error("a gap of {} is too short to be measured: the shortest limit for {populations} {} is {}", shown_time(*gap), if *populations == 1 { "population" } else { "populations" }, shown_time(*shortest))]
    ShortGap { gap: Duration, populations: usize, shortest: Duration },
    /// The bound takes more requests than are sent.
    #[error("excluding a share above {excludes} with {errors} errors takes more than {MOST_REQUESTS} requests")]
    RareErrors { excludes: Share, errors: u64 },
    /// A claim about latency takes more requests than are sent.
    #[error("{share} within {} takes more than {MOST_REQUESTS} requests", shown_time(*limit))]
    RareAnswers { share: Share, limit: Duration },
}

/// Why a claim cannot be decided by any watch.
fn undecidable(during: &During, populations: usize) -> Option<Undecidable> {
    if let Some(gap) = during.gap
        && rate_for(gap, populations).is_none()
    {
        let shortest =
            Duration::from_secs(1) * REQUESTS_A_GAP * u32::try_from(populations).unwrap_or(u32::MAX) / HIGHEST_RATE;
        return Some(Undecidable::ShortGap { gap, populations, shortest });
    }
    let takes_too_many = |(share, _): &&(Share, Duration)| slow_requests(during, *share).is_none();
    if let Some((share, limit)) = during.latency.iter().find(takes_too_many) {
        return Some(Undecidable::RareAnswers { share: *share, limit: *limit });
    }
    let (errors, excludes, miss) = (during.errors.unwrap_or(0), during.excludes, during.miss);
    match requests_to_exclude(excludes, errors, miss) {
        Some(needed) if needed <= MOST_REQUESTS => None,
        _ => Some(Undecidable::RareErrors { excludes, errors }),
    }
}

/// The number of requests that the claim takes that so large a share of them is answered in time; none where more than are sent.
pub fn slow_requests(during: &During, share: Share) -> Option<u64> {
    let (false_alarm, miss) = (during.false_alarm, during.miss);
    let errors = ErrorRates { false_alarm, miss, ..ErrorRates::default() };
    requests_to_limit(share.rest(), errors).filter(|needed| *needed <= MOST_REQUESTS)
}

/// The first `during` claim of a scenario that cannot be decided: its place, and why not.
pub(super) fn refused(scenario: &Scenario) -> Option<(&Origin, Undecidable)> {
    let mut all = scenario.stages.iter().flat_map(during_claims);
    all.find_map(|during| Some((&during.origin, undecidable(during, scenario.populations.len())?)))
}

/// For each `during` claim of a scenario, how many bounds it states, and the error probability of each; and how many of them may fail a correct
/// change, and the probability of each.
pub(super) fn bounds(scenario: &Scenario) -> Vec<[(u32, f64); 2]> {
    let all = scenario.stages.iter().flat_map(during_claims);
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let stated = |during: &During| {
        let tests = during.latency.len();
        let stated = tests + during.last_of.len() + usize::from(during.errors.is_some());
        [(count(stated), during.miss.value()), (count(tests), during.false_alarm.value())]
    };
    all.map(stated).collect()
}

/// The requests a second, of all populations together, that the gaps claimed of a stage take; none where no gap is claimed.
pub fn watch_rate(stage: &Stage, populations: usize) -> Option<u32> {
    during_claims(stage).filter_map(|during| rate_for(during.gap?, populations)).max()
}

/// The requests a second of all populations that are due often enough within a gap; none where they are too many.
fn rate_for(gap: Duration, populations: usize) -> Option<u32> {
    let populations = u128::try_from(populations).ok()?;
    let rate = (1_000_000 * u128::from(REQUESTS_A_GAP) * populations).div_ceil(gap.as_micros().max(1));
    u32::try_from(rate).ok().filter(|rate| *rate <= HIGHEST_RATE)
}

/// `84 ms`, `1.2 s`.
pub fn shown_time(time: Duration) -> String {
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn during(errors: Option<u64>, gap: Option<u64>, last_of: &[(&str, u64)]) -> During {
        let last_of = last_of.iter();
        During {
            errors,
            excludes: During::EXCLUDES,
            miss: ErrorRates::default().miss,
            false_alarm: ErrorRates::default().false_alarm,
            latency: Vec::new(),
            gap: gap.map(Duration::from_millis),
            last_of: last_of.map(|(version, time)| ((*version).to_owned(), Duration::from_millis(*time))).collect(),
            origin: Origin::new("scenario.yaml", 3, 9),
        }
    }

    #[rstest]
    #[case::usual(during(Some(0), Some(200), &[("v2", 5000)]), 2, None)]
    #[case::short_gap(during(None, Some(5), &[]), 2, Some("a gap of 5 ms is too short to be measured: the shortest limit for 2 populations is 6.7 ms"))]
    #[case::shortest_gap(during(None, Some(7), &[]), 2, None)]
    #[case::rare(During { excludes: "0.001%".parse().unwrap(), ..during(Some(0), None, &[]) }, 1, Some("excluding a share above 0.001 % with 0 errors takes more than 100000 requests"))]
    #[case::rare_answers(During { latency: vec![("99.99%".parse().unwrap(), Duration::from_millis(200))], ..during(None, None, &[]) }, 1, Some("99.99 % within 200 ms takes more than 100000 requests"))]
    fn what_no_watch_can_decide_is_refused(
        #[case] claim: During,
        #[case] populations: usize,
        #[case] why: Option<&str>,
    ) {
        let found = undecidable(&claim, populations).map(|found| found.to_string());
        assert_eq!(found.as_deref(), why);
    }
}
