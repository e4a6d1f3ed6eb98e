use std::collections::BTreeMap;

use super::live::{Kind, Live};

const NAMESPACE: &str = "istio-injection";
const REVISION: &str = "istio.io/rev";
const POD: &str = "sidecar.istio.io/inject";

/// The labels of a namespace. A run labels its namespace for injection, unless a manifest sets another value.
pub(super) fn namespace_labels(live: &Live, namespace: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    if namespace == live.namespace() {
        labels.insert(NAMESPACE.to_owned(), "enabled".to_owned());
    }
    let written = live.of(Kind::Namespace).find(|object| object.manifest.name() == namespace);
    labels.extend(written.and_then(|object| object.manifest.object.metadata.labels.clone()).into_iter().flatten());
    labels
}

/// Whether Istio's webhooks inject a sidecar into a pod: if the namespace enables injection and the pod does not disable it, or if the
/// namespace sets nothing and the pod enables it. A label of the pod takes precedence over its annotation.
pub(super) fn is_injected(
    namespace: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> bool {
    let pod = labels.get(POD).or_else(|| annotations.get(POD)).map(String::as_str);
    let enabled = match namespace.get(NAMESPACE).map(String::as_str) {
        Some("enabled") => true,
        Some(_) => return false,
        None => namespace.contains_key(REVISION),
    };
    if enabled {
        pod != Some("false")
    } else {
        // the API server calls the webhook for labels alone, not for annotations
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
