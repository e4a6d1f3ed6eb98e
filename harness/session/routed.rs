use crate::scenario::IngressGateway;

/// What sends requests besides the client pod, and has routes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Routed {
    /// A gateway, with a host that populations call through it.
    Gateway(IngressGateway, String),
    /// The sidecar of another pod.
    Pod(String),
}
