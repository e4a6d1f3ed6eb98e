use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kube::Client;
use tokio::sync::OnceCell;

use super::addons::tell_addons;
use super::cluster::{KUBECONFIG, ProvisionedCluster, account_ready};
use super::existing::create_namespace;
use super::turns::Turns;
use super::{LeftBehind, OpenNamespace, OpenVenue, Run, Throwaway, Venue, VenueError};
use crate::cluster::{
    ClusterError, Docker, ImageCache, KubeCluster, Owner, RunId, RunRecord, RunRecords, answered, is_confinable,
};
use crate::controller::Components;
use crate::events::{Event, Events};
use crate::mesh::Planes;
use crate::scenario::{Install, Scenario};

/// The longest that a cluster which runs may take until its Istio is found.
const JOIN_LIMIT: Duration = Duration::from_secs(30);

/// The file that a cluster has in the folder of its run when it is ready.
const READY: &str = "ready";

/// A throwaway cluster on which several scenarios run, each in a namespace of its own. The first run starts it, and [`end`](Self::end) removes
/// it. Processes that know it by the same id share it.
#[derive(Debug)]
pub struct SharedCluster {
    throwaway: Throwaway,
    scenarios: Vec<Scenario>,
    install: Vec<Install>,
    /// The id by which the cluster is known. Each run has an id of its own.
    id: RunId,
    /// The process without which the cluster is no longer needed.
    owner: Owner,
    cache: PathBuf,
    /// The cluster as the records of runs name it, once it runs.
    started: OnceCell<KubeCluster>,
    /// Whether a run has left its namespace on purpose, and with it the cluster.
    kept: AtomicBool,
    turns: Turns,
}

impl SharedCluster {
    /// A cluster for those of these scenarios that can share one, with which of them they are; none where fewer than two can.
    ///
    /// A scenario gets a cluster to itself if one of its objects has effects outside of its namespace, or if it needs another version of a
    /// component than a scenario before it.
    pub fn of(throwaway: Throwaway, scenarios: &[&Scenario], cache: &Path) -> Option<(Self, Vec<bool>)> {
        let mut install: Vec<Install> = Vec::new();
        let mut sharing = Vec::new();
        for scenario in scenarios {
            let differs = |one: &Install| {
                install.iter().any(|other| other.component == one.component && other.version != one.version)
            };
            let shares = is_confinable(scenario) && !scenario.install.iter().any(differs);
            if shares {
                let is_new = |one: &&Install| !install.iter().any(|other| other.component == one.component);
                let more: Vec<Install> = scenario.install.iter().filter(is_new).cloned().collect();
                install.extend(more);
            }
            sharing.push(shares);
        }
        let those = scenarios.iter().zip(&sharing).filter(|(_, shares)| **shares);
        let those: Vec<Scenario> = those.map(|(own, _)| (*own).clone()).collect();
        if those.len() < 2 {
            return None;
        }
        let shared = Self {
            scenarios: those,
            install,
            throwaway,
            id: RunId::fresh(),
            owner: Owner::this_process(cache),
            cache: cache.to_owned(),
            started: OnceCell::new(),
            kept: AtomicBool::new(false),
            turns: Turns::default(),
        };
        Some((shared, sharing))
    }

    /// Known by this id, and needed as long as this process runs. By default the id is a new one, and the process this one.
    #[must_use]
    pub fn known_as(mut self, id: RunId, owner: Owner) -> Self {
        (self.id, self.owner) = (id, owner);
        self
    }

    /// The id by which the cluster is known.
    pub const fn id(&self) -> &RunId {
        &self.id
    }

    /// Removes the cluster, or keeps it where a run has kept its namespace. Returns whether it is kept.
    ///
    /// # Errors
    /// The cluster could not be removed. Its record stays, so that a sweep finds it.
    pub async fn end(&self) -> Result<bool, LeftBehind> {
        let kept = self.kept.load(Ordering::Relaxed);
        let ended = if kept { self.stay().await } else { self.remove_cluster().await };
        ended.map(|()| kept).map_err(|source| LeftBehind {
            what: "the shared cluster".to_owned(),
            run: self.id.clone(),
            source: Box::new(source),
        })
    }

    async fn stay(&self) -> Result<(), ClusterError> {
        let records = RunRecords::new(&self.cache);
        if let Some(record) = records.read(&self.id)? {
            records.write(&RunRecord { kept: true, ..record })?;
        }
        Docker::connect().await?.keep(&self.id).await.map(drop)
    }

    /// What has no record was not created.
    async fn remove_cluster(&self) -> Result<(), ClusterError> {
        let records = RunRecords::new(&self.cache);
        if records.has(&self.id) {
            Docker::connect().await?.remove_run(&self.id).await?;
            records.remove(&self.id)?;
        }
        Ok(())
    }

    async fn started(&self, events: &Events) -> Result<&KubeCluster, VenueError> {
        self.started
            .get_or_try_init(|| async {
                let records = RunRecords::new(&self.cache);
                if records.has(&self.id) {
                    if records.folder(&self.id)?.join(READY).is_file() {
                        return self.found().await;
                    }
                    // the process that started it was killed meanwhile
                    self.remove_cluster().await?;
                }
                let started = Box::pin(self.start(&records, events)).await;
                if started.is_err() {
                    // the next scenario tries again
                    self.remove_cluster().await?;
                }
                started
            })
            .await
    }

    async fn start(&self, records: &RunRecords, events: &Events) -> Result<KubeCluster, VenueError> {
        let components = Components::of(&self.install, &ImageCache::new(&self.cache))?;
        let plane = Planes::only(&self.throwaway.istio, &self.cache).await?;
        let scenarios: Vec<&Scenario> = self.scenarios.iter().collect();
        let spec = self.throwaway.spec(&self.cache, plane, &scenarios, components)?;
        let record = RunRecord {
            engine: Some(Docker::default_address()),
            owner: Some(self.owner.clone()),
            ..RunRecord::own(self.id.clone(), None, &self.cache)
        };
        ProvisionedCluster::start(spec, &record, "shiftcheck", events).await?;
        records.write_file(&self.id, READY, b"")?;
        self.found().await
    }

    /// The cluster by its kubeconfig. Each run has a client of its own: a client ends with the runtime that made it.
    async fn found(&self) -> Result<KubeCluster, VenueError> {
        let kubeconfig = RunRecords::new(&self.cache).folder(&self.id)?.join(KUBECONFIG);
        Ok(KubeCluster::find(Some(&kubeconfig), None).await?.0)
    }
}

#[async_trait]
impl Venue for SharedCluster {
    fn description(&self, _scenario: &Scenario, namespace: &str) -> String {
        format!("namespace {namespace} of a shared throwaway cluster")
    }

    fn namespace(&self, declared: &str, run: &RunId) -> String {
        format!("{declared}-{run}")
    }

    async fn open<'a>(&'a self, run: &'a Run<'a>) -> Result<Box<dyn OpenVenue + 'a>, VenueError> {
        let kube = self.started(&run.events).await?;
        let found = answered("the API server", JOIN_LIMIT, ProvisionedCluster::find(kube.client().await?)).await?;
        let cluster = &found?;
        let objects = create_namespace(run, cluster, kube.clone(), false).await?;
        account_ready(&cluster.client, &run.namespace, run.events.waiting()).await?;
        let files = kube.kubeconfig.iter().map(|file| format!(" --kubeconfig {}", file.display()));
        let kubectl = format!("kubectl{}", files.collect::<String>());
        let (wanted, namespace) = (&run.scenario.addons, &cluster.istio.namespace);
        tell_addons(wanted, &cluster.client, &kubectl, namespace, &run.events).await;
        run.events.tell(Event::Environment(cluster.environment().await));
        Ok(Box::new(OpenNamespace::new(cluster, objects, run.scenario, &run.events).beside(&self.turns)))
    }

    async fn client(&self, _run: &Run<'_>) -> Option<Client> {
        self.started.get()?.client().await.ok()
    }

    async fn lost(&self, _run: &Run<'_>) -> ClusterError {
        match Docker::connect().await {
            Ok(docker) => docker.node_lost(&self.id).await,
            // the run itself says so
            Err(_) => std::future::pending().await,
        }
    }

    fn creation(&self, run: &Run<'_>) -> Option<String> {
        Some(format!("the namespace {}", run.namespace))
    }

    async fn keep(&self, _run: &Run<'_>) -> Result<Option<Vec<String>>, ClusterError> {
        let Some(kube) = self.started.get() else { return Ok(None) };
        self.kept.store(true, Ordering::Relaxed);
        let files = kube.kubeconfig.iter();
        Ok(Some(files.map(|file| format!("export KUBECONFIG={}", file.display())).collect()))
    }

    async fn remove(&self, record: &RunRecord) -> Result<(), ClusterError> {
        if let (Some(namespace), Some(kube)) = (&record.namespace, self.started.get()) {
            kube.remove_namespace(&namespace.name, &record.id).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;

    /// A scenario whose only stage also applies this object.
    fn scenario(object: &str, more: &str) -> Scenario {
        let folder = tempfile::tempdir().unwrap();
        let canary = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/canary");
        let text = format!(
            "name: one\nnamespace: canary\nservice: http://svc-hello:8080\nclient: {{manifest: {0}/httpbin.yaml, pod: httpbin}}\n\
             version: {{header: x-version}}\npopulations: {{everyone: {{}}}}\n{more}stages:\n  - name: all\n    \
             apply: [{0}/svc-hello-v1.yaml, own.yaml]\n    expect: [{{from: everyone, status: 503}}]\n",
            canary.display()
        );
        std::fs::write(folder.path().join("scenario.yaml"), text).unwrap();
        std::fs::write(folder.path().join("own.yaml"), object).unwrap();
        Scenario::read(folder.path()).unwrap()
    }

    const RULE: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\n";
    const ARGO: &str = "install: {argo-rollouts: '1.10'}\n";

    fn shares(scenarios: &[Scenario]) -> Option<Vec<bool>> {
        let scenarios: Vec<&Scenario> = scenarios.iter().collect();
        let shared = SharedCluster::of(Throwaway::new(PathBuf::new()), &scenarios, Path::new("cache"));
        shared.map(|(_, sharing)| sharing)
    }

    #[rstest]
    #[case::within_the_namespace(
        "spec: {hosts: [svc-hello], http: [{route: [{destination: {host: svc-hello}}]}]}",
        true
    )]
    #[case::of_the_declared_namespace(
        "spec: {hosts: [svc-hello.canary.svc.cluster.local], http: [{route: [{destination: {host: svc-hello}}]}]}",
        false
    )]
    #[case::for_all(
        "spec: {hosts: [a.example.com], exportTo: ['*'], http: [{route: [{destination: {host: svc-hello}}]}]}",
        false
    )]
    #[case::through_a_gateway(
        "spec: {hosts: [svc-hello], gateways: [front], http: [{route: [{destination: {host: svc-hello}}]}]}",
        false
    )]
    fn a_scenario_with_effects_outside_of_its_namespace_has_a_cluster_to_itself(
        #[case] spec: &str,
        #[case] expected: bool,
    ) {
        let usual = || scenario(&format!("{RULE}spec: {{hosts: [svc-hello]}}\n"), "");
        let found = shares(&[usual(), scenario(&format!("{RULE}{spec}\n"), ""), usual()]);
        assert_eq!(found, Some(vec![true, expected, true]));
    }

    #[test]
    fn an_object_of_no_namespace_needs_a_cluster_of_its_own() {
        let usual = scenario(RULE, "");
        let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: x}\n";
        assert_eq!(shares(&[usual.clone(), usual, scenario(role, "")]), Some(vec![true, true, false]));
    }

    #[test]
    fn one_scenario_shares_nothing() {
        let elsewhere = format!("{RULE}spec: {{hosts: [a.example.com], exportTo: ['*']}}\n");
        assert_eq!(shares(&[scenario(RULE, ""), scenario(&elsewhere, "")]), None);
    }

    #[test]
    fn scenarios_share_a_controller_of_one_version() {
        let (argo, mut other) = (scenario(RULE, ARGO), scenario(RULE, ARGO));
        other.install[0].version = "1.8".to_owned();
        assert_eq!(shares(&[argo.clone(), scenario(RULE, ""), other, argo]), Some(vec![true, true, false, true]));
    }
}
