use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;

use super::calibrate::Calibration;
use super::edit::Edit;
use super::error::WalkError;
use super::fingerprint::Fingerprint;
use super::mutate::Trialled;
use super::transition::Transition;
use crate::cluster::Reach;
use crate::routing::RouteDiff;
use crate::scenario::{Errors, Place};
use crate::traffic::Latency;
use crate::verdict::{Answer, Totals, Verdict};

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
        /// Who asks whom there.
        route: Route,
        /// The names of the stages.
        stages: Vec<String>,
        /// The summed errors of all claims, where they are judged.
        totals: Option<Totals>,
        /// The files that it is made of, the scenario first.
        files: Vec<SourceFile>,
    },
    /// What the run stands on is known, or more of it.
    Environment(Environment),
    /// Something was left by a killed run and is removed now.
    Swept(String),
    /// Something of another run was not removed; what, and why.
    NotSwept(String),
    /// Objects change what is outside of the run's namespace, and are applied all the same.
    Reaches(Vec<Reach>),
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
        /// What it does.
        edits: Vec<Edit>,
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
        /// How the client's requests are routed now.
        routing: Routing,
    },
    /// The client's sidecar does not do what the manifests ask for, in a walk that goes on all the same.
    Misrouted(Vec<RouteDiff>),
    /// The workloads that are there now, but for the client.
    Deployed(Vec<Deployed>),
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
        /// Who was answered what, and how often.
        tallies: Vec<Tallied>,
    },
    /// What the mesh did in the stage beyond what is claimed of it, where that is compared.
    Fingerprinted(Box<Fingerprint>),
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
    /// A claim failed, or the environment: what can be known of the cluster was written into a folder.
    Collected(PathBuf),
    /// The run cannot go on.
    Broke {
        /// The link of the chain that broke.
        link: Link,
        /// Where in the scenario or its manifests, if that is to blame.
        place: Option<Place>,
        /// What happened.
        message: String,
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

impl Event {
    /// The run cannot go on because of this.
    pub(super) fn broke(error: &WalkError) -> Self {
        Self::Broke { link: error.link(), place: error.place().cloned(), message: error.to_string() }
    }
}

/// Who asks whom in a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// The namespace.
    pub namespace: String,
    /// The client's pod.
    pub client: String,
    /// The service's host and port.
    pub service: String,
}

/// A file and the SHA-256 of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The file.
    pub path: PathBuf,
    /// In hexadecimal digits.
    pub sha256: String,
}

/// What a run stands on; what is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// The version of Kubernetes.
    pub kubernetes: Option<String>,
    /// The version of Istio.
    pub istio: Option<String>,
    /// The version of Envoy in the client's sidecar.
    pub envoy: Option<String>,
    /// The images of the pods with their digests.
    pub images: BTreeMap<String, String>,
}

/// How the client's requests to the service are routed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// The routes, the clusters and their endpoints, in words.
    pub lines: Vec<String>,
    /// The rules that decide, such as `VirtualService vs-hello`.
    pub rules: Vec<String>,
    /// Whether a route splits requests.
    pub shifting: bool,
    /// Whether a route answers faults on purpose.
    pub fault: bool,
}

/// A workload that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The Deployment.
    pub name: String,
    /// The version that it answers with, as far as that is known beforehand.
    pub version: String,
    /// Its image.
    pub image: String,
    /// Its pods.
    pub pods: Vec<String>,
    /// How many of them are ready.
    pub ready: usize,
    /// Whether all of them have a sidecar.
    pub sidecar: bool,
}

/// How often a kind of answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tallied {
    /// The population.
    pub from: String,
    /// The path that it asked for.
    pub path: String,
    /// The answer.
    pub answer: Answer,
    /// The pod that it came from, where the service tells it.
    pub pod: Option<String>,
    /// How often.
    pub count: u64,
}

/// A link of the chain from manifests to answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// An object was rejected, or is not what its API asks for.
    Manifest,
    /// Pods did not start.
    Rollout,
    /// The control plane did not deliver the configuration, or the sidecar rejected it.
    Delivery,
    /// A route is missing, or another one comes first.
    Route,
    /// A subset or service has no endpoints.
    Endpoints,
    /// The application answered an error.
    Application,
    /// The routes are as they should be, the share of the answers is not.
    Share,
    /// Requests failed while the stage was applied.
    Transition,
    /// Something was left behind.
    Leftovers,
    /// The engine, the cluster or the mesh itself.
    Environment,
}

impl fmt::Display for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Manifest => "a manifest was rejected",
            Self::Rollout => "a rollout is stuck",
            Self::Delivery => "the sidecar did not get or take its configuration",
            Self::Route => "a route is missing or shadowed",
            Self::Endpoints => "there are no endpoints",
            Self::Application => "the application answered an error",
            Self::Share => "the share is wrong",
            Self::Transition => "requests failed during the change",
            Self::Leftovers => "objects were left behind",
            Self::Environment => "the environment failed",
        })
    }
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
    pub place: Place,
    /// The errors that the verdict may make, where it is a test.
    pub errors: Option<Errors>,
    /// The link of the chain that is to blame for a failure.
    pub link: Option<Link>,
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
    /// How the client's sidecar routes.
    Routes,
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
