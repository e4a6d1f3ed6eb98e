use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::model::{Claim, Outcome, Report, Stage};
use super::words::{float, plural};
use crate::events::{SourceFile, Transition};

/// Convergence times and outages differ if one is this many times as long as the other, and at least [`NOTABLE`] longer.
const TIMES: f64 = 2.0;
/// In seconds.
const NOTABLE: f64 = 0.5;
/// The longest time between failed requests of one outage, in seconds.
const ONE_OUTAGE: f64 = 0.5;

/// A difference between two reports.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Difference {
    /// The stage; none for a difference that is not about a stage.
    pub stage: Option<String>,
    /// The subject: a claim, the convergence, the change.
    pub what: String,
    /// The value in the first report.
    pub before: String,
    /// The value in the second report.
    pub after: String,
    /// Whether the second report is worse.
    pub worse: bool,
}

impl Difference {
    /// A difference that is not worse.
    fn new(stage: Option<&str>, what: &str, before: &str, after: &str) -> Self {
        let stage = stage.map(str::to_owned);
        Self { stage, what: what.to_owned(), before: before.to_owned(), after: after.to_owned(), worse: false }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.worse { "✗" } else { "~" };
        let stage = self.stage.as_ref().map(|stage| format!("{stage}, ")).unwrap_or_default();
        write!(formatter, "{mark} {stage}{}: {} → {}", self.what, self.before, self.after)
    }
}

/// Compares two reports: versions, verdicts, shares, convergence times, and outages while stages were applied.
///
/// Two shares differ if their confidence intervals do not overlap. The intervals are valid at any stopping time, with confidence 1 − β.
/// Numbers of failed requests are not compared, since failures within one outage are not independent. Outages differ if the total duration in
/// one run is more than twice that in the other run, and more than half a second longer.
pub fn compare(before: &Report, after: &Report) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut differs = |what: &str, before: &str, after: &str| {
        if before != after {
            all.push(Difference::new(None, what, before, after));
        }
    };
    let known = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
    let (old, new) = (&before.environment, &after.environment);
    differs("scenario", &before.scenario.name, &after.scenario.name);
    if let (Some(old), Some(new)) = (old.nodes, new.nodes) {
        differs("nodes", &old.to_string(), &new.to_string());
    }
    differs("Kubernetes", &known(&old.kubernetes), &known(&new.kubernetes));
    differs("Istio", &known(&old.istio), &known(&new.istio));
    differs("Envoy", &known(&old.envoy), &known(&new.envoy));
    for file in &after.scenario.files {
        let same = |other: &&SourceFile| other.path == file.path;
        if let Some(other) = before.scenario.files.iter().find(same) {
            differs(&file.path, &other.sha256[..12.min(other.sha256.len())], &file.sha256[..12.min(file.sha256.len())]);
        }
    }
    for stage in &before.stages {
        if let Some(other) = after.stages.iter().find(|other| other.name == stage.name) {
            all.extend(stages(stage, other));
        } else {
            let difference = Difference::new(Some(&stage.name), "stage", ended(stage), "not run");
            all.push(Difference { worse: stage.result == Some(Outcome::Passed), ..difference });
        }
    }
    for stage in after.stages.iter().filter(|stage| !before.stages.iter().any(|other| other.name == stage.name)) {
        all.push(Difference::new(Some(&stage.name), "stage", "not run", ended(stage)));
    }
    all
}

fn ended(stage: &Stage) -> &'static str {
    stage.result.map_or("not finished", Outcome::words)
}

fn stages(before: &Stage, after: &Stage) -> Vec<Difference> {
    let stage = format!("{} {}", after.number, after.name);
    let difference = |what: &str, before: &str, after: &str| Difference::new(Some(&stage), what, before, after);
    let mut all = Vec::new();
    let Paired { same, reworded, gone, new } = paired(&before.claims, &after.claims);
    all.extend(gone.into_iter().map(|claim| difference(&claim.subject, &claim.claim, "not claimed")));
    for (claim, other) in reworded {
        let worse = claim.result == Outcome::Passed && other.result != Outcome::Passed;
        let reason = if worse { format!(" ({}: {})", other.result.words(), other.reason) } else { String::new() };
        let now = format!("{}{reason}", other.claim);
        all.push(Difference { worse, ..difference(&format!("{}, claim", claim.subject), &claim.claim, &now) });
    }
    for (claim, other) in same {
        if claim.result != other.result {
            let passed = other.result == Outcome::Passed;
            let reason = if passed { String::new() } else { format!(" ({})", other.reason) };
            let now = format!("{}{reason}", other.result.words());
            let worse = claim.result == Outcome::Passed;
            all.push(Difference { worse, ..difference(&claim.subject, claim.result.words(), &now) });
        }
        all.extend(shares(claim, other).map(|(what, before, after)| difference(&what, &before, &after)));
    }
    all.extend(new.into_iter().map(|claim| difference(&claim.subject, "not claimed", &claim.claim)));
    if let (Some(old), Some(new)) = (before.converged, after.converged)
        && longer(old.as_secs_f64(), new.as_secs_f64())
    {
        let shown = |took: Duration| format!("{:.2} s", took.as_secs_f64());
        all.push(difference("convergence", &shown(old), &shown(new)));
    }
    if let (Some(old), Some(new)) = (&before.transition, &after.transition) {
        let (was, is) = (total(&outages(old)), total(&outages(new)));
        if longer(was, is) {
            let difference = difference("during the change", &outage_words(old), &outage_words(new));
            all.push(Difference { worse: is > was, ..difference });
        }
    }
    all
}

/// The shares of a claim whose confidence intervals do not overlap: the name and both intervals.
fn shares<'a>(claim: &'a Claim, other: &'a Claim) -> impl Iterator<Item = (String, String, String)> + use<'a> {
    claim.shares.iter().filter_map(|share| {
        let now = other.shares.iter().find(|now| now.part == share.part)?;
        let apart = share.interval[1] < now.interval[0] || now.interval[1] < share.interval[0];
        let shown = |[low, high]: [f64; 2]| format!("{:.1} to {:.1} %", low * 100.0, high * 100.0);
        let what = format!("{}, share of {}", claim.subject, share.part);
        apart.then(|| (what, shown(share.interval), shown(now.interval)))
    })
}

fn outage_words(transition: &Transition) -> String {
    let failed = transition.failed();
    let requests = plural(transition.requests, "request");
    let lasting = match outages(transition).as_slice() {
        [] => "no outage".to_owned(),
        [one] => format!("an outage of {one:.1} s"),
        several => format!("{} outages of {:.1} s in total", several.len(), total(several)),
    };
    format!("{lasting} ({failed} of {requests} failed)")
}

/// Whether one of two times, in seconds, is notably longer.
fn longer(one: f64, other: f64) -> bool {
    one.max(other) > TIMES * one.min(other) && (one - other).abs() > NOTABLE
}

/// The duration of each outage during a change, in seconds, from the step of the first failed request to the step of the last one.
fn outages(transition: &Transition) -> Vec<f64> {
    let steps: BTreeSet<u64> =
        transition.timeline.iter().filter(|moment| moment.errors > 0).map(|moment| moment.step).collect();
    let seconds = |steps: u64| float(steps) * transition.step.as_secs_f64();
    let mut outages: Vec<(u64, u64)> = Vec::new();
    for step in steps {
        match outages.last_mut() {
            Some((_, last)) if seconds(step - *last) <= ONE_OUTAGE => *last = step,
            _ => outages.push((step, step)),
        }
    }
    outages.into_iter().map(|(first, last)| seconds(last + 1 - first)).collect()
}

fn total(outages: &[f64]) -> f64 {
    outages.iter().sum()
}

/// The claims of a stage in two reports, in pairs.
struct Paired<'a> {
    /// Equal claims.
    same: Vec<(&'a Claim, &'a Claim)>,
    /// Different claims about the same subject.
    reworded: Vec<(&'a Claim, &'a Claim)>,
    /// The claims of the first report only.
    gone: Vec<&'a Claim>,
    /// The claims of the second report only.
    new: Vec<&'a Claim>,
}

/// Pairs equal claims first, then the remaining claims by subject. A claim is in at most one pair.
fn paired<'a>(before: &'a [Claim], after: &'a [Claim]) -> Paired<'a> {
    let mut new: Vec<&Claim> = after.iter().collect();
    let mut gone: Vec<&Claim> = before.iter().collect();
    let mut pair = |is_same: fn(&Claim, &Claim) -> bool| {
        let mut pairs = Vec::new();
        gone.retain(|claim| match new.iter().position(|other| is_same(claim, other)) {
            Some(index) => {
                pairs.push((*claim, new.remove(index)));
                false
            }
            None => true,
        });
        pairs
    };
    let same = pair(|left, right| is_about_the_same(left, right) && left.claim == right.claim);
    let reworded = pair(is_about_the_same);
    Paired { same, reworded, gone, new }
}

fn is_about_the_same(left: &Claim, right: &Claim) -> bool {
    left.subject == right.subject && left.from == right.from && left.path == right.path
}

/// Writes the differences between two reports.
///
/// # Errors
/// The output is closed.
pub fn compared(out: &mut impl Write, differences: &[Difference]) -> io::Result<()> {
    if differences.is_empty() {
        return writeln!(out, "no significant differences");
    }
    for difference in differences {
        writeln!(out, "{difference}")?;
    }
    let worse = differences.iter().filter(|difference| difference.worse).count();
    writeln!(out, "{}, {worse} worse", plural(differences.len(), "difference"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::events::{Moment, STEP};

    /// A change of ten seconds with ten requests in each step of 0.1 s. All requests fail in the given half-open ranges of steps.
    fn change(failing: &[(u64, u64)]) -> Transition {
        let timeline = (0..100).map(|step| {
            let errors = if failing.iter().any(|(first, end)| (*first..*end).contains(&step)) { 10 } else { 0 };
            Moment { from: "everyone".to_owned(), step, old: 0, both: 10 - errors, new: 0, errors }
        });
        let timeline: Vec<Moment> = timeline.collect();
        let failed = timeline.iter().map(|moment| moment.errors).sum();
        Transition {
            requests: 1000,
            errors: [("503".to_owned(), failed)].into(),
            took: Duration::from_secs(10),
            step: STEP,
            timeline,
            ..Transition::default()
        }
    }

    fn stage(transition: Transition) -> Stage {
        Stage { number: 4, name: "canary".to_owned(), transition: Some(transition), ..Stage::default() }
    }

    #[test]
    fn an_outage_is_one_event_however_many_requests_fail_in_it() {
        // a binomial test of 140 and 210 failed requests of 1,000 would give p = 4 · 10⁻⁵
        assert_eq!(stages(&stage(change(&[(20, 34)])), &stage(change(&[(20, 41)]))), []);
        assert_eq!(stages(&stage(change(&[(20, 41)])), &stage(change(&[(20, 34)]))), []);
    }

    #[test]
    fn an_outage_that_is_new_or_lasts_much_longer_is_a_difference() {
        let found = stages(&stage(change(&[])), &stage(change(&[(20, 41)])));
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "✗ 4 canary, during the change: no outage (0 of 1000 requests failed) → an outage of 2.1 s (210 of 1000 requests failed)"
            ]
        );
        let shorter = stages(&stage(change(&[(10, 20), (50, 70)])), &stage(change(&[(20, 24)])));
        assert!(!shorter[0].worse && shorter[0].before.starts_with("2 outages of 3.0 s in total"), "{shorter:?}");
        // a single step is too short to count
        assert_eq!(stages(&stage(change(&[])), &stage(change(&[(20, 21)]))), []);
    }

    fn converging(seconds: f64) -> Stage {
        Stage {
            number: 4,
            name: "canary".to_owned(),
            converged: Some(Duration::from_secs_f64(seconds)),
            ..Stage::default()
        }
    }

    #[rstest]
    #[case::slower(0.4, 1.4, &["~ 4 canary, convergence: 0.40 s → 1.40 s"])]
    #[case::faster(1.4, 0.4, &["~ 4 canary, convergence: 1.40 s → 0.40 s"])]
    #[case::less_than_twice_as_long(2.0, 3.9, &[])]
    #[case::only_milliseconds_longer(0.1, 0.5, &[])]
    fn a_convergence_that_takes_much_longer_is_a_difference(
        #[case] before: f64,
        #[case] after: f64,
        #[case] expected: &[&str],
    ) {
        let found = stages(&converging(before), &converging(after));
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn failures_close_to_each_other_are_one_outage() {
        assert_eq!(outages(&change(&[(10, 12), (14, 16)])).len(), 1);
        assert_eq!(outages(&change(&[(10, 12), (30, 31)])).len(), 2);
        assert!((total(&outages(&change(&[(10, 12), (14, 16)]))) - 0.6).abs() < 1e-9);
        assert_eq!(outages(&change(&[])), Vec::<f64>::new());
    }

    fn claim(path: &str, claimed: &str, result: Outcome) -> Claim {
        let claim = serde_json::json!({
            "subject": "everyone", "from": "everyone", "path": path, "claim": claimed, "result": result, "reason": "why",
            "link": null, "hints": [], "place": "scenario.yaml:9:9", "requests": 1, "allowed": 1, "stop": "clean", "errors": null,
            "chance": null, "shares": [], "paths": [],
        });
        serde_json::from_value(claim).unwrap()
    }

    fn claiming(claims: Vec<Claim>) -> Stage {
        Stage { number: 1, name: "one".to_owned(), claims, ..Stage::default() }
    }

    fn compared(before: Vec<Claim>, after: Vec<Claim>) -> Vec<String> {
        stages(&claiming(before), &claiming(after)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn claims_of_one_population_and_path_are_not_mistaken_for_each_other() {
        let (passed, failed) = (Outcome::Passed, Outcome::Failed);
        // reports of older versions can have two claims of one population and path
        let before = vec![claim("/", "v1", passed), claim("/", "status 200", passed)];
        let after = vec![claim("/", "status 200", passed), claim("/", "v1", failed)];
        assert_eq!(compared(before, after), ["✗ 1 one, everyone: passed → failed (why)"]);
    }

    #[test]
    fn a_claim_that_is_reworded_gone_or_new_is_a_difference() {
        let (passed, failed) = (Outcome::Passed, Outcome::Failed);
        let before = vec![claim("/", "v1", passed), claim("/a", "v1", passed), claim("/c", "v1", passed)];
        let after = vec![claim("/", "v2", passed), claim("/b", "v1", passed), claim("/c", "v2", failed)];
        assert_eq!(
            compared(before, after),
            [
                "~ 1 one, everyone: v1 → not claimed",
                "~ 1 one, everyone, claim: v1 → v2",
                "✗ 1 one, everyone, claim: v1 → v2 (failed: why)",
                "~ 1 one, everyone: not claimed → v1",
            ]
        );
    }
}
