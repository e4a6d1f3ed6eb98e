use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ClusterError;
use super::archive::{full_name, images_in};
use crate::scenario::{Component, Install, IstioVersion};

/// The folder of the addons' manifests in the set of a version of Istio.
pub(super) const ADDONS: &str = "addons";

/// The image cache: sets of images that `ci/images/build` has built or `shiftcheck images pull` has pulled.
#[derive(Debug, Clone)]
pub struct ImageCache {
    folder: PathBuf,
}

/// The node image: `rancher/k3s`, or an image with the same interface.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeImage {
    /// The name.
    pub image: String,
    /// The tag.
    pub tag: String,
}

/// The folder of images and run records: `$XDG_CACHE_HOME/shiftcheck`, or `~/.cache/shiftcheck`.
pub fn default_cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    base.unwrap_or_else(home).join("shiftcheck")
}

/// A set of images and the `istioctl` of one version of Istio.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct IstioSet {
    /// The version as users write it, such as `1.31`.
    pub version: IstioVersion,
    /// The repository with `pilot` and `proxyv2`.
    pub hub: String,
    /// The tag of these images.
    pub tag: String,
    /// The `istioctl` of the version.
    pub istioctl: PathBuf,
    /// The image archives for the node.
    pub archives: Vec<PathBuf>,
    /// Settings for `istioctl --set` that these images need.
    pub set: Vec<String>,
    /// The profile. The default is `minimal`.
    #[serde(default)]
    pub profile: Option<String>,
    /// The pulled images by digest, `REPOSITORY@sha256:…`; none where they were built.
    #[serde(default)]
    pub digests: Vec<String>,
    /// The folder with the manifests of the addons. It may be missing.
    #[serde(skip)]
    pub addons: PathBuf,
}

/// The image of one version of a component, and the objects of its installation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ControllerSet {
    /// The image with its tag.
    pub image: String,
    /// The image archives for the node.
    pub archives: Vec<PathBuf>,
    /// The file with the objects.
    pub objects: PathBuf,
}

impl ImageCache {
    /// The image cache in a cache folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.join("images") }
    }

    /// The default node image.
    ///
    /// # Errors
    /// The cache does not have it, or its description cannot be read.
    pub fn node(&self) -> Result<NodeImage, ClusterError> {
        self.read("node")
    }

    /// The set of a version of Istio.
    ///
    /// # Errors
    /// The cache does not have the set, its description cannot be read, or a file is missing.
    pub fn istio(&self, version: &IstioVersion) -> Result<IstioSet, ClusterError> {
        let name = format!("istio-{version}");
        let mut set: IstioSet = self.read(&name)?;
        self.complete(&name, set.archives.iter_mut().chain([&mut set.istioctl]))?;
        set.addons = self.addons_folder(version);
        Ok(set)
    }

    /// The folder for the addons of a version of Istio, whether or not it exists.
    pub fn addons_folder(&self, version: &IstioVersion) -> PathBuf {
        self.set_folder(version).join(ADDONS)
    }

    /// The set of a component.
    ///
    /// # Errors
    /// The cache does not have the set, its description cannot be read, or a file is missing.
    pub fn controller(&self, wanted: &Install) -> Result<ControllerSet, ClusterError> {
        self.controller_set(&format!("{}-{}", wanted.component.key(), wanted.version))
    }

    /// The sets of components in the cache, each with its name.
    pub fn controllers(&self) -> impl Iterator<Item = (String, Result<ControllerSet, ClusterError>)> {
        let names = self.sets().into_iter().filter(|set| Component::of_set(set).is_some());
        names.map(|name| {
            let set = self.controller_set(&name);
            (name, set)
        })
    }

    fn controller_set(&self, name: &str) -> Result<ControllerSet, ClusterError> {
        let mut set: ControllerSet = self.read(name)?;
        self.complete(name, set.archives.iter_mut().chain([&mut set.objects]))?;
        Ok(set)
    }

    /// Completes the paths of the files of a set.
    ///
    /// # Errors
    /// A file is missing.
    fn complete<'a>(&self, set: &str, files: impl Iterator<Item = &'a mut PathBuf>) -> Result<(), ClusterError> {
        let folder = self.folder.join(set);
        // the engine mounts archives by their real path, without symbolic links
        let folder = folder.canonicalize().unwrap_or(folder);
        for file in files {
            *file = folder.join(&*file);
            if !file.is_file() {
                return Err(ClusterError::BadSet { path: file.clone(), reason: "the file is missing".to_owned() });
            }
        }
        Ok(())
    }

    /// The folder of the set of a version of Istio, whether or not it exists.
    pub fn set_folder(&self, version: &IstioVersion) -> PathBuf {
        self.folder.join(format!("istio-{version}"))
    }

    /// Verifies the files of a set and returns the problems: archives that cannot be read, and missing images.
    pub fn check(&self, version: &IstioVersion) -> Vec<String> {
        let set = match self.istio(version) {
            Ok(set) => set,
            Err(error) => return vec![error.to_string()],
        };
        let mut problems = Vec::new();
        let mut tags = Vec::new();
        for archive in &set.archives {
            match images_in(archive) {
                Ok(own) => tags.extend(own),
                Err(error) => problems.push(format!("{}: {error}", archive.display())),
            }
        }
        for image in ["pilot", "proxyv2"] {
            let wanted = format!("{}/{image}:{}", set.hub, set.tag);
            if problems.is_empty() && !tags.contains(&full_name(&wanted)) {
                problems.push(format!("no archive holds {wanted}"));
            }
        }
        problems
    }

    /// The file with the CRDs of the Gateway API.
    ///
    /// # Errors
    /// The cache does not have it, or its description cannot be read.
    pub fn gateway_api(&self) -> Result<PathBuf, ClusterError> {
        #[derive(Deserialize)]
        struct Set {
            definitions: PathBuf,
        }
        const NAME: &str = "gateway-api";
        let set: Set = self.read(NAME)?;
        Ok(self.folder.join(NAME).join(set.definitions))
    }

    /// The versions of Istio in the cache, the newest first.
    pub fn istio_versions(&self) -> Vec<IstioVersion> {
        let mut versions: Vec<IstioVersion> =
            self.sets().iter().filter_map(|set| set.strip_prefix("istio-")?.parse().ok()).collect();
        versions.sort_by(|one, other| other.cmp(one));
        versions
    }

    fn sets(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut sets: Vec<String> = entries
            .filter(|entry| entry.path().join("set.json").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        sets.sort();
        sets
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, set: &str) -> Result<T, ClusterError> {
        let path = self.folder.join(set).join("set.json");
        let Ok(text) = fs::read(&path) else {
            return Err(ClusterError::NoSet { set: set.to_owned(), cache: self.folder.clone(), known: self.sets() });
        };
        serde_json::from_slice(&text).map_err(|error| ClusterError::BadSet { path, reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, ImageCache) {
        let folder = tempfile::tempdir().unwrap();
        for version in ["1.9", "1.22", "1.31"] {
            let set = folder.path().join("images").join(format!("istio-{version}"));
            fs::create_dir_all(&set).unwrap();
            fs::write(set.join("istioctl"), "").unwrap();
            fs::write(
                set.join("set.json"),
                format!(r#"{{"version":"{version}","hub":"h","tag":"t","istioctl":"istioctl","archives":["i.tar"],"set":[]}}"#),
            )
            .unwrap();
        }
        fs::write(folder.path().join("images/istio-1.31/i.tar"), "").unwrap();
        let cache = ImageCache::new(folder.path());
        (folder, cache)
    }

    #[test]
    fn versions_are_sorted_as_numbers() {
        assert_eq!(cache().1.istio_versions(), [31, 22, 9].map(|minor| IstioVersion::new(1, minor)));
    }

    #[test]
    fn the_error_for_an_unknown_set_lists_the_known_ones() {
        let (_folder, cache) = cache();
        assert!(cache.istio(&IstioVersion::new(1, 31)).is_ok());
        let error = cache.istio(&IstioVersion::new(1, 30)).unwrap_err().to_string();
        assert!(error.starts_with("the image cache has no set `istio-1.30` ("), "{error}");
        assert!(error.ends_with("; it has istio-1.22, istio-1.31, istio-1.9"), "{error}");
        let error = cache.istio(&IstioVersion::new(1, 22)).unwrap_err().to_string();
        assert!(error.ends_with("i.tar: the file is missing"), "{error}");
    }

    #[test]
    fn an_archive_without_an_image_or_a_truncated_one_is_found() {
        let (folder, cache) = cache();
        let archive = folder.path().join("images/istio-1.31/i.tar");
        let write = |tags: &[&str]| {
            let text = serde_json::json!([{"RepoTags": tags, "Layers": []}]).to_string();
            super::super::archive::write(&archive, &[("manifest.json", &text)]);
        };
        write(&["h/pilot:t", "h/proxyv2:t"]);
        assert_eq!(cache.check(&IstioVersion::new(1, 31)), [""; 0]);
        write(&["h/pilot:t", "h/proxyv2:u"]);
        assert_eq!(cache.check(&IstioVersion::new(1, 31)), ["no archive holds h/proxyv2:t"]);
        fs::write(&archive, [1; 700]).unwrap();
        assert_eq!(cache.check(&IstioVersion::new(1, 31)).len(), 1);
    }
}
