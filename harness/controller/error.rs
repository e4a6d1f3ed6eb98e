use std::path::PathBuf;

use thiserror::Error;

use crate::cluster::ClusterError;
use crate::scenario::{Component, Origin};

/// An error of a rollout controller.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what variants without a comment and all fields mean")]
pub enum ControllerError {
    /// A file with the objects of a controller cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Objects { path: PathBuf, reason: String },
    #[error("{origin}: {component} is not installed on this cluster: no Deployment has the label {label}")]
    NotInstalled { origin: Origin, component: Component, label: String },
    #[error("{origin}: {component} is installed in namespace {namespace}, but {state}")]
    NotReady { origin: Origin, component: Component, namespace: String, state: String },
    #[error("{0}: this venue has no rollout controller")]
    NoController(Origin),
    /// The program that answers webhooks does not run.
    #[error("nothing answers the webhooks of the Canary: {0}")]
    Gates(ClusterError),
    /// The cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

impl ControllerError {
    /// The place in the scenario that asks for the controller.
    pub const fn place(&self) -> Option<&Origin> {
        match self {
            Self::NotInstalled { origin, .. } | Self::NotReady { origin, .. } | Self::NoController(origin) => {
                Some(origin)
            }
            Self::Cluster(error) | Self::Gates(error) => error.place(),
            Self::Objects { .. } => None,
        }
    }
}
