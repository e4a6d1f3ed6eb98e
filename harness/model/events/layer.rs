use displaydoc::Display;

/// The layer between manifests and answers that a failure is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
#[non_exhaustive]
pub enum FailureLayer {
    /// An object was rejected, or does not fit its API.
    #[displaydoc("a manifest was rejected")]
    Manifest,
    /// Pods did not start.
    #[displaydoc("a rollout is stuck")]
    Rollout,
    /// The control plane did not deliver the configuration, or the sidecar rejected it.
    #[displaydoc("the sidecar did not get or take its configuration")]
    Delivery,
    /// A route is missing, or another one comes first.
    #[displaydoc("a route is missing or shadowed")]
    Route,
    /// A subset or service has no endpoints.
    #[displaydoc("there are no endpoints")]
    Endpoints,
    /// The manifests and the mesh agree, and the expectation says something else.
    #[displaydoc("the manifests give something else than the expectation says")]
    Expectation,
    /// A service on the way sends requests on without their headers.
    #[displaydoc("a service on the way does not propagate the headers of requests")]
    Propagation,
    /// No version can be read from responses.
    #[displaydoc("the version cannot be read from the responses")]
    Version,
    /// Requests got no answer: no connection, a closed one, or none in time.
    #[displaydoc("requests got no answer")]
    NoAnswer,
    /// The application answered an error.
    #[displaydoc("the application answered an error")]
    Application,
    /// The routes are as they should be, the share of the answers is not.
    #[displaydoc("the share is wrong")]
    Share,
    /// Errors or slow answers are more frequent than claimed.
    #[displaydoc("errors or slow answers are more frequent than claimed")]
    ServiceLevel,
    /// Requests failed while the stage was applied.
    #[displaydoc("requests failed during the change")]
    Transition,
    /// Objects were left behind.
    #[displaydoc("objects were left behind")]
    Leftovers,
    /// The engine, the cluster or the mesh itself.
    #[displaydoc("the environment failed")]
    Environment,
}
