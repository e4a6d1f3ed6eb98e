use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use super::MeshError;

/// Runs `istioctl` and returns its output.
pub(super) async fn run(
    istioctl: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> Result<String, MeshError> {
    let failed = |reason: String| MeshError::Istioctl { istioctl: istioctl.to_owned(), reason };
    let mut command = tokio::process::Command::new(istioctl);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(|error| failed(error.to_string()))
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// The version that an `istioctl` reports.
pub(super) async fn version(istioctl: &Path) -> Result<String, MeshError> {
    // `client version: 1.31.0`; before 1.24 only the version
    let output = run(istioctl, ["version", "--remote=false"]).await?;
    Ok(output.trim().rsplit(' ').next().unwrap_or_default().to_owned())
}
