//! What is in the container engine, and clusters that tests share.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use shiftcheck::cluster::{Docker, KubeCluster, RunId, RunRecord, RunRecords, ScenarioImages, default_cache};
use shiftcheck::controller::Components;
use shiftcheck::events::Events;
use shiftcheck::mesh::{Addons, IstioChoice, Planes};
use shiftcheck::venue::{ClusterSpec, ProvisionedCluster, VenueError};

use crate::common::{BINARY, run_id, said, shiftcheck};
use crate::harness::block_on;

/// The ids of the containers that a run has made.
pub fn containers(run: &str) -> Vec<String> {
    docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("label=shiftcheck.dev/run={run}")])
}

/// The anonymous volumes of these containers.
pub fn volumes(containers: &[String]) -> Vec<String> {
    let template = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}}\n{{end}}{{end}}";
    containers.iter().flat_map(|id| docker(&["inspect", "--format", template, id])).collect()
}

/// Whether the engine still has a volume.
pub fn has_volume(name: &str) -> bool {
    docker(&["volume", "ls", "-q"]).iter().any(|volume| volume == name)
}

/// The lines that the engine's client prints.
pub fn docker(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(arguments).output().expect("docker is on the PATH");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}

/// The folder of the image cache and the run records.
pub fn cache() -> PathBuf {
    std::env::var("SHIFTCHECK_CACHE").map_or_else(|_| default_cache(), Into::into)
}

/// A throwaway cluster with the newest Istio and the kinds of the Gateway API, on which several tests run one after another, each in
/// namespaces of its own.
///
/// These need a cluster to themselves:
/// - `addons`: addons of Istio are installed;
/// - `canary`: the walkthrough proves the throwaway cluster itself, and that a kept one stays;
/// - `left_behind`: a run is killed, interrupted or panics, and the cluster that it has raised must go;
/// - `left_objects`: objects outside of the run's namespace are refused on an existing cluster;
/// - `mutants`: `mutants --cluster` takes a throwaway cluster alone, since a mutant may reach out of its namespace;
/// - `flagger` and `rollouts`: a rollout controller is installed;
/// - `own_images`: images and credentials are given to a node before it starts;
/// - `upgrade`: Istio itself is replaced.
pub struct Shared {
    record: RunRecord,
    pub kubeconfig: PathBuf,
}

/// The run that has raised the shared cluster, from before anything of it is made.
static SHARED_RUN: Mutex<Option<RunId>> = Mutex::new(None);

/// The shared cluster; the first test that asks for it has it raised. [`remove_shared`] removes it. Where the process is killed, the next run
/// sweeps the cluster, since its owner has ended.
pub fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| block_on(Shared::raise()).unwrap_or_else(|error| panic!("no shared cluster: {error}")))
}

/// The id of the run that has raised the shared cluster, if it was raised.
pub fn raised() -> Option<String> {
    SHARED_RUN.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(ToString::to_string)
}

/// Removes the shared cluster, if there is one.
pub fn remove_shared() {
    let Some(run) = SHARED_RUN.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
    let removed = block_on(async {
        Docker::connect().await?.remove_run(&run).await?;
        RunRecords::new(&cache()).remove(&run)
    });
    if let Err(error) = removed {
        eprintln!("the shared cluster is left behind: {error}; `shiftcheck sweep --run {run}` removes it");
    }
}

impl Shared {
    async fn raise() -> Result<Self, VenueError> {
        let (cache, run) = (cache(), RunId::fresh());
        eprintln!("raising the cluster that tests share, run {run}");
        *SHARED_RUN.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.clone());
        let record = RunRecord::own(run.clone(), None, &cache);
        let (planes, first) = Planes::only(&IstioChoice::default(), &cache).await?;
        let spec = ClusterSpec {
            cache: &cache,
            binary: Path::new(BINARY),
            node: None,
            planes,
            first,
            snapshotter: "overlayfs",
            nodes: 1,
            images: ScenarioImages::default(),
            addons: Addons::default(),
            gateway_api: true,
            components: Components::default(),
        };
        let (events, _stream) = Events::channel();
        ProvisionedCluster::start(spec, &record, "shared", &events).await?;
        let kubeconfig = RunRecords::new(&cache).folder(&run)?.join("kubeconfig");
        Ok(Self { record, kubeconfig })
    }

    /// The id of the run that has raised it.
    pub fn run(&self) -> &RunId {
        &self.record.id
    }

    /// The cluster with a client of this runtime.
    pub async fn provisioned(&self) -> ProvisionedCluster {
        let (_, client) = KubeCluster::connect(Some(&self.kubeconfig), None).await.unwrap();
        ProvisionedCluster::find(client).await.unwrap()
    }

    /// A command on it, such as `run`, with a scenario.
    pub fn on(&self, command: &str, scenario: &Path, more: &[&str]) -> (String, String, Option<i32>) {
        let (kubeconfig, scenario) = (self.kubeconfig.to_string_lossy(), scenario.to_string_lossy());
        let mut arguments = vec![command, &scenario, "--cluster", "kubeconfig", "--kubeconfig", &kubeconfig];
        arguments.extend(more);
        said(&shiftcheck(&arguments).output().expect("it runs"))
    }

    /// The lines that kubectl prints there.
    pub fn kubectl(&self, arguments: &[&str]) -> Vec<String> {
        let node = containers(self.run().as_str()).remove(0);
        docker(&[&["exec", &node, "kubectl", "--kubeconfig", "/etc/rancher/k3s/k3s.yaml"], arguments].concat())
    }

    /// Waits until a namespace is gone, so that what ran there is in no other test's way.
    pub fn gone(&self, namespace: &str) {
        self.kubectl(&["wait", "--for=delete", &format!("namespace/{namespace}"), "--timeout=60s"]);
    }
}

/// A cluster that a run has left on purpose, removed at the end of the test.
pub struct Kept {
    pub run: String,
    pub kubeconfig: PathBuf,
}

impl Kept {
    /// Walks a scenario that has to hold, and keeps its cluster; with what was said.
    pub fn by(scenario: &str) -> (Self, String) {
        Self::ending_with(0, scenario)
    }

    /// Walks a scenario that has to end with an exit code, and keeps its cluster; with what was said.
    pub fn ending_with(code: i32, scenario: &str) -> (Self, String) {
        let output = shiftcheck(&["run", scenario, "--keep", "always"]).output().expect("it runs");
        let (printed, errors, ended) = said(&output);
        assert_eq!(ended, Some(code), "{printed}\n{errors}");
        let (_, rest) = printed.split_once("export KUBECONFIG=").expect("it tells how to look");
        let kubeconfig = PathBuf::from(rest.lines().next().unwrap_or_default());
        (Self { run: run_id(&printed), kubeconfig }, printed)
    }

    /// Walks another scenario on it, in a namespace of its own.
    pub fn run(&self, scenario: &Path) -> (String, String, Option<i32>) {
        self.run_with(scenario, &[])
    }

    /// As [`run`](Self::run), with more options.
    pub fn run_with(&self, scenario: &Path, more: &[&str]) -> (String, String, Option<i32>) {
        let (kubeconfig, scenario) = (self.kubeconfig.to_string_lossy(), scenario.to_string_lossy());
        let arguments = ["run", &scenario, "--cluster", "kubeconfig", "--kubeconfig", &kubeconfig, "--no-report"];
        said(&shiftcheck(&[&arguments[..], more].concat()).output().expect("it runs"))
    }

    /// The lines that kubectl prints there.
    pub fn kubectl(&self, arguments: &[&str]) -> Vec<String> {
        let node = containers(&self.run).remove(0);
        docker(&[&["exec", &node, "kubectl", "--kubeconfig", "/etc/rancher/k3s/k3s.yaml"], arguments].concat())
    }

    /// Has it removed.
    pub fn remove(self) {
        let run = self.run.clone();
        drop(self);
        assert_eq!(containers(&run), [""; 0], "something is left behind");
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = shiftcheck(&["sweep", "--run", &self.run]).output();
    }
}
