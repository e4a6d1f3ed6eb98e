use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::WalkError;
use super::calibrate::CalibrateOptions;
use super::designs::Designs;
use super::error::LeftBehind;
use super::ground::{Ground, Setting, account_ready};
use super::mutate::{sample, trial};
use super::site::{KubeSite, Site};
use super::stage::Walk;
use super::state::Scene;
use super::transition::Expected;
use crate::cluster::{
    ClusterError, Docker, Embedded, Existing, Keep, KubeCluster, KubeNamespace, NodeImage, Objects, RunId, RunRecord,
    RunRecords, Swept, Wanted, kubeconfig_client, sweep,
};
use crate::events::{Environment, Event, Events, FailureLayer, SourceFile, TrafficPath};
use crate::mesh::{Istio, IstioChoice, Planes};
use crate::routing::Live;
use crate::scenario::{ControlPlane, Scenario};
use crate::traffic::{Driver, DriverOptions};
use crate::verdict::Totals;

/// The longest that an existing cluster may take until the run's namespace is created.
const PREPARATION_LIMIT: Duration = Duration::from_secs(60);

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Every claim of every stage is judged.
    Prove,
    /// The first split is sampled again and again, to test whether requests are routed independently.
    Calibrate(CalibrateOptions),
    /// So many mutants of the scenario are brought about on a throwaway cluster, to see whether the mesh does what the model says.
    Mutate(usize),
}

/// How a scenario is walked.
#[derive(Debug, Clone)]
pub struct Options {
    /// What for.
    pub purpose: Purpose,
    /// The cluster.
    pub choice: Choice,
    /// When what was made outlives the run.
    pub keep: Keep,
    /// The folder of the image cache and the run records.
    pub cache: PathBuf,
    /// The shiftcheck binary, which becomes the workload image.
    pub binary: PathBuf,
    /// How the driver sends.
    pub driver: DriverOptions,
    /// Where the state of a cluster is kept on which something failed; nowhere, if none.
    pub state: Option<PathBuf>,
}

/// Which cluster a scenario is walked on.
#[derive(Debug, Clone)]
pub enum Choice {
    /// A throwaway one.
    K3s {
        /// The node image; none means the one in the cache.
        node: Option<NodeImage>,
        /// Which Istio, and how it is installed.
        istio: IstioChoice,
        /// containerd's snapshotter.
        snapshotter: String,
    },
    /// An existing one.
    Kubeconfig {
        /// The file; none means kubectl's default.
        file: Option<PathBuf>,
        /// The context; none means the current one.
        context: Option<String>,
        /// The namespace; none means the scenario's name with the run's id.
        namespace: Option<String>,
        /// Whether objects may change what is outside of the namespace; what they change is told first.
        allow_reach: bool,
    },
    /// The one in this process.
    Embedded,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every claim of every stage held.
    Passed,
    /// A claim failed; the stages behind it were not walked.
    Failed,
    /// It was called off.
    Cancelled,
}

/// What came of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The stages that held.
    pub passed: usize,
    /// All stages of the scenario.
    pub stages: usize,
}

/// Walks a scenario from nothing running to all removed. When `cancelled` completes, the walk ends and everything is removed.
///
/// # Errors
/// The scenario is wrong or the environment failed. Everything is removed then, too, unless it is to be kept.
///
/// # Panics
/// A panic in the walk is passed on after everything is removed.
pub async fn run(
    scenario: Scenario,
    options: Options,
    events: Events,
    cancelled: impl Future<Output = ()>,
) -> Result<Outcome, WalkError> {
    let designs = Designs::new(&scenario)?;
    if matches!(options.purpose, Purpose::Calibrate(_)) && designs.first_split().is_none() {
        return Err(WalkError::NothingToCalibrate(scenario.path));
    }
    if matches!(options.purpose, Purpose::Mutate(_)) && !matches!(options.choice, Choice::K3s { .. }) {
        return Err(WalkError::NotThrowaway);
    }
    let run = Run::new(scenario, designs, options, events);
    let body = run.body();
    supervised(&run, body, cancelled).await
}

/// Does what a run is for, and removes what it has made in every ending.
pub(super) async fn supervised(
    run: &Run,
    body: impl Future<Output = Result<Outcome, WalkError>>,
    cancelled: impl Future<Output = ()>,
) -> Result<Outcome, WalkError> {
    let stages = run.scenario.stages.len();
    let walked = async {
        tokio::select! {
            outcome = body => outcome,
            () = cancelled => Ok(Outcome { ending: Ending::Cancelled, passed: 0, stages }),
        }
    };
    let (outcome, panic) = match AssertUnwindSafe(walked).catch_unwind().await {
        Ok(outcome) => (outcome, None),
        Err(panic) => (Ok(Outcome { ending: Ending::Failed, passed: 0, stages }), Some(panic)),
    };
    let failed = !matches!(outcome, Ok(Outcome { ending: Ending::Passed | Ending::Cancelled, .. }));
    if let Err(error) = &outcome {
        run.events.tell(error.event());
    }
    if failed {
        Box::pin(run.collect()).await;
    }
    let keep = match run.options.keep {
        _ if matches!(run.options.choice, Choice::Embedded) => false,
        Keep::Never => false,
        Keep::Failed => failed,
        Keep::Always => !matches!(outcome, Ok(Outcome { ending: Ending::Cancelled, .. })),
    };
    let cleaned = if keep { run.keep().await } else { run.remove().await };
    if let Err(error) = &cleaned {
        run.events.tell(Event::Broke { layer: FailureLayer::Environment, place: None, message: error.to_string() });
    }
    if let Some(panic) = panic {
        std::panic::resume_unwind(panic);
    }
    match (outcome, cleaned) {
        (outcome, Ok(())) => outcome,
        (Ok(_), Err(left)) => Err(left.into()),
        // both are told: what ended the run, and what is still there
        (Err(error), Err(left)) => Err(LeftBehind { after: Some(Box::new(error)), ..left }.into()),
    }
}

/// One run: what it makes is known before it is made.
pub(super) struct Run {
    pub id: RunId,
    pub scenario: Scenario,
    designs: Designs,
    pub options: Options,
    pub events: Events,
    records: RunRecords,
    /// The existing cluster, as soon as it has answered.
    cluster: OnceLock<KubeCluster>,
    namespace: String,
    pub start: Instant,
    /// How many stages were begun.
    reached: AtomicUsize,
}

impl Run {
    pub fn new(scenario: Scenario, designs: Designs, options: Options, events: Events) -> Self {
        let id = RunId::fresh();
        let records = RunRecords::new(&options.cache);
        let namespace = match &options.choice {
            Choice::K3s { .. } | Choice::Embedded => scenario.namespace.clone(),
            Choice::Kubeconfig { namespace, .. } => {
                namespace.clone().unwrap_or_else(|| format!("{}-{id}", scenario.namespace))
            }
        };
        Self {
            id,
            scenario,
            designs,
            options,
            events,
            records,
            cluster: OnceLock::new(),
            namespace,
            start: Instant::now(),
            reached: AtomicUsize::new(0),
        }
    }

    async fn body(&self) -> Result<Outcome, WalkError> {
        let place = match &self.options.choice {
            Choice::K3s { .. } => "a throwaway cluster".to_owned(),
            Choice::Kubeconfig { .. } => format!("namespace {} of an existing cluster", self.namespace),
            Choice::Embedded => "the embedded mesh, which checks your manifests, not an Istio release".to_owned(),
        };
        let totals = (self.options.purpose == Purpose::Prove).then(|| self.designs.totals());
        self.events.tell(started(&self.id, &self.scenario, &self.namespace, place, totals));
        let ground = match &self.options.choice {
            Choice::K3s { istio, .. } => {
                let (planes, first) = Planes::only(istio, &self.options.cache).await?;
                self.throwaway(planes, first).await?
            }
            Choice::Kubeconfig { file, context, allow_reach, .. } => {
                self.existing(file.as_deref(), context.as_deref(), *allow_reach).await?
            }
            Choice::Embedded => return self.embedded().await,
        };
        if let Purpose::Mutate(size) = self.options.purpose {
            let sample = sample(&self.scenario, size);
            let stages = sample.len();
            let trialled = trial(&ground, &self.id, sample, self.options.driver, &self.events).await?;
            let passed = trialled.iter().filter(|trialled| trialled.agrees()).count();
            let ending = if passed == stages { Ending::Passed } else { Ending::Failed };
            return Ok(Outcome { ending, passed, stages });
        }
        let Ground { client, objects, istio, planes } = ground;
        let kubernetes = client.apiserver_version().await.ok().map(|info| info.git_version);
        let environment = Environment { kubernetes, istio: Some(istio.version), ..Environment::default() };
        self.events.tell(Event::Environment(environment));
        let pod = &self.scenario.client.pod;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let site = KubeSite::new(client, &self.namespace, objects, planes, pod);
        self.walk(
            Site::Kube(Box::new(site)),
            Driver::new(pods, self.options.driver).program(&self.scenario.client.driver),
        )
        .await
    }

    async fn embedded(&self) -> Result<Outcome, WalkError> {
        let site = Embedded::start(&self.namespace, &self.scenario.client.pod, &self.scenario.service)?;
        let driver = Driver::local(site.address(), self.options.driver);
        self.walk(Site::Embedded(Box::new(site)), driver).await
    }

    /// Raises a throwaway cluster, if that is the choice.
    pub async fn throwaway(&self, planes: Planes, first: ControlPlane) -> Result<Ground, WalkError> {
        let Choice::K3s { node, snapshotter, .. } = &self.options.choice else { return Err(WalkError::NotThrowaway) };
        let setting = Setting {
            cache: &self.options.cache,
            binary: &self.options.binary,
            node: node.clone(),
            planes,
            first,
            snapshotter,
            gateway_api: self.scenario.uses_gateway_api(),
        };
        Ground::raise(setting, &self.record(), &self.scenario.namespace, self.start, &self.events).await
    }

    async fn existing(
        &self,
        file: Option<&Path>,
        context: Option<&str>,
        allow_reach: bool,
    ) -> Result<Ground, WalkError> {
        let cluster = Existing::connect(file, context).await?;
        let client = cluster.client();
        let prepared = timeout(PREPARATION_LIMIT, self.prepare(cluster, allow_reach)).await;
        let who = || "the API server".to_owned();
        let (istio, objects) =
            prepared.map_err(|_| ClusterError::NoAnswer { who: who(), limit: PREPARATION_LIMIT })??;
        account_ready(&client, &self.namespace, self.events.waiting()).await?;
        self.ready(&format!("Istio {}, found in {}", istio.version, istio.namespace));
        Ok(Ground { client, istio, planes: None, objects })
    }

    /// Checks what the run would change on an existing cluster, and creates its namespace.
    async fn prepare(&self, cluster: Existing, allow_reach: bool) -> Result<(Istio, Objects), WalkError> {
        let client = cluster.client();
        let istio = Istio::find(&client).await?;
        tell_swept(sweep(None, &self.records, Wanted::default()).await?, &self.events);
        // the record names it, and is written before anything is created there
        let _ = self.cluster.set(cluster.cluster().clone());
        let objects = Objects::new(client, self.id.clone(), &self.scenario.namespace, &self.namespace, true).await?;
        let reach = objects.reach(self.scenario.manifests(), &istio.namespace)?;
        match reach.is_empty() {
            true => {}
            false if allow_reach => self.events.tell(Event::Reaches(reach)),
            false => return Err(ClusterError::Reaches(reach).into()),
        }
        self.records.write(&self.record())?;
        let (label, value) = istio.injection_label();
        objects.create_namespace(&BTreeMap::from([(label, value)])).await?;
        Ok((istio, objects))
    }

    async fn walk(&self, site: Site, driver: Driver) -> Result<Outcome, WalkError> {
        let mut walk = Walk {
            scenario: &self.scenario,
            site,
            driver,
            namespace: self.namespace.clone(),
            live: Live::new(&self.scenario.namespace, &self.namespace),
            events: self.events.clone(),
            expected: Expected::new(&self.scenario),
            client_pod: Vec::new(),
            comparing: false,
        };
        walk.client_pod = walk.apply(&self.scenario.client.manifests).await?;
        let stages = self.scenario.stages.len();
        if let (Purpose::Calibrate(options), Some(split)) = (self.options.purpose, self.designs.first_split()) {
            let independent = walk.calibrate(split, options).await?.independent();
            let ending = if independent { Ending::Passed } else { Ending::Failed };
            return Ok(Outcome { ending, passed: 0, stages });
        }
        for (index, stage) in self.scenario.stages.iter().enumerate() {
            self.reach(index + 1);
            if !walk.stage(index + 1, stage, self.designs.of(index + 1)).await? {
                return Ok(Outcome { ending: Ending::Failed, passed: index, stages });
            }
        }
        Ok(Outcome { ending: Ending::Passed, passed: stages, stages })
    }

    /// Remembers that a stage was begun: what is kept of a failure is that of its claims.
    pub fn reach(&self, number: usize) {
        self.reached.store(number, Ordering::Relaxed);
    }

    fn ready(&self, what: &str) {
        self.events.tell(Event::Ready { what: what.to_owned(), after: self.start.elapsed() });
    }

    /// Keeps what can be known of the cluster, before it is removed.
    async fn collect(&self) {
        let Some(folder) = &self.options.state else { return };
        if !self.records.has(&self.id) {
            // nothing was created
            return;
        }
        let connected = match &self.options.choice {
            Choice::Embedded => return,
            Choice::K3s { .. } => match self.records.folder(&self.id) {
                Ok(folder) => kubeconfig_client(Some(&folder.join("kubeconfig")), None).await,
                Err(error) => Err(error),
            },
            Choice::Kubeconfig { .. } => match self.cluster.get() {
                Some(cluster) => cluster.client().await,
                None => return,
            },
        };
        // where there is no cluster yet, there is no state of it
        let Ok(client) = connected else { return };
        self.events.tell(Event::SettingUp("collecting what can be known of the cluster".to_owned()));
        let scene = Scene {
            client,
            scenario: &self.scenario,
            namespace: &self.namespace,
            reached: self.reached.load(Ordering::Relaxed),
            folder,
        };
        Box::pin(scene.collect()).await;
        self.events.tell(Event::Collected(folder.clone()));
    }

    /// What the run creates, and where.
    fn record(&self) -> RunRecord {
        let namespace = self
            .cluster
            .get()
            .map(|cluster| KubeNamespace { name: self.namespace.clone(), cluster: Some(cluster.clone()) });
        let engine = matches!(self.options.choice, Choice::K3s { .. }).then(Docker::default_address);
        RunRecord { engine, ..RunRecord::own(self.id.clone(), namespace, &self.options.cache) }
    }

    /// Removes everything that the run has created. What cannot be removed keeps its record, so that a sweep finds it.
    async fn remove(&self) -> Result<(), LeftBehind> {
        if matches!(self.options.choice, Choice::Embedded) {
            // nothing of it is outside of this process
            return Ok(());
        }
        self.events.tell(Event::Removing);
        let start = Instant::now();
        // what has no record was not created
        if self.records.has(&self.id) {
            let removed = match (&self.options.choice, self.cluster.get()) {
                (Choice::Kubeconfig { .. }, Some(cluster)) => {
                    Existing::remove(cluster, &self.namespace, &self.id).await.map(|_| ())
                }
                (Choice::K3s { .. }, _) => match Docker::connect().await {
                    Ok(docker) => docker.remove_run(&self.id).await,
                    Err(error) => Err(error),
                },
                _ => Ok(()),
            };
            removed.and_then(|()| self.records.remove(&self.id)).map_err(|source| self.left_behind(source))?;
        }
        self.events.tell(Event::Removed { took: start.elapsed() });
        Ok(())
    }

    fn left_behind(&self, source: ClusterError) -> LeftBehind {
        let what = match self.options.choice {
            Choice::Kubeconfig { .. } => format!("the namespace {}", self.namespace),
            _ => "the cluster".to_owned(),
        };
        LeftBehind { what, run: self.id.clone(), source: Box::new(source), after: None }
    }

    /// Leaves on purpose what the run has created, and says how to look at it.
    async fn keep(&self) -> Result<(), LeftBehind> {
        if !self.records.has(&self.id) {
            // nothing was created
            return Ok(());
        }
        let failed = |source| self.left_behind(source);
        self.records.write(&RunRecord { kept: true, ..self.record() }).map_err(failed)?;
        let mut look = Vec::new();
        if let Choice::K3s { .. } = self.options.choice {
            let docker = Docker::connect().await.map_err(failed)?;
            if !docker.keep(&self.id).await.map_err(failed)? {
                // the run failed before its cluster was there
                return self.remove().await;
            }
            let kubeconfig = self.records.folder(&self.id).map_err(failed)?.join("kubeconfig");
            look.push(format!("export KUBECONFIG={}", kubeconfig.display()));
        }
        look.push(format!("kubectl -n {} get all", self.namespace));
        self.events.tell(Event::Kept { look, remove: format!("shiftcheck sweep --run {}", self.id) });
        Ok(())
    }
}

/// Tells what a sweep at the start of a run has removed, and what it has left alone.
pub(super) fn tell_swept(swept: Swept, events: &Events) {
    for run in swept.clusters {
        events.tell(Event::Swept(format!("the cluster of run {run}")));
    }
    for name in swept.namespaces {
        events.tell(Event::Swept(format!("the namespace {name}")));
    }
    for left in swept.left.iter().map(ToString::to_string).chain(swept.failures) {
        events.tell(Event::NotSwept(left));
    }
}

/// How the walk of a scenario begins.
pub(super) fn started(
    run: &RunId,
    scenario: &Scenario,
    namespace: &str,
    place: String,
    totals: Option<Totals>,
) -> Event {
    Event::Started {
        run: run.to_string(),
        scenario: scenario.name.clone(),
        place,
        stages: scenario.stages.iter().map(|stage| stage.name.clone()).collect(),
        files: files(scenario),
        path: TrafficPath {
            namespace: namespace.to_owned(),
            client: scenario.client.pod.clone(),
            service: format!("{}:{}", scenario.service.host, scenario.service.port),
        },
        totals,
    }
}

/// The files that a scenario is made of, itself first.
fn files(scenario: &Scenario) -> Vec<SourceFile> {
    let mut known = BTreeSet::new();
    scenario
        .files()
        .filter(|path| known.insert(path.to_owned()))
        .filter_map(|path| {
            let digest = Sha256::digest(std::fs::read(path).ok()?);
            let digits: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(SourceFile { path: path.to_owned(), sha256: digits.concat() })
        })
        .collect()
}
