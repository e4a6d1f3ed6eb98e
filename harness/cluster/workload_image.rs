use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::demo::{DEMO_IMAGES, DemoImage};

/// The image of the client pod.
const CLIENT_IMAGE: &str = "docker.io/library/shiftcheck-client:1";

/// A tag of the workload image, with its arguments and environment variables.
struct TaggedImage {
    name: &'static str,
    arguments: [&'static str; 2],
    environment: Vec<String>,
}

/// The tags of the workload image: the builds of the demo server, and the client.
fn tagged_images() -> Vec<TaggedImage> {
    let server = |image: &DemoImage| TaggedImage {
        name: image.name,
        arguments: ["workload", "serve"],
        environment: std::iter::once(format!("VERSION={}", image.version))
            .chain((!image.is_faulty).then(|| "MENDED=true".to_owned()))
            .collect(),
    };
    let client = TaggedImage { name: CLIENT_IMAGE, arguments: ["workload", "idle"], environment: Vec::new() };
    DEMO_IMAGES.iter().map(server).chain([client]).collect()
}

/// Whether an image, by its full name, is a tag of the workload image.
pub(super) fn is_workload_image(full_name: &str) -> bool {
    full_name == CLIENT_IMAGE || DEMO_IMAGES.iter().any(|image| image.name == full_name)
}

/// Why the workload image cannot be written.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
#[non_exhaustive]
pub enum ImageError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The binary does not list its shared libraries.
    #[error("{} is not the shiftcheck binary: {reason}", path.display())]
    Binary { path: PathBuf, reason: String },
}

/// Prints the shared libraries and the loader of this process, one per line.
///
/// # Errors
/// `/proc/self/maps` cannot be read, or the output is closed.
pub fn print_files(mut output: impl Write) -> io::Result<()> {
    let own = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    let files: BTreeSet<&str> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|start| &line[start..]))
        .filter(|file| Path::new(file) != own && (file.contains(".so") || file.contains("/ld-")))
        .collect();
    for file in files {
        writeln!(output, "{file}")?;
    }
    Ok(())
}

/// Writes the image archive: one layer with the binary and its shared libraries, with the tags of the demo images and of the client.
///
/// # Errors
/// The binary is not shiftcheck, or a file cannot be read or written.
pub fn write_archive(binary: &Path, archive: &Path) -> Result<(), ImageError> {
    let written = |source| ImageError::File { path: archive.to_owned(), source };
    let Layer { file: layer, size, digest } = layer(binary, archive.parent().unwrap_or(Path::new("")))?;
    let file = fs::File::create(archive).map_err(written)?;
    let mut tar = tar::Builder::new(io::BufWriter::new(file));
    let mut manifest = Vec::new();
    let layer_name = format!("{digest}/layer.tar");
    append(&mut tar, &layer_name, 0o644, size, layer).map_err(written)?;
    for TaggedImage { name, arguments, environment } in tagged_images() {
        let entrypoint: Vec<&str> = std::iter::once("/shiftcheck").chain(arguments).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "Env": environment, "User": "1000:1000", "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
            "history": [{"created_by": "shiftcheck"}],
        })
        .to_string();
        let config_name = format!("{}.json", hex::encode(Sha256::digest(config.as_bytes())));
        append(&mut tar, &config_name, 0o644, config.len() as u64, config.as_bytes()).map_err(written)?;
        manifest.push(json!({"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}));
    }
    let manifest = serde_json::Value::Array(manifest).to_string();
    append(&mut tar, "manifest.json", 0o644, manifest.len() as u64, manifest.as_bytes()).map_err(written)?;
    tar.into_inner().and_then(|mut file| file.flush()).map_err(written)
}

/// A layer in an unlinked temporary file: in memory, it would be most of the memory of a run.
struct Layer {
    file: fs::File,
    /// In bytes.
    size: u64,
    /// The SHA-256 digest in hexadecimal digits.
    digest: String,
}

/// A writer that computes the digest and the size of what is written.
struct DigestWriter<W> {
    inner: W,
    digest: Sha256,
    size: u64,
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn layer(binary: &Path, folder: &Path) -> Result<Layer, ImageError> {
    let failed = |source| ImageError::File { path: folder.to_owned(), source };
    let refused = |reason: String| ImageError::Binary { path: binary.to_owned(), reason };
    let output = Command::new(binary)
        .args(["workload", "files"])
        .output()
        .map_err(|source| ImageError::File { path: binary.to_owned(), source })?;
    if !output.status.success() {
        return Err(refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let libraries = String::from_utf8(output.stdout).map_err(|error| refused(error.to_string()))?;
    let folder_or_here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let file = io::BufWriter::new(tempfile::tempfile_in(folder_or_here).map_err(failed)?);
    let mut tar = tar::Builder::new(DigestWriter { inner: file, digest: Sha256::new(), size: 0 });
    let mut add = |name: &str, path: &Path| {
        let failed = |source| ImageError::File { path: path.to_owned(), source };
        let file = fs::File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        append(&mut tar, name, 0o755, size, file).map_err(failed)
    };
    add("shiftcheck", binary)?;
    for library in libraries.lines() {
        let path = Path::new(library);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("ld-") {
            // the binary refers to the loader by this path
            add(
                if cfg!(target_arch = "aarch64") { "lib/ld-linux-aarch64.so.1" } else { "lib64/ld-linux-x86-64.so.2" },
                path,
            )?;
        } else {
            add(&format!("lib/{name}"), path)?;
        }
    }
    let DigestWriter { inner, digest, size } = tar.into_inner().map_err(failed)?;
    let mut file = inner.into_inner().map_err(|error| failed(error.into_error()))?;
    file.rewind().map_err(failed)?;
    Ok(Layer { file, size, digest: hex::encode(digest.finalize()) })
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, mode: u32, size: u64, content: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_cksum();
    tar.append_data(&mut header, name, content)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn all_tags_share_one_layer_with_the_right_digest() {
        let folder = tempfile::tempdir().unwrap();
        // a script in place of the binary, with one library
        let binary = folder.path().join("binary");
        let library = folder.path().join("libone.so.1");
        fs::write(&library, "a library").unwrap();
        fs::write(&binary, format!("#!/bin/sh\necho {}\n", library.display())).unwrap();
        let mut permissions = fs::metadata(&binary).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
        fs::set_permissions(&binary, permissions).unwrap();
        let archive = folder.path().join("image.tar");
        write_archive(&binary, &archive).unwrap();

        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(fs::File::open(&archive).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), content);
        }
        let manifest: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let images = manifest.as_array().unwrap();
        assert_eq!(images.len(), DEMO_IMAGES.len() + 1);
        for (image, TaggedImage { name, environment, .. }) in images.iter().zip(tagged_images()) {
            assert_eq!(image["RepoTags"][0], name);
            let layer = &files[image["Layers"][0].as_str().unwrap()];
            let config: serde_json::Value = serde_json::from_slice(&files[image["Config"].as_str().unwrap()]).unwrap();
            assert_eq!(config["config"]["Env"], json!(environment));
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex::encode(Sha256::digest(layer))));
            let names: Vec<String> = tar::Archive::new(layer.as_slice())
                .entries()
                .unwrap()
                .map(|entry| entry.unwrap().path().unwrap().display().to_string())
                .collect();
            assert_eq!(names, ["shiftcheck", "lib/libone.so.1"]);
        }
    }

    #[test]
    fn a_binary_that_lists_no_libraries_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_archive(Path::new("/bin/false"), &folder.path().join("image.tar")).unwrap_err();
        assert_eq!(error.to_string(), "/bin/false is not the shiftcheck binary: ");
    }
}
