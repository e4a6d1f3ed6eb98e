use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

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
}

/// A file and the SHA-256 of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The file.
    pub path: PathBuf,
    /// In hexadecimal digits.
    pub sha256: String,
}

/// Versions and images of a run's cluster, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// The version of Kubernetes.
    pub kubernetes: Option<String>,
    /// The version of Istio.
    pub istio: Option<String>,
    /// The version of Envoy in the client's sidecar.
    pub envoy: Option<String>,
    /// The images of the pods with their digests.
    pub images: BTreeMap<String, String>,
}

/// The routes of the client's requests to the service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// The routes, the clusters and their endpoints, in words.
    pub lines: Vec<String>,
    /// The rules that decide, such as `VirtualService vs-hello`.
    pub rules: Vec<String>,
    /// Whether a route splits requests.
    pub shifting: bool,
    /// Whether a route injects faults.
    pub fault: bool,
}

/// A workload of the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// The Deployment.
    pub name: String,
    /// The version that it answers with, as far as the manifests tell.
    pub version: String,
    /// Its image.
    pub image: String,
    /// Its pods.
    pub pods: Vec<String>,
    /// How many of them are ready.
    pub ready: usize,
    /// Whether all of them have a sidecar.
    pub sidecar: bool,
}

/// An effect of an object outside of the run's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Where the object is written.
    pub place: Origin,
    /// `Kind/name` of the object.
    pub id: String,
    /// The effect.
    pub effect: String,
}

impl fmt::Display for Reach {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} {}", self.place, self.id, self.effect)
    }
}
