use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::WalkError;
use super::designs::Designs;
use super::run::{Ending, Options, Outcome, close, ended, started};
use super::stage::Walk;
use crate::cluster::{IstioSet, Objects};
use crate::events::{Event, Events};
use crate::mesh::Planes;
use crate::scenario::{ControlPlane, Scenario};
use crate::venue::{OpenNamespace, OpenVenue, ProvisionedCluster, Run, Throwaway};

/// A walk that is compared with others.
#[derive(Debug, Clone)]
pub struct Leg {
    /// Its name, for people.
    pub name: String,
    /// The control plane that it begins on.
    pub first: ControlPlane,
    /// The scenario, with what is done to the mesh between its stages.
    pub scenario: Scenario,
}

/// Walks that follow each other on one throwaway cluster, each in a namespace of its own.
#[derive(Debug, Clone)]
pub struct Legs {
    /// What it takes to install the versions of Istio that they need.
    pub sets: Vec<IstioSet>,
    /// The walks.
    pub legs: Vec<Leg>,
}

/// Walks all legs from nothing running to all removed. A claim that fails ends no leg, and a leg that breaks off does not end the others:
/// all that can be compared is told.
///
/// # Errors
/// A scenario is wrong, the cluster does not come up, or a leg broke off; then with the first leg's reason, when all others are walked.
/// Everything is removed then, too, unless it is to be kept.
///
/// # Panics
/// A panic in a walk is passed on after everything is removed.
pub async fn walk_legs(
    legs: Legs,
    options: Options,
    events: Events,
    cancelled: impl Future<Output = ()>,
) -> Result<Outcome, WalkError> {
    let Some(first) = legs.legs.first() else {
        return Ok(Outcome { ending: Ending::Passed, passed: 0, stages: 0 });
    };
    let venue = Arc::clone(&options.venue);
    let throwaway = venue.throwaway().ok_or(WalkError::NotThrowaway)?;
    Designs::new(&first.scenario)?;
    let run = Run::new(Arc::clone(&venue), &first.scenario, &options.cache, events);
    let reached = AtomicUsize::new(0);
    let body = all(&run, throwaway, &legs, &options, &reached);
    let ended = ended(body, cancelled, run.scenario.stages.len()).await;
    close(run, ended, &options, reached.into_inner()).await
}

async fn all(
    run: &Run<'_>,
    throwaway: &Throwaway,
    legs: &Legs,
    options: &Options,
    reached: &AtomicUsize,
) -> Result<Outcome, WalkError> {
    let mut planes = Some(Planes::new(legs.sets.clone(), &run.cache));
    let mut there: Option<ProvisionedCluster> = None;
    let mut broken = None;
    let (mut passed, mut stages) = (0, 0);
    for (index, leg) in legs.legs.iter().enumerate() {
        let designs = Designs::new(&leg.scenario)?;
        let declared = leg.scenario.namespace.clone();
        let namespace = if index == 0 { declared.clone() } else { format!("{declared}-{}", index + 1) };
        run.events.tell(started(&run.id, &leg.scenario, &namespace, leg.name.clone(), Some(designs.totals())));
        let (cluster, objects) = match (there.take(), planes.take()) {
            (None, Some(planes)) => throwaway.start_with(run, planes, leg.first.clone()).await?,
            (Some(mut cluster), _) => {
                // the leg before may have broken off in the middle of its change
                cluster.switch_to(&leg.first, &run.events).await?;
                let objects = cluster.create_namespace(&run.id, &declared, &namespace).await?;
                (cluster, objects)
            }
            // the cluster has the planes from the first leg on
            (None, None) => break,
        };
        stages += leg.scenario.stages.len();
        match walked(run, leg, &designs, (&cluster, objects), options, reached).await {
            Ok(held) => passed += held,
            Err(error) => {
                run.events.tell(error.event());
                broken = broken.or(Some(error));
            }
        }
        // what it has run makes room for the next
        cluster.delete_namespace(&namespace).await?;
        there = Some(cluster);
    }
    match broken {
        Some(error) => Err(error),
        None if passed == stages => Ok(Outcome { ending: Ending::Passed, passed, stages }),
        None => Ok(Outcome { ending: Ending::Failed, passed, stages }),
    }
}

/// Walks all stages of a leg; how many of them held.
async fn walked(
    run: &Run<'_>,
    leg: &Leg,
    designs: &Designs,
    (cluster, objects): (&ProvisionedCluster, Objects),
    options: &Options,
    reached: &AtomicUsize,
) -> Result<usize, WalkError> {
    run.events.tell(Event::Environment(cluster.environment().await));
    let scenario = &leg.scenario;
    let namespace = objects.namespace().to_owned();
    let mut venue = OpenNamespace::new(cluster, objects, &scenario.client, &run.events);
    let mut driver = venue.driver(options.driver);
    let mut walk = Walk::new(scenario, &mut venue, &namespace, run.events.clone());
    walk.comparing = true;
    walk.apply_client().await?;
    let mut held = 0;
    for (index, stage) in scenario.stages.iter().enumerate() {
        reached.store(index + 1, Ordering::Relaxed);
        held += usize::from(walk.stage(index + 1, stage, designs.of(index + 1), &mut driver).await?);
    }
    Ok(held)
}
