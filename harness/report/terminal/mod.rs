mod calibration;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::LOSS;
use super::marks::Marks;
use super::words::{chance, millis, plural, seconds};
use crate::events::{Event, Judged, Latency, Reach, Shift, Timed, Transition, TrialledMutant};
use crate::verdict::{Ruling, Totals};
use crate::verify::MutantStatus;

/// The live output of a run and the final table.
///
/// Progress goes to stderr as one changing line, only if stderr is a terminal. All other text goes to the writer, so that a log file and a
/// pipe get the same text.
#[derive(Debug)]
pub struct Terminal<W> {
    out: W,
    marks: Marks,
    bar: ProgressBar,
    stages: usize,
    rows: Vec<StageSummary>,
    stage: Option<StageSummary>,
    requests: u64,
    /// The time of the latest event since the start of the stream.
    latest: Duration,
    /// Whether claims that hold are hidden.
    brief: bool,
}

/// A stage in the final table.
#[derive(Debug, Clone, Default)]
struct StageSummary {
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

impl StageSummary {
    fn ruling(&self) -> Ruling {
        self.judged.iter().map(|judged| judged.verdict.ruling).max().unwrap_or(Ruling::Pass)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::RolledOut { took } => self.rolled_out = took,
            Event::Converged { took, .. } => self.converged = Some(took),
            Event::Changed(transition) => self.changed = Some(transition),
            Event::Sampled { requests, rate, latency, .. } => {
                self.requests += requests;
                self.rate = rate;
                self.latency = latency;
            }
            Event::Judged(judged) => {
                self.claims += 1;
                self.failed += usize::from(judged.verdict.ruling != Ruling::Pass);
                self.judged.push(judged);
            }
            // only reports show other events
            _ => {}
        }
    }
}

impl<W: Write> Terminal<W> {
    /// Writes to `out`, with or without colours.
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
            marks: Marks { colour },
            bar,
            stages: 0,
            rows: Vec::new(),
            stage: None,
            requests: 0,
            latest: Duration::ZERO,
            brief: false,
        }
    }

    /// Hides claims that hold.
    #[must_use]
    pub const fn brief(mut self) -> Self {
        self.brief = true;
        self
    }

    /// Shows an event.
    pub fn show(&mut self, Timed { since_start, event, .. }: Timed) {
        self.latest = since_start;
        if let Some(message) = self.progress(&event) {
            self.bar.set_message(message);
        }
        match event {
            Event::Started { run, scenario, place, stages, totals, .. } => {
                self.stages = stages.len();
                self.line(&format!("{scenario}: {} on {place}, run {run}", plural(self.stages, "stage")));
                if let Some(totals) = totals {
                    self.totals(&totals);
                }
            }
            Event::Swept(what) => self.line(&format!("removed {what}, which was killed")),
            Event::NotSwept(what) => self.line(&what),
            Event::Reaches(reach) => self.reaches(&reach),
            Event::Ready(what) => self.line(&format!("  {what} ready after {}", seconds(since_start))),
            Event::Stage { number, name, .. } => {
                self.stage = Some(StageSummary { number, name, ..StageSummary::default() });
            }
            Event::Collected(folder) => {
                self.line(&format!("  cluster state saved to {}", folder.display()));
            }
            Event::StageDone { took, .. } => {
                if let Some(mut stage) = self.stage.take() {
                    stage.took = took;
                    self.stage_done(&stage);
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
            Event::Removed { took } => self.line(&format!("  clean-up finished in {}", seconds(took))),
            Event::Kept { look, remove } => self.kept(&look, &remove),
            other => {
                if let Event::Sampled { requests, .. } = other {
                    self.requests += requests;
                }
                if let Some(stage) = &mut self.stage {
                    stage.take(other);
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
            Event::RolledOut { .. } => "waiting for the client's sidecar".to_owned(),
            Event::Sampling { done, decided, claims } => {
                format!("{done} requests, {decided} of {} decided", plural(*claims, "claim"))
            }
            Event::Calibrating { sample, samples } => format!("sample {sample} of {samples}"),
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
            self.line(&format!("  {command}"));
        }
        self.line(&format!("To remove it:\n  {remove}"));
    }

    /// The error probabilities of all verdicts.
    fn totals(&mut self, totals: &Totals) {
        self.line(&format!(
            "  {}; false alarm (type I error) below {} in total; missed fault (type II error) below {} per claim, {} in total",
            plural(totals.claims, "claim"),
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

    fn stage_done(&mut self, stage: &StageSummary) {
        let mark = match stage.ruling() {
            Ruling::Pass => self.marks.good("ok"),
            Ruling::Inconclusive => self.marks.unsure("undecided"),
            Ruling::Fail => self.marks.bad("FAIL"),
        };
        let mut parts = vec![format!("rolled out in {}", seconds(stage.rolled_out))];
        parts.extend(stage.converged.map(|took| format!("converged in {} ms", took.as_millis())));
        if stage.requests > 0 {
            let Latency { median, p99, .. } = stage.latency;
            let (requests, rate, median, p99) = (stage.requests, stage.rate, millis(median), millis(p99));
            parts.push(format!("{requests} requests at {rate:.0}/s, median latency {median}, p99 {p99}"));
        }
        let (number, stages, took) = (stage.number, self.stages, seconds(stage.took));
        self.line(&format!("{mark} {number}/{stages} {} ({took}: {})", stage.name, parts.join(", ")));
        if let Some(text) = stage.changed.as_ref().and_then(change) {
            self.line(&format!("     {text}"));
        }
        let brief = self.brief;
        for judged in stage.judged.iter().filter(|judged| !brief || judged.verdict.ruling != Ruling::Pass) {
            let mark = match judged.verdict.ruling {
                Ruling::Pass => "  ".to_owned(),
                Ruling::Fail => self.marks.bad("✗ "),
                Ruling::Inconclusive => self.marks.unsure("? "),
            };
            self.line(&format!("   {mark}{}: {} — {}", judged.subject, judged.claim, judged.verdict.reason));
            if judged.verdict.ruling != Ruling::Pass {
                if let Some(layer) = judged.layer {
                    self.line(&format!("       {layer}"));
                }
                for hint in &judged.hints {
                    self.line(&format!("       because {hint}"));
                }
                self.line(&format!("       claimed in {}", judged.place));
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
        let width = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        if !self.rows.is_empty() {
            self.line("");
            let rows = std::mem::take(&mut self.rows);
            let longest = if rows.iter().any(|row| row.ruling() == Ruling::Inconclusive) { 9 } else { 4 };
            for row in rows {
                let result = match row.ruling() {
                    Ruling::Pass => self.marks.good(&format!("{:<longest$}", "pass")),
                    Ruling::Inconclusive => self.marks.unsure("undecided"),
                    Ruling::Fail => self.marks.bad(&format!("{:<longest$}", "FAIL")),
                };
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

    /// Writes a line.
    pub fn note(&mut self, text: &str) {
        self.line(text);
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

/// The traffic during a change in a sentence; none if there were no failures and no shift.
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
    let failed = transition.failed();
    if parts.is_empty() && failed == 0 {
        return None;
    }
    let what = transition.errors.iter().map(|(answer, count)| format!("{count} × {answer}"));
    let what = what.collect::<Vec<_>>().join(", ");
    let mut seen = format!("during the change: {failed} of {} requests failed", transition.requests);
    if failed > 0 {
        let (from, lasted) = (&transition.gap.from, transition.gap.lasted.as_secs_f64());
        seen = format!("{seen} ({what}); longest time without a correct answer {lasted:.2} s ({from})");
    }
    parts.insert(0, seen);
    Some(parts.join("; "))
}

#[cfg(test)]
mod tests;
