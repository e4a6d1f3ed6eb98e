use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::ControllerError;
use crate::cluster::ClusterError;
use crate::cluster::wait::{Again, Awaited, Failure, Progress, until};
use crate::scenario::{Action, Controlled, ControllerKind, ControllerWait, Phase};

const INTERVAL: Duration = Duration::from_millis(50);

/// The kinds of the objects by which requests are routed, each with its API group and version.
const RULES: [(&str, &str, &str); 3] = [
    ("", "v1", "Service"),
    ("networking.istio.io", "v1", "DestinationRule"),
    ("networking.istio.io", "v1", "VirtualService"),
];

/// The objects that controllers drive in a namespace.
#[derive(Clone)]
pub struct ControlledObjects {
    client: Client,
    namespace: String,
}

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
    pending: Option<&'static str>,
    resource_version: String,
}

/// A change that a controller has to react to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeMark(Option<String>);

impl ControlledObjects {
    /// The objects of a namespace.
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self { client: client.clone(), namespace: namespace.to_owned() }
    }

    fn api(&self, group: &str, version: &str, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    fn controlled(&self, object: &Controlled) -> Api<DynamicObject> {
        let (group, kind) = object.group_and_kind();
        let version = match object.kind {
            ControllerKind::ArgoRollouts => "v1alpha1",
        };
        self.api(group, version, kind)
    }

    /// The objects by which the requests of the namespace are routed: kind, name and data of each.
    ///
    /// # Errors
    /// The API server does not list them.
    pub async fn rules(&self) -> Result<Vec<(&'static str, String, Value)>, ClusterError> {
        let lists = RULES.map(|(group, version, kind)| async move {
            let listed = self.api(group, version, kind).list(&ListParams::default()).await;
            let listed = listed.map_err(ClusterError::api(format!("listing every {kind}")))?;
            Ok::<_, ClusterError>(listed.items.into_iter().map(move |object| (kind, object.name_any(), object.data)))
        });
        Ok(futures::future::try_join_all(lists).await?.into_iter().flatten().collect())
    }

    /// Acts on an object as `kubectl argo rollouts` does.
    ///
    /// # Errors
    /// The object is not there, or the API server refuses.
    pub async fn act(&self, object: &Controlled, action: Action) -> Result<ChangeMark, ControllerError> {
        let api = self.controlled(object);
        let doing = || format!("{action} of {object}");
        let found = api.get(&object.name).await.map_err(ClusterError::api(doing()))?;
        let Acted { status, spec } = patches(&found.data, action);
        let parameters = PatchParams::default();
        let mut made = found;
        if let Some(status) = status {
            let patched = api.patch_status(&object.name, &parameters, &Patch::Merge(json!({"status": status}))).await;
            made = patched.map_err(ClusterError::api(doing()))?;
        }
        if let Some(spec) = spec {
            let patched = api.patch(&object.name, &parameters, &Patch::Merge(json!({"spec": spec}))).await;
            made = patched.map_err(ClusterError::api(doing()))?;
        }
        Ok(ChangeMark(made.metadata.resource_version))
    }

    /// The state of an object.
    ///
    /// # Errors
    /// The object is not there, or the API server does not answer.
    pub async fn status(&self, object: &Controlled) -> Result<ControllerStatus, ControllerError> {
        let found = self.controlled(object).get(&object.name).await;
        Ok(ControllerStatus::read(&found.map_err(ClusterError::api(format!("reading {object}")))?))
    }

    /// Waits until the controller has brought an object to a state, after it has seen a change.
    ///
    /// # Errors
    /// The object is degraded, the wait times out, or the API server refuses.
    pub async fn reached(
        &self,
        object: &Controlled,
        wait: &ControllerWait,
        after: &ChangeMark,
        seen: impl FnMut(&str),
    ) -> Result<ControllerStatus, ControllerError> {
        let (api, what) = (self.controlled(object), Awaited::Controlled(object.to_string(), wait.to_string()));
        let waited =
            until(what, wait.within, Again::Every(INTERVAL), seen, async || match api.get_opt(&object.name).await {
                Ok(Some(found)) => ControllerStatus::read(&found).progress(wait, after),
                Ok(None) => Progress::NotYet("not created yet".to_owned()),
                Err(error) => Progress::after(error),
            });
        Ok(waited.await.map_err(ClusterError::from)?)
    }
}

/// What an action changes.
#[derive(Debug, Default, PartialEq)]
struct Acted {
    status: Option<Value>,
    spec: Option<Value>,
}

fn patches(rollout: &Value, action: Action) -> Acted {
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

impl ControllerStatus {
    fn read(object: &DynamicObject) -> Self {
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
        Self {
            phase: text("/status/phase"),
            message: text("/status/message"),
            step: number("/status/currentStepIndex"),
            steps: list("/spec/strategy/canary/steps"),
            weight: number("/status/canary/weights/canary/weight"),
            pending,
            resource_version: object.resource_version().unwrap_or_default(),
        }
    }

    fn progress(self, wait: &ControllerWait, after: &ChangeMark) -> Progress<Self> {
        if let Some(pending) = self.pending {
            return Progress::NotYet(pending.to_owned());
        }
        if after.0.as_ref() == Some(&self.resource_version) {
            return Progress::NotYet("the controller has not acted yet".to_owned());
        }
        let is_there = wait.step.is_none_or(|step| self.step == Some(step))
            && wait.phase.is_none_or(|phase| phase.to_string() == self.phase);
        // Argo Rollouts reports that it is healthy before it moves the traffic from the old pods
        let is_moving = self.phase == Phase::Healthy.to_string() && self.weight.is_some_and(|weight| weight > 0);
        if is_there && !is_moving {
            Progress::Done(self)
        } else if self.phase == Phase::Degraded.to_string() {
            Progress::Failed(Failure::Reported(self.to_string()))
        } else {
            Progress::NotYet(self.to_string())
        }
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

#[cfg(test)]
mod tests {
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
        ControllerStatus::read(&serde_json::from_value(object).unwrap())
    }

    fn paused() -> Value {
        json!({
            "observedGeneration": "2", "phase": "Paused", "message": "CanaryPauseStep", "currentStepIndex": 1,
            "controllerPause": true, "pauseConditions": [{"reason": "CanaryPauseStep"}],
            "canary": {"weights": {"canary": {"weight": 20}}},
        })
    }

    fn wait(step: Option<u32>, phase: Option<Phase>) -> ControllerWait {
        ControllerWait { step, phase, within: Duration::from_secs(1), origin: Origin::new("scenario.yaml", 1, 1) }
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
        let progress = status(&written).progress(&wait, &ChangeMark::default());
        assert_eq!(matches!(progress, Progress::Done(_)), reached, "{progress:?}");
    }

    #[test]
    fn an_action_counts_once_the_controller_has_written_a_status_after_it() {
        let mark = ChangeMark(Some("7".to_owned()));
        let progress = status(&paused()).progress(&wait(Some(1), None), &mark);
        assert_matches!(progress, Progress::NotYet(state) if state == "the controller has not acted yet");
    }

    #[test]
    fn a_degraded_object_ends_the_wait_unless_it_is_waited_for() {
        let degraded = || {
            let message = "InvalidSpec: The Rollout \"hello\" is invalid";
            status(&json!({"observedGeneration": "2", "phase": "Degraded", "message": message}))
        };
        let failed = degraded().progress(&wait(None, Some(Phase::Healthy)), &ChangeMark::default());
        assert_matches!(failed, Progress::Failed(why) if why.to_string().starts_with("Degraded: InvalidSpec"));
        let wanted = degraded().progress(&wait(None, Some(Phase::Degraded)), &ChangeMark::default());
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
