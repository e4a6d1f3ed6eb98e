use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::known::{Known, known_changes};
use super::walked::{Walked, WalkedStage};
use crate::events::{Counters, Fingerprint, Subject, Tallied};
use crate::verdict::{Ruling, two_sided_chance};

/// The chance with which two samples of the same share are told apart.
const APART: f64 = 1e-6;

/// What of a stage is compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    /// Whether a claim holds.
    Claim(String),
    /// The share of an answer to a population.
    Answers(String),
    /// How often a server was asked for each request.
    Attempts,
    /// The response flags of requests that went wrong.
    Flags,
    /// Whether connections to servers are secured.
    Secured,
    /// In which order servers are picked for a population.
    Order(String),
    /// How sidecars are put into pods.
    Injection,
    /// A value of the client's sidecar's configuration, by its path.
    Configuration(String),
}

impl Aspect {
    /// Its name in the list of known changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Claim(_) => "claim",
            Self::Answers(_) => "answers",
            Self::Attempts => "attempts",
            Self::Flags => "flags",
            Self::Secured => "secured",
            Self::Order(_) => "order",
            Self::Injection => "injection",
            Self::Configuration(_) => "configuration",
        }
    }

    /// Which of its kind.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Claim(own) | Self::Answers(own) | Self::Order(own) | Self::Configuration(own) => own,
            _ => "",
        }
    }

    /// Whether clients or operators see it, beyond what a sidecar is told.
    #[must_use]
    pub const fn is_behaviour(&self) -> bool {
        !matches!(self, Self::Configuration(_))
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(own) => write!(formatter, "claim {own}"),
            Self::Answers(own) => write!(formatter, "share of {own}"),
            Self::Attempts => formatter.write_str("requests to servers for each one sent"),
            Self::Flags => formatter.write_str("response flags"),
            Self::Secured => formatter.write_str("TLS of the mesh to servers"),
            Self::Order(own) => write!(formatter, "order in which servers are picked for {own}"),
            Self::Injection => formatter.write_str("sidecars are put into pods as"),
            Self::Configuration(own) => formatter.write_str(own),
        }
    }
}

/// Something that two walks do not share.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The stage.
    pub stage: String,
    /// Its position, from 1.
    pub number: usize,
    /// What.
    pub aspect: Aspect,
    /// What it was.
    pub before: String,
    /// What it is.
    pub after: String,
    /// The change of Istio that explains it; none where it is new.
    pub known: Option<&'static Known>,
}

impl Difference {
    /// Whether the difference may have come about by chance, so that it has to be seen again before it is called new: every sampled aspect
    /// of a fingerprint that no known change explains. A claim is decided with error rates of its own, and a configuration is read.
    #[must_use]
    pub const fn has_to_repeat(&self) -> bool {
        self.known.is_none() && !matches!(self.aspect, Aspect::Claim(_) | Aspect::Configuration(_))
    }
}

/// Those of the differences of two walks that count, where both were walked `again`: what has to repeat counts only if it did, or if the
/// walks did not come to its stage again.
#[must_use]
pub fn repeated(first: Vec<Difference>, again: &[Difference], came_to: impl Fn(usize) -> bool) -> Vec<Difference> {
    let repeats = |own: &Difference| {
        !came_to(own.number) || again.iter().any(|other| other.number == own.number && other.aspect == own.aspect)
    };
    first.into_iter().filter(|own| !own.has_to_repeat() || repeats(own)).collect()
}

/// What two walks do not share at the stages that both came to. `from` and `to` are the versions of Istio that they stood on.
#[must_use]
pub fn differences(before: &Walked, after: &Walked, from: &str, to: &str) -> Vec<Difference> {
    let mut all = Vec::new();
    for was in before.themselves() {
        let Some(is) = after.stage(was.row) else { continue };
        for (aspect, before, after) in stage(was, is) {
            let known = known_changes().iter().find(|known| known.explains(&aspect, &before, &after, from, to));
            all.push(Difference { stage: was.name.clone(), number: was.row.stage, aspect, before, after, known });
        }
    }
    all
}

type Found = (Aspect, String, String);

fn stage(was: &WalkedStage, is: &WalkedStage) -> Vec<Found> {
    let mut found = claims(was, is);
    found.extend(shares(&was.answers, &is.answers));
    if let (Some(was), Some(is)) = (&was.print, &is.print) {
        found.extend(prints(was, is));
    }
    found
}

fn claims(was: &WalkedStage, is: &WalkedStage) -> Vec<Found> {
    let decided = |stage: &WalkedStage| -> BTreeMap<String, Ruling> {
        let decided = stage.judged.iter().map(|judged| {
            let subject = match &judged.subject {
                Subject::Population { name, path } if path == "/" => name.clone(),
                Subject::Population { name, path } => format!("{name} at {path}"),
                Subject::Workload(name) => name.clone(),
                Subject::Change => "during the change".to_owned(),
                Subject::Objects => "objects".to_owned(),
                Subject::Routes => "routes".to_owned(),
            };
            (format!("{subject}: {}", judged.claim), judged.verdict.ruling)
        });
        decided.collect()
    };
    let (was, is) = (decided(was), decided(is));
    let word = |ruling: Option<&Ruling>| match ruling {
        Some(Ruling::Pass) | None => "holds",
        Some(Ruling::Fail) => "fails",
        Some(Ruling::Inconclusive) => "is open",
    };
    let claims: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let found = claims.into_iter().filter_map(|claim| {
        let (before, after) = (word(was.get(claim)), word(is.get(claim)));
        (before != after).then(|| (Aspect::Claim(claim.clone()), before.to_owned(), after.to_owned()))
    });
    found.collect()
}

/// Who asked for what and was answered what, with how many of all.
type Counts = BTreeMap<(String, String), (u64, u64)>;

fn counts(tallies: &[Tallied]) -> Counts {
    let flow = |tallied: &Tallied| match tallied.path.as_str() {
        "/" => tallied.from.clone(),
        path => format!("{} at {path}", tallied.from),
    };
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for tallied in tallies {
        *totals.entry(flow(tallied)).or_default() += tallied.count;
    }
    let mut counts = Counts::new();
    for tallied in tallies {
        let flow = flow(tallied);
        let own = counts.entry((flow.clone(), tallied.answer.to_string())).or_insert((0, totals[&flow]));
        own.0 += tallied.count;
    }
    counts
}

/// Shares that one and the same mesh would not give: under the share of both samples together, one of the counts has a chance below
/// [`APART`].
#[expect(clippy::cast_precision_loss, reason = "numbers of requests are far below 2^52")]
fn shares(was: &[Tallied], is: &[Tallied]) -> Vec<Found> {
    let (was, is) = (counts(was), counts(is));
    let total = |counts: &Counts, flow: &str| {
        counts.iter().find(|((own, _), _)| own == flow).map_or(0, |(_, (_, total))| *total)
    };
    let keys: BTreeSet<&(String, String)> = was.keys().chain(is.keys()).collect();
    let mut found = Vec::new();
    for key @ (flow, answer) in keys {
        let (before, all_before) = (was.get(key).map_or(0, |own| own.0), total(&was, flow));
        let (after, all_after) = (is.get(key).map_or(0, |own| own.0), total(&is, flow));
        if all_before == 0 || all_after == 0 {
            continue;
        }
        let share = (before + after) as f64 / (all_before + all_after) as f64;
        let chance = |count, all| if share >= 1.0 { 1.0 } else { two_sided_chance(all, count, share) };
        if chance(before, all_before).min(chance(after, all_after)) < APART {
            let words = |count: u64, all: u64| format!("{count} of {all}");
            let aspect = Aspect::Answers(format!("{answer} to {flow}"));
            found.push((aspect, words(before, all_before), words(after, all_after)));
        }
    }
    found
}

fn prints(was: &Fingerprint, is: &Fingerprint) -> Vec<Found> {
    let mut found = Vec::new();
    let mut compare = |aspect: Aspect, before: Option<String>, after: Option<String>| {
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            found.push((aspect, before, after));
        }
    };
    let attempts = |print: &Fingerprint| print.attempts().map(|attempts| format!("{attempts:.1}"));
    compare(Aspect::Attempts, attempts(was), attempts(is));
    let flags = |print: &Fingerprint| print.counters.as_ref().map(flags);
    compare(Aspect::Flags, flags(was), flags(is));
    let secured = |print: &Fingerprint| print.secured.map(|own| if own { "yes" } else { "no" }.to_owned());
    compare(Aspect::Secured, secured(was), secured(is));
    for ((from, path), order) in &was.order {
        let flow = if path == "/" { from.clone() } else { format!("{from} at {path}") };
        let other = is.order.get(&(from.clone(), path.clone()));
        compare(Aspect::Order(flow), Some(order.to_string()), other.map(ToString::to_string));
    }
    let injection = |print: &Fingerprint| {
        let kinds: Vec<String> = print.injection.iter().map(ToString::to_string).collect();
        (!kinds.is_empty()).then(|| kinds.join(" and "))
    };
    compare(Aspect::Injection, injection(was), injection(is));
    let none = || "not there".to_owned();
    for change in was.configuration.changes(&is.configuration) {
        let (before, after) = (change.before.unwrap_or_else(none), change.after.unwrap_or_else(none));
        found.push((Aspect::Configuration(change.path), before, after));
    }
    found
}

/// The response flags that came, without how often: that depends on how many requests a sample took.
fn flags(counters: &Counters) -> String {
    let flags: Vec<&str> = counters.flags().into_keys().collect();
    if flags.is_empty() { "none".to_owned() } else { flags.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::events::{Event, Injection, Judged, Latency};
    use crate::scenario::Origin;
    use crate::upgrade::{Course, Phase, Row};
    use crate::verdict::{Answer, Verdict};

    fn tallied(version: &str, count: u64) -> Tallied {
        let answer = Answer::Version { version: version.to_owned(), status: 503 };
        Tallied { from: "testers".to_owned(), path: "/error".to_owned(), answer, pod: None, count }
    }

    fn walked(course: Course, split: [u64; 2], print: Fingerprint, ruling: Ruling) -> Walked {
        let mut walked = Walked::new(course, vec![Row { stage: 5, phase: Phase::Itself }]);
        walked.take(&Event::Stage { number: 5, name: "fault".to_owned(), edits: Vec::new() });
        walked.take(&Event::Sampled {
            requests: split.iter().sum(),
            rate: 1000.0,
            latency: Latency::default(),
            tallies: vec![tallied("v1", split[0]), tallied("v2", split[1])],
        });
        walked.take(&Event::Fingerprinted(Box::new(print)));
        walked.take(&Event::Judged(Judged {
            subject: Subject::Population { name: "testers".to_owned(), path: "/error".to_owned() },
            claim: "v1 50 %, v2 50 %".to_owned(),
            verdict: Verdict::counted(ruling, split.iter().sum(), String::new()),
            hints: Vec::new(),
            place: Origin::new("scenario.yaml", 1, 1),
            errors: None,
            link: None,
        }));
        walked.take(&Event::StageDone { passed: true, took: Duration::from_secs(1) });
        walked
    }

    fn print(attempts: u64, limit_exceeded: u64, injection: Injection) -> Fingerprint {
        let counters = [("upstream_rq_total", attempts * 100), ("upstream_rq_retry_limit_exceeded", limit_exceeded)];
        Fingerprint {
            sent: 100,
            served: Some(100 * attempts),
            counters: Some(counters.into_iter().collect()),
            injection: BTreeSet::from([injection]),
            ..Fingerprint::default()
        }
    }

    fn told(before: &Walked, after: &Walked) -> Vec<String> {
        let told = differences(before, after, "1.22", "1.31").into_iter().map(|own| {
            let known = own.known.map_or("new", |known| known.id.as_str());
            format!("{}: {}: {} → {} ({known})", own.stage, own.aspect, own.before, own.after)
        });
        told.collect()
    }

    #[test]
    fn known_changes_are_told_from_new_ones() {
        let old = walked(Course::FreshOnOld, [51, 49], print(3, 100, Injection::Classic), Ruling::Pass);
        let new = walked(Course::FreshOnNew, [48, 52], print(1, 0, Injection::Native), Ruling::Pass);
        assert_eq!(
            told(&old, &new),
            [
                "fault: requests to servers for each one sent: 3.0 → 1.0 (retries on 503)",
                "fault: response flags: URX → none (retries on 503)",
                "fault: sidecars are put into pods as: a container → a native sidecar (native sidecars)",
            ]
        );
        assert!(told(&new, &new).is_empty());
    }

    #[test]
    fn what_is_sampled_has_to_repeat_and_what_is_read_or_judged_has_not() {
        let repeats = |aspect| {
            let (before, after) = ("a".to_owned(), "b".to_owned());
            Difference { stage: String::new(), number: 1, aspect, before, after, known: None }.has_to_repeat()
        };
        assert!(repeats(Aspect::Order("everyone".to_owned())) && repeats(Aspect::Flags) && repeats(Aspect::Attempts));
        assert!(!repeats(Aspect::Configuration("cluster all/name".to_owned())));
        assert!(!repeats(Aspect::Claim("everyone: v1".to_owned())));
    }

    #[test]
    fn another_share_and_a_lost_claim_are_new() {
        let old = walked(Course::FreshOnOld, [50, 50], print(1, 0, Injection::Native), Ruling::Pass);
        let new = walked(Course::FreshOnNew, [100, 0], print(1, 0, Injection::Native), Ruling::Fail);
        assert_eq!(
            told(&old, &new),
            [
                "fault: claim testers at /error: v1 50 %, v2 50 %: holds → fails (new)",
                "fault: share of v1 with 503 to testers at /error: 50 of 100 → 100 of 100 (new)",
                "fault: share of v2 with 503 to testers at /error: 50 of 100 → 0 of 100 (new)",
            ]
        );
    }
}
