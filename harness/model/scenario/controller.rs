use std::fmt;
use std::time::Duration;

use displaydoc::Display;
use schemars::JsonSchema;
use serde::Deserialize;

use super::manifest::Manifest;
use super::origin::Origin;
use super::share::Share;

/// A rollout controller, which moves traffic to a new version by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display)]
pub enum ControllerKind {
    /// Argo Rollouts
    ArgoRollouts,
    /// Flagger
    Flagger,
}

/// Software besides Istio that a scenario can need on the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display)]
pub enum Component {
    /// {0}
    Controller(ControllerKind),
    /// The source of the CPU and memory metrics by which Deployments are scaled.
    #[displaydoc("metrics-server")]
    MetricsServer,
}

/// A component that a scenario needs. It is installed on a throwaway cluster and looked for on an existing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// The component.
    pub component: Component,
    /// The version as written: `1.10`.
    pub version: String,
    /// The position of the version.
    pub origin: Origin,
}

impl ControllerKind {
    /// All controllers.
    pub const ALL: [Self; 2] = [Self::ArgoRollouts, Self::Flagger];

    /// The name of the controller in a scenario and in the names of its image sets: `argo-rollouts`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::ArgoRollouts => "argo-rollouts",
            Self::Flagger => "flagger",
        }
    }

    /// The name by which the API server knows who has changed an object.
    pub const fn field_manager(self) -> &'static str {
        match self {
            Self::ArgoRollouts => "rollouts-controller",
            Self::Flagger => "flagger",
        }
    }
}

impl Component {
    /// All components.
    pub const ALL: [Self; 3] = [
        Self::Controller(ControllerKind::ArgoRollouts),
        Self::Controller(ControllerKind::Flagger),
        Self::MetricsServer,
    ];

    /// The name of the component in a scenario and in the names of its image sets: `argo-rollouts`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Controller(kind) => kind.key(),
            Self::MetricsServer => "metrics-server",
        }
    }

    /// The component of an image set, such as `argo-rollouts-1.10`; none for other sets.
    pub fn of_set(set: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|own| set.strip_prefix(own.key()).is_some_and(|rest| rest.starts_with('-')))
    }
}

impl fmt::Display for Install {
    /// `Argo Rollouts 1.10`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.component, self.version)
    }
}

/// The object with which a controller moves the traffic of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controlled {
    /// The controller.
    pub kind: ControllerKind,
    /// The object's name.
    pub name: String,
    /// The position of the name.
    pub origin: Origin,
}

impl Controlled {
    /// The API group and the kind of the object.
    pub const fn group_and_kind(&self) -> (&'static str, &'static str) {
        match self.kind {
            ControllerKind::ArgoRollouts => ("argoproj.io", "Rollout"),
            ControllerKind::Flagger => ("flagger.app", "Canary"),
        }
    }

    /// Whether a manifest describes the object.
    pub fn is(&self, manifest: &Manifest) -> bool {
        (manifest.group(), manifest.kind()) == self.group_and_kind() && manifest.name() == self.name
    }
}

impl fmt::Display for Controlled {
    /// `Rollout/hello`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.group_and_kind().1, self.name)
    }
}

/// The phase that a controller reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, Deserialize, JsonSchema)]
pub enum Phase {
    /// Healthy
    Healthy,
    /// Progressing
    Progressing,
    /// Paused
    Paused,
    /// Degraded
    Degraded,
    /// Initialized
    Initialized,
    /// Waiting
    Waiting,
    /// Waiting for the promotion.
    #[displaydoc("WaitingPromotion")]
    WaitingPromotion,
    /// Promoting
    Promoting,
    /// Finalising
    Finalising,
    /// Succeeded
    Succeeded,
    /// Failed
    Failed,
}

impl ControllerKind {
    /// The phases that the controller reports.
    pub const fn phases(self) -> &'static [Phase] {
        match self {
            Self::ArgoRollouts => &[Phase::Healthy, Phase::Progressing, Phase::Paused, Phase::Degraded],
            Self::Flagger => &[
                Phase::Initialized,
                Phase::Waiting,
                Phase::Progressing,
                Phase::WaitingPromotion,
                Phase::Promoting,
                Phase::Finalising,
                Phase::Succeeded,
                Phase::Failed,
            ],
        }
    }
}

/// What a stage has the controller do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// promote
    Promote,
    /// promote-full
    PromoteFull,
    /// abort
    Abort,
    /// retry
    Retry,
    /// pause
    Pause,
}

/// An answer to a webhook of a Canary, until the stage has reached the state that it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The webhook's name.
    pub name: String,
    /// Whether the answer is a success.
    pub open: bool,
    /// The position of the name.
    pub origin: Origin,
}

/// A weight that a controller gives to the route on the way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FollowedWeight {
    /// Of the new version's own destination.
    Canary(Share),
    /// Of the destinations of an experiment together.
    Experiment(Share),
}

impl fmt::Display for FollowedWeight {
    /// `10 %`, `10 % for an experiment`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canary(share) => write!(formatter, "{share}"),
            Self::Experiment(share) => write!(formatter, "{share} for an experiment"),
        }
    }
}

/// The state of the controlled object that a stage waits for. At least one of `step`, `weight` and `phase` is set.
#[derive(Debug, Clone, PartialEq)]
pub struct ControllerWait {
    /// The index of the current step of a Rollout, from 0.
    pub step: Option<u32>,
    /// The weight of the new version in the route of a Canary.
    pub weight: Option<Share>,
    /// The phase.
    pub phase: Option<Phase>,
    /// The timeout.
    pub within: Duration,
    /// The weights of the route on the way, in order, as far as the scenario names them; none where requests are not judged on the way.
    pub follows: Option<Vec<FollowedWeight>>,
    /// The position.
    pub origin: Origin,
}

impl fmt::Display for ControllerWait {
    /// `step 1 in the phase Paused`, `weight 25 % in the phase Progressing`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step.map(|step| format!("step {step}"));
        let phase = self.phase.map(|phase| format!("the phase {phase}"));
        let weight = self.weight.map(|weight| format!("weight {weight}"));
        let parts: Vec<String> = step.into_iter().chain(weight).chain(phase).collect();
        formatter.write_str(&parts.join(" in "))
    }
}

/// The weights of the two destinations between which a controller moves traffic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// The new version.
    pub canary: Share,
    /// The old version.
    pub stable: Share,
}

impl fmt::Display for Weights {
    /// `canary 20 %, stable 80 %`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "canary {}, stable {}", self.canary, self.stable)
    }
}
