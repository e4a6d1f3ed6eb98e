use std::path::PathBuf;

use thiserror::Error;

use crate::cluster::wait::WaitError;
use crate::cluster::{ClusterError, TunnelError};

/// What can go wrong with the mesh.
#[derive(Debug, Error)]
pub enum MeshError {
    /// `istioctl` cannot be run or refuses.
    #[error("{} manifest generate failed: {reason}", istioctl.display())]
    Generate {
        /// The program.
        istioctl: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A file with definitions cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Definitions {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An `istioctl` is of another version than the one that is asked for.
    #[error("{} is of version {found}, not of {asked}", istioctl.display())]
    OtherIstioctl {
        /// The program.
        istioctl: PathBuf,
        /// What it says of itself.
        found: String,
        /// What is asked for.
        asked: String,
    },
    /// The API server rejected a part of Istio.
    #[error("{object} of this version of Istio was rejected: {reason}")]
    Rejected {
        /// `Kind/name`.
        object: String,
        /// What the API server said.
        reason: String,
    },
    /// There is no Istio on the cluster.
    #[error("there is no Istio on this cluster: no Deployment carries the label app=istiod")]
    NotInstalled,
    /// The client pod has no sidecar.
    #[error("the client pod {pod} has no sidecar")]
    NoSidecar {
        /// The pod.
        pod: String,
    },
    /// The sidecar's configuration cannot be read.
    #[error("cannot read the configuration of the sidecar of {pod}: {reason}")]
    Unreadable {
        /// The pod.
        pod: String,
        /// Why.
        reason: String,
    },
    /// The sidecar did not come to what the manifests ask for.
    #[error("the client's sidecar did not converge within {seconds} s:\n{}", difference.join("\n"))]
    NotConverged {
        /// How long was waited.
        seconds: u64,
        /// What is missing (`-`) and what is there instead (`+`).
        difference: Vec<String>,
    },
    /// The sidecar did what a stage asks for before the stage had changed anything.
    #[error(
        "the client's sidecar was routing as this stage asks for before anything was applied, though the stage changes its routes: something else is at work on this mesh, or it is not told apart"
    )]
    Blind,
    /// The cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The tunnel to the sidecar failed.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// Something did not come to be in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
}
