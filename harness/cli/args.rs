use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::live::PageArgs;
use super::nodes::nodes;
use super::several::SeveralArgs;
use super::workload_args::Workload;
use crate::cluster::{ImageSource, Keep, RELEASES, RunId, default_cache};
use crate::draft::examples;
use crate::report::Granularity;
use crate::scenario::{ControllerKind, IstioVersion};
use crate::upgrade::Mode;

/// The environment variables; those of options are in the help of each command, too.
const ENVIRONMENT: &str = "\
Environment variables:
  SHIFTCHECK_CACHE          the folder of the image cache and the run records (--cache)
  SHIFTCHECK_CLUSTER        the kind of cluster (--cluster)
  SHIFTCHECK_ISTIO          the version of Istio (--istio)
  SHIFTCHECK_ISTIO_PROFILE  the Istio profile (--istio-profile)
  SHIFTCHECK_ISTIOCTL       the istioctl (--istioctl)
  SHIFTCHECK_LOG            log messages on stderr, such as shiftcheck=debug
  SHIFTCHECK_NODE_IMAGE     the node image (--node-image)
  SHIFTCHECK_PROGRAM        for tests in Rust: the shiftcheck executable
  SHIFTCHECK_REPORT         the folder of the reports (--report)
  SHIFTCHECK_SNAPSHOTTER    the containerd snapshotter (--snapshotter)
  CI                        no embedded mesh by default
  DOCKER_HOST               the Docker engine
  GITHUB_ACTIONS            true: annotations for failed claims
  GITHUB_STEP_SUMMARY       the file to which a table of claims is added
  KUBECONFIG                the kubeconfig of an existing cluster
  NO_COLOR                  no colours
  XDG_CACHE_HOME            the folder of the default cache, instead of ~/.cache";

/// End-to-end tests for Istio traffic-shifting rollouts
///
/// Exit codes: 0 every claim holds, 1 a claim fails, 2 bad input, 3 the environment failed, 4 undecided, 130 interrupted, 143 terminated.
#[derive(Debug, Parser)]
#[command(name = "shiftcheck", version, max_term_width = 120, after_help = ENVIRONMENT)]
pub struct Args {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The option of commands that use the cache.
#[derive(Debug, Clone, clap::Args)]
pub struct CacheArgs {
    /// The folder of the image cache and the run records [default: ~/.cache/shiftcheck]
    #[arg(long = "cache", id = "cache", env = "SHIFTCHECK_CACHE", value_name = "DIR")]
    #[arg(default_value_os_t = default_cache(), hide_default_value = true)]
    pub folder: PathBuf,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a scenario stage by stage and decide every claim
    Run(RunArgs),
    /// Run a scenario on two versions of Istio and during the upgrade from one to the other, and report differences in behaviour
    Upgrade(Box<UpgradeArgs>),
    /// Check every claim against the manifests, without a cluster
    Verify(VerifyArgs),
    /// Mutation testing: apply mutation operators to the manifests, and report the mutants that no claim kills
    Mutants(MutantsArgs),
    /// Test whether a mesh routes requests independently, as the verdicts on shares assume
    Calibrate(CalibrateArgs),
    /// In a pod of the mesh: judge the claims of the stage at which a rollout is now, so that a controller can stop it
    Judge(JudgeArgs),
    /// Draft a scenario from a folder of manifests or a namespace of a live cluster, with comments where you need to decide
    Init(InitArgs),
    /// List the images in the cache, verify them, or pull a version of Istio
    Images(ImagesArgs),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page, or write the pages of all commands into a folder
    Man {
        /// The folder, such as ~/.local/share/man/man1
        folder: Option<PathBuf>,
    },
    /// Print a JSON schema
    Schema {
        /// The document that the schema describes
        what: SchemaOf,
    },
    /// Compare two reports: versions, verdicts, shares, convergence times, and outages during changes
    Compare {
        /// The first report.json, or the folder of the report
        before: PathBuf,
        /// The second report.json, or the folder of the report
        after: PathBuf,
        /// The format of the output
        #[arg(long, default_value = "text")]
        format: Format,
    },
    /// Remove clusters and namespaces that killed runs left behind
    Sweep(SweepArgs),
    /// Write the image of the demo server and the client as an archive, for import into your own cluster
    Image {
        /// The archive
        archive: PathBuf,
    },
    /// Run a part of the workload image
    #[command(hide = true)]
    Workload {
        /// The part.
        #[command(subcommand)]
        part: Workload,
    },
}

/// Options for running a scenario.
#[derive(Debug, Clone, clap::Args)]
pub struct WalkArgs {
    /// The kind of cluster [default: k3s; embedded without a Docker engine, unless CI is set]
    #[arg(long, env = "SHIFTCHECK_CLUSTER")]
    pub cluster: Option<ClusterKind>,
    /// The version of Istio for a throwaway cluster [default: the newest in the cache]
    #[arg(long, env = "SHIFTCHECK_ISTIO", value_name = "VERSION")]
    pub istio: Option<IstioVersion>,
    /// The istioctl of that version [default: the one in the cache]; the node pulls the images if the cache does not have the version
    #[arg(long, env = "SHIFTCHECK_ISTIOCTL", value_name = "FILE")]
    pub istioctl: Option<PathBuf>,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// The options of a throwaway cluster.
    #[command(flatten)]
    pub throwaway: ThrowawayArgs,
    /// The kubeconfig of an existing cluster [default: kubectl's]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// A new namespace on an existing cluster [default: the namespace of the scenario with the run id]
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// On an existing cluster: allow effects outside the namespace, such as a VirtualService for another host, and list them
    #[arg(long)]
    pub allow_reach: bool,
    /// When to keep the cluster or namespace
    #[arg(long, default_value = "never")]
    pub keep: Keep,
    /// The traffic options.
    #[command(flatten)]
    pub traffic: TrafficArgs,
}

/// Options of throwaway clusters.
#[derive(Debug, Clone, clap::Args)]
pub struct ThrowawayArgs {
    /// The Istio profile on a throwaway cluster [default: minimal]
    #[arg(long, env = "SHIFTCHECK_ISTIO_PROFILE", value_name = "PROFILE")]
    pub istio_profile: Option<String>,
    /// An Istio setting on a throwaway cluster, as for istioctl --set; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub istio_set: Vec<String>,
    /// The node image for a throwaway cluster, such as rancher/k3s:v1.34.4-k3s1 [default: the one in the cache]
    #[arg(long, env = "SHIFTCHECK_NODE_IMAGE", value_name = "IMAGE:TAG")]
    pub node_image: Option<String>,
    /// The containerd snapshotter of a throwaway cluster; use `native` if overlayfs does not work
    #[arg(long, env = "SHIFTCHECK_SNAPSHOTTER", default_value = "overlayfs")]
    pub snapshotter: String,
    /// The number of nodes of a throwaway cluster, up to 8; with several, each is in a zone of its own [default: as many as the scenario needs]
    #[arg(long, value_name = "NUMBER", value_parser = nodes)]
    pub nodes: Option<u8>,
    /// Load an image into a throwaway cluster, by its name in the Docker engine or from an archive (FILE.tar); can be repeated
    #[arg(long, value_name = "IMAGE|FILE", value_parser = clap::value_parser!(ImageSource))]
    pub load_image: Vec<ImageSource>,
}

/// Options for traffic.
#[derive(Debug, Clone, clap::Args)]
pub struct TrafficArgs {
    /// The number of connections, each with one request in flight [default: the scenario's, or 8]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: Option<u16>,
    /// Requests per second of all populations, sent on schedule even if answers are late [default: the scenario's, or no schedule]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub qps: Option<f64>,
    /// Open a new connection for every request
    #[arg(long)]
    pub no_keep_alive: bool,
}

/// Options of `upgrade`.
#[derive(Debug, Clone, clap::Args)]
pub struct UpgradeArgs {
    /// The scenario file or the folder with scenario.yaml [default: scenario.yaml here or in a parent folder]
    pub scenario: Option<PathBuf>,
    /// The old version of Istio, or of the controller
    #[arg(long, value_name = "VERSION")]
    pub from: IstioVersion,
    /// The new version of Istio, or of the controller
    #[arg(long, value_name = "VERSION")]
    pub to: IstioVersion,
    /// Compare two versions of this rollout controller instead, each on a cluster of its own
    #[arg(long, value_name = "NAME", value_parser = controllers())]
    #[arg(conflicts_with_all = ["at", "mode", "allow_skew", "errors", "from_set", "to_set", "from_istioctl", "to_istioctl"])]
    pub controller: Option<ControllerKind>,
    /// With --controller: the version of Istio [default: the newest in the cache]
    #[arg(long, env = "SHIFTCHECK_ISTIO", value_name = "VERSION")]
    pub istio: Option<IstioVersion>,
    /// The stage at which to upgrade the mesh, by name or number [default: the first that splits versions]
    #[arg(long, value_name = "STAGE")]
    pub at: Option<String>,
    /// A way to upgrade; can be repeated [default: all that Istio supports for these versions]
    #[arg(long, value_name = "MODE")]
    pub mode: Vec<Mode>,
    /// Also run unsupported version skews: a control plane more than one minor version newer than its sidecars, or older
    #[arg(long)]
    pub allow_skew: bool,
    /// Allow equal versions: run the version twice and show the differences due to chance
    #[arg(long, conflicts_with_all = ["mode", "from_set", "to_set"])]
    pub allow_same: bool,
    /// Claim that at most this number of requests fails during the changes of the mesh, summed over all modes
    #[arg(long, value_name = "NUMBER")]
    pub errors: Option<u64>,
    /// A setting of the old version only
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub from_set: Vec<String>,
    /// A setting of the new version only
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub to_set: Vec<String>,
    /// The istioctl of the old version [default: the one in the cache]
    #[arg(long, value_name = "FILE")]
    pub from_istioctl: Option<PathBuf>,
    /// The istioctl of the new version [default: the one in the cache]
    #[arg(long, value_name = "FILE")]
    pub to_istioctl: Option<PathBuf>,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// The options of the throwaway clusters.
    #[command(flatten)]
    pub throwaway: ThrowawayArgs,
    /// The traffic options.
    #[command(flatten)]
    pub traffic: TrafficArgs,
    /// The live page.
    #[command(flatten)]
    pub page: PageArgs,
    /// With --live: in each run, wait after this stage, by name or number, until you continue
    #[arg(long, value_name = "STAGE")]
    pub pause: Option<String>,
    /// The folder of the reports: upgrade.html, upgrade.json, and a folder for each run [default: shiftcheck-upgrade]
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Write no reports
    #[arg(long, conflicts_with = "report")]
    pub no_report: bool,
}

/// Options of `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// The scenarios.
    #[command(flatten)]
    pub several: SeveralArgs,
    /// The options for running a scenario.
    #[command(flatten)]
    pub walk: WalkArgs,
    /// The number of client pods, which share the requests of the client [default: the scenario's, or 1]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub clients: Option<u16>,
    /// Decide the claims of this stage only, by name or number; earlier stages only apply their manifests
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["until", "pause"])]
    pub only: Option<String>,
    /// Stop after this stage, by name or number
    #[arg(long, value_name = "STAGE")]
    pub until: Option<String>,
    /// Stop after this stage, keep the cluster, and print how to inspect it; with --live: wait after this stage until you continue
    #[arg(long, value_name = "STAGE", conflicts_with = "until")]
    pub pause: Option<String>,
    /// The live page.
    #[command(flatten)]
    pub page: PageArgs,
    /// With several scenarios: how many of those that share a cluster run at the same time [default: one for each core]
    #[arg(short, long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub jobs: Option<u8>,
    /// On the embedded mesh: run again whenever the scenario or a manifest is saved
    #[arg(long)]
    pub watch: bool,
    /// The folder of the reports: report.html, report.json, conformance.yaml, junit.xml, graph/, and after a failure state/
    /// [default: shiftcheck-report]
    #[arg(long, env = "SHIFTCHECK_REPORT", value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// Write no reports
    #[arg(long)]
    pub no_report: bool,
    /// The unit of a test case in junit.xml
    #[arg(long, value_name = "WHAT", default_value = "claim")]
    pub junit: Granularity,
}

/// Options of `verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The scenarios.
    #[command(flatten)]
    pub several: SeveralArgs,
    /// The format of the output
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// Also compare the behaviour with another version of the manifests: a folder with the scenario, or a git revision
    #[arg(long, value_name = "GIT_REF|DIR")]
    pub against: Option<String>,
    /// The version of Istio to verify for [default: the newest that the routing model knows, 1.31]
    #[arg(long, env = "SHIFTCHECK_ISTIO", value_name = "VERSION")]
    pub istio: Option<IstioVersion>,
    /// With --against: exit with code 1 if the behaviour differs
    #[arg(long, requires = "against")]
    pub fail_on_change: bool,
}

/// Options of `mutants`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("cluster", |cluster| cluster.help("Also run a sample of the mutants on this kind of cluster, k3s [default: no cluster: the routing model alone]")))]
pub struct MutantsArgs {
    /// The scenarios.
    #[command(flatten)]
    pub several: SeveralArgs,
    /// The format of the output
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// Where to run mutants; without --cluster the routing model evaluates them.
    #[command(flatten)]
    pub walk: WalkArgs,
    /// With --cluster k3s: how many mutants also run on a real mesh
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub sample: u16,
}

/// The names of rollout controllers.
fn controllers() -> impl TypedValueParser<Value = ControllerKind> {
    PossibleValuesParser::new(ControllerKind::ALL.map(ControllerKind::key)).try_map(|name| {
        ControllerKind::ALL.into_iter().find(|kind| kind.key() == name).ok_or("the name is one of these")
    })
}

/// Options of `judge`.
#[derive(Debug, Clone, clap::Args)]
pub struct JudgeArgs {
    /// The scenario file or the folder with scenario.yaml [default: scenario.yaml here or in a parent folder]
    pub scenario: Option<PathBuf>,
    /// Print manifests instead: the scenario as a ConfigMap, a service account with its rights, and what runs this command: an analysis
    /// template for a Rollout, a Deployment with a Service for a Canary
    #[arg(long)]
    pub manifests: bool,
    /// Answer a webhook of a Canary at this port instead, until the process ends: 200 if the claims of the stage hold, 4xx otherwise
    #[arg(long, value_name = "PORT", conflicts_with = "manifests", value_parser = clap::value_parser!(u16).range(1..))]
    pub webhook: Option<u16>,
    /// With --manifests: the image with this program
    #[arg(long, value_name = "IMAGE", default_value = "shiftcheck-client:1", requires = "manifests")]
    pub image: String,
    /// Print the report as one line of JSON at the end
    #[arg(long)]
    pub json: bool,
    /// The traffic options.
    #[command(flatten)]
    pub traffic: TrafficArgs,
}

/// Options of `calibrate`.
#[derive(Debug, clap::Args)]
pub struct CalibrateArgs {
    /// The scenario file or the folder with scenario.yaml [default: scenario.yaml here or in a parent folder]
    pub scenario: Option<PathBuf>,
    /// The options for running the scenario up to the first stage that splits versions.
    #[command(flatten)]
    pub walk: WalkArgs,
    /// The number of samples
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(10..=10_000))]
    pub samples: u16,
    /// The requests of each sample that are tested for independence
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    pub requests: u32,
    /// The live page.
    #[command(flatten)]
    pub page: PageArgs,
    /// Refused: no stage of a calibration is judged.
    #[arg(long, value_name = "STAGE", hide = true)]
    pub pause: Option<String>,
}

/// A format of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// For pages, such as the summary of a CI job
    Markdown,
}

/// A kind of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ClusterKind {
    /// A throwaway cluster in a container
    K3s,
    /// An existing cluster
    Kubeconfig,
    /// A mesh in this process, without Docker: checks your manifests, not an Istio release
    Embedded,
}

/// Options of `init`.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The folder of the manifests; a file with rendered manifests, such as Helm's output; or - for stdin. With --example, the new folder
    /// [default: the current folder; with --example, its name]
    #[arg(value_name = "FOLDER|FILE|-")]
    pub source: Option<PathBuf>,
    /// Write this bundled scenario and its manifests instead
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(examples()), conflicts_with = "namespace")]
    pub example: Option<String>,
    /// Export the manifests from this namespace of a live cluster first
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// The kubeconfig of that cluster [default: kubectl's]
    #[arg(long, value_name = "FILE", requires = "namespace")]
    pub kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", requires = "namespace")]
    pub context: Option<String>,
}

/// Options of `images`.
#[derive(Debug, clap::Args)]
pub struct ImagesArgs {
    /// Verify the files of the cached images; exit code 3 if a file is missing or corrupt
    #[arg(long)]
    pub check: bool,
    /// Pull the images and the istioctl of this version of Istio, such as 1.27.3, into the cache
    #[arg(long, value_name = "VERSION", conflicts_with = "check")]
    pub pull: Option<IstioVersion>,
    /// The repository to pull from
    #[arg(long, value_name = "REPOSITORY", default_value = "docker.io/istio", requires = "pull")]
    pub hub: String,
    /// The address below which the archives of Istio releases are, for the manifests of addons
    #[arg(long, value_name = "URL", default_value = RELEASES, requires = "pull")]
    pub releases: String,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheArgs,
}

/// The document that a JSON schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// A scenario file
    Scenario,
    /// report.json
    Report,
    /// upgrade.json
    Upgrade,
    /// The output of `verify --format json`
    Verify,
    /// The output of `mutants --format json`
    Mutants,
    /// The output of `compare --format json`
    Compare,
}

/// Options of `sweep`.
#[derive(Debug, clap::Args)]
pub struct SweepArgs {
    /// Only the run with this id, even if it was kept on purpose or its process is on another machine
    #[arg(long, value_name = "ID")]
    pub run: Option<RunId>,
    /// Also remove what runs with the same cache folder kept on purpose
    #[arg(long)]
    pub kept: bool,
    /// Wait until this process has ended, then remove
    #[arg(long, value_name = "PID")]
    pub after: Option<u32>,
    /// The cache.
    #[command(flatten)]
    pub cache: CacheArgs,
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
