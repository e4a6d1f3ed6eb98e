use std::collections::{BTreeMap, BTreeSet};

use super::aspect::{Aspect, AspectChange};
use super::known::{KnownChange, known_changes};
use super::path::Versions;
use super::path_record::{PathRecord, StageRecord};
use crate::events::{Counters, Fingerprint, Tallied, Transition};
use crate::verdict::{Ruling, two_sided_chance};

/// The kinds by which requests are routed.
const RULES: [&str; 3] = ["Service", "DestinationRule", "VirtualService"];
/// The label by which Argo Rollouts tells the pods of a version.
const POD_HASH: &str = "rollouts-pod-template-hash";
/// The type I error of the comparison of two samples.
const APART: f64 = 1e-6;

/// A difference between two runs of the scenario.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The name of the stage.
    pub stage: String,
    /// The position of the stage, from 1.
    pub number: usize,
    /// The aspect and its two values.
    pub change: AspectChange,
    /// The known change of Istio that explains the difference, if there is one.
    pub known: Option<&'static KnownChange>,
}

impl Difference {
    /// Whether the difference must show in a second pair of runs before it is reported as new. That is so for every sampled aspect, unless a
    /// known change explains the difference.
    pub(super) const fn has_to_repeat(&self) -> bool {
        self.known.is_none() && self.change.aspect.is_sampled()
    }
}

/// Removes differences that had to show again and did not. `came_to` says whether the second pair of runs reached a stage: where it did not,
/// the difference stays.
pub(super) fn repeated(
    first: Vec<Difference>,
    again: &[Difference],
    came_to: impl Fn(usize) -> bool,
) -> Vec<Difference> {
    let repeats = |found: &Difference| {
        let same = |other: &Difference| other.number == found.number && other.change.aspect == found.change.aspect;
        !came_to(found.number) || again.iter().any(same)
    };
    first.into_iter().filter(|found| !found.has_to_repeat() || repeats(found)).collect()
}

/// Compares two runs at the stages that both reached. `versions` are the versions of Istio of the two runs.
pub(super) fn differences(before: &PathRecord, after: &PathRecord, versions: Versions<'_>) -> Vec<Difference> {
    let mut all = Vec::new();
    for was in before.themselves() {
        let Some(is) = after.stage(was.row) else { continue };
        for change in stage(was, is) {
            let known = known_changes().iter().find(|known| known.explains(&change, versions));
            all.push(Difference { stage: was.name.clone(), number: was.row.stage, change, known });
        }
    }
    all
}

fn stage(was: &StageRecord, is: &StageRecord) -> Vec<AspectChange> {
    let mut found = claims(was, is);
    found.extend(shares(&was.answers, &is.answers));
    if let (Some(was), Some(is)) = (&was.print, &is.print) {
        found.extend(prints(was, is));
    }
    found.extend(controlled(was, is));
    found
}

fn claims(was: &StageRecord, is: &StageRecord) -> Vec<AspectChange> {
    let decided = |stage: &StageRecord| -> BTreeMap<String, Ruling> {
        let decided =
            stage.judged.iter().map(|judged| (format!("{}: {}", judged.subject, judged.claim), judged.verdict.ruling));
        decided.collect()
    };
    let (was, is) = (decided(was), decided(is));
    let word = |ruling: Option<&Ruling>| match ruling {
        Some(Ruling::Pass) | None => "holds",
        Some(Ruling::Fail) => "fails",
        Some(Ruling::Inconclusive) => "is undecided",
    };
    let claims: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let found = claims.into_iter().filter_map(|claim| {
        let (before, after) = (word(was.get(claim)), word(is.get(claim)));
        (before != after).then(|| AspectChange {
            aspect: Aspect::Claim(claim.clone()),
            before: before.to_owned(),
            after: after.to_owned(),
        })
    });
    found.collect()
}

/// By population and answer: the number of such answers and of all answers to the population.
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
        let count = counts.entry((flow.clone(), tallied.answer.to_string())).or_insert((0, totals[&flow]));
        count.0 += tallied.count;
    }
    counts
}

/// Shares that differ significantly: if both samples had the pooled share, one of the counts would have a probability below [`APART`].
fn shares(was: &[Tallied], is: &[Tallied]) -> Vec<AspectChange> {
    let (was, is) = (counts(was), counts(is));
    let total = |counts: &Counts, flow: &str| {
        counts.iter().find(|((key, _), _)| key == flow).map_or(0, |(_, (_, total))| *total)
    };
    let keys: BTreeSet<&(String, String)> = was.keys().chain(is.keys()).collect();
    let mut found = Vec::new();
    for key @ (flow, answer) in keys {
        let (before, all_before) = (was.get(key).map_or(0, |count| count.0), total(&was, flow));
        let (after, all_after) = (is.get(key).map_or(0, |count| count.0), total(&is, flow));
        if all_before == 0 || all_after == 0 {
            continue;
        }
        if are_apart((before, all_before), (after, all_after)) {
            let words = |count: u64, all: u64| format!("{count} of {all}");
            let aspect = Aspect::Answers(format!("{answer} to {flow}"));
            found.push(AspectChange { aspect, before: words(before, all_before), after: words(after, all_after) });
        }
    }
    found
}

/// Whether two counts, each among all requests of its sample, are hardly of the same share.
#[expect(clippy::cast_precision_loss, reason = "numbers of requests are far below 2^52")]
fn are_apart((before, all_before): (u64, u64), (after, all_after): (u64, u64)) -> bool {
    let share = (before + after) as f64 / (all_before + all_after) as f64;
    let chance = |count, all| if share >= 1.0 { 1.0 } else { two_sided_chance(all, count, share) };
    chance(before, all_before).min(chance(after, all_after)) < APART
}

/// What a rollout controller did: its writes, the state of its object, and the requests that failed meanwhile.
fn controlled(was: &StageRecord, is: &StageRecord) -> Vec<AspectChange> {
    let mut found = Vec::new();
    let (Some(before), Some(after)) = (&was.state, &is.state) else { return found };
    if before != after {
        found.push(AspectChange { aspect: Aspect::State, before: before.clone(), after: after.clone() });
    }
    let (Some(was), Some(is)) = (&was.transition, &is.transition) else { return found };
    let (before, after) = (written(was), written(is));
    if before != after {
        found.push(AspectChange { aspect: Aspect::Writes, before, after });
    }
    let [before, after] = [was, is].map(|own| (own.failed(), own.requests));
    if before.1 > 0 && after.1 > 0 && are_apart(before, after) {
        let words = |(failed, all): (u64, u64)| format!("{failed} of {all}");
        found.push(AspectChange { aspect: Aspect::Failed, before: words(before), after: words(after) });
    }
    found
}

/// The writes to Services and rules in words, in order. Hashes of pods depend on the version of the controller.
fn written(transition: &Transition) -> String {
    let rules = transition.writes.iter().filter(|write| RULES.contains(&write.kind()));
    let words = rules.map(|write| {
        let changes = write.changes.iter().map(|change| match change.split_once(POD_HASH) {
            Some((path, _)) => format!("{path}{POD_HASH}"),
            None => change.clone(),
        });
        format!("{}: {}", write.object, changes.collect::<Vec<_>>().join(", "))
    });
    let words = words.collect::<Vec<_>>().join("; ");
    if words.is_empty() { "none".to_owned() } else { words }
}

fn prints(was: &Fingerprint, is: &Fingerprint) -> Vec<AspectChange> {
    let mut found = Vec::new();
    let mut compare = |aspect: Aspect, before: Option<String>, after: Option<String>| {
        if let (Some(before), Some(after)) = (before, after)
            && before != after
        {
            found.push(AspectChange { aspect, before, after });
        }
    };
    let attempts = |print: &Fingerprint| print.attempts().map(|attempts| format!("{attempts:.1}"));
    compare(Aspect::Attempts, attempts(was), attempts(is));
    let flags = |print: &Fingerprint| print.counters.as_ref().map(flags);
    compare(Aspect::Flags, flags(was), flags(is));
    let secured = |print: &Fingerprint| print.secured.map(|secured| if secured { "yes" } else { "no" }.to_owned());
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
    let none = || "not set".to_owned();
    for change in was.configuration.changes(&is.configuration) {
        let (before, after) = (change.before.unwrap_or_else(none), change.after.unwrap_or_else(none));
        found.push(AspectChange { aspect: Aspect::Configuration(change.path), before, after });
    }
    found
}

/// The response flags without their counts, since a count depends on the size of the sample.
fn flags(counters: &Counters) -> String {
    let flags: Vec<&str> = counters.flags().into_keys().collect();
    if flags.is_empty() { "none".to_owned() } else { flags.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::events::{Event, Injection, Judged, Latency, Subject, Write};
    use crate::scenario::{IstioVersion, Origin};
    use crate::upgrade::{Phase, Row, UpgradePath};
    use crate::verdict::{Answer, Verdict};

    const VERSIONS: Versions<'_> =
        Versions { controller: None, from: &IstioVersion::new(1, 22), to: &IstioVersion::new(1, 31) };

    fn tallied(version: &str, count: u64) -> Tallied {
        let answer = Answer::Version { version: version.to_owned(), status: 503 };
        Tallied { from: "testers".to_owned(), path: "/error".to_owned(), answer, pod: None, count }
    }

    fn record(path: UpgradePath, split: [u64; 2], print: Fingerprint, ruling: Ruling) -> PathRecord {
        let mut record = PathRecord::new(path, vec![Row { stage: 5, phase: Phase::Itself }]);
        record.take(&Event::Stage { number: 5, name: "fault".to_owned(), edits: Vec::new() });
        record.take(&Event::Sampled {
            requests: split.iter().sum(),
            rate: 1000.0,
            latency: Latency::default(),
            tallies: vec![tallied("v1", split[0]), tallied("v2", split[1])],
        });
        record.take(&Event::Fingerprinted(Box::new(print)));
        record.take(&Event::Judged(Judged {
            subject: Subject::Population { name: "testers".to_owned(), path: "/error".to_owned() },
            claim: "v1 50 %, v2 50 %".to_owned(),
            verdict: Verdict::counted(ruling, split.iter().sum(), String::new()),
            hints: Vec::new(),
            place: Origin::new("scenario.yaml", 1, 1),
            errors: None,
            layer: None,
        }));
        record.take(&Event::StageDone { passed: true, took: Duration::from_secs(1) });
        record
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

    fn told(before: &PathRecord, after: &PathRecord) -> Vec<String> {
        let told = differences(before, after, VERSIONS).into_iter().map(|found| {
            let known = found.known.map_or("new", |known| known.id.as_str());
            let AspectChange { aspect, before, after } = found.change;
            format!("{}: {aspect}: {before} → {after} ({known})", found.stage)
        });
        told.collect()
    }

    #[test]
    fn known_changes_are_told_from_new_ones() {
        let old = record(UpgradePath::FreshOnOld, [51, 49], print(3, 100, Injection::Classic), Ruling::Pass);
        let new = record(UpgradePath::FreshOnNew, [48, 52], print(1, 0, Injection::Native), Ruling::Pass);
        assert_eq!(
            told(&old, &new),
            [
                "fault: requests to servers for each client request: 3.0 → 1.0 (retries on 503)",
                "fault: response flags: URX → none (retries on 503)",
                "fault: sidecar injection: a container → a native sidecar (native sidecars)",
            ]
        );
        assert!(told(&new, &new).is_empty());
    }

    #[test]
    fn what_is_sampled_has_to_repeat_and_what_is_read_or_judged_has_not() {
        let repeats = |aspect| {
            let (before, after) = ("a".to_owned(), "b".to_owned());
            let change = AspectChange { aspect, before, after };
            Difference { stage: String::new(), number: 1, change, known: None }.has_to_repeat()
        };
        assert!(repeats(Aspect::Order("everyone".to_owned())) && repeats(Aspect::Flags) && repeats(Aspect::Attempts));
        assert!(!repeats(Aspect::Configuration("cluster all/name".to_owned())));
        assert!(!repeats(Aspect::Claim("everyone: v1".to_owned())));
    }

    /// A stage in which Argo Rollouts has written these objects, with this state and this number of failed requests.
    fn moved(writes: &[(&str, &str)], state: &str, failed: u64) -> PathRecord {
        let mut record = PathRecord::new(UpgradePath::FreshOnOld, vec![Row { stage: 2, phase: Phase::Itself }]);
        record.take(&Event::Stage { number: 2, name: "20 %".to_owned(), edits: Vec::new() });
        record.take(&Event::Controlled(state.to_owned()));
        let write = |(object, change): &(&str, &str)| Write {
            at: Duration::ZERO,
            object: (*object).to_owned(),
            changes: vec![(*change).to_owned()],
        };
        let errors = BTreeMap::from([("503".to_owned(), failed)]);
        let writes = writes.iter().map(write).collect();
        record.take(&Event::Changed(Transition { requests: 12_000, errors, writes, ..Transition::default() }));
        record
    }

    #[test]
    fn what_a_controller_does_otherwise_is_told() {
        const PAUSED: &str = "Rollout/hello: Paused at step 1 of 4, weight 20 %: CanaryPauseStep";
        const WEIGHT: (&str, &str) = ("VirtualService/hello", "http[primary].route[canary].weight: 0 instead of 20");
        let subset = |hash: &str| format!("subsets[canary].labels.rollouts-pod-template-hash: {hash}");
        let (one, other) = (subset("55d6b48c5 instead of 79bb5c486c"), subset("6f7c instead of 5d9d"));
        let (one, other) = (("DestinationRule/hello", one.as_str()), ("DestinationRule/hello", other.as_str()));
        let status = ("Rollout/hello", "Progressing at step 0 of 4: more replicas need to be updated");
        let old = moved(&[WEIGHT, one], PAUSED, 0);
        // another hash, and what the status says on the way, are no differences; nor are few failed requests
        assert!(told(&old, &moved(&[status, WEIGHT, other], PAUSED, 3)).is_empty());
        let new = moved(&[other, WEIGHT], "Rollout/hello: Progressing at step 1 of 4, weight 20 %", 60);
        let subset = "DestinationRule/hello: subsets[canary].labels.rollouts-pod-template-hash";
        let weight = "VirtualService/hello: http[primary].route[canary].weight: 0 instead of 20";
        assert_eq!(
            told(&old, &new),
            [
                format!(
                    "20 %: state that the controller reports: {PAUSED} → Rollout/hello: Progressing at step 1 of 4, weight 20 % (new)"
                ),
                format!("20 %: writes of the controller: {weight}; {subset} → {subset}; {weight} (new)"),
                "20 %: failed requests while the controller works: 0 of 12000 → 60 of 12000 (new)".to_owned(),
            ]
        );
        assert!(told(&old, &moved(&[], PAUSED, 0))[0].ends_with(" → none (new)"));
    }

    #[test]
    fn another_share_and_a_lost_claim_are_new() {
        let old = record(UpgradePath::FreshOnOld, [50, 50], print(1, 0, Injection::Native), Ruling::Pass);
        let new = record(UpgradePath::FreshOnNew, [100, 0], print(1, 0, Injection::Native), Ruling::Fail);
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
