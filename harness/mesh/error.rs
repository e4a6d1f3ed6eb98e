use std::path::PathBuf;

use thiserror::Error;

use crate::cluster::wait::WaitError;
use crate::cluster::{ClusterError, TunnelError};
use crate::routing::RouteDiff;
use crate::scenario::{Addon, IstioVersion, Origin};

/// An error of the mesh.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what variants without a comment and all fields mean")]
#[non_exhaustive]
pub enum MeshError {
    /// `istioctl` cannot be run or fails.
    #[error("{} failed: {reason}", istioctl.display())]
    Istioctl { istioctl: PathBuf, reason: String },
    /// A file with CRDs cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Definitions { path: PathBuf, reason: String },
    #[error("{} has version {found}, but {asked} was requested", istioctl.display())]
    OtherIstioctl { istioctl: PathBuf, found: String, asked: IstioVersion },
    /// A scenario names an addon of which there is no manifest.
    #[error("{origin}: there is no manifest of {addon} for Istio {version}: {} does not exist", path.display())]
    NoAddon { origin: Origin, addon: Addon, version: IstioVersion, path: PathBuf },
    #[error("Istio is not installed on this cluster: no Deployment has the label app=istiod")]
    NotInstalled,
    #[error("the client pod {pod} has no sidecar")]
    NoSidecar { pod: String },
    #[error("the pod {pod} has a sidecar although the scenario says `sidecar: false`")]
    HasSidecar { pod: String },
    #[error("no ready pod has the labels that {gateway} selects: {selector}")]
    NoGatewayPods { gateway: String, selector: String },
    #[error("no Service in {namespace} that selects the pods of {gateway} has this port")]
    NoGatewayPort { gateway: String, namespace: String },
    /// Requests cannot come through gateways.
    #[error("{0} cannot be used here")]
    NoGateway(String),
    #[error("cannot read the configuration of the sidecar of {pod}: {source}")]
    Unreadable { pod: String, source: EnvoyError },
    /// The client's sidecar or a gateway did not get the configuration that the manifests ask for.
    #[error("{who} did not converge within {seconds} s:\n{}", mismatch.lines().join("\n"))]
    NotConverged { who: String, seconds: u64, mismatch: Mismatch },
    /// The sidecar had the routes of a stage before the stage was applied, although the stage changes them.
    #[error(
        "the client's sidecar had the routes of this stage before the stage was applied, although the stage changes them: something else changes this mesh, or the change does not show in the routes"
    )]
    Blind,
    /// The cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The tunnel to the sidecar failed.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// A wait timed out or failed.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// Why a sidecar has not converged.
#[derive(Debug, Default)]
pub struct Mismatch {
    /// The differences between the expected routes and the sidecar's.
    pub differences: Vec<RouteDiff>,
    /// The error of the last attempt to read the sidecar's configuration.
    pub unread: Option<Box<MeshError>>,
    /// The resources that the sidecar has rejected, each with Envoy's reason.
    pub rejected: Vec<String>,
}

impl Mismatch {
    /// The reasons, one per line.
    pub fn lines(&self) -> Vec<String> {
        let unread = self.unread.iter().map(ToString::to_string);
        let rejected = self.rejected.iter().map(|reason| format!("the sidecar rejected {reason}"));
        RouteDiff::lines(&self.differences).into_iter().chain(unread).chain(rejected).collect()
    }
}

/// Why Envoy's configuration cannot be read.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what variants without a comment and all fields mean")]
#[non_exhaustive]
pub enum EnvoyError {
    #[error("it is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it has no route for {0} yet")]
    NoRoute(String),
    /// A route leads to a cluster that is not a service.
    #[error("it has a route to `{0}`, which is {what}", what = of_cluster(.0))]
    NoService(String),
    /// A route has a match or an action that is not supported.
    #[error("it has an unsupported {what}: {json}")]
    Unsupported { what: &'static str, json: String },
}

/// What a cluster is that is not a service. Istio names one of them where a destination has no host, which its webhook refuses.
fn of_cluster(name: &str) -> &'static str {
    if name == "UnknownService" { "Istio's name for a destination without a host" } else { "not a service" }
}
