//! Images that a throwaway cluster does not pull.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;
use testcontainers::bollard::errors::Error as EngineError;

use super::archive::{full_name, images_in, registry};
use super::credentials::RegistryCredentials;
use super::engine::Docker;
use super::load_error::LoadError;
use super::pull::write;
use super::workload_image::is_workload_image;
use crate::scenario::{Manifest, Origin, Scenario};

/// Where an image comes from that is loaded into a throwaway cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// The container engine, by the image's name.
    Engine(String),
    /// An archive of `docker save`, or an OCI archive.
    Archive(PathBuf),
}

impl FromStr for ImageSource {
    type Err = Infallible;

    /// A file if there is one or if it is written as one, otherwise the name of an image.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let path = Path::new(text);
        let is_written_as_file = text.starts_with(['.', '/']) || path.extension().is_some_and(|end| end == "tar");
        Ok(if is_written_as_file || path.is_file() {
            Self::Archive(text.into())
        } else {
            Self::Engine(text.to_owned())
        })
    }
}

/// The images of a scenario's manifests, and those of them that are loaded into the throwaway cluster.
#[derive(Debug, Clone, Default)]
pub struct ScenarioImages {
    sources: Vec<ImageSource>,
    named: Vec<NamedImage>,
}

/// An image that a container of a manifest names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamedImage {
    full_name: String,
    origin: Origin,
    /// Why the node pulls it at every start, if it does.
    pulled: Option<&'static str>,
}

impl ScenarioImages {
    /// The images of scenarios, without those of the demo server and the client.
    pub fn of(scenarios: &[&Scenario], sources: &[ImageSource]) -> Self {
        let mut images = Self { sources: sources.to_vec(), named: Vec::new() };
        for manifest in scenarios.iter().flat_map(|scenario| scenario.manifests()) {
            images.add(manifest);
        }
        images
    }

    /// The images with those of further manifests.
    #[must_use]
    pub fn and(mut self, manifests: &[Manifest]) -> Self {
        for manifest in manifests {
            self.add(manifest);
        }
        self
    }

    fn add(&mut self, manifest: &Manifest) {
        let mut containers = Vec::new();
        containers_in(&manifest.object.data, "", &mut containers);
        for (pointer, image, container) in containers {
            let image = full_name(image);
            let origin = manifest.origin_of(&format!("{pointer}/image"));
            let pulled = always_pulled(&image, container);
            if !is_workload_image(&image) {
                self.named.push(NamedImage { full_name: image, origin, pulled });
            }
        }
    }

    /// The credentials for the registries of these images.
    pub fn credentials(&self) -> Option<RegistryCredentials> {
        let registries: BTreeSet<String> =
            self.named.iter().map(|image| registry(&image.full_name).to_owned()).collect();
        RegistryCredentials::find(&registries)
    }

    /// The archives of the loaded images; those from the engine are written into `folder`.
    ///
    /// # Errors
    /// An image is missing or cannot be read, or no manifest names it.
    pub async fn archives(
        &self,
        docker: &Docker,
        folder: &Path,
        mut seen: impl FnMut(String),
    ) -> Result<Vec<PathBuf>, LoadError> {
        let mut archives = Vec::new();
        for (number, source) in self.sources.iter().enumerate() {
            let (path, archive) = match source {
                ImageSource::Archive(path) => {
                    // the engine mounts files by their real path
                    let real = path.canonicalize();
                    (path.clone(), real.map_err(|source| LoadError::Archive { path: path.clone(), source })?)
                }
                ImageSource::Engine(name) => {
                    let archive = folder.join(format!("image-{number}.tar"));
                    let name = full_name(name);
                    seen(format!("exporting {name} from the Docker engine"));
                    export(docker, &name, &archive).await?;
                    (name.into(), archive)
                }
            };
            self.check(path, &archive).await?;
            archives.push(archive);
        }
        Ok(archives)
    }

    /// Checks that manifests name an image of an archive, and that the node uses it. `path` is the archive in messages.
    async fn check(&self, path: PathBuf, archive: &Path) -> Result<(), LoadError> {
        let file = archive.to_owned();
        let held = tokio::task::spawn_blocking(move || images_in(&file)).await;
        let held = held.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let held = held.map_err(|source| LoadError::Archive { path: path.clone(), source })?;
        let used: Vec<&NamedImage> = self.named.iter().filter(|image| held.contains(&image.full_name)).collect();
        if used.is_empty() {
            let mut named: Vec<String> =
                self.named.iter().map(|image| format!("{} ({})", image.full_name, image.origin)).collect();
            named.dedup();
            let named = if named.is_empty() { "no image of their own".to_owned() } else { named.join(", ") };
            return Err(LoadError::NotNamed { path, held: held.join(", "), named });
        }
        let pulled = used.into_iter().find_map(|image| Some((image, image.pulled?)));
        pulled.map_or(Ok(()), |(image, policy)| {
            Err(LoadError::Pulled { origin: image.origin.clone(), image: image.full_name.clone(), policy })
        })
    }
}

async fn export(docker: &Docker, image: &str, archive: &Path) -> Result<(), LoadError> {
    let failed = |reason: String| LoadError::Export { image: image.to_owned(), reason };
    match docker.engine().inspect_image(image).await {
        Ok(_) => {}
        Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => {
            let engine = docker.address().to_owned();
            return Err(LoadError::NotInEngine { image: image.to_owned(), engine });
        }
        Err(error) => return Err(failed(error.to_string())),
    }
    let transfers = docker.for_transfers();
    write(transfers.export_images(&[image]), archive).await.map_err(|error| failed(error.to_string()))
}

/// Appends the containers below a value, each with its JSON pointer and its image.
fn containers_in<'a>(value: &'a Value, pointer: &str, found: &mut Vec<(String, &'a str, &'a Value)>) {
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                containers_in(item, &format!("{pointer}/{index}"), found);
            }
        }
        Value::Object(entries) => {
            for (key, item) in entries {
                let pointer = format!("{pointer}/{key}");
                if !matches!(key.as_str(), "containers" | "initContainers") {
                    containers_in(item, &pointer, found);
                    continue;
                }
                for (index, container) in item.as_array().into_iter().flatten().enumerate() {
                    let image = container.get("image").and_then(Value::as_str);
                    found.extend(image.map(|image| (format!("{pointer}/{index}"), image, container)));
                }
            }
        }
        _ => {}
    }
}

/// Why the node pulls an image whenever the container starts; none if it uses one that it has.
fn always_pulled(full_name: &str, container: &Value) -> Option<&'static str> {
    match container.get("imagePullPolicy").and_then(Value::as_str) {
        Some("Always") => Some("imagePullPolicy is Always"),
        None if full_name.ends_with(":latest") => Some("imagePullPolicy is Always by default for the tag latest"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::archive;
    use super::*;

    #[rstest]
    #[case::name("registry.acme.io/checkout:1.4", ImageSource::Engine("registry.acme.io/checkout:1.4".to_owned()))]
    #[case::archive("checkout.tar", ImageSource::Archive("checkout.tar".into()))]
    #[case::path("./checkout", ImageSource::Archive("./checkout".into()))]
    #[case::file("Cargo.toml", ImageSource::Archive("Cargo.toml".into()))]
    fn a_file_is_told_from_a_name(#[case] text: &str, #[case] expected: ImageSource) {
        assert_eq!(text.parse::<ImageSource>().unwrap(), expected);
    }

    fn images(containers: &str) -> ScenarioImages {
        let object: Value = serde_yaml::from_str(containers).unwrap();
        let mut found = Vec::new();
        containers_in(&object, "", &mut found);
        let named = found.into_iter().map(|(pointer, image, container)| {
            let full_name = full_name(image);
            let pulled = always_pulled(&full_name, container);
            NamedImage { full_name, origin: Origin::new(pointer, 1, 1), pulled }
        });
        ScenarioImages { sources: Vec::new(), named: named.collect() }
    }

    const POD: &str = "spec:
  initContainers: [{image: 'acme/migrate:2', command: [image]}]
  containers: [{image: 'registry.acme.io/checkout:1.4'}, {image: 'acme/agent', imagePullPolicy: IfNotPresent}]
  volumes: [{name: web, image: {reference: 'acme/files:1'}}]";

    #[test]
    fn the_images_of_all_containers_are_known() {
        let images = images(&format!("template:\n  {}", POD.replace('\n', "\n  ")));
        let mut names: Vec<String> = images.named.iter().map(|image| image.full_name.clone()).collect();
        names.sort();
        let expected = ["docker.io/acme/agent:latest", "docker.io/acme/migrate:2", "registry.acme.io/checkout:1.4"];
        assert_eq!(names, expected);
    }

    #[rstest]
    #[case::named(POD, "registry.acme.io/checkout:1.4", "")]
    #[case::with_a_policy(POD, "acme/agent", "")]
    #[case::another_tag(
        "containers: [{image: 'registry.acme.io/checkout:1.4'}]",
        "registry.acme.io/checkout:1.3",
        "FILE has registry.acme.io/checkout:1.3, which no manifest names; the manifests name registry.acme.io/checkout:1.4 (/containers/0:1:1)"
    )]
    #[case::no_own_image(
        "kind: Service",
        "acme/agent:1",
        "FILE has docker.io/acme/agent:1, which no manifest names; the manifests name no image of their own"
    )]
    #[case::latest(
        "containers: [{image: acme/agent}]",
        "acme/agent",
        "/containers/0:1:1: the node pulls docker.io/acme/agent:latest whenever a container starts, although it is loaded: imagePullPolicy is Always by default for the tag latest"
    )]
    #[case::always(
        "containers: [{image: 'acme/agent:1', imagePullPolicy: Always}]",
        "acme/agent:1",
        "/containers/0:1:1: the node pulls docker.io/acme/agent:1 whenever a container starts, although it is loaded: imagePullPolicy is Always"
    )]
    #[tokio::test]
    async fn a_loaded_image_is_one_that_a_manifest_names(
        #[case] manifest: &str,
        #[case] image: &str,
        #[case] message: &str,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image.tar");
        archive::write(&file, &[("manifest.json", &format!(r#"[{{"RepoTags": ["{image}"]}}]"#))]);
        let checked = images(manifest).check("FILE".into(), &file).await;
        assert_eq!(checked.map_or_else(|error| error.to_string(), |()| String::new()), message);
    }
}
