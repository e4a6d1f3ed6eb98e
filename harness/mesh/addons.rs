use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DynamicObject;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::MeshError;
use super::manifests::NAMESPACE;
use crate::cluster::wait::{Awaited, WaitError};
use crate::cluster::{Applied, ClusterError, Installation, IstioSet, Workloads};
use crate::scenario::{Addon, Manifest, WantedAddon, read_manifests};

/// The timeout for the addons: the node pulls their images.
const LIMIT: Duration = Duration::from_secs(180);

/// The addons to install on a throwaway cluster, from the manifests of an Istio release.
#[derive(Debug, Clone, Default)]
pub struct Addons {
    addons: Vec<Addon>,
    manifests: Vec<Manifest>,
}

impl Addons {
    /// The addons with these names, from the release of a set. An addon that several scenarios name is taken once.
    ///
    /// # Errors
    /// The set has no manifest of an addon, or the manifest cannot be read.
    pub fn of<'a>(wanted: impl IntoIterator<Item = &'a WantedAddon>, set: &IstioSet) -> Result<Self, MeshError> {
        let mut found = Self::default();
        for WantedAddon { addon, origin } in wanted {
            if found.addons.contains(addon) {
                continue;
            }
            let path = set.addons.join(format!("{}.yaml", addon.key()));
            if !path.is_file() {
                let (addon, version) = (*addon, set.version.clone());
                return Err(MeshError::NoAddon { origin: origin.clone(), addon, version, path });
            }
            let read = read_manifests(&path);
            let read = read.map_err(|error| MeshError::Definitions { path, reason: error.to_string() })?;
            found.addons.push(*addon);
            found.manifests.extend(read.into_iter().map(fitting));
        }
        Ok(found)
    }

    /// The objects of all addons.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// Creates the objects of all addons.
    ///
    /// # Errors
    /// The API server rejects an object.
    pub async fn apply(&self, client: &Client) -> Result<(), MeshError> {
        if self.manifests.is_empty() {
            return Ok(());
        }
        let objects = self.manifests.iter().map(object).collect::<Result<_, _>>()?;
        Ok(Installation { what: "the addons of Istio", namespace: NAMESPACE, objects }.apply(client, "").await?)
    }

    /// Waits until the Deployments of all addons are complete.
    ///
    /// # Errors
    /// A Deployment cannot become complete, because an image cannot be pulled for example, or the wait times out.
    pub async fn ready(&self, client: &Client, seen: impl FnMut(&str)) -> Result<(), MeshError> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
        let mut applied = Vec::new();
        for manifest in self.manifests.iter().filter(|manifest| manifest.kind() == "Deployment") {
            let found = deployments.get(manifest.name()).await;
            let found = found.map_err(ClusterError::api(format!("reading {}", manifest.id())))?;
            let (name, uid) = (found.name_any(), found.metadata.uid.unwrap_or_default());
            let generation = found.metadata.generation.unwrap_or_default();
            applied.push(Applied { kind: "Deployment".to_owned(), name, uid, generation });
        }
        let rolled_out = Workloads::watch(client, NAMESPACE).rolled_out(&applied, &[], LIMIT, seen).await;
        rolled_out.map_err(|error| self.not_ready(error).into())
    }

    /// The error of a rollout, which names the addons: their Deployments are none of the scenario's.
    fn not_ready(&self, error: ClusterError) -> ClusterError {
        let ClusterError::Wait(error) = error else { return error };
        let names: Vec<String> = self.addons.iter().map(ToString::to_string).collect();
        let what = Awaited::Controller(format!("the installation of {}", names.join(" and ")));
        ClusterError::Wait(match error {
            WaitError::TimedOut { limit, last, .. } => WaitError::TimedOut { what, limit, last },
            WaitError::Failed { source, .. } => WaitError::Failed { what, source },
        })
    }
}

/// The folder with the addons of the release that an `istioctl` is in, as `RELEASE/bin/istioctl`; none if it is in none.
pub(super) fn of_release(istioctl: &Path) -> Option<PathBuf> {
    let paths = [std::path::absolute(istioctl).ok(), istioctl.canonicalize().ok()];
    paths.into_iter().flatten().find_map(|path| {
        let bin = path.parent().filter(|folder| folder.ends_with("bin"))?;
        Some(bin.parent()?.join("samples/addons")).filter(|addons| addons.is_dir())
    })
}

/// An object as it is installed: its pods have no sidecar, and use images that are loaded.
fn fitting(mut manifest: Manifest) -> Manifest {
    if manifest.kind() != "Deployment" {
        return manifest;
    }
    let Some(template) = manifest.object.data.pointer_mut("/spec/template") else { return manifest };
    if let Some(Value::Object(metadata)) = template.get_mut("metadata")
        && let Value::Object(labels) = metadata.entry("labels").or_insert_with(|| json!({}))
    {
        labels.insert("sidecar.istio.io/inject".to_owned(), json!("false"));
    }
    for kind in ["initContainers", "containers"] {
        let containers = template.pointer_mut(&format!("/spec/{kind}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter_map(Value::as_object_mut) {
            // a release names its images by version
            container.insert("imagePullPolicy".to_owned(), json!("IfNotPresent"));
        }
    }
    manifest
}

fn object(manifest: &Manifest) -> Result<DynamicObject, MeshError> {
    let object = serde_json::to_value(&manifest.object).and_then(serde_json::from_value);
    object.map_err(|error| {
        let path = manifest.origin.path.clone();
        MeshError::Definitions { path, reason: error.to_string() }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::IstioChoice;
    use super::*;
    use crate::cluster::ImageCache;
    use crate::scenario::Origin;

    const KIALI: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: kiali, namespace: istio-system}
spec:
  template:
    metadata: {labels: {app: kiali}}
    spec:
      containers: [{name: kiali, image: 'quay.io/kiali/kiali:v2.27', imagePullPolicy: Always}]
";

    /// A set without addons in a cache, and the folder of a release with this addon.
    async fn set(addon: &str) -> (tempfile::TempDir, IstioSet) {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [bin, addons] = ["bin", "samples/addons"].map(|part| folder.path().join("istio").join(part));
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&addons).unwrap();
        fs::write(addons.join(format!("{addon}.yaml")), KIALI).unwrap();
        let istioctl = bin.join("istioctl");
        fs::write(&istioctl, "#!/bin/sh\necho client version: 1.31.0\n").unwrap();
        fs::set_permissions(&istioctl, fs::Permissions::from_mode(0o755)).unwrap();
        let choice = IstioChoice { istioctl: Some(istioctl), ..IstioChoice::default() };
        let set = choice.find(&ImageCache::new(folder.path())).await.unwrap();
        (folder, set)
    }

    fn kiali() -> WantedAddon {
        WantedAddon { addon: Addon::Kiali, origin: Origin::new("scenario.yaml", 3, 10) }
    }

    #[tokio::test]
    async fn the_manifests_of_the_release_of_an_istioctl_are_found() {
        let (_folder, set) = set("kiali").await;
        let found = Addons::of([&kiali(), &kiali()], &set).unwrap();
        let [deployment] = found.manifests() else { panic!("{found:?}") };
        let template = deployment.at("/spec/template").unwrap();
        assert_eq!(template.pointer("/metadata/labels/sidecar.istio.io~1inject"), Some(&json!("false")));
        // an image that is loaded is not pulled
        assert_eq!(template.pointer("/spec/containers/0/imagePullPolicy"), Some(&json!("IfNotPresent")));
        assert_eq!(object(deployment).unwrap().metadata.namespace.as_deref(), Some("istio-system"));
    }

    #[tokio::test]
    async fn a_missing_manifest_is_told_at_the_place_of_the_addon() {
        let (folder, set) = set("prometheus").await;
        let error = Addons::of([&kiali()], &set).unwrap_err().to_string();
        let path = folder.path().join("istio/samples/addons/kiali.yaml");
        let expected = format!(
            "scenario.yaml:3:10: there is no manifest of Kiali for Istio 1.31: {} does not exist",
            path.display()
        );
        assert_eq!(error, expected);
    }
}
