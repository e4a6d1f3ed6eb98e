use std::path::PathBuf;

use thiserror::Error;

use crate::cluster::ClusterError;
use crate::cluster::wait::Awaited;
use crate::controller::ControllerError;
use crate::events::{Event, FailureLayer};
use crate::mesh::MeshError;
use crate::plan::PlanError;
use crate::routing::Problem;
use crate::scenario::{Origin, Scenario, ScenarioError};
use crate::traffic::TrafficError;
use crate::venue::{LeftBehind, VenueError};

/// Why a run could not be completed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The scenario is wrong.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A claim is refused before anything starts.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The API would refuse objects, for these reasons.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Problem>),
    /// No claim splits versions.
    #[error("{}: no claim splits versions, so that there is nothing to calibrate", .0.display())]
    NothingToCalibrate(PathBuf),
    /// Mutants were to be brought about elsewhere.
    #[error("mutants are brought about, and control planes installed, on a throwaway cluster alone")]
    NotThrowaway,
    /// Objects that a controller drives cannot be applied at once.
    #[error(
        "{0}: a controller moves the traffic of this scenario, so that its stages cannot be applied at once: versions of Istio are not compared with it, nor are its mutants tried on a cluster"
    )]
    Controlled(Origin),
    /// A stage waits for pods that something else starts.
    #[error(
        "{0}: this stage waits for pods that are started under load, so that stages cannot be applied at once: versions of Istio are not compared with this scenario, nor are its mutants tried on a cluster"
    )]
    Grows(Origin),
    /// No stage is about the state of a controlled object.
    #[error("{origin}: no stage of the scenario waits for this state: {status}")]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    NoStage { origin: Origin, status: String },
    /// A stage has no claim that can be judged without a change.
    #[error(
        "{origin}: the stage `{stage}` has claims about changes and remaining objects alone, which are not judged here"
    )]
    #[expect(missing_docs, reason = "the message says what the fields are")]
    NothingToJudge { origin: Origin, stage: String },
    /// The cluster failed.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The mesh failed.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// A rollout controller failed.
    #[error(transparent)]
    Controller(#[from] ControllerError),
    /// No sample could be taken.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
    /// Something could not be removed.
    #[error("{}{left}", after.as_ref().map(|error| format!("{error}\nand ")).unwrap_or_default())]
    LeftBehind {
        /// What.
        left: LeftBehind,
        /// What ended the run before that, if an error did.
        after: Option<Box<SessionError>>,
    },
}

impl From<VenueError> for SessionError {
    fn from(error: VenueError) -> Self {
        match error {
            VenueError::Cluster(error) => Self::Cluster(error),
            VenueError::Mesh(error) => Self::Mesh(error),
            VenueError::Controller(error) => Self::Controller(error),
            VenueError::Scenario(error) => Self::Scenario(error),
            VenueError::Traffic(error) => Self::Traffic(error),
            VenueError::NotThrowaway => Self::NotThrowaway,
        }
    }
}

impl SessionError {
    /// Where in the scenario or its manifests, if that is to blame.
    pub const fn place(&self) -> Option<&Origin> {
        match self {
            Self::Scenario(error) => error.origin(),
            Self::Plan(error) => Some(&error.place),
            Self::Refused(problems) => match problems.as_slice() {
                [first, ..] => Some(&first.origin),
                [] => None,
            },
            Self::Controller(error) => error.place(),
            Self::Traffic(error) => match error.place() {
                Some(place) => Some(place),
                None => match self.cluster() {
                    Some(error) => error.place(),
                    None => None,
                },
            },
            Self::Mesh(MeshError::NoAddon { origin: place, .. })
            | Self::Controlled(place)
            | Self::Grows(place)
            | Self::NoStage { origin: place, .. }
            | Self::NothingToJudge { origin: place, .. } => Some(place),
            _ => match self.cluster() {
                Some(error) => error.place(),
                None => None,
            },
        }
    }

    /// The error of the cluster in this one.
    const fn cluster(&self) -> Option<&ClusterError> {
        match self {
            Self::Cluster(error)
            | Self::Mesh(MeshError::Cluster(error))
            | Self::Controller(ControllerError::Cluster(error))
            | Self::Traffic(TrafficError::Driver(error)) => Some(error),
            _ => None,
        }
    }

    /// The layer that failed.
    pub fn layer(&self) -> FailureLayer {
        match self {
            Self::Scenario(_)
            | Self::Plan(_)
            | Self::Refused(_)
            | Self::NothingToCalibrate(_)
            | Self::Controlled(_)
            | Self::Grows(_)
            | Self::NoStage { .. }
            | Self::NothingToJudge { .. } => FailureLayer::Manifest,
            Self::Traffic(error) if error.place().is_some() => FailureLayer::Manifest,
            Self::Mesh(MeshError::NotConverged { mismatch, .. })
                if matches!(mismatch.unread.as_deref(), Some(MeshError::Cluster(_))) =>
            {
                FailureLayer::Environment
            }
            Self::Mesh(MeshError::NotConverged { .. } | MeshError::NoSidecar { .. } | MeshError::Blind) => {
                FailureLayer::Delivery
            }
            Self::Mesh(MeshError::Wait(error)) => layer(error.awaited()),
            _ => match self.cluster() {
                Some(ClusterError::Wait(error)) => layer(error.awaited()),
                Some(error) if error.is_bad_input() => FailureLayer::Manifest,
                _ => FailureLayer::Environment,
            },
        }
    }

    /// Refuses a scenario whose traffic a controller moves, or in which pods are waited for that something else starts.
    ///
    /// # Errors
    /// There is a controller, or such a wait.
    pub(super) fn refuse_controlled(scenario: &Scenario) -> Result<(), Self> {
        if let Some(controlled) = &scenario.controller {
            return Err(Self::Controlled(controlled.origin.clone()));
        }
        let growth = scenario.stages.iter().find_map(|stage| stage.growth.as_ref());
        growth.map_or(Ok(()), |growth| Err(Self::Grows(growth.origin.clone())))
    }

    /// The event that says why the run cannot continue.
    pub(super) fn event(&self) -> Event {
        Event::Broke { layer: self.layer(), place: self.place().cloned(), message: self.to_string() }
    }

    /// Whether the loss of the cluster would explain this error better.
    pub(super) fn is_consequence(&self) -> bool {
        !self.is_bad_input() && !matches!(self, Self::Cluster(ClusterError::NodeEnded(_)))
    }

    /// Whether the scenario or its manifests are to blame, and not the environment.
    pub const fn is_bad_input(&self) -> bool {
        match self {
            Self::Scenario(_)
            | Self::Plan(_)
            | Self::Refused(_)
            | Self::NothingToCalibrate(_)
            | Self::NotThrowaway
            | Self::Controlled(_)
            | Self::Grows(_)
            | Self::NoStage { .. }
            | Self::NothingToJudge { .. }
            | Self::Traffic(
                TrafficError::NoPopulation(_)
                | TrafficError::Scenario(_)
                | TrafficError::NoReflection { .. }
                | TrafficError::BadReflection { .. },
            )
            | Self::Mesh(
                MeshError::NoSidecar { .. }
                | MeshError::NoGatewayPods { .. }
                | MeshError::NoGatewayPort { .. }
                | MeshError::Istioctl { .. }
                | MeshError::OtherIstioctl { .. },
            ) => true,
            _ => match self.cluster() {
                Some(error) => error.is_bad_input(),
                None => false,
            },
        }
    }
}

/// The failure layer of a wait that failed.
const fn layer(awaited: &Awaited) -> FailureLayer {
    match awaited {
        Awaited::Rollout(_) | Awaited::Controlled(..) | Awaited::Pods(_) => FailureLayer::Rollout,
        Awaited::FirstPush(_) | Awaited::SidecarConfiguration => FailureLayer::Delivery,
        // also `ObjectRemoval`: objects that are left fail their claim, and the wait fails only if they cannot be listed
        _ => FailureLayer::Environment,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;
    use crate::cluster::wait::{Failure, WaitError};
    use crate::plan::{Designs, Plan};
    use crate::scenario::Expectation;

    fn named(name: &str) -> String {
        name.to_owned()
    }

    #[test]
    fn a_claim_that_cannot_be_decided_is_bad_input() {
        let mut scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/progressive")).unwrap();
        let during = scenario.stages[1].expect.iter_mut().find_map(|expectation| match expectation {
            Expectation::During(during) => Some(during),
            _ => None,
        });
        during.unwrap().gap = Some(Duration::from_millis(2));
        let error = SessionError::from(Designs::new(&Plan::new(&scenario)).unwrap_err());
        assert!(error.is_bad_input() && error.place().is_some() && error.layer() == FailureLayer::Manifest);
    }

    #[test]
    fn a_scenario_without_a_stage_to_judge_is_bad_input() {
        let origin = || crate::scenario::Origin::new("judge.yaml", 4, 23);
        let no_stage = SessionError::NoStage { origin: origin(), status: named("Rollout/hello is Paused") };
        let nothing = SessionError::NothingToJudge { origin: origin(), stage: named("abort") };
        for error in [no_stage, nothing] {
            assert!(error.is_bad_input() && error.place().is_some(), "{error}");
        }
    }

    #[rstest]
    #[case::node_start(Awaited::NodeStart, FailureLayer::Environment)]
    #[case::cluster_removal(Awaited::ClusterRemoval, FailureLayer::Environment)]
    #[case::api_server(Awaited::ApiServer, FailureLayer::Environment)]
    #[case::node(Awaited::Node, FailureLayer::Environment)]
    #[case::account(Awaited::ServiceAccount(named("canary")), FailureLayer::Environment)]
    #[case::definition(Awaited::Definition(named("virtualservices.networking.istio.io")), FailureLayer::Environment)]
    #[case::control_plane(Awaited::ControlPlane(named("1.31")), FailureLayer::Environment)]
    #[case::namespace_removal(Awaited::NamespaceRemoval(named("mutant-1")), FailureLayer::Environment)]
    #[case::pod_removal(Awaited::PodRemoval(named("client")), FailureLayer::Environment)]
    #[case::controller(Awaited::Controller(named("Argo Rollouts 1.10")), FailureLayer::Environment)]
    #[case::push(Awaited::FirstPush(named("1.31")), FailureLayer::Delivery)]
    #[case::sidecar(Awaited::SidecarConfiguration, FailureLayer::Delivery)]
    #[case::objects(Awaited::ObjectRemoval, FailureLayer::Environment)]
    #[case::pods(Awaited::Pods(named("3 pods of hello")), FailureLayer::Rollout)]
    #[case::controlled(Awaited::Controlled(named("Rollout/hello"), named("step 1")), FailureLayer::Rollout)]
    #[case::rollout(Awaited::Rollout(named("hello-server-v2")), FailureLayer::Rollout)]
    fn a_failed_wait_is_told_as_what_was_waited_for(#[case] what: Awaited, #[case] expected: FailureLayer) {
        let timed_out =
            WaitError::TimedOut { what: what.clone(), limit: Duration::from_secs(1), last: named("nothing") };
        let failed = || WaitError::Failed { what: what.clone(), source: Failure::Reported(named("no")) };
        assert_eq!(SessionError::from(ClusterError::from(timed_out)).layer(), expected);
        assert_eq!(SessionError::from(ClusterError::from(failed())).layer(), expected);
        assert_eq!(SessionError::from(MeshError::from(failed())).layer(), expected);
    }
}
