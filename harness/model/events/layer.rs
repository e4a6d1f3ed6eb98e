use std::fmt;

/// The layer between manifests and answers that a failure is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureLayer {
    /// An object was rejected, or does not fit its API.
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
    /// Objects were left behind.
    Leftovers,
    /// The engine, the cluster or the mesh itself.
    Environment,
}

impl fmt::Display for FailureLayer {
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
