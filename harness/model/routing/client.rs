use std::collections::BTreeMap;

use super::live::{Kind, Live, Object};
use super::placement::Placement;
use super::service::{Naming, Pod, pod_of};

/// The pod that sends requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// Whether the pod has a sidecar. Without one, no rule applies to its requests.
    pub sidecar: bool,
    /// Where the pod runs.
    pub placement: Placement,
}

impl Client {
    /// A pod with a sidecar, somewhere in the cluster.
    pub fn new(namespace: &str, labels: BTreeMap<String, String>) -> Self {
        Self { namespace: namespace.to_owned(), labels, sidecar: true, placement: Placement::default() }
    }
}

/// The client with this pod name in the namespace of the scenario, among the applied objects.
pub fn client_of(live: &Live, pod: &str) -> Option<Client> {
    client_in(live, live.namespace(), pod)
}

/// The client with this pod name in a namespace, among the applied objects.
pub fn client_in(live: &Live, namespace: &str, pod: &str) -> Option<Client> {
    let is_client = |object: &&Object| object.manifest.name() == pod && object.namespace == namespace;
    let object = live.of(Kind::Pod).find(is_client)?;
    Some(Client::from(&pod_of(live, object, &Naming::default())))
}

impl From<&Pod> for Client {
    fn from(pod: &Pod) -> Self {
        let Pod { namespace, labels, sidecar, placement, .. } = pod.clone();
        Self { namespace, labels, sidecar, placement }
    }
}
