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
}

/// A rollout controller that a scenario needs. It is installed on a throwaway cluster and looked for on an existing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// The controller.
    pub kind: ControllerKind,
    /// The version as written: `1.10`.
    pub version: String,
    /// The position of the version.
    pub origin: Origin,
}

impl ControllerKind {
    /// The name of the controller in a scenario and in the names of its image sets: `argo-rollouts`.
    pub const fn key(self) -> &'static str {
        match self {
            Self::ArgoRollouts => "argo-rollouts",
        }
    }
}

impl fmt::Display for Install {
    /// `Argo Rollouts 1.10`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, self.version)
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

/// The state of the controlled object that a stage waits for. At least one of `step` and `phase` is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerWait {
    /// The index of the current step, from 0.
    pub step: Option<u32>,
    /// The phase.
    pub phase: Option<Phase>,
    /// The timeout.
    pub within: Duration,
    /// The position.
    pub origin: Origin,
}

impl fmt::Display for ControllerWait {
    /// `step 1 in the phase Paused`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step.map(|step| format!("step {step}"));
        let phase = self.phase.map(|phase| format!("the phase {phase}"));
        let parts: Vec<String> = step.into_iter().chain(phase).collect();
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
