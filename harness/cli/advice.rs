use std::io::{Write, stderr};

use super::exit::ExitCode;
use super::nearest::nearest;
use crate::cluster::wait::{Failure as WaitFailure, WaitError};
use crate::cluster::{ClusterError, LoadError};
use crate::controller::ControllerError;
use crate::mesh::MeshError;
use crate::plan::{PlanError, Refused};
use crate::report::{ReportError, Wrapped};
use crate::scenario::{Component, Origin, Sensitive};
use crate::session::SessionError;
use crate::traffic::TrafficError;
use crate::upgrade::UpgradeError;
use crate::verdict::DesignError;

/// An error message for the user with an exit code and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub code: ExitCode,
    pub message: String,
    pub place: Option<Origin>,
    pub hint: Option<String>,
}

impl Failure {
    pub fn bad_input(message: String) -> Self {
        Self { code: ExitCode::BadInput, message, place: None, hint: None }
    }

    pub fn environment(message: String) -> Self {
        Self { code: ExitCode::Environment, message, place: None, hint: None }
    }

    pub fn unwritable(error: &ReportError) -> Self {
        let hint = Some("choose another folder with --report, or disable reports with --no-report".to_owned());
        Self { hint, ..Self::environment(error.to_string()) }
    }

    pub fn unsupported(error: &UpgradeError) -> Self {
        let hint = match error {
            UpgradeError::Skew { .. } => "--allow-skew runs it anyway",
            UpgradeError::Same(_) => "--allow-same runs the version twice and shows the differences due to chance",
            _ => return Self::bad_input(error.to_string()),
        };
        Self { hint: Some(hint.to_owned()), ..Self::bad_input(error.to_string()) }
    }

    pub fn of(error: &SessionError) -> Self {
        let code = if error.is_bad_input() { ExitCode::BadInput } else { ExitCode::Environment };
        Self { code, message: error.to_string(), place: error.place().cloned(), hint: hint(error) }
    }

    /// The failure without sensitive values: the API repeats values that it rejects.
    pub fn without(self, hidden: &Sensitive) -> Self {
        Self { message: hidden.hidden_in(&self.message).into_owned(), ..self }
    }
}

/// The sets of images that `ci/images/build` supports.
const BUILT_SETS: [&str; 8] = [
    "node",
    "istio-1.31",
    "istio-1.22",
    "gateway-api",
    "argo-rollouts-1.10",
    "argo-rollouts-1.8",
    "flagger-1.36",
    "metrics-server-0.8",
];

/// A hint about missing images. Only a checkout of the repository has the script that builds them.
pub(super) fn images_hint(pull: &str, set: Option<&str>) -> String {
    match nearest("ci/images/build") {
        Some(script) if set.is_none_or(|set| BUILT_SETS.contains(&set)) => {
            let script = script.display();
            let set = set.map(|set| format!(" {set}")).unwrap_or_default();
            format!("{pull}, or run `{script}{set}` to build it")
        }
        _ => pull.to_owned(),
    }
}

fn hint(error: &SessionError) -> Option<String> {
    let text = match error {
        SessionError::Cluster(error)
        | SessionError::Mesh(MeshError::Cluster(error))
        | SessionError::Controller(ControllerError::Cluster(error))
        | SessionError::Traffic(TrafficError::Driver(error)) => return cluster_hint(error),
        SessionError::Mesh(MeshError::NoSidecar { .. }) => {
            "the client must be in the mesh: remove the label or annotation that disables its sidecar injection"
        }
        SessionError::Mesh(MeshError::OtherIstioctl { .. }) => {
            "pass the istioctl of that version, or omit --istioctl to use the one in the image cache"
        }
        SessionError::Mesh(MeshError::NoAddon { .. }) => {
            "pull a release with `shiftcheck images --pull VERSION`, such as 1.27.3, and run it with `--istio VERSION`; or pass \
             `--istioctl RELEASE/bin/istioctl` of an unpacked release of this version"
        }
        SessionError::Mesh(MeshError::NoGatewayPods { .. }) => {
            "install an ingress gateway with these labels, or have the Gateway select the one that is there"
        }
        SessionError::Mesh(MeshError::NotInstalled) => {
            "install Istio on the cluster, or use a throwaway cluster with --cluster k3s"
        }
        SessionError::Controller(ControllerError::NotInstalled { .. }) => {
            "install it on the cluster, or use a throwaway cluster with --cluster k3s"
        }
        SessionError::NoStage { .. } => {
            "add a stage that waits for this state, with what must hold in it, or have the controller ask in other states only"
        }
        SessionError::NothingToJudge { .. } => {
            "add a claim with `from`, such as `{from: everyone, get: {v1: 80%, v2: 20%}}`"
        }
        SessionError::LeftBehind { left, .. } => {
            let run = &left.run;
            return Some(format!("`shiftcheck sweep --run {run}` or the next run tries again"));
        }
        SessionError::Plan(PlanError { source: Refused::Design(error), .. }) => match error {
            DesignError::TooManyRequests { .. } => {
                "claim a larger `deviation`, or allow more requests with `error-rates: {max-requests: …}`"
            }
            DesignError::TooFewSessions { .. } | DesignError::TooFewForALeak { .. } => return None,
            DesignError::TooManySessions { .. } => {
                "claim a larger `leak`, have fewer sessions, or allow more requests with `error-rates: {max-requests: …}`"
            }
            DesignError::TooSmallALeak { .. } => {
                "claim a larger `leak`, or allow more requests with `error-rates: {max-requests: …}`"
            }
            DesignError::TooSmallAnEffect { .. } => {
                "claim a larger factor or `excess`, or allow more requests with `error-rates: {max-requests: …}`"
            }
        },
        _ => return None,
    };
    Some(text.to_owned())
}

fn cluster_hint(error: &ClusterError) -> Option<String> {
    let text = match error {
        ClusterError::NoEngine(_) => "start Docker, or use the mesh in this process with --cluster embedded",
        ClusterError::NoImage { .. } => {
            return Some(images_hint("pass an image that can be pulled with --node-image IMAGE:TAG", Some("node")));
        }
        ClusterError::NoSet { set, .. } => return Some(set_hint(set)),
        ClusterError::BadSet { .. } => {
            let pull = "delete the folder of the set, and pull it with `shiftcheck images --pull VERSION`";
            return Some(images_hint(pull, None));
        }
        ClusterError::Pull { .. } => "check the network and the version, or use a mirror with --hub",
        ClusterError::NoDisk { .. } => "free disk space, for example with `docker system prune`",
        ClusterError::FewFiles { .. } => "raise the limit, for example with `ulimit -n 4096`",
        ClusterError::UnknownKind { .. } => "check the spelling of the kind, and that its CRD is installed",
        ClusterError::Outside { .. } => "remove it from the scenario, or use a throwaway cluster with --cluster k3s",
        ClusterError::Reaches(_) => {
            "limit it to the namespace with `exportTo: [\".\"]` and hosts in the same namespace, use a throwaway cluster with --cluster k3s, or \
             allow these effects with --allow-reach"
        }
        ClusterError::Wait(WaitError::Failed { source: WaitFailure::NoImage { image, .. }, .. }) => {
            return Some(format!(
                "check the image's name and the registry's credentials; on a throwaway cluster, `--load-image {image}` loads the image from the \
                 Docker engine, and `--load-image FILE.tar` from an archive"
            ));
        }
        ClusterError::Load(error) => return load_hint(error).map(str::to_owned),
        ClusterError::NoPod { .. } => "`shiftcheck judge --manifests` prints what runs it in the cluster",
        error if error.is_forbidden() => {
            "give the account this right: `shiftcheck judge --manifests` prints the rights of a judge, and the documentation of existing \
             clusters lists those of a run"
        }
        ClusterError::NotEmbedded { .. } => "run it on a cluster, with --cluster k3s or --cluster kubeconfig",
        ClusterError::NoNamespace(_) => {
            "`kubectl get namespaces` lists the namespaces; choose the cluster with --context"
        }
        ClusterError::NamespaceTaken(_) => "choose another namespace with --namespace, or delete this one",
        ClusterError::Kubeconfig(_) => "pass a file with --kubeconfig and a context with --context",
        ClusterError::NoAnswer { .. } => "it exists but does not respond: restart it, or check its log",
        ClusterError::UnknownCluster(_) => "delete the namespace and then the record in the cache folder manually",
        ClusterError::OtherCluster { .. } => {
            "point the context to that cluster again, or delete the namespace there manually"
        }
        ClusterError::NoRun(_) => "`shiftcheck sweep` lists what is left of runs",
        ClusterError::Remove { .. } | ClusterError::RemoveNetwork { .. } => "`shiftcheck sweep` tries again",
        _ => return None,
    };
    Some(text.to_owned())
}

/// A hint about a set that the image cache does not have.
fn set_hint(set: &str) -> String {
    let text = match set {
        "node" => "pass one with --node-image, such as rancher/k3s:v1.34.4-k3s1",
        "gateway-api" => {
            "the scenario needs the CRDs of the Gateway API: use a cluster that has them with --cluster kubeconfig"
        }
        _ if Component::of_set(set) == Some(Component::MetricsServer) => {
            "use a cluster that has metrics-server, with --cluster kubeconfig"
        }
        _ if Component::of_set(set).is_some() => "use a cluster that has the controller, with --cluster kubeconfig",
        _ => "`shiftcheck images --pull VERSION` pulls a release of Istio, such as 1.27.3",
    };
    images_hint(text, Some(set))
}

const fn load_hint(error: &LoadError) -> Option<&'static str> {
    match error {
        LoadError::NotInEngine { .. } => Some("build or pull it, or pass an archive: --load-image FILE.tar"),
        LoadError::Archive { .. } => {
            Some("pass an archive of `docker save --output FILE.tar IMAGE`, or an OCI archive")
        }
        LoadError::NotNamed { .. } => Some("give the image the name and the tag that the manifest has"),
        LoadError::Pulled { .. } => Some("set `imagePullPolicy: IfNotPresent`"),
        LoadError::Export { .. } => None,
    }
}

/// Writes an error and its hint to stderr, wrapped at the width of a terminal.
pub(super) fn print(failure: &Failure) {
    let mut text = format!("error: {}\n", failure.message);
    if let Some(hint) = &failure.hint {
        text = format!("{text}\nhint: {hint}\n");
    }
    let mut out = Wrapped::fitting(stderr());
    for line in text.lines() {
        // an error on stderr cannot be reported
        let _ = if is_excerpt(line) { out.verbatim(line) } else { writeln!(out, "{line}") };
    }
}

/// Whether a line is part of an excerpt of a file, whose marks stand below columns.
fn is_excerpt(line: &str) -> bool {
    line.trim_start_matches(|letter: char| letter == ' ' || letter.is_ascii_digit()).starts_with('|')
}
