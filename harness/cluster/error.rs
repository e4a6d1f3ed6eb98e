use std::path::PathBuf;
use std::time::Duration;

use kube::core::Status;
use testcontainers::TestcontainersError;
use thiserror::Error;

use super::run_id::RunId;
use super::wait::WaitError;
use super::workload_image::ImageError;
use crate::events::Reach;
use crate::scenario::{Origin, UnresolvedKind};

/// What can go wrong with a cluster and the objects in it.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// No container engine answers.
    #[error("no Docker engine answers: {0}")]
    NoEngine(String),
    /// Something outside of this process does not answer in time.
    #[error("{who} did not answer within {} s", limit.as_secs())]
    NoAnswer {
        /// Who.
        who: String,
        /// How long was waited.
        limit: Duration,
    },
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
    /// A cluster cannot be marked as one that is left on purpose.
    #[error("the cluster of run {run} is left, but not marked as kept: {reason}")]
    Keep {
        /// The run.
        run: RunId,
        /// What the engine said.
        reason: String,
    },
    /// The record of a run does not say which cluster its namespace is on.
    #[error("the record of run {0} does not say on which cluster its namespace is; an earlier version wrote it")]
    UnknownCluster(RunId),
    /// A kubeconfig leads to another cluster than when the run began.
    #[error("the context `{context}` led to {server}, and leads to {found} now, or trusts other certificates")]
    OtherCluster {
        /// The context.
        context: String,
        /// The API server's address when the run began.
        server: String,
        /// The address now.
        found: String,
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
    /// The scenario deletes an object whose kind cannot be told.
    #[error("{place}: {source}")]
    Target {
        /// Where the scenario names it.
        place: Origin,
        /// Why not.
        source: UnresolvedKind,
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
    /// The API server did not process a request for a reason that does not lie in the object: no rights, an admission webhook that does
    /// not answer, overload.
    #[error("{origin}: the API server failed to process {id}: {} ({})", status.message, status.code)]
    Unprocessed {
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
    /// Objects would change something outside of the run's namespace.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Reaches(Vec<Reach>),
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
    /// Where in the scenario or its manifests, if that is to blame.
    #[must_use]
    pub const fn place(&self) -> Option<&Origin> {
        match self {
            Self::UnknownKind { origin: place, .. }
            | Self::Target { place, .. }
            | Self::Rejected { origin: place, .. }
            | Self::Unprocessed { origin: place, .. }
            | Self::NotEmbedded { origin: place, .. }
            | Self::Outside { origin: place, .. } => Some(place),
            Self::Reaches(reach) => match reach.as_slice() {
                [first, ..] => Some(&first.place),
                [] => None,
            },
            _ => None,
        }
    }

    /// Wraps a client error with what was being done.
    pub(crate) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { doing: doing.into(), source: Box::new(source) }
    }

    /// What an answer of the API server to a request about an object means: the object was rejected, or the API server could not
    /// process the request.
    pub(crate) fn answered(origin: Origin, id: String, status: Box<Status>) -> Self {
        if is_about_object(&status) {
            Self::Rejected { origin, id, status }
        } else {
            Self::Unprocessed { origin, id, status }
        }
    }

    /// Whether the scenario or its manifests are to blame, and not the environment.
    #[must_use]
    pub const fn is_bad_input(&self) -> bool {
        matches!(
            self,
            Self::UnknownKind { .. }
                | Self::Target { .. }
                | Self::Rejected { .. }
                | Self::Outside { .. }
                | Self::Reaches(_)
                | Self::NotEmbedded { .. }
        )
    }
}

/// Whether an answer of the API server is about the object itself, so that the same object is answered the same on a healthy cluster.
pub(crate) fn is_about_object(status: &Status) -> bool {
    let said = |words: &str| status.message.contains(words);
    // an admission webhook chooses the code of its denial
    let denied = said("admission webhook") && said("denied the request")
        || said("ValidatingAdmissionPolicy") && said("denied request")
        || said("violates PodSecurity");
    match status.code {
        // no such namespace or object, a body that is too large, and what does not fit the schema
        400 | 404 | 413 | 422 => true,
        // a field that the schema does not have is answered as an internal error where the object is merged
        500 => denied || said("failed to create typed patch object"),
        _ => denied,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::malformed(400, "BadRequest", "strict decoding error: unknown field \"spec.x\"", true)]
    #[case::invalid(422, "Invalid", "Service \"s\" is invalid: spec.ports: Required value", true)]
    #[case::unknown_field(
        500,
        "",
        "failed to create typed patch object (n/s; /v1, Kind=Service): .spec.x: field not declared in schema",
        true
    )]
    #[case::no_namespace(404, "NotFound", "namespaces \"other\" not found", true)]
    #[case::too_large(413, "RequestEntityTooLarge", "the request is too large", true)]
    #[case::denied_by_webhook(
        403,
        "Forbidden",
        "admission webhook \"validation.istio.io\" denied the request: no hosts",
        true
    )]
    #[case::denied_with_any_code(
        500,
        "",
        "admission webhook \"x.example.com\" denied the request without explanation",
        true
    )]
    #[case::denied_by_policy(
        403,
        "Forbidden",
        "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
        true
    )]
    #[case::pod_security(
        403,
        "Forbidden",
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": privileged",
        true
    )]
    #[case::webhook_down(
        500,
        "InternalError",
        "Internal error occurred: failed calling webhook \"validation.istio.io\": failed to call webhook: Post \"https://istiod.istio-system.svc:443/validate?timeout=10s\": context deadline exceeded",
        false
    )]
    #[case::no_credentials(401, "Unauthorized", "Unauthorized", false)]
    #[case::no_rights(
        403,
        "Forbidden",
        "services \"s\" is forbidden: User \"ci\" cannot patch resource \"services\"",
        false
    )]
    #[case::quota(403, "Forbidden", "pods \"p\" is forbidden: exceeded quota: q", false)]
    #[case::conflict(409, "Conflict", "the object has been modified", false)]
    #[case::busy(429, "TooManyRequests", "too many requests", false)]
    #[case::internal(500, "InternalError", "etcdserver: no leader", false)]
    #[case::unavailable(503, "ServiceUnavailable", "the server is currently unable to handle the request", false)]
    #[case::timeout(504, "Timeout", "request did not complete within the allotted timeout", false)]
    fn only_what_is_said_about_the_object_is_bad_input(
        #[case] code: u16,
        #[case] reason: &str,
        #[case] message: &str,
        #[case] expected: bool,
    ) {
        let status = Status::failure(message, reason).with_code(code).boxed();
        let origin = Origin::new("service.yaml", 1, 1);
        let error = ClusterError::answered(origin, "Service/s".to_owned(), status);
        assert_eq!(error.is_bad_input(), expected, "{error}");
    }
}
