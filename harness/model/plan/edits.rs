use super::stages::PlannedStage;
use crate::scenario::{Manifest, Origin, Step};

/// A change that a stage makes to one object.
#[derive(Debug, Clone)]
pub struct Edit {
    /// `Kind/name`.
    pub object: String,
    /// Where the applied object is written; none where an object is deleted.
    pub origin: Option<Origin>,
    /// The object before; none where the stage creates it.
    pub before: Option<Manifest>,
    /// The object after; none where the stage deletes it.
    pub after: Option<Manifest>,
}

impl PlannedStage<'_> {
    /// The changes to objects, in the order in which they are made.
    pub fn edits(&self) -> Vec<Edit> {
        let mut live = self.before.live.clone();
        let mut edits = Vec::new();
        for step in &self.stage.steps {
            match step {
                Step::Apply(manifest) => {
                    edits.push(Edit {
                        object: manifest.id(),
                        origin: Some(manifest.origin.clone()),
                        before: live.like(manifest).map(|object| Manifest::clone(&object.manifest)),
                        after: Some(Manifest::clone(manifest)),
                    });
                    live.apply_shared(manifest);
                }
                Step::Delete(target) => {
                    edits.extend(live.named(target).map(|object| Edit {
                        object: object.manifest.id(),
                        origin: None,
                        before: Some(Manifest::clone(&object.manifest)),
                        after: None,
                    }));
                    live.delete(target);
                }
                Step::Act(_) | Step::Gate(_) | Step::Mesh(_) => {}
            }
        }
        edits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::scenario::Scenario;

    #[test]
    fn a_stage_creates_changes_and_deletes() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/canary")).unwrap();
        let plan = Plan::new(&scenario);
        let told = |edits: Vec<Edit>| {
            edits
                .into_iter()
                .map(|edit| (edit.object, edit.before.is_some(), edit.after.is_some(), edit.origin.is_some()))
                .collect::<Vec<_>>()
        };
        let second = told(plan.stages[1].edits());
        let named = |object: &str, before, after, written| (object.to_owned(), before, after, written);
        // a Deployment's selector labels are immutable, so the stage deletes and recreates the Deployment
        assert_eq!(
            second,
            [
                named("Deployment/hello-server-v1", true, false, false),
                named("Deployment/hello-server-v1", false, true, true),
                named("Service/svc-hello", true, true, true),
            ]
        );
        let fourth = plan.stages[3].edits();
        let service = fourth.iter().find(|edit| edit.object == "Service/svc-hello").unwrap();
        let text = |manifest: &Option<Manifest>| manifest.as_ref().unwrap().object.data.to_string();
        assert_ne!(text(&service.before), text(&service.after));
        assert!(text(&service.before).contains(r#""version":"v1""#));
    }
}
