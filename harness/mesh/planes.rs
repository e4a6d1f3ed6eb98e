use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kube::Client;

use super::install::{Istio, Onto};
use super::manifests::Manifests;
use super::{Addons, MeshError, addons, istioctl};
use crate::cluster::{ClusterError, ImageCache, IstioSet};
use crate::scenario::{ControlPlane, IstioVersion, WantedAddon};

/// The registry and repository of the official images.
const OFFICIAL: &str = "docker.io/istio";

/// The Istio to install on a throwaway cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IstioChoice {
    /// The version. The default is the newest one in the image cache.
    pub version: Option<IstioVersion>,
    /// The profile. The default is `minimal`.
    pub profile: Option<String>,
    /// Settings for `istioctl --set`.
    pub set: Vec<String>,
    /// The `istioctl` of the version. The default is the one in the image cache. If this is set and the cache does not have the version, the
    /// node pulls the official images.
    pub istioctl: Option<PathBuf>,
}

impl IstioChoice {
    /// Finds the images and the `istioctl` of the version.
    ///
    /// # Errors
    /// The cache does not have the version and no `istioctl` is given, or the given `istioctl` has another version.
    pub async fn find(&self, cache: &ImageCache) -> Result<IstioSet, MeshError> {
        let newest = || cache.istio_versions().into_iter().next().unwrap_or(IstioVersion::new(1, 31));
        let version = self.version.clone().unwrap_or_else(newest);
        let mut set = match (cache.istio(&version), &self.istioctl) {
            (Err(ClusterError::NoSet { .. }), Some(istioctl)) => IstioSet {
                hub: OFFICIAL.to_owned(),
                tag: version.to_string(),
                istioctl: istioctl.clone(),
                addons: cache.addons_folder(&version),
                version,
                archives: Vec::new(),
                set: Vec::new(),
                profile: None,
                digests: Vec::new(),
            },
            (set, _) => set?,
        };
        if let Some(istioctl) = &self.istioctl {
            set.istioctl.clone_from(istioctl);
            set.addons = addons::of_release(istioctl).unwrap_or(set.addons);
            let found = istioctl::version(istioctl).await?;
            if !found.parse().is_ok_and(|found| set.version.includes(&found)) {
                return Err(MeshError::OtherIstioctl { istioctl: istioctl.clone(), found, asked: set.version });
            }
        }
        set.set.extend(self.set.iter().cloned());
        set.profile = self.profile.clone().or(set.profile);
        Ok(set)
    }
}

/// The control planes of a cluster: those that can be installed and those that are.
#[derive(Debug, Clone)]
pub struct Planes {
    sets: BTreeMap<IstioVersion, IstioSet>,
    cache: PathBuf,
    installed: Vec<ControlPlane>,
    /// Whether each control plane is installed with an ingress gateway.
    ingress: bool,
}

impl Planes {
    /// Control planes of these sets, none of them installed.
    pub fn new(sets: Vec<IstioSet>, cache: &Path) -> Self {
        let sets = sets.into_iter().map(|set| (set.version.clone(), set)).collect();
        Self { sets, cache: cache.to_owned(), installed: Vec::new(), ingress: false }
    }

    /// The control planes with an ingress gateway, if it is asked for.
    #[must_use]
    pub const fn with_ingress(mut self, ingress: bool) -> Self {
        self.ingress = ingress;
        self
    }

    /// The one control plane of a choice.
    ///
    /// # Errors
    /// As for [`IstioChoice::find`].
    pub async fn only(choice: &IstioChoice, cache: &Path) -> Result<(Self, ControlPlane), MeshError> {
        let set = choice.find(&ImageCache::new(cache)).await?;
        let plane = ControlPlane::of(set.version.clone());
        Ok((Self::new(vec![set], cache), plane))
    }

    /// The image archives of all sets.
    pub fn archives(&self) -> impl Iterator<Item = &PathBuf> {
        self.sets.values().flat_map(|set| &set.archives)
    }

    /// The objects of a control plane.
    ///
    /// # Errors
    /// There is no set of its version, or `istioctl` fails.
    pub async fn manifests(&self, plane: &ControlPlane) -> Result<Manifests, MeshError> {
        Manifests::generate(self.set(plane)?, plane, self.ingress, &self.cache).await
    }

    /// The addons with these names, from the release of a control plane.
    ///
    /// # Errors
    /// As for [`Addons::of`]; there is no set of the version.
    pub fn addons<'a>(
        &self,
        plane: &ControlPlane,
        wanted: impl IntoIterator<Item = &'a WantedAddon>,
    ) -> Result<Addons, MeshError> {
        Addons::of(wanted, self.set(plane)?)
    }

    /// The installed control planes.
    pub fn installed(&self) -> &[ControlPlane] {
        &self.installed
    }

    fn set(&self, plane: &ControlPlane) -> Result<&IstioSet, MeshError> {
        self.sets.get(&plane.version).ok_or_else(|| {
            let known = self.sets.keys().map(|version| format!("istio-{version}")).collect();
            ClusterError::NoSet { set: format!("istio-{}", plane.version), cache: self.cache.clone(), known }.into()
        })
    }

    /// Applies the objects of a control plane and those in `definitions`, but not the pods of its ingress gateway. They overwrite the objects of
    /// the same revision.
    ///
    /// # Errors
    /// There is no set of its version, or the API server rejects an object.
    pub async fn apply(
        &mut self,
        client: &Client,
        plane: &ControlPlane,
        definitions: Option<&Path>,
    ) -> Result<Istio, MeshError> {
        let mut manifests = self.manifests(plane).await?;
        if let Some(definitions) = definitions {
            manifests.add(definitions)?;
        }
        let newest = self.installed.iter().map(|own| own.version.cmp(&plane.version)).max();
        let onto = match newest {
            None => Onto::Nothing,
            Some(Ordering::Greater) => Onto::Newer,
            Some(_) => Onto::Older,
        };
        // one of them validates: the first, until it is replaced or removed
        if self.installed.first().is_some_and(|first| first.revision != plane.revision) {
            manifests.leave_validator();
        }
        let istio = self.istio(plane)?;
        istio.apply(client, manifests.without_ingress().0, onto).await?;
        if !self.installed.contains(plane) {
            self.installed.push(plane.clone());
        }
        Ok(istio)
    }

    /// Applies the pods of the ingress gateway of a control plane, if it has one, as soon as istiod has published its root certificate. Pods that
    /// start before it can be mounted are tried again after up to twice the time that they have waited.
    ///
    /// # Errors
    /// There is no set of its version, the API server rejects an object, or the wait times out.
    pub async fn apply_ingress(
        &self,
        client: &Client,
        plane: &ControlPlane,
        seen: impl FnMut(&str),
    ) -> Result<(), MeshError> {
        let (_, ingress) = self.manifests(plane).await?.without_ingress();
        if ingress.is_empty() {
            return Ok(());
        }
        let istio = self.istio(plane)?;
        istio.root_certificate(client, seen).await?;
        istio.apply(client, Manifests(ingress), Onto::Older).await
    }

    /// Installs a control plane, waits until no other one serves its revision, and removes the objects that only the replaced control plane
    /// had. With a `namespace` whose injection label selects the revision, waits until sidecars of this version are injected there.
    ///
    /// # Errors
    /// The API server rejects an object, or the wait times out.
    pub async fn install(
        &mut self,
        client: &Client,
        plane: &ControlPlane,
        namespace: Option<&str>,
        mut seen: impl FnMut(&str),
    ) -> Result<Istio, MeshError> {
        let istio = self.apply(client, plane, None).await?;
        self.apply_ingress(client, plane, &mut seen).await?;
        istio.ready(client, namespace, seen).await?;
        let replaced = self.installed.iter().position(|own| own.revision == plane.revision && own != plane);
        if let Some(position) = replaced {
            let replaced = self.installed.remove(position);
            self.clear(client, &replaced).await?;
        }
        Ok(istio)
    }

    /// Removes a control plane.
    ///
    /// # Errors
    /// The API server refuses the deletion of an object.
    pub async fn remove(&mut self, client: &Client, plane: &ControlPlane) -> Result<(), MeshError> {
        let validated = self.installed.first() == Some(plane);
        self.installed.retain(|own| own != plane);
        if let Some(next) = self.installed.first().filter(|_| validated) {
            let validator = self.manifests(next).await?.validator();
            self.istio(next)?.apply(client, validator, Onto::Newer).await?;
        }
        self.clear(client, plane).await
    }

    /// Deletes the objects that no installed control plane has.
    async fn clear(&self, client: &Client, gone: &ControlPlane) -> Result<(), MeshError> {
        let mut others = Vec::new();
        for own in &self.installed {
            others.push(self.manifests(own).await?);
        }
        self.manifests(gone).await?.remove(client, &others).await
    }

    /// The Istio of a control plane.
    ///
    /// # Errors
    /// There is no set of its version.
    pub fn istio(&self, plane: &ControlPlane) -> Result<Istio, MeshError> {
        Ok(Istio { has_ingress: self.ingress, ..Istio::new(&self.set(plane)?.tag, &plane.revision) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_istioctl_of_another_version_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let istioctl = folder.path().join("istioctl");
        std::fs::write(&istioctl, "#!/bin/sh\necho client version: 1.30.1\n").unwrap();
        std::fs::set_permissions(&istioctl, std::fs::Permissions::from_mode(0o755)).unwrap();
        let choice = |version: &str| IstioChoice {
            version: Some(version.parse().unwrap()),
            istioctl: Some(istioctl.clone()),
            ..IstioChoice::default()
        };
        let cache = ImageCache::new(folder.path());
        let error = choice("1.31.0").find(&cache).await.unwrap_err().to_string();
        assert!(error.ends_with("istioctl has version 1.30.1, but 1.31.0 was requested"), "{error}");
        // the node pulls the official images of the version of this istioctl
        let set = choice("1.30.1").find(&cache).await.unwrap();
        assert_eq!((set.hub.as_str(), set.tag.as_str(), set.archives.len()), (OFFICIAL, "1.30.1", 0));
    }
}
