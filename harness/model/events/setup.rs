use displaydoc::Display;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

use super::traffic::Seconds;
use crate::scenario::Origin;

/// The path of a run's requests: from which client to which service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficPath {
    /// The namespace.
    pub namespace: String,
    /// The client's pod.
    pub client: String,
    /// The service's host and port.
    pub service: String,
    /// What each request is, where it is a connection of its own: a sentence.
    pub connections: Option<String>,
}

/// How an addon of Istio is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddonAccess {
    /// By a port-forward, for as long as the cluster is there.
    Forward {
        /// The command.
        command: String,
        /// The address to open while the command runs.
        address: String,
    },
    /// It is not there: why.
    None(String),
}

impl AddonAccess {
    /// The access in words, after the addon's name: `COMMAND, then ADDRESS`.
    pub fn words(&self) -> String {
        match self {
            Self::Forward { command, address } => format!("{command}, then {address}"),
            Self::None(reason) => format!("not available: {reason}"),
        }
    }
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceFile {
    /// The path.
    pub path: String,
    /// The SHA-256 of the content, in hexadecimal.
    pub sha256: String,
}

/// The versions of the environment. Unknown versions are null.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The version of Kubernetes.
    pub kubernetes: Option<String>,
    /// The version of Istio.
    pub istio: Option<String>,
    /// The version of Envoy in the client's sidecar.
    pub envoy: Option<String>,
    /// The number of the cluster's nodes, where it can be seen.
    #[serde(default)]
    pub nodes: Option<u32>,
    /// The digests of images, as the container runtime reports them.
    pub images: BTreeMap<String, String>,
}

/// The routing of the client's requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Routing {
    /// The routes, the clusters and their endpoints, in words.
    pub lines: Vec<String>,
    /// What can cause differences from the routes that the manifests ask for and was therefore not compared: what is not modelled, with its
    /// position, and settings of the mesh.
    #[serde(default)]
    pub not_compared: Vec<String>,
    /// The rules that applied, such as `VirtualService vs-hello`.
    pub rules: Vec<String>,
    /// Whether a route splits requests.
    pub traffic_shifting: bool,
    /// Whether a route injects faults.
    pub fault_injection: bool,
    /// When each of several client pods had the routes, the first one first. Empty where there is one alone.
    #[serde(default)]
    pub clients: Vec<ClientConvergence>,
}

/// When one of several client pods had the routes that the manifests ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientConvergence {
    /// The pod.
    pub pod: String,
    /// The time since the rollouts were complete, in seconds. Pods are asked one after another, so that it is an upper bound.
    #[serde(with = "Seconds")]
    #[schemars(with = "f64")]
    pub took: Duration,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// The name of the Deployment.
    pub name: String,
    /// The version that it answers with, as far as the manifests tell.
    pub version: String,
    /// The image.
    pub image: String,
    /// The pods.
    pub pods: Vec<String>,
    /// The number of ready pods.
    pub ready: usize,
    /// Whether all pods have a sidecar.
    pub sidecar: bool,
}

/// An effect of an object outside of the run's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Display)]
#[displaydoc("{place}: {id} {effect}")]
pub struct Reach {
    /// Where the object is written.
    pub place: Origin,
    /// `Kind/name` of the object.
    pub id: String,
    /// The effect.
    pub effect: String,
}
