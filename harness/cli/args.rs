use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::cluster::{Keep, RunId};
use crate::report::Granularity;
use crate::upgrade::Mode;

/// Proves, on a real Istio mesh, that a traffic-shifting rollout does at every stage what its manifests promise
///
/// Exit codes: 0 every claim held, 1 a claim failed, 2 bad input, 3 the environment failed, 130 and 143 interrupted and terminated.
#[derive(Debug, Parser)]
#[command(name = "shiftcheck", version, max_term_width = 120)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The folder of the image cache and the run records
    #[arg(long, global = true, env = "SHIFTCHECK_CACHE", value_name = "DIR")]
    pub cache: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Walk a scenario stage by stage and judge every claim
    Run(RunArgs),
    /// Walk a scenario on two versions of Istio and across the change from one to the other, and say what changes in behaviour
    Upgrade(Box<UpgradeArgs>),
    /// Check every claim against the manifests, without a cluster
    Verify(VerifyArgs),
    /// Mutation testing: apply mutation operators to the manifests, and report the mutants that no claim kills
    Mutants(MutantsArgs),
    /// Put the model behind the verdicts to the test: are requests of this mesh routed independently?
    Calibrate(CalibrateArgs),
    /// Write a scenario from a folder of manifests, or from a namespace of a live cluster; what it leaves open is in comments
    Init(InitArgs),
    /// List the sets of images in the cache, and whether their files are there
    Images {
        /// Also read them, and tell what is wrong; exit code 3 where something is
        #[arg(long)]
        check: bool,
        /// Pull the images and the istioctl of a version of Istio, such as 1.27.3, into the cache
        #[arg(long, value_name = "VERSION", conflicts_with = "check")]
        pull: Option<String>,
        /// The repository to pull from
        #[arg(long, value_name = "REPOSITORY", default_value = "docker.io/istio", requires = "pull")]
        hub: String,
    },
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page
    Man,
    /// Print a JSON schema
    Schema {
        /// Of what
        what: SchemaOf,
    },
    /// Say what changed between two reports: versions, verdicts, shares beyond chance, convergence, outages during changes
    Compare {
        /// The report.json that is compared with, or its folder
        before: PathBuf,
        /// The other report.json, or its folder
        after: PathBuf,
    },
    /// Remove what killed runs have left
    Sweep(SweepArgs),
    /// Write the image archive of the demo server and the client, to be loaded into an own cluster
    Image {
        /// The archive
        archive: PathBuf,
    },
    /// What runs in the cluster
    #[command(hide = true)]
    Workload {
        /// Which part.
        #[command(subcommand)]
        part: Workload,
    },
}

/// How to walk a scenario.
#[derive(Debug, Clone, clap::Args)]
pub struct WalkArgs {
    /// The scenario file, or its folder; by default the one in the current folder, or the one that comes along
    #[arg(default_value_os_t = usual_scenario(), hide_default_value = true)]
    pub scenario: PathBuf,
    /// Where to run [default: k3s; embedded where there is no Docker engine, unless CI is set]
    #[arg(long, env = "SHIFTCHECK_CLUSTER")]
    pub cluster: Option<ClusterKind>,
    /// The version of Istio for a throwaway cluster [default: the newest in the cache]
    #[arg(long, env = "SHIFTCHECK_ISTIO", value_name = "VERSION")]
    pub istio: Option<String>,
    /// Its profile on a throwaway cluster [default: minimal]
    #[arg(long, env = "SHIFTCHECK_ISTIO_PROFILE", value_name = "PROFILE")]
    pub istio_profile: Option<String>,
    /// A setting of Istio on a throwaway cluster, as istioctl's --set takes it; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub istio_set: Vec<String>,
    /// The istioctl of that version [default: the one in the cache]; with it, a version that is not in the cache is pulled
    #[arg(long, env = "SHIFTCHECK_ISTIOCTL", value_name = "FILE")]
    pub istioctl: Option<PathBuf>,
    /// The node image for a throwaway cluster, such as rancher/k3s:v1.34.4-k3s1 [default: the one in the cache]
    #[arg(long, env = "SHIFTCHECK_NODE_IMAGE", value_name = "IMAGE:TAG")]
    pub node_image: Option<String>,
    /// containerd's snapshotter in a throwaway cluster; `native` where overlayfs does not work
    #[arg(long, env = "SHIFTCHECK_SNAPSHOTTER", default_value = "overlayfs")]
    pub snapshotter: String,
    /// The kubeconfig of an existing cluster [default: kubectl's]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace on an existing cluster; it must not exist [default: the scenario's with the run's id]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// On an existing cluster: list effects outside of the namespace, such as a VirtualService for a host of others, and run all the same
    #[arg(long)]
    pub allow_reach: bool,
    /// When to leave the cluster or namespace behind
    #[arg(long, default_value = "never")]
    pub keep: Keep,
    /// How to send requests.
    #[command(flatten)]
    pub traffic: TrafficArgs,
}

/// How to send requests.
#[derive(Debug, Clone, clap::Args)]
pub struct TrafficArgs {
    /// Connections of the traffic driver, each with one request in flight [default: the scenario's, or 8]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: Option<u16>,
    /// Requests a second, of all populations together, due whether or not earlier ones are answered [default: the scenario's, or as
    /// fast as the answers come]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub qps: Option<f64>,
    /// Open a connection for every request
    #[arg(long)]
    pub no_keep_alive: bool,
}

/// Which upgrade to walk.
#[derive(Debug, Clone, clap::Args)]
pub struct UpgradeArgs {
    /// The scenario file, or its folder; by default the one in the current folder, or the one that comes along
    #[arg(default_value_os_t = usual_scenario(), hide_default_value = true)]
    pub scenario: PathBuf,
    /// The old version of Istio
    #[arg(long, value_name = "VERSION")]
    pub from: String,
    /// The new version of Istio
    #[arg(long, value_name = "VERSION")]
    pub to: String,
    /// The stage at which the mesh is changed, by name or number [default: the first that splits versions]
    #[arg(long, value_name = "STAGE")]
    pub at: Option<String>,
    /// A way from one version to the other; may be given several times [default: all that Istio supports between these versions]
    #[arg(long, value_name = "MODE")]
    pub mode: Vec<Mode>,
    /// Also walk what Istio does not support: a control plane more than one minor version ahead of its sidecars, or behind them
    #[arg(long)]
    pub allow_skew: bool,
    /// Where both versions are the same: walk it twice, each time alone, and show what differs by chance
    #[arg(long, conflicts_with_all = ["mode", "from_set", "to_set"])]
    pub allow_same: bool,
    /// Claim that no more requests than this fail during all changes of the mesh together, in all modes
    #[arg(long, value_name = "NUMBER")]
    pub errors: Option<u64>,
    /// The profile of Istio [default: minimal]
    #[arg(long, env = "SHIFTCHECK_ISTIO_PROFILE", value_name = "PROFILE")]
    pub istio_profile: Option<String>,
    /// A setting of both versions, as istioctl's --set takes it; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub istio_set: Vec<String>,
    /// A setting of the old version alone
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub from_set: Vec<String>,
    /// A setting of the new version alone
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub to_set: Vec<String>,
    /// The istioctl of the old version [default: the one in the cache]
    #[arg(long, value_name = "FILE")]
    pub from_istioctl: Option<PathBuf>,
    /// The istioctl of the new version [default: the one in the cache]
    #[arg(long, value_name = "FILE")]
    pub to_istioctl: Option<PathBuf>,
    /// The node image, such as rancher/k3s:v1.34.4-k3s1 [default: the one in the cache]
    #[arg(long, env = "SHIFTCHECK_NODE_IMAGE", value_name = "IMAGE:TAG")]
    pub node_image: Option<String>,
    /// containerd's snapshotter; `native` where overlayfs does not work
    #[arg(long, env = "SHIFTCHECK_SNAPSHOTTER", default_value = "overlayfs")]
    pub snapshotter: String,
    /// How to send requests.
    #[command(flatten)]
    pub traffic: TrafficArgs,
    /// The folder of the reports: upgrade.html, upgrade.json, and a folder for each walk [default: shiftcheck-upgrade]
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Write no reports
    #[arg(long, conflicts_with = "report")]
    pub no_report: bool,
}

/// What to run, and what to write about it.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Where and how to walk the scenario.
    #[command(flatten)]
    pub walk: WalkArgs,
    /// Judge the claims of this stage alone, by name or number; the stages before it are walked for what they apply
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["until", "pause"])]
    pub only: Option<String>,
    /// Stop behind this stage, by name or number
    #[arg(long, value_name = "STAGE")]
    pub until: Option<String>,
    /// Stop behind this stage, leave everything up, and say how to look at it
    #[arg(long, value_name = "STAGE", conflicts_with = "until")]
    pub pause: Option<String>,
    /// On the embedded mesh: walk again whenever the scenario or a manifest is saved
    #[arg(long)]
    pub watch: bool,
    /// The folder of the reports: report.html, report.json, conformance.yaml, junit.xml, graph/, and state/ where something failed
    /// [default: shiftcheck-report]
    #[arg(long, env = "SHIFTCHECK_REPORT", value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Write no reports
    #[arg(long)]
    pub no_report: bool,
    /// What a test case of junit.xml is
    #[arg(long, value_name = "WHAT", default_value = "claim")]
    pub junit: Granularity,
}

impl From<WalkArgs> for RunArgs {
    /// A walk of the whole scenario, without reports.
    fn from(walk: WalkArgs) -> Self {
        Self {
            walk,
            only: None,
            until: None,
            pause: None,
            watch: false,
            report: None,
            no_report: true,
            junit: Granularity::default(),
        }
    }
}

/// What to verify.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The scenario file, or its folder; by default the one in the current folder, or the one that comes along
    #[arg(default_value_os_t = usual_scenario(), hide_default_value = true)]
    pub scenario: PathBuf,
    /// Also say what changed in behaviour since another version of the manifests: a folder with the scenario, or a revision of git
    #[arg(long, value_name = "GIT_REF|DIR")]
    pub against: Option<String>,
}

/// Options of `mutants`.
#[derive(Debug, clap::Args)]
pub struct MutantsArgs {
    /// The scenario, and where to run mutants; without --cluster the routing model evaluates them.
    #[command(flatten)]
    pub walk: WalkArgs,
    /// With --cluster k3s: how many mutants also run on a real mesh
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub sample: u16,
}

/// How to calibrate.
#[derive(Debug, clap::Args)]
pub struct CalibrateArgs {
    /// Where and how to walk to the first stage that splits versions.
    #[command(flatten)]
    pub walk: WalkArgs,
    /// The number of samples
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(10..=10_000))]
    pub samples: u16,
    /// The requests of each sample that are tested for independence
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    pub requests: u32,
}

/// Where a scenario runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClusterKind {
    /// A throwaway cluster in a container
    K3s,
    /// An existing cluster
    Kubeconfig,
    /// A mesh in this process, without Docker: shows what the manifests mean, not what a release of Istio does
    Embedded,
}

/// What to write a scenario from.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The folder of the manifests, and of the scenario
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// Take the manifests from this namespace of a live cluster first
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The kubeconfig of that cluster [default: kubectl's]
    #[arg(long, value_name = "FILE", requires = "namespace")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", requires = "namespace")]
    pub context: Option<String>,
}

/// What a JSON schema is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// A scenario file
    Scenario,
    /// report.json
    Report,
    /// upgrade.json
    Upgrade,
}

/// What to sweep.
#[derive(Debug, clap::Args)]
pub struct SweepArgs {
    /// Only what this run has left, even if it was kept on purpose or its process cannot be seen from here
    #[arg(long, value_name = "ID")]
    pub run: Option<RunId>,
    /// Also what was kept on purpose by runs with the same cache folder
    #[arg(long)]
    pub kept: bool,
}

/// A part of the workload image.
#[derive(Debug, Subcommand)]
pub enum Workload {
    /// The demo server
    Serve {
        /// The version that it says it is
        #[arg(long, env = "VERSION", default_value = "v1")]
        version: String,
        /// Whether `/error` answers 200
        #[arg(long, env = "MENDED")]
        mended: bool,
        /// Its pod's name
        #[arg(long, env = "HOSTNAME", default_value = "")]
        pod: String,
        /// Where to listen
        #[arg(long, default_value = "0.0.0.0:8080")]
        listen: SocketAddr,
    },
    /// The client, waiting
    Idle,
    /// The traffic driver: takes orders from stdin, one a line
    Drive,
    /// The files that this program loads to run
    Files,
}

/// The scenario in the current folder; where there is none, the walkthrough that comes along.
fn usual_scenario() -> PathBuf {
    const OWN: &str = "scenario.yaml";
    if Path::new(OWN).is_file() { OWN.into() } else { "fixtures/canary".into() }
}

fn setting(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err("a setting is written KEY=VALUE, such as values.pilot.traceSampling=1".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (0.1..=1e6).contains(rate)).ok_or_else(|| "a rate lies between 0.1 and 1000000".to_owned())
}
