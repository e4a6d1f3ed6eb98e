use std::fmt;

use super::answer::{Answer, Kind, Kinds};
use super::binomial::{confidence_interval, leak_bound, mixture_interval, two_sided_chance};
use super::design::{Design, Part, groups};
use super::sequential::{ShareDesign, ShareTest};
use crate::scenario::{Share as Claimed, Statuses};

/// Whether a claim holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It does.
    Pass,
    /// It does not.
    Fail,
    /// The sample ended before it could be told.
    Inconclusive,
}

impl fmt::Display for Ruling {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pass => "pass",
            Self::Fail => "FAIL",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// The ruling on a claim with its reason in one sentence, and its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The ruling.
    pub ruling: Ruling,
    /// Why, for people.
    pub reason: String,
    /// The number of requests that the ruling took.
    pub requests: u64,
    /// The most requests that it could have taken.
    pub allowed: u64,
    /// Each claimed share and what was seen of it.
    pub shares: Vec<Share>,
    /// A bound on the chance, if the claim is right, of evidence against it as strong as this.
    pub chance: Option<f64>,
    /// What ended the sample.
    pub stop: Stop,
    /// How each sequential test came to its end.
    pub paths: Vec<DecisionPath>,
}

/// What ended a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// An answer that the claim excludes, however rare.
    Excluded,
    /// A likelihood ratio crossed a boundary.
    Boundary,
    /// The cap was reached and the exact band decided.
    Cap,
    /// As many clean answers as exclude the leak.
    Clean,
    /// The time.
    Time,
    /// Nothing: it was counted, not sampled.
    Counted,
}

/// How a sequential test of a share came to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionPath {
    /// The version, or `status 503`.
    pub part: String,
    /// The test.
    pub design: ShareDesign,
    /// Requests and hits, from the first to where it ended; thinned out, the more the later.
    pub points: Vec<(u64, u64)>,
}

impl Verdict {
    /// A ruling on something that is counted and not sampled.
    #[must_use]
    pub const fn counted(ruling: Ruling, requests: u64, reason: String) -> Self {
        Self {
            ruling,
            reason,
            requests,
            allowed: requests,
            shares: Vec::new(),
            chance: None,
            stop: Stop::Counted,
            paths: Vec::new(),
        }
    }
}

/// A share that was claimed and what was seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The version, or `status 503`.
    pub part: String,
    /// What was claimed.
    pub claimed: Claimed,
    /// How many of the verdict's requests it got.
    pub count: u64,
    /// The shares that these counts do not exclude, at any stopping time, with a confidence of `1 - miss`.
    pub interval: (f64, f64),
}

/// One point of a path is kept for so many requests, divided into those that are behind it: some hundred points in all.
const THINNING: u64 = 24;

/// What a kind of answer is to the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It may come.
    Allowed,
    /// The claim excludes it, however rare.
    Foreign,
}

/// A claim being decided: takes the answers one by one in the order of sending and says as soon as the ruling stands.
///
/// Each answer is first given its [`Kind`], once, so that the update itself compares no text.
#[derive(Debug, Clone)]
pub struct Trial {
    design: Design,
    kinds: Kinds,
    places: Vec<Place>,
    /// Whether a kind counts for a test: the kind's row, the test's column.
    hits: Vec<bool>,
    counts: Vec<u64>,
    requests: u64,
    tests: Vec<(ShareTest, Option<Ruling>)>,
    /// Requests and hits of each test at some of the requests.
    points: Vec<Vec<(u64, u64)>>,
    /// The request at which the next points are kept.
    mark: u64,
    /// For each kind of requests of the population, which take turns, what it got until the ruling.
    variants: Vec<Variant>,
    decided: Option<Decided>,
}

/// What one kind of requests of a population got.
#[derive(Debug, Clone, Default)]
struct Variant {
    requests: u64,
    /// How many of them count for each test.
    hits: Vec<u64>,
}

/// The state in which the ruling came to stand.
#[derive(Debug, Clone)]
struct Decided {
    ruling: Ruling,
    stop: Stop,
    requests: u64,
    counts: Vec<u64>,
}

impl Trial {
    /// A trial before its first request.
    #[must_use]
    pub fn new(design: Design) -> Self {
        let tests = vec![(ShareTest::new(), None); design.tests.len()];
        let points = vec![Vec::new(); design.tests.len()];
        let kinds = usize::try_from(design.variants).unwrap_or(1);
        let variants = vec![Variant { requests: 0, hits: vec![0; design.tests.len()] }; kinds];
        Self {
            design,
            kinds: Kinds::default(),
            places: Vec::new(),
            hits: Vec::new(),
            counts: Vec::new(),
            requests: 0,
            tests,
            points,
            mark: 1,
            variants,
            decided: None,
        }
    }

    /// How the claim is decided.
    #[must_use]
    pub const fn design(&self) -> &Design {
        &self.design
    }

    /// The kind of an answer.
    pub fn kind(&mut self, answer: &Answer) -> Kind {
        let kind = self.kinds.kind(answer);
        while self.places.len() < self.kinds.answers().len() {
            let answer = &self.kinds.answers()[self.places.len()];
            self.hits.extend(self.design.tests.iter().map(|(part, _)| counts_for(answer, part)));
            self.places.push(place(&self.design, answer));
            self.counts.push(0);
        }
        kind
    }

    /// Takes the next answer in the order of sending. The ruling, if it stands.
    ///
    /// What comes after the ruling, from requests that were on their way, can only show what the claim excludes altogether: that
    /// still fails it, and never a right route.
    #[inline]
    pub fn observe(&mut self, Kind(kind): Kind) -> Option<Ruling> {
        self.counts[kind] += 1;
        if self.decided.is_none() && self.variants.len() > 1 {
            // the kinds of requests take turns, and answers come in the order of sending
            let turn = usize::try_from(self.requests % self.variants.len() as u64).unwrap_or_default();
            let variant = &mut self.variants[turn];
            variant.requests += 1;
            let row = kind * self.tests.len();
            for (index, hits) in variant.hits.iter_mut().enumerate() {
                *hits += u64::from(self.hits[row + index]);
            }
        }
        self.requests += 1;
        if self.places[kind] == Place::Foreign {
            if !matches!(self.decided, Some(Decided { ruling: Ruling::Fail, .. })) {
                self.decide(Ruling::Fail, Stop::Excluded);
            }
        } else if self.decided.is_none() {
            let row = kind * self.tests.len();
            let marked = self.requests >= self.mark;
            if marked {
                self.mark = self.requests + 1 + self.requests / THINNING;
            }
            let mut open = false;
            let mut stop = Stop::Clean;
            let mut failed = false;
            for (index, (test, ruling)) in self.tests.iter_mut().enumerate().filter(|(_, (_, ruling))| ruling.is_none())
            {
                *ruling = test.observe(&self.design.tests[index].1, self.hits[row + index]);
                if marked || ruling.is_some() {
                    self.points[index].push((test.requests(), test.hits()));
                }
                stop = test.stop(&self.design.tests[index].1).unwrap_or(stop);
                open |= ruling.is_none();
                failed |= *ruling == Some(Ruling::Fail);
            }
            if failed {
                self.decide(Ruling::Fail, stop);
            } else if !open && self.requests >= self.design.clean {
                let clean = self.requests == self.design.clean;
                self.decide(Ruling::Pass, if clean { Stop::Clean } else { stop });
            }
        }
        self.ruling()
    }

    /// The ruling, if it stands.
    #[must_use]
    pub fn ruling(&self) -> Option<Ruling> {
        self.decided.as_ref().map(|decided| decided.ruling)
    }

    fn decide(&mut self, ruling: Ruling, stop: Stop) {
        self.decided = Some(Decided { ruling, stop, requests: self.requests, counts: self.counts.clone() });
    }

    /// The verdict on what has come.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let undecided = || Decided {
            ruling: Ruling::Inconclusive,
            stop: Stop::Time,
            requests: self.requests,
            counts: self.counts.clone(),
        };
        let decided = self.decided.clone().unwrap_or_else(undecided);
        let shares = self.shares(&decided);
        let (reason, chance) = match decided.ruling {
            Ruling::Pass => (self.why_it_holds(&decided, &shares), None),
            Ruling::Fail => self.why_it_fails(&decided),
            Ruling::Inconclusive => {
                let seen = served(&shares, decided.requests);
                let seen = if seen.is_empty() { seen } else { format!("; so far {seen}") };
                let asked = "requests were answered in time, too few for a verdict";
                (format!("only {} of at most {} {asked}{seen}", decided.requests, self.design.allowed), None)
            }
        };
        Verdict {
            ruling: decided.ruling,
            reason,
            requests: decided.requests,
            allowed: self.design.allowed,
            shares,
            chance,
            stop: decided.stop,
            paths: self.paths(),
        }
    }

    fn paths(&self) -> Vec<DecisionPath> {
        let tests = self.design.tests.iter().zip(&self.points);
        tests
            .map(|((part, design), points)| DecisionPath {
                part: part.to_string(),
                design: design.clone(),
                points: points.clone(),
            })
            .collect()
    }

    fn shares(&self, decided: &Decided) -> Vec<Share> {
        let groups = groups(&self.design.claim);
        let shares = groups.iter().flat_map(|group| group.iter().map(move |(part, claimed)| (group, part, claimed)));
        let shares = shares.map(|(group, part, claimed)| {
            let count = self.count(decided, part);
            let interval = self.interval(decided, group, part, *claimed, count);
            Share { part: part.to_string(), claimed: *claimed, count, interval }
        });
        shares.collect()
    }

    /// The shares of a part that its count does not exclude.
    fn interval(
        &self,
        decided: &Decided,
        group: &[(Part, Claimed)],
        part: &Part,
        claimed: Claimed,
        count: u64,
    ) -> (f64, f64) {
        let n = decided.requests;
        let of = |part: &Part, count: u64| {
            let index = self.design.tests.iter().position(|(own, _)| own == part)?;
            Some(self.design.tests[index].1.interval(n, count, self.tests[index].1 == Some(Ruling::Pass)))
        };
        // of two parts, one test decides both
        let mirrored = || {
            let mut others = group.iter().filter(|(other, share)| other != part && share.is_part());
            let (other, _) = others.next().filter(|_| claimed.is_part())?;
            let (low, high) = of(other, self.count(decided, other))?;
            Some((1.0 - high, 1.0 - low))
        };
        let confidence = self.design.errors().confidence();
        of(part, count)
            .or_else(mirrored)
            .unwrap_or_else(|| confidence_interval(n, count, claimed.fraction(), confidence))
    }

    fn count(&self, decided: &Decided, part: &Part) -> u64 {
        let answers = self.kinds.answers().iter().zip(&decided.counts);
        answers.filter(|(answer, _)| counts_for(answer, part)).map(|(_, count)| count).sum()
    }

    fn why_it_holds(&self, decided: &Decided, shares: &[Share]) -> String {
        let confidence = self.design.errors().confidence();
        let whole: Vec<&str> =
            shares.iter().filter(|share| share.claimed.is_all()).map(|share| share.part.as_str()).collect();
        let split = shares.iter().any(|share| share.claimed.is_part());
        let mut parts = Vec::new();
        if split {
            let each = self.share_of_each_variant(confidence);
            parts.push(format!("{} of {} requests{each}", served(shares, decided.requests), decided.requests));
        }
        if !whole.is_empty() {
            let whole = whole
                .iter()
                .map(|part| if part.starts_with("status ") { (*part).to_owned() } else { format!("from {part}") });
            parts.push(format!(
                "all {} {}; a leak is below {:.2} %{} with {} % confidence",
                decided.requests,
                whole.collect::<Vec<_>>().join(", "),
                leak_bound(decided.requests, confidence) * 100.0,
                self.leak_of_each_variant(confidence),
                percent_of(confidence),
            ));
        }
        parts.join("; ")
    }

    /// The leak that each kind of requests excludes on its own, where there are several: a rule may let one of them through.
    fn leak_of_each_variant(&self, confidence: f64) -> String {
        let fewest = self.variants.iter().map(|variant| variant.requests).min().unwrap_or_default();
        if self.variants.len() < 2 || fewest == 0 {
            return String::new();
        }
        let leak = leak_bound(fewest, confidence) * 100.0;
        format!(" in all, below {leak:.2} % in each of {} kinds of requests", self.variants.len())
    }

    /// Between which shares those of each kind of requests lie on their own, where there are several.
    fn share_of_each_variant(&self, confidence: f64) -> String {
        if self.variants.len() < 2 {
            return String::new();
        }
        let tests = self.design.tests.iter().enumerate().map(|(index, (part, _))| {
            let intervals =
                self.variants.iter().map(|variant| mixture_interval(variant.requests, variant.hits[index], confidence));
            let (low, high) = intervals.fold((1.0_f64, 0.0_f64), |all, own| (all.0.min(own.0), all.1.max(own.1)));
            format!("{part} {:.1} to {:.1} %", low * 100.0, high * 100.0)
        });
        format!("; in each of {} kinds of requests {}", self.variants.len(), tests.collect::<Vec<_>>().join(", "))
    }

    fn why_it_fails(&self, decided: &Decided) -> (String, Option<f64>) {
        if let Some(reason) = self.foreign() {
            return (reason, Some(0.0));
        }
        let failed = self.tests.iter().zip(&self.design.tests).find(|((_, ruling), _)| *ruling == Some(Ruling::Fail));
        let Some(((test, _), (part, design))) = failed else { return (String::new(), None) };
        let n = decided.requests;
        let count = self.count(decided, part);
        let (chance, bound) = match test.stop(design) {
            Some(Stop::Cap) => (two_sided_chance(n, count, design.share()).min(design.alpha()), "at most "),
            _ => (test.chance(design), "at most "),
        };
        // of two, the one that got more than its share
        let (part, count, share) = self.opposite(part, decided).filter(|_| less(count, n, design.share())).map_or_else(
            || (part.clone(), count, design.share()),
            |(other, others)| (other, others, 1.0 - design.share()),
        );
        let served =
            if matches!(part, Part::Version(_)) { format!("{part} served") } else { format!("{part} came in") };
        let reason = format!(
            "{served} {} of {n} requests; {} % was claimed; a chance of this or worse under the claim: {bound}{chance:.0e}",
            percent(count, n),
            percent_of(share),
        );
        (reason, Some(chance))
    }

    /// The other one where a split has two parts, with its count.
    fn opposite(&self, part: &Part, decided: &Decided) -> Option<(Part, u64)> {
        let mut groups = groups(&self.design.claim).into_iter();
        let group = groups.find(|group| group.iter().any(|(own, _)| own == part))?;
        let mut others = group.into_iter().filter(|(other, share)| other != part && !share.is_none());
        match (others.next(), others.next()) {
            (Some((other, _)), None) => {
                let count = self.count(decided, &other);
                Some((other, count))
            }
            _ => None,
        }
    }

    /// The most frequent answer that the claim excludes altogether, if one came.
    #[must_use]
    pub fn most_excluded(&self) -> Option<&Answer> {
        self.excluded().map(|(answer, _)| answer)
    }

    fn excluded(&self) -> Option<(&Answer, &u64)> {
        let answers = self.kinds.answers().iter().zip(&self.counts).zip(&self.places);
        let excluded = answers.filter(|((_, count), place)| **place == Place::Foreign && **count > 0);
        excluded.map(|(counted, _)| counted).max_by_key(|(_, count)| **count)
    }

    /// The most frequent thing among all answers that the claim excludes altogether.
    fn foreign(&self) -> Option<String> {
        let n = self.requests;
        let answers = || self.kinds.answers().iter().zip(&self.counts).zip(&self.places);
        let (first, count) = self.excluded()?;
        let of = |count: u64| format!("{count} of {n} requests {}", if count == 1 { "was" } else { "were" });
        let claim = &self.design.claim;
        Some(match first {
            Answer::Nothing { reason } => {
                format!("{count} of {n} requests got no answer: {reason}")
            }
            Answer::Unknown { status, excerpt } if !claim.versions.is_empty() => {
                format!("{} answered {status} `{excerpt}`, which tells no version", of(*count))
            }
            Answer::Version { version, .. }
                if !claim.versions.is_empty() && !is_claimed(claim.versions.get(version)) =>
            {
                let same =
                    |answer: &Answer| matches!(answer, Answer::Version { version: other, .. } if other == version);
                let all = answers().filter(|((answer, _), _)| same(answer)).map(|((_, count), _)| count).sum();
                format!("{} answered by {version}, of which none was claimed", of(all))
            }
            Answer::Version { version, status } => {
                format!("{} answered {status} by {version}; {} was claimed", of(*count), statuses(&claim.statuses))
            }
            Answer::Unknown { status, excerpt } => {
                format!("{} answered {status} `{excerpt}`; {} was claimed", of(*count), statuses(&claim.statuses))
            }
        })
    }
}

fn counts_for(answer: &Answer, part: &Part) -> bool {
    match (answer, part) {
        (Answer::Version { version, .. }, Part::Version(wanted)) => version == wanted,
        (Answer::Version { status, .. } | Answer::Unknown { status, .. }, Part::Status(wanted)) => status == wanted,
        _ => false,
    }
}

fn place(design: &Design, answer: &Answer) -> Place {
    let claim = &design.claim;
    let allowed = match answer {
        Answer::Version { version, status } => {
            (claim.versions.is_empty() || is_claimed(claim.versions.get(version)))
                && !claim.statuses.share(*status).is_none()
        }
        Answer::Unknown { status, .. } => claim.versions.is_empty() && !claim.statuses.share(*status).is_none(),
        Answer::Nothing { .. } => false,
    };
    if allowed { Place::Allowed } else { Place::Foreign }
}

fn is_claimed(share: Option<&Claimed>) -> bool {
    share.is_some_and(|share| !share.is_none())
}

fn statuses(statuses: &Statuses) -> String {
    match statuses {
        Statuses::Implied => "200".to_owned(),
        Statuses::Claimed(shares) => {
            let claimed = shares.iter().filter(|(_, share)| !share.is_none());
            claimed.map(|(status, _)| status.to_string()).collect::<Vec<_>>().join(" or ")
        }
    }
}

/// `v1 51.2 % (43.1 to 59.2), v2 48.8 % (40.8 to 56.9)`, of the shares that are split.
fn served(shares: &[Share], requests: u64) -> String {
    let split = shares.iter().filter(|share| share.claimed.is_part());
    let split = split.map(|share| {
        let (low, high) = share.interval;
        format!("{} {} ({:.1} to {:.1})", share.part, percent(share.count, requests), low * 100.0, high * 100.0)
    });
    split.collect::<Vec<_>>().join(", ")
}

#[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
fn less(count: u64, n: u64, share: f64) -> bool {
    (count as f64) < n as f64 * share
}

#[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
fn percent(count: u64, n: u64) -> String {
    format!("{:.1} %", 100.0 * count as f64 / n.max(1) as f64)
}

/// A fraction in percent without binary noise.
fn percent_of(fraction: f64) -> f64 {
    (fraction * 1e7).round() / 1e5
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::design::tests::claim;
    use super::*;
    use crate::scenario::Claim;

    fn version(version: &str, status: u16, count: usize) -> Vec<Answer> {
        vec![Answer::Version { version: version.to_owned(), status }; count]
    }

    fn no_healthy(count: usize) -> Vec<Answer> {
        vec![Answer::Unknown { status: 503, excerpt: "no healthy upstream".to_owned() }; count]
    }

    fn lost(count: usize) -> Vec<Answer> {
        vec![Answer::Nothing { reason: "no answer in time".to_owned() }; count]
    }

    /// The trial of a claim after these answers, and after how many its ruling stood.
    fn trial(claim: &Claim, answers: impl IntoIterator<Item = Answer>) -> (Trial, Option<u64>) {
        let mut trial = Trial::new(Design::new(claim).unwrap());
        let mut stood = None;
        for (n, answer) in (1..).zip(answers) {
            let kind = trial.kind(&answer);
            if trial.observe(kind).is_some() {
                stood = stood.or(Some(n));
            }
        }
        (trial, stood)
    }

    fn told(claim: &Claim, answers: Vec<Vec<Answer>>) -> (Ruling, String) {
        let verdict = trial(claim, answers.into_iter().flatten()).0.verdict();
        (verdict.ruling, verdict.reason)
    }

    #[rstest]
    #[case::clean(vec![version("v1", 200, 688)], Ruling::Pass, "all 688 from v1; a leak is below 1.00 % with 99.9 % confidence")]
    #[case::one_foreign(vec![version("v1", 200, 687), version("v2", 200, 1)], Ruling::Fail, "1 of 688 requests was answered by v2, of which none was claimed")]
    #[case::one_error(vec![version("v1", 200, 687), version("v1", 503, 1)], Ruling::Fail, "1 of 688 requests was answered 503 by v1; 200 was claimed")]
    #[case::mesh(vec![version("v1", 200, 3), no_healthy(2)], Ruling::Fail, "2 of 5 requests were answered 503 `no healthy upstream`, which tells no version")]
    #[case::lost(vec![version("v1", 200, 3), lost(2)], Ruling::Fail, "2 of 5 requests got no answer: no answer in time")]
    #[case::short(vec![version("v1", 200, 687)], Ruling::Inconclusive, "only 687 of at most 688 requests were answered in time, too few for a verdict")]
    #[case::late(vec![version("v1", 200, 690), version("v2", 200, 2)], Ruling::Fail, "2 of 692 requests were answered by v2, of which none was claimed")]
    fn all_to_one_has_no_tolerance(#[case] answers: Vec<Vec<Answer>>, #[case] ruling: Ruling, #[case] reason: &str) {
        assert_eq!(told(&claim(&[("v1", 1.0)], &[]), answers), (ruling, reason.to_owned()));
    }

    #[rstest]
    #[case::all(vec![version("v1", 503, 688)], Ruling::Pass, "all 688 from v1, status 503; a leak is below 1.00 % with 99.9 % confidence")]
    #[case::another(vec![version("v1", 503, 5), version("v1", 200, 1)], Ruling::Fail, "1 of 6 requests was answered 200 by v1; 503 was claimed")]
    fn a_status_is_claimed_without_tolerance_too(
        #[case] answers: Vec<Vec<Answer>>,
        #[case] ruling: Ruling,
        #[case] reason: &str,
    ) {
        assert_eq!(told(&claim(&[("v1", 1.0)], &[(503, 1.0)]), answers), (ruling, reason.to_owned()));
    }

    #[test]
    fn where_only_the_status_is_claimed_nobody_has_to_tell_a_version() {
        let only = claim(&[], &[(503, 1.0)]);
        let expected = "all 688 status 503; a leak is below 1.00 % with 99.9 % confidence";
        assert_eq!(told(&only, vec![no_healthy(300), version("v1", 503, 388)]), (Ruling::Pass, expected.to_owned()));
        let (ruling, reason) = told(&only, vec![no_healthy(3), version("v1", 200, 1)]);
        assert_eq!(
            (ruling, reason.as_str()),
            (Ruling::Fail, "1 of 4 requests was answered 200 by v1; 503 was claimed")
        );
    }

    fn alternating(count: usize) -> impl Iterator<Item = Answer> {
        let two = [version("v1", 200, 1), version("v2", 200, 1)].concat();
        two.into_iter().cycle().take(count)
    }

    #[test]
    fn halves_are_decided_as_soon_as_the_answers_allow() {
        let halves = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
        let (trial, stood) = trial(&halves, alternating(600));
        let verdict = trial.verdict();
        assert_eq!((verdict.ruling, verdict.requests, verdict.allowed), (Ruling::Pass, 340, 1711));
        assert_eq!(stood, Some(340));
        insta::assert_snapshot!(verdict.reason, @"v1 50.0 % (40.0 to 60.0), v2 50.0 % (40.0 to 60.0) of 340 requests");
        assert_eq!(verdict.shares[0].count, 170);
        let (low, high) = verdict.shares[0].interval;
        assert!(0.4 <= low && high <= 0.6, "what has passed excludes a deviation of 10 points");
    }

    #[rstest]
    #[case::missing(vec![version("v1", 200, 200)], 30, "v1 served 100.0 % of 30 requests; 50 % was claimed; a chance of this or worse under the claim: at most 5e-7")]
    #[case::swapped_off(vec![version("v2", 200, 200)], 30, "v2 served 100.0 % of 30 requests; 50 % was claimed; a chance of this or worse under the claim: at most 5e-7")]
    fn a_wrong_split_fails_with_its_chance(
        #[case] answers: Vec<Vec<Answer>>,
        #[case] stood: u64,
        #[case] reason: &str,
    ) {
        let (trial, at) = trial(&claim(&[("v1", 0.5), ("v2", 0.5)], &[]), answers.into_iter().flatten());
        let verdict = trial.verdict();
        assert_eq!((at, verdict.ruling), (Some(stood), Ruling::Fail));
        assert_eq!(verdict.reason, reason);
        assert!(verdict.chance.unwrap() < 1e-6);
    }

    #[test]
    fn an_unknown_version_fails_a_split_at_once() {
        let halves = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
        let (trial, stood) = trial(&halves, alternating(10).chain(version("v3", 200, 1)).chain(alternating(4)));
        assert_eq!(stood, Some(11));
        assert_eq!(trial.verdict().reason, "1 of 15 requests was answered by v3, of which none was claimed");
    }

    #[test]
    fn a_version_claimed_at_nothing_is_foreign() {
        let (ruling, reason) = told(&claim(&[("v1", 1.0), ("v2", 0.0)], &[]), vec![version("v2", 200, 1)]);
        assert_eq!(
            (ruling, reason.as_str()),
            (Ruling::Fail, "1 of 1 requests was answered by v2, of which none was claimed")
        );
    }

    #[test]
    fn each_of_three_versions_has_to_hold_its_share() {
        let thirds = claim(&[("v1", 0.5), ("v2", 0.25), ("v3", 0.25)], &[]);
        let cycle = |order: &[&str], times: usize| -> Vec<Answer> {
            order.iter().flat_map(|name| version(name, 200, 1)).cycle().take(order.len() * times).collect()
        };
        let (ruling, _) = told(&thirds, vec![cycle(&["v1", "v2", "v1", "v3"], 400)]);
        assert_eq!(ruling, Ruling::Pass);
        // v1 has its half, v2 and v3 do not have their quarters
        let (ruling, reason) = told(&thirds, vec![cycle(&["v1", "v2", "v1", "v2", "v1", "v2", "v1", "v3"], 400)]);
        assert_eq!(ruling, Ruling::Fail);
        assert!(reason.starts_with("v3 served 12."), "{reason}");
        assert!(reason.contains(" 25 % was claimed"), "{reason}");
    }

    /// The verdict on answers to a population of several kinds of requests.
    fn in_turns(claim: &Claim, variants: usize, answers: impl IntoIterator<Item = Answer>) -> Verdict {
        let mut trial = Trial::new(Design::new(claim).unwrap().of_variants(variants));
        for answer in answers {
            let kind = trial.kind(&answer);
            trial.observe(kind);
        }
        trial.verdict()
    }

    #[test]
    fn each_kind_of_requests_keeps_a_bound_of_its_own() {
        let all = claim(&[("v1", 1.0)], &[]);
        let verdict = in_turns(&all, 3, version("v1", 200, 688));
        // 229 clean requests: a leak of 1 % in one of three kinds is missed with 10 %, one of 2.97 % with 10⁻³
        assert!((0.99_f64.powi(229) - 0.1).abs() < 1e-3 && 0.9703_f64.powi(229) < 1.01e-3);
        assert_eq!(
            verdict.reason,
            "all 688 from v1; a leak is below 1.00 % in all, below 2.97 % in each of 3 kinds of requests with 99.9 % confidence"
        );
        let one = in_turns(&all, 1, version("v1", 200, 688));
        assert_eq!(one.reason, "all 688 from v1; a leak is below 1.00 % with 99.9 % confidence");
    }

    #[test]
    fn a_split_says_what_holds_for_each_kind_of_requests() {
        let halves = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
        // the first kind always gets v1, the second always v2: half and half in all
        let verdict = in_turns(&halves, 2, alternating(600));
        assert_eq!(verdict.ruling, Ruling::Pass);
        assert!(verdict.reason.ends_with("; in each of 2 kinds of requests v2 0.0 to 100.0 %"), "{}", verdict.reason);
        // both kinds get both
        let pairs = [version("v1", 200, 2), version("v2", 200, 2)].concat().into_iter().cycle().take(600);
        let verdict = in_turns(&halves, 2, pairs);
        let (_, each) = verdict.reason.split_once("; in each of 2 kinds of requests v2 ").unwrap();
        insta::assert_snapshot!(each, @"33.6 to 66.4 %");
    }

    #[test]
    fn split_statuses_are_decided_like_split_versions() {
        let fault = claim(&[], &[(200, 0.8), (503, 0.2)]);
        let mix = |good: usize, bad: usize, times: usize| {
            let both = [version("v1", 200, good), no_healthy(bad)].concat();
            vec![both.iter().cloned().cycle().take(both.len() * times).collect::<Vec<_>>()]
        };
        assert_eq!(told(&fault, mix(4, 1, 400)).0, Ruling::Pass);
        let (ruling, reason) = told(&fault, mix(3, 2, 400));
        assert_eq!(ruling, Ruling::Fail);
        assert!(reason.starts_with("status 503 came in "), "{reason}");
    }
}
