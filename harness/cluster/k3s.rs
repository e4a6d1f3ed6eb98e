use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use testcontainers::bollard::Docker as Bollard;
use testcontainers::bollard::errors::Error as BollardError;
use testcontainers::bollard::models::PortBinding;
use testcontainers::bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    RenameContainerOptionsBuilder,
};
use testcontainers::core::logs::LogFrame;
use testcontainers::core::{AccessMode, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, CopyTargetOptions, ImageExt, ReuseDirective};
use testcontainers_modules::k3s::{K3s, KUBE_SECURE_PORT};

use super::answer::answered;
use super::client;
use super::credentials::RegistryCredentials;
use super::images::NodeImage;
use super::owner::Owner;
use super::run::RunRecord;
use super::run_id::RunId;
use super::wait::{Again, Awaited, Failure, Progress, Wait, WaitError, until};
use super::{ClusterError, RUN_LABEL};

/// The label with the process that has started a container.
const OWNER_LABEL: &str = "shiftcheck.dev/owner";
/// The folder from which k3s and the offline node import image archives.
const IMAGES: &str = "/var/lib/rancher/k3s/agent/images";
const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
/// The file from which the kubelet reads credentials for registries, in every pod of every namespace.
const CREDENTIALS: &str = "/.docker/config.json";
/// The timeout of the API server.
const API_LIMIT: Duration = Duration::from_secs(120);
/// The number of lines of the node's log that are kept for messages.
const LOG_LINES: usize = 200;
/// The disk space in MB that a cluster with Istio needs.
const DISK_MB: u64 = 3000;

/// The timeout of the first request to the engine, so that an engine that hangs is found before anything else starts.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The timeout of other requests to the engine.
const ENGINE_LIMIT: Duration = Duration::from_secs(30);
/// The timeout of requests that transfer images.
const TRANSFER_LIMIT: Duration = Duration::from_secs(600);
/// The timeout for creating and starting a container of a local image.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The address of the engine if `DOCKER_HOST` is not set.
const DEFAULT_ADDRESS: &str = "unix:///var/run/docker.sock";
/// The prefixes of container names: of a cluster, and of a cluster that is kept. The labels of a container cannot be changed after its creation,
/// and only the end of a run decides whether its cluster is kept. A container can be renamed at any time, also on a remote engine.
const NAME: &str = "shiftcheck-";
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
        let options = RenameContainerOptionsBuilder::new().name(&format!("{KEPT_NAME}{run}")).build();
        match self.engine.rename_container(&format!("{NAME}{run}"), options).await {
            Ok(()) => Ok(true),
            Err(BollardError::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(error) => Err(ClusterError::Keep { run: run.clone(), reason: error.to_string() }),
        }
    }

    /// Removes every container of a run with its volumes.
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
                let found = match self.run_containers().await {
                    Ok(found) => found,
                    Err(error) => return Progress::NotYet(error.to_string()),
                };
                let mut own = found.into_iter().filter(|container| container.run == *run).peekable();
                if own.peek().is_none() {
                    return Progress::Done(());
                }
                for container in own {
                    if let Err(error) = self.remove(&container.id).await {
                        refused = Some(error);
                    }
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

    /// The containers with the label of a run.
    ///
    /// # Errors
    /// The engine does not list its containers.
    pub async fn run_containers(&self) -> Result<Vec<RunContainer>, ClusterError> {
        let filters = HashMap::from([("label", vec![RUN_LABEL])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let containers = self
            .engine
            .list_containers(Some(options))
            .await
            .map_err(|error| ClusterError::NoEngine(format!("{}: {error}", self.address)))?;
        Ok(containers
            .into_iter()
            .filter_map(|container| {
                let labels = container.labels?;
                // without a valid id it is not the container of a run
                let run = labels.get(RUN_LABEL)?.parse().ok()?;
                let owner = labels.get(OWNER_LABEL).and_then(|owner| Owner::parse(owner));
                let names = container.names.unwrap_or_default();
                let kept = names.iter().any(|name| name.trim_start_matches('/').starts_with(KEPT_NAME));
                Some(RunContainer { id: container.id?, run, owner, kept })
            })
            .collect())
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

    /// The text of a file in a container, if it exists. The future of testcontainers' `copy_file_from` is not `Send`.
    async fn file(&self, id: &str, path: &str) -> Option<String> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let archive: Vec<Bytes> = self.engine.download_from_container(id, Some(options)).try_collect().await.ok()?;
        let archive = archive.concat();
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut text = String::new();
        archive.entries().ok()?.next()?.ok()?.read_to_string(&mut text).ok()?;
        Some(text)
    }

    async fn root(&self) -> Option<PathBuf> {
        self.engine.info().await.ok()?.docker_root_dir.map(PathBuf::from)
    }
}

/// A container of a run.
#[derive(Debug, Clone)]
pub struct RunContainer {
    /// The container's id.
    pub id: String,
    /// The run.
    pub run: RunId,
    /// The process that has started it; none if the label has another format.
    pub owner: Option<Owner>,
    /// Whether it is kept.
    pub kept: bool,
}

/// The settings of a throwaway cluster.
#[derive(Debug, Clone)]
pub struct K3sOptions {
    /// The node image.
    pub node: NodeImage,
    /// Image archives, in the order in which they are needed.
    pub archives: Vec<PathBuf>,
    /// The credentials for registries.
    pub credentials: Option<RegistryCredentials>,
    /// The snapshotter of containerd: `overlayfs`, or `native` on file systems that do not support it.
    pub snapshotter: String,
}

/// A throwaway cluster: one privileged container with the label of its run. [`Docker::remove_run`] removes it.
pub struct K3sCluster {
    /// The kubeconfig, with the published port.
    pub kubeconfig: String,
    /// A client of the cluster's API.
    pub client: Client,
}

impl K3sCluster {
    /// Starts the node and returns when its kubeconfig is written. Images may still be imported.
    ///
    /// # Errors
    /// The image cannot be pulled, the disk is too full, or the node does not start.
    pub async fn start(
        docker: &Docker,
        options: K3sOptions,
        record: &RunRecord,
        seen: impl FnMut(&str),
    ) -> Result<Self, ClusterError> {
        check_disk(docker).await?;
        let image = format!("{}:{}", options.node.image, options.node.tag);
        let has_image = docker.has_image(&image).await;
        if !has_image && options.node.image.starts_with("shiftcheck/") {
            // built locally: no registry has it
            return Err(ClusterError::NoImage { image, reason: String::new() });
        }
        let log = NodeLog::default();
        let request = request(&options, record, log.clone());
        let limit = if has_image { START_LIMIT } else { TRANSFER_LIMIT };
        let who = format!("the Docker engine at {}", docker.address());
        let container = answered(&who, limit, request.start()).await?.map_err(|error| start_error(&image, error))?;
        let kubeconfig = published(docker, &container, &log, seen).await?;
        let port = answered(who, ENGINE_LIMIT, container.get_host_port_ipv4(KUBE_SECURE_PORT)).await?;
        let port = port.map_err(|error| ClusterError::Start(Box::new(error)))?;
        let kubeconfig = kubeconfig.replace("https://127.0.0.1:6443", &format!("https://127.0.0.1:{port}"));
        let client = client_of(&kubeconfig).await?;
        Ok(Self { kubeconfig, client })
    }
}

/// The container of the node. Its log goes to `log`.
fn request(options: &K3sOptions, record: &RunRecord, log: NodeLog) -> ContainerRequest<K3s> {
    let run = &record.id;
    let owner = record.owner.as_ref().map(Owner::label).unwrap_or_default();
    let mut request = K3s::default()
        .with_name(&options.node.image)
        .with_tag(&options.node.tag)
        .with_cmd([
            "server".to_owned(),
            format!("--snapshotter={}", options.snapshotter),
            "--disable=traefik".to_owned(),
            "--disable=metrics-server".to_owned(),
            "--disable=servicelb".to_owned(),
        ])
        .with_container_name(format!("{NAME}{run}"))
        .with_privileged(true)
        .with_userns_mode("host")
        .with_mount(Mount::tmpfs_mount("/run"))
        .with_mount(Mount::tmpfs_mount("/var/run"))
        .with_label(RUN_LABEL, run.as_str())
        .with_label(OWNER_LABEL, owner)
        // the container outlives its handle: the run removes it by its label, or keeps it
        .with_reuse(ReuseDirective::Always)
        .with_startup_timeout(API_LIMIT)
        // the API server is polled instead: it answers before the node is ready
        .with_ready_conditions(Vec::new())
        .with_host_config_modifier(|host| {
            host.publish_all_ports = Some(false);
            host.port_bindings = Some(HashMap::from([(
                "6443/tcp".to_owned(),
                Some(vec![PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: None }]),
            )]));
        })
        .with_log_consumer(move |frame: &LogFrame| log.push(frame.bytes()));
    for (position, archive) in options.archives.iter().enumerate() {
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        request = request.with_mount(
            Mount::bind_mount(archive.to_string_lossy(), format!("{IMAGES}/{:02}-{name}", position + 10))
                .with_access_mode(AccessMode::ReadOnly),
        );
    }
    if let Some(credentials) = &options.credentials {
        request = request.with_copy_to(CopyTargetOptions::new(CREDENTIALS).with_mode(0o600), credentials.config());
    }
    request
}

/// Waits until the node has written its kubeconfig, and returns it.
async fn published(
    docker: &Docker,
    container: &ContainerAsync<K3s>,
    log: &NodeLog,
    seen: impl FnMut(&str),
) -> Result<String, ClusterError> {
    let again = Again::Every(Duration::from_millis(100));
    let found = until(Awaited::NodeStart, API_LIMIT, again, seen, async || {
        if let Some(text) = docker.file(container.id(), KUBECONFIG).await {
            return Progress::Done(text);
        }
        match container.is_running().await {
            Ok(false) => Progress::Failed(Failure::Reported(log.last())),
            _ => Progress::NotYet(log.last()),
        }
    })
    .await;
    found.map_err(|error| match error {
        WaitError::Failed { .. } => ClusterError::NodeEnded(log.last()),
        late @ WaitError::TimedOut { .. } => late.into(),
    })
}

async fn client_of(kubeconfig: &str) -> Result<Client, ClusterError> {
    let bad = |error: &dyn std::fmt::Display| ClusterError::Kubeconfig(error.to_string());
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(|error| bad(&error))?;
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(|error| bad(&error))?;
    client::client(config)
}

fn start_error(image: &str, error: testcontainers::TestcontainersError) -> ClusterError {
    use testcontainers::TestcontainersError;
    use testcontainers::core::error::ClientError;
    match error {
        TestcontainersError::Client(ClientError::PullImage { err, .. }) => {
            ClusterError::NoImage { image: image.to_owned(), reason: err.to_string() }
        }
        other => ClusterError::Start(Box::new(other)),
    }
}

async fn check_disk(docker: &Docker) -> Result<(), ClusterError> {
    // the folder of a remote engine is not on this machine
    let Some((root, free)) = docker.root().await.and_then(|root| free_mb(&root).map(|free| (root, free))) else {
        return Ok(());
    };
    enough(root, free)
}

fn enough(path: PathBuf, free: u64) -> Result<(), ClusterError> {
    if free < DISK_MB { Err(ClusterError::NoDisk { path, free, needed: DISK_MB }) } else { Ok(()) }
}

fn free_mb(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize) >> 20)
}

/// Whether an engine is configured at an address: another one than the default, or a socket that exists.
fn is_configured(address: &str, exists: impl Fn(&Path) -> bool) -> bool {
    address != DEFAULT_ADDRESS || exists(Path::new(address.trim_start_matches("unix://")))
}

/// The last lines of the node's log.
#[derive(Debug, Clone, Default)]
struct NodeLog(Arc<Mutex<VecDeque<String>>>);

impl NodeLog {
    fn push(&self, bytes: &[u8]) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in String::from_utf8_lossy(bytes).lines().filter(|line| !line.trim().is_empty()) {
            if lines.len() == LOG_LINES {
                lines.pop_front();
            }
            lines.push_back(line.to_owned());
        }
    }

    fn last(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.back().cloned().unwrap_or_else(|| "nothing".to_owned())
    }

    #[cfg(test)]
    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_too_full_is_told_with_its_figures() {
        assert!(enough("/docker".into(), DISK_MB).is_ok());
        let error = enough("/docker".into(), DISK_MB - 1).unwrap_err();
        assert_eq!(error.to_string(), "only 2999 MB are free on the disk of /docker, and a cluster needs 3000 MB");
        assert!(free_mb(Path::new("/")).is_some());
        assert_eq!(free_mb(Path::new("/nowhere")), None);
    }

    #[test]
    fn an_engine_is_there_where_it_is_named_or_its_socket_exists() {
        let socket = |path: &Path| path == Path::new("/var/run/docker.sock");
        assert!(is_configured(DEFAULT_ADDRESS, socket));
        assert!(!is_configured(DEFAULT_ADDRESS, |_| false));
        assert!(is_configured("tcp://build-1:2376", |_| false));
        assert!(is_configured("unix:///nonexistent", |_| false));
    }

    #[test]
    fn the_log_keeps_its_end() {
        let log = NodeLog::default();
        assert_eq!(log.last(), "nothing");
        for line in 0..=LOG_LINES {
            log.push(format!("line {line}\n\n").as_bytes());
        }
        assert_eq!((log.lines().len(), log.lines()[0].as_str()), (LOG_LINES, "line 1"));
        assert_eq!(log.last(), format!("line {LOG_LINES}"));
    }
}
