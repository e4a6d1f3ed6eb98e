mod reason;
#[cfg(test)]
mod tests;
mod verdict;

pub use verdict::{DecisionPath, ServedShare, Verdict};

use super::answer::{Answer, AnswerKind, Kinds};
use super::binomial::confidence_interval;
use super::design::{Design, Part, groups};
use super::ruling::{Ruling, Stop};
use super::sequential::ShareTest;
use crate::scenario::{Claim, Share};

/// The distance between two points of a path is this part of the number of requests: some hundred points in all.
pub(super) const THINNING: u64 = 24;

/// The decision of a claim: takes the answers one by one, in the order of sending, and returns the ruling as soon as there is one.
///
/// Each answer is mapped to its [`AnswerKind`] first, so that the update itself compares no text.
#[derive(Debug, Clone)]
pub struct Trial {
    design: Design,
    kinds: Kinds,
    /// Whether the claim allows a kind. It excludes all others, however rare.
    allowed: Vec<bool>,
    /// Whether a kind counts for a test: one row for each kind, one column for each test.
    hits: Vec<bool>,
    counts: Vec<u64>,
    requests: u64,
    tests: Vec<(ShareTest, Option<Ruling>)>,
    /// The points of the path of each test: requests and hits.
    points: Vec<Vec<(u64, u64)>>,
    /// The request at which the next points are recorded.
    mark: u64,
    /// The counts of each variant of the population up to the ruling. The variants take turns.
    variants: Vec<Variant>,
    decided: Option<Decided>,
}

/// The counts of one variant of a population.
#[derive(Debug, Clone, Default)]
struct Variant {
    requests: u64,
    /// The number of requests that count for each test.
    hits: Vec<u64>,
}

/// The state at the ruling.
#[derive(Debug, Clone)]
struct Decided {
    ruling: Ruling,
    stop: Stop,
    requests: u64,
    counts: Vec<u64>,
}

impl Trial {
    /// A trial before its first request.
    pub fn new(design: Design) -> Self {
        let tests = vec![(ShareTest::default(), None); design.tests.len()];
        let points = vec![Vec::new(); design.tests.len()];
        let kinds = usize::try_from(design.variants).unwrap_or(1);
        let variants = vec![Variant { requests: 0, hits: vec![0; design.tests.len()] }; kinds];
        Self {
            design,
            kinds: Kinds::default(),
            allowed: Vec::new(),
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

    /// The statistical design of the claim.
    pub const fn design(&self) -> &Design {
        &self.design
    }

    /// The kind of an answer.
    pub fn kind(&mut self, answer: &Answer) -> AnswerKind {
        let kind = self.kinds.kind(answer);
        while self.allowed.len() < self.kinds.answers().len() {
            let answer = &self.kinds.answers()[self.allowed.len()];
            self.hits.extend(self.design.tests.iter().map(|(part, _)| counts_for(answer, part)));
            self.allowed.push(is_allowed(&self.design.claim, answer));
            self.counts.push(0);
        }
        kind
    }

    /// Takes the next answer in the order of sending. Returns the ruling, once there is one.
    ///
    /// Answers after the ruling, to requests that were in flight, can only change it if the claim excludes them: the claim then fails. A correct
    /// route gives no such answers.
    #[inline]
    pub fn observe(&mut self, AnswerKind(kind): AnswerKind) -> Option<Ruling> {
        self.counts[kind] += 1;
        if self.decided.is_none() && self.variants.len() > 1 {
            // variants take turns, and answers arrive in the order of sending
            let turn = usize::try_from(self.requests % self.variants.len() as u64).unwrap_or_default();
            let variant = &mut self.variants[turn];
            variant.requests += 1;
            let row = kind * self.tests.len();
            for (index, hits) in variant.hits.iter_mut().enumerate() {
                *hits += u64::from(self.hits[row + index]);
            }
        }
        self.requests += 1;
        if !self.allowed[kind] {
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

    /// The ruling, once there is one.
    pub fn ruling(&self) -> Option<Ruling> {
        self.decided.as_ref().map(|decided| decided.ruling)
    }

    fn decide(&mut self, ruling: Ruling, stop: Stop) {
        self.decided = Some(self.state(ruling, stop));
    }

    fn state(&self, ruling: Ruling, stop: Stop) -> Decided {
        Decided { ruling, stop, requests: self.requests, counts: self.counts.clone() }
    }

    /// The number of requests and the shares so far, or at the ruling.
    pub fn served(&self) -> (u64, Vec<ServedShare>) {
        let decided = self.latest();
        (decided.requests, self.shares(&decided))
    }

    /// The state at the ruling, or now.
    fn latest(&self) -> Decided {
        self.decided.clone().unwrap_or_else(|| self.state(Ruling::Inconclusive, Stop::Time))
    }

    /// The verdict on the answers so far.
    pub fn verdict(&self) -> Verdict {
        let decided = self.latest();
        let shares = self.shares(&decided);
        let (reason, chance) = match decided.ruling {
            Ruling::Pass => (self.reason_of_pass(&decided, &shares), None),
            Ruling::Fail => self.reason_of_failure(&decided),
            Ruling::Inconclusive => (self.reason_of_inconclusive(&decided, &shares), None),
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
        tests.map(|((part, design), points)| DecisionPath::new(part.to_string(), design, points.clone())).collect()
    }

    fn shares(&self, decided: &Decided) -> Vec<ServedShare> {
        let groups = groups(&self.design.claim);
        let shares = groups.iter().flat_map(|group| group.iter().map(move |(part, claimed)| (group, part, claimed)));
        let shares = shares.map(|(group, part, claimed)| {
            let count = self.count(decided, part);
            let interval = self.interval(decided, group, part, *claimed, count);
            ServedShare { part: part.to_string(), claimed: *claimed, count, interval }
        });
        shares.collect()
    }

    /// The confidence interval of a part's share.
    fn interval(
        &self,
        decided: &Decided,
        group: &[(Part, Share)],
        part: &Part,
        claimed: Share,
        count: u64,
    ) -> (f64, f64) {
        let n = decided.requests;
        let of = |part: &Part, count: u64| {
            let index = self.design.tests.iter().position(|(tested, _)| tested == part)?;
            Some(self.design.tests[index].1.interval(n, count, self.tests[index].1 == Some(Ruling::Pass)))
        };
        // of two parts, one test decides both
        let mirrored = || {
            let mut others = group.iter().filter(|(other, share)| other != part && share.is_part());
            let (other, _) = others.next().filter(|_| claimed.is_part())?;
            let (low, high) = of(other, self.count(decided, other))?;
            Some((1.0 - high, 1.0 - low))
        };
        let confidence = self.design.claim.errors.confidence();
        of(part, count).or_else(mirrored).unwrap_or_else(|| confidence_interval(n, count, Some(claimed), confidence))
    }

    fn count(&self, decided: &Decided, part: &Part) -> u64 {
        let answers = self.kinds.answers().iter().zip(&decided.counts);
        answers.filter(|(answer, _)| counts_for(answer, part)).map(|(_, count)| count).sum()
    }
}

fn counts_for(answer: &Answer, part: &Part) -> bool {
    match (answer, part) {
        (Answer::Version { version, .. }, Part::Version(wanted) | Part::Speed(wanted)) => version == wanted,
        (Answer::Version { status, .. } | Answer::Unknown { status, .. }, Part::Status(wanted)) => *status == wanted.0,
        _ => false,
    }
}

fn is_allowed(claim: &Claim, answer: &Answer) -> bool {
    match answer {
        Answer::Version { version, status } => {
            (claim.versions.is_empty() || is_claimed(claim.versions.get(version)))
                && !claim.statuses.share(*status).is_none()
        }
        Answer::Unknown { status, .. } => claim.versions.is_empty() && !claim.statuses.share(*status).is_none(),
        Answer::Nothing { .. } => false,
    }
}

fn is_claimed(share: Option<&Share>) -> bool {
    share.is_some_and(|share| !share.is_none())
}
