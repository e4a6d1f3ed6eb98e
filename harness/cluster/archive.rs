//! Image archives, and the full names of images.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use serde::Deserialize;

/// An entry of `manifest.json`, in archives of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    repo_tags: Option<Vec<String>>,
}

/// `index.json`, in OCI archives.
#[derive(Deserialize)]
struct OciIndex {
    manifests: Vec<OciManifest>,
}

#[derive(Deserialize)]
struct OciManifest {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl OciManifest {
    /// The name under which containerd imports the image.
    fn name(&self) -> Option<&String> {
        let reference = || self.annotations.get("org.opencontainers.image.ref.name");
        // a reference without these is a tag alone
        let is_name = |name: &&String| name.contains(['/', ':', '@']);
        self.annotations.get("io.containerd.image.name").or_else(|| reference().filter(is_name))
    }
}

/// The full names of the images in an archive of `docker save` or an OCI archive. The archive is read to its end, so that a truncated one is an
/// error.
///
/// # Errors
/// The file cannot be read or is no such archive.
pub(super) fn images_in(archive: &Path) -> io::Result<Vec<String>> {
    let invalid = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    // a pipe cannot be read twice, and opening one may never end
    if !archive.metadata()?.is_file() {
        return invalid("it is not a regular file");
    }
    let mut file = File::open(archive)?;
    let mut start = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut start)?;
    if start.starts_with(&[0x1f, 0x8b]) || start == [0x28, 0xb5, 0x2f, 0xfd] {
        return invalid("it is compressed; decompress it first");
    }
    file.rewind()?;
    let mut names: Option<Vec<String>> = None;
    for entry in tar::Archive::new(file).entries()? {
        let Ok(entry) = entry else { return invalid("it is not a tar archive, or it is truncated") };
        let path = entry.path()?.into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        if path.as_os_str() == "manifest.json" {
            let images: Vec<DockerImage> = serde_json::from_reader(entry)?;
            names.get_or_insert_default().extend(images.into_iter().filter_map(|image| image.repo_tags).flatten());
        } else if path.as_os_str() == "index.json" {
            let index: OciIndex = serde_json::from_reader(entry)?;
            names.get_or_insert_default().extend(index.manifests.iter().filter_map(OciManifest::name).cloned());
        }
    }
    let Some(names) = names else { return invalid("it has neither a manifest.json nor an index.json") };
    let mut names: Vec<String> = names.iter().map(|name| full_name(name)).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The name of an image with registry and tag, as container runtimes complete it.
pub(super) fn full_name(name: &str) -> String {
    let is_registry = |first: &str| first.contains(['.', ':']) || first == "localhost";
    let name = match name.split_once('/') {
        Some((first, _)) if is_registry(first) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    };
    let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    if has_tag { name } else { format!("{name}:latest") }
}

/// The registry of a full name.
pub(super) fn registry(full_name: &str) -> &str {
    full_name.split('/').next().unwrap_or_default()
}

/// Writes an archive with these files, for tests.
#[cfg(test)]
pub(super) fn write(archive: &Path, files: &[(&str, &str)]) {
    let mut tar = tar::Builder::new(File::create(archive).unwrap());
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    tar.finish().unwrap();
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("checkout", "docker.io/library/checkout:latest")]
    #[case("acme/checkout:1.4", "docker.io/acme/checkout:1.4")]
    #[case("docker.io/library/checkout:1.4", "docker.io/library/checkout:1.4")]
    #[case("registry.acme.io/checkout", "registry.acme.io/checkout:latest")]
    #[case("localhost:5000/checkout:1.4", "localhost:5000/checkout:1.4")]
    #[case("localhost/checkout@sha256:0123", "localhost/checkout@sha256:0123")]
    fn a_name_is_completed_as_by_a_container_runtime(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(full_name(name), expected);
    }

    const OCI: &str = r#"{"manifests": [
        {"annotations": {"io.containerd.image.name": "registry.acme.io/checkout:1.4", "org.opencontainers.image.ref.name": "1.4"}},
        {"annotations": {"org.opencontainers.image.ref.name": "registry.acme.io/cart:2"}},
        {"annotations": {"org.opencontainers.image.ref.name": "latest"}},
        {}
    ]}"#;

    #[rstest]
    #[case::docker(&[("manifest.json", r#"[{"RepoTags": ["acme/checkout:1.4"]}, {"RepoTags": null}]"#)], &["docker.io/acme/checkout:1.4"])]
    #[case::oci(&[("./index.json", OCI)], &["registry.acme.io/cart:2", "registry.acme.io/checkout:1.4"])]
    #[case::both(
        &[("index.json", OCI), ("manifest.json", r#"[{"RepoTags": ["registry.acme.io/checkout:1.4"]}]"#)],
        &["registry.acme.io/cart:2", "registry.acme.io/checkout:1.4"]
    )]
    fn the_names_in_an_archive_are_read(#[case] files: &[(&str, &str)], #[case] expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("image.tar");
        write(&archive, files);
        assert_eq!(images_in(&archive).unwrap(), expected);
    }

    #[rstest]
    #[case::compressed(b"\x1f\x8b\x08\x00rest", "it is compressed; decompress it first")]
    #[case::empty(b"", "it has neither a manifest.json nor an index.json")]
    #[case::text(&[b'x'; 700], "it is not a tar archive, or it is truncated")]
    fn another_file_is_no_archive(#[case] content: &[u8], #[case] reason: &str) {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("image.tar");
        std::fs::write(&archive, content).unwrap();
        let error = images_in(&archive).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}
