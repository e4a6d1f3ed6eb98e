use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::Mutex;

use super::VenueError;
use super::run::tell_swept;
use crate::cluster::wait::{Again, Awaited, Progress, until};
use crate::cluster::{
    ClusterError, Docker, ImageCache, K3sCluster, K3sOptions, NodeImage, Objects, RunId, RunRecord, RunRecords,
    ScenarioImages, Wanted, sweep, write_archive,
};
use crate::controller::Components;
use crate::events::{Environment, Event, Events};
use crate::mesh::{Addons, Istio, Planes};
use crate::scenario::ControlPlane;

/// The timeout of the node, its DNS and the default service accounts.
const NODE_LIMIT: Duration = Duration::from_secs(180);

/// The timeout of the removal of a namespace.
const GONE_LIMIT: Duration = Duration::from_secs(60);
const GONE_INTERVAL: Duration = Duration::from_millis(100);

/// The kubeconfig of a throwaway cluster, in the folder of its run.
pub(super) const KUBECONFIG: &str = "kubeconfig";

/// The label that the offline node has until all images are imported. k3s is not ready before.
const IMPORTING_LABEL: &str = "shiftcheck.dev/images";

/// What a throwaway cluster with Istio is made of.
#[derive(Debug, Clone)]
pub struct ClusterSpec<'a> {
    /// The folder of the image cache and the run records.
    pub cache: &'a Path,
    /// The shiftcheck binary, which becomes the workload image.
    pub binary: &'a Path,
    /// The node image; none means the one in the cache.
    pub node: Option<NodeImage>,
    /// The control planes that can be installed.
    pub planes: Planes,
    /// The control plane that is installed first.
    pub first: ControlPlane,
    /// containerd's snapshotter.
    pub snapshotter: &'a str,
    /// The number of nodes, from 1.
    pub nodes: u8,
    /// The images of the manifests, and those that are loaded.
    pub images: ScenarioImages,
    /// Whether to install the kinds of the Gateway API.
    pub gateway_api: bool,
    /// The components that are installed besides Istio.
    pub components: Components,
    /// The addons of Istio that are installed.
    pub addons: Addons,
}

/// A cluster with Istio that is ready for namespaces. Clones share the cluster.
#[derive(Clone)]
pub struct ProvisionedCluster {
    /// The Kubernetes API.
    pub client: Client,
    /// The Istio that injects sidecars into new namespaces.
    pub istio: Istio,
    /// The control planes that can be installed, and those that are; none where the cluster is not the run's own.
    pub(super) planes: Option<Arc<Mutex<Planes>>>,
}

impl ProvisionedCluster {
    /// An existing cluster.
    ///
    /// # Errors
    /// There is no Istio on it, or the API server does not answer.
    pub async fn find(client: Client) -> Result<Self, VenueError> {
        Ok(Self { istio: Istio::find(&client).await?, client, planes: None })
    }

    /// Starts a throwaway cluster with a first namespace, and returns both. The run's record is written before anything is created, so that a
    /// sweep finds what a killed run has left; the caller also removes the cluster, with [`Docker::remove_run`].
    ///
    /// # Errors
    /// No engine answers, an image is missing, or something does not become ready in time.
    pub async fn start(
        mut spec: ClusterSpec<'_>,
        record: &RunRecord,
        namespace: &str,
        events: &Events,
    ) -> Result<(Self, Objects), VenueError> {
        let records = RunRecords::new(spec.cache);
        let id = &record.id;
        let cache = ImageCache::new(spec.cache);
        let definitions = if spec.gateway_api { Some(cache.gateway_api()?) } else { None };
        let node = match spec.node {
            Some(node) => node,
            None => cache.node()?,
        };
        let docker = Docker::connect().await?;
        tell_swept(sweep(Some(&docker), &records, Wanted::default()).await?, events);
        records.write(record)?;
        events.tell(Event::SettingUp("packing the workload image".to_owned()));
        let workload = workload_archive(spec.binary, records.folder(id)?.join("workload.tar")).await?;
        let setting_up = |what| events.tell(Event::SettingUp(what));
        let loaded =
            spec.images.archives(&docker, &records.folder(id)?, setting_up).await.map_err(ClusterError::from)?;
        let options = K3sOptions {
            node,
            archives: {
                let sets = spec.planes.archives().chain(spec.components.archives()).cloned();
                sets.chain([workload]).chain(loaded).collect()
            },
            credentials: spec.images.credentials(),
            snapshotter: spec.snapshotter.to_owned(),
            nodes: spec.nodes,
        };
        events.tell(Event::SettingUp("starting the cluster".to_owned()));
        let cluster = K3sCluster::start(&docker, options, record, events.waiting());
        // istioctl takes a second; its output is cached for the installation below
        let (cluster, generated) = tokio::join!(cluster, spec.planes.manifests(&spec.first));
        let (cluster, _) = (cluster?, generated?);
        records.write_file(id, KUBECONFIG, cluster.kubeconfig.as_bytes())?;
        let client = cluster.client;
        answering(&client, events.waiting()).await?;
        events.tell(Event::Ready("API server".to_owned()));
        // istiod is applied while images are still imported: its pod starts as soon as the node is ready
        events.tell(Event::SettingUp(format!("installing Istio {}", spec.first)));
        let istio = spec.planes.apply(&client, &spec.first, definitions.as_deref()).await?;
        let objects = Objects::new(client.clone(), id.clone(), namespace, namespace, false).await?;
        objects.create_namespace(&BTreeMap::from([istio.injection_label()])).await?;
        let (node, istiod, ingress, components) = tokio::join!(
            nodes_ready(&client, spec.nodes, namespace, events.waiting()),
            istio.ready(&client, Some(namespace), events.waiting()),
            Box::pin(spec.planes.apply_ingress(&client, &spec.first, events.waiting())),
            Box::pin(spec.components.install(&client, events.waiting())),
        );
        node?;
        istiod?;
        ingress?;
        components?;
        // not before all images are imported: the node would pull one that is loaded
        Box::pin(spec.addons.apply(&client)).await?;
        Box::pin(spec.addons.ready(&client, events.waiting())).await?;
        let size = if spec.nodes > 1 { format!(" of {} nodes", spec.nodes) } else { String::new() };
        events.tell(Event::Ready(format!("cluster{size} with Istio {}", istio.version)));
        Ok((Self { client, istio, planes: Some(Arc::new(Mutex::new(spec.planes))) }, objects))
    }

    /// Creates another namespace with sidecar injection, for objects whose manifests call it `declared`.
    ///
    /// # Errors
    /// It is there already, or the API server refuses.
    pub async fn create_namespace(&self, run: &RunId, declared: &str, name: &str) -> Result<Objects, VenueError> {
        let objects = Objects::new(self.client.clone(), run.clone(), declared, name, false).await?;
        objects.create_namespace(&BTreeMap::from([self.istio.injection_label()])).await?;
        account_ready(&self.client, name, |_| {}).await?;
        Ok(objects)
    }

    /// Deletes a namespace, if it is there, in the background.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn delete_namespace(&self, name: &str) -> Result<(), VenueError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match namespaces.delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            deleted => {
                deleted.map_err(ClusterError::api(format!("deleting the namespace `{name}`")))?;
                Ok(())
            }
        }
    }

    /// Deletes a namespace and waits until it is gone with everything in it.
    ///
    /// # Errors
    /// The API server refuses, or the wait times out.
    pub async fn remove_namespace(&self, name: &str, seen: impl FnMut(&str)) -> Result<(), VenueError> {
        self.delete_namespace(name).await?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let check = async || match namespaces.get_metadata_opt(name).await {
            Ok(None) => Progress::Done(()),
            Ok(Some(_)) => Progress::NotYet(format!("{name} is terminating")),
            Err(error) => Progress::after(error),
        };
        let what = Awaited::NamespaceRemoval(name.to_owned());
        until(what, GONE_LIMIT, Again::Every(GONE_INTERVAL), seen, check).await.map_err(ClusterError::from)?;
        Ok(())
    }

    /// Makes a control plane the only one of the cluster, and the one that injects sidecars into new namespaces.
    ///
    /// # Errors
    /// The cluster is not the run's own, or the control plane cannot be installed.
    pub async fn switch_to(&mut self, plane: &ControlPlane, events: &Events) -> Result<(), VenueError> {
        let mut planes = self.planes.as_ref().ok_or(VenueError::NotThrowaway)?.lock().await;
        if planes.installed() != [plane.clone()] {
            planes.install(&self.client, plane, None, events.waiting()).await?;
        }
        self.istio = planes.istio(plane)?;
        Ok(())
    }

    /// The versions of Kubernetes and Istio, and the number of nodes.
    pub async fn environment(&self) -> Environment {
        let kubernetes = self.client.apiserver_version().await.ok().map(|info| info.git_version);
        // not everybody may list nodes; of many, the API server counts all but one
        let first = Api::<Node>::all(self.client.clone()).list_metadata(&ListParams::default().limit(1)).await.ok();
        let nodes = first.map(|first| {
            let others = first.metadata.remaining_item_count.and_then(|others| u32::try_from(others).ok());
            others.unwrap_or_default() + u32::try_from(first.items.len()).unwrap_or_default()
        });
        Environment { kubernetes, istio: Some(self.istio.version.clone()), nodes, ..Environment::default() }
    }
}

async fn workload_archive(binary: &Path, archive: PathBuf) -> Result<PathBuf, ClusterError> {
    let (binary, target) = (binary.to_owned(), archive.clone());
    let written = tokio::task::spawn_blocking(move || write_archive(&binary, &target)).await;
    match written {
        Ok(written) => written?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
    Ok(archive)
}

/// Waits until the API server is ready.
async fn answering(client: &Client, seen: impl FnMut(&str)) -> Result<(), ClusterError> {
    until(Awaited::ApiServer, NODE_LIMIT, Again::Every(Duration::from_millis(100)), seen, async || {
        let request = hyper::Request::get("/readyz").body(Vec::new());
        let request = request.unwrap_or_else(|_| unreachable!("a literal path"));
        match client.request_text(request).await {
            Ok(_) => Progress::Done(()),
            // its error messages while it starts would only confuse
            Err(_) => Progress::NotYet("the API server is not ready".to_owned()),
        }
    })
    .await
    .map_err(Into::into)
}

/// Waits until so many nodes and their DNS are ready and pods can be created in the namespace.
async fn nodes_ready(
    client: &Client,
    wanted: u8,
    namespace: &str,
    mut seen: impl FnMut(&str),
) -> Result<(), ClusterError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let dns: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    until(Awaited::Node, NODE_LIMIT, Again::Every(Duration::from_millis(100)), &mut seen, async || {
        let list = nodes.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let ready = list.iter().filter(|node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        match ready.count() {
            ready if ready >= usize::from(wanted) => {}
            _ if wanted == 1 => return Progress::NotYet("the node is not ready".to_owned()),
            ready => return Progress::NotYet(format!("{ready} of {wanted} nodes are ready")),
        }
        if list.iter().any(|node| node.labels().contains_key(IMPORTING_LABEL)) {
            return Progress::NotYet("images are being imported".to_owned());
        }
        let answers = dns.list(&ListParams::default().labels("k8s-app=kube-dns")).await.is_ok_and(|list| {
            list.items
                .iter()
                .any(|dns| dns.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0) > 0)
        });
        if answers { Progress::Done(()) } else { Progress::NotYet("its DNS does not answer".to_owned()) }
    })
    .await?;
    account_ready(client, namespace, seen).await
}

/// Waits until pods can be created in the namespace.
pub(super) async fn account_ready(
    client: &Client,
    namespace: &str,
    seen: impl FnMut(&str),
) -> Result<(), ClusterError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let what = Awaited::ServiceAccount(namespace.to_owned());
    until(what, NODE_LIMIT, Again::Every(Duration::from_millis(50)), seen, async || {
        match accounts.get_opt("default").await {
            Ok(Some(_)) => Progress::Done(()),
            Ok(None) => Progress::NotYet("not there".to_owned()),
            Err(error) => Progress::after(error),
        }
    })
    .await
    .map_err(Into::into)
}
