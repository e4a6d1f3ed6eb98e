//! Rollout controllers, and the stages in which they move traffic.

use super::Resolver;
use crate::scenario::controller::{Controlled, ControllerKind, ControllerWait, Install};
use crate::scenario::error::ScenarioError;
use crate::scenario::manifest::Manifest;
use crate::scenario::model::{Expectation, Stage, Step};
use crate::scenario::parse::raw;
use crate::scenario::suggest::nearest;

impl Resolver<'_> {
    pub(super) fn install(&self, raw: raw::Install) -> Vec<Install> {
        let written = [(ControllerKind::ArgoRollouts, raw.argo_rollouts)];
        let install = written.into_iter().filter_map(|(kind, version)| {
            let version = version?;
            Some(Install { kind, version: version.value.0, origin: self.origin(version.referenced) })
        });
        install.collect()
    }

    pub(super) fn controlled(&self, raw: raw::Controller) -> Controlled {
        let origin = self.origin(raw.rollout.referenced);
        Controlled { kind: ControllerKind::ArgoRollouts, name: raw.rollout.value, origin }
    }

    pub(super) fn wait(&self, raw: serde_saphyr::Spanned<raw::Wait>) -> Result<ControllerWait, ScenarioError> {
        let (at, raw::Wait { step, phase, within }) = (raw.referenced, raw.value);
        if step.is_none() && phase.is_none() {
            return self.error(at, "`wait` needs `step` or `phase`");
        }
        Ok(ControllerWait { step, phase, within: within.0, origin: self.origin(at) })
    }
}

/// Rejects a controlled object that no stage applies, parts of stages that need a controlled object where there is none, and a stage that has
/// the controller move traffic without saying until when.
pub(super) fn driven(controlled: Option<&Controlled>, stages: &[Stage]) -> Result<(), ScenarioError> {
    stages.iter().try_for_each(|stage| driven_in(controlled, stage))?;
    controlled.map_or(Ok(()), |controlled| applied(controlled, stages))
}

fn applied(controlled: &Controlled, stages: &[Stage]) -> Result<(), ScenarioError> {
    let (group, kind) = controlled.group_and_kind();
    let of_kind = |manifest: &&Manifest| manifest.group() == group && manifest.kind() == kind;
    let names: Vec<&str> = stages.iter().flat_map(Stage::applied).filter(of_kind).map(Manifest::name).collect();
    if names.contains(&controlled.name.as_str()) {
        return Ok(());
    }
    let message =
        format!("no stage applies a {kind} `{}`{}", controlled.name, nearest(&controlled.name, names.into_iter()));
    Err(ScenarioError::Malformed { origin: controlled.origin.clone(), message })
}

fn driven_in(controlled: Option<&Controlled>, stage: &Stage) -> Result<(), ScenarioError> {
    let refused = |origin: &_, message: String| Err(ScenarioError::Malformed { origin: Clone::clone(origin), message });
    let needs_object = |what: &str| {
        format!(
            "`{what}` is about the object that a controller moves traffic with: add `controller: {{rollout: NAME}}` at the top level"
        )
    };
    let Some(controlled) = controlled else {
        if let Some(wait) = &stage.wait {
            return refused(&wait.origin, needs_object("wait"));
        }
        let claim = stage.expect.iter().find_map(|expectation| match expectation {
            Expectation::Weights { origin, .. } => Some(("weights", origin)),
            Expectation::Reports { origin, .. } => Some(("reports", origin)),
            _ => None,
        });
        return match claim {
            Some((what, origin)) => refused(origin, needs_object(what)),
            None if stage.steps.iter().any(|step| matches!(step, Step::Act(_))) => {
                refused(&stage.origin, needs_object("do"))
            }
            None => Ok(()),
        };
    };
    let moves = stage.steps.iter().any(|step| match step {
        Step::Apply(manifest) => controlled.is(manifest),
        Step::Act(_) => true,
        Step::Delete(_) | Step::Mesh(_) => false,
    });
    if moves && stage.wait.is_none() {
        let message = format!(
            "this stage changes {controlled}, which a controller rolls out: say until when, such as `wait: {{phase: Healthy, within: 60s}}`"
        );
        return refused(&stage.origin, message);
    }
    Ok(())
}
