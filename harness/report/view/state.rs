use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::window::Window;
use crate::events::{ClaimProgress, Event, Moment, Tallied, Timed};
use crate::report::calibration;
use crate::report::graph::{Graph, NodeKind, share};
use crate::report::marks::Marks;
use crate::report::model::{Answers, Outcome, Report, Share, Stage, Traffic};
use crate::report::words::{millis, plural, seconds};

/// The number of lines of the log that are kept.
const LINES: usize = 300;
/// The number of points of the shares of a claim that are kept; above it, every other one is dropped.
const POINTS: usize = 64;

/// What the page shows. A change of it is an object with the fields that changed: `stage` replaces one of `stages`, and the lines of `log` are
/// added.
#[derive(Debug, Default)]
pub(in crate::report) struct State {
    /// The report without its stages.
    head: Value,
    stages: Vec<Value>,
    /// What the run does or waits for.
    now: String,
    graph: Value,
    progress: Value,
    /// The shares of each claim by the number of requests: the shares, and the ends of their intervals.
    trails: BTreeMap<String, Vec<Value>>,
    /// The answers during the change of the current stage.
    strip: BTreeMap<(String, u64), Moment>,
    log: VecDeque<Value>,
    /// The number of the stage after which the run waits.
    paused: Option<usize>,
    /// Whether the run is complete.
    is_done: bool,
    /// The answers in the graph.
    latest: Vec<Tallied>,
    window: Window,
}

impl State {
    /// Takes an event that the report has taken. Returns what changed.
    pub fn take(&mut self, Timed { since_start, event, .. }: &Timed, report: &Report) -> Map<String, Value> {
        let mut changed = Map::new();
        let stage = report.stages.last();
        match event {
            Event::Started { .. } => {
                *self = Self { head: head(report), ..Self::default() };
                changed = self.whole();
            }
            Event::Environment(_) | Event::Ready(_) | Event::Broke { .. } | Event::Collected(_) => {
                self.head = head(report);
                changed.insert("head".to_owned(), self.head.clone());
            }
            Event::Stage { .. } => {
                self.strip.clear();
                self.trails.clear();
                self.progress = Value::Null;
                self.window.clear();
                changed.insert("strip".to_owned(), json!([]));
                changed.insert("progress".to_owned(), Value::Null);
            }
            Event::Watching { answers, timeline } => {
                self.latest = self.window.take(*since_start, answers);
                let moments = timeline.iter().map(|moment| ((moment.from.clone(), moment.step), moment.clone()));
                self.strip.extend(moments);
                changed.insert("strip".to_owned(), self.strip());
            }
            Event::Changed(_) => self.window.clear(),
            Event::Sampling { answers, progress, .. } => {
                self.latest = self.window.take(*since_start, answers);
                self.progress = progress.iter().map(|claim| self.progress_of(claim)).collect();
                changed.insert("progress".to_owned(), self.progress.clone());
            }
            Event::Calibrating { answers, .. } => self.latest = self.window.take(*since_start, answers),
            Event::Sampled { tallies, .. } => {
                self.window.clear();
                self.latest.clone_from(tallies);
            }
            Event::Paused(number) => self.pause(Some(*number), &mut changed),
            Event::Resumed => self.pause(None, &mut changed),
            _ => {}
        }
        if let Some(stage) = stage {
            self.take_of_stage(event, report, stage, &mut changed);
        }
        if let Some(now) = now(event) {
            changed.insert("now".to_owned(), now.clone().into());
            self.now = now;
        }
        let lines = match event {
            Event::Calibrated { calibration, took } => calibration::lines(calibration, *took, Marks { colour: false }),
            _ => line(event, stage).into_iter().collect(),
        };
        self.add_lines(*since_start, &lines, &mut changed);
        changed
    }

    /// Takes the end of the run, with its result in words.
    pub fn end(&mut self, report: &Report) -> Map<String, Value> {
        let mut changed = Map::new();
        self.is_done = true;
        self.head = head(report);
        self.head["result"] = json!(report.result);
        self.head["words"] = json!(report.result.words());
        self.head["note"] = json!(report.note);
        changed.insert("head".to_owned(), self.head.clone());
        changed.insert("done".to_owned(), true.into());
        self.now.clone_from(&report.note);
        changed.insert("now".to_owned(), self.now.clone().into());
        if let Some(stage) = report.stages.last() {
            self.set_stage(report.stages.len(), stage, &mut changed);
        }
        self.add_lines(report.took, std::slice::from_ref(&report.note), &mut changed);
        changed
    }

    /// The state as a change of nothing.
    pub fn whole(&self) -> Map<String, Value> {
        let whole = json!({
            "reset": true, "head": self.head, "stages": self.stages, "now": self.now, "graph": self.graph,
            "progress": self.progress, "strip": self.strip(), "log": self.log, "paused": self.paused, "done": self.is_done,
        });
        let Value::Object(whole) = whole else { unreachable!("it is written as an object") };
        whole
    }

    /// Takes an event of the current stage.
    fn take_of_stage(&mut self, event: &Event, report: &Report, stage: &Stage, changed: &mut Map<String, Value>) {
        self.graph_at(event, report, stage, changed);
        if matches!(
            event,
            Event::Stage { .. }
                | Event::RolledOut(_)
                | Event::Controlled(_)
                | Event::Converged { .. }
                | Event::Changed(_)
                | Event::Sampled { .. }
                | Event::StageDone { .. }
        ) {
            self.set_stage(report.stages.len(), stage, changed);
        }
    }

    /// Updates the traffic graph after an event that changes its requests or workloads; other events leave it as it is.
    fn graph_at(&mut self, event: &Event, report: &Report, stage: &Stage, changed: &mut Map<String, Value>) {
        let within = match event {
            Event::Watching { .. } | Event::Sampling { .. } | Event::Calibrating { .. } => "last second".to_owned(),
            Event::Deployed(_) => self.graph["within"].as_str().unwrap_or_default().to_owned(),
            Event::Sampled { .. } | Event::StageDone { .. } => format!("stage {}", stage.number),
            _ => return,
        };
        self.graph = match event {
            // with the shares that the verdicts counted, and the claims that failed
            Event::StageDone { .. } => graph(&Graph::of(report, stage), &within),
            _ => self.graph_of(report, stage, &within),
        };
        changed.insert("graph".to_owned(), self.graph.clone());
    }

    /// The graph of the latest answers.
    fn graph_of(&self, report: &Report, stage: &Stage, within: &str) -> Value {
        let before = || report.stages.iter().rev().map(|stage| &stage.workloads).find(|own| !own.is_empty());
        let traffic = Traffic {
            requests: 0,
            rate: 0.0,
            latency: crate::events::Latency::default(),
            answers: self.latest.iter().map(Answers::from).collect(),
        };
        let live = Stage {
            number: stage.number,
            workloads: before().cloned().unwrap_or_default(),
            routing: stage.routing.clone(),
            traffic: Some(traffic),
            ..Stage::default()
        };
        graph(&Graph::of(report, &live), within)
    }

    fn set_stage(&mut self, count: usize, stage: &Stage, changed: &mut Map<String, Value>) {
        let mut value = serde_json::to_value(stage).unwrap_or_default();
        value["graph"] = self.graph.clone();
        value["words"] = stage.result.map_or("running", Outcome::words).into();
        self.stages.resize(count, Value::Null);
        self.stages[count - 1] = value.clone();
        changed.insert("stage".to_owned(), json!([count - 1, value]));
    }

    fn progress_of(&mut self, claim: &ClaimProgress) -> Value {
        let shares: Vec<Share> = claim.shares.iter().map(Share::from).collect();
        let trail = self.trails.entry(format!("{} {} {}", claim.from, claim.path, claim.claim)).or_default();
        if claim.requests > 0 && claim.ruling.is_none() {
            let part = |own: &Share| json!([share(own.count, claim.requests), own.interval[0], own.interval[1]]);
            trail.push(json!([claim.requests, shares.iter().map(part).collect::<Vec<_>>()]));
            if trail.len() > POINTS {
                let mut number = 0;
                trail.retain(|_| {
                    number += 1;
                    number % 2 == 0
                });
            }
        }
        json!({
            "from": claim.from, "path": claim.path, "claim": claim.claim, "requests": claim.requests,
            "result": claim.ruling.map(Outcome::from), "shares": shares, "trail": trail,
        })
    }

    fn strip(&self) -> Value {
        json!(self.strip.values().collect::<Vec<_>>())
    }

    fn pause(&mut self, paused: Option<usize>, changed: &mut Map<String, Value>) {
        self.paused = paused;
        changed.insert("paused".to_owned(), json!(paused));
    }

    fn add_lines(&mut self, at: Duration, lines: &[String], changed: &mut Map<String, Value>) {
        if lines.is_empty() {
            return;
        }
        let lines: Vec<Value> = lines.iter().map(|text| json!({"at": seconds(at), "text": text})).collect();
        self.log.extend(lines.iter().cloned());
        self.log.drain(..self.log.len().saturating_sub(LINES));
        changed.insert("log".to_owned(), lines.into());
    }
}

fn head(report: &Report) -> Value {
    json!({
        "run": report.run, "scenario": report.scenario, "place": report.place, "environment": report.environment,
        "errors": report.errors, "setup": report.setup, "failure": report.failure, "state": report.state,
        "reproduce": report.reproduce, "started": report.started, "tool": report.tool,
    })
}

/// A graph, and the time of its answers in words.
fn graph(graph: &Graph, within: &str) -> Value {
    let nodes = graph.nodes.iter().map(|node| {
        let parts = node.parts.iter().map(|part| {
            let (requests, errors) = (part.flow.requests, part.flow.errors());
            json!({
                "from": part.from, "path": part.path, "requests": requests, "share": part.share, "errors": errors,
                "health": part.health().word(),
            })
        });
        let (name, version, workload) = match &node.kind {
            NodeKind::Workload(own) => (own.name.as_str(), own.version.as_str(), Some(own)),
            NodeKind::Mesh(said) => (said.as_str(), "no workload", None),
        };
        json!({
            "name": name, "version": version, "requests": node.flow.requests, "errors": node.flow.errors(),
            "share": share(node.flow.requests, graph.all.requests), "health": node.health().word(),
            "ready": workload.map(|own| own.ready), "pods": workload.map(|own| own.pods.len()),
            "sidecar": workload.map(|own| own.sidecar), "parts": parts.collect::<Vec<_>>(),
        })
    });
    json!({
        "within": within, "client": graph.client, "service": graph.service, "rules": graph.rules,
        "shifting": graph.shifting, "fault": graph.fault, "requests": graph.all.requests, "errors": graph.all.errors(),
        "health": graph.health().word(), "nodes": nodes.collect::<Vec<_>>(),
    })
}

/// What the run does from an event on.
fn now(event: &Event) -> Option<String> {
    Some(match event {
        Event::SettingUp(what) => what.clone(),
        Event::Waiting(state) => format!("waiting: {state}"),
        Event::Stage { .. } => "applying the stage".to_owned(),
        Event::RolledOut(_) => "waiting for the client's sidecar".to_owned(),
        Event::Converged { .. } => "the sidecar has the routes".to_owned(),
        Event::Sampling { done, decided, claims, .. } => {
            format!("{}, {decided} of {} decided", plural(done, "request"), plural(*claims, "claim"))
        }
        Event::StageDone { .. } => "stage complete".to_owned(),
        Event::Calibrating { sample, samples, .. } => format!("sample {sample} of {samples}"),
        Event::Paused(number) => format!("paused after stage {number}"),
        Event::Resumed => "continued".to_owned(),
        Event::Removing => "cleaning up".to_owned(),
        Event::Removed(took) => format!("clean-up finished in {}", seconds(*took)),
        _ => return None,
    })
}

/// The line of an event in the log.
fn line(event: &Event, stage: Option<&Stage>) -> Option<String> {
    Some(match event {
        Event::Started { run, scenario, place, .. } => format!("{scenario} on {place}, run {run}"),
        Event::Ready(what) => format!("{what} ready"),
        Event::Addon { addon, access } => format!("{addon}: {}", access.words()),
        Event::Swept(what) => format!("removed {what}, which was killed"),
        Event::NotSwept(what) | Event::Controlled(what) => what.clone(),
        Event::Stage { number, name, .. } => format!("stage {number}: {name}"),
        Event::RolledOut(took) => format!("rolled out in {}", seconds(*took)),
        Event::Converged { took, .. } => format!("the client's sidecar converged in {}", millis(*took)),
        Event::Changed(transition) => {
            let (errors, all) = (plural(transition.failed(), "error"), plural(transition.requests, "request"));
            format!("during the change: {errors} in {all}")
        }
        Event::Sampled { requests, rate, .. } => format!("{} at {rate:.0}/s", plural(requests, "request")),
        Event::Judged(judged) => {
            let words = Outcome::from(judged.verdict.ruling).words();
            format!("{words}: {}: {} — {}", judged.subject, judged.claim, judged.verdict.reason)
        }
        Event::StageDone { took, .. } => {
            let words = stage.and_then(|stage| stage.result).map_or("complete", Outcome::words);
            format!("stage {words} after {}", seconds(*took))
        }
        Event::Collected(folder) => format!("cluster state saved to {}", folder.display()),
        Event::Broke { layer, message, .. } => format!("{layer}: {message}"),
        Event::Paused(_) | Event::Resumed | Event::Removing | Event::Removed(_) => return now(event),
        _ => return None,
    })
}
