use std::path::PathBuf;

use thiserror::Error;

use crate::cluster::wait::WaitError;
use crate::cluster::{ClusterError, TunnelError};
use crate::routing::RouteDiff;

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
    #[error("the client's sidecar did not converge within {seconds} s:\n{}", mismatch.lines().join("\n"))]
    NotConverged {
        /// How long was waited.
        seconds: u64,
        /// What is missing, and what is there instead.
        mismatch: Mismatch,
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

/// What keeps a sidecar from being converged.
#[derive(Debug, Default)]
pub struct Mismatch {
    /// How its routes differ from those that the manifests ask for.
    pub differences: Vec<RouteDiff>,
    /// Why the sidecar could not be asked the last time.
    pub unread: Option<Box<MeshError>>,
    /// What of its configuration the sidecar has rejected, in its own words.
    pub rejected: Vec<String>,
}

impl Mismatch {
    /// For people, line by line.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let unread = self.unread.iter().map(ToString::to_string);
        let rejected = self.rejected.iter().map(|reason| format!("the sidecar rejected {reason}"));
        RouteDiff::lines(&self.differences).into_iter().chain(unread).chain(rejected).collect()
    }
}
