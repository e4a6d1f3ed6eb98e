use std::collections::BTreeMap;

use super::live::{Kind, Live};
use super::mesh::Client;

const NAMESPACE: &str = "istio-injection";
const REVISION: &str = "istio.io/rev";
const POD: &str = "sidecar.istio.io/inject";

/// The client that a pod is, among the applied objects.
#[must_use]
pub fn client_of(live: &Live, pod: &str) -> Option<Client> {
    let object = live.get(Kind::Pod, pod)?;
    let metadata = &object.manifest.object.metadata;
    let labels = metadata.labels.clone().unwrap_or_default();
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let host_network = object.manifest.at("/spec/hostNetwork") == Some(&serde_json::Value::Bool(true));
    let sidecar = !host_network && is_injected(&of_namespace(live, &object.namespace), &labels, &annotations);
    Some(Client { namespace: object.namespace.clone(), labels, sidecar })
}

/// The labels of a namespace. The run's own is labelled for injection by the run, unless a manifest says otherwise.
pub(super) fn of_namespace(live: &Live, namespace: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if namespace == live.namespace() {
        labels.insert(NAMESPACE.to_owned(), "enabled".to_owned());
    }
    let written = live.of(Kind::Namespace).find(|object| object.manifest.name() == namespace);
    labels.extend(written.and_then(|object| object.manifest.object.metadata.labels.clone()).into_iter().flatten());
    labels
}

/// Whether Istio's webhooks put a sidecar into a pod: where the namespace asks for it and the pod does not refuse, or where the namespace says
/// nothing and the pod asks for it. A label of the pod counts before its annotation.
pub(super) fn is_injected(
    namespace: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> bool {
    let pod = labels.get(POD).or_else(|| annotations.get(POD)).map(String::as_str);
    let asked = match namespace.get(NAMESPACE).map(String::as_str) {
        Some("enabled") => true,
        Some(_) => return false,
        None => namespace.contains_key(REVISION),
    };
    if asked {
        pod != Some("false")
    } else {
        // only a label of the pod makes the API server ask the webhook
        labels.get(POD).map(String::as_str) == Some("true") || labels.contains_key(REVISION) && pod != Some("false")
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[rstest]
    #[case::namespace_asks(&[(NAMESPACE, "enabled")], &[], &[], true)]
    #[case::pod_refuses(&[(NAMESPACE, "enabled")], &[(POD, "false")], &[], false)]
    #[case::pod_refuses_by_annotation(&[(NAMESPACE, "enabled")], &[], &[(POD, "false")], false)]
    #[case::label_counts_before_annotation(&[(NAMESPACE, "enabled")], &[(POD, "true")], &[(POD, "false")], true)]
    #[case::namespace_refuses(&[(NAMESPACE, "disabled")], &[(POD, "true")], &[], false)]
    #[case::nobody_asks(&[], &[], &[], false)]
    #[case::pod_asks(&[], &[(POD, "true")], &[], true)]
    #[case::revision(&[(REVISION, "canary")], &[], &[], true)]
    #[case::pod_asks_by_annotation_alone(&[], &[], &[(POD, "true")], false)]
    fn pods_are_injected_by_labels(
        #[case] namespace: &[(&str, &str)],
        #[case] pod: &[(&str, &str)],
        #[case] annotations: &[(&str, &str)],
        #[case] injected: bool,
    ) {
        assert_eq!(is_injected(&labels(namespace), &labels(pod), &labels(annotations)), injected);
    }
}
