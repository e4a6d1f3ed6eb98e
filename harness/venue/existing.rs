use std::collections::BTreeMap;
use std::future::ready;
use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use tokio::time::timeout;

use super::cluster::{ProvisionedCluster, account_ready};
use super::run::tell_swept;
use super::{OpenNamespace, OpenVenue, Run, Venue, VenueError};
use crate::cluster::{ClusterError, KubeCluster, KubeNamespace, Objects, RunId, RunRecord, Wanted, sweep};
use crate::events::Event;

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
    async fn namespace_of(&self, run: &Run<'_>) -> Result<OpenNamespace, VenueError> {
        let (kube, client) = KubeCluster::connect(self.kubeconfig.as_deref(), self.context.as_deref()).await?;
        let prepared = timeout(PREPARATION_LIMIT, self.prepare(run, kube, client)).await;
        let who = || "the API server".to_owned();
        let (cluster, objects) =
            prepared.map_err(|_| ClusterError::NoAnswer { who: who(), limit: PREPARATION_LIMIT })??;
        account_ready(&cluster.client, &run.namespace, run.events.waiting()).await?;
        run.ready(format!("Istio {}, found in {}", cluster.istio.version, cluster.istio.namespace));
        run.events.tell(Event::Environment(cluster.environment().await));
        Ok(OpenNamespace::new(&cluster, objects, &run.scenario.client, &run.events))
    }

    /// Checks what the run would change on the cluster, and creates its namespace.
    async fn prepare(
        &self,
        run: &Run<'_>,
        kube: KubeCluster,
        client: Client,
    ) -> Result<(ProvisionedCluster, Objects), VenueError> {
        let cluster = ProvisionedCluster::find(client.clone()).await?;
        tell_swept(sweep(None, &run.records, Wanted::default()).await?, &run.events);
        let objects = Objects::new(client, run.id.clone(), &run.scenario.namespace, &run.namespace, true).await?;
        let reach = objects.reach(run.scenario.manifests(), &cluster.istio.namespace)?;
        match reach.is_empty() {
            true => {}
            false if self.allow_reach => run.events.tell(Event::Reaches(reach)),
            false => return Err(ClusterError::Reaches(reach).into()),
        }
        let namespace = KubeNamespace { name: run.namespace.clone(), cluster: Some(kube) };
        run.records.write(&RunRecord::own(run.id.clone(), Some(namespace), &run.cache))?;
        objects.create_namespace(&BTreeMap::from([cluster.istio.injection_label()])).await?;
        Ok((cluster, objects))
    }
}

/// The namespace that a run has created, and its cluster.
fn created(record: &RunRecord) -> Option<(&str, &KubeCluster)> {
    let namespace = record.namespace.as_ref()?;
    Some((&namespace.name, namespace.cluster.as_ref()?))
}

impl Venue for Existing {
    fn description(&self, namespace: &str) -> String {
        format!("namespace {namespace} of an existing cluster")
    }

    fn namespace(&self, declared: &str, run: &RunId) -> String {
        self.namespace.clone().unwrap_or_else(|| format!("{declared}-{run}"))
    }

    fn open<'a>(&'a self, run: &'a Run<'a>) -> BoxFuture<'a, Result<Box<dyn OpenVenue + 'a>, VenueError>> {
        async move { Ok(Box::new(self.namespace_of(run).await?) as Box<dyn OpenVenue>) }.boxed()
    }

    fn client<'a>(&'a self, run: &'a Run<'a>) -> BoxFuture<'a, Option<Client>> {
        async move {
            let record = run.records.read(&run.id).ok()??;
            created(&record)?.1.client().await.ok()
        }
        .boxed()
    }

    fn creation(&self, run: &Run<'_>) -> Option<String> {
        Some(format!("the namespace {}", run.namespace))
    }

    fn keep<'a>(&'a self, _run: &'a Run<'a>) -> BoxFuture<'a, Result<Option<Vec<String>>, ClusterError>> {
        ready(Ok(Some(Vec::new()))).boxed()
    }

    fn remove<'a>(&'a self, record: &'a RunRecord) -> BoxFuture<'a, Result<(), ClusterError>> {
        async move {
            if let Some((namespace, cluster)) = created(record) {
                cluster.remove_namespace(namespace, &record.id).await?;
            }
            Ok(())
        }
        .boxed()
    }
}
