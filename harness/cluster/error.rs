use std::path::PathBuf;

use kube::core::Status;
use testcontainers_modules::testcontainers::TestcontainersError;
use thiserror::Error;

use super::wait::WaitError;
use crate::scenario::Origin;
use crate::workload::ImageError;

/// What can go wrong with a cluster and the objects in it.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No container engine answers.
    #[error("no Docker engine answers: {0}")]
    NoEngine(String),
    /// The node image is neither in the engine nor to be had.
    #[error("the node image {image} is not there{}", if reason.is_empty() { String::new() } else { format!(": {reason}") })]
    NoImage {
        /// Name and tag.
        image: String,
        /// What the engine said, where it was asked to fetch it.
        reason: String,
    },
    /// The image cache lacks a set.
    #[error("the image cache has no set `{set}` ({}){}", cache.display(), if known.is_empty() { String::new() } else { format!("; it has {}", known.join(", ")) })]
    NoSet {
        /// The set.
        set: String,
        /// The cache.
        cache: PathBuf,
        /// The sets that are there.
        known: Vec<String>,
    },
    /// A registry does not give an image.
    #[error("cannot pull {image}: {reason}")]
    Pull {
        /// Its name and tag.
        image: String,
        /// What the engine said.
        reason: String,
    },
    /// The description of a set cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    BadSet {
        /// The description.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The workload image cannot be written.
    #[error("cannot pack the workload image: {0}")]
    WorkloadImage(#[from] ImageError),
    /// The engine refused or lost the node.
    #[error("cannot start the node: {0}")]
    Start(#[source] Box<TestcontainersError>),
    /// The node ended by itself.
    #[error("the node ended while starting; its last words: {0}")]
    NodeEnded(String),
    /// The node cannot be removed.
    #[error("cannot remove container {id}: {reason}")]
    Remove {
        /// The container.
        id: String,
        /// What the engine said.
        reason: String,
    },
    /// The disk is too full for a cluster.
    #[error("only {free} MB are free on the disk of {}, and a cluster needs {needed} MB", path.display())]
    NoDisk {
        /// Where.
        path: PathBuf,
        /// How much there is.
        free: u64,
        /// How much is needed.
        needed: u64,
    },
    /// A kubeconfig cannot be used.
    #[error("cannot use the kubeconfig: {0}")]
    Kubeconfig(String),
    /// The API server cannot be asked.
    #[error("the API server does not answer while {doing}: {source}")]
    Api {
        /// What was being done.
        doing: String,
        /// The client's error.
        source: Box<kube::Error>,
    },
    /// The cluster knows no such kind.
    #[error("{origin}: the cluster knows no kind `{kind}` in `{api_version}`")]
    UnknownKind {
        /// Where the object is written.
        origin: Origin,
        /// Its kind.
        kind: String,
        /// Its group and version.
        api_version: String,
    },
    /// The scenario deletes an object of a kind that there is not.
    #[error("{place}: the cluster knows no kind `{kind}`")]
    UnknownTarget {
        /// Where the scenario names it.
        place: String,
        /// The kind.
        kind: String,
    },
    /// The API server rejected an object.
    #[error("{origin}: {id} was rejected: {}", status.message)]
    Rejected {
        /// Where the object is written.
        origin: Origin,
        /// `Kind/name`.
        id: String,
        /// What the API server said.
        status: Box<Status>,
    },
    /// The embedded mesh cannot listen.
    #[error("the embedded mesh cannot listen on loopback: {0}")]
    Embedded(String),
    /// The embedded cluster cannot run an image.
    #[error("{origin}: the embedded cluster runs the demo images alone, not `{image}`")]
    NotEmbedded {
        /// The manifest.
        origin: Origin,
        /// The image.
        image: String,
    },
    /// An object would land outside of the run's namespace.
    #[error(
        "{origin}: {id} belongs outside of the namespace `{namespace}`, which an existing cluster is not touched in"
    )]
    Outside {
        /// Where the object is written.
        origin: Origin,
        /// `Kind/name`.
        id: String,
        /// The run's namespace.
        namespace: String,
    },
    /// The namespace is there already, and it is not this run's.
    #[error("the namespace `{0}` is there already and was not made by this run")]
    NamespaceTaken(String),
    /// Something did not come to be in time.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A program in a pod failed.
    #[error("`{command}` in pod {pod} failed: {reason}")]
    Exec {
        /// The command.
        command: String,
        /// The pod.
        pod: String,
        /// Why.
        reason: String,
    },
    /// A record of a run cannot be kept.
    #[error("cannot keep the run's record {}: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl ClusterError {
    /// Wraps a client error with what was being done.
    pub(crate) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { doing: doing.into(), source: Box::new(source) }
    }

    /// Whether the scenario or its manifests are to blame, and not the environment.
    #[must_use]
    pub const fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::UnknownKind { .. }
                | Self::UnknownTarget { .. }
                | Self::Rejected { .. }
                | Self::Outside { .. }
                | Self::NotEmbedded { .. }
        )
    }
}
