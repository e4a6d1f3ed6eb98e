use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};

use super::SessionError;
use super::run::{Ending, Options, Outcome, Prepared};
use super::stage::{Mode, Session};
use crate::events::{Event, Events, TrialledMutant};
use crate::plan::{Designs, Plan, at_once, in_turn};
use crate::scenario::{Manifest, Population, Scenario, Sender, Stage, Target};
use crate::traffic::DriverOptions;
use crate::venue::{OpenNamespace, OpenVenue, ProvisionedCluster, Run, VenueError};
use crate::verify::{MUTATION_OPERATORS, Mutant, MutantStatus, evaluate, mutants};

/// How many mutants are on the cluster at once: more only wait for each other on two cores.
const AT_ONCE: usize = 3;

/// How many mutants of a scenario are on the cluster at once. Those of a scenario with gateways or with pods in other namespaces would share
/// these.
fn at_once_of(scenario: &Scenario) -> usize {
    let sends_all = |own: &Population| own.sender() == Sender::Client;
    if scenario.populations.iter().all(sends_all) { AT_ONCE } else { 1 }
}

/// A sample of mutants with as many mutation operators as possible: about a quarter of it equivalent, which is checked on the mesh as
/// well, and the others killed by a claim.
fn sample(plan: &Plan<'_>, size: usize) -> Vec<(Mutant, MutantStatus)> {
    let evaluated = mutants(plan.scenario).into_iter().map(|mutant| {
        let status = evaluate(plan, &mutant);
        (mutant, status)
    });
    // a mutant behind whose stage nothing is claimed proves nothing on the mesh
    let mut left: Vec<(Mutant, MutantStatus)> = evaluated
        .filter(|(mutant, status)| *status != MutantStatus::Equivalent || claimed_from(plan.scenario, mutant).is_some())
        .filter(|(_, status)| *status != MutantStatus::Undecided)
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
fn claimed_from(scenario: &Scenario, mutant: &Mutant) -> Option<usize> {
    let stages = (1..).zip(&scenario.stages).skip(mutant.stage - 1);
    stages.into_iter().find(|(_, stage)| stage.claims().next().is_some()).map(|(number, _)| number)
}

/// Tries so many mutants of a scenario on a throwaway cluster. The outcome counts the mutants on which mesh and model agree.
///
/// # Errors
/// As those of [`run`](super::run()); the venue is no throwaway cluster.
///
/// # Panics
/// A panic of the session is passed on after everything is removed.
pub async fn try_mutants(
    scenario: Scenario,
    size: usize,
    options: Options,
    events: Events,
    cancelled: impl Future<Output = ()>,
) -> Result<Outcome, SessionError> {
    SessionError::refuse_controlled(&scenario)?;
    let prepared = Prepared::new(&scenario, &options, events)?;
    let throwaway = options.venue.throwaway().ok_or(VenueError::NotThrowaway)?;
    let body = async {
        let Prepared { run, plan, .. } = &prepared;
        prepared.tell_started(None);
        let (cluster, _) = throwaway.start(run).await?;
        let sample = sample(&plan.on(cluster.istio.parsed_version().as_ref()), size);
        let stages = sample.len();
        let trialled = trial(&cluster, &prepared, sample, options.driver).await?;
        let passed = trialled.iter().filter(|trialled| trialled.agrees()).count();
        let ending = if passed == stages { Ending::Passed } else { Ending::Failed };
        Ok(Outcome { ending, passed, stages })
    };
    let ended = prepared.ended(body, cancelled).await;
    prepared.close(ended).await
}

/// Tries each mutant on the mesh: applies the stage at which the model says that a claim fails, and judges its claims. Mutants with the same
/// pods follow each other in one namespace: pods take longer to start than all the rest.
async fn trial(
    cluster: &ProvisionedCluster,
    prepared: &Prepared<'_>,
    sample: Vec<(Mutant, MutantStatus)>,
    driver: DriverOptions,
) -> Result<Vec<TrialledMutant>, SessionError> {
    let mut lots: Vec<(String, Vec<Trial>)> = Vec::new();
    for (mutant, status) in sample {
        let trial = Trial::of(prepared.plan.scenario, mutant, status);
        let pods = trial.pods();
        match lots.iter_mut().find(|(own, _)| *own == pods) {
            Some((_, lot)) => lot.push(trial),
            None => lots.push((pods, vec![trial])),
        }
    }
    // the longest first, so that none is left alone at the end
    lots.sort_by_key(|(_, lot)| std::cmp::Reverse(lot.len()));
    let mut trials: Vec<BoxFuture<'_, Result<Vec<TrialledMutant>, SessionError>>> = Vec::new();
    for (number, (_, lot)) in (1..).zip(lots) {
        trials.push(trial_lot(cluster, &prepared.run, number, lot, driver).boxed());
    }
    let at_once = at_once_of(prepared.plan.scenario);
    let trialled: Vec<_> = stream::iter(trials).buffer_unordered(at_once).collect().await;
    Ok(trialled.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// Tries mutants that have the same pods, in sequence in one namespace.
async fn trial_lot(
    cluster: &ProvisionedCluster,
    run: &Run<'_>,
    number: usize,
    lot: Vec<Trial>,
    driver: DriverOptions,
) -> Result<Vec<TrialledMutant>, SessionError> {
    let scenarios: Vec<Scenario> = lot.iter().map(|trial| trial.scenario.clone()).collect();
    let Some(scenario) = in_turn(&scenarios) else { return Ok(Vec::new()) };
    let namespace = format!("mutant-{number}");
    let plan = Plan::of(&scenario, &namespace, cluster.istio.parsed_version().as_ref());
    let designs = Designs::unchecked(&plan)?;
    let objects = cluster.create_namespace(&run.id, &scenario.namespace, &namespace).await?;
    // the events of a mutant are summed up in one
    let (silent, _) = Events::channel();
    let mut venue = OpenNamespace::new(cluster, objects, &scenario, &silent);
    let mut driver = venue.driver(driver).await?;
    let mut session = Session::new(&plan, &mut venue, silent, Mode::TryMutants);
    let (mut lot, mut trialled) = (lot.into_iter(), Vec::new());
    let reached = AtomicUsize::new(0);
    let done = |_: usize, passed: bool| {
        let Some(Trial { mutant, status, number, .. }) = lot.next() else { return };
        let own =
            TrialledMutant { operator: mutant.operator, what: mutant.what, status, stage: number, failed: !passed };
        run.events.tell(Event::Trialled(own.clone()));
        trialled.push(own);
    };
    session.stages(&designs, &mut driver, &reached, done).await?;
    // what has run makes room for the next
    if at_once_of(&scenario) > 1 {
        cluster.delete_namespace(&namespace).await?;
    } else {
        remove_elsewhere(&mut venue, &scenario, &namespace).await?;
        for own in namespaces(&scenario).into_iter().chain([namespace]) {
            cluster.remove_namespace(&own, run.events.waiting()).await?;
        }
    }
    Ok(trialled)
}

/// The manifests of the client and those that the last stage leaves.
fn left(scenario: &Scenario) -> impl Iterator<Item = &Manifest> {
    scenario.client.manifests.iter().chain(scenario.stages.iter().rev().take(1).flat_map(Stage::applied))
}

/// The namespaces that a scenario makes.
fn namespaces(scenario: &Scenario) -> BTreeSet<String> {
    let made = left(scenario).filter(|manifest| manifest.kind() == "Namespace" && manifest.group().is_empty());
    made.map(|manifest| manifest.name().to_owned()).collect()
}

/// Deletes the objects in namespaces that a scenario does not make, such as the Secrets of a gateway.
async fn remove_elsewhere(venue: &mut OpenNamespace, scenario: &Scenario, namespace: &str) -> Result<(), SessionError> {
    let made = namespaces(scenario);
    for manifest in left(scenario) {
        let own = manifest.object.metadata.namespace.as_ref();
        let is_elsewhere = |own: &&String| **own != scenario.namespace && *own != namespace && !made.contains(*own);
        if own.as_ref().is_some_and(is_elsewhere) {
            venue.delete(&Target::of(manifest, manifest.origin.clone())).await?;
        }
    }
    Ok(())
}

/// A mutant and the stage at which it is tried.
struct Trial {
    mutant: Mutant,
    status: MutantStatus,
    number: usize,
    /// That stage, applied at once.
    scenario: Scenario,
}

impl Trial {
    fn of(scenario: &Scenario, mutant: Mutant, status: MutantStatus) -> Self {
        let number = match &status {
            MutantStatus::Killed(kill) => kill.stage,
            MutantStatus::Survived(gap) => gap.stage,
            MutantStatus::Equivalent | MutantStatus::Undecided => {
                claimed_from(scenario, &mutant).unwrap_or(mutant.stage)
            }
        };
        let scenario = at_once(&mutant.applied_to(scenario), number);
        Self { mutant, status, number, scenario }
    }

    fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.scenario.stages.iter().flat_map(Stage::applied)
    }

    /// What its pods are made from.
    fn pods(&self) -> String {
        let makes_pods = |manifest: &&Manifest| matches!(manifest.kind(), "Deployment" | "Pod");
        let all = self.manifests().filter(makes_pods).chain(&self.scenario.client.manifests);
        all.map(|manifest| format!("{} {}", manifest.id(), manifest.object.data)).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_many_operators_and_a_quarter_of_it_is_equivalent() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let plan = Plan::new(&scenario);
        for (size, expected) in [(1, 0), (2, 1), (8, 2), (12, 3)] {
            let sample = sample(&plan, size);
            assert_eq!(sample.len(), size);
            let equivalent: Vec<_> = sample.iter().filter(|(_, status)| *status == MutantStatus::Equivalent).collect();
            assert_eq!(equivalent.len(), expected, "of {size}");
            assert!(sample.iter().all(|(_, status)| !matches!(status, MutantStatus::Survived(_))));
            // at a stage without a claim nothing could fail
            for (mutant, status) in equivalent {
                let trial = Trial::of(&scenario, mutant.clone(), status.clone());
                assert!(trial.scenario.stages[0].claims().next().is_some(), "{}", mutant.what);
            }
        }
        let sample = sample(&plan, 18);
        let mut operators: Vec<&str> = sample.iter().map(|(mutant, _)| mutant.operator).collect();
        operators.sort_unstable();
        operators.dedup();
        assert!(operators.len() >= 16, "{operators:?}");
    }
}
