use std::path::{Path, PathBuf};

use async_trait::async_trait;
use kube::Client;

use super::addons::tell_addons;
use super::cluster::{ClusterSpec, KUBECONFIG, ProvisionedCluster};
use super::{OpenNamespace, OpenVenue, Run, Venue, VenueError};
use crate::cluster::{
    ClusterError, Docker, ImageCache, ImageSource, KubeCluster, NodeImage, Objects, RunRecord, ScenarioImages,
};
use crate::controller::Components;
use crate::events::Event;
use crate::mesh::{IstioChoice, Planes};
use crate::scenario::{ControlPlane, GatewayApi, Scenario};

/// A cluster of the run's own: k3s in a container, with Istio.
#[derive(Debug, Clone)]
pub struct Throwaway {
    /// The shiftcheck binary, which becomes the workload image.
    pub binary: PathBuf,
    /// The node image; none means the one in the cache.
    pub node: Option<NodeImage>,
    /// Which Istio, and how it is installed.
    pub istio: IstioChoice,
    /// containerd's snapshotter.
    pub snapshotter: String,
    /// The least number of nodes, from 1; a scenario may ask for more. With several, each is in a zone of its own.
    pub nodes: u8,
    /// Images that the node does not pull.
    pub load: Vec<ImageSource>,
}

impl Throwaway {
    /// The newest Istio in the cache, with this program as the workload image.
    pub fn new(binary: PathBuf) -> Self {
        let snapshotter = "overlayfs".to_owned();
        Self { binary, node: None, istio: IstioChoice::default(), snapshotter, nodes: 1, load: Vec::new() }
    }

    /// Starts the cluster of a run with the chosen Istio and a first namespace.
    ///
    /// # Errors
    /// As those of [`ProvisionedCluster::start`].
    pub async fn start(&self, run: &Run<'_>) -> Result<(ProvisionedCluster, Objects), VenueError> {
        let (planes, first) = Planes::only(&self.istio, &run.cache).await?;
        self.start_with(run, planes, first).await
    }

    /// As [`start`](Self::start), with a first control plane among several.
    ///
    /// # Errors
    /// As those of [`ProvisionedCluster::start`].
    pub async fn start_with(
        &self,
        run: &Run<'_>,
        planes: Planes,
        first: ControlPlane,
    ) -> Result<(ProvisionedCluster, Objects), VenueError> {
        let components = Components::of(&run.scenario.install, &ImageCache::new(&run.cache))?;
        let spec = self.spec(&run.cache, (planes, first), &[run.scenario], components)?;
        let record =
            RunRecord { engine: Some(Docker::default_address()), ..RunRecord::own(run.id.clone(), None, &run.cache) };
        let (cluster, objects) = ProvisionedCluster::start(spec, &record, &run.namespace, &run.events).await?;
        let kubectl = format!("kubectl --kubeconfig {}", run.records.folder(&run.id)?.join(KUBECONFIG).display());
        let (wanted, namespace) = (&run.scenario.addons, &cluster.istio.namespace);
        tell_addons(wanted, &cluster.client, &kubectl, namespace, &run.events).await;
        Ok((cluster, objects))
    }

    /// What a cluster for these scenarios is made of.
    ///
    /// # Errors
    /// A scenario names an addon of which there is no manifest.
    pub(super) fn spec<'a>(
        &'a self,
        cache: &'a Path,
        (planes, first): (Planes, ControlPlane),
        scenarios: &[&Scenario],
        components: Components,
    ) -> Result<ClusterSpec<'a>, VenueError> {
        let addons = planes.addons(&first, scenarios.iter().flat_map(|scenario| &scenario.addons))?;
        Ok(ClusterSpec {
            cache,
            binary: &self.binary,
            node: self.node.clone(),
            planes: planes.with_ingress(
                scenarios
                    .iter()
                    .any(|scenario| scenario.ingress_gateways().iter().any(|gateway| gateway.api == GatewayApi::Istio)),
            ),
            first,
            snapshotter: &self.snapshotter,
            nodes: scenarios.iter().filter_map(|own| Some(own.nodes.as_ref()?.number)).fold(self.nodes, u8::max),
            images: ScenarioImages::of(scenarios, &self.load).and(addons.manifests()),
            gateway_api: scenarios.iter().any(|scenario| scenario.uses_gateway_api()),
            components,
            addons,
        })
    }
}

#[async_trait]
impl Venue for Throwaway {
    fn description(&self, _scenario: &Scenario, _namespace: &str) -> String {
        "a throwaway cluster".to_owned()
    }

    fn throwaway(&self) -> Option<&Throwaway> {
        Some(self)
    }

    async fn open<'a>(&'a self, run: &'a Run<'a>) -> Result<Box<dyn OpenVenue + 'a>, VenueError> {
        let (cluster, objects) = self.start(run).await?;
        run.events.tell(Event::Environment(cluster.environment().await));
        Ok(Box::new(OpenNamespace::new(&cluster, objects, run.scenario, &run.events)))
    }

    async fn client(&self, run: &Run<'_>) -> Option<Client> {
        let kubeconfig = run.records.folder(&run.id).ok()?.join(KUBECONFIG);
        Some(KubeCluster::find(Some(&kubeconfig), None).await.ok()?.1)
    }

    async fn lost(&self, run: &Run<'_>) -> ClusterError {
        match Docker::connect().await {
            Ok(docker) => docker.node_lost(&run.id).await,
            // the run itself says so
            Err(_) => std::future::pending().await,
        }
    }

    fn creation(&self, _run: &Run<'_>) -> Option<String> {
        Some("the cluster".to_owned())
    }

    async fn keep(&self, run: &Run<'_>) -> Result<Option<Vec<String>>, ClusterError> {
        let kubeconfig = run.records.folder(&run.id)?.join(KUBECONFIG);
        // without a kubeconfig the run failed before its cluster was there
        let is_kept = kubeconfig.is_file() && Docker::connect().await?.keep(&run.id).await?;
        Ok(is_kept.then(|| vec![format!("export KUBECONFIG={}", kubeconfig.display())]))
    }

    async fn remove(&self, record: &RunRecord) -> Result<(), ClusterError> {
        Docker::connect().await?.remove_run(&record.id).await
    }
}
