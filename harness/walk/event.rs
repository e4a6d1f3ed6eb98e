use std::time::Duration;

use tokio::sync::mpsc;

use super::calibrate::Calibration;
use super::mutate::Trialled;
use super::transition::Transition;
use crate::traffic::Latency;
use crate::verdict::{Totals, Verdict};

/// Something that happened. Terminal and reports are readers of the same stream.
#[derive(Debug, Clone)]
pub enum Event {
    /// A run begins.
    Started {
        /// Its id.
        run: String,
        /// The scenario's name.
        scenario: String,
        /// Where it runs.
        place: String,
        /// The number of stages.
        stages: usize,
        /// The summed errors of all claims, where they are judged.
        totals: Option<Totals>,
    },
    /// Something was left by a killed run and is removed now.
    Swept(String),
    /// The set-up goes on.
    SettingUp(String),
    /// What is being waited for was seen in this state.
    Waiting(String),
    /// A part of the set-up is there.
    Ready {
        /// What.
        what: String,
        /// Since the start of the run.
        after: Duration,
    },
    /// A stage begins.
    Stage {
        /// Its position, from 1.
        number: usize,
        /// Its name.
        name: String,
    },
    /// The stage's objects are applied and deleted; its rollouts are complete.
    RolledOut {
        /// How long it took.
        took: Duration,
    },
    /// The client's sidecar does what the manifests ask for.
    Converged {
        /// How long it took since the rollouts.
        took: Duration,
        /// How often it was asked.
        readings: u32,
    },
    /// What the traffic saw while the stage was applied.
    Changed(Transition),
    /// So many requests of a sample are answered.
    Sampling {
        /// Answered.
        done: u64,
        /// The claims that are decided.
        decided: usize,
        /// All claims of the stage.
        claims: usize,
    },
    /// A sample is complete.
    Sampled {
        /// The number of requests.
        requests: u64,
        /// Requests a second.
        rate: f64,
        /// How long answers took.
        latency: Latency,
    },
    /// A claim is decided.
    Judged(Judged),
    /// A stage ends.
    StageDone {
        /// Whether everything in it held.
        passed: bool,
        /// How long it took.
        took: Duration,
    },
    /// So many of the samples of a calibration are taken.
    Calibrating {
        /// Taken.
        sample: usize,
        /// In all.
        samples: usize,
    },
    /// A calibration is complete.
    Calibrated {
        /// What it found.
        calibration: Calibration,
        /// How long it took, with the stages before.
        took: Duration,
    },
    /// A mutant was brought about on the mesh.
    Trialled(Trialled),
    /// The clean-up begins.
    Removing,
    /// Everything is removed.
    Removed {
        /// How long it took.
        took: Duration,
    },
    /// Something stays, as asked for.
    Kept {
        /// How to look at it.
        look: Vec<String>,
        /// How to remove it.
        remove: String,
    },
}

/// A decided claim.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What it is about.
    pub subject: Subject,
    /// What was claimed: `v1 50 %, v2 50 %, status 503`.
    pub claim: String,
    /// The verdict.
    pub verdict: Verdict,
    /// What explains a failure: the manifests to blame, with file and line.
    pub hints: Vec<String>,
    /// Where the scenario claims it.
    pub place: String,
}

/// What a claim is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The answers to a population.
    Population {
        /// Its name.
        name: String,
        /// The path that it asks for.
        path: String,
    },
    /// The requests that a workload serves.
    Workload(String),
    /// What happens while a stage is applied.
    Change,
    /// What is left in the namespace.
    Objects,
}

/// Where events go. Nobody has to listen.
#[derive(Debug, Clone)]
pub struct Events(mpsc::UnboundedSender<Event>);

impl Events {
    /// A stream of events, and the end at which they come out.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Event>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells an event.
    pub fn tell(&self, event: Event) {
        tracing::debug!(?event);
        // a reader that has gone away does not matter
        let _ = self.0.send(event);
    }

    /// Passes states that a wait has seen on.
    pub fn waiting(&self) -> impl FnMut(&str) + use<> {
        let events = self.clone();
        move |state| events.tell(Event::Waiting(state.to_owned()))
    }
}
