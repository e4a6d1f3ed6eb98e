use std::sync::Arc;

use super::stages::Plan;
use crate::routing::Live;
use crate::scenario::{Expectation, Manifest, ObjectId, Scenario, Stage, Step, Target};

/// A scenario of one stage: the objects of a stage of another scenario, applied at once, and its claims about requests.
pub fn at_once(scenario: &Scenario, number: usize) -> Scenario {
    let plan = Plan::new(scenario);
    let planned = &plan.stages[number - 1];
    let is_clients = |manifest: &Manifest| scenario.client.manifests.iter().any(|own| own.id() == manifest.id());
    let objects = planned.after.live.all().map(|object| Arc::clone(&object.manifest));
    let mut manifests: Vec<Arc<Manifest>> = objects.filter(|manifest| !is_clients(manifest)).collect();
    // rules before pods, so that sidecars start with them
    manifests.sort_by_key(|manifest| manifest.kind() == "Deployment");
    let claims = planned.stage.expect.iter();
    let claims = claims.filter(|own| matches!(own, Expectation::Claim(_) | Expectation::Served { .. }));
    let steps = manifests.into_iter().map(Step::Apply).collect();
    let stage = Stage { steps, expect: claims.cloned().collect(), ..planned.stage.clone() };
    Scenario { stages: vec![stage], ..scenario.clone() }
}

/// A scenario with a stage for each of these scenarios, which have one stage each and the same client: a stage first deletes the objects of
/// the stage before that are not its own. None without scenarios.
pub fn in_turn(scenarios: &[Scenario]) -> Option<Scenario> {
    let first = scenarios.first()?;
    let mut live = Live::new(&first.namespace, &first.namespace);
    let stages = scenarios.iter().map(|scenario| {
        let mut stage = scenario.stages[0].clone();
        let kept: Vec<ObjectId> = scenario.manifests().map(|manifest| live.id(manifest)).collect();
        let gone = live.all().map(|object| &object.manifest).filter(|manifest| !kept.contains(&live.id(manifest)));
        let gone = gone.map(|manifest| Step::Delete(Target::of(manifest, manifest.origin.clone())));
        stage.steps.splice(0..0, gone);
        live.step_through(&stage);
        stage
    });
    let stages = stages.collect();
    Some(Scenario { stages, ..first.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canary() -> Scenario {
        Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/canary")).unwrap()
    }

    #[test]
    fn a_stage_is_brought_about_at_once() {
        let Scenario { stages, .. } = at_once(&canary(), 4);
        assert_eq!(stages[0].steps.len(), stages[0].applied().count());
        let ids: Vec<String> = stages[0].applied().map(Manifest::id).collect();
        assert_eq!(
            ids,
            [
                "DestinationRule/dr-hello",
                "Service/svc-hello",
                "VirtualService/vs-hello",
                "Deployment/hello-server-v1",
                "Deployment/hello-server-v2"
            ]
        );
        assert_eq!(stages[0].expect.len(), 3);
    }

    #[test]
    fn objects_of_the_stage_before_make_room_for_the_next() {
        let canary = canary();
        let scenario = in_turn(&[at_once(&canary, 4), at_once(&canary, 1)]).unwrap();
        let [first, second] = &scenario.stages[..] else { panic!("two stages") };
        assert_eq!(first.steps.len(), first.applied().count());
        let (deletions, rest) = second.steps.split_at(second.steps.len() - second.applied().count());
        assert!(rest.iter().all(|step| matches!(step, Step::Apply(_))), "deletions first");
        let gone = deletions.iter().map(|step| match step {
            Step::Delete(target) => target.name.as_str(),
            other => panic!("{other:?}"),
        });
        let mut gone: Vec<&str> = gone.collect();
        gone.sort_unstable();
        assert_eq!(gone, ["dr-hello", "hello-server-v2", "vs-hello"]);
    }
}
