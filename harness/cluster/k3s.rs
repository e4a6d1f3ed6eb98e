//! The nodes of a throwaway cluster: k3s, or an image with the same interface.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use testcontainers::bollard::models::PortBinding;
use testcontainers::core::logs::LogFrame;
use testcontainers::core::{AccessMode, Mount};
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerAsync, ContainerRequest, CopyTargetOptions, ImageExt, ReuseDirective};
use testcontainers_modules::k3s::{K3s, KUBE_SECURE_PORT};

use super::ClusterError;
use super::answer::answered;
use super::client;
use super::credentials::RegistryCredentials;
use super::engine::{Docker, ENGINE_LIMIT, NAME, TRANSFER_LIMIT, labels};
use super::images::NodeImage;
use super::run::RunRecord;
use super::wait::{Again, Awaited, Failure, Progress, WaitError, until};

/// The folder from which k3s and the offline node import image archives.
const IMAGES: &str = "/var/lib/rancher/k3s/agent/images";
const KUBECONFIG: &str = "/etc/rancher/k3s/k3s.yaml";
/// The file from which the kubelet reads credentials for registries, in every pod of every namespace.
const CREDENTIALS: &str = "/.docker/config.json";
/// The timeout of the API server.
const API_LIMIT: Duration = Duration::from_secs(120);
/// The number of lines of the node's log that are kept for messages.
const LOG_LINES: usize = 200;
/// The disk space in MB that a cluster with Istio needs, and each further node of it.
const DISK_MB: u64 = 3000;
const NODE_DISK_MB: u64 = 1000;
/// The timeout for creating and starting a container of a local image.
const START_LIMIT: Duration = Duration::from_secs(120);

/// The region of all nodes of a cluster with several. Each has a zone of its own.
const REGION: &str = "region-1";

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
    /// The number of nodes, from 1. With several, each is in a zone of its own: `zone-1`, `zone-2` and so on of `region-1`.
    pub nodes: u8,
}

/// A throwaway cluster: a privileged container with the label of its run for each node. [`Docker::remove_run`] removes it.
pub struct K3sCluster {
    /// The kubeconfig, with the published port.
    pub kubeconfig: String,
    /// A client of the cluster's API.
    pub client: Client,
}

impl K3sCluster {
    /// Starts the nodes and returns when the kubeconfig is written. Images may still be imported, and nodes may still have to join.
    ///
    /// # Errors
    /// The image cannot be pulled, the disk is too full, or a node does not start.
    pub async fn start(
        docker: &Docker,
        options: K3sOptions,
        record: &RunRecord,
        seen: impl FnMut(&str),
    ) -> Result<Self, ClusterError> {
        check_disk(docker, options.nodes).await?;
        let image = format!("{}:{}", options.node.image, options.node.tag);
        let has_image = docker.has_image(&image).await;
        if !has_image && options.node.image.starts_with("shiftcheck/") {
            // built locally: no registry has it
            return Err(ClusterError::NoImage { image, reason: String::new() });
        }
        let network = if options.nodes > 1 { Some(Network::create(docker, record).await?) } else { None };
        let log = NodeLog::default();
        let limit = if has_image { START_LIMIT } else { TRANSFER_LIMIT };
        let who = format!("the Docker engine at {}", docker.address());
        let started = async |role: &Role<'_>, log: NodeLog| {
            let started = answered(&who, limit, request(&options, record, role, log).start()).await?;
            started.map_err(|error| start_error(&image, error))
        };
        let server = started(&network.as_ref().map_or(Role::Alone, Role::Server), log.clone()).await?;
        if let Some(network) = &network {
            let server = docker.address_in(&network.name, server.id()).await?;
            let agents: Vec<Role<'_>> =
                (2..=options.nodes).map(|number| Role::Agent { number, network, server: &server }).collect();
            try_join_all(agents.iter().map(|agent| started(agent, NodeLog::default()))).await?;
        }
        let kubeconfig = published(docker, &server, &log, seen).await?;
        let port = answered(who, ENGINE_LIMIT, server.get_host_port_ipv4(KUBE_SECURE_PORT)).await?;
        let port = port.map_err(|error| ClusterError::Start(Box::new(error)))?;
        let kubeconfig = kubeconfig.replace("https://127.0.0.1:6443", &format!("https://127.0.0.1:{port}"));
        let client = client_of(&kubeconfig).await?;
        Ok(Self { kubeconfig, client })
    }
}

/// The network of a cluster's nodes, and the secret with which a node joins.
struct Network {
    name: String,
    token: String,
}

impl Network {
    async fn create(docker: &Docker, record: &RunRecord) -> Result<Self, ClusterError> {
        let mut bytes = [0; 16];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        let name = docker.create_network(record).await?;
        match read {
            Ok(()) => Ok(Self { name, token: hex::encode(bytes) }),
            Err(error) => {
                Err(ClusterError::Network { name, reason: format!("no random bytes for its token: {error}") })
            }
        }
    }
}

/// The part of a node in its cluster.
enum Role<'a> {
    /// The only node.
    Alone,
    /// The first of several.
    Server(&'a Network),
    /// One that joins the first, which has this address.
    Agent { number: u8, network: &'a Network, server: &'a str },
}

impl Role<'_> {
    /// The arguments of the node's program.
    fn arguments(&self, snapshotter: &str) -> Vec<String> {
        let mut arguments = match self {
            Self::Alone | Self::Server(_) => {
                vec!["server", "--disable=traefik", "--disable=metrics-server", "--disable=servicelb"]
            }
            Self::Agent { .. } => vec!["agent"],
        };
        if let Self::Server(_) = self {
            // nodes on one network need no tunnels between them
            arguments.push("--flannel-backend=host-gw");
        }
        let mut arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        arguments.push(format!("--snapshotter={snapshotter}"));
        if let Some((number, _)) = self.member() {
            arguments.push(format!("--node-label=topology.kubernetes.io/region={REGION}"));
            arguments.push(format!("--node-label=topology.kubernetes.io/zone=zone-{number}"));
        }
        arguments
    }

    /// The number of the node and the network, with several nodes.
    const fn member(&self) -> Option<(u8, &Network)> {
        match self {
            Self::Alone => None,
            Self::Server(network) => Some((1, network)),
            Self::Agent { number, network, .. } => Some((*number, network)),
        }
    }
}

/// The container of a node. Its log goes to `log`.
fn request(options: &K3sOptions, record: &RunRecord, role: &Role<'_>, log: NodeLog) -> ContainerRequest<K3s> {
    let run = &record.id;
    let name = match role {
        Role::Alone | Role::Server(_) => format!("{NAME}{run}"),
        Role::Agent { number, .. } => format!("{NAME}{run}-node-{number}"),
    };
    let ports = match role {
        Role::Alone | Role::Server(_) => HashMap::from([(
            "6443/tcp".to_owned(),
            Some(vec![PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: None }]),
        )]),
        Role::Agent { .. } => HashMap::new(),
    };
    let mut request = K3s::default()
        .with_name(&options.node.image)
        .with_tag(&options.node.tag)
        .with_cmd(role.arguments(&options.snapshotter))
        .with_container_name(name)
        .with_privileged(true)
        .with_userns_mode("host")
        .with_mount(Mount::tmpfs_mount("/run"))
        .with_mount(Mount::tmpfs_mount("/var/run"))
        .with_labels(labels(record))
        // the container outlives its handle: the run removes it by its label, or keeps it
        .with_reuse(ReuseDirective::Always)
        .with_startup_timeout(API_LIMIT)
        // the API server is polled instead: it answers before the node is ready
        .with_ready_conditions(Vec::new())
        .with_host_config_modifier(move |host| {
            host.publish_all_ports = Some(false);
            host.port_bindings = Some(ports.clone());
        })
        .with_log_consumer(move |frame: &LogFrame| log.push(frame.bytes()));
    if let Some((number, network)) = role.member() {
        let named = request.with_network(&network.name).with_hostname(format!("node-{number}"));
        request = named.with_env_var("K3S_TOKEN", &network.token);
    }
    if let Role::Agent { server, .. } = role {
        request = request.with_env_var("K3S_URL", format!("https://{server}:6443"));
    }
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

async fn check_disk(docker: &Docker, nodes: u8) -> Result<(), ClusterError> {
    // the folder of a remote engine is not on this machine
    let Some((root, free)) = docker.root().await.and_then(|root| free_mb(&root).map(|free| (root, free))) else {
        return Ok(());
    };
    enough(root, free, nodes)
}

fn enough(path: PathBuf, free: u64, nodes: u8) -> Result<(), ClusterError> {
    let needed = DISK_MB + NODE_DISK_MB * u64::from(nodes.saturating_sub(1));
    if free < needed { Err(ClusterError::NoDisk { path, free, needed }) } else { Ok(()) }
}

fn free_mb(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize) >> 20)
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
        assert!(enough("/docker".into(), DISK_MB, 1).is_ok());
        let error = enough("/docker".into(), DISK_MB - 1, 1).unwrap_err();
        assert_eq!(error.to_string(), "only 2999 MB are free on the disk of /docker, and a cluster needs 3000 MB");
        let error = enough("/docker".into(), DISK_MB, 3).unwrap_err();
        assert_eq!(error.to_string(), "only 3000 MB are free on the disk of /docker, and a cluster needs 5000 MB");
        assert!(free_mb(Path::new("/")).is_some());
        assert_eq!(free_mb(Path::new("/nowhere")), None);
    }

    #[test]
    fn each_of_several_nodes_has_a_zone_and_what_it_joins_with() {
        let network = Network { name: "shiftcheck-0123abcd".to_owned(), token: "secret".to_owned() };
        let agent = Role::Agent { number: 2, network: &network, server: "10.0.0.2" };
        let zones = |role: &Role<'_>| {
            let labels = role
                .arguments("native")
                .into_iter()
                .filter_map(|own| own.split_once("=topology").map(|own| own.1.to_owned()));
            labels.collect::<Vec<_>>()
        };
        assert_eq!(zones(&Role::Alone), [""; 0]);
        assert_eq!(zones(&Role::Server(&network)), [".kubernetes.io/region=region-1", ".kubernetes.io/zone=zone-1"]);
        assert_eq!(zones(&agent), [".kubernetes.io/region=region-1", ".kubernetes.io/zone=zone-2"]);
        let record = RunRecord::own("0123abcd".parse().unwrap(), None, Path::new("/cache"));
        let node = NodeImage { image: "rancher/k3s".to_owned(), tag: "v1".to_owned() };
        let (archives, snapshotter) = (vec!["/cache/istio.tar".into()], "native".to_owned());
        let options = K3sOptions { node, archives, credentials: None, snapshotter, nodes: 2 };
        let request = request(&options, &record, &agent, NodeLog::default());
        assert_eq!(request.container_name().as_deref(), Some("shiftcheck-0123abcd-node-2"));
        assert_eq!(request.network().as_deref(), Some("shiftcheck-0123abcd"));
        let variables: Vec<(String, String)> =
            request.env_vars().map(|(key, value)| (key.into_owned(), value.into_owned())).collect();
        for own in [("K3S_TOKEN", "secret"), ("K3S_URL", "https://10.0.0.2:6443")] {
            assert!(variables.contains(&(own.0.to_owned(), own.1.to_owned())), "{variables:?}");
        }
        assert!(
            request.labels().contains_key("shiftcheck.dev/run")
                && request.labels().contains_key("shiftcheck.dev/owner")
        );
        assert!(request.mounts().any(|mount| mount.target().is_some_and(|target| target.ends_with("/10-istio.tar"))));
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
