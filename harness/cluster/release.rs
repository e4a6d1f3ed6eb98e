use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use testcontainers::bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};

use super::images::ADDONS;
use super::run_id::RunId;
use super::{ClusterError, Docker, answered};
use crate::scenario::{Addon, IstioVersion};

/// The address below which the archives of Istio releases are.
pub const RELEASES: &str = "https://github.com/istio/istio/releases/download";
/// The repository of the image that a release is imported as, until its files are read.
const IMPORTED: &str = "shiftcheck/istio-release";
/// The timeout of the import of a release.
const IMPORT_LIMIT: Duration = Duration::from_secs(600);

impl Docker {
    /// Adds the manifests of the addons to the set of a version of Istio in the image cache. They are in the archive of the release, which the
    /// engine downloads from below `releases`.
    ///
    /// # Errors
    /// The archive cannot be downloaded or does not have the manifests, or the folder cannot be written.
    pub async fn pull_addons(&self, set: &Path, version: &IstioVersion, releases: &str) -> Result<(), ClusterError> {
        let url = format!("{}/{version}/istio-{version}-linux-amd64.tar.gz", releases.trim_end_matches('/'));
        // another pull of the version has an image of its own
        let (repository, tag) = (IMPORTED, RunId::fresh().to_string());
        let image = format!("{repository}:{tag}");
        let options = CreateImageOptionsBuilder::default().from_src(&url).repo(repository).tag(&tag).build();
        let transfers = self.for_transfers();
        let imported = transfers.create_image(Some(options), None, None).try_collect::<Vec<_>>();
        let imported = answered(format!("the engine that downloads {url}"), IMPORT_LIMIT, imported).await;
        let read = match imported {
            Ok(Ok(_)) => self.addons_of(&image, version).await,
            Ok(Err(error)) => Err(ClusterError::Pull { image: url.clone(), reason: error.to_string() }),
            Err(error) => Err(error),
        };
        let removal = RemoveImageOptionsBuilder::default().force(true).build();
        // without an import, there is no image
        if let Err(error) = self.engine().remove_image(&image, Some(removal), None).await {
            tracing::debug!(%error, image, "the image of the release was not removed");
        }
        let files = read.map_err(|error| match error {
            // the image is known to nobody but this function
            ClusterError::Pull { reason, .. } => ClusterError::Pull { image: url, reason },
            error => error,
        })?;
        write(set, &files)
    }

    /// The names and contents of the manifests in an imported release.
    async fn addons_of(&self, image: &str, version: &IstioVersion) -> Result<Vec<(String, Vec<u8>)>, ClusterError> {
        let mut files = Vec::new();
        for addon in Addon::ALL {
            let name = format!("{}.yaml", addon.key());
            let content = self.file_of(image, &format!("/istio-{version}/samples/addons/{name}")).await?;
            files.push((name, content));
        }
        Ok(files)
    }
}

/// Writes the folder of a set's addons; all files or none.
fn write(set: &Path, files: &[(String, Vec<u8>)]) -> Result<(), ClusterError> {
    let unwritable =
        |source: std::io::Error| ClusterError::BadSet { path: set.join(ADDONS), reason: source.to_string() };
    let fresh = tempfile::Builder::new().prefix(".addons-").tempdir_in(set).map_err(unwritable)?;
    for (name, content) in files {
        fs::write(fresh.path().join(name), content).map_err(unwritable)?;
    }
    fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755)).map_err(unwritable)?;
    fs::rename(fresh.path(), set.join(ADDONS)).map_err(unwritable)?;
    // renamed: there is nothing to remove
    let _ = fresh.keep();
    Ok(())
}
