use std::path::PathBuf;
use std::time::Duration;

use kube::core::Status;
use testcontainers::TestcontainersError;
use thiserror::Error;

use super::load_error::LoadError;
use super::run_id::RunId;
use super::wait::{WaitError, reason};
use super::workload_image::ImageError;
use crate::events::Reach;
use crate::scenario::{Origin, UnresolvedKind};

/// Why stand-ins cannot answer as a claim asks for.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what variants and fields mean")]
#[non_exhaustive]
pub enum NotEmbedded {
    #[error(
        "a stand-in for {image} cannot state the version `{version}`: no response was found in which `version: {rule}` reads it"
    )]
    Version { image: String, version: String, rule: String },
    #[error(
        "a stand-in for {0} does not describe its messages by reflection; name a descriptor set with `descriptors`"
    )]
    Descriptors(String),
    #[error("the embedded mesh runs no rollout controllers, and the scenario needs {0}")]
    Controller(String),
    #[error("the embedded mesh has no autoscaler that would start these pods")]
    Growth,
    #[error(
        "the manifests route these requests to stand-ins, which answer with status 200 only; the claim needs {needed}"
    )]
    Status { needed: String },
}

/// An error of a cluster or of the objects in it.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the messages say what variants without a comment and all fields mean")]
#[non_exhaustive]
pub enum ClusterError {
    #[error("no Docker engine answers: {0}")]
    NoEngine(String),
    /// A server or the container engine did not answer in time.
    #[error("{who} did not answer within {} s", limit.as_secs())]
    NoAnswer { who: String, limit: Duration },
    /// The container engine does not have the node image and cannot pull it.
    #[error("the node image {image} is not available{}", if reason.is_empty() { String::new() } else { format!(": {reason}") })]
    NoImage { image: String, reason: String },
    /// The image cache does not have a set.
    #[error("the image cache has no set `{set}` ({}){}", cache.display(), if known.is_empty() { String::new() } else { format!("; it has {}", known.join(", ")) })]
    NoSet { set: String, cache: PathBuf, known: Vec<String> },
    #[error("cannot pull {image}: {reason}")]
    Pull { image: String, reason: String },
    /// An image cannot be loaded into a throwaway cluster.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A set in the image cache is not valid.
    #[error("cannot read {}: {reason}", path.display())]
    BadSet { path: PathBuf, reason: String },
    #[error("cannot pack the workload image: {0}")]
    WorkloadImage(#[from] ImageError),
    #[error("cannot start the node: {0}")]
    Start(#[source] Box<TestcontainersError>),
    /// The node's container exited during its start.
    #[error("the node exited during its start; end of its log: {0}")]
    NodeEnded(String),
    /// The node's container does not run any more, and not because the run has ended.
    #[error("the node of run {run} {what}")]
    NodeLost { run: RunId, what: String },
    #[error("the API server has not been ready for {} s: {reason}", limit.as_secs())]
    ApiLost { limit: Duration, reason: String },
    /// Pods wait for a control plane that does not come.
    #[error("no istiod has been ready in {namespace} for {} s, and new pods need one for their sidecars: {reason}", limit.as_secs())]
    NoIstiod { namespace: String, limit: Duration, reason: String },
    /// The kubelet of no node reports its state.
    #[error("no node of the cluster runs pods any more; {0}")]
    NoNode(String),
    /// The network between the nodes of a throwaway cluster cannot be made or used.
    #[error("cannot connect the nodes by the network {name}: {reason}")]
    Network { name: String, reason: String },
    #[error("cannot remove network {name}: {reason}")]
    RemoveNetwork { name: String, reason: String },
    #[error("cannot remove container {id}: {reason}")]
    Remove { id: String, reason: String },
    /// A kept cluster cannot be marked as kept, so that the next sweep would remove it.
    #[error("the cluster of run {run} is kept, but cannot be marked as kept: {reason}")]
    Keep { run: RunId, reason: String },
    /// The record of a run does not name the cluster of its namespace.
    #[error("the record of run {0} does not name the cluster of its namespace: an earlier version wrote it")]
    UnknownCluster(RunId),
    /// Neither the container engine nor the cache folder knows a run that is to be swept.
    #[error("there is no run `{0}`: no container and no record in the cache folder has this id")]
    NoRun(RunId),
    /// A kubeconfig context refers to another cluster than at the start of the run.
    #[error("the context `{context}` referred to {server}; now it refers to {found} or trusts other certificates")]
    OtherCluster { context: String, server: String, found: String },
    #[error("only {free} MB are free on the disk of {}, and a cluster needs {needed} MB", path.display())]
    NoDisk { path: PathBuf, free: u64, needed: u64 },
    #[error("this process may open {limit} files and connections at once, and a run needs {needed}")]
    FewFiles { limit: u64, needed: u64 },
    #[error("cannot use the kubeconfig: {0}")]
    Kubeconfig(String),
    /// This process was to act as a pod of the cluster.
    #[error("this process runs in no pod: {reason}")]
    NoPod { reason: String },
    /// An object was to be changed where nothing is.
    #[error("{0} is not changed from within the cluster")]
    NotChanged(String),
    /// A request to the API server failed.
    #[error("{doing} failed at the API server: {}", reason(source))]
    Api { doing: String, source: Box<kube::Error> },
    #[error("{origin}: the cluster has no kind `{kind}` in `{api_version}`")]
    UnknownKind { origin: Origin, kind: String, api_version: String },
    /// The scenario deletes an object whose kind is unknown or ambiguous.
    #[error("{place}: {source}")]
    Target { place: Origin, source: UnresolvedKind },
    /// The API server rejected an object.
    #[error("{origin}: {id} was rejected: {}", status.message)]
    Rejected { origin: Origin, id: String, status: Box<Status> },
    /// The API server rejected an object of software that is installed.
    #[error("{object} of {what} was rejected: {reason}")]
    NotInstallable { object: String, what: String, reason: String },
    /// The API server did not process a request for a reason other than the object: missing permissions, an admission webhook that does not
    /// answer, overload.
    #[error("{origin}: the API server failed to process {id}: {} ({})", status.message, status.code)]
    Unprocessed { origin: Origin, id: String, status: Box<Status> },
    #[error("the embedded mesh cannot listen on loopback: {0}")]
    Embedded(String),
    /// The embedded mesh cannot decide a claim.
    #[error("{origin}: {source}")]
    NotEmbedded { origin: Origin, source: NotEmbedded },
    /// An object is outside of the run's namespace.
    #[error(
        "{origin}: {id} is outside of the namespace `{namespace}`; on an existing cluster, nothing else is changed"
    )]
    Outside { origin: Origin, id: String, namespace: String },
    /// Objects would change something outside of the run's namespace.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Reaches(Vec<Reach>),
    #[error("the namespace `{0}` already exists and was not created by this run")]
    NamespaceTaken(String),
    /// The cluster does not have a namespace.
    #[error("the cluster has no namespace `{0}`")]
    NoNamespace(String),
    /// A wait timed out or failed.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A program in a pod failed.
    #[error("`{command}` in pod {pod} failed: {reason}")]
    Exec { command: String, pod: String, reason: String },
    /// A file of a run cannot be written, read or removed.
    #[error("cannot access the run's file {}: {source}", path.display())]
    Record { path: PathBuf, source: std::io::Error },
}

impl ClusterError {
    /// The place in the scenario or its manifests that caused the error, if any.
    pub const fn place(&self) -> Option<&Origin> {
        match self {
            Self::UnknownKind { origin: place, .. }
            | Self::Target { place, .. }
            | Self::Rejected { origin: place, .. }
            | Self::Unprocessed { origin: place, .. }
            | Self::NotEmbedded { origin: place, .. }
            | Self::Outside { origin: place, .. } => Some(place),
            Self::Load(error) => error.place(),
            Self::Reaches(reach) => match reach.as_slice() {
                [first, ..] => Some(&first.place),
                [] => None,
            },
            _ => None,
        }
    }

    /// Whether nothing can be asked of the cluster any more.
    pub(crate) const fn is_silence(&self) -> bool {
        matches!(self, Self::NodeLost { .. } | Self::ApiLost { .. })
    }

    /// Whether the account lacks the right to make a request to the API server.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 403))
    }

    /// Wraps an error of the client with the operation.
    pub(crate) fn api(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { doing: doing.into(), source: Box::new(source) }
    }

    /// The error for a failure response to a request about an object: rejected or unprocessed.
    pub(crate) fn answered(origin: Origin, id: String, status: Box<Status>) -> Self {
        if is_about_object(&status) {
            Self::Rejected { origin, id, status }
        } else {
            Self::Unprocessed { origin, id, status }
        }
    }

    /// Whether the scenario or its manifests caused the error, and not the environment.
    pub const fn is_bad_input(&self) -> bool {
        match self {
            Self::Load(error) => error.is_bad_input(),
            Self::UnknownKind { .. }
            | Self::Target { .. }
            | Self::Rejected { .. }
            | Self::NotInstallable { .. }
            | Self::Outside { .. }
            | Self::Reaches(_)
            | Self::NotEmbedded { .. }
            | Self::NoNamespace(_)
            | Self::NoRun(_) => true,
            _ => false,
        }
    }
}

/// Whether a failure response is about the object itself, so that a healthy cluster would also reject it.
pub(super) fn is_about_object(status: &Status) -> bool {
    let said = |words: &str| status.message.contains(words);
    // an admission webhook can deny with any code
    let denied = said("admission webhook") && said("denied the request")
        || said("ValidatingAdmissionPolicy") && said("denied request")
        || said("violates PodSecurity");
    match status.code {
        // the namespace or object does not exist, the body is too large, or the object does not match the schema
        400 | 404 | 413 | 422 => true,
        // server-side apply reports unknown fields as an internal error
        500 => denied || said("failed to create typed patch object"),
        _ => denied,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_response_of_the_api_server_is_its_message() {
        let status = Status::failure("pods is forbidden: User \"ci\" cannot list pods", "Forbidden").with_code(403);
        let error = ClusterError::api("listing every Pod")(kube::Error::Api(status.clone().boxed()));
        let message = "pods is forbidden: User \"ci\" cannot list pods";
        assert_eq!(error.to_string(), format!("listing every Pod failed at the API server: {message}"));
        let blank = kube::Error::Api(Status { message: String::new(), ..status }.boxed());
        assert_eq!(super::reason(&blank), "status 403 Forbidden");
        let failure =
            crate::cluster::wait::Failure::Api(Box::new(kube::Error::Api(Status::failure(message, "").boxed())));
        assert_eq!(failure.to_string(), message);
    }

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
    fn only_responses_about_the_object_are_bad_input(
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
