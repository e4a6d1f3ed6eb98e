use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::status::{ChangeMark, ControllerStatus};
use crate::cluster::wait::{Failure, Progress};
use crate::scenario::{Action, ControllerWait, Phase};

/// What an action changes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Acted {
    pub status: Option<Value>,
    pub spec: Option<Value>,
}

pub(super) fn patches(rollout: &Value, action: Action) -> Acted {
    let is_paused = rollout.pointer("/spec/paused") == Some(&json!(true));
    let waits = rollout.pointer("/status/pauseConditions").and_then(Value::as_array).is_some_and(|own| !own.is_empty());
    let step = rollout.pointer("/status/currentStepIndex").and_then(Value::as_u64).unwrap_or(0);
    match action {
        Action::Promote => Acted {
            status: Some(if waits {
                json!({"pauseConditions": null})
            } else {
                json!({"pauseConditions": null, "currentStepIndex": step + 1})
            }),
            spec: is_paused.then(|| json!({"paused": false})),
        },
        Action::PromoteFull => Acted { status: Some(json!({"promoteFull": true})), ..Acted::default() },
        Action::Abort => Acted { status: Some(json!({"abort": true})), ..Acted::default() },
        Action::Retry => Acted { status: Some(json!({"abort": false})), ..Acted::default() },
        Action::Pause => Acted { spec: Some(json!({"paused": true})), ..Acted::default() },
    }
}

pub(super) fn read(object: &DynamicObject) -> ControllerStatus {
    let at = |pointer: &str| object.data.pointer(pointer);
    let text = |pointer: &str| at(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |pointer: &str| at(pointer).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let list = |pointer: &str| at(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    let observed = text("/status/observedGeneration").parse().unwrap_or(0);
    let unpauses = at("/status/controllerPause") == Some(&json!(true)) && list("/status/pauseConditions") == 0;
    let pending = if object.metadata.generation.unwrap_or(0) > observed {
        Some("the controller has not seen its last change")
    } else {
        unpauses.then_some("the controller has not ended its pause yet")
    };
    ControllerStatus {
        phase: text("/status/phase"),
        message: text("/status/message"),
        step: number("/status/currentStepIndex"),
        steps: list("/spec/strategy/canary/steps"),
        weight: number("/status/canary/weights/canary/weight"),
        pending,
        revision: text("/status/currentPodHash"),
        resource_version: object.resource_version().unwrap_or_default(),
    }
}

pub(super) fn progress(
    status: ControllerStatus,
    wait: &ControllerWait,
    after: &ChangeMark,
) -> Progress<ControllerStatus> {
    if let Some(pending) = status.pending {
        return Progress::NotYet(pending.to_owned());
    }
    if after.acted.as_ref() == Some(&status.resource_version) {
        return Progress::NotYet("the controller has not acted yet".to_owned());
    }
    // it reports the latest generation before it leaves the step of the version before
    if after.before.as_ref().is_some_and(|before| before.revision == status.revision) {
        return Progress::NotYet("the controller has not seen its new version".to_owned());
    }
    let is_there = status.is_at(wait, None);
    // Argo Rollouts reports that it is healthy before it moves the traffic from the old pods
    let is_moving = status.phase == Phase::Healthy.to_string() && status.weight.is_some_and(|weight| weight > 0);
    if is_there && !is_moving {
        Progress::Done(status)
    } else if status.phase == Phase::Degraded.to_string() {
        Progress::Failed(Failure::Reported(status.to_string()))
    } else {
        Progress::NotYet(status.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use assert_matches::assert_matches;
    use rstest::rstest;

    use super::*;
    use crate::scenario::Origin;

    fn status(status: &Value) -> ControllerStatus {
        let object = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "hello", "generation": 2, "resourceVersion": "7"},
            "spec": {"strategy": {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}}},
            "status": status,
        });
        read(&serde_json::from_value(object).unwrap())
    }

    fn paused() -> Value {
        json!({
            "observedGeneration": "2", "phase": "Paused", "message": "CanaryPauseStep", "currentStepIndex": 1,
            "controllerPause": true, "pauseConditions": [{"reason": "CanaryPauseStep"}],
            "canary": {"weights": {"canary": {"weight": 20}}},
        })
    }

    fn wait(step: Option<u32>, phase: Option<Phase>) -> ControllerWait {
        ControllerWait {
            step,
            weight: None,
            phase,
            within: Duration::from_secs(1),
            follows: None,
            origin: Origin::new("scenario.yaml", 1, 1),
        }
    }

    #[test]
    fn a_state_is_told_in_words() {
        assert_eq!(status(&paused()).to_string(), "Paused at step 1 of 2, weight 20 %: CanaryPauseStep");
        assert_eq!(status(&json!({})).to_string(), "without a phase");
    }

    #[rstest]
    #[case::reached(json!({}), wait(Some(1), Some(Phase::Paused)), true)]
    #[case::phase_alone(json!({}), wait(None, Some(Phase::Paused)), true)]
    #[case::another_step(json!({"currentStepIndex": 0}), wait(Some(1), Some(Phase::Paused)), false)]
    #[case::another_phase(json!({"phase": "Progressing"}), wait(Some(1), Some(Phase::Paused)), false)]
    #[case::healthy(json!({"phase": "Healthy", "canary": {"weights": {"canary": {"weight": 0}}}}), wait(None, Some(Phase::Healthy)), true)]
    #[case::healthy_with_a_split(json!({"phase": "Healthy"}), wait(None, Some(Phase::Healthy)), false)]
    #[case::older_generation(json!({"observedGeneration": "1"}), wait(Some(1), None), false)]
    #[case::being_promoted(json!({"pauseConditions": null}), wait(Some(1), None), false)]
    fn a_state_counts_once_the_controller_has_seen_the_change(
        #[case] change: Value,
        #[case] wait: ControllerWait,
        #[case] reached: bool,
    ) {
        let mut written = paused();
        for (key, value) in change.as_object().unwrap() {
            written[key] = value.clone();
        }
        let progress = progress(status(&written), &wait, &ChangeMark::default());
        assert_eq!(matches!(progress, Progress::Done(_)), reached, "{progress:?}");
    }

    #[test]
    fn an_action_counts_once_the_controller_has_written_a_status_after_it() {
        let mark = ChangeMark { acted: Some("7".to_owned()), ..ChangeMark::default() };
        let progress = progress(status(&paused()), &wait(Some(1), None), &mark);
        assert_matches!(progress, Progress::NotYet(state) if state == "the controller has not acted yet");
    }

    #[test]
    fn a_degraded_object_ends_the_wait_unless_it_is_waited_for() {
        let degraded = || {
            let message = "InvalidSpec: The Rollout \"hello\" is invalid";
            status(&json!({"observedGeneration": "2", "phase": "Degraded", "message": message}))
        };
        let failed = progress(degraded(), &wait(None, Some(Phase::Healthy)), &ChangeMark::default());
        assert_matches!(failed, Progress::Failed(why) if why.to_string().starts_with("Degraded: InvalidSpec"));
        let wanted = progress(degraded(), &wait(None, Some(Phase::Degraded)), &ChangeMark::default());
        assert_matches!(wanted, Progress::Done(_));
    }

    #[rstest]
    #[case::paused(json!({"pauseConditions": [{}], "currentStepIndex": 1}), json!({"pauseConditions": null}))]
    #[case::at_another_step(json!({"currentStepIndex": 1}), json!({"pauseConditions": null, "currentStepIndex": 2}))]
    fn a_promotion_ends_the_pause_or_else_the_step(#[case] status: Value, #[case] patch: Value) {
        let acted = patches(&json!({"spec": {}, "status": status}), Action::Promote);
        assert_eq!(acted, Acted { status: Some(patch), spec: None });
    }
}
