//! What a stage does apart from objects that it applies and deletes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use serde_saphyr::{Location, Spanned};

use super::Resolver;
use crate::scenario::controller::Gate;
use crate::scenario::error::ScenarioError;
use crate::scenario::kinds::{ApiKind, KindRef, Target};
use crate::scenario::manifest::Manifest;
use crate::scenario::model::{Stage, Step};
use crate::scenario::parse::{Act, Acts};
use crate::scenario::suggest::nearest;

/// The annotation of a pod template whose change replaces the pods.
const RESTARTED: &str = "shiftcheck.dev/restarted-in-stage";

impl Resolver<'_> {
    /// The steps of a stage that comes after the `earlier` ones and does other `steps` as well. A Deployment is applied as the earlier stages
    /// have left it, with the change.
    pub(super) fn acts(
        &self,
        acts: Spanned<Acts>,
        earlier: &[Stage],
        mut steps: Vec<Step>,
    ) -> Result<Vec<Step>, ScenarioError> {
        let others = steps.len();
        for act in acts.value.0 {
            match act {
                Act::Action(Ok(action)) => steps.push(Step::Act(action)),
                Act::Action(Err(message)) => return self.error(acts.referenced, message),
                Act::Gate(name, open) => {
                    steps.push(Step::Gate(Gate { origin: self.origin(name.referenced), name: name.value, open }));
                }
                Act::Restart(target) => {
                    let mut deployment = self.deployment(&target, earlier)?;
                    self.changed_once(target.referenced, &deployment, &steps)?;
                    let metadata = &mut deployment.object.data["spec"]["template"]["metadata"];
                    metadata["annotations"][RESTARTED] = json!((earlier.len() + 1).to_string());
                    steps.push(Step::Apply(Arc::new(deployment)));
                }
                Act::Scale(targets) if targets.is_empty() => {
                    let message = "`scale` names no Deployment; write one such as {deployment/hello: 3}";
                    return self.error(acts.referenced, message);
                }
                Act::Scale(targets) => {
                    let mut targets: Vec<_> = targets.into_iter().collect();
                    targets.sort_by_key(|(target, _)| (target.referenced.line(), target.referenced.column()));
                    for (target, pods) in targets {
                        let mut deployment = self.deployment(&target, earlier)?;
                        self.changed_once(target.referenced, &deployment, &steps)?;
                        let pods = pods.value.0.or_else(|message| self.error(pods.referenced, message))?;
                        deployment.object.data["spec"]["replicas"] = json!(pods);
                        steps.push(Step::Apply(Arc::new(deployment)));
                    }
                }
            }
        }
        Ok(steps.split_off(others))
    }

    /// The name of a Deployment that is written as in kubectl: `deployment/hello`.
    pub(super) fn deployment_name<'a>(&self, target: &'a Spanned<String>) -> Result<&'a str, ScenarioError> {
        let (at, written) = (target.referenced, &target.value);
        let kind = ApiKind::of("apps", "Deployment");
        match written.split_once('/').filter(|(own, name)| kind.is_called(own) && !name.is_empty()) {
            Some((_, name)) => Ok(name),
            None => self.error(at, format!("`{written}` is not a Deployment, such as deployment/hello")),
        }
    }

    /// The Deployment as the earlier stages leave it.
    fn deployment(&self, target: &Spanned<String>, earlier: &[Stage]) -> Result<Manifest, ScenarioError> {
        let (at, name) = (target.referenced, self.deployment_name(target)?);
        let deployments = deployments(earlier.iter().flat_map(|stage| &stage.steps));
        let Some(found) = deployments.get(name) else {
            let meant = nearest(name, deployments.into_keys());
            return self.error(at, format!("no Deployment `{name}` is left by the earlier stages{meant}"));
        };
        Ok(Manifest::clone(found))
    }

    /// Rejects a Deployment that the stage applies or changes as well: the second change would overwrite the first at once.
    fn changed_once(&self, at: Location, deployment: &Manifest, steps: &[Step]) -> Result<(), ScenarioError> {
        let is_it = |step: &Step| matches!(step, Step::Apply(own) if own.id() == deployment.id());
        if steps.iter().any(is_it) {
            return self
                .error(at, format!("this stage changes {} twice; use a stage for each change", deployment.id()));
        }
        Ok(())
    }
}

/// The Deployments that steps leave, by name.
pub(super) fn deployments<'a>(steps: impl Iterator<Item = &'a Step>) -> BTreeMap<&'a str, &'a Manifest> {
    let mut deployments: BTreeMap<&str, &Manifest> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Apply(manifest) if manifest.kind() == "Deployment" => {
                deployments.insert(manifest.name(), manifest);
            }
            Step::Delete(Target { kind: deleted, name, .. }) if is_deployment(deleted) => {
                deployments.remove(name.as_str());
            }
            _ => {}
        }
    }
    deployments
}

/// Whether a kind, as a target names it, is Deployment.
pub(super) fn is_deployment(kind: &KindRef) -> bool {
    match kind {
        KindRef::Exact { kind, .. } => kind == "Deployment",
        KindRef::Written(written) => ApiKind::of("apps", "Deployment").is_called(written),
    }
}
