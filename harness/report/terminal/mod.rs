use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::marks::Marks;
use super::model::{Outcome, Stage, Traffic};
use super::words::{chance, millis, plural, seconds, short};
use super::wrap::Wrapped;
use super::{LOSS, calibration};
use crate::events::{ClientConvergence, Event, Gap, Latency, Reach, Shift, Timed, Transition, TrialledMutant};
use crate::scenario::ErrorRates;
use crate::verdict::{Totals, excluded_share};
use crate::verify::MutantStatus;

/// The width of the final table without the names of stages.
const COLUMNS: usize = 52;

/// The live output of a run and the final table.
///
/// Progress goes to stderr as one changing line, only if stderr is a terminal. All other text goes to the writer, so that a log file and a
/// pipe get the same text.
#[derive(Debug)]
pub struct Terminal<W> {
    out: Wrapped<W>,
    marks: Marks,
    bar: ProgressBar,
    stages: usize,
    rows: Vec<Stage>,
    stage: Option<Stage>,
    requests: u64,
    /// The time of the latest event since the start of the stream.
    latest: Duration,
    /// Whether claims that hold are hidden.
    brief: bool,
    /// Whether everything is hidden except failures and the result.
    quiet: bool,
}

impl<W: Write> Terminal<W> {
    /// Writes to `out`.
    pub fn new(out: Wrapped<W>, marks: Marks) -> Self {
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
            marks,
            bar,
            stages: 0,
            rows: Vec::new(),
            stage: None,
            requests: 0,
            latest: Duration::ZERO,
            brief: false,
            quiet: false,
        }
    }

    /// Hides the progress line.
    pub fn hide_progress(&self) {
        self.bar.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Hides claims that hold.
    #[must_use]
    pub const fn brief(mut self) -> Self {
        self.brief = true;
        self
    }

    /// Hides everything except failures and the result.
    #[must_use]
    pub const fn quiet(mut self, quiet: bool) -> Self {
        self.quiet = quiet;
        self.brief |= quiet;
        self
    }

    /// Shows an event.
    pub fn show(&mut self, Timed { since_start, event, .. }: Timed) {
        self.latest = since_start;
        if let Some(message) = self.progress(&event) {
            self.bar.set_message(message);
        }
        match event {
            Event::Started { run, scenario, place, stages, claims, totals, sensitive, path, .. } => {
                self.out.hide(sensitive.clone());
                self.stages = stages.len();
                let stages = plural(self.stages, "stage");
                let claims = totals.map(|_| format!(", {}", plural(claims, "claim"))).unwrap_or_default();
                self.progressed(&format!("{scenario}: {stages}{claims} on {place}, run {run}"));
                if let Some(totals) = totals.filter(|_| !self.quiet) {
                    self.totals(&totals);
                }
                if let Some(connections) = &path.connections {
                    self.line(&format!("  {connections}"));
                }
            }
            Event::Swept(what) => self.progressed(&format!("removed {what}, which was killed")),
            Event::NotSwept(what) => self.line(&what),
            Event::Reaches(reach) => self.reaches(&reach),
            Event::Ready(what) => self.progressed(&format!("  {what} ready after {}", seconds(since_start))),
            Event::Addon { addon, access } if !self.quiet => self.command(&format!("{addon}: {}", access.words())),
            Event::Stage { number, name, .. } => self.stage = Some(Stage { number, name, ..Stage::default() }),
            Event::Collected(folder) => {
                self.progressed(&format!("  cluster state saved to {}", folder.display()));
            }
            Event::StageDone { .. } => {
                if let Some(mut stage) = self.stage.take() {
                    stage.take(&event);
                    let passed = matches!(stage.result, Some(Outcome::Passed | Outcome::NotJudged));
                    if !self.quiet || !passed {
                        self.stage_done(&stage);
                    }
                    self.rows.push(stage);
                }
            }
            Event::Calibrated { calibration, took } => {
                self.requests += calibration.sent;
                for line in calibration::lines(&calibration, took, self.marks) {
                    self.line(&line);
                }
            }
            Event::Trialled(trialled) => self.trialled(&trialled),
            Event::Paused(number) => {
                self.line(&format!("paused after stage {number}: press Enter, or continue on the live page"));
            }
            Event::Removed(took) => self.progressed(&format!("  clean-up finished in {}", seconds(took))),
            Event::Kept { look, remove } => self.kept(&look, &remove),
            other => {
                if let Event::Sampled { requests, .. } = other {
                    self.requests += requests;
                }
                if let Some(stage) = &mut self.stage {
                    stage.take(&other);
                }
            }
        }
    }

    /// The text of the progress line at an event.
    fn progress(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::SettingUp(what) => what.clone(),
            Event::Waiting(state) => format!("waiting: {state}"),
            Event::Stage { number, name, .. } => format!("stage {number} of {}: {name}", self.stages),
            Event::RolledOut(_) => "waiting for the client's sidecar".to_owned(),
            Event::Sampling { done, decided, claims, .. } => {
                format!("{done} requests, {decided} of {} decided", plural(*claims, "claim"))
            }
            Event::Calibrating { sample, samples, .. } => format!("sample {sample} of {samples}"),
            Event::Removing => "cleaning up".to_owned(),
            _ => return None,
        })
    }

    fn reaches(&mut self, reach: &[Reach]) {
        self.line("effects outside the namespace of the run, allowed by --allow-reach:");
        for reach in reach {
            self.line(&format!("  {reach}"));
        }
    }

    fn kept(&mut self, look: &[String], remove: &str) {
        self.line("kept as requested. To inspect it:");
        for command in look {
            self.command(command);
        }
        self.line("To remove it:");
        self.command(remove);
    }

    /// The error probabilities of all verdicts.
    fn totals(&mut self, totals: &Totals) {
        self.line(&format!(
            "  false alarm (type I error) below {} in total; missed fault (type II error) below {} per claim, {} in total",
            chance(totals.false_alarm),
            chance(totals.worst_miss),
            chance(totals.miss),
        ));
        self.line(&format!(
            "  sampling errors only: if one request in a million is lost, a correct rollout fails with probability {:.1} % (about {:.0} requests)",
            totals.refused_by_losses(LOSS) * 100.0,
            totals.requests,
        ));
    }

    fn trialled(&mut self, trialled: &TrialledMutant) {
        let mark = self.marks.verdict(trialled.agrees());
        let TrialledMutant { operator, what, stage, failed, .. } = trialled;
        let seen = if *failed { "a claim fails" } else { "all claims hold" };
        let model = match &trialled.status {
            MutantStatus::Killed(kill) => format!("killed by {}", kill.claim),
            MutantStatus::Equivalent => "equivalent".to_owned(),
            MutantStatus::Survived(_) => "survived".to_owned(),
            MutantStatus::Undecided => "undecided".to_owned(),
        };
        self.line(&format!("{mark} {operator}: {what} — at stage {stage} {seen}; the model: {model}"));
    }

    fn stage_done(&mut self, stage: &Stage) {
        let mark = match stage.result {
            Some(Outcome::Passed) => self.marks.good("ok"),
            Some(Outcome::Inconclusive) => self.marks.unsure("undecided"),
            Some(Outcome::NotJudged) => "--".to_owned(),
            _ => self.marks.bad("FAIL"),
        };
        let mut parts = Vec::from_iter(stage.rolled_out.map(|took| format!("rolled out in {}", seconds(took))));
        parts.extend(stage.converged.map(|took| format!("converged in {}{}", millis(took), of_clients(stage))));
        if stage.claims.is_empty() {
            parts.push("not judged".to_owned());
        }
        let (number, stages, took) = (stage.number, self.stages, seconds(stage.took));
        self.line(&format!("{mark} {number}/{stages} {} ({took}: {})", stage.name, parts.join(", ")));
        for what in stage.routing.iter().flat_map(|routing| &routing.not_compared) {
            self.line(&format!(
                "     the sidecar's routes differ from the model's where they were not compared: {what}"
            ));
        }
        if let Some(Traffic { requests, rate, latency: Latency { median, p99, .. }, .. }) = stage.traffic {
            let (median, p99) = (millis(median), millis(p99));
            self.line(&format!("     {requests} requests at {rate:.0}/s, median latency {median}, p99 {p99}"));
        }
        if let Some(text) = stage.transition.as_ref().and_then(change) {
            self.line(&format!("     {text}"));
        }
        if let Some(state) = &stage.controller {
            self.line(&format!("     {state}"));
        }
        let times = stage.transition.as_ref().and_then(|transition| transition.step_times);
        if let Some(times) = times.map(|times| times.to_string()).filter(|times| !times.is_empty()) {
            self.line(&format!("     {times}"));
        }
        let brief = self.brief;
        for claim in stage.claims.iter().filter(|claim| !brief || claim.result != Outcome::Passed) {
            let mark = match claim.result {
                Outcome::Passed => "  ".to_owned(),
                Outcome::Inconclusive => self.marks.unsure("? "),
                _ => self.marks.bad("✗ "),
            };
            self.line(&format!("   {mark}{}: {} — {}", claim.subject, claim.claim, claim.reason));
            for line in claim.explanation() {
                self.line(&format!("       {line}"));
            }
        }
    }

    /// Clears the progress line.
    pub fn abandon(&self) {
        self.bar.finish_and_clear();
    }

    /// Writes the final table and the last line; `note` is the result of the run.
    pub fn close(&mut self, note: &str) {
        self.bar.finish_and_clear();
        if self.stages == 0 {
            // the scenario was rejected before the run started
            return;
        }
        // the stages above have the names that do not fit the table
        let longest = self.out.width().map_or(usize::MAX, |columns| columns.saturating_sub(COLUMNS).max(12));
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).min(longest);
        if !self.rows.is_empty() && !self.quiet {
            self.line("");
            let rows = std::mem::take(&mut self.rows);
            let undecided = rows.iter().any(|row| row.result == Some(Outcome::Inconclusive));
            let room = if undecided { 9 } else { 4 };
            for row in rows {
                let result = match row.result {
                    Some(Outcome::Passed) => self.marks.good(&format!("{:<room$}", "pass")),
                    Some(Outcome::Inconclusive) => self.marks.unsure("undecided"),
                    Some(Outcome::NotJudged) => format!("{:<room$}", "--"),
                    _ => self.marks.bad(&format!("{:<room$}", "FAIL")),
                };
                let held = row.claims.iter().filter(|claim| claim.result == Outcome::Passed).count();
                let claims = match row.claims.len() {
                    0 => "not judged".to_owned(),
                    all => format!("{held} of {}", plural(all, "claim")),
                };
                self.line(&format!(
                    " {:>2}  {:<width$}  {result}  {claims:<14} {:>6} requests  {:>7}",
                    row.number,
                    short(&row.name, longest),
                    row.traffic.map_or(0, |traffic| traffic.requests),
                    seconds(row.took),
                ));
            }
            self.line("");
        }
        let requests = plural(self.requests, "request");
        self.line(&format!("{note} ({requests}, {})", seconds(self.latest)));
    }

    /// Writes a line.
    pub fn note(&mut self, text: &str) {
        self.line(text);
    }

    /// Writes an annotation for the CI system.
    pub fn annotation(&mut self, annotation: &str) {
        let out = &mut self.out;
        self.bar.suspend(|| {
            let _ = out.annotation(annotation);
        });
    }

    /// Writes a line of a document for programs.
    pub fn document(&mut self, line: &str) {
        self.command(line);
    }

    /// Writes a command, which is copied and therefore not wrapped.
    fn command(&mut self, command: &str) {
        let out = &mut self.out;
        self.bar.suspend(|| {
            let _ = out.verbatim(&format!("  {command}"));
        });
    }

    /// Writes a line about progress.
    fn progressed(&mut self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    fn line(&mut self, text: &str) {
        let out = &mut self.out;
        // a closed pipe ends the output but not the run, which must clean up
        self.bar.suspend(|| {
            let _ = writeln!(out, "{text}");
            let _ = out.flush();
        });
    }
}

/// The traffic during a change in a sentence; none if there were no failures, no shift and no GOAWAY.
fn change(transition: &Transition) -> Option<String> {
    let mut parts = Vec::new();
    for Shift { from, new, first_new, last_old } in &transition.shifts {
        let after = |at: Duration| format!("after {:.2} s", at.as_secs_f64());
        let first = first_new.map(|at| format!("first {new} {}", after(at)));
        let last = last_old.map(|at| format!("last old answer {}", after(at)));
        let seen: Vec<String> = first.into_iter().chain(last).collect();
        if !seen.is_empty() {
            parts.push(format!("{from}: {}", seen.join(", ")));
        }
    }
    parts.extend(transition.goaways_in_words());
    let failed = transition.failed();
    if parts.is_empty() && failed == 0 {
        return None;
    }
    let what = transition.errors.iter().map(|(answer, count)| format!("{count} × {answer}"));
    let what = what.collect::<Vec<_>>().join(", ");
    let mut seen = format!("during the change: {failed} of {} requests failed", transition.requests);
    if transition.bounds.is_empty() && failed == 0 {
        // a claim about errors states its own bound
        let excluded = excluded_share(transition.requests, 0, ErrorRates::default().miss) * 100.0;
        seen = format!("{seen}, which excludes an error share above {excluded:.2} % with 99.9 % confidence");
    }
    if failed > 0 {
        seen = format!("{seen} ({what})");
        if let Some(Gap { from, lasted, .. }) = &transition.gap {
            seen = format!("{seen}; longest time without a correct answer {:.2} s ({from})", lasted.as_secs_f64());
        }
    }
    parts.insert(0, seen);
    Some(parts.join("; "))
}

/// When the first and the last of several clients had the routes.
fn of_clients(stage: &Stage) -> String {
    let clients = stage.routing.as_ref().map_or(&[][..], |routing| &routing.clients);
    let [first, .., last] = clients else { return String::new() };
    let of = |own: &ClientConvergence| format!("{}, after {}", own.pod, millis(own.took));
    format!(", the first of {} clients, {}, the last, {}", clients.len(), of(first), of(last))
}

#[cfg(test)]
mod tests;
