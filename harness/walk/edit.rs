use crate::events::Edit;
use crate::routing::Live;
use crate::scenario::{Manifest, Stage, Step};

/// What a stage does to the objects that are there, in its order.
pub(super) fn edits(live: &Live, stage: &Stage) -> Vec<Edit> {
    let mut live = live.clone();
    let mut edits = Vec::new();
    for step in &stage.steps {
        match step {
            Step::Apply(manifests) => {
                for manifest in manifests {
                    edits.push(Edit {
                        object: manifest.id(),
                        origin: Some(manifest.origin.clone()),
                        before: live.like(manifest).map(|object| text(&object.manifest)),
                        after: Some(text(manifest)),
                    });
                    live.apply(manifest);
                }
            }
            Step::Delete(targets) => {
                for target in targets {
                    edits.extend(live.named(target).map(|object| Edit {
                        object: object.manifest.id(),
                        origin: None,
                        before: Some(text(&object.manifest)),
                        after: None,
                    }));
                    live.delete(target);
                }
            }
            Step::Mesh(_) => {}
        }
    }
    edits
}

fn text(manifest: &Manifest) -> String {
    serde_yaml::to_string(&manifest.object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn a_stage_creates_changes_and_deletes() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let mut live = Live::new("canary", "canary");
        let told = |edits: Vec<Edit>| {
            edits
                .into_iter()
                .map(|edit| (edit.object, edit.before.is_some(), edit.after.is_some(), edit.origin.is_some()))
                .collect::<Vec<_>>()
        };
        live.step_through(&scenario.stages[0]);
        let second = told(edits(&live, &scenario.stages[1]));
        let named = |object: &str, before, after, written| (object.to_owned(), before, after, written);
        // the label cannot be changed in place: the Deployment is made anew
        assert_eq!(
            second,
            [
                named("Deployment/hello-server-v1", true, false, false),
                named("Deployment/hello-server-v1", false, true, true),
                named("Service/svc-hello", true, true, true),
            ]
        );
        scenario.stages[1..3].iter().for_each(|stage| live.step_through(stage));
        let fourth = edits(&live, &scenario.stages[3]);
        let service = fourth.iter().find(|edit| edit.object == "Service/svc-hello").unwrap();
        assert_ne!(service.before, service.after);
        assert!(service.before.as_ref().unwrap().contains("version: v1"));
    }
}
