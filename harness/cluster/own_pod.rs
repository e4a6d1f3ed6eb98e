use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, Config};

use super::ClusterError;
use super::client::client;
use super::pod::{PodState, pod_state};

/// Where Kubernetes mounts the account of a pod.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The pod in which this process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPod {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
}

impl OwnPod {
    /// The pod of this process, whose host name is that of the pod.
    ///
    /// # Errors
    /// The process runs in no pod, or the pod has no service account.
    pub fn find() -> Result<Self, ClusterError> {
        Self::with(Path::new(ACCOUNT), std::env::var("HOSTNAME").ok())
    }

    fn with(account: &Path, host: Option<String>) -> Result<Self, ClusterError> {
        let file = account.join("namespace");
        let namespace = std::fs::read_to_string(&file)
            .map_err(|error| ClusterError::NoPod { reason: format!("{}: {error}", file.display()) })?;
        let name = host.filter(|host| !host.is_empty());
        let name = name.ok_or_else(|| ClusterError::NoPod { reason: "HOSTNAME is not set".to_owned() })?;
        Ok(Self { name, namespace: namespace.trim().to_owned() })
    }

    /// A client of the cluster, with the rights of the pod's service account.
    ///
    /// # Errors
    /// The account has no token or no certificate.
    pub fn client(&self) -> Result<Client, ClusterError> {
        client(Config::incluster().map_err(|error| ClusterError::NoPod { reason: error.to_string() })?)
    }

    /// The pods of the namespace.
    ///
    /// # Errors
    /// The API server does not list them.
    pub async fn pods(&self, client: &Client) -> Result<Vec<PodState>, ClusterError> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let listed = pods.list(&ListParams::default()).await;
        Ok(listed.map_err(ClusterError::api("listing every Pod"))?.iter().map(pod_state).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_knows_its_name_and_its_namespace() {
        let account = tempfile::tempdir().unwrap();
        let own = |host: Option<&str>| OwnPod::with(account.path(), host.map(ToOwned::to_owned));
        let outside = own(Some("judge-7x2")).unwrap_err().to_string();
        assert!(outside.starts_with("this process runs in no pod: ") && outside.contains("namespace"), "{outside}");
        std::fs::write(account.path().join("namespace"), "shop\n").unwrap();
        assert_eq!(own(None).unwrap_err().to_string(), "this process runs in no pod: HOSTNAME is not set");
        let found = OwnPod { name: "judge-7x2".to_owned(), namespace: "shop".to_owned() };
        assert_eq!(own(Some("judge-7x2")).unwrap(), found);
    }
}
