use futures::{StreamExt, stream};

use super::WalkError;
use super::stage::Walk;
use crate::cluster::RunId;
use crate::events::{Event, Events, TrialledMutant};
use crate::mesh::MeshError;
use crate::routing::Live;
use crate::scenario::{Expectation, Manifest, ObjectId, Scenario, Stage, Step, Target};
use crate::traffic::{Driver, DriverOptions};
use crate::venue::{OpenNamespace, OpenVenue, ProvisionedCluster};
use crate::verdict::Design;
use crate::verify::{MUTATION_OPERATORS, Mutant, MutantStatus, Stages, evaluate, mutants};

/// How many mutants are on the cluster at once: more only wait for each other on two cores.
const AT_ONCE: usize = 3;

/// A sample of mutants with as many mutation operators as possible: about a quarter of it equivalent, which is checked on the mesh as
/// well, and the others killed by a claim.
pub(super) fn sample(scenario: &Scenario, size: usize) -> Vec<(Mutant, MutantStatus)> {
    let evaluated = mutants(scenario).into_iter().map(|mutant| {
        let status = evaluate(scenario, &mutant);
        (mutant, status)
    });
    // a mutant behind whose stage nothing is claimed proves nothing on the mesh
    let mut left: Vec<(Mutant, MutantStatus)> = evaluated
        .filter(|(mutant, status)| *status != MutantStatus::Equivalent || claimed_from(mutant).is_some())
        .collect();
    let mut sample: Vec<(Mutant, MutantStatus)> = Vec::new();
    let equivalent = if size > 1 { (size / 4).max(1) } else { 0 };
    take_of_each_operator(&mut left, &mut sample, equivalent, |status| *status == MutantStatus::Equivalent);
    take_of_each_operator(&mut left, &mut sample, size, |status| matches!(status, MutantStatus::Killed(_)));
    sample.extend(left);
    sample.truncate(size);
    sample
}

/// Takes mutants with a status until the sample has its size: first one of each operator that the sample lacks, then the next of each.
fn take_of_each_operator(
    left: &mut Vec<(Mutant, MutantStatus)>,
    sample: &mut Vec<(Mutant, MutantStatus)>,
    size: usize,
    wanted: impl Fn(&MutantStatus) -> bool,
) {
    let first: Vec<&str> = MUTATION_OPERATORS
        .into_iter()
        .filter(|operator| sample.iter().all(|(mutant, _)| mutant.operator != *operator))
        .collect();
    let rounds = std::iter::once(first).chain(std::iter::repeat(MUTATION_OPERATORS.to_vec()));
    for operators in rounds {
        if sample.len() >= size || !left.iter().any(|(_, status)| wanted(status)) {
            return;
        }
        for operator in operators {
            let found = left.iter().position(|(mutant, status)| mutant.operator == operator && wanted(status));
            if let Some(index) = found.filter(|_| sample.len() < size) {
                sample.push(left.remove(index));
            }
        }
    }
}

/// The first stage with a claim, from the one on at which a mutant is wrong.
fn claimed_from(mutant: &Mutant) -> Option<usize> {
    let stages = (1..).zip(&mutant.scenario.stages).skip(mutant.stage - 1);
    stages.into_iter().find(|(_, stage)| stage.claims().next().is_some()).map(|(number, _)| number)
}

/// Brings each mutant about on the mesh, at the stage where the model says that a claim fails, and judges that stage's claims. Mutants
/// with the same pods follow each other in one namespace: pods take longer to start than all the rest.
pub(super) async fn trial(
    cluster: &ProvisionedCluster,
    run: &RunId,
    sample: Vec<(Mutant, MutantStatus)>,
    driver: DriverOptions,
    events: &Events,
) -> Result<Vec<TrialledMutant>, WalkError> {
    let mut lots: Vec<(String, Vec<Trial>)> = Vec::new();
    for (mutant, status) in sample {
        let trial = Trial::of(mutant, status);
        let pods = trial.pods();
        match lots.iter_mut().find(|(own, _)| *own == pods) {
            Some((_, lot)) => lot.push(trial),
            None => lots.push((pods, vec![trial])),
        }
    }
    // the longest first, so that none is left alone at the end
    lots.sort_by_key(|(_, lot)| std::cmp::Reverse(lot.len()));
    let lots = lots.into_iter().enumerate().map(|(number, (_, lot))| async move {
        let namespace = format!("mutant-{}", number + 1);
        let trialled = Box::pin(in_turn(cluster, run, &namespace, lot, driver, events)).await?;
        // what has run makes room for the next
        cluster.delete_namespace(&namespace).await?;
        Ok(trialled)
    });
    let trialled: Vec<Result<Vec<TrialledMutant>, WalkError>> =
        stream::iter(lots).buffer_unordered(AT_ONCE).collect().await;
    Ok(trialled.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// A mutant at the stage where it is brought about.
struct Trial {
    mutant: Mutant,
    status: MutantStatus,
    number: usize,
    /// That stage, all at once.
    scenario: Scenario,
}

impl Trial {
    fn of(mutant: Mutant, status: MutantStatus) -> Self {
        let number = match &status {
            MutantStatus::Killed(kill) => kill.stage,
            MutantStatus::Survived(gap) => gap.stage,
            MutantStatus::Equivalent => claimed_from(&mutant).unwrap_or(mutant.stage),
        };
        let scenario = at_once(&mutant.scenario, number);
        Self { mutant, status, number, scenario }
    }

    fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        let steps = self.scenario.stages.iter().flat_map(|stage| &stage.steps);
        let applied = steps.filter_map(|step| if let Step::Apply(manifests) = step { Some(manifests) } else { None });
        applied.flatten()
    }

    /// What its pods are made from.
    fn pods(&self) -> String {
        let makes_pods = |manifest: &&Manifest| matches!(manifest.kind(), "Deployment" | "Pod");
        let all = self.manifests().filter(makes_pods).chain(&self.scenario.client.manifests);
        all.map(|manifest| format!("{} {}", manifest.id(), manifest.object.data)).collect::<Vec<_>>().join("\n")
    }
}

/// Brings mutants with the same pods about in one namespace, one after the other.
async fn in_turn(
    cluster: &ProvisionedCluster,
    run: &RunId,
    namespace: &str,
    lot: Vec<Trial>,
    driver: DriverOptions,
    events: &Events,
) -> Result<Vec<TrialledMutant>, WalkError> {
    let mut there: Option<(OpenNamespace, Driver, Live)> = None;
    // what happens within is told as one line
    let (silent, _) = Events::channel();
    let mut trialled = Vec::new();
    for trial in lot {
        let scenario = &trial.scenario;
        let is_first = there.is_none();
        let (mut venue, mut driver, live) = if let Some(there) = there.take() {
            there
        } else {
            let objects = cluster.create_namespace(run, &scenario.namespace, namespace).await?;
            let venue = OpenNamespace::new(cluster, objects, &scenario.client, &silent);
            let driver = venue.driver(driver);
            (venue, driver, Live::new(&scenario.namespace, namespace))
        };
        let stage = after(&live, &trial);
        let mut walk = Walk { live, ..Walk::new(scenario, &mut venue, namespace, silent.clone()) };
        if is_first {
            walk.apply_client().await?;
        }
        let failed = fails(&mut walk, &stage, &mut driver).await?;
        let live = walk.live;
        there = Some((venue, driver, live));
        let Trial { mutant, status, number, .. } = trial;
        let own = TrialledMutant { operator: mutant.operator, what: mutant.what, status, stage: number, failed };
        events.tell(Event::Trialled(own.clone()));
        trialled.push(own);
    }
    Ok(trialled)
}

/// The stage of a mutant, where the one before it has left these objects.
fn after(live: &Live, trial: &Trial) -> Stage {
    let mut stage = trial.scenario.stages[0].clone();
    let kept: Vec<ObjectId> =
        trial.manifests().chain(&trial.scenario.client.manifests).map(|manifest| live.id(manifest)).collect();
    let gone = live.all().map(|object| &object.manifest).filter(|manifest| !kept.contains(&live.id(manifest)));
    let gone = gone.map(|manifest| Target::of(manifest, manifest.origin.clone()));
    let gone: Vec<Target> = gone.collect();
    if !gone.is_empty() {
        stage.steps.insert(0, Step::Delete(gone));
    }
    stage
}

/// Whether a claim of the stage fails.
async fn fails(walk: &mut Walk<'_>, stage: &Stage, driver: &mut Driver) -> Result<bool, WalkError> {
    let designs = stage.claims().map(|claim| {
        let variants = walk.scenario.population(&claim.from).map_or(1, |population| population.variants.len());
        let design = Design::new(claim).map(|design| design.of_variants(variants));
        design.map_err(|source| WalkError::Design { place: claim.origin.clone(), source })
    });
    let designs: Vec<Design> = designs.collect::<Result<_, _>>()?;
    match walk.stage(1, stage, &designs, driver).await {
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
    let stage = Stage { steps: vec![Step::Apply(manifests)], expect: expect.cloned().collect(), ..stage.clone() };
    Scenario { stages: vec![stage], ..scenario.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_many_operators_and_a_quarter_of_it_is_equivalent() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        for (size, expected) in [(1, 0), (2, 1), (8, 2), (12, 3)] {
            let sample = sample(&scenario, size);
            assert_eq!(sample.len(), size);
            let equivalent: Vec<_> = sample.iter().filter(|(_, status)| *status == MutantStatus::Equivalent).collect();
            assert_eq!(equivalent.len(), expected, "of {size}");
            assert!(sample.iter().all(|(_, status)| !matches!(status, MutantStatus::Survived(_))));
            // at a stage without a claim nothing could fail
            for (mutant, status) in equivalent {
                let trial = Trial::of(mutant.clone(), status.clone());
                assert!(trial.scenario.stages[0].claims().next().is_some(), "{}", mutant.what);
            }
        }
        let sample = sample(&scenario, 18);
        let mut operators: Vec<&str> = sample.iter().map(|(mutant, _)| mutant.operator).collect();
        operators.sort_unstable();
        operators.dedup();
        assert!(operators.len() >= 16, "{operators:?}");
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
