use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Api;
use kube::api::DeleteParams;

use super::WalkError;
use super::designs::Designs;
use super::ground::{Ground, account_ready};
use super::run::{Ending, Options, Outcome, Run, started, supervised};
use super::site::{KubeSite, Site};
use super::stage::Walk;
use super::transition::Expected;
use crate::cluster::{ClusterError, IstioSet};
use crate::events::{Environment, Event, Events};
use crate::mesh::Planes;
use crate::routing::Live;
use crate::scenario::{ControlPlane, Scenario};
use crate::traffic::Driver;

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
    let run = Run::new(first.scenario.clone(), Designs::new(&first.scenario)?, options, events);
    let body = all(&run, legs);
    supervised(&run, body, cancelled).await
}

async fn all(run: &Run, Legs { sets, legs }: Legs) -> Result<Outcome, WalkError> {
    let mut planes = Some(Planes::new(sets, &run.options.cache));
    let mut ground: Option<Ground> = None;
    let mut broken = None;
    let (mut passed, mut stages) = (0, 0);
    for (index, leg) in legs.into_iter().enumerate() {
        let designs = Designs::new(&leg.scenario)?;
        let declared = leg.scenario.namespace.clone();
        let namespace = if index == 0 { declared.clone() } else { format!("{declared}-{}", index + 1) };
        run.events.tell(started(&run.id, &leg.scenario, &namespace, leg.name.clone(), Some(designs.totals())));
        let mut own = match (ground.take(), planes.take()) {
            (None, Some(planes)) => run.throwaway(planes, leg.first.clone()).await?,
            (Some(ground), _) => next(run, ground, &leg, &namespace).await?,
            // the planes lie in the ground from the first leg on
            (None, None) => break,
        };
        let mut walk = walk(run, &leg, &namespace, &mut own).await;
        stages += leg.scenario.stages.len();
        match stages_of(&mut walk, run, &leg, &designs).await {
            Ok(held) => passed += held,
            Err(error) => {
                run.events.tell(error.event());
                broken = broken.or(Some(error));
            }
        }
        if let Site::Kube(site) = walk.site {
            own.planes = site.planes;
        }
        // what it has run makes room for the next
        let namespaces: Api<Namespace> = Api::all(own.client.clone());
        namespaces
            .delete(&namespace, &DeleteParams::background())
            .await
            .map_err(ClusterError::api(format!("deleting the namespace `{namespace}`")))?;
        ground = Some(own);
    }
    match broken {
        Some(error) => Err(error),
        None if passed == stages => Ok(Outcome { ending: Ending::Passed, passed, stages }),
        None => Ok(Outcome { ending: Ending::Failed, passed, stages }),
    }
}

/// The ground of the leg before, with the control plane of this one and a namespace for it.
async fn next(run: &Run, mut ground: Ground, leg: &Leg, namespace: &str) -> Result<Ground, WalkError> {
    if let Some(planes) = &mut ground.planes {
        if planes.installed() != [leg.first.clone()] {
            // the leg before broke off in the middle of its change
            ground.istio = planes.install(&ground.client, &leg.first, None, run.events.waiting()).await?;
        }
        ground.istio = planes.istio(&leg.first)?;
    }
    ground.objects = ground.namespace_of(&run.id, &leg.scenario.namespace, namespace).await?;
    account_ready(&ground.client, namespace, run.events.waiting()).await?;
    Ok(ground)
}

async fn walk<'a>(run: &Run, leg: &'a Leg, namespace: &str, ground: &mut Ground) -> Walk<'a> {
    let scenario = &leg.scenario;
    let kubernetes = ground.client.apiserver_version().await.ok().map(|info| info.git_version);
    let istio = Some(ground.istio.version.clone());
    run.events.tell(Event::Environment(Environment { kubernetes, istio, ..Environment::default() }));
    let (client, objects, planes) = (ground.client.clone(), ground.objects.clone(), ground.planes.take());
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    Walk {
        scenario,
        site: Site::Kube(Box::new(KubeSite::new(client, namespace, objects, planes, &scenario.client.pod))),
        driver: Driver::new(pods, run.options.driver).program(&scenario.client.driver),
        namespace: namespace.to_owned(),
        live: Live::new(&scenario.namespace, namespace),
        events: run.events.clone(),
        expected: Expected::new(scenario),
        client_pod: Vec::new(),
        comparing: true,
    }
}

/// Walks all stages of a leg; how many of them held.
async fn stages_of(walk: &mut Walk<'_>, run: &Run, leg: &Leg, designs: &Designs) -> Result<usize, WalkError> {
    walk.client_pod = walk.apply(&leg.scenario.client.manifests).await?;
    let mut held = 0;
    for (index, stage) in leg.scenario.stages.iter().enumerate() {
        run.reach(index + 1);
        held += usize::from(walk.stage(index + 1, stage, designs.of(index + 1)).await?);
    }
    Ok(held)
}
