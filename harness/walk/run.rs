use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::FutureExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::WalkError;
use super::calibrate::CalibrateOptions;
use super::designs::Designs;
use super::event::{Event, Events};
use super::stage::Walk;
use crate::cluster::wait::{Again, Progress, until};
use crate::cluster::{
    ClusterError, Docker, Existing, ImageCache, IstioSet, K3sCluster, K3sOptions, Keep, KubeNamespace, NodeImage,
    Objects, RunId, RunRecord, RunRecords, Workloads, sweep,
};
use crate::mesh::{Istio, Manifests, Sidecar};
use crate::routing::Live;
use crate::scenario::Scenario;
use crate::traffic::{Driver, DriverOptions};
use crate::workload::write_archive;

/// The longest that the node, its DNS and the default accounts may take.
const NODE_LIMIT: Duration = Duration::from_secs(180);

/// What the offline node carries until all images are in; k3s is not ready before.
const IMPORTING_LABEL: &str = "shiftcheck.dev/images";

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Every claim of every stage is judged.
    Prove,
    /// The first split is sampled again and again, to see whether each request is routed on its own.
    Calibrate(CalibrateOptions),
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
}

/// Which cluster a scenario is walked on.
#[derive(Debug, Clone)]
pub enum Choice {
    /// A throwaway one.
    K3s {
        /// The node image; none means the one in the cache.
        node: Option<NodeImage>,
        /// The version of Istio; none means the newest in the cache.
        istio: Option<String>,
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
    let stages = scenario.stages.len();
    let designs = Designs::new(&scenario)?;
    if matches!(options.purpose, Purpose::Calibrate(_)) && designs.first_split().is_none() {
        return Err(WalkError::NothingToCalibrate(scenario.path));
    }
    let run = Run::new(scenario, designs, options, events);
    let walked = async {
        tokio::select! {
            outcome = run.body() => outcome,
            () = cancelled => Ok(Outcome { ending: Ending::Cancelled, passed: 0, stages }),
        }
    };
    let (outcome, panic) = match AssertUnwindSafe(walked).catch_unwind().await {
        Ok(outcome) => (outcome, None),
        Err(panic) => (Ok(Outcome { ending: Ending::Failed, passed: 0, stages }), Some(panic)),
    };
    let failed = !matches!(outcome, Ok(Outcome { ending: Ending::Passed | Ending::Cancelled, .. }));
    let keep = match run.options.keep {
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
struct Run {
    id: RunId,
    scenario: Scenario,
    designs: Designs,
    options: Options,
    events: Events,
    records: RunRecords,
    record: RunRecord,
    namespace: String,
    start: Instant,
}

/// A cluster with Istio that is ready for the first object.
struct Ground {
    client: Client,
    objects: Objects,
}

impl Run {
    fn new(scenario: Scenario, designs: Designs, options: Options, events: Events) -> Self {
        let id = RunId::fresh();
        let records = RunRecords::new(&options.cache);
        let (namespace, kube) = match &options.choice {
            Choice::K3s { .. } => (scenario.namespace.clone(), None),
            Choice::Kubeconfig { file, context, namespace } => {
                let name = namespace.clone().unwrap_or_else(|| format!("{}-{id}", scenario.namespace));
                let kube = KubeNamespace { kubeconfig: file.clone(), context: context.clone(), name: name.clone() };
                (name, Some(kube))
            }
        };
        let record = RunRecord::own(id.clone(), kube);
        Self { id, scenario, designs, options, events, records, record, namespace, start: Instant::now() }
    }

    async fn body(&self) -> Result<Outcome, WalkError> {
        self.events.tell(Event::Started {
            run: self.id.to_string(),
            scenario: self.scenario.name.clone(),
            place: match &self.options.choice {
                Choice::K3s { .. } => "a throwaway cluster".to_owned(),
                Choice::Kubeconfig { .. } => format!("namespace {} of an existing cluster", self.namespace),
            },
            stages: self.scenario.stages.len(),
            totals: (self.options.purpose == Purpose::Prove).then(|| self.designs.totals()),
        });
        let ground = match &self.options.choice {
            Choice::K3s { node, istio, snapshotter } => {
                self.throwaway(node.clone(), istio.as_deref(), snapshotter).await?
            }
            Choice::Kubeconfig { file, context, .. } => self.existing(file.clone(), context.as_deref()).await?,
        };
        self.walk(ground).await
    }

    async fn throwaway(
        &self,
        node: Option<NodeImage>,
        istio: Option<&str>,
        snapshotter: &str,
    ) -> Result<Ground, WalkError> {
        let cache = ImageCache::new(&self.options.cache);
        let newest = || cache.istio_versions().into_iter().next().unwrap_or_else(|| "1.31".to_owned());
        let set = cache.istio(&istio.map_or_else(newest, ToOwned::to_owned))?;
        let node = match node {
            Some(node) => node,
            None => cache.node()?,
        };
        let docker = Docker::connect().await?;
        for run in sweep(Some(&docker), &self.records, false, None).await?.clusters {
            self.events.tell(Event::Swept(format!("the cluster of run {run}")));
        }
        self.records.write(&self.record)?;
        self.events.tell(Event::SettingUp("packing the workload image".to_owned()));
        let workload = self.workload_archive().await?;
        let options = K3sOptions {
            node,
            archives: set.archives.iter().cloned().chain([workload]).collect(),
            snapshotter: snapshotter.to_owned(),
        };
        self.events.tell(Event::SettingUp("starting the cluster".to_owned()));
        let cluster = K3sCluster::start(&docker, options, &self.id, self.events.waiting());
        let (cluster, manifests) = tokio::join!(cluster, Manifests::generate(&set, &self.options.cache));
        let (cluster, manifests) = (cluster?, manifests?);
        self.save_kubeconfig(cluster.kubeconfig())?;
        let client = cluster.client();
        answering(&client, self.events.waiting()).await?;
        self.ready("API server");
        // istiod is applied while images still come in: its pod starts as soon as the node is ready
        self.events.tell(Event::SettingUp(format!("installing Istio {}", set.version)));
        let (istio, objects) = self.install(&client, manifests, &set).await?;
        let (label, value) = istio.injection_label();
        objects.create_namespace(&BTreeMap::from([(label, value)])).await?;
        let (node, istiod) = tokio::join!(
            node_ready(&client, &self.namespace, self.events.waiting()),
            istio.ready(&client, &self.namespace, self.events.waiting()),
        );
        node?;
        istiod?;
        self.ready(&format!("cluster with Istio {}", istio.version));
        Ok(Ground { client, objects })
    }

    async fn install(
        &self,
        client: &Client,
        manifests: Manifests,
        set: &IstioSet,
    ) -> Result<(Istio, Objects), WalkError> {
        let istio = Istio::apply(client, manifests, &set.tag).await?;
        let objects =
            Objects::new(client.clone(), self.id.clone(), &self.scenario.namespace, &self.namespace, false).await?;
        Ok((istio, objects))
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
        Ok(Ground { client, objects })
    }

    async fn walk(&self, ground: Ground) -> Result<Outcome, WalkError> {
        let Ground { client, objects } = ground;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let mut walk = Walk {
            scenario: &self.scenario,
            workloads: Workloads::watch(&client, &self.namespace),
            sidecar: Sidecar::new(pods.clone(), self.scenario.client.pod.clone()),
            driver: Driver::new(pods, self.options.driver),
            client,
            namespace: self.namespace.clone(),
            objects,
            live: Live::default(),
            events: self.events.clone(),
            client_pod: Vec::new(),
        };
        walk.client_pod = walk.apply(&self.scenario.client.manifests).await?;
        let stages = self.scenario.stages.len();
        if let (Purpose::Calibrate(options), Some(split)) = (self.options.purpose, self.designs.first_split()) {
            let independent = walk.calibrate(split, options).await?.independent();
            let ending = if independent { Ending::Passed } else { Ending::Failed };
            return Ok(Outcome { ending, passed: 0, stages });
        }
        for (index, stage) in self.scenario.stages.iter().enumerate() {
            if !walk.stage(index + 1, stage, self.designs.of(index + 1)).await? {
                return Ok(Outcome { ending: Ending::Failed, passed: index, stages });
            }
        }
        Ok(Outcome { ending: Ending::Passed, passed: stages, stages })
    }

    async fn workload_archive(&self) -> Result<PathBuf, WalkError> {
        let archive = self.records.folder(&self.id)?.join("workload.tar");
        let (binary, target) = (self.options.binary.clone(), archive.clone());
        let written = tokio::task::spawn_blocking(move || write_archive(&binary, &target)).await;
        match written {
            Ok(written) => written.map_err(ClusterError::from)?,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
        Ok(archive)
    }

    fn save_kubeconfig(&self, text: &str) -> Result<(), WalkError> {
        let path = self.records.folder(&self.id)?.join("kubeconfig");
        std::fs::write(&path, text).map_err(|source| ClusterError::Record { path, source })?;
        Ok(())
    }

    fn ready(&self, what: &str) {
        self.events.tell(Event::Ready { what: what.to_owned(), after: self.start.elapsed() });
    }

    async fn remove(&self) -> Result<(), WalkError> {
        self.events.tell(Event::Removing);
        let start = Instant::now();
        match &self.options.choice {
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

/// Waits until the API server answers that it is ready.
async fn answering(client: &Client, seen: impl FnMut(&str)) -> Result<(), ClusterError> {
    until("the API server", NODE_LIMIT, Again::Every(Duration::from_millis(100)), seen, async || {
        let request = hyper::Request::get("/readyz").body(Vec::new());
        let request = request.unwrap_or_else(|_| unreachable!("a literal path"));
        match client.request_text(request).await {
            Ok(_) => Progress::Done(()),
            // what it says of itself while it starts is for its own log
            Err(_) => Progress::NotYet("the API server is not ready".to_owned()),
        }
    })
    .await
    .map_err(Into::into)
}

/// Waits until the node is ready, its DNS answers and pods can be made in the namespace.
async fn node_ready(client: &Client, namespace: &str, mut seen: impl FnMut(&str)) -> Result<(), ClusterError> {
    let nodes: Api<Node> = Api::all(client.clone());
    let dns: Api<Deployment> = Api::namespaced(client.clone(), "kube-system");
    until("the node", NODE_LIMIT, Again::Every(Duration::from_millis(100)), &mut seen, async || {
        let list = nodes.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let ready = list.iter().any(|node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        if !ready {
            return Progress::NotYet("the node is not ready".to_owned());
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

async fn account_ready(client: &Client, namespace: &str, seen: impl FnMut(&str)) -> Result<(), ClusterError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    until("the default ServiceAccount", NODE_LIMIT, Again::Every(Duration::from_millis(50)), seen, async || {
        match accounts.get_opt("default").await {
            Ok(Some(_)) => Progress::Done(()),
            Ok(None) => Progress::NotYet("not there".to_owned()),
            Err(error) => Progress::NotYet(error.to_string()),
        }
    })
    .await
    .map_err(Into::into)
}
