//! What a rollout controller makes of its object.

use super::canary::{self, CanaryState};
use super::rollout::{self, RolloutState, RouteWeights};
use crate::routing::Live;
use crate::scenario::{Controlled, ControllerKind, Manifest, Stage};

/// The state of a controlled object after a stage.
#[derive(Debug, Clone)]
pub(super) enum ControlledState {
    Rollout(Box<RolloutState>),
    Canary(Box<CanaryState>),
}

impl ControlledState {
    /// The state after a stage, whose objects are `live`; none if there is no controlled object.
    pub fn after(before: Option<&Self>, controlled: &Controlled, stage: &Stage, live: &Live) -> Option<Self> {
        match controlled.kind {
            ControllerKind::ArgoRollouts => {
                let before = before.and_then(|own| if let Self::Rollout(own) = own { Some(&**own) } else { None });
                RolloutState::after(before, controlled, stage, live).map(|own| Self::Rollout(Box::new(own)))
            }
            ControllerKind::Flagger => {
                let before = before.and_then(|own| if let Self::Canary(own) = own { Some(&**own) } else { None });
                CanaryState::after(before, controlled, stage, live).map(|own| Self::Canary(Box::new(own)))
            }
        }
    }

    /// The objects as the controller leaves them. Where the stage does not say which state is reached, the controlled object stays, which the
    /// model does not cover.
    pub fn apply_to(&self, live: &Live) -> Live {
        match self {
            Self::Rollout(state) => state.apply_to(live),
            Self::Canary(state) => state.apply_to(live),
        }
    }
}

/// The weights in the route of a controlled object; none if there is no route to both versions.
pub(super) fn route_weights(kind: ControllerKind, object: &Manifest, live: &Live) -> Option<RouteWeights> {
    match kind {
        ControllerKind::ArgoRollouts => rollout::route_weights(object, live),
        ControllerKind::Flagger => canary::route_weights(object, live),
    }
}
