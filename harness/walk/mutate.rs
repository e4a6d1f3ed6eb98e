use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::DeleteParams;

use super::WalkError;
use super::event::{Event, Events};
use super::ground::Ground;
use super::site::{KubeSite, Site};
use super::stage::Walk;
use super::transition::Expected;
use crate::cluster::{ClusterError, RunId};
use crate::mesh::MeshError;
use crate::routing::Live;
use crate::scenario::{Expectation, Manifest, Scenario, Stage, Step};
use crate::traffic::{Driver, DriverOptions};
use crate::verdict::Design;
use crate::verify::{Fate, Mutant, SLIPS, Stages, fate, mutants};

/// How many mutants are on the cluster at once: more only wait for each other on two cores.
const AT_ONCE: usize = 3;

/// A mutant on a real mesh.
#[derive(Debug, Clone)]
pub struct Trialled {
    /// The kind of slip.
    pub slip: &'static str,
    /// What was done where.
    pub what: String,
    /// What the model says becomes of it.
    pub fate: Fate,
    /// The stage that was brought about on the mesh, from 1.
    pub stage: usize,
    /// Whether a claim failed there.
    pub failed: bool,
}

impl Trialled {
    /// Whether the mesh does what the model says.
    #[must_use]
    pub const fn agrees(&self) -> bool {
        matches!(self.fate, Fate::Caught(_)) == self.failed
    }
}

/// As many mutants as are asked for, of as many slips as there are: first one of each that a claim catches, then some that change nothing,
/// then the next of each.
pub(super) fn sample(scenario: &Scenario, size: usize) -> Vec<(Mutant, Fate)> {
    let fates = mutants(scenario).into_iter().map(|mutant| {
        let fate = fate(scenario, &mutant);
        (mutant, fate)
    });
    let mut left: Vec<(Mutant, Fate)> = fates.collect();
    let mut sample = Vec::new();
    while sample.len() < size && !left.is_empty() {
        let before = sample.len();
        for slip in SLIPS {
            let found = left.iter().position(|(mutant, fate)| mutant.slip == slip && matches!(fate, Fate::Caught(_)));
            sample.extend(found.map(|index| left.remove(index)));
        }
        let harmless: Vec<usize> = (0..left.len()).filter(|index| left[*index].1 == Fate::Harmless).collect();
        sample.extend(harmless.first().map(|index| left.remove(*index)));
        if sample.len() == before {
            sample.append(&mut left);
        }
    }
    sample.truncate(size);
    sample
}

/// Brings each mutant about on the mesh, in a namespace of its own, at the stage where the model says that a claim fails, and judges that
/// stage's claims.
pub(super) async fn trial(
    ground: &Ground,
    run: &RunId,
    sample: Vec<(Mutant, Fate)>,
    driver: DriverOptions,
    events: &Events,
) -> Result<Vec<Trialled>, WalkError> {
    let trials = sample.into_iter().enumerate().map(|(number, (mutant, fate))| async move {
        let stage = match &fate {
            Fate::Caught(catch) => catch.stage,
            Fate::Survives(gap) => gap.stage,
            Fate::Harmless => mutant.stage,
        };
        let namespace = format!("mutant-{}", number + 1);
        let failed = one(ground, run, &namespace, &mutant.scenario, stage, driver).await?;
        // what a mutant has run makes room for the next
        let namespaces: Api<Namespace> = Api::all(ground.client.clone());
        namespaces
            .delete(&namespace, &DeleteParams::background())
            .await
            .map_err(ClusterError::api(format!("deleting the namespace `{namespace}`")))?;
        let trialled = Trialled { slip: mutant.slip, what: mutant.what, fate, stage, failed };
        events.tell(Event::Trialled(trialled.clone()));
        Ok(trialled)
    });
    stream::iter(trials).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}

/// Whether a claim of a stage fails.
async fn one(
    ground: &Ground,
    run: &RunId,
    namespace: &str,
    scenario: &Scenario,
    number: usize,
    driver: DriverOptions,
) -> Result<bool, WalkError> {
    let scenario = &at_once(scenario, number);
    let stage = &scenario.stages[0];
    let objects = ground.namespace_of(run, &scenario.namespace, namespace).await?;
    let pods: Api<Pod> = Api::namespaced(ground.client.clone(), namespace);
    // what happens within is told as one line
    let (events, _) = Events::channel();
    let mut walk = Walk {
        scenario,
        site: Site::Kube(Box::new(KubeSite::new(
            ground.client.clone(),
            namespace,
            objects,
            None,
            &scenario.client.pod,
        ))),
        driver: Driver::new(pods, driver).program(&scenario.client.driver),
        namespace: namespace.to_owned(),
        live: Live::new(&scenario.namespace, namespace),
        events,
        expected: Expected::new(scenario),
        client_pod: Vec::new(),
        comparing: false,
    };
    let designs = stage
        .claims()
        .map(|claim| Design::new(claim).map_err(|source| WalkError::Design { place: claim.place.clone(), source }));
    let designs: Vec<Design> = designs.collect::<Result<_, _>>()?;
    walk.client_pod = walk.apply(&scenario.client.manifests).await?;
    match walk.stage(1, stage, &designs).await {
        Ok(passed) => Ok(!passed),
        // a client outside of the mesh is refused before anything is sent
        Err(WalkError::Mesh(MeshError::NoSidecar { .. })) => Ok(true),
        Err(error) => Err(error),
    }
}

/// A scenario of one stage: what is there at a stage of another, applied at once.
#[must_use]
pub fn at_once(scenario: &Scenario, number: usize) -> Scenario {
    let mut stages = Stages::new(scenario);
    for _ in 0..number {
        stages.advance();
    }
    let is_clients = |manifest: &Manifest| scenario.client.manifests.iter().any(|own| own.id() == manifest.id());
    let there = stages.live().all().map(|object| object.manifest.clone());
    let mut manifests: Vec<Manifest> = there.filter(|manifest| !is_clients(manifest)).collect();
    // rules before pods, so that sidecars start with them
    manifests.sort_by_key(|manifest| manifest.kind() == "Deployment");
    let stage = &scenario.stages[number - 1];
    let expect = stage.expect.iter().filter(|own| matches!(own, Expectation::Claim(_) | Expectation::Served { .. }));
    let stage =
        Stage { name: stage.name.clone(), steps: vec![Step::Apply(manifests)], expect: expect.cloned().collect() };
    Scenario { stages: vec![stage], ..scenario.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_many_kinds_of_slips_and_something_harmless() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let sample = sample(&scenario, 18);
        let mut slips: Vec<&str> = sample.iter().map(|(mutant, _)| mutant.slip).collect();
        slips.sort_unstable();
        slips.dedup();
        assert_eq!(sample.len(), 18);
        assert!(slips.len() >= 16, "{slips:?}");
        assert!(sample.iter().any(|(_, fate)| *fate == Fate::Harmless));
    }

    #[test]
    fn a_stage_is_brought_about_at_once() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let Scenario { stages, .. } = at_once(&scenario, 4);
        let [Step::Apply(manifests)] = &stages[0].steps[..] else { panic!("one step") };
        let ids: Vec<String> = manifests.iter().map(Manifest::id).collect();
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
}
