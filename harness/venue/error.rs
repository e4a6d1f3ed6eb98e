use thiserror::Error;

use crate::cluster::{ClusterError, RunId};
use crate::controller::ControllerError;
use crate::mesh::MeshError;
use crate::scenario::ScenarioError;
use crate::traffic::TrafficError;

/// Why a venue cannot be opened or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VenueError {
    /// The cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The mesh failed.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A rollout controller failed.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// The scenario is wrong, or cannot be run there.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// No driver could be started.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
    /// Only a throwaway cluster can do what was asked for.
    #[error("mutants are brought about, and control planes installed, on a throwaway cluster alone")]
    NotThrowaway,
}

/// Something that a run has created and that could not be removed. Its record stays, so that a sweep finds it.
#[derive(Debug, Error)]
#[error("{what} of run {run} could not be removed: {source}")]
pub struct LeftBehind {
    /// What.
    pub what: String,
    /// The run.
    pub run: RunId,
    /// Why it could not be removed.
    pub source: Box<ClusterError>,
}
