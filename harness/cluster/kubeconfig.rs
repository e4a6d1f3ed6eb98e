use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ClusterError;
use super::answer::answered;
use super::client;

/// The timeout of a single request to an API server at the start and the end of a run.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The cluster that a context of a kubeconfig selects. The server and its certificates prove later that the context still selects it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeCluster {
    /// The absolute paths of the kubeconfig files. Several files are merged as kubectl merges those of `KUBECONFIG`.
    pub kubeconfig: Vec<PathBuf>,
    /// The context.
    pub context: String,
    /// The address of the API server.
    pub server: String,
    /// The SHA-256 of the CA certificates of the API server; empty if those of the system are used.
    pub ca: String,
}

impl KubeCluster {
    /// The cluster that a context of a kubeconfig selects, and a client. The defaults are those of kubectl.
    ///
    /// # Errors
    /// A file cannot be read, or there is no such context.
    pub async fn find(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<(Self, Client), ClusterError> {
        let files = match kubeconfig {
            Some(file) => vec![file.to_owned()],
            None => default_files(),
        };
        let absolute =
            |file: &PathBuf| std::path::absolute(file).map_err(|error| ClusterError::Kubeconfig(error.to_string()));
        Self::resolve(files.iter().map(absolute).collect::<Result<_, _>>()?, context).await
    }

    /// As [`find`](Self::find), but waits until the API server has answered.
    ///
    /// # Errors
    /// The kubeconfig cannot be used, or the API server does not answer.
    pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<(Self, Client), ClusterError> {
        let (cluster, client) = Self::find(kubeconfig, context).await?;
        let version = answered("the API server", ANSWER_LIMIT, client.apiserver_version()).await?;
        version.map_err(ClusterError::api("asking for its version"))?;
        Ok((cluster, client))
    }

    /// A client of this cluster.
    ///
    /// # Errors
    /// The kubeconfig can no longer be read, or now selects another cluster.
    pub async fn client(&self) -> Result<Client, ClusterError> {
        let (found, client) = Self::resolve(self.kubeconfig.clone(), Some(&self.context)).await?;
        if found == *self {
            Ok(client)
        } else {
            Err(ClusterError::OtherCluster {
                context: self.context.clone(),
                server: self.server.clone(),
                found: found.server,
            })
        }
    }

    async fn resolve(files: Vec<PathBuf>, context: Option<&str>) -> Result<(Self, Client), ClusterError> {
        let bad = |error: &dyn std::fmt::Display| ClusterError::Kubeconfig(error.to_string());
        let mut merged: Option<Kubeconfig> = None;
        for file in &files {
            // kube's message of a file that cannot be read has its path with the quotes of a debug form
            let next = Kubeconfig::read_from(file).map_err(|error| match error {
                KubeconfigError::ReadConfig(error, path) => bad(&format!("{}: {error}", path.display())),
                error => bad(&error),
            })?;
            merged = Some(match merged {
                Some(before) => before.merge(next).map_err(|error| bad(&error))?,
                None => next,
            });
        }
        let merged = merged.ok_or_else(|| bad(&"KUBECONFIG names no file that exists"))?;
        let context = context.map(ToOwned::to_owned).or_else(|| merged.current_context.clone()).unwrap_or_default();
        let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(merged, &options).await.map_err(|error| bad(&error))?;
        let mut digest = Sha256::new();
        let certificates = config.root_cert.iter().flatten();
        certificates.clone().for_each(|certificate| digest.update(certificate));
        let ca = if certificates.count() == 0 { String::new() } else { hex::encode(digest.finalize()) };
        let found = Self { kubeconfig: files, context, server: config.cluster_url.to_string(), ca };
        Ok((found, client::client(config)?))
    }
}

/// The files that kubectl reads by default.
fn default_files() -> Vec<PathBuf> {
    let named = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty());
    match named {
        // kubectl ignores files that do not exist
        Some(named) => std::env::split_paths(&named).filter(|path| path.is_file()).collect(),
        None => vec![PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".kube/config")],
    }
}
