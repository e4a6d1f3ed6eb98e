use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::LOSS;
use crate::cluster::Swept;
use crate::events::{Calibration, Event, Judged, Latency, Reach, Shift, Subject, Timed, Transition, TrialledMutant};
use crate::verdict::{CALIBRATION_ALARM, FOUND, Power, Ruling, Totals};
use crate::verify::MutantStatus;

/// The live view of a run and its closing table.
///
/// Progress goes to stderr as one changing line, on a terminal only; what stays goes to the writer, so that a log and a pipe get
/// the same text.
#[derive(Debug)]
pub struct Terminal<W> {
    out: W,
    colour: bool,
    bar: ProgressBar,
    stages: usize,
    rows: Vec<Row>,
    stage: Option<Row>,
    requests: u64,
    /// When the latest event happened, since the start of the stream.
    latest: Duration,
    /// Whether claims that hold are left out.
    brief: bool,
}

/// A stage in the closing table.
#[derive(Debug, Clone)]
struct Row {
    number: usize,
    name: String,
    claims: usize,
    failed: usize,
    requests: u64,
    took: Duration,
    rolled_out: Duration,
    converged: Option<Duration>,
    rate: f64,
    latency: Latency,
    judged: Vec<Judged>,
    changed: Option<Transition>,
}

impl<W: Write> Terminal<W> {
    /// A view that writes to `out`, with colours if they are wanted.
    pub fn new(out: W, colour: bool) -> Self {
        let bar = ProgressBar::new_spinner();
        let live = std::io::stderr().is_terminal();
        bar.set_draw_target(if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        if let Ok(style) = ProgressStyle::with_template("{spinner} [{elapsed}] {wide_msg}") {
            bar.set_style(style);
        }
        if live {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self {
            out,
            colour,
            bar,
            stages: 0,
            rows: Vec::new(),
            stage: None,
            requests: 0,
            latest: Duration::ZERO,
            brief: false,
        }
    }

    /// The same without a line for each claim that holds.
    #[must_use]
    pub const fn brief(mut self) -> Self {
        self.brief = true;
        self
    }

    /// Shows an event.
    pub fn show(&mut self, Timed { since_start, event, .. }: Timed) {
        self.latest = since_start;
        match event {
            Event::Started { run, scenario, place, stages, totals, .. } => {
                let stages = stages.len();
                self.stages = stages;
                self.line(&format!("{scenario}: {} on {place}, run {run}", plural(stages, "stage")));
                if let Some(totals) = totals {
                    self.totals(&totals);
                }
            }
            Event::Swept(what) => self.line(&format!("removed {what}, which was killed")),
            Event::NotSwept(what) => self.line(&what),
            Event::Reaches(reach) => self.reaches(&reach),
            Event::SettingUp(what) => self.bar.set_message(what),
            Event::Waiting(state) => self.bar.set_message(format!("waiting: {state}")),
            Event::Ready { what, after } => self.line(&format!("  {what} ready after {}", seconds(after))),
            Event::Stage { number, name, .. } => {
                self.bar.set_message(format!("stage {number} of {}: {name}", self.stages));
                self.stage = Some(Row {
                    number,
                    name,
                    claims: 0,
                    failed: 0,
                    requests: 0,
                    took: Duration::ZERO,
                    rolled_out: Duration::ZERO,
                    converged: None,
                    rate: 0.0,
                    latency: Latency::default(),
                    judged: Vec::new(),
                    changed: None,
                });
            }
            Event::RolledOut { took } => {
                self.bar.set_message("waiting for the client's sidecar");
                if let Some(stage) = &mut self.stage {
                    stage.rolled_out = took;
                }
            }
            Event::Collected(folder) => {
                self.line(&format!("  what can be known of the cluster is in {}", folder.display()));
            }
            Event::Converged { took, .. } => {
                if let Some(stage) = &mut self.stage {
                    stage.converged = Some(took);
                }
            }
            Event::Changed(transition) => {
                if let Some(stage) = &mut self.stage {
                    stage.changed = Some(transition);
                }
            }
            Event::Sampling { done, decided, claims } => {
                self.bar.set_message(format!("{done} requests, {decided} of {} decided", plural(claims, "claim")));
            }
            Event::Sampled { requests, rate, latency, .. } => {
                self.requests += requests;
                if let Some(stage) = &mut self.stage {
                    stage.requests += requests;
                    stage.rate = rate;
                    stage.latency = latency;
                }
            }
            Event::Judged(judged) => {
                if let Some(stage) = &mut self.stage {
                    stage.claims += 1;
                    stage.failed += usize::from(judged.verdict.ruling != Ruling::Pass);
                    stage.judged.push(judged);
                }
            }
            Event::StageDone { took, .. } => {
                if let Some(mut stage) = self.stage.take() {
                    stage.took = took;
                    self.stage_done(&stage);
                    self.rows.push(stage);
                }
            }
            Event::Calibrating { sample, samples } => self.bar.set_message(format!("sample {sample} of {samples}")),
            Event::Calibrated { calibration, took } => self.calibrated(&calibration, took),
            Event::Trialled(trialled) => self.trialled(&trialled),
            Event::Removing => self.bar.set_message("removing everything"),
            Event::Removed { took } => self.line(&format!("  all removed in {}", seconds(took))),
            Event::Kept { look, remove } => self.kept(&look, &remove),
            // these are for reports alone
            _ => {}
        }
    }

    fn reaches(&mut self, reach: &[Reach]) {
        self.line("allowed by --allow-reach, outside of the namespace of the run:");
        for reach in reach {
            self.line(&format!("  {reach}"));
        }
    }

    fn kept(&mut self, look: &[String], remove: &str) {
        self.line("kept, as asked for. To look at it:");
        for command in look {
            self.line(&format!("  {command}"));
        }
        self.line(&format!("To remove it:\n  {remove}"));
    }

    /// What the verdicts may get wrong, and what comes on top of it.
    fn totals(&mut self, totals: &Totals) {
        self.line(&format!(
            "  {}; the chance of a false alarm is below {} in all, of a missed fault below {} in each, {} in all",
            plural(totals.claims, "claim"),
            chance(totals.false_alarm),
            chance(totals.worst_miss),
            chance(totals.miss),
        ));
        self.line(&format!(
            "  these cover chance alone: if one request in a million is lost, a right rollout fails with a chance of {:.1} % (about {:.0} requests)",
            totals.refused_by_losses(LOSS) * 100.0,
            totals.requests,
        ));
    }

    fn trialled(&mut self, trialled: &TrialledMutant) {
        let mark = if trialled.agrees() { self.green("ok") } else { self.red("NO") };
        let TrialledMutant { operator, what, stage, failed, .. } = trialled;
        let seen = if *failed { "a claim fails" } else { "all claims hold" };
        let model = match &trialled.status {
            MutantStatus::Killed(kill) => format!("killed by {}", kill.claim),
            MutantStatus::Equivalent => "equivalent".to_owned(),
            MutantStatus::Survived(_) => "survived".to_owned(),
        };
        self.line(&format!("{mark} {operator}: {what} — at stage {stage} {seen}; the model: {model}"));
    }

    fn stage_done(&mut self, stage: &Row) {
        let mark = if stage.failed == 0 { self.green("ok") } else { self.red("FAIL") };
        let mut parts = vec![format!("rolled out in {}", seconds(stage.rolled_out))];
        parts.extend(stage.converged.map(|took| format!("converged in {} ms", took.as_millis())));
        if stage.requests > 0 {
            let Latency { median, p99, .. } = stage.latency;
            let (requests, rate, median, p99) = (stage.requests, stage.rate, millis(median), millis(p99));
            parts.push(format!("{requests} requests at {rate:.0} a second, median {median}, 99 % below {p99}"));
        }
        let (number, stages, took) = (stage.number, self.stages, seconds(stage.took));
        self.line(&format!("{mark} {number}/{stages} {} ({took}: {})", stage.name, parts.join(", ")));
        if let Some(text) = stage.changed.as_ref().and_then(change) {
            self.line(&format!("     {text}"));
        }
        let brief = self.brief;
        for judged in stage.judged.iter().filter(|own| !brief || own.verdict.ruling != Ruling::Pass) {
            let subject = subject(&judged.subject);
            let mark = match judged.verdict.ruling {
                Ruling::Pass => "  ".to_owned(),
                Ruling::Fail => self.red("✗ "),
                Ruling::Inconclusive => self.red("? "),
            };
            self.line(&format!("   {mark}{subject}: {} — {}", judged.claim, judged.verdict.reason));
            if judged.verdict.ruling != Ruling::Pass {
                if let Some(layer) = judged.link {
                    self.line(&format!("       {layer}"));
                }
                for hint in &judged.hints {
                    self.line(&format!("       because {hint}"));
                }
                self.line(&format!("       claimed in {}", judged.place));
            }
        }
    }

    fn calibrated(&mut self, calibration: &Calibration, took: Duration) {
        self.requests += calibration.sent;
        let Calibration { from, version, claimed, samples, requests, .. } = calibration;
        let seen = calibration.share * 100.0;
        self.line(&format!(
            "{samples} samples of {from}, {claimed} to {version} claimed, {requests} requests of each tested ({}): {version} served {seen:.2} %",
            seconds(took),
        ));
        let findings = &calibration.findings;
        let runs = findings.excess_runs;
        let tests = [
            (findings.mean_passes(), findings.mean, "mean of all samples: the claimed share".to_owned()),
            (
                findings.spread_passes(),
                findings.spread,
                "counts of the samples: vary as those of independent requests".to_owned(),
            ),
            (
                findings.blocks_pass(),
                findings.blocks,
                format!(
                    "blocks of 2 to 100 answers: vary as those of independent requests; least likely at {}",
                    findings.block
                ),
            ),
            (
                findings.order_passes(),
                findings.order,
                format!("order of sending: {runs:+.1} standard deviations from the expected number of runs"),
            ),
            (findings.connections_pass(), findings.connections, "connections: each sees the claimed share".to_owned()),
        ];
        for (passes, probability, what) in tests {
            let mark = if passes { self.green("ok") } else { self.red("NO") };
            self.line(&format!("  {mark} {what} (p = {})", chance(probability)));
        }
        let mark = if findings.verdicts_pass() { self.green("ok") } else { self.red("NO") };
        self.line(&format!(
            "  {mark} verdicts: {} accepted, {} refused, where at most {} may be; decided after {:.0} requests on the mean and {:.2} s of traffic in the \
             median",
            calibration.accepted,
            calibration.refused,
            findings.refusable,
            calibration.mean,
            calibration.decided.as_secs_f64(),
        ));
        let found = power(&calibration.power);
        if !found.is_empty() {
            self.line(&format!("  these tests find with a chance of at least {:.0} %:", FOUND * 100.0));
            for what in found {
                self.line(&format!("    {what}"));
            }
        }
        if calibration.independent() {
            let alarm = chance(CALIBRATION_ALARM);
            self.line(&format!("  no evidence against independent routing (type I error {alarm})"));
        } else {
            self.line("  requests are not routed independently with the claimed share: verdicts on shares do not hold for this route");
        }
    }

    /// Ends the live line without a word.
    pub fn abandon(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes the closing table and the last line; `note` says how the run ended.
    pub fn close(&mut self, note: &str) {
        self.bar.finish_and_clear();
        if self.stages == 0 {
            // a scenario that was refused before anything started
            return;
        }
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        if !self.rows.is_empty() {
            self.line("");
            for row in std::mem::take(&mut self.rows) {
                let result = if row.failed == 0 { self.green("pass") } else { self.red("FAIL") };
                let claims = format!("{} of {}", row.claims - row.failed, plural(row.claims, "claim"));
                self.line(&format!(
                    " {:>2}  {:<width$}  {result}  {claims:<14} {:>6} requests  {:>7}",
                    row.number,
                    row.name,
                    row.requests,
                    seconds(row.took),
                ));
            }
            self.line("");
        }
        let requests = usize::try_from(self.requests).unwrap_or(usize::MAX);
        let requests = plural(requests, "request");
        self.line(&format!("{note} ({requests}, {})", seconds(self.latest)));
    }

    /// Writes a line that stays.
    pub fn note(&mut self, text: &str) {
        self.line(text);
    }

    fn line(&mut self, text: &str) {
        let out = &mut self.out;
        // a closed pipe ends the output, not the run: clean-up goes on
        self.bar.suspend(|| {
            let _ = writeln!(out, "{text}");
            let _ = out.flush();
        });
    }

    fn green(&self, text: &str) -> String {
        if self.colour { format!("\x1b[32m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn red(&self, text: &str) -> String {
        if self.colour { format!("\x1b[1;31m{text}\x1b[0m") } else { text.to_owned() }
    }
}

pub(super) fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Population { name, path } if path == "/" => name.clone(),
        Subject::Population { name, path } => format!("{name} at {path}"),
        Subject::Workload(name) => name.clone(),
        Subject::Objects => "objects left".to_owned(),
        Subject::Routes => "routes".to_owned(),
        Subject::Change => "during the change".to_owned(),
    }
}

/// What a calibration would have found, a line each.
fn power(power: &Power) -> Vec<String> {
    let points = |size: f64| format!("{:.1} points", size * 100.0);
    let percent = |size: f64| format!("{:.1} %", size * 100.0);
    let named = [
        power.shift.map(|size| format!("a share that is off by {}", points(size))),
        power
            .movement
            .map(|size| format!("a share that moves between samples with a standard deviation of {}", points(size))),
        power.swing.map(|size| format!("a share that swings within a sample by {} to either side", points(size))),
        power.repeats.map(|size| format!("answers that repeat the one before with a chance of {}", percent(size))),
        power
            .repeats_of_eighth
            .map(|size| format!("answers that repeat the one eight before with a chance of {}", percent(size))),
    ];
    named.into_iter().flatten().collect()
}

/// What the traffic saw of a change, if there was anything to see.
fn change(transition: &Transition) -> Option<String> {
    let mut parts = Vec::new();
    for Shift { from, new, first_new, last_old } in &transition.shifts {
        let after = |at: Duration| format!("after {:.2} s", at.as_secs_f64());
        let first = first_new.map(|at| format!("first {new} {}", after(at)));
        let last = last_old.map(|at| format!("last of the old {}", after(at)));
        let seen: Vec<String> = first.into_iter().chain(last).collect();
        if !seen.is_empty() {
            parts.push(format!("{from}: {}", seen.join(", ")));
        }
    }
    let failed = transition.failed();
    if parts.is_empty() && failed == 0 {
        return None;
    }
    let what = transition.errors.iter().map(|(answer, count)| format!("{count} × {answer}"));
    let what = what.collect::<Vec<_>>().join(", ");
    let mut seen = format!("during the change: {failed} of {} requests failed", transition.requests);
    if failed > 0 {
        let (from, lasted) = (&transition.gap.from, transition.gap.lasted.as_secs_f64());
        seen = format!("{seen} ({what}); longest time without a right answer {lasted:.2} s ({from})");
    }
    parts.insert(0, seen);
    Some(parts.join("; "))
}

/// `1 stage`, `2 stages`.
#[must_use]
pub fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// `2e-6`, `0.023`: a chance that people compare with others.
fn chance(chance: f64) -> String {
    if chance == 0.0 || chance >= 1e-3 {
        format!("{}", (chance * 1e6).round() / 1e6)
    } else {
        format!("{chance:.1e}").replace(".0e", "e")
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Tells what was swept.
pub fn swept(out: &mut impl Write, swept: &Swept, engine: bool) {
    let mut lines: Vec<String> = swept.clusters.iter().map(|run| format!("removed the cluster of run {run}")).collect();
    lines.extend(swept.namespaces.iter().map(|name| format!("removed the namespace {name}")));
    let any = !lines.is_empty();
    lines.extend(swept.left.iter().map(ToString::to_string));
    if !engine {
        lines.push("there is no Docker engine on this machine, so that no cluster was looked for".to_owned());
    }
    if !any && engine && swept.failures.is_empty() {
        lines.push("nothing is left of a killed run".to_owned());
    }
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::events::{FailureLayer, Gap, Routing, TrafficPath};
    use crate::scenario::Origin;
    use crate::verdict::{Findings, Verdict};

    const SECOND: Duration = Duration::from_secs(1);
    const MILLISECOND: Duration = Duration::from_millis(1);

    fn judged(name: &str, ruling: Ruling, reason: &str, hints: &[&str]) -> Event {
        Event::Judged(Judged {
            subject: Subject::Population { name: name.to_owned(), path: "/error".to_owned() },
            claim: "v1 50 %, v2 50 %, status 503".to_owned(),
            verdict: Verdict::counted(ruling, 530, reason.to_owned()),
            hints: hints.iter().map(|hint| (*hint).to_owned()).collect(),
            place: Origin::new("scenario.yaml", 27, 9),
            errors: None,
            link: (ruling == Ruling::Fail).then_some(FailureLayer::Endpoints),
        })
    }

    fn stage(number: usize, name: &str) -> [Event; 4] {
        [
            Event::Stage { number, name: name.to_owned(), edits: Vec::new() },
            Event::RolledOut { took: 4 * SECOND },
            Event::Converged { took: Duration::from_millis(180), readings: 3, routing: Routing::default() },
            Event::Sampled {
                requests: 2064,
                rate: 2400.4,
                latency: Latency { median: 3 * MILLISECOND, p99: 9 * MILLISECOND, max: 20 * MILLISECOND },
                tallies: Vec::new(),
            },
        ]
    }

    fn printed(events: impl IntoIterator<Item = Event>, note: &str) -> String {
        let mut out = Vec::new();
        let mut terminal = Terminal::new(&mut out, false);
        for event in events {
            terminal.show(Timed { at: Timestamp::UNIX_EPOCH, since_start: 50 * SECOND, event });
        }
        terminal.close(note);
        drop(terminal);
        String::from_utf8(out).unwrap()
    }

    fn start() -> Vec<Event> {
        vec![
            Event::Started {
                run: "0123abcd".to_owned(),
                scenario: "canary".to_owned(),
                place: "a throwaway cluster".to_owned(),
                stages: vec!["first release".to_owned(), "header rule".to_owned()],
                path: TrafficPath::default(),
                files: Vec::new(),
                totals: Some(Totals { claims: 3, false_alarm: 1e-6, miss: 3e-3, worst_miss: 1e-3, requests: 1860.4 }),
            },
            Event::Swept("the cluster of run 4567cdef".to_owned()),
            Event::Ready { what: "cluster with Istio 1.31".to_owned(), after: 14 * SECOND },
        ]
    }

    #[rstest::rstest]
    #[case::nothing_to_tell(&[], None, None)]
    #[case::a_shift(&[], Some(50), Some("during the change: 0 of 16 requests failed; testers: last of the old after 0.05 s"))]
    #[case::failed(&[("503", 1), ("503 `no healthy upstream`", 2)], None, Some("during the change: 3 of 16 requests failed (1 × 503, 2 × 503 `no healthy upstream`); longest time without a right answer 1.25 s (testers)"))]
    fn what_was_seen_of_a_change(
        #[case] errors: &[(&str, u64)],
        #[case] last: Option<u64>,
        #[case] expected: Option<&str>,
    ) {
        let from = "testers".to_owned();
        let shift = Shift { from: from.clone(), last_old: last.map(Duration::from_millis), ..Shift::default() };
        let transition = Transition {
            requests: 16,
            errors: errors.iter().map(|(answer, count)| ((*answer).to_owned(), *count)).collect(),
            shifts: vec![shift],
            gap: Gap { from, began: SECOND, lasted: SECOND + SECOND / 4 },
            ..Transition::default()
        };
        assert_eq!(change(&transition).as_deref(), expected);
    }

    #[test]
    fn a_run_that_passes() {
        let mut events = start();
        events.extend(stage(1, "first release"));
        events.push(judged("everyone", Ruling::Pass, "all 688 from v1", &[]));
        events.push(Event::StageDone { passed: true, took: 6 * SECOND });
        events.push(Event::Removed { took: SECOND });
        insta::assert_snapshot!(printed(events, "all stages passed"));
    }

    fn calibration(counts: f64, connections: f64) -> Event {
        let calibration = Calibration {
            from: "testers".to_owned(),
            version: "v2".to_owned(),
            claimed: "50%".parse().unwrap(),
            samples: 40,
            requests: 400,
            sent: 22_345,
            share: 0.5012,
            findings: Findings {
                mean: 0.76,
                spread: counts,
                blocks: 0.21,
                block: 16,
                order: 0.7,
                excess_runs: -0.4,
                connections,
                refused: 0,
                refusable: 0,
            },
            power: Power {
                shift: Some(0.0269),
                movement: Some(0.0413),
                swing: Some(0.0612),
                repeats: Some(0.0538),
                repeats_of_eighth: Some(0.21),
            },
            accepted: 40,
            refused: 0,
            mean: 531.2,
            decided: 240 * MILLISECOND,
        };
        Event::Calibrated { calibration, took: 20 * SECOND }
    }

    #[rstest::rstest]
    #[case::independent(0.31, 0.42)]
    #[case::dependent(0.0, 1.2e-45)]
    fn a_calibration(#[case] counts: f64, #[case] connections: f64) {
        let started = Event::Started {
            run: "0123abcd".to_owned(),
            scenario: "canary".to_owned(),
            place: "a throwaway cluster".to_owned(),
            stages: vec![String::new(); 9],
            path: TrafficPath::default(),
            files: Vec::new(),
            totals: None,
        };
        let name =
            if counts > 0.0 { "a_calibration_of_independent_requests" } else { "a_calibration_of_dependent_requests" };
        insta::assert_snapshot!(name, printed([started, calibration(counts, connections)], "how it ended"));
    }

    #[test]
    fn a_run_that_fails_and_is_kept() {
        let mut events = start();
        events.extend(stage(1, "header rule"));
        events.push(judged("everyone", Ruling::Pass, "all 688 from v1", &[]));
        events.push(judged("testers", Ruling::Fail, "788 of 1573 requests were answered 503", &["subset v2 is empty"]));
        events.push(Event::StageDone { passed: false, took: 6 * SECOND });
        events.push(Event::Kept {
            look: vec!["export KUBECONFIG=kubeconfig".to_owned()],
            remove: "shiftcheck sweep --run 0123abcd".to_owned(),
        });
        insta::assert_snapshot!(printed(events, "stage 1 of 2 failed; 1 stage not walked"));
    }

    #[test]
    fn a_run_that_cannot_tell() {
        let mut events = start();
        events.extend(stage(1, "header rule"));
        let reason = "only 40 of at most 1711 requests were answered in time, too few for a verdict; so far v1 55.0 % (20.1 to 86.3)";
        events.push(judged("testers", Ruling::Inconclusive, reason, &[]));
        events.push(Event::StageDone { passed: false, took: 120 * SECOND });
        events.push(Event::Removed { took: SECOND });
        insta::assert_snapshot!(printed(events, "stage 1 of 2 failed; 1 stage not walked"));
    }

    #[test]
    fn a_run_whose_environment_failed() {
        let mut events = start();
        events.push(Event::Stage { number: 1, name: "first release".to_owned(), edits: Vec::new() });
        events.push(Event::Waiting("hello-server-v1: 1 of 2 ready, ErrImagePull in container hello".to_owned()));
        let message = "the rollout of hello-server-v1 did not come to be".to_owned();
        events.push(Event::Broke { layer: FailureLayer::Rollout, place: None, message });
        events.push(Event::Collected("shiftcheck-report/state".into()));
        events.push(Event::Removed { took: SECOND });
        insta::assert_snapshot!(printed(events, "not proven"));
    }

    #[test]
    fn a_run_that_is_called_off() {
        let mut events = start();
        events.extend(stage(1, "first release"));
        events.push(Event::Removing);
        events.push(Event::Removed { took: SECOND });
        insta::assert_snapshot!(printed(events, "called off"));
    }
}
