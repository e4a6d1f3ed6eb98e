use crate::scenario::ControllerWait;

/// The state of a controlled object, as its controller reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerStatus {
    /// The phase, as the controller writes it; empty before the controller has seen the object.
    pub phase: String,
    /// Why the object is in this phase.
    pub message: String,
    /// The index of the current step.
    pub step: Option<u32>,
    /// The number of steps.
    pub steps: usize,
    /// The weight of the new version in percent.
    pub weight: Option<u32>,
    /// Why the status does not describe the latest generation of the object; none if it does.
    pub(super) pending: Option<&'static str>,
    /// The revision of the workload that the controller has taken up.
    pub(super) revision: String,
    pub(super) resource_version: String,
}

/// A change that a controller has to react to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeMark {
    /// The version of the object after an action.
    pub(super) acted: Option<String>,
    /// The state before a change of the workload; none where the workload does not change.
    pub(super) before: Option<Before>,
}

/// The state of an object before a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Before {
    pub phase: String,
    pub revision: String,
}

impl ControllerStatus {
    /// Whether this is the state that a stage waits for, given the weight of the new version in the route of a Canary.
    pub fn is_at(&self, wait: &ControllerWait, route: Option<u32>) -> bool {
        wait.step.is_none_or(|step| self.step == Some(step))
            && wait.phase.is_none_or(|phase| phase.to_string() == self.phase)
            && wait.weight.is_none_or(|weight| route.is_some_and(|found| weight.is_percent(found)))
    }
}

impl std::fmt::Display for ControllerStatus {
    /// `Paused at step 1 of 4, weight 20 %: CanaryPauseStep`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(if self.phase.is_empty() { "without a phase" } else { &self.phase })?;
        if let Some(step) = self.step {
            write!(formatter, " at step {step} of {}", self.steps)?;
        }
        if let Some(weight) = self.weight {
            write!(formatter, ", weight {weight} %")?;
        }
        if self.message.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.message) }
    }
}
