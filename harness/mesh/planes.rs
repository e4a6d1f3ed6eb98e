use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use kube::Client;

use super::MeshError;
use super::install::{Istio, Manifests, Onto};
use crate::cluster::{ClusterError, ImageCache, IstioSet};
use crate::scenario::ControlPlane;

/// The repository of the official images.
const OFFICIAL: &str = "docker.io/istio";

/// Which Istio is installed on a throwaway cluster, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IstioChoice {
    /// The version; none means the newest in the cache.
    pub version: Option<String>,
    /// The profile; none means `minimal`.
    pub profile: Option<String>,
    /// Settings, as `istioctl --set` takes them.
    pub set: Vec<String>,
    /// The `istioctl` of that version; none means the one in the cache. With one, the official images of a version that is not in the
    /// cache are pulled by the node.
    pub istioctl: Option<PathBuf>,
}

impl IstioChoice {
    /// What it takes to install it.
    ///
    /// # Errors
    /// The cache does not have that version and no `istioctl` of it is named, or the one that is named is of another version.
    pub async fn find(&self, cache: &ImageCache) -> Result<IstioSet, MeshError> {
        let newest = || cache.istio_versions().into_iter().next().unwrap_or_else(|| "1.31".to_owned());
        let version = self.version.clone().unwrap_or_else(newest);
        let mut set = match (cache.istio(&version), &self.istioctl) {
            (Err(ClusterError::NoSet { .. }), Some(istioctl)) => IstioSet {
                hub: OFFICIAL.to_owned(),
                tag: version.clone(),
                istioctl: istioctl.clone(),
                version,
                archives: Vec::new(),
                set: Vec::new(),
                profile: None,
            },
            (set, _) => set?,
        };
        if let Some(istioctl) = &self.istioctl {
            set.istioctl.clone_from(istioctl);
            let found = version_of(istioctl).await?;
            if !is_of(&found, &set.version) {
                return Err(MeshError::OtherIstioctl { istioctl: istioctl.clone(), found, asked: set.version });
            }
        }
        set.set.extend(self.set.iter().cloned());
        set.profile = self.profile.clone().or(set.profile);
        Ok(set)
    }
}

/// What an `istioctl` says of its own version.
async fn version_of(istioctl: &Path) -> Result<String, MeshError> {
    let failed = |reason: String| MeshError::Generate { istioctl: istioctl.to_owned(), reason };
    let mut command = tokio::process::Command::new(istioctl);
    command.args(["version", "--remote=false"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    // `client version: 1.31.0`, before 1.24 the version alone
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.trim().rsplit(' ').next().unwrap_or_default().to_owned())
}

/// Whether a version such as `1.31.0-dev.eed52` is one of `1.31`, or of `1.31.0`.
fn is_of(version: &str, asked: &str) -> bool {
    version.strip_prefix(asked).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

/// Which of two versions of Istio is the newer one, by their numbers.
#[must_use]
pub fn newer(one: &str, other: &str) -> Ordering {
    let numbers = |version: &str| -> Vec<u32> {
        let release = version.split('-').next().unwrap_or_default();
        release.split('.').filter_map(|part| part.parse().ok()).collect()
    };
    numbers(one).cmp(&numbers(other))
}

/// The control planes that a cluster may be given, and those that it has.
#[derive(Debug, Clone)]
pub struct Planes {
    sets: BTreeMap<String, IstioSet>,
    cache: PathBuf,
    installed: Vec<ControlPlane>,
}

impl Planes {
    /// Those of these versions; none is installed yet.
    #[must_use]
    pub fn new(sets: Vec<IstioSet>, cache: &Path) -> Self {
        let sets = sets.into_iter().map(|set| (set.version.clone(), set)).collect();
        Self { sets, cache: cache.to_owned(), installed: Vec::new() }
    }

    /// The one of a choice, alone.
    ///
    /// # Errors
    /// As those of [`IstioChoice::find`].
    pub async fn only(choice: &IstioChoice, cache: &Path) -> Result<(Self, ControlPlane), MeshError> {
        let set = choice.find(&ImageCache::new(cache)).await?;
        let plane = ControlPlane::of(&set.version);
        Ok((Self::new(vec![set], cache), plane))
    }

    /// The archives with all their images.
    pub fn archives(&self) -> impl Iterator<Item = &PathBuf> {
        self.sets.values().flat_map(|set| &set.archives)
    }

    /// The objects of a control plane.
    ///
    /// # Errors
    /// Its version is none of these, or its `istioctl` refuses.
    pub async fn manifests(&self, plane: &ControlPlane) -> Result<Manifests, MeshError> {
        Manifests::generate(self.set(plane)?, plane, &self.cache).await
    }

    /// Those that are installed.
    #[must_use]
    pub fn installed(&self) -> &[ControlPlane] {
        &self.installed
    }

    fn set(&self, plane: &ControlPlane) -> Result<&IstioSet, MeshError> {
        self.sets.get(&plane.version).ok_or_else(|| {
            let known = self.sets.keys().map(|version| format!("istio-{version}")).collect();
            ClusterError::NoSet { set: format!("istio-{}", plane.version), cache: self.cache.clone(), known }.into()
        })
    }

    /// Applies the objects of a control plane: over those of the same revision, beside those of others.
    ///
    /// # Errors
    /// Its version is none of these, or the API server rejects an object.
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
        let newest = self.installed.iter().map(|own| newer(&own.version, &plane.version)).max();
        let onto = match newest {
            None => Onto::Nothing,
            Some(Ordering::Greater) => Onto::Newer,
            Some(_) => Onto::Older,
        };
        let tag = self.set(plane)?.tag.clone();
        let istio = Istio::apply(client, manifests, &tag, &plane.revision, onto).await?;
        if !self.installed.contains(plane) {
            self.installed.push(plane.clone());
        }
        Ok(istio)
    }

    /// Installs a control plane, waits until it alone serves its revision, and removes what the one before it had beyond it.
    /// Where its revision is the one that injects into `namespace`, sidecars of its version are injected there then.
    ///
    /// # Errors
    /// The API server rejects an object, or it takes too long.
    pub async fn install(
        &mut self,
        client: &Client,
        plane: &ControlPlane,
        namespace: Option<&str>,
        seen: impl FnMut(&str),
    ) -> Result<Istio, MeshError> {
        let istio = self.apply(client, plane, None).await?;
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
    /// The API server refuses.
    pub async fn remove(&mut self, client: &Client, plane: &ControlPlane) -> Result<(), MeshError> {
        self.installed.retain(|own| own != plane);
        self.clear(client, plane).await
    }

    /// Deletes what only this control plane, of all that are installed, has.
    async fn clear(&self, client: &Client, gone: &ControlPlane) -> Result<(), MeshError> {
        let mut others = Vec::new();
        for own in &self.installed {
            others.push(self.manifests(own).await?);
        }
        self.manifests(gone).await?.remove(client, &others).await
    }

    /// The Istio of a control plane that is installed.
    ///
    /// # Errors
    /// Its version is none of these.
    pub fn istio(&self, plane: &ControlPlane) -> Result<Istio, MeshError> {
        Ok(Istio::of(&self.set(plane)?.tag, &plane.revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_by_its_beginning() {
        assert!(is_of("1.31.0-dev.eed52ebb66ad", "1.31"));
        assert!(is_of("1.27.3", "1.27.3"));
        assert!(!is_of("1.310.0", "1.31"));
        assert!(!is_of("1.22.0", "1.31"));
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(newer("1.9", "1.31"), Ordering::Less);
        assert_eq!(newer("1.31.2", "1.31.1"), Ordering::Greater);
        assert_eq!(newer("1.31.0-dev.55", "1.31.0"), Ordering::Equal);
    }

    #[tokio::test]
    async fn an_istioctl_of_another_version_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let istioctl = folder.path().join("istioctl");
        std::fs::write(&istioctl, "#!/bin/sh\necho client version: 1.30.1\n").unwrap();
        std::fs::set_permissions(&istioctl, std::fs::Permissions::from_mode(0o755)).unwrap();
        let choice = |version: &str| IstioChoice {
            version: Some(version.to_owned()),
            istioctl: Some(istioctl.clone()),
            ..IstioChoice::default()
        };
        let cache = ImageCache::new(folder.path());
        let error = choice("1.31.0").find(&cache).await.unwrap_err().to_string();
        assert!(error.ends_with("istioctl is of version 1.30.1, not of 1.31.0"), "{error}");
        // official images of the version that it is of are pulled by the node
        let set = choice("1.30.1").find(&cache).await.unwrap();
        assert_eq!((set.hub.as_str(), set.tag.as_str(), set.archives.len()), (OFFICIAL, "1.30.1", 0));
    }
}
