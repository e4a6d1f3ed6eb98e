use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::claim::{Calibration, Judged};
use super::fingerprint::Fingerprint;
use super::layer::FailureLayer;
use super::mutant::TrialledMutant;
use super::setup::{AddonAccess, Environment, Reach, Routing, SourceFile, TrafficPath, Workload};
use super::traffic::{ClaimProgress, Latency, Tallied};
use super::transition::{Moment, Transition};
use crate::plan::Edit;
use crate::routing::RouteDiff;
use crate::scenario::{Addon, Origin, Sensitive};
use crate::verdict::Totals;

/// The names of the files and folders of a saved cluster state, in the folder of [`Event::Collected`].
pub const STATE: [&str; 7] = ["events.txt", "pods.txt", "routes.txt", "incomplete.txt", "objects", "logs", "sidecar"];

/// An event with the time at which it happened.
#[derive(Debug, Clone)]
pub struct Timed {
    /// The time by the system's clock.
    pub at: Timestamp,
    /// The time since the stream began, by a clock that never goes back.
    pub since_start: Duration,
    /// The event.
    pub event: Event,
}

/// Something that happened in a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A run begins.
    Started {
        /// Its id.
        run: String,
        /// The scenario's name.
        scenario: String,
        /// Where it runs.
        place: String,
        /// The path of its requests.
        path: TrafficPath,
        /// The names of the stages.
        stages: Vec<String>,
        /// The number of claims.
        claims: usize,
        /// The summed error probabilities of all claims, where claims are judged.
        totals: Option<Totals>,
        /// The files of the scenario, the scenario itself first.
        files: Vec<SourceFile>,
        /// The values that no reader shows.
        sensitive: Sensitive,
    },
    /// Versions and images are known, or more of them.
    Environment(Environment),
    /// Something that a killed run had left was removed.
    Swept(String),
    /// Something of another run was not removed: what, and why.
    NotSwept(String),
    /// Objects have effects outside of the run's namespace, which the user has allowed.
    Reaches(Vec<Reach>),
    /// A step of the set-up begins.
    SettingUp(String),
    /// The latest state of what the run waits for.
    Waiting(String),
    /// A part of the set-up is complete.
    Ready(String),
    /// An addon of Istio that the scenario names can be reached, or is not there.
    Addon {
        /// The addon.
        addon: Addon,
        /// How it is reached.
        access: AddonAccess,
    },
    /// A stage begins.
    Stage {
        /// Its position, from 1.
        number: usize,
        /// Its name.
        name: String,
        /// Its changes to objects.
        edits: Vec<Edit>,
    },
    /// The stage's objects are applied and deleted, and its rollouts are complete: the time since the start of the stage's changes.
    RolledOut(Duration),
    /// A controller has brought its object to the state that the stage waits for, or an autoscaler has started pods: the object and its state,
    /// in words.
    Controlled(String),
    /// The client's sidecar has the routes that the manifests ask for.
    Converged {
        /// Time since the rollouts were complete.
        took: Duration,
        /// How often the sidecar's configuration was read.
        readings: u32,
        /// The routes of the client's requests.
        routing: Routing,
    },
    /// The client's sidecar does not have the routes that the manifests ask for, in a run that continues nevertheless.
    Misrouted(Vec<RouteDiff>),
    /// The workloads of the namespace, without the client.
    Deployed(Vec<Workload>),
    /// A stage was applied under traffic.
    Changed(Transition),
    /// The traffic during a change has made progress.
    Watching {
        /// The answers since the traffic began, counted.
        answers: Vec<Tallied>,
        /// The time steps with new answers since the last such event, each with all of its answers.
        timeline: Vec<Moment>,
    },
    /// A sample has made progress.
    Sampling {
        /// Requests answered.
        done: u64,
        /// Claims decided.
        decided: usize,
        /// All claims of the stage.
        claims: usize,
        /// The answers since the sample began, counted.
        answers: Vec<Tallied>,
        /// The state of each claim.
        progress: Vec<ClaimProgress>,
    },
    /// A sample is complete.
    Sampled {
        /// The number of requests.
        requests: u64,
        /// Requests a second.
        rate: f64,
        /// How long answers took.
        latency: Latency,
        /// The answers of each population, counted.
        tallies: Vec<Tallied>,
    },
    /// The behaviour of the mesh that no claim is about, in a run that is compared with another.
    Fingerprinted(Box<Fingerprint>),
    /// A claim is decided.
    Judged(Judged),
    /// A stage ends.
    StageDone {
        /// Whether every claim of it held.
        passed: bool,
        /// How long the stage took.
        took: Duration,
    },
    /// The run waits after the stage with this number, until somebody continues it.
    Paused(usize),
    /// The run continues.
    Resumed,
    /// A calibration has made progress.
    Calibrating {
        /// Samples taken.
        sample: usize,
        /// All samples.
        samples: usize,
        /// The answers since the first sample began, counted.
        answers: Vec<Tallied>,
    },
    /// A calibration is complete.
    Calibrated {
        /// Its result.
        calibration: Calibration,
        /// How long it took, with the stages before it.
        took: Duration,
    },
    /// The state of the cluster was saved to this folder after a failure.
    Collected(PathBuf),
    /// The run cannot continue.
    Broke {
        /// The layer that failed.
        layer: FailureLayer,
        /// Where in the scenario or its manifests, if they are the cause.
        place: Option<Origin>,
        /// What happened.
        message: String,
    },
    /// A mutant was tried on the mesh.
    Trialled(TrialledMutant),
    /// The clean-up begins.
    Removing,
    /// The clean-up is complete: the time that it took.
    Removed(Duration),
    /// The cluster or the namespace is kept, as the user asked.
    Kept {
        /// Commands that show it.
        look: Vec<String>,
        /// The command that removes it.
        remove: String,
    },
}
