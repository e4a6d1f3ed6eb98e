use std::path::Path;

use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::ClusterError;
use super::run::RunId;
use super::sweep::delete_namespace;

/// An existing cluster. Only the run's own namespace is touched.
#[derive(Clone)]
pub struct Existing {
    client: Client,
}

impl std::fmt::Debug for Existing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Existing")
    }
}

impl Existing {
    /// The cluster that a kubeconfig leads to; its API server has answered.
    ///
    /// # Errors
    /// The kubeconfig cannot be used, or the API server does not answer.
    pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, ClusterError> {
        let client = kubeconfig_client(kubeconfig, context).await?;
        client.apiserver_version().await.map_err(ClusterError::api("asking for its version"))?;
        Ok(Self { client })
    }

    /// A client of the cluster's API.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Deletes the run's namespace; what is in it goes with it.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn remove(&self, namespace: &str, run: &RunId) -> Result<(), ClusterError> {
        delete_namespace(&Api::<Namespace>::all(self.client()), namespace, run).await.map(|_| ())
    }
}

/// A client for a context of a kubeconfig; the defaults are those of kubectl.
///
/// # Errors
/// The file cannot be read, or it has no such context.
pub async fn kubeconfig_client(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, ClusterError> {
    let bad = |error: &dyn std::fmt::Display| ClusterError::Kubeconfig(error.to_string());
    let kubeconfig = match kubeconfig {
        Some(path) => Kubeconfig::read_from(path).map_err(|error| bad(&error))?,
        None => Kubeconfig::read().map_err(|error| bad(&error))?,
    };
    let options = KubeConfigOptions { context: context.map(ToOwned::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| bad(&error))?;
    Client::try_from(config).map_err(|error| bad(&error))
}
