use std::collections::BTreeMap;

use super::injection::{is_injected, namespace_labels};
use super::live::{Kind, Live};

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
#[must_use]
pub fn client_of(live: &Live, pod: &str) -> Option<Client> {
    let object = live.get(Kind::Pod, pod)?;
    let metadata = &object.manifest.object.metadata;
    let labels = metadata.labels.clone().unwrap_or_default();
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let host_network = object.manifest.at("/spec/hostNetwork") == Some(&serde_json::Value::Bool(true));
    let sidecar = !host_network && is_injected(&namespace_labels(live, &object.namespace), &labels, &annotations);
    Some(Client { namespace: object.namespace.clone(), labels, sidecar })
}
