use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{ClusterError, discover};

/// The kinds of a rollout, in the order in which a stage applies them.
const KINDS: [&str; 9] = [
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "Deployment",
    "Service",
    "DestinationRule",
    "VirtualService",
    "HTTPRoute",
    "GRPCRoute",
];

/// The objects that every namespace has.
const BUILT_IN: [&str; 4] = ["kube-root-ca.crt", "istio-ca-root-cert", "istio-ca-crl", "default"];

/// Exports the objects of a rollout from a namespace as file names and YAML texts, without fields that the cluster added and without the
/// contents of Secrets.
///
/// # Errors
/// The namespace does not exist, or a request to the API server fails.
pub async fn export(client: &Client, namespace: &str) -> Result<Vec<(String, String)>, ClusterError> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = namespaces.get_opt(namespace).await;
    let found = found.map_err(ClusterError::api(format!("looking for the namespace `{namespace}`")))?;
    found.ok_or_else(|| ClusterError::NoNamespace(namespace.to_owned()))?;
    let discovery = discover(client).await?;
    let mut files = Vec::new();
    for kind in KINDS {
        let known = discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources);
        let Some((resource, _)) = known.into_iter().find(|(resource, _)| resource.kind == kind) else { continue };
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let list =
            api.list(&ListParams::default()).await.map_err(ClusterError::api(format!("listing every {kind}")))?;
        for object in list {
            let name = object.name_any();
            let owned = object.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
            if owned || BUILT_IN.contains(&name.as_str()) {
                continue;
            }
            let api_version = resource.api_version.clone();
            let object = serde_json::to_value(&object).unwrap_or_default();
            // quotes texts that YAML 1.1, which kubectl reads, has as another type
            let text = serde_saphyr::to_string(&bare(object, &api_version, kind)).unwrap_or_default();
            files.push((format!("{}-{name}.yaml", kind.to_lowercase()), text));
        }
    }
    Ok(files)
}

/// An object without the fields that a cluster adds.
fn bare(mut object: Value, api_version: &str, kind: &str) -> Value {
    let metadata = &object["metadata"];
    let mut kept = json!({"name": metadata["name"]});
    for key in ["labels", "annotations"] {
        if let Some(fields) = metadata[key].as_object() {
            let added = |name: &str| name.contains("kubernetes.io/") && !name.starts_with("app.kubernetes.io/");
            let fields: serde_json::Map<_, _> = fields
                .iter()
                .filter(|(name, _)| !added(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            if !fields.is_empty() {
                kept[key] = Value::Object(fields);
            }
        }
    }
    let mut fresh = json!({"apiVersion": api_version, "kind": kind, "metadata": kept});
    let Some(fields) = object.as_object_mut() else { return fresh };
    for added in ["apiVersion", "kind", "metadata", "status"] {
        fields.remove(added);
    }
    if kind == "Secret" {
        fields.remove("data");
        fields.remove("stringData");
    }
    if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut)
        && kind == "Service"
    {
        // every cluster assigns its own addresses and ports
        let headless = spec.get("clusterIP") == Some(&json!("None"));
        for added in ["clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            spec.remove(added);
        }
        if !headless {
            spec.remove("clusterIP");
        }
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.as_object_mut().map(|port| port.remove("nodePort"));
        }
    }
    for (key, value) in std::mem::take(fields) {
        fresh[key] = value;
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cluster_has_added_is_left_out() {
        let object = json!({
            "metadata": {
                "name": "svc", "namespace": "live", "uid": "1", "resourceVersion": "2", "labels": {"app": "a"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "managedFields": [{}],
            },
            "spec": {
                "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{"name": "http", "port": 80, "nodePort": 30_000}],
                "selector": {"app": "a"},
            },
            "status": {"loadBalancer": {}},
        });
        let bare = bare(object, "v1", "Service");
        let kept = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc", "labels": {"app": "a"}},
            "spec": {"ports": [{"name": "http", "port": 80}], "selector": {"app": "a"}},
        });
        assert_eq!(bare, kept);
    }

    #[test]
    fn the_contents_of_secrets_stay_where_they_are() {
        let object = json!({"metadata": {"name": "key"}, "type": "Opaque", "data": {"token": "c2VjcmV0"}});
        assert!(!bare(object, "v1", "Secret").to_string().contains("c2VjcmV0"));
    }
}
