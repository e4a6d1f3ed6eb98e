//! The container engine, and what runs have created in it.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use testcontainers::bollard::Docker as Bollard;
use testcontainers::bollard::errors::Error as BollardError;
use testcontainers::bollard::models::NetworkCreateRequest;
use testcontainers::bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder, ListNetworksOptionsBuilder,
    RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
};

use super::answer::answered;
use super::owner::Owner;
use super::run::RunRecord;
use super::run_id::RunId;
use super::wait::{Again, Awaited, Progress, Wait};
use super::{ClusterError, RUN_LABEL};

/// The label with the process that has started a container.
const OWNER_LABEL: &str = "shiftcheck.dev/owner";
/// The timeout of the first request to the engine, so that an engine that hangs is found before anything else starts.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The timeout of other requests to the engine.
pub(super) const ENGINE_LIMIT: Duration = Duration::from_secs(30);
/// The timeout of requests that transfer images.
pub(super) const TRANSFER_LIMIT: Duration = Duration::from_secs(600);
/// The address of the engine if `DOCKER_HOST` is not set.
const DEFAULT_ADDRESS: &str = "unix:///var/run/docker.sock";
/// The prefixes of container names: of a cluster, and of a cluster that is kept. The labels of a container cannot be changed after its creation,
/// and only the end of a run decides whether its cluster is kept. A container can be renamed at any time, also on a remote engine.
pub(super) const NAME: &str = "shiftcheck-";
const KEPT_NAME: &str = "shiftcheck-kept-";

/// The container engine.
#[derive(Debug, Clone)]
pub struct Docker {
    engine: Bollard,
    address: String,
}

impl Docker {
    /// The address of the engine: `DOCKER_HOST` or the default socket.
    pub fn default_address() -> String {
        let named = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        named.unwrap_or_else(|| DEFAULT_ADDRESS.to_owned())
    }

    /// Whether an engine is configured: `DOCKER_HOST` is set, or the default socket exists. The engine may not answer.
    pub fn is_configured() -> bool {
        is_configured(&Self::default_address(), Path::exists)
    }

    /// Connects to the engine at the default address.
    ///
    /// # Errors
    /// There is no engine, or it does not answer within 5 s.
    pub async fn connect() -> Result<Self, ClusterError> {
        Self::connect_to(&Self::default_address()).await
    }

    async fn connect_to(address: &str) -> Result<Self, ClusterError> {
        let refused = |error: BollardError| ClusterError::NoEngine(format!("{address}: {error}"));
        let connected = async {
            let engine = Bollard::connect_with_host(address).map_err(refused)?.with_timeout(ENGINE_LIMIT);
            let engine = engine.negotiate_version().await.map_err(refused)?;
            engine.ping().await.map_err(refused)?;
            Ok(Self { engine, address: address.to_owned() })
        };
        answered(format!("the Docker engine at {address}"), CONNECT_LIMIT, connected).await?
    }

    /// The address of the engine.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The engine, for requests that transfer images.
    pub(super) fn for_transfers(&self) -> Bollard {
        self.engine.clone().with_timeout(TRANSFER_LIMIT)
    }

    pub(super) const fn engine(&self) -> &Bollard {
        &self.engine
    }

    /// Whether the engine has an image.
    pub async fn has_image(&self, image: &str) -> bool {
        self.engine.inspect_image(image).await.is_ok()
    }

    /// Marks the cluster of a run as kept. Returns false if there is no cluster.
    ///
    /// # Errors
    /// The engine does not answer or refuses.
    pub async fn keep(&self, run: &RunId) -> Result<bool, ClusterError> {
        let Some(cluster) = self.cluster_of(run).await? else { return Ok(false) };
        for container in &cluster.containers {
            let Some(rest) = container.name.strip_prefix(NAME) else { continue };
            let options = RenameContainerOptionsBuilder::new().name(&format!("{KEPT_NAME}{rest}")).build();
            let renamed = self.engine.rename_container(&container.id, options).await;
            renamed.map_err(|error| ClusterError::Keep { run: run.clone(), reason: error.to_string() })?;
        }
        Ok(!cluster.containers.is_empty())
    }

    /// Removes every container of a run with its volumes, and its network.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn remove_run(&self, run: &RunId) -> Result<(), ClusterError> {
        // a container that is just being created or removed appears or disappears in a later check
        let again = Again::Every(Duration::from_millis(50));
        let mut wait = Wait::new(Awaited::ClusterRemoval, Duration::from_secs(30), again, |_| {});
        let mut refused = None;
        loop {
            let check = async {
                let cluster = match self.cluster_of(run).await {
                    Ok(None) => return Progress::Done(()),
                    Ok(Some(cluster)) => cluster,
                    Err(error) => return Progress::NotYet(error.to_string()),
                };
                if let Err(error) = self.remove_cluster(&cluster).await {
                    refused = Some(error);
                }
                Progress::NotYet("containers are left".to_owned())
            };
            match wait.check(check).await {
                Ok(None) => {}
                Ok(Some(())) => return Ok(()),
                Err(error) => return Err(refused.unwrap_or_else(|| error.into())),
            }
        }
    }

    async fn cluster_of(&self, run: &RunId) -> Result<Option<RunCluster>, ClusterError> {
        Ok(self.run_clusters().await?.into_iter().find(|cluster| cluster.run == *run))
    }

    /// The containers and networks with the labels of runs, by run.
    ///
    /// # Errors
    /// The engine does not list them.
    pub async fn run_clusters(&self) -> Result<Vec<RunCluster>, ClusterError> {
        let filters = HashMap::from([("label", vec![RUN_LABEL])]);
        let refused = |error| ClusterError::NoEngine(format!("{}: {error}", self.address));
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = self.engine.list_containers(Some(options)).await.map_err(refused)?;
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let networks = self.engine.list_networks(Some(options)).await.map_err(refused)?;
        let mut clusters = BTreeMap::new();
        for container in containers {
            let names = container.names.unwrap_or_default();
            let name = names.first().map(|name| name.trim_start_matches('/').to_owned()).unwrap_or_default();
            if let (Some(id), Some(cluster)) = (container.id, RunCluster::of(container.labels, &mut clusters)) {
                cluster.kept |= name.starts_with(KEPT_NAME);
                cluster.containers.push(RunContainer { id, name });
            }
        }
        for network in networks {
            if let (Some(name), Some(cluster)) = (network.name, RunCluster::of(network.labels, &mut clusters)) {
                cluster.networks.push(name);
            }
        }
        Ok(clusters.into_values().collect())
    }

    /// Removes the containers of a run with their anonymous volumes, and its networks. What does not exist is no error.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn remove_cluster(&self, cluster: &RunCluster) -> Result<(), ClusterError> {
        for container in &cluster.containers {
            self.remove(&container.id).await?;
        }
        for name in &cluster.networks {
            match self.engine.remove_network(name).await {
                Ok(()) | Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => {}
                Err(error) => {
                    return Err(ClusterError::RemoveNetwork { name: name.clone(), reason: error.to_string() });
                }
            }
        }
        Ok(())
    }

    /// Removes a container with its anonymous volumes. A container that does not exist is no error.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn remove(&self, id: &str) -> Result<(), ClusterError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.engine.remove_container(id, Some(options)).await {
            Ok(()) | Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(ClusterError::Remove { id: id.to_owned(), reason: error.to_string() }),
        }
    }

    /// Creates the network of a run, and returns its name.
    pub(super) async fn create_network(&self, record: &RunRecord) -> Result<String, ClusterError> {
        let name = format!("{NAME}{}", record.id);
        let config = NetworkCreateRequest {
            name: name.clone(),
            labels: Some(labels(record)),
            ..NetworkCreateRequest::default()
        };
        match self.engine.create_network(config).await {
            Ok(_) => Ok(name),
            Err(error) => Err(ClusterError::Network { name, reason: error.to_string() }),
        }
    }

    /// The address of a container in a network.
    pub(super) async fn address_in(&self, network: &str, container: &str) -> Result<String, ClusterError> {
        let failed = |reason| ClusterError::Network { name: network.to_owned(), reason };
        let found = self.engine.inspect_container(container, None).await.map_err(|error| failed(error.to_string()))?;
        let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.get(network).and_then(|own| own.ip_address.clone()).filter(|own| !own.is_empty());
        address.ok_or_else(|| failed(format!("container {container} has no address in it")))
    }

    /// The text of a file in a container, if it exists. The future of testcontainers' `copy_file_from` is not `Send`.
    pub(super) async fn file(&self, id: &str, path: &str) -> Option<String> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let archive: Vec<Bytes> = self.engine.download_from_container(id, Some(options)).try_collect().await.ok()?;
        let archive = archive.concat();
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut text = String::new();
        archive.entries().ok()?.next()?.ok()?.read_to_string(&mut text).ok()?;
        Some(text)
    }

    pub(super) async fn root(&self) -> Option<PathBuf> {
        self.engine.info().await.ok()?.docker_root_dir.map(PathBuf::from)
    }
}

/// What the container engine has of a run.
#[derive(Debug, Clone)]
pub struct RunCluster {
    /// The run.
    pub run: RunId,
    /// The process that has started it; none if the label has another format.
    pub owner: Option<Owner>,
    /// Whether it is kept.
    pub kept: bool,
    containers: Vec<RunContainer>,
    /// The names of networks.
    networks: Vec<String>,
}

#[derive(Debug, Clone)]
struct RunContainer {
    id: String,
    name: String,
}

impl RunCluster {
    /// The cluster of the run that these labels name. Without a valid id, they are not those of a run.
    fn of(labels: Option<HashMap<String, String>>, clusters: &mut BTreeMap<RunId, Self>) -> Option<&mut Self> {
        let labels = labels?;
        let run: RunId = labels.get(RUN_LABEL)?.parse().ok()?;
        let owner = labels.get(OWNER_LABEL).and_then(|owner| Owner::parse(owner));
        let new = || Self { run: run.clone(), owner, kept: false, containers: Vec::new(), networks: Vec::new() };
        Some(clusters.entry(run.clone()).or_insert_with(new))
    }
}

/// The labels of what a run creates in the engine.
pub(super) fn labels(record: &RunRecord) -> HashMap<String, String> {
    let owner = record.owner.as_ref().map(Owner::label).unwrap_or_default();
    HashMap::from([(RUN_LABEL.to_owned(), record.id.to_string()), (OWNER_LABEL.to_owned(), owner)])
}

/// Whether an engine is configured at an address: another one than the default, or a socket that exists.
fn is_configured(address: &str, exists: impl Fn(&Path) -> bool) -> bool {
    address != DEFAULT_ADDRESS || exists(Path::new(address.trim_start_matches("unix://")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_is_there_where_it_is_named_or_its_socket_exists() {
        let socket = |path: &Path| path == Path::new("/var/run/docker.sock");
        assert!(is_configured(DEFAULT_ADDRESS, socket));
        assert!(!is_configured(DEFAULT_ADDRESS, |_| false));
        assert!(is_configured("tcp://build-1:2376", |_| false));
        assert!(is_configured("unix:///nonexistent", |_| false));
    }
}
