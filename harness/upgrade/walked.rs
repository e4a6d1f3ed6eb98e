use std::time::Duration;

use super::course::{Course, Phase, Row};
use crate::events::{Event, Fingerprint, Judged, Tallied, Transition};
use crate::routing::RouteDiff;
use crate::verdict::Ruling;

/// What came of a walk of the scenario, as its events tell.
#[derive(Debug, Clone)]
pub struct Walked {
    /// Which walk.
    pub course: Course,
    /// The stages that it came to.
    pub stages: Vec<WalkedStage>,
    /// Why it broke off, if it did.
    pub broke: Option<String>,
    rows: Vec<Row>,
}

/// What came of a stage.
#[derive(Debug, Clone)]
pub struct WalkedStage {
    /// Its place in the table of all walks.
    pub row: Row,
    /// Its name.
    pub name: String,
    /// Its claims, decided.
    pub judged: Vec<Judged>,
    /// How the client's sidecar routes otherwise than the manifests ask for.
    pub routes: Vec<RouteDiff>,
    /// Who was answered what in its sample.
    pub answers: Vec<Tallied>,
    /// What the mesh did beyond what is claimed.
    pub print: Option<Fingerprint>,
    /// What the traffic saw of the change.
    pub transition: Option<Transition>,
    /// How long the client's sidecar took to do what the manifests ask for.
    pub converged: Option<Duration>,
    /// How long the stage took.
    pub took: Duration,
}

/// How many claims hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Those that hold.
    pub held: usize,
    /// All of them.
    pub of: usize,
}

impl Walked {
    /// A walk that will come to these rows.
    #[must_use]
    pub const fn new(course: Course, rows: Vec<Row>) -> Self {
        Self { course, stages: Vec::new(), broke: None, rows }
    }

    /// Takes an event of it.
    pub fn take(&mut self, event: &Event) {
        if let Event::Stage { name, .. } = event {
            let Some(row) = self.rows.get(self.stages.len()) else { return };
            self.stages.push(WalkedStage {
                row: *row,
                name: name.clone(),
                judged: Vec::new(),
                routes: Vec::new(),
                answers: Vec::new(),
                print: None,
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
            Event::Changed(transition) => stage.transition = Some(transition.clone()),
            Event::Sampled { tallies, .. } => stage.answers.clone_from(tallies),
            Event::Fingerprinted(print) => stage.print = Some((**print).clone()),
            Event::Misrouted(differences) => stage.routes.clone_from(differences),
            Event::Judged(judged) => stage.judged.push(judged.clone()),
            Event::StageDone { took, .. } => stage.took = *took,
            _ => {}
        }
    }

    /// The stage of a row, if the walk came to it.
    #[must_use]
    pub fn stage(&self, row: Row) -> Option<&WalkedStage> {
        self.stages.iter().find(|stage| stage.row == row)
    }

    /// The stages themselves, without the changes of the mesh.
    pub fn themselves(&self) -> impl Iterator<Item = &WalkedStage> {
        self.stages.iter().filter(|stage| stage.row.phase == Phase::Itself)
    }

    /// Whether it came to its end and everything held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.broke.is_none()
            && self.stages.len() == self.rows.len()
            && self.stages.iter().all(|stage| stage.held().all())
    }
}

impl WalkedStage {
    /// How many of its claims hold.
    #[must_use]
    pub fn held(&self) -> Held {
        let held = self.judged.iter().filter(|judged| judged.verdict.ruling == Ruling::Pass).count();
        Held { held, of: self.judged.len() }
    }
}

impl Held {
    /// Whether all do.
    #[must_use]
    pub const fn all(self) -> bool {
        self.held == self.of
    }
}
