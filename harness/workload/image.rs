use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The names under which the workload image is known: the demo server in three builds, and the client.
pub const WORKLOAD_IMAGES: [(&str, &[&str], &[&str]); 4] = [
    ("docker.io/library/hello-server:v1", &["workload", "serve"], &["VERSION=v1"]),
    ("docker.io/library/hello-server:v2", &["workload", "serve"], &["VERSION=v2"]),
    ("docker.io/library/hello-server:v2-fixed", &["workload", "serve"], &["VERSION=v2", "MENDED=true"]),
    ("docker.io/library/shiftcheck-client:1", &["workload", "idle"], &[]),
];

/// What keeps the workload image from being written.
#[derive(Debug, Error)]
pub enum ImageError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The binary does not tell what it is linked to.
    #[error("{} is not the shiftcheck binary: {reason}", path.display())]
    Binary {
        /// The binary.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

/// Prints the files that this process has loaded to run: the shared libraries and the loader, one a line.
///
/// # Errors
/// The process's own maps cannot be read, or the output is closed.
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

/// Writes the image archive: one layer with the binary and the libraries that it loads, under every name of
/// [`WORKLOAD_IMAGES`].
///
/// # Errors
/// The binary is not shiftcheck's, or a file cannot be read or written.
pub fn write_archive(binary: &Path, archive: &Path) -> Result<(), ImageError> {
    let layer = layer(binary)?;
    let digest = hex(&Sha256::digest(&layer));
    let written = |source| ImageError::File { path: archive.to_owned(), source };
    let file = fs::File::create(archive).map_err(written)?;
    let mut tar = tar::Builder::new(io::BufWriter::new(file));
    let mut manifest = Vec::new();
    let layer_name = format!("{digest}/layer.tar");
    append(&mut tar, &layer_name, 0o644, &layer).map_err(written)?;
    for (name, arguments, environment) in WORKLOAD_IMAGES {
        let entrypoint: Vec<&str> = std::iter::once("/shiftcheck").chain(arguments.iter().copied()).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Entrypoint": entrypoint, "Env": environment, "User": "1000:1000", "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
            "history": [{"created_by": "shiftcheck"}],
        })
        .to_string();
        let config_name = format!("{}.json", hex(&Sha256::digest(config.as_bytes())));
        append(&mut tar, &config_name, 0o644, config.as_bytes()).map_err(written)?;
        manifest.push(json!({"Config": config_name, "RepoTags": [name], "Layers": [layer_name]}));
    }
    let manifest = serde_json::Value::Array(manifest).to_string();
    append(&mut tar, "manifest.json", 0o644, manifest.as_bytes()).map_err(written)?;
    tar.into_inner().and_then(|mut file| file.flush()).map_err(written)
}

fn layer(binary: &Path) -> Result<Vec<u8>, ImageError> {
    let refused = |reason: String| ImageError::Binary { path: binary.to_owned(), reason };
    let told = Command::new(binary)
        .args(["workload", "files"])
        .output()
        .map_err(|source| ImageError::File { path: binary.to_owned(), source })?;
    if !told.status.success() {
        return Err(refused(String::from_utf8_lossy(&told.stderr).trim().to_owned()));
    }
    let libraries = String::from_utf8(told.stdout).map_err(|error| refused(error.to_string()))?;
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, path: &Path| {
        let content = fs::read(path).map_err(|source| ImageError::File { path: path.to_owned(), source })?;
        append(&mut tar, name, 0o755, &content).map_err(|source| ImageError::File { path: path.to_owned(), source })
    };
    add("shiftcheck", binary)?;
    for library in libraries.lines() {
        let path = Path::new(library);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("ld-") {
            // the loader is looked up by the name that is written in the binary
            add(
                if cfg!(target_arch = "aarch64") { "lib/ld-linux-aarch64.so.1" } else { "lib64/ld-linux-x86-64.so.2" },
                path,
            )?;
        } else {
            add(&format!("lib/{name}"), path)?;
        }
    }
    tar.into_inner().map_err(|source| ImageError::File { path: binary.to_owned(), source })
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    tar.append_data(&mut header, name, content)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
