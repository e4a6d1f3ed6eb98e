use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use similar::{ChangeTag, TextDiff};

use super::LOSS;
use super::model::{
    Answers, Bound, Claim, Edit, Environment, Errors, Failure, Gap, GrossFault, Moment, Outcome, Path as DecisionPath,
    Ready, Report, Routing, SCHEMA_VERSION, ScenarioFiles, Share, Shift, SourceFile, Stage, Tool, Totals, Traffic,
    Transition, Workload,
};
use crate::events::{self, Event, Judged, STEP, Subject, Tallied, Timed};
use crate::plan;
use crate::scenario::Manifest;
use crate::verdict::{self, Answer, Line, Ruling, Stop};

/// The number of unchanged lines around a change.
const CONTEXT: usize = 3;

/// Turns the events of a run into its report.
#[derive(Debug)]
pub struct Recorder {
    report: Report,
    /// The times of the first and the latest event since the start of the stream.
    span: Option<(Duration, Duration)>,
}

impl Recorder {
    /// Records a run that starts with its first event, or now if there is none. `reproduce` is the command that repeats the run.
    #[must_use]
    pub fn new(reproduce: String) -> Self {
        let report = Report {
            schema_version: SCHEMA_VERSION,
            tool: Tool { name: env!("CARGO_PKG_NAME").to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
            run: String::new(),
            started: format!("{:.0}", Timestamp::now()),
            took: 0.0,
            result: Outcome::Interrupted,
            note: "interrupted".to_owned(),
            failure: None,
            reproduce,
            scenario: ScenarioFiles::default(),
            place: String::new(),
            environment: Environment::default(),
            errors: None,
            setup: Vec::new(),
            stages: Vec::new(),
            state: None,
        };
        Self { report, span: None }
    }

    /// Takes an event.
    pub fn record(&mut self, Timed { at, since_start, event }: &Timed) {
        let report = &mut self.report;
        let (first, latest) = self.span.get_or_insert_with(|| {
            report.started = format!("{at:.0}");
            (*since_start, *since_start)
        });
        *latest = *since_start;
        let now = seconds(since_start.saturating_sub(*first));
        match event {
            Event::Started { .. } => started(report, event),
            Event::Environment(known) => environment(&mut report.environment, known),
            Event::Ready(what) => report.setup.push(Ready { what: what.clone(), after: now }),
            Event::Stage { number, name, edits } => report.stages.push(Stage {
                number: *number,
                name: name.clone(),
                began: now,
                edits: edits.iter().map(edit).collect(),
                ..Stage::default()
            }),
            Event::Collected(folder) => report.state = Some(shown(folder)),
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
                    within(stage, other);
                }
            }
        }
    }

    /// The report of a run with this result.
    #[must_use]
    pub fn close(mut self, result: Outcome, note: &str, failure: Option<Failure>) -> Report {
        self.report.took = self.span.map_or(0.0, |(first, latest)| seconds(latest.saturating_sub(first)));
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
            stage.took = self.report.took - stage.began;
        }
        self.report
    }
}

/// Records the start of a run.
fn started(report: &mut Report, event: &Event) {
    let Event::Started { run, scenario, place, stages, totals, files, path } = event else { return };
    report.run.clone_from(run);
    report.place.clone_from(place);
    report.scenario = ScenarioFiles {
        name: scenario.clone(),
        namespace: path.namespace.clone(),
        client: path.client.clone(),
        service: path.service.clone(),
        stages: stages.clone(),
        files: files.iter().map(|file| SourceFile { path: shown(&file.path), sha256: file.sha256.clone() }).collect(),
    };
    report.errors = totals.map(|totals| Totals {
        claims: totals.claims,
        false_alarm: totals.false_alarm,
        miss: totals.miss,
        worst_miss: totals.worst_miss,
        requests: totals.requests.round(),
        refused_by_losses: totals.refused_by_losses(LOSS),
    });
}

/// Adds known versions and images.
fn environment(environment: &mut Environment, known: &events::Environment) {
    for (version, known) in [
        (&mut environment.kubernetes, &known.kubernetes),
        (&mut environment.istio, &known.istio),
        (&mut environment.envoy, &known.envoy),
    ] {
        if known.is_some() {
            version.clone_from(known);
        }
    }
    environment.images.extend(known.images.clone());
}

fn within(stage: &mut Stage, event: &Event) {
    match event {
        Event::RolledOut { took } => stage.rolled_out = Some(seconds(*took)),
        Event::Converged { took, routing, .. } => {
            stage.converged = Some(seconds(*took));
            stage.routing = Some(Routing {
                lines: routing.lines.clone(),
                rules: routing.rules.clone(),
                traffic_shifting: routing.shifting,
                fault_injection: routing.fault,
            });
        }
        Event::Deployed(workloads) => {
            stage.workloads = workloads
                .iter()
                .map(|workload| Workload {
                    name: workload.name.clone(),
                    version: workload.version.clone(),
                    image: workload.image.clone(),
                    pods: workload.pods.clone(),
                    ready: workload.ready,
                    sidecar: workload.sidecar,
                })
                .collect();
        }
        Event::Changed(transition) => stage.transition = Some(changed(transition)),
        Event::Sampled { requests, rate, latency, tallies } => {
            stage.traffic = Some(Traffic {
                requests: *requests,
                rate: *rate,
                median: seconds(latency.median),
                p99: seconds(latency.p99),
                max: seconds(latency.max),
                answers: tallies.iter().map(answers).collect(),
            });
        }
        Event::Judged(judged) => stage.claims.push(claim(judged)),
        Event::StageDone { took, .. } => {
            stage.took = seconds(*took);
            let any = |result| stage.claims.iter().any(|claim| claim.result == result);
            stage.result = Some(if any(Outcome::Failed) {
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
        result: match verdict.ruling {
            Ruling::Pass => Outcome::Passed,
            Ruling::Fail => Outcome::Failed,
            Ruling::Inconclusive => Outcome::Inconclusive,
        },
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
        shares: verdict
            .shares
            .iter()
            .map(|share| Share {
                part: share.part.clone(),
                claimed: share.claimed.fraction(),
                count: share.count,
                interval: [share.interval.0, share.interval.1],
            })
            .collect(),
        paths: verdict.paths.iter().map(decision_path).collect(),
    }
}

fn decision_path(path: &verdict::DecisionPath) -> DecisionPath {
    let line = |line: Line| [line.start, line.slope];
    let boundaries = path.design.boundaries();
    let gross_fault = |(requests, below, above)| GrossFault { requests, below, above };
    DecisionPath {
        part: path.part.clone(),
        claimed: path.design.share(),
        cap: path.design.cap(),
        fails_above: line(boundaries.fails_above),
        passes_below: line(boundaries.passes_below),
        passes_above: line(boundaries.passes_above),
        fails_below: line(boundaries.fails_below),
        gross_faults: path.design.gross_faults().into_iter().map(gross_fault).collect(),
        points: path.points.iter().map(|(requests, hits)| [*requests, *hits]).collect(),
    }
}

fn answers(tallied: &Tallied) -> Answers {
    let (version, status, said) = match &tallied.answer {
        Answer::Version { version, status } => (Some(version.clone()), Some(*status), None),
        Answer::Unknown { status, excerpt } => (None, Some(*status), Some(excerpt.clone())),
        Answer::Nothing { reason } => (None, None, Some(reason.clone())),
    };
    Answers {
        from: tallied.from.clone(),
        path: tallied.path.clone(),
        version,
        status,
        said,
        pod: tallied.pod.clone(),
        count: tallied.count,
    }
}

fn changed(transition: &events::Transition) -> Transition {
    Transition {
        requests: transition.requests,
        errors: transition.errors.clone(),
        took: seconds(transition.took),
        applied: transition.applied.map(seconds),
        gap: (transition.requests > 0).then(|| Gap {
            from: transition.gap.from.clone(),
            began: seconds(transition.gap.began),
            lasted: seconds(transition.gap.lasted),
        }),
        resolution: seconds(transition.resolution),
        bounds: transition
            .bounds
            .iter()
            .map(|bound| Bound {
                of: bound.of.clone(),
                count: bound.count,
                requests: bound.requests,
                excluded: bound.excluded,
                confidence: bound.confidence,
            })
            .collect(),
        shifts: transition
            .shifts
            .iter()
            .map(|shift| Shift {
                from: shift.from.clone(),
                new: shift.new.clone(),
                first_new: shift.first_new.map(seconds),
                last_old: shift.last_old.map(seconds),
            })
            .collect(),
        step: seconds(STEP),
        timeline: transition
            .timeline
            .iter()
            .map(|moment| Moment {
                from: moment.from.clone(),
                step: moment.step,
                old: moment.old,
                both: moment.both,
                new: moment.new,
                errors: moment.errors,
            })
            .collect(),
    }
}

fn edit(edit: &plan::Edit) -> Edit {
    let text = |manifest: &Manifest| serde_yaml::to_string(&manifest.object).unwrap_or_default();
    let (before, after) = (edit.before.as_ref().map(text), edit.after.as_ref().map(text));
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
    let diff = TextDiff::from_lines(before, after);
    let mut lines = Vec::new();
    for group in diff.grouped_ops(CONTEXT) {
        if !lines.is_empty() {
            lines.push(" …".to_owned());
        }
        for change in group.iter().flat_map(|operation| diff.iter_changes(operation)) {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(format!("{sign}{}", change.value().trim_end_matches('\n')));
        }
    }
    lines
}

/// Seconds, to the microsecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
