use std::path::PathBuf;

use thiserror::Error;

use super::event::Link;
use crate::cluster::ClusterError;
use crate::mesh::MeshError;
use crate::scenario::ScenarioError;
use crate::traffic::TrafficError;
use crate::verdict::{DesignError, Unidentified};

/// Why a walk could not be walked to its end.
#[derive(Debug, Error)]
pub enum WalkError {
    /// The scenario is wrong.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A claim cannot be decided.
    #[error("{place}: {source}")]
    Design {
        /// Where it is claimed.
        place: String,
        /// Why not.
        source: DesignError,
    },
    /// A claim could not tell right from wrong.
    #[error("{place}: {source}")]
    Unidentified {
        /// Where it is claimed.
        place: String,
        /// Why not.
        source: Unidentified,
    },
    /// No claim splits versions.
    #[error("{}: no claim splits versions, so that there is nothing to calibrate", .0.display())]
    NothingToCalibrate(PathBuf),
    /// Mutants were to be brought about elsewhere.
    #[error("mutants are brought about, and control planes installed, on a throwaway cluster alone")]
    NotThrowaway,
    /// The cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The mesh failed.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// No sample could be taken.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
}

impl WalkError {
    /// The link of the chain that broke.
    #[must_use]
    pub const fn link(&self) -> Link {
        match self {
            Self::Scenario(_) | Self::Design { .. } | Self::Unidentified { .. } | Self::NothingToCalibrate(_) => {
                Link::Manifest
            }
            Self::Mesh(MeshError::NotConverged { .. } | MeshError::NoSidecar { .. } | MeshError::Blind) => {
                Link::Delivery
            }
            Self::Cluster(error)
            | Self::Mesh(MeshError::Cluster(error))
            | Self::Traffic(TrafficError::Driver(error)) => match error {
                ClusterError::Rejected { .. }
                | ClusterError::UnknownKind { .. }
                | ClusterError::UnknownTarget { .. }
                | ClusterError::Outside { .. }
                | ClusterError::NotEmbedded { .. } => Link::Manifest,
                ClusterError::Wait(_) => Link::Rollout,
                _ => Link::Environment,
            },
            Self::NotThrowaway | Self::Mesh(_) | Self::Traffic(_) => Link::Environment,
        }
    }

    /// Whether the scenario or its manifests are to blame, and not the environment.
    #[must_use]
    pub const fn is_bad_input(&self) -> bool {
        match self {
            Self::Scenario(_)
            | Self::Design { .. }
            | Self::Unidentified { .. }
            | Self::NothingToCalibrate(_)
            | Self::NotThrowaway
            | Self::Traffic(TrafficError::NoPopulation(_)) => true,
            Self::Cluster(error)
            | Self::Mesh(MeshError::Cluster(error))
            | Self::Traffic(TrafficError::Driver(error)) => error.is_bad_input(),
            Self::Mesh(error) => matches!(
                error,
                MeshError::NoSidecar { .. }
                    | MeshError::Generate { .. }
                    | MeshError::OtherIstioctl { .. }
                    | MeshError::Rejected { .. }
            ),
        }
    }
}
