use std::collections::BTreeMap;

use super::live::{Kind, Live};
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
}

/// The client with this pod name, among the applied objects.
pub fn client_of(live: &Live, pod: &str) -> Option<Client> {
    let object = live.get(Kind::Pod, pod)?;
    let Pod { namespace, labels, sidecar, .. } = pod_of(live, object, &Naming::default());
    Some(Client { namespace, labels, sidecar })
}
