use std::fs;
use std::io::{Cursor, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use serde_json::json;
use testcontainers::bollard::errors::Error as EngineError;
use testcontainers::bollard::models::ContainerCreateBody;
use testcontainers::bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder,
};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::{ClusterError, Docker, ImageCache, answered};
use crate::scenario::IstioVersion;

/// The names of the images of a version in its repository.
const IMAGES: [&str; 3] = ["pilot", "proxyv2", "istioctl"];
/// The path of `istioctl` in its image.
const ISTIOCTL: &str = "/usr/local/bin/istioctl";
const ARCHIVE: &str = "istio.tar";
/// The timeout of pulling one image.
const PULL_LIMIT: Duration = Duration::from_secs(1800);
/// How long the engine may send nothing while it writes an archive.
const PART_LIMIT: Duration = Duration::from_secs(120);

impl Docker {
    /// Pulls the images and the `istioctl` of a version of Istio into the cache and returns the folder of the set. An incomplete set is
    /// removed.
    ///
    /// # Errors
    /// An image cannot be pulled, or the cache cannot be written.
    pub async fn pull_istio(
        &self,
        cache: &ImageCache,
        version: &IstioVersion,
        hub: &str,
        mut seen: impl FnMut(&str),
    ) -> Result<PathBuf, ClusterError> {
        let (target, tag) = (cache.set_folder(version), version.to_string());
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source: std::io::Error| ClusterError::BadSet { path, reason: source.to_string() }
        };
        let sets = target.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(sets).map_err(unwritable(sets))?;
        let fresh = tempfile::Builder::new().prefix(".istio-").tempdir_in(sets).map_err(unwritable(sets))?;
        let mut digests = Vec::new();
        for image in IMAGES {
            let name = format!("{hub}/{image}");
            seen(&format!("pulling {name}:{version}"));
            let failed = |error: EngineError| ClusterError::Pull {
                image: format!("{name}:{version}"),
                reason: error.to_string(),
            };
            let options = CreateImageOptionsBuilder::default().from_image(&name).tag(&tag).build();
            let transfers = self.for_transfers();
            let pulled = transfers.create_image(Some(options), None, None).try_collect::<Vec<_>>();
            let who = format!("the engine that pulls {name}:{version}");
            answered(who, PULL_LIMIT, pulled).await?.map_err(failed)?;
            let pulled = self.engine().inspect_image(&format!("{name}:{version}")).await.map_err(failed)?;
            // an image may have digests of several repositories
            digests.extend(pulled.repo_digests.into_iter().flatten().find(|one| one.starts_with(&format!("{name}@"))));
        }
        seen("writing the archive");
        let names = [format!("{hub}/pilot:{version}"), format!("{hub}/proxyv2:{version}")];
        let archive = fresh.path().join(ARCHIVE);
        let transfers = self.for_transfers();
        let exported = transfers.export_images(&[names[0].as_str(), names[1].as_str()]);
        write(exported, &archive).await.map_err(unwritable(&archive))?;
        let istioctl = fresh.path().join("istioctl");
        let program = self.file_of(&format!("{hub}/istioctl:{version}"), ISTIOCTL).await?;
        fs::write(&istioctl, program).map_err(unwritable(&istioctl))?;
        fs::set_permissions(&istioctl, fs::Permissions::from_mode(0o755)).map_err(unwritable(&istioctl))?;
        let set = json!({
            "source": "registry", "version": tag, "hub": hub, "tag": tag,
            "istioctl": "istioctl", "archives": [ARCHIVE], "set": [], "digests": digests,
        });
        let description = fresh.path().join("set.json");
        fs::write(&description, format!("{set:#}\n")).map_err(unwritable(&description))?;
        fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755)).map_err(unwritable(fresh.path()))?;
        fs::rename(fresh.path(), &target).map_err(unwritable(&target))?;
        // renamed: there is nothing to remove
        let _ = fresh.keep();
        Ok(target)
    }

    /// Reads a file of an image.
    pub(super) async fn file_of(&self, image: &str, path: &str) -> Result<Vec<u8>, ClusterError> {
        let failed = |reason: String| ClusterError::Pull { image: image.to_owned(), reason };
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            // required, although the container is never started
            cmd: Some(vec!["none".to_owned()]),
            ..ContainerCreateBody::default()
        };
        let made = self.engine().create_container(None::<CreateContainerOptions>, body).await;
        let id = made.map_err(|error| failed(error.to_string()))?.id;
        let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
        let parts: Result<Vec<Bytes>, EngineError> =
            match timeout(PART_LIMIT, self.engine().download_from_container(&id, Some(options)).try_collect()).await {
                Ok(parts) => parts,
                Err(_) => Err(EngineError::RequestTimeoutError),
            };
        self.remove(&id).await?;
        let parts = parts.map_err(|error| failed(error.to_string()))?;
        let mut file = Vec::new();
        let mut archive = tar::Archive::new(Cursor::new(parts.concat()));
        let mut entries = archive.entries().map_err(|error| failed(error.to_string()))?;
        let entry = entries.next().and_then(Result::ok);
        let mut entry = entry.ok_or_else(|| failed(format!("it has no {path}")))?;
        entry.read_to_end(&mut file).map_err(|error| failed(error.to_string()))?;
        Ok(file)
    }
}

/// Writes an archive that the engine sends.
pub(super) async fn write(parts: impl Stream<Item = Result<Bytes, EngineError>>, path: &Path) -> std::io::Result<()> {
    let mut file = tokio::fs::File::create(path).await?;
    let mut parts = std::pin::pin!(parts);
    while let Some(part) = timeout(PART_LIMIT, parts.next()).await? {
        file.write_all(&part.map_err(std::io::Error::other)?).await?;
    }
    file.flush().await
}
