//! Options of a run from arguments, shared by the commands that run scenarios.

use std::path::PathBuf;
use std::sync::Arc;

use super::advice::Failure;
use super::args::{ClusterKind, JudgeArgs, ThrowawayArgs, TrafficArgs, WalkArgs};
use super::nodes;
use super::process::{in_ci, own_binary};
use crate::cluster::{Docker, Keep, NodeImage, OwnPod, default_cache};
use crate::mesh::IstioChoice;
use crate::scenario::{IstioVersion, Scenario};
use crate::session::{Options, Pause, SessionError};
use crate::traffic::DriverOptions;
use crate::venue::{Embedded, Existing, Inside, Throwaway, Venue};

/// The requested cluster, or the default.
pub(super) fn cluster_of(args: &WalkArgs) -> ClusterKind {
    args.cluster.unwrap_or_else(|| default_cluster(in_ci(), Docker::is_configured()))
}

/// The default cluster: a throwaway one if there is a Docker engine, responsive or not, and always in CI; otherwise the embedded mesh.
const fn default_cluster(in_ci: bool, engine: bool) -> ClusterKind {
    if in_ci || engine { ClusterKind::K3s } else { ClusterKind::Embedded }
}

/// The options of a run. `state` is the folder for the cluster state.
pub(super) fn options(args: &WalkArgs, scenario: &Scenario, state: Option<PathBuf>) -> Result<Options, Failure> {
    let cluster = cluster_of(args);
    let ThrowawayArgs { load_image, nodes: asked, .. } = &args.throwaway;
    for (option, is_there) in [("--load-image", !load_image.is_empty()), ("--nodes", asked.is_some())] {
        if cluster != ClusterKind::K3s && is_there {
            return Err(Failure::bad_input(format!("{option} needs a throwaway cluster: --cluster k3s")));
        }
    }
    nodes::enough(*asked, scenario)?;
    let venue: Arc<dyn Venue> = match cluster {
        ClusterKind::K3s => Arc::new(throwaway_of(args)?),
        ClusterKind::Embedded => Arc::new(Embedded),
        ClusterKind::Kubeconfig => Arc::new(Existing {
            kubeconfig: args.kubeconfig.clone(),
            context: args.context.clone(),
            namespace: args.namespace.clone(),
            allow_reach: args.allow_reach,
        }),
    };
    Ok(on(venue, args, scenario, state))
}

/// The options of a run in a venue.
pub(super) fn on(venue: Arc<dyn Venue>, args: &WalkArgs, scenario: &Scenario, state: Option<PathBuf>) -> Options {
    let driver = driver(&args.traffic, scenario);
    Options { venue, keep: args.keep, cache: args.cache.folder.clone(), driver, state, pause: Pause::default() }
}

/// The requested throwaway cluster.
pub(super) fn throwaway_of(args: &WalkArgs) -> Result<Throwaway, Failure> {
    let istio = istio(&args.throwaway, args.istio.clone(), args.istioctl.clone());
    Ok(Throwaway { istio, ..throwaway(&args.throwaway)? })
}

/// The pod in which this process runs.
pub(super) fn own_pod() -> Result<OwnPod, Failure> {
    OwnPod::find().map_err(|error| Failure::of(&SessionError::from(error)))
}

/// The options of a command that runs in a pod of the cluster.
pub(super) fn inside(args: &JudgeArgs, scenario: &Scenario, state: Option<PathBuf>) -> Result<Options, Failure> {
    let own = own_pod()?;
    let driver = driver(&args.traffic, scenario);
    let (venue, cache) = (Arc::new(Inside { own }), default_cache());
    Ok(Options { venue, keep: Keep::Never, cache, driver, state, pause: Pause::default() })
}

/// A throwaway cluster with the requested node.
pub(super) fn throwaway(args: &ThrowawayArgs) -> Result<Throwaway, Failure> {
    Ok(Throwaway {
        node: args.node_image.as_deref().map(node_image).transpose()?,
        snapshotter: args.snapshotter.clone(),
        nodes: args.nodes.unwrap_or(1),
        load: args.load_image.clone(),
        ..Throwaway::new(own_binary()?)
    })
}

/// An Istio installation with the requested profile and settings.
pub(super) fn istio(args: &ThrowawayArgs, version: Option<IstioVersion>, istioctl: Option<PathBuf>) -> IstioChoice {
    IstioChoice { version, profile: args.istio_profile.clone(), set: args.istio_set.clone(), istioctl }
}

/// The options of the traffic driver. Arguments take precedence over the scenario.
pub(super) fn driver(args: &TrafficArgs, scenario: &Scenario) -> DriverOptions {
    let written = scenario.traffic;
    let usual = DriverOptions::default();
    DriverOptions {
        connections: args.connections.or(written.connections).map_or(usual.connections, usize::from),
        streams: written.streams.unwrap_or(usual.streams),
        qps: args.qps.or(written.qps),
        keep_alive: !args.no_keep_alive && written.keep_alive.unwrap_or(usual.keep_alive),
        ..usual
    }
}

/// Parses `IMAGE:TAG`.
fn node_image(text: &str) -> Result<NodeImage, Failure> {
    match text.rsplit_once(':') {
        Some((image, tag)) if !image.is_empty() && !tag.is_empty() && !tag.contains('/') => {
            Ok(NodeImage { image: image.to_owned(), tag: tag.to_owned() })
        }
        _ => Err(Failure::bad_input(format!("`{text}` is not an image with a tag, such as rancher/k3s:v1.34.4-k3s1"))),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::an_engine(false, true, ClusterKind::K3s)]
    #[case::an_engine_in_ci(true, true, ClusterKind::K3s)]
    #[case::no_engine(false, false, ClusterKind::Embedded)]
    #[case::no_engine_in_ci(true, false, ClusterKind::K3s)]
    fn the_embedded_mesh_is_the_default_only_where_there_is_no_engine(
        #[case] in_ci: bool,
        #[case] engine: bool,
        #[case] expected: ClusterKind,
    ) {
        assert_eq!(default_cluster(in_ci, engine), expected);
    }
}
