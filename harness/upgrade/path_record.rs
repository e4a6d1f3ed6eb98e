use std::time::Duration;

use super::path::{Phase, Row, UpgradePath};
use crate::events::{Event, Fingerprint, Judged, Tallied, Transition};
use crate::routing::RouteDiff;
use crate::verdict::Ruling;

/// The results of one run of the scenario, collected from its events.
#[derive(Debug, Clone)]
pub struct PathRecord {
    /// The upgrade path of the run.
    pub path: UpgradePath,
    /// The stages that the run reached.
    pub stages: Vec<StageRecord>,
    /// The error that ended the run early, if there was one.
    pub broke: Option<String>,
    rows: Vec<Row>,
}

/// The results of a stage.
#[derive(Debug, Clone)]
pub struct StageRecord {
    /// The row in the table of results.
    pub row: Row,
    /// The name of the stage.
    pub name: String,
    /// The verdicts on the claims.
    pub judged: Vec<Judged>,
    /// The differences between the routes of the client's sidecar and those of the manifests.
    pub routes: Vec<RouteDiff>,
    /// The answers in the sample.
    pub answers: Vec<Tallied>,
    /// The behaviour of the mesh that no claim is about.
    pub print: Option<Fingerprint>,
    /// The state to which a controller has brought its object, in words; none where no controller does.
    pub state: Option<String>,
    /// The traffic during the change.
    pub transition: Option<Transition>,
    /// The convergence time of the client's sidecar.
    pub converged: Option<Duration>,
    /// The duration of the stage.
    pub took: Duration,
}

impl PathRecord {
    /// An empty record of a run that will visit these rows.
    pub const fn new(path: UpgradePath, rows: Vec<Row>) -> Self {
        Self { path, stages: Vec::new(), broke: None, rows }
    }

    /// Takes an event of the run.
    pub fn take(&mut self, event: &Event) {
        if let Event::Stage { name, .. } = event {
            let Some(row) = self.rows.get(self.stages.len()) else { return };
            self.stages.push(StageRecord {
                row: *row,
                name: name.clone(),
                judged: Vec::new(),
                routes: Vec::new(),
                answers: Vec::new(),
                print: None,
                state: None,
                transition: None,
                converged: None,
                took: Duration::ZERO,
            });
            return;
        }
        if let Event::Broke { message, .. } = event {
            self.broke.get_or_insert_with(|| message.clone());
        }
        let Some(stage) = self.stages.last_mut() else { return };
        match event {
            Event::Converged { took, .. } => stage.converged = Some(*took),
            Event::Controlled(words) => stage.state = Some(words.clone()),
            Event::Changed(transition) => stage.transition = Some(transition.clone()),
            Event::Sampled { tallies, .. } => stage.answers.clone_from(tallies),
            Event::Fingerprinted(print) => stage.print = Some((**print).clone()),
            Event::Misrouted(differences) => stage.routes.clone_from(differences),
            Event::Judged(judged) => stage.judged.push(judged.clone()),
            Event::StageDone { took, .. } => stage.took = *took,
            _ => {}
        }
    }

    /// The stage at a row, if the run reached it.
    pub fn stage(&self, row: Row) -> Option<&StageRecord> {
        self.stages.iter().find(|stage| stage.row == row)
    }

    /// The stages of the scenario, without the changes of the mesh.
    pub fn themselves(&self) -> impl Iterator<Item = &StageRecord> {
        self.stages.iter().filter(|stage| stage.row.phase == Phase::Itself)
    }

    /// Whether the run reached its end and every claim held.
    pub fn holds(&self) -> bool {
        self.broke.is_none() && self.stages.len() == self.rows.len() && self.stages.iter().all(StageRecord::holds)
    }
}

impl StageRecord {
    /// The claims that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|judged| judged.verdict.ruling != Ruling::Pass)
    }

    /// Whether every claim holds.
    pub fn holds(&self) -> bool {
        self.failed().next().is_none()
    }
}
