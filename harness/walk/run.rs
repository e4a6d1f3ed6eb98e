use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use sha2::{Digest, Sha256};

use super::WalkError;
use super::calibrate::CalibrateOptions;
use super::designs::Designs;
use super::event::{Environment, Event, Events, Route, SourceFile};
use super::ground::{Ground, Setting, account_ready};
use super::mutate::{sample, trial};
use super::site::{KubeSite, Site};
use super::stage::Walk;
use super::state::Scene;
use super::transition::Expected;
use crate::cluster::{
    Docker, Embedded, Existing, Keep, KubeNamespace, NodeImage, Objects, RunId, RunRecord, RunRecords,
    kubeconfig_client,
};
use crate::mesh::{Istio, IstioChoice, Planes};
use crate::routing::Live;
use crate::scenario::{ControlPlane, Scenario};
use crate::traffic::{Driver, DriverOptions};
use crate::verdict::Totals;

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Every claim of every stage is judged.
    Prove,
    /// The first split is sampled again and again, to see whether each request is routed on its own.
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
        run.events.tell(Event::broke(error));
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
    let cleaned = if keep { run.keep() } else { run.remove().await };
    if let Some(panic) = panic {
        std::panic::resume_unwind(panic);
    }
    let outcome = outcome?;
    cleaned?;
    Ok(outcome)
}

/// One run: what it makes is known before it is made.
pub(super) struct Run {
    pub id: RunId,
    pub scenario: Scenario,
    designs: Designs,
    pub options: Options,
    pub events: Events,
    records: RunRecords,
    record: RunRecord,
    namespace: String,
    pub start: Instant,
    /// How many stages were begun.
    reached: AtomicUsize,
}

impl Run {
    pub fn new(scenario: Scenario, designs: Designs, options: Options, events: Events) -> Self {
        let id = RunId::fresh();
        let records = RunRecords::new(&options.cache);
        let (namespace, kube) = match &options.choice {
            Choice::K3s { .. } | Choice::Embedded => (scenario.namespace.clone(), None),
            Choice::Kubeconfig { file, context, namespace } => {
                let name = namespace.clone().unwrap_or_else(|| format!("{}-{id}", scenario.namespace));
                let kube = KubeNamespace { kubeconfig: file.clone(), context: context.clone(), name: name.clone() };
                (name, Some(kube))
            }
        };
        let record = RunRecord::own(id.clone(), kube);
        Self {
            id,
            scenario,
            designs,
            options,
            events,
            records,
            record,
            namespace,
            start: Instant::now(),
            reached: AtomicUsize::new(0),
        }
    }

    async fn body(&self) -> Result<Outcome, WalkError> {
        let place = match &self.options.choice {
            Choice::K3s { .. } => "a throwaway cluster".to_owned(),
            Choice::Kubeconfig { .. } => format!("namespace {} of an existing cluster", self.namespace),
            Choice::Embedded => {
                "the embedded mesh: what the manifests mean, not what a release of Istio does".to_owned()
            }
        };
        let totals = (self.options.purpose == Purpose::Prove).then(|| self.designs.totals());
        self.events.tell(started(&self.id, &self.scenario, &self.namespace, place, totals));
        let ground = match &self.options.choice {
            Choice::K3s { istio, .. } => {
                let (planes, first) = Planes::only(istio, &self.options.cache).await?;
                self.throwaway(planes, first).await?
            }
            Choice::Kubeconfig { file, context, .. } => self.existing(file.clone(), context.as_deref()).await?,
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
        Ground::raise(setting, &self.record, &self.scenario.namespace, self.start, &self.events).await
    }

    async fn existing(&self, file: Option<PathBuf>, context: Option<&str>) -> Result<Ground, WalkError> {
        let cluster = Existing::connect(file.as_deref(), context).await?;
        let client = cluster.client();
        let istio = Istio::find(&client).await?;
        self.records.write(&self.record)?;
        let objects =
            Objects::new(client.clone(), self.id.clone(), &self.scenario.namespace, &self.namespace, true).await?;
        let (label, value) = istio.injection_label();
        objects.create_namespace(&BTreeMap::from([(label, value)])).await?;
        account_ready(&client, &self.namespace, self.events.waiting()).await?;
        self.ready(&format!("Istio {}, found in {}", istio.version, istio.namespace));
        Ok(Ground { client, istio, planes: None, objects })
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
        let connected = match &self.options.choice {
            Choice::Embedded => return,
            Choice::K3s { .. } => match self.records.folder(&self.id) {
                Ok(folder) => kubeconfig_client(Some(&folder.join("kubeconfig")), None).await,
                Err(error) => Err(error),
            },
            Choice::Kubeconfig { file, context, .. } => kubeconfig_client(file.as_deref(), context.as_deref()).await,
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

    async fn remove(&self) -> Result<(), WalkError> {
        if matches!(self.options.choice, Choice::Embedded) {
            // nothing of it is outside of this process
            return Ok(());
        }
        self.events.tell(Event::Removing);
        let start = Instant::now();
        match &self.options.choice {
            Choice::Embedded => {}
            Choice::K3s { .. } => {
                // without an engine nothing was made
                if let Ok(docker) = Docker::connect().await {
                    docker.remove_run(&self.id).await?;
                }
            }
            Choice::Kubeconfig { file, context, .. } => {
                if let Ok(cluster) = Existing::connect(file.as_deref(), context.as_deref()).await {
                    cluster.remove(&self.namespace, &self.id).await?;
                }
            }
        }
        self.records.remove(&self.id)?;
        self.events.tell(Event::Removed { took: start.elapsed() });
        Ok(())
    }

    fn keep(&self) -> Result<(), WalkError> {
        self.records.write(&RunRecord { kept: true, ..self.record.clone() })?;
        let mut look = Vec::new();
        if let Choice::K3s { .. } = self.options.choice {
            let kubeconfig = self.records.folder(&self.id)?.join("kubeconfig");
            look.push(format!("export KUBECONFIG={}", kubeconfig.display()));
        }
        look.push(format!("kubectl -n {} get all", self.namespace));
        self.events.tell(Event::Kept { look, remove: format!("shiftcheck sweep --run {}", self.id) });
        Ok(())
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
        route: Route {
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
