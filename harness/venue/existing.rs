use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use kube::Client;

use super::addons::tell_addons;
use super::cluster::{ProvisionedCluster, account_ready};
use super::run::tell_swept;
use super::{OpenNamespace, OpenVenue, Run, Venue, VenueError};
use crate::cluster::{ClusterError, KubeCluster, KubeNamespace, Objects, RunId, RunRecord, Wanted, answered, sweep};
use crate::controller::{self, FoundComponent};
use crate::events::Event;
use crate::scenario::{GatewayApi, Scenario};

/// The longest that the cluster may take until the run's namespace is created.
const PREPARATION_LIMIT: Duration = Duration::from_secs(60);

/// An existing cluster with Istio. The run writes to its own namespace only.
#[derive(Debug, Clone, Default)]
pub struct Existing {
    /// The kubeconfig; none means kubectl's default.
    pub kubeconfig: Option<PathBuf>,
    /// The context; none means the current one.
    pub context: Option<String>,
    /// The namespace; none means the scenario's name with the run's id.
    pub namespace: Option<String>,
    /// Whether objects may change what is outside of the namespace; what they change is told first.
    pub allow_reach: bool,
}

impl Existing {
    /// kubectl with the options that select the cluster.
    fn kubectl(&self) -> String {
        let kubeconfig = self.kubeconfig.iter().map(|file| format!(" --kubeconfig {}", file.display()));
        let context = self.context.iter().map(|context| format!(" --context {context}"));
        format!("kubectl{}", kubeconfig.chain(context).collect::<String>())
    }

    /// Checks what the run would change on the cluster, and creates its namespace.
    async fn prepare(
        &self,
        run: &Run<'_>,
        kube: KubeCluster,
        client: Client,
    ) -> Result<(ProvisionedCluster, Objects), VenueError> {
        let cluster = ProvisionedCluster::find(client.clone()).await?;
        for wanted in &run.scenario.install {
            let FoundComponent { component, version, namespace } = controller::find(&client, wanted).await?;
            run.events.tell(Event::Ready(format!("{component} {version}, found in {namespace}")));
        }
        let (wanted, namespace) = (&run.scenario.addons, &cluster.istio.namespace);
        tell_addons(wanted, &client, &self.kubectl(), namespace, &run.events).await;
        tell_swept(sweep(None, &run.records, Wanted::default()).await?, &run.events);
        let objects = create_namespace(run, &cluster, kube, self.allow_reach).await?;
        Ok((cluster, objects))
    }
}

/// Checks what the run would change outside of its namespace, and creates the namespace, with a record. Effects outside are refused unless
/// `allow_reach` is set.
pub(super) async fn create_namespace(
    run: &Run<'_>,
    cluster: &ProvisionedCluster,
    kube: KubeCluster,
    allow_reach: bool,
) -> Result<Objects, VenueError> {
    let (client, declared) = (cluster.client.clone(), &run.scenario.namespace);
    // gateways that istiod makes are in the namespace itself
    let seen_by_gateways = run.scenario.ingress_gateways().iter().any(|own| own.api == GatewayApi::Istio);
    let objects = Objects::new(client, run.id.clone(), declared, &run.namespace, true).await?;
    let objects = objects.seen_by_gateways(seen_by_gateways);
    let reach = objects.reach(run.scenario.manifests(), &cluster.istio.namespace)?;
    match reach.is_empty() {
        true => {}
        false if allow_reach => run.events.tell(Event::Reaches(reach)),
        false => return Err(ClusterError::Reaches(reach).into()),
    }
    let namespace = KubeNamespace { name: run.namespace.clone(), cluster: Some(kube) };
    run.records.write(&RunRecord::own(run.id.clone(), Some(namespace), &run.cache))?;
    objects.create_namespace(&BTreeMap::from([cluster.istio.injection_label()])).await?;
    Ok(objects)
}

/// The namespace that a run has created, and its cluster.
fn created(record: &RunRecord) -> Option<(&str, &KubeCluster)> {
    let namespace = record.namespace.as_ref()?;
    Some((&namespace.name, namespace.cluster.as_ref()?))
}

#[async_trait]
impl Venue for Existing {
    fn description(&self, _scenario: &Scenario, namespace: &str) -> String {
        format!("namespace {namespace} of an existing cluster")
    }

    fn has_known_definitions(&self) -> bool {
        false
    }

    fn namespace(&self, declared: &str, run: &RunId) -> String {
        self.namespace.clone().unwrap_or_else(|| format!("{declared}-{run}"))
    }

    async fn open<'a>(&'a self, run: &'a Run<'a>) -> Result<Box<dyn OpenVenue + 'a>, VenueError> {
        let (kube, client) = KubeCluster::connect(self.kubeconfig.as_deref(), self.context.as_deref()).await?;
        let prepared = answered("the API server", PREPARATION_LIMIT, self.prepare(run, kube, client)).await?;
        let (cluster, objects) = prepared?;
        account_ready(&cluster.client, &run.namespace, run.events.waiting()).await?;
        run.events.tell(Event::Ready(format!("Istio {}, found in {}", cluster.istio.version, cluster.istio.namespace)));
        run.events.tell(Event::Environment(cluster.environment().await));
        Ok(Box::new(OpenNamespace::new(&cluster, objects, run.scenario, &run.events)))
    }

    async fn client(&self, run: &Run<'_>) -> Option<Client> {
        let record = run.records.read(&run.id).ok()??;
        created(&record)?.1.client().await.ok()
    }

    fn creation(&self, run: &Run<'_>) -> Option<String> {
        Some(format!("the namespace {}", run.namespace))
    }

    async fn keep(&self, _run: &Run<'_>) -> Result<Option<Vec<String>>, ClusterError> {
        Ok(Some(Vec::new()))
    }

    async fn remove(&self, record: &RunRecord) -> Result<(), ClusterError> {
        if let Some((namespace, cluster)) = created(record) {
            cluster.remove_namespace(namespace, &record.id).await?;
        }
        Ok(())
    }
}
