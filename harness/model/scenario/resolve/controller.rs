//! Rollout controllers, and the stages in which they move traffic.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_saphyr::Spanned;

use super::Resolver;
use crate::scenario::canary::Canary;
use crate::scenario::controller::{
    Component, Controlled, ControllerKind, ControllerWait, FollowedWeight, Install, Phase,
};
use crate::scenario::error::ScenarioError;
use crate::scenario::expectation::Expectation;
use crate::scenario::growth::Growth;
use crate::scenario::manifest::Manifest;
use crate::scenario::model::{Stage, Step};
use crate::scenario::origin::Origin;
use crate::scenario::parse::raw;
use crate::scenario::suggest::nearest;

/// What a stage waits for after its changes.
#[derive(Default)]
pub(super) struct Awaited {
    pub wait: Option<ControllerWait>,
    pub growth: Option<Growth>,
}

impl Resolver<'_> {
    pub(super) fn install(&self, raw: raw::Install) -> Vec<Install> {
        let written = [
            (Component::Controller(ControllerKind::ArgoRollouts), raw.argo_rollouts),
            (Component::Controller(ControllerKind::Flagger), raw.flagger),
            (Component::MetricsServer, raw.metrics_server),
        ];
        let install = written.into_iter().filter_map(|(component, version)| {
            let version = version?;
            Some(Install { component, version: version.value.0, origin: self.origin(version.referenced) })
        });
        install.collect()
    }

    pub(super) fn controlled(&self, raw: Spanned<raw::Controller>) -> Result<Controlled, ScenarioError> {
        let (kind, name) = match (raw.value.rollout, raw.value.canary) {
            (Some(name), None) => (ControllerKind::ArgoRollouts, name),
            (None, Some(name)) => (ControllerKind::Flagger, name),
            _ => return self.error(raw.referenced, "`controller` needs one of `rollout` and `canary`"),
        };
        Ok(Controlled { kind, origin: self.origin(name.referenced), name: name.value })
    }

    pub(super) fn wait(&self, raw: Spanned<raw::Wait>, before: &[&Step]) -> Result<Awaited, ScenarioError> {
        let (at, raw::Wait { step, weight, phase, pods, within }) = (raw.referenced, raw.value);
        let names_a_state = step.is_some() || weight.is_some() || phase.is_some();
        match pods {
            None if !names_a_state => self.error(at, "`wait` needs `step`, `weight`, `phase` or `pods`"),
            None => {
                let (within, origin) = (within.0, self.origin(at));
                let wait = ControllerWait { step, weight, phase, within, follows: None, origin };
                Ok(Awaited { wait: Some(wait), growth: None })
            }
            Some(_) if names_a_state => {
                self.error(at, "`pods` is not a state of the controlled object; use a stage for each")
            }
            Some(pods) => {
                let growth = self.growth(pods, (at, within.0, false), before)?;
                Ok(Awaited { wait: None, growth: Some(growth) })
            }
        }
    }

    /// What a stage waits for, under either of the two keys, after the steps of earlier stages and its own.
    pub(super) fn awaited(
        &self,
        wait: Option<Spanned<raw::Wait>>,
        follow: Option<Spanned<raw::Follow>>,
        before: &[&Step],
    ) -> Result<Awaited, ScenarioError> {
        let Some(follow) = follow else {
            return wait.map_or_else(|| Ok(Awaited::default()), |wait| self.wait(wait, before));
        };
        let (at, raw::Follow { until, pods, within, weights }) = (follow.referenced, follow.value);
        if wait.is_some() {
            return self.error(at, "`follow` waits for its state by itself; remove `wait`");
        }
        match (until, pods) {
            (Some(until), None) => {
                let (phase, follows, origin) = (Some(until), Some(weights), self.origin(at));
                let wait = ControllerWait { step: None, weight: None, phase, within: within.0, follows, origin };
                Ok(Awaited { wait: Some(wait), growth: None })
            }
            (None, Some(_)) if !weights.is_empty() => {
                self.error(at, "`weights` are those of a controller; `follow: {pods: …}` does not take them")
            }
            (None, Some(pods)) => {
                let growth = self.growth(pods, (at, within.0, true), before)?;
                Ok(Awaited { wait: None, growth: Some(growth) })
            }
            _ => self.error(at, "`follow` needs one of `until` and `pods`"),
        }
    }
}

fn refused<T>(origin: &Origin, message: impl Into<String>) -> Result<T, ScenarioError> {
    Err(ScenarioError::Malformed { origin: origin.clone(), message: message.into() })
}

/// Rejects a controlled object that no stage applies, parts of stages that need a controlled object where there is none or that its controller
/// does not know, and a stage that has the controller move traffic without saying until when.
pub(super) fn driven(controlled: Option<&Controlled>, stages: &[Stage]) -> Result<(), ScenarioError> {
    let Some(controlled) = controlled else {
        return stages.iter().try_for_each(not_driven);
    };
    let mut driver = Driven { controlled, object: None, deployments: BTreeSet::new() };
    applied(controlled, stages)?;
    stages.iter().try_for_each(|stage| driver.step_through(stage))
}

fn applied(controlled: &Controlled, stages: &[Stage]) -> Result<(), ScenarioError> {
    let (group, kind) = controlled.group_and_kind();
    let of_kind = |manifest: &&Manifest| manifest.group() == group && manifest.kind() == kind;
    let names: Vec<&str> = stages.iter().flat_map(Stage::applied).filter(of_kind).map(Manifest::name).collect();
    if names.contains(&controlled.name.as_str()) {
        return Ok(());
    }
    let meant = nearest(&controlled.name, names.into_iter());
    refused(&controlled.origin, format!("no stage applies a {kind} `{}`{meant}", controlled.name))
}

/// Rejects a stage of a scenario without a controlled object that needs one.
fn not_driven(stage: &Stage) -> Result<(), ScenarioError> {
    let needs_object = |what: &str| {
        format!(
            "`{what}` is about the object that a controller moves traffic with: add `controller: {{rollout: NAME}}` or `controller: {{canary: NAME}}` at the top level"
        )
    };
    if let Some(wait) = &stage.wait {
        return refused(&wait.origin, needs_object(if wait.follows.is_some() { "follow" } else { "wait" }));
    }
    let claim = stage.expect.iter().find_map(|expectation| match expectation {
        Expectation::Weights { origin, .. } => Some(("weights", origin)),
        Expectation::Reports { origin, .. } => Some(("reports", origin)),
        _ => None,
    });
    match claim {
        Some((what, origin)) => refused(origin, needs_object(what)),
        None if stage.steps.iter().any(|step| matches!(step, Step::Act(_) | Step::Gate(_))) => {
            refused(&stage.origin, needs_object("do"))
        }
        None => Ok(()),
    }
}

/// The controlled object at a stage.
struct Driven<'a> {
    controlled: &'a Controlled,
    /// The object as applied last.
    object: Option<&'a Manifest>,
    /// The names of the Deployments that are applied.
    deployments: BTreeSet<&'a str>,
}

impl<'a> Driven<'a> {
    fn step_through(&mut self, stage: &'a Stage) -> Result<(), ScenarioError> {
        for manifest in stage.applied() {
            if manifest.kind() == "Deployment" {
                self.deployments.insert(manifest.name());
            }
            if self.controlled.is(manifest) {
                self.object = Some(manifest);
            }
        }
        self.has_target()?;
        stage.steps.iter().try_for_each(|step| self.is_known(step, stage))?;
        if let Some(wait) = &stage.wait {
            self.is_reachable(wait)?;
            return self.ends_by_itself(wait, stage);
        }
        let controlled = self.controlled;
        let phase = if controlled.kind == ControllerKind::Flagger { "Succeeded" } else { "Healthy" };
        let until = format!("`wait: {{phase: {phase}, within: 60s}}`");
        match stage.steps.iter().find(|step| self.moves(step)) {
            Some(Step::Apply(manifest)) if !controlled.is(manifest) => refused(
                &stage.origin,
                format!(
                    "this stage changes {}, which {controlled} rolls out: say until when, such as {until}",
                    manifest.id()
                ),
            ),
            Some(_) => refused(
                &stage.origin,
                format!(
                    "this stage changes {controlled}, which a controller rolls out: say until when, such as {until}"
                ),
            ),
            None => Ok(()),
        }
    }

    fn canary(&self) -> Option<Canary<'a>> {
        let is_canary = self.controlled.kind == ControllerKind::Flagger;
        self.object.filter(|_| is_canary).map(|object| Canary::new(&object.object.data))
    }

    /// Whether a controller reacts to a step.
    fn moves(&self, step: &Step) -> bool {
        match step {
            Step::Apply(manifest) => {
                let is_target =
                    |canary: Canary<'_>| canary.target_kind() == manifest.kind() && canary.target() == manifest.name();
                self.controlled.is(manifest) || self.canary().is_some_and(is_target)
            }
            Step::Act(_) | Step::Gate(_) => true,
            Step::Delete(_) | Step::Mesh(_) => false,
        }
    }

    /// Rejects a Canary whose Deployment is not there.
    fn has_target(&self) -> Result<(), ScenarioError> {
        let (Some(object), Some(canary)) = (self.object, self.canary()) else { return Ok(()) };
        if canary.target_kind() != "Deployment" || self.deployments.contains(canary.target()) {
            return Ok(());
        }
        let meant = nearest(canary.target(), self.deployments.iter().copied());
        let message =
            format!("no stage up to here applies the Deployment `{}` of {}{meant}", canary.target(), object.id());
        refused(&object.origin_of("/spec/targetRef/name"), message)
    }

    /// Rejects an action that a controller does not have, and an answer to a webhook that is not there.
    fn is_known(&self, step: &Step, stage: &Stage) -> Result<(), ScenarioError> {
        match (self.controlled.kind, step) {
            (ControllerKind::Flagger, Step::Act(action)) => refused(
                &stage.origin,
                format!(
                    "Flagger has no `{action}`; it asks webhooks, which a stage answers with `do: {{open: WEBHOOK}}`"
                ),
            ),
            (ControllerKind::ArgoRollouts, Step::Gate(gate)) => {
                refused(&gate.origin, "Argo Rollouts asks no webhooks; `do` takes an action such as promote")
            }
            (ControllerKind::Flagger, Step::Gate(gate)) => {
                let names: Vec<&str> =
                    self.canary().into_iter().flat_map(Canary::webhooks).map(|own| own.name).collect();
                if names.contains(&gate.name.as_str()) {
                    return Ok(());
                }
                let meant = nearest(&gate.name, names.into_iter());
                refused(&gate.origin, format!("{} has no webhook `{}`{meant}", self.controlled, gate.name))
            }
            _ => Ok(()),
        }
    }

    /// Rejects a Rollout that a stage follows although it pauses until somebody promotes it.
    fn ends_by_itself(&self, wait: &ControllerWait, stage: &Stage) -> Result<(), ScenarioError> {
        let is_from_the_start = stage.applied().any(|manifest| self.controlled.is(manifest));
        let Some(object) = self.object.filter(|_| is_from_the_start && wait.follows.is_some()) else { return Ok(()) };
        let steps = object.at("/spec/strategy/canary/steps").and_then(Value::as_array).into_iter().flatten();
        let holds = |step: &Value| step.get("pause").is_some_and(|pause| pause.get("duration").is_none());
        let acts = stage.steps.iter().any(|step| matches!(step, Step::Act(_)));
        match steps.into_iter().position(holds).filter(|_| wait.phase == Some(Phase::Healthy) && !acts) {
            None => Ok(()),
            Some(step) => refused(
                &object.origin_of(&format!("/spec/strategy/canary/steps/{step}")),
                format!(
                    "{} pauses here until it is promoted, so that it is not {} by itself, as {} says; give the pause a `duration`",
                    self.controlled,
                    Phase::Healthy,
                    wait.origin
                ),
            ),
        }
    }

    /// Rejects a state that the object never has.
    fn is_reachable(&self, wait: &ControllerWait) -> Result<(), ScenarioError> {
        let kind = self.controlled.kind;
        let follows_experiment =
            wait.follows.iter().flatten().any(|weight| matches!(weight, FollowedWeight::Experiment(_)));
        if follows_experiment && kind == ControllerKind::Flagger {
            return refused(&wait.origin, "Flagger has no experiments; `experiment` is a weight of Argo Rollouts");
        }
        if let Some(phase) = wait.phase.filter(|phase| !kind.phases().contains(phase)) {
            let known: Vec<String> = kind.phases().iter().map(ToString::to_string).collect();
            return refused(&wait.origin, format!("{kind} has no phase {phase}, but {}", known.join(", ")));
        }
        match (kind, wait.step, wait.weight) {
            (ControllerKind::Flagger, Some(_), _) => {
                refused(&wait.origin, "a Canary has no numbered steps: wait for a `weight`, a `phase` or both")
            }
            (ControllerKind::ArgoRollouts, _, Some(_)) => {
                refused(&wait.origin, "the steps of a Rollout have numbers: wait for a `step`, a `phase` or both")
            }
            (ControllerKind::ArgoRollouts, Some(step), None) => {
                let steps = self.object.and_then(|object| object.at("/spec/strategy/canary/steps")?.as_array());
                match steps.map(Vec::len) {
                    Some(steps) if usize::try_from(step).is_ok_and(|step| step > steps) => refused(
                        &wait.origin,
                        format!(
                            "{} never reaches step {step}: it has {steps} steps, which count from 0",
                            self.controlled
                        ),
                    ),
                    _ => Ok(()),
                }
            }
            (ControllerKind::Flagger, None, Some(weight)) => {
                let weights = self.canary().map(Canary::all_weights).unwrap_or_default();
                if weights.iter().any(|own| weight.is_percent(*own)) {
                    return Ok(());
                }
                let known: Vec<String> = weights.iter().map(|weight| format!("{weight} %")).collect();
                let message = format!("{} never has the weight {weight}; it has {}", self.controlled, known.join(", "));
                refused(&wait.origin, message)
            }
            _ => Ok(()),
        }
    }
}
