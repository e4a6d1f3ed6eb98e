use crate::scenario::IngressGateway;

/// What sends requests besides the client pod, and has routes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Routed {
    /// A gateway, with a host that populations call through it.
    Gateway(IngressGateway, String),
    /// The sidecar of another pod.
    Pod(String),
    /// The sidecar of a server that sends requests on to a service.
    Server {
        /// The namespace of the pod.
        namespace: String,
        /// The name of the pod.
        pod: String,
        /// The service, as the pod addresses it.
        host: String,
        /// The port of the service.
        port: u16,
    },
}
