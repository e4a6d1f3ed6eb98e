use std::time::Duration;

use jiff::Timestamp;
use similar::TextDiff;

use super::LOSS;
use super::model::{
    Answers, Claim, Edit, Errors, Failure, GrossFault, Outcome, Path, Ready, Report, SCHEMA_VERSION, ScenarioFiles,
    Share, Stage, Totals, Traffic,
};
use super::versions::Compared;
use super::view::Recording;
use crate::events::{Event, Judged, Subject, Timed};
use crate::plan;
use crate::scenario::{Manifest, Redactor, Sensitive};
use crate::verdict::{self, Line, Stop};

/// The number of unchanged lines around a change.
const CONTEXT: usize = 3;

/// Turns the events of a run into its report.
#[derive(Debug)]
pub struct Recorder {
    report: Report,
    sensitive: Sensitive,
    recording: Recording,
    /// The times of the first and the latest event since the start of the stream.
    span: Option<(Duration, Duration)>,
}

impl Recorder {
    /// Records a run that starts with its first event, or now if there is none. `reproduce` is the command that repeats the run.
    pub fn new(reproduce: String) -> Self {
        let report = Report {
            schema_version: SCHEMA_VERSION,
            started: format!("{:.0}", Timestamp::now()),
            note: "interrupted".to_owned(),
            reproduce,
            ..Report::default()
        };
        Self { report, sensitive: Sensitive::default(), recording: Recording::default(), span: None }
    }

    /// Takes an event.
    pub fn record(&mut self, event: &Timed) {
        self.report_of(event);
        self.recording.take(event, &self.report);
    }

    /// Adds an event to the report.
    fn report_of(&mut self, Timed { at, since_start, event }: &Timed) {
        let report = &mut self.report;
        let (first, latest) = self.span.get_or_insert_with(|| {
            report.started = format!("{at:.0}");
            (*since_start, *since_start)
        });
        *latest = *since_start;
        let now = since_start.saturating_sub(*first);
        match event {
            Event::Started { sensitive, .. } => {
                self.sensitive.clone_from(sensitive);
                started(report, event);
            }
            Event::Environment(known) => {
                let environment = &mut report.environment;
                environment.kubernetes = known.kubernetes.clone().or(environment.kubernetes.take());
                environment.istio = known.istio.clone().or(environment.istio.take());
                environment.envoy = known.envoy.clone().or(environment.envoy.take());
                environment.nodes = known.nodes.or(environment.nodes);
                environment.images.extend(known.images.clone());
            }
            Event::Ready(what) => report.setup.push(Ready { what: what.clone(), after: now }),
            Event::Stage { number, name, edits } => report.stages.push(Stage {
                number: *number,
                name: name.clone(),
                began: now,
                edits: edits.iter().map(edit).collect(),
                ..Stage::default()
            }),
            Event::Collected(folder) => report.state = Some(folder.display().to_string()),
            Event::Broke { layer, place, message } => {
                report.failure = Some(Failure {
                    link: layer.to_string(),
                    message: message.clone(),
                    place: place.clone(),
                    hint: None,
                });
            }
            other => {
                if let Some(stage) = report.stages.last_mut() {
                    stage.take(other);
                }
            }
        }
    }

    /// The report so far.
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The report of a run with this result.
    pub fn close(mut self, result: Outcome, note: &str, failure: Option<Failure>) -> Report {
        self.report.took = self.span.map_or(Duration::ZERO, |(first, latest)| latest.saturating_sub(first));
        self.report.result = result;
        note.clone_into(&mut self.report.note);
        if let Some(failure) = failure {
            let known = self.report.failure.take();
            self.report.failure = Some(match known {
                Some(known) => Failure { link: known.link, place: known.place.or(failure.place), ..failure },
                None => failure,
            });
        }
        if let Some(stage) = self.report.stages.last_mut().filter(|stage| stage.result.is_none()) {
            stage.took = self.report.took.saturating_sub(stage.began);
        }
        let recorded = self.recording.finish(&self.report, &self.sensitive);
        if self.sensitive.is_empty() {
            return Report { recorded, ..self.report };
        }
        let report = serde_json::to_value(&self.report).map(|report| self.sensitive.hidden_in_value(report));
        let report: Report = report
            .and_then(serde_json::from_value)
            .unwrap_or_else(|error| unreachable!("a report is plain data: {error}"));
        Report { recorded, ..report }
    }
}

/// Records the start of a run.
fn started(report: &mut Report, event: &Event) {
    let Event::Started { run, scenario, place, stages, claims, totals, files, path, sensitive: _ } = event else {
        return;
    };
    report.run.clone_from(run);
    report.place.clone_from(place);
    report.scenario = ScenarioFiles {
        name: scenario.clone(),
        namespace: path.namespace.clone(),
        client: path.client.clone(),
        service: path.service.clone(),
        stages: stages.clone(),
        files: files.clone(),
    };
    report.errors = totals.map(|totals| Totals {
        claims: *claims,
        false_alarm: totals.false_alarm,
        miss: totals.miss,
        worst_miss: totals.worst_miss,
        requests: totals.requests.round(),
        refused_by_losses: totals.refused_by_losses(LOSS),
    });
}

impl Stage {
    /// Takes an event of the stage.
    pub(super) fn take(&mut self, event: &Event) {
        match event {
            Event::RolledOut(took) => self.rolled_out = Some(*took),
            Event::Controlled(state) => self.controller = Some(state.clone()),
            Event::Converged { took, routing, .. } => {
                self.converged = Some(*took);
                self.routing = Some(routing.clone());
            }
            Event::Deployed(workloads) => self.workloads.clone_from(workloads),
            Event::Changed(transition) => self.transition = Some(transition.clone()),
            Event::Sampled { requests, rate, latency, tallies } => {
                self.traffic = Some(Traffic {
                    requests: *requests,
                    rate: *rate,
                    latency: *latency,
                    answers: tallies.iter().map(Answers::from).collect(),
                });
            }
            Event::Judged(judged) => self.claims.push(claim(judged)),
            Event::StageDone { took, .. } => {
                self.took = *took;
                let any = |result| self.claims.iter().any(|claim| claim.result == result);
                self.result = Some(if self.claims.is_empty() {
                    Outcome::NotJudged
                } else if any(Outcome::Failed) {
                    Outcome::Failed
                } else if any(Outcome::Inconclusive) {
                    Outcome::Inconclusive
                } else {
                    Outcome::Passed
                });
            }
            _ => {}
        }
    }
}

fn claim(judged: &Judged) -> Claim {
    let verdict = &judged.verdict;
    let (from, path) = match &judged.subject {
        Subject::Population { name, path } => (Some(name.clone()), Some(path.clone())),
        _ => (None, None),
    };
    Claim {
        subject: judged.subject.to_string(),
        from,
        path,
        claim: judged.claim.clone(),
        result: verdict.ruling.into(),
        reason: verdict.reason.clone(),
        link: judged.layer.map(|layer| layer.to_string()),
        hints: judged.hints.clone(),
        place: Some(judged.place.clone()),
        requests: verdict.requests,
        allowed: verdict.allowed,
        stop: match verdict.stop {
            Stop::Excluded => "excluded",
            Stop::Boundary => "boundary",
            Stop::Cap => "cap",
            Stop::Clean => "clean",
            Stop::Time => "time",
            Stop::Counted => "counted",
        }
        .to_owned(),
        errors: judged.errors.map(|errors| Errors {
            false_alarm: errors.false_alarm.value(),
            miss: errors.miss.value(),
            deviation: errors.deviation,
            leak: errors.leak,
        }),
        chance: verdict.chance,
        shares: verdict.shares.iter().map(Share::from).collect(),
        paths: verdict.paths.iter().map(decision_path).collect(),
    }
}

fn decision_path(path: &verdict::DecisionPath) -> Path {
    let line = |line: Line| [line.start, line.slope];
    let boundaries = path.boundaries;
    let gross_fault = |(requests, below, above): &(u64, f64, f64)| {
        let (requests, below, above) = (*requests, *below, *above);
        GrossFault { requests, below, above }
    };
    Path {
        part: path.part.clone(),
        of: path.of.clone(),
        claimed: path.claimed,
        cap: path.cap,
        fails_above: line(boundaries.fails_above),
        passes_below: line(boundaries.passes_below),
        passes_above: line(boundaries.passes_above),
        fails_below: line(boundaries.fails_below),
        gross_faults: path.gross_faults.iter().map(gross_fault).collect(),
        points: path.points.iter().map(|(requests, hits)| [*requests, *hits]).collect(),
        compared: path.compared.as_ref().map(Compared::from),
    }
}

fn edit(edit: &plan::Edit) -> Edit {
    let mut redactor = Redactor::default();
    let mut text = |manifest: &Manifest| {
        let object = serde_json::to_value(&manifest.object).map(|object| redactor.redacted(object));
        object.ok().and_then(|object| serde_yaml::to_string(&object).ok()).unwrap_or_default()
    };
    let (before, after) = (edit.before.as_ref().map(&mut text), edit.after.as_ref().map(&mut text));
    let (before, after) = (before.as_deref(), after.as_deref());
    let what = match (before, after) {
        (None, _) => "created",
        (_, None) => "deleted",
        (before, after) if before == after => "unchanged",
        _ => "changed",
    };
    let diff = match what {
        "changed" => difference(before.unwrap_or_default(), after.unwrap_or_default()),
        "created" => after.unwrap_or_default().lines().map(|line| format!("+{line}")).collect(),
        // the edit that created the object shows the content
        _ => Vec::new(),
    };
    Edit {
        object: edit.object.clone(),
        place: edit.origin.as_ref().map(ToString::to_string),
        what: what.to_owned(),
        diff,
    }
}

fn difference(before: &str, after: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(before, after).unified_diff().context_radius(CONTEXT).to_string();
    // a header separates places; the first one separates nothing
    let lines = diff.lines().skip(1).map(|line| if line.starts_with("@@") { " …" } else { line });
    lines.map(str::to_owned).collect()
}
