use std::collections::BTreeMap;

use super::claim::counted;
use super::during::{Sighting, Watched, micros};
use crate::events::{FailureLayer, Judged, Subject};
use crate::plan::{RouteWeights, shown_time};
use crate::routing::Chance;
use crate::scenario::DeclaredClaim;
use crate::verdict::{DeclaredDesign, DeclaredTest, Ruling, Verdict};

/// The declared share of each version.
type Shares = BTreeMap<String, Chance>;

/// A time in which the live route declared the same. Times are in microseconds by the driver's clock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declaration {
    /// When the route was certainly written.
    pub seen: u64,
    /// Until when no other one was written.
    pub until: u64,
    /// The weights of both versions in the route; none if there is no route to both.
    pub weights: Option<RouteWeights>,
    /// The declared shares for each population, or why they are not known.
    pub shares: Vec<Result<Shares, String>>,
}

/// The last microseconds of a declaration, whose requests are not counted: on a busy machine, a sidecar may route them after the next write.
const HELD_UP: u64 = 500_000;

/// A change that a controller makes in several writes: these last less than so many microseconds each.
const ONE_CHANGE: u64 = 1_000_000;

/// A part of a rollout in which a population is to get the same shares.
#[derive(Debug)]
struct Part<'a> {
    shares: Result<&'a Shares, &'a str>,
    requests: u64,
    /// The requests that each tested version answered, and the rounds of its test that passed.
    tested: Vec<(u64, u32)>,
}

/// What moves the shares during a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mover {
    /// A rollout controller. The stage before has judged the shares with which the stage begins.
    Controller,
    /// Nothing: the shares with which the stage begins are judged.
    Nothing,
}

/// Judges the claim that a population gets what the route declares at each time.
pub(crate) fn judge_declared(
    claim: &DeclaredClaim,
    declared: &[Declaration],
    mover: Mover,
    watched: &Watched,
) -> Judged {
    let population = watched.populations.iter().position(|name| *name == claim.from).unwrap_or(usize::MAX);
    let mut sightings: Vec<&Sighting> = watched.sightings.iter().filter(|own| own.population == population).collect();
    sightings.sort_by_key(|own| own.due);
    let declared = &without_passing(declared);
    let (ruling, reason, requests) =
        Follower { mover, ..Follower::new(claim, declared, population, watched) }.judge(&sightings);
    let subject = Subject::Population { name: claim.from.clone(), path: "/".to_owned() };
    let layer = (ruling == Ruling::Fail).then_some(FailureLayer::Route);
    let verdict = Verdict::counted(ruling, requests, reason);
    Judged { errors: Some(claim.errors), ..counted(subject, claim.to_string(), verdict, claim.origin.clone(), layer) }
}

/// Leaves out what a controller has written on the way from one declaration to another: what was replaced within a second, and gave the new
/// version the same weight as the declaration before or after it.
fn without_passing(declared: &[Declaration]) -> Vec<Declaration> {
    let canary = |index: usize| declared.get(index).and_then(|own| Some(own.weights?.canary));
    let is_passing = |index: usize| {
        let is_short = declared[index].until.saturating_sub(declared[index].seen) < ONE_CHANGE;
        let is_inner = index > 0 && index + 1 < declared.len();
        let own = canary(index);
        is_short && is_inner && own.is_some() && (own == canary(index - 1) || own == canary(index + 1))
    };
    (0..declared.len()).filter(|index| !is_passing(*index)).map(|index| declared[index].clone()).collect()
}

struct Follower<'a> {
    declared: &'a [Declaration],
    mover: Mover,
    population: usize,
    versions: &'a [String],
    lag: u64,
    design: DeclaredDesign,
    /// The versions with a test each. Of two versions, the share of one determines that of the other.
    tests: Vec<(&'a str, DeclaredTest)>,
    parts: Vec<Part<'a>>,
}

impl<'a> Follower<'a> {
    fn new(claim: &DeclaredClaim, declared: &'a [Declaration], population: usize, watched: &'a Watched) -> Self {
        let shares = declared.iter().filter_map(|own| own.shares.get(population)?.as_ref().ok());
        let mut tested: Vec<&str> = shares.flat_map(|shares| shares.keys().map(String::as_str)).collect();
        tested.sort_unstable();
        tested.dedup();
        if let [_, second] = tested[..] {
            tested = vec![second];
        }
        let design = DeclaredDesign::new(claim.errors, u32::try_from(tested.len()).unwrap_or(u32::MAX));
        let tests = tested.into_iter().map(|version| (version, design.test())).collect();
        let (versions, lag) = (watched.versions.as_slice(), micros(claim.lag));
        Self { declared, mover: Mover::Controller, population, versions, lag, design, tests, parts: Vec::new() }
    }

    /// The ruling, its reason, and the number of requests that were judged, of requests in the order of sending.
    fn judge(mut self, sightings: &[&Sighting]) -> (Ruling, String, u64) {
        let (mut requests, mut begun) = (0, 0);
        for sighting in sightings {
            let reached = self.declared.partition_point(|own| own.seen + self.lag <= sighting.sent);
            while begun < reached {
                self.begin(begun);
                begun += 1;
            }
            let Some(now) = reached.checked_sub(1).map(|index| &self.declared[index]) else { continue };
            let held_up = if reached == self.declared.len() { 0 } else { HELD_UP };
            let Some(Ok(shares)) = now.shares.get(self.population) else { continue };
            if sighting.sent > now.until.saturating_sub(held_up) {
                continue;
            }
            requests += 1;
            if let Some(failure) = self.observe(sighting, shares) {
                return (Ruling::Fail, failure, requests);
            }
        }
        (begun..self.declared.len()).for_each(|index| self.begin(index));
        let (ruling, reason) = self.conclude();
        (ruling, reason, requests)
    }

    /// Begins a declaration: a new part, unless weights or shares are those of the one before.
    fn begin(&mut self, index: usize) {
        let shares = |own: &'a Declaration| own.shares.get(self.population);
        let now = &self.declared[index];
        let before = index.checked_sub(1).map(|before| &self.declared[before]);
        let is_same = before.is_some_and(|before| before.weights == now.weights || shares(before) == shares(now));
        let Some(shares) = shares(now).map(|shares| shares.as_ref().map_err(String::as_str)) else { return };
        if let Some(part) = self.parts.last_mut().filter(|_| is_same) {
            part.shares = part.shares.or(shares);
            return;
        }
        self.parts.push(Part { shares, requests: 0, tested: vec![(0, 0); self.tests.len()] });
        self.tests.iter_mut().for_each(|(_, test)| test.renew());
    }

    /// Takes a request with the shares that were declared when it was sent. Returns why the claim fails, if it does.
    fn observe(&mut self, sighting: &Sighting, shares: &Shares) -> Option<String> {
        let when = shown_time(std::time::Duration::from_micros(sighting.sent));
        let declared = words(shares);
        let part = self.parts.last_mut()?;
        part.requests += 1;
        let answered = sighting.version.and_then(|index| self.versions.get(index));
        let Some(answered) = answered.filter(|_| sighting.good) else {
            return Some(format!(
                "{declared} was declared, and a request that was sent after {when} got no right answer"
            ));
        };
        if shares.get(answered).is_none_or(|share| *share == Chance::NONE) {
            return Some(format!(
                "{declared} was declared, and {answered} answered a request that was sent after {when}"
            ));
        }
        let Part { requests, tested, .. } = part;
        for ((version, test), (count, passed)) in self.tests.iter_mut().zip(tested) {
            let hit = *version == answered.as_str();
            *count += u64::from(hit);
            let share = shares.get(*version).map_or(0.0, |share| share.fraction());
            match test.observe(share, hit) {
                Some(Ruling::Pass) => *passed += 1,
                Some(Ruling::Fail) => {
                    let found = Chance::of(*count, *requests);
                    return Some(format!(
                        "{declared} was declared, and {version} answered {found} of {requests} requests, up to {when}"
                    ));
                }
                Some(Ruling::Inconclusive) | None => {}
            }
        }
        None
    }

    /// The ruling where nothing failed.
    fn conclude(&self) -> (Ruling, String) {
        let parts = match self.parts.as_slice() {
            [first] if first.shares.is_err() => return (Ruling::Inconclusive, self.shown(first)),
            [] => return (Ruling::Inconclusive, "the live rules could not be read".to_owned()),
            parts if self.mover == Mover::Nothing => parts,
            [_] => return (Ruling::Inconclusive, "the shares that the route declares did not change".to_owned()),
            [_, parts @ ..] => parts,
        };
        let is_open = |part: &&Part<'_>| part.shares.is_err() || part.tested.iter().any(|(_, passed)| *passed == 0);
        if let Some(open) = parts.iter().find(is_open) {
            return (Ruling::Inconclusive, self.shown(open));
        }
        let all: Vec<String> = parts.iter().map(|part| self.shown(part)).collect();
        (Ruling::Pass, all.join("; "))
    }

    /// `v1 90 %, v2 10 %: v2 answered 9.84 % of 10231 requests`, and what is missing for a decision.
    fn shown(&self, part: &Part<'_>) -> String {
        let shares = match part.shares {
            Ok(shares) => shares,
            Err(why) => return format!("what the route declared is not known: {why}"),
        };
        let each = self.tests.iter().zip(&part.tested).map(|((version, _), (count, passed))| {
            let found = Chance::of(*count, part.requests);
            let seen = format!("{version} answered {found} of {} requests", part.requests);
            let share = shares.get(*version).map_or(0.0, |share| share.fraction());
            let needed = self.design.requests(share);
            if *passed == 0 { format!("{seen}, too few: a decision takes {needed}") } else { seen }
        });
        format!("{}: {}", words(shares), each.collect::<Vec<_>>().join(", "))
    }
}

/// `v1 90 %, v2 10 %`.
fn words(shares: &Shares) -> String {
    let shown = shares.iter().filter(|(_, share)| **share != Chance::NONE);
    shown.map(|(version, share)| format!("{version} {share}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::super::fixtures::{MS, failed, good, place, v2};
    use super::*;
    use crate::scenario::ErrorRates;

    const SECOND: u64 = 1000 * MS;

    /// The weights, in percent, of a route that may have other destinations.
    fn weights(stable: u64, canary: u64) -> RouteWeights {
        RouteWeights { canary: Chance::of(canary, 100), stable: Chance::of(stable, 100) }
    }

    fn declaration(from: u64, until: u64, percent: u64) -> Declaration {
        let share = |percent: u64| Chance::of(percent, 100);
        let shares = BTreeMap::from([("v1".to_owned(), share(100 - percent)), ("v2".to_owned(), share(percent))]);
        Declaration {
            seen: from * SECOND,
            until: until * SECOND,
            weights: Some(weights(100 - percent, percent)),
            shares: vec![Ok(shares)],
        }
    }

    /// v1 alone until 10 s, 10 % of v2 until 20 s, half until 30 s, then v2 alone.
    fn rollout() -> Vec<Declaration> {
        let weights = [(0, 10, 0), (10, 20, 10), (20, 30, 50), (30, 40, 100)];
        weights.map(|(from, until, percent)| declaration(from, until, percent)).into()
    }

    /// A request every millisecond for 40 s, which v2 answers with the probability that `truth` gives for the second.
    fn judged(declared: &[Declaration], truth: impl Fn(f64) -> f64) -> Judged {
        let mut random = fastrand::Rng::with_seed(7);
        let sightings = (0..40_000_u32).map(|n| {
            let version = Some(usize::from(random.f64() < truth(f64::from(n) / 1000.0)));
            Sighting { version, ..good(n.into()) }
        });
        judge(declared, sightings.collect())
    }

    fn judge(declared: &[Declaration], sightings: Vec<Sighting>) -> Judged {
        judge_moving(declared, Mover::Controller, sightings)
    }

    fn judge_moving(declared: &[Declaration], mover: Mover, sightings: Vec<Sighting>) -> Judged {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let watched = Watched {
            populations: names(&["everyone"]),
            versions: names(&["v1", "v2"]),
            sightings,
            ..Watched::default()
        };
        let claim = DeclaredClaim {
            from: "everyone".to_owned(),
            lag: Duration::from_secs(2),
            errors: ErrorRates::default(),
            origin: place(),
        };
        judge_declared(&claim, declared, mover, &watched)
    }

    /// What the route of [`rollout`] gives v2, if each write takes effect after so many seconds.
    fn given(late: f64) -> impl Fn(f64) -> f64 {
        move |time| match time - late {
            ..10.0 => 0.0,
            10.0..20.0 => 0.1,
            20.0..30.0 => 0.5,
            _ => 1.0,
        }
    }

    #[rstest]
    #[case::at_once(&rollout(), given(0.0), Ruling::Pass, "v1 90 %, v2 10 %: v2 answered 10.13 % of 7501 requests; v1 50 %, v2 50 %: v2 answered 48.54 % of 7501 requests; v2 100 %: v2 answered 100 % of 8000 requests")]
    #[case::within_the_lag(&rollout(), given(1.9), Ruling::Pass, "v1 90 %, v2 10 %: v2 answered 10.13 % of 7501 requests; v1 50 %, v2 50 %: v2 answered 48.54 % of 7501 requests; v2 100 %: v2 answered 100 % of 8000 requests")]
    #[case::too_late(&rollout(), given(3.0), Ruling::Fail, "v1 90 %, v2 10 % was declared, and v2 answered 0 % of 188 requests, up to 12.19 s")]
    #[case::before_it_is_declared(&rollout(), given(-1.0), Ruling::Fail, "v1 100 % was declared, and v2 answered a request that was sent after 9 s")]
    #[case::one_step_lies(&rollout(), |time| if (20.0..30.0).contains(&time) { 0.3 } else { given(0.0)(time) }, Ruling::Fail, "v1 50 %, v2 50 % was declared, and v2 answered 28.74 % of 341 requests, up to 22.34 s")]
    #[case::the_route_is_not_used(&rollout(), |time| if time < 10.0 { 0.0 } else { 1.0 / 3.0 }, Ruling::Fail, "v1 90 %, v2 10 % was declared, and v2 answered 32.84 % of 134 requests, up to 12.13 s")]
    #[case::lies_in_the_end(&rollout(), |time| if time > 38.0 { 0.9 } else { given(0.0)(time) }, Ruling::Fail, "v2 100 % was declared, and v1 answered a request that was sent after 38.01 s")]
    #[case::too_short(&[declaration(0, 10, 0), declaration(10, 13, 50), declaration(13, 40, 100)], |time| if time < 10.0 { 0.0 } else if time < 13.0 { 0.5 } else { 1.0 }, Ruling::Inconclusive, "v1 50 %, v2 50 %: v2 answered 48.1 % of 501 requests, too few: a decision takes 2123")]
    #[case::no_step(&[declaration(0, 40, 0)], |_| 0.0, Ruling::Inconclusive, "the shares that the route declares did not change")]
    fn shares_are_judged_by_what_is_declared_at_the_time(
        #[case] declared: &[Declaration],
        #[case] truth: impl Fn(f64) -> f64,
        #[case] ruling: Ruling,
        #[case] reason: &str,
    ) {
        let Judged { verdict, .. } = judged(declared, truth);
        assert_eq!((verdict.reason.as_str(), verdict.ruling), (reason, ruling));
    }

    #[rstest]
    #[case::as_declared(0.5, 40_000, Ruling::Pass, "v1 50 %, v2 50 %: v2 answered 49.88 % of 38001 requests")]
    #[case::another_share(
        0.3,
        40_000,
        Ruling::Fail,
        "v1 50 %, v2 50 % was declared, and v2 answered 32.18 % of 317 requests, up to 2.32 s"
    )]
    #[case::too_short(
        0.5,
        2200,
        Ruling::Inconclusive,
        "v1 50 %, v2 50 %: v2 answered 50.75 % of 201 requests, too few: a decision takes 2123"
    )]
    fn shares_that_nothing_moves_are_judged_from_the_start(
        #[case] truth: f64,
        #[case] last: u64,
        #[case] ruling: Ruling,
        #[case] reason: &str,
    ) {
        let mut declared = declaration(0, 40, 50);
        declared.weights = None;
        let mut random = fastrand::Rng::with_seed(7);
        let seen = |n: u64| Sighting { version: Some(usize::from(random.f64() < truth)), ..good(n) };
        let sightings = (0..=last).map(seen).collect();
        let Judged { verdict, .. } = judge_moving(&[declared], Mover::Nothing, sightings);
        assert_eq!((verdict.reason.as_str(), verdict.ruling), (reason, ruling));
        let unread = judge_moving(&[], Mover::Nothing, vec![good(0)]).verdict;
        assert_eq!((unread.reason.as_str(), unread.ruling), ("the live rules could not be read", Ruling::Inconclusive));
    }

    #[test]
    fn pods_that_come_and_go_at_one_weight_begin_no_new_part() {
        // each of these is too short for a decision of its own
        let mut declared: Vec<Declaration> = (0..10).map(|n| declaration(10 + 3 * n, 13 + 3 * n, 40 + 2 * n)).collect();
        for own in &mut declared {
            own.weights = Some(weights(50, 50));
        }
        declared.insert(0, declaration(0, 10, 0));
        let shares = |time: f64| if time < 10.0 { 0.0 } else { 0.4 + 0.02 * ((time - 10.0) / 3.0).floor() };
        let Judged { verdict, .. } = judged(&declared, shares);
        assert_eq!(verdict.ruling, Ruling::Pass, "{}", verdict.reason);
        let Judged { verdict, .. } = judged(&declared, |time| (shares(time) - 0.15).max(0.0));
        assert_eq!(verdict.ruling, Ruling::Fail, "{}", verdict.reason);
    }

    /// v1 alone until 10 s, an experiment with 10 % for other pods of each version until 20 s, and after 80 ms of neither v2 alone.
    fn experiment() -> Vec<Declaration> {
        let mut declared =
            vec![declaration(0, 10, 0), declaration(10, 20, 10), declaration(20, 20, 9), declaration(20, 40, 100)];
        declared[1].weights = Some(weights(80, 0));
        declared[2].weights = Some(weights(91, 0));
        (declared[2].until, declared[3].seen) = (20 * SECOND + 80 * MS, 20 * SECOND + 90 * MS);
        declared
    }

    #[rstest]
    #[case::as_declared(|time| if time < 10.0 { 0.0 } else if time < 20.0 { 0.1 } else { 1.0 }, Ruling::Pass, "v1 90 %, v2 10 %: v2 answered 10.13 % of 7501 requests; v2 100 %: v2 answered 100 % of 17910 requests")]
    #[case::one_version_alone(|time| if time < 20.0 { 0.0 } else { 1.0 }, Ruling::Fail, "v1 90 %, v2 10 % was declared, and v2 answered 0 % of 188 requests, up to 12.19 s")]
    fn other_destinations_are_a_part_of_their_own(
        #[case] truth: impl Fn(f64) -> f64,
        #[case] ruling: Ruling,
        #[case] reason: &str,
    ) {
        let Judged { verdict, .. } = judged(&experiment(), truth);
        assert_eq!((verdict.reason.as_str(), verdict.ruling), (reason, ruling));
    }

    #[test]
    fn other_destinations_for_too_short_a_time_are_undecided() {
        let mut declared = experiment();
        (declared[1].until, declared[3].seen) = (12 * SECOND + 550 * MS, 12 * SECOND + 600 * MS);
        declared.remove(2);
        let Judged { verdict, .. } = judged(&declared, |time| {
            if time < 10.0 {
                0.0
            } else if time < 12.6 {
                0.1
            } else {
                1.0
            }
        });
        assert_eq!(verdict.ruling, Ruling::Inconclusive, "{}", verdict.reason);
    }

    #[test]
    fn a_failed_request_and_a_version_that_is_not_declared_fail_the_claim() {
        let until = |last: Sighting| judge(&rollout(), (0..5000).map(good).chain([last]).collect()).verdict;
        let failed = until(failed(5000));
        assert_eq!(failed.reason, "v1 100 % was declared, and a request that was sent after 5 s got no right answer");
        let other = until(v2(5000));
        assert_eq!(other.reason, "v1 100 % was declared, and v2 answered a request that was sent after 5 s");
        assert_eq!((failed.ruling, other.ruling), (Ruling::Fail, Ruling::Fail));
    }

    #[test]
    fn shares_that_are_not_known_are_undecided() {
        let mut declared = rollout();
        declared[2].shares = vec![Err("mirror is not modelled".to_owned())];
        let Judged { verdict, .. } = judged(&declared, given(0.0));
        assert_eq!(verdict.ruling, Ruling::Inconclusive);
        assert_eq!(verdict.reason, "what the route declared is not known: mirror is not modelled");
        for own in &mut declared {
            own.shares = vec![Err("annotations are not modelled".to_owned())];
        }
        let Judged { verdict, .. } = judged(&declared, given(0.0));
        assert_eq!(verdict.ruling, Ruling::Inconclusive);
        assert_eq!(verdict.reason, "what the route declared is not known: annotations are not modelled");
    }
}
