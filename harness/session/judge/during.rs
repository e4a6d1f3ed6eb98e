use std::time::Duration;

use crate::events::Bound;
use crate::plan::{shown_time, slow_requests};
use crate::scenario::{Confidence, During, Share};
use crate::verdict::{Ruling, excluded_share, requests_to_exclude};

/// A request that was watched. Times are in microseconds since the start of the watch, by the driver's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sighting {
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
pub(crate) struct Watched {
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
pub(crate) struct Silence {
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
pub(crate) struct Found {
    pub ruling: Ruling,
    pub reason: String,
    pub bounds: Vec<Bound>,
}

/// Whether an answer tells who gave it: a request without an answer says nothing of the version that would have answered.
pub(crate) fn tells_version(sighting: &Sighting) -> bool {
    sighting.version.is_some() || sighting.good
}

/// Decides a claim.
pub(crate) fn judge(during: &During, watched: &Watched) -> Found {
    let errors = during.errors.map(|most| judge_errors(most, during, watched));
    let gap = during.gap.map(|limit| judge_gap(limit, watched));
    let last = during.last_of.iter().map(|(version, limit)| judge_last(version, *limit, during, watched));
    let latency = during.latency.iter().map(|(share, limit)| judge_latency(*share, *limit, during, watched));
    let parts: Vec<Found> = errors.into_iter().chain(gap).chain(last).chain(latency).collect();
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

/// Decides by a fixed sample: with at least as many requests as planned, the largest number of late ones at which twice the claimed share is
/// excluded is exceeded by a claimed share with the type I error.
fn judge_latency(share: Share, limit: Duration, during: &During, watched: &Watched) -> Found {
    let requests = watched.sightings.len() as u64;
    let in_time = |sighting: &&Sighting| sighting.good && sighting.at.saturating_sub(sighting.due) <= micros(limit);
    let late = requests - watched.sightings.iter().filter(in_time).count() as u64;
    let (limit, bad) = (shown_time(limit), share.rest());
    let seen = format!("{late} of {requests} requests got no right answer within {limit}");
    let excluded = excluded_share(requests, late, during.miss);
    let confidence = Confidence::of(during.miss).fraction();
    let bounds = vec![Bound { of: format!("not within {limit}"), count: late, requests, excluded, confidence }];
    let needed = slow_requests(during, share).unwrap_or(u64::MAX);
    let (ruling, reason) = if requests < needed {
        (Ruling::Inconclusive, format!("{seen}; too few: {share} within {limit} takes {needed} requests"))
    } else if excluded <= 2.0 * bad.fraction() {
        let confidence = percent(confidence);
        let reason = format!("{seen}; more than {} % is excluded with {confidence} % confidence", rounded_up(excluded));
        (Ruling::Pass, reason)
    } else {
        (Ruling::Fail, format!("{seen}; at most {bad} was claimed"))
    };
    Found { ruling, reason, bounds }
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
pub(crate) fn longest_silence(watched: &Watched) -> Option<Silence> {
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

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// `84 ms`, `1.2 s`.
fn shown(micros: u64) -> String {
    shown_time(Duration::from_micros(micros))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::fixtures::{MS, during, failed, good, v2};
    use super::*;

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

    #[rstest]
    #[case::in_time(8612, 100, Ruling::Pass, "100 of 8612 requests got no right answer within 200 ms; more than ")]
    #[case::late(
        8612,
        200,
        Ruling::Fail,
        "200 of 8612 requests got no right answer within 200 ms; at most 1 % was claimed"
    )]
    #[case::few(
        8611,
        0,
        Ruling::Inconclusive,
        "0 of 8611 requests got no right answer within 200 ms; too few: 99 % within 200 ms takes 8612 requests"
    )]
    fn ninety_nine_percent_within_200_ms(
        #[case] requests: u64,
        #[case] late: u64,
        #[case] ruling: Ruling,
        #[case] reason: &str,
    ) {
        let claim =
            During { latency: vec![("99%".parse().unwrap(), Duration::from_millis(200))], ..during(None, None, &[]) };
        let seen = (0..requests).map(|n| match n {
            n if n >= late => Sighting { at: (n + 200) * MS, ..good(n) },
            n if n % 2 == 0 => Sighting { at: (n + 201) * MS, ..good(n) },
            n => Sighting { at: (n + 1) * MS, ..failed(n) },
        });
        let found = judge(&claim, &watched(seen.collect()));
        assert_eq!(found.ruling, ruling, "{}", found.reason);
        assert!(found.reason.starts_with(reason), "{}", found.reason);
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
}
