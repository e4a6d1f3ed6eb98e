use std::io::{Write, stderr};

use super::main::ExitCode;
use crate::cluster::ClusterError;
use crate::mesh::MeshError;
use crate::report::ReportError;
use crate::scenario::Origin;
use crate::traffic::TrafficError;
use crate::upgrade::UpgradeError;
use crate::verdict::DesignError;
use crate::walk::WalkError;

/// An error as it is told to people: what, and what to do.
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
        let hint = Some("name another folder with --report, or write none with --no-report".to_owned());
        Self { hint, ..Self::environment(error.to_string()) }
    }

    pub fn abandoned() -> Self {
        Self {
            code: ExitCode::Interrupted,
            message: "ended before everything was removed".to_owned(),
            place: None,
            hint: Some("`shiftcheck sweep` removes what is left".to_owned()),
        }
    }

    pub fn unsupported(error: &UpgradeError) -> Self {
        let hint = match error {
            UpgradeError::Skew { .. } => "--allow-skew walks it all the same",
            UpgradeError::Same(_) => "--allow-same walks it twice and shows what differs by chance",
            UpgradeError::NoVersion(_) => "`shiftcheck images` lists those that are there",
            _ => return Self::bad_input(error.to_string()),
        };
        Self { hint: Some(hint.to_owned()), ..Self::bad_input(error.to_string()) }
    }

    pub fn of(error: &WalkError) -> Self {
        let code = if error.is_bad_input() { ExitCode::BadInput } else { ExitCode::Environment };
        Self { code, message: error.to_string(), place: error.place().cloned(), hint: hint(error) }
    }
}

/// The sets that `ci/images` has a recipe for.
const BUILT_SETS: [&str; 4] = ["node", "istio-1.31", "istio-1.22", "gateway-api"];

fn hint(error: &WalkError) -> Option<String> {
    let cluster = match error {
        WalkError::Cluster(error)
        | WalkError::Mesh(MeshError::Cluster(error))
        | WalkError::Traffic(TrafficError::Driver(error)) => error,
        WalkError::Mesh(MeshError::NoSidecar { .. }) => {
            return Some(
                "the client has to be in the mesh: take away a label or annotation that switches its injection off"
                    .to_owned(),
            );
        }
        WalkError::Mesh(MeshError::OtherIstioctl { .. }) => {
            return Some("name the istioctl of that version, or none: the cache has one beside its images".to_owned());
        }
        WalkError::Mesh(MeshError::NotInstalled) => {
            return Some("install Istio on the cluster first, or run on a throwaway one with --cluster k3s".to_owned());
        }
        WalkError::LeftBehind { left, .. } => {
            let run = &left.run;
            return Some(format!("`shiftcheck sweep --run {run}` tries again, and so does the start of the next run"));
        }
        WalkError::Design { source: DesignError::TooManyRequests { .. }, .. } => {
            return Some(
                "claim with a larger `deviation`, or allow more with `error-rates: {max-requests: …}`".to_owned(),
            );
        }
        WalkError::Design { source: DesignError::TooSmallALeak { .. }, .. } => {
            return Some("claim with a larger `leak`, or allow more with `error-rates: {max-requests: …}`".to_owned());
        }
        _ => return None,
    };
    let text = match cluster {
        ClusterError::NoEngine(_) => "start Docker, or have it set up with ci/engine",
        ClusterError::NoImage { .. } => "ci/images/build loads it from the image cache, or fills that first",
        ClusterError::NoSet { set, .. } if BUILT_SETS.contains(&set.as_str()) => {
            return Some(format!("`ci/images/build {set}` pulls or builds it"));
        }
        ClusterError::NoSet { .. } => "`shiftcheck images --pull VERSION` pulls a release of Istio, such as 1.27.3",
        ClusterError::BadSet { .. } => "ci/images/build fills the image cache",
        ClusterError::Pull { .. } => "check the network and the version, or name a mirror with --hub",
        ClusterError::NoDisk { .. } => "free some space, for example with `docker system prune`",
        ClusterError::UnknownKind { .. } => {
            "is the kind written as its API writes it, and is its definition installed?"
        }
        ClusterError::Outside { .. } => "take it out of the scenario, or run on a throwaway cluster with --cluster k3s",
        ClusterError::Reaches(_) => {
            "keep it inside with `exportTo: [\".\"]` and names of services in its own namespace, run on a throwaway cluster with --cluster k3s, \
             or allow these effects with --allow-reach"
        }
        ClusterError::NamespaceTaken(_) => "choose another with --namespace, or delete it",
        ClusterError::Kubeconfig(_) => "name a file with --kubeconfig and a context with --context",
        ClusterError::NoAnswer { .. } => "it exists but hangs: restart it, or look at its log",
        ClusterError::UnknownCluster(_) => "delete the namespace, and then the record in the cache folder, by hand",
        ClusterError::OtherCluster { .. } => {
            "point the context to that cluster again, or delete the namespace there by hand"
        }
        ClusterError::Remove { .. } => "`shiftcheck sweep` tries again",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Writes an error to stderr.
pub(super) fn tell(failure: &Failure) {
    let mut text = format!("error: {}\n", failure.message);
    if let Some(hint) = &failure.hint {
        text = format!("{text}\nhint: {hint}\n");
    }
    // a closed stderr is nothing that could be told
    let _ = stderr().write_all(text.as_bytes());
}
