use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use kube::api::{DeleteParams, DynamicObject};
use kube::{Client, ResourceExt};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{MeshError, istioctl};
use crate::cluster::{ClusterError, IstioSet, api_of, discover, id, is_definition, kind, parse_objects};
use crate::scenario::ControlPlane;

/// The namespace of istiod.
pub(super) const NAMESPACE: &str = "istio-system";

/// The name of the Deployment of the ingress gateway.
pub(super) const INGRESS_GATEWAY: &str = "istio-ingressgateway";

/// The name of the webhook that validates objects without the label of a revision, of which there is one for all control planes.
const VALIDATOR: &str = "istiod-default-validator";

/// The settings of an ingress gateway with one pod, which is called by its cluster IP.
const INGRESS: [&str; 6] = [
    "components.ingressGateways[0].enabled=true",
    "components.ingressGateways[0].name=istio-ingressgateway",
    "values.gateways.istio-ingressgateway.type=ClusterIP",
    "values.gateways.istio-ingressgateway.autoscaleEnabled=false",
    "values.gateways.istio-ingressgateway.resources.requests.cpu=10m",
    "values.gateways.istio-ingressgateway.resources.requests.memory=40Mi",
];

/// The objects of an installation, from `istioctl manifest generate`.
#[derive(Debug, Clone)]
pub struct Manifests(pub(super) Vec<DynamicObject>);

impl Manifests {
    /// Generates the objects of an installation with the `istioctl` of the set, and with an ingress gateway if it is asked for. The output is
    /// cached in `cache`, by program and settings.
    ///
    /// # Errors
    /// `istioctl` cannot be run or fails, or its output is not YAML.
    pub async fn generate(
        set: &IstioSet,
        plane: &ControlPlane,
        ingress: bool,
        cache: &Path,
    ) -> Result<Self, MeshError> {
        let failed = |reason: String| MeshError::Istioctl { istioctl: set.istioctl.clone(), reason };
        let mut settings = vec![
            format!("profile={}", set.profile.as_deref().unwrap_or("minimal")),
            format!("hub={}", set.hub),
            format!("tag={}", set.tag),
            // A new kubelet delays the first probe by up to one period. The default of 15 s is long compared with a run.
            "values.global.proxy.readinessPeriodSeconds=1".to_owned(),
            // with the default of 0.1 CPU, fifteen sidecars request all of two cores
            "values.global.proxy.resources.requests.cpu=10m".to_owned(),
            "values.global.proxy.resources.requests.memory=40Mi".to_owned(),
        ];
        // as `istioctl install` does: without it, only objects with the label of a revision are validated
        let default = if plane.revision.is_empty() { "default" } else { &plane.revision };
        settings.push(format!("values.defaultRevision={default}"));
        if ingress {
            settings.extend(INGRESS.map(ToOwned::to_owned));
        }
        if !plane.revision.is_empty() {
            settings.push(format!("revision={}", plane.revision));
        }
        settings.extend(set.set.iter().chain(&plane.set).cloned());
        let cached = cache.join("manifests").join(format!("{}.json", key(&set.istioctl, &settings)));
        if let Some(objects) = std::fs::read(&cached).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(Self(objects));
        }
        let arguments = settings.iter().flat_map(|setting| ["--set", setting]);
        let output = istioctl::run(&set.istioctl, ["manifest", "generate"].into_iter().chain(arguments)).await?;
        let objects = parse_objects(&output).map_err(|error| failed(error.to_string()))?;
        if let Err(error) = write_cache(&cached, &objects) {
            tracing::debug!(%error, "the manifests were not cached");
        }
        Ok(Self(objects))
    }

    /// The environment variables of istiod: the feature flags of the control plane.
    pub fn flags(&self) -> BTreeMap<String, String> {
        let istiod = self.0.iter().find(|object| kind(object) == "Deployment" && !is_ingress(object));
        let variables = istiod.and_then(|istiod| istiod.data.pointer("/spec/template/spec/containers/0/env"));
        let variables = variables.and_then(Value::as_array).into_iter().flatten();
        let pairs = variables
            .filter_map(|own| Some((own["name"].as_str()?.to_owned(), own.get("value")?.as_str()?.to_owned())));
        pairs.collect()
    }

    /// These objects without the Deployment of the ingress gateway, and that Deployment.
    pub(super) fn without_ingress(self) -> (Self, Vec<DynamicObject>) {
        let (ingress, rest) = self.0.into_iter().partition(|object| kind(object) == "Deployment" && is_ingress(object));
        (Self(rest), ingress)
    }

    /// Leaves out the webhook that validates objects for all control planes.
    pub(super) fn leave_validator(&mut self) {
        self.0.retain(|object| !is_validator(object));
    }

    /// The webhook that validates objects for all control planes.
    pub(super) fn validator(self) -> Self {
        Self(self.0.into_iter().filter(is_validator).collect())
    }

    /// Adds the objects of a file, such as CRDs.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn add(&mut self, file: &Path) -> Result<(), MeshError> {
        let failed = |reason: String| MeshError::Definitions { path: file.to_owned(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        self.0.extend(parse_objects(&text).map_err(|error| failed(error.to_string()))?);
        Ok(())
    }

    /// The objects that are in none of the others. CRDs are left out, because users' objects would be deleted with them;
    /// so are namespaces.
    fn only_here(self, others: &[Self]) -> Vec<DynamicObject> {
        // all versions of an API group have the same objects
        let group = |version: &str| version.rsplit_once('/').map_or(String::new(), |(group, _)| group.to_owned());
        let key = |object: &DynamicObject| {
            let kind = object.types.as_ref().map(|types| (group(&types.api_version), types.kind.clone()));
            (kind, object.namespace(), object.name_any())
        };
        let kept: HashSet<_> = others.iter().flat_map(|other| &other.0).map(key).collect();
        let gone = self.0.into_iter().filter(|object| !is_definition(object) && kind(object) != "Namespace");
        gone.filter(|object| !kept.contains(&key(object))).collect()
    }

    /// Deletes the objects that are in none of the others.
    ///
    /// # Errors
    /// The API server refuses.
    pub(super) async fn remove(self, client: &Client, others: &[Self]) -> Result<(), MeshError> {
        let discovery = discover(client).await?;
        for object in self.only_here(others) {
            let Some(api) = api_of(client, &discovery, &object, NAMESPACE) else { continue };
            match api.delete(&object.name_any(), &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(ClusterError::api(format!("removing {}", id(&object)))(error).into()),
            }
        }
        Ok(())
    }
}

fn is_validator(object: &DynamicObject) -> bool {
    object.name_any() == VALIDATOR
}

fn is_ingress(object: &DynamicObject) -> bool {
    object.name_any() == INGRESS_GATEWAY
}

/// The cache key: the path, size and modification time of the program, and its settings.
fn key(istioctl: &Path, settings: &[String]) -> String {
    let metadata = std::fs::metadata(istioctl).ok();
    let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
    let text =
        format!("{} {:?} {modified:?} {settings:?}", istioctl.display(), metadata.map(|metadata| metadata.len()));
    hex::encode(&Sha256::digest(text.as_bytes())[..8])
}

fn write_cache(path: &Path, objects: &[DynamicObject]) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
    // renamed, so that a concurrent run does not read a partial file
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&fresh, serde_json::to_vec(objects)?)?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_only_in_the_replaced_control_plane_are_removed_except_definitions() {
        let object = |version: &str, kind: &str, name: &str| -> DynamicObject {
            serde_json::from_value(
                json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "istio-system"}}),
            )
            .unwrap()
        };
        let old = Manifests(vec![
            object("apps/v1", "Deployment", "istiod"),
            object("policy/v1beta1", "PodDisruptionBudget", "istiod"),
            object("v1", "ConfigMap", "old"),
            object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "old"),
            object("v1", "Namespace", "istio-system"),
        ]);
        let new = Manifests(vec![
            object("apps/v1", "Deployment", "istiod"),
            // the same object in another version of its API group
            object("policy/v1", "PodDisruptionBudget", "istiod"),
        ]);
        let gone: Vec<String> = old.only_here(&[new]).iter().map(DynamicObject::name_any).collect();
        assert_eq!(gone, ["old"]);
    }
}
