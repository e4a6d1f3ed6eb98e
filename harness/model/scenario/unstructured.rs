use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A Kubernetes object of any kind, as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unstructured {
    /// API group and version, such as `apps/v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// The kind, such as `Deployment`.
    pub kind: String,
    /// Name, namespace, labels and annotations.
    pub metadata: Metadata,
    /// All other fields.
    #[serde(flatten)]
    pub data: Value,
}

impl Unstructured {
    /// Takes an object from its JSON value. As [`Deserialize`], whose `flatten` copies all fields, but moves them.
    ///
    /// # Errors
    /// The value has no `apiVersion`, `kind` or `metadata`, or one of them has another type.
    pub fn from_value(value: Value) -> Result<Self, serde_json::Error> {
        let Value::Object(mut data) = value else { return serde_json::from_value(value) };
        let mut head = |key: &str| data.remove(key).unwrap_or_default();
        let (api_version, kind, metadata) = (head("apiVersion"), head("kind"), head("metadata"));
        Ok(Self {
            api_version: serde_json::from_value(api_version)?,
            kind: serde_json::from_value(kind)?,
            metadata: serde_json::from_value(metadata)?,
            data: Value::Object(data),
        })
    }
}

/// The metadata of an object. Other fields are kept as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The name.
    pub name: String,
    /// The namespace; none if the manifest names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// All other fields, such as `finalizers`.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_written_as_it_was_read() {
        let written = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "labels": {"app": "a"}, "finalizers": ["x/y"]},
            "spec": {"replicas": 1}, "data": {"metadata": null},
        });
        let object = Unstructured::from_value(written.clone()).unwrap();
        assert_eq!(object, serde_json::from_value(written.clone()).unwrap());
        assert_eq!(serde_json::to_value(&object).unwrap(), written);
        assert_eq!(object.data, json!({"spec": {"replicas": 1}, "data": {"metadata": null}}));
        assert_eq!(object.metadata.other["finalizers"], json!(["x/y"]));
    }
}
