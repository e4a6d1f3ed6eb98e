use super::SessionError;
use super::run::{Ending, Options, Outcome, Prepared, started};
use super::stage::{Mode, Session};
use crate::cluster::{IstioSet, Objects};
use crate::events::{Event, Events};
use crate::mesh::Planes;
use crate::plan::{Designs, Plan};
use crate::scenario::{ControlPlane, Scenario};
use crate::venue::{OpenNamespace, OpenVenue, ProvisionedCluster, Throwaway, VenueError};

/// A run that is compared with others.
#[derive(Debug, Clone)]
pub struct ComparedRun {
    /// Its name, for people.
    pub name: String,
    /// The control plane that it begins on.
    pub first: ControlPlane,
    /// The scenario, with the changes of the mesh between its stages.
    pub scenario: Scenario,
}

/// Runs that follow each other on one throwaway cluster, each in its own namespace.
#[derive(Debug, Clone)]
pub struct ComparedRuns {
    /// The image sets of the versions of Istio that they need.
    pub sets: Vec<IstioSet>,
    /// The runs.
    pub runs: Vec<ComparedRun>,
    /// Whether a controller may move the traffic: then no run skips stages.
    pub controlled: bool,
}

/// A compared run with its plan.
struct Planned<'a> {
    run: &'a ComparedRun,
    plan: &'a Plan<'a>,
    designs: &'a Designs,
}

/// Runs all of them, and removes everything. A claim that fails ends no run, and a run that cannot continue does not end the others: all that
/// can be compared is sent as events.
///
/// # Errors
/// A scenario is wrong, the cluster does not become ready, or a run could not continue; then with the first such run's reason, after all
/// others. Everything is removed then, too, unless it is to be kept.
///
/// # Panics
/// A panic of a session is passed on after everything is removed.
pub async fn run_compared(
    runs: ComparedRuns,
    options: Options,
    events: Events,
    cancelled: impl Future<Output = ()>,
) -> Result<Outcome, SessionError> {
    let Some(first) = runs.runs.first() else {
        return Ok(Outcome { ending: Ending::Passed, passed: 0, stages: 0 });
    };
    if !runs.controlled {
        SessionError::refuse_controlled(&first.scenario)?;
    }
    first.scenario.refuse_other_senders("a comparison of versions")?;
    let throwaway = options.venue.throwaway().ok_or(VenueError::NotThrowaway)?;
    let prepared = Prepared::new(&first.scenario, &options, events)?;
    let mut others = Vec::new();
    for (number, run) in (1..).zip(&runs.runs).skip(1) {
        let plan = Plan::of(&run.scenario, &format!("{}-{number}", run.scenario.namespace), Some(&run.first.version));
        let designs = Designs::new(&plan)?;
        others.push((plan, designs));
    }
    let others = others.iter().map(|(plan, designs)| (plan, designs));
    let plans = std::iter::once((&prepared.plan, &prepared.designs)).chain(others);
    let planned: Vec<_> =
        runs.runs.iter().zip(plans).map(|(run, (plan, designs))| Planned { run, plan, designs }).collect();
    let body = in_turn(&prepared, throwaway, &runs.sets, &planned);
    let ended = prepared.ended(body, cancelled).await;
    prepared.close(ended).await
}

async fn in_turn(
    prepared: &Prepared<'_>,
    throwaway: &Throwaway,
    sets: &[IstioSet],
    all: &[Planned<'_>],
) -> Result<Outcome, SessionError> {
    let run = &prepared.run;
    let mut there: Option<ProvisionedCluster> = None;
    let mut broken = None;
    let (mut passed, mut stages) = (0, 0);
    for planned in all {
        let Planned { run: ComparedRun { name, first, scenario }, plan, designs } = planned;
        run.events.tell(started(&run.id, plan, name.clone(), Some(designs.totals())));
        let (cluster, objects) = match there {
            None => throwaway.start_with(run, Planes::new(sets.to_vec(), &run.cache), first.clone()).await?,
            Some(mut cluster) => {
                // the run before may have ended in the middle of its change
                cluster.switch_to(first, &run.events).await?;
                let objects = cluster.create_namespace(&run.id, &scenario.namespace, plan.namespace()).await?;
                (cluster, objects)
            }
        };
        stages += plan.stages.len();
        match Box::pin(compared(prepared, planned, (&cluster, objects))).await {
            Ok(held) => passed += held,
            Err(error) => {
                run.events.tell(error.event());
                broken = broken.or(Some(error));
            }
        }
        // what has run makes room for the next
        cluster.delete_namespace(plan.namespace()).await?;
        there = Some(cluster);
    }
    match broken {
        Some(error) => Err(error),
        None if passed == stages => Ok(Outcome { ending: Ending::Passed, passed, stages }),
        None => Ok(Outcome { ending: Ending::Failed, passed, stages }),
    }
}

/// Runs all stages of one run, and returns how many held.
async fn compared(
    Prepared { run, options, reached, .. }: &Prepared<'_>,
    Planned { run: ComparedRun { first, .. }, plan, designs }: &Planned<'_>,
    (cluster, objects): (&ProvisionedCluster, Objects),
) -> Result<usize, SessionError> {
    run.events.tell(Event::Environment(cluster.environment().await));
    let mut venue = OpenNamespace::new(cluster, objects, plan.scenario, &run.events);
    let mut driver = venue.driver(options.driver).await?;
    let plan = plan.on(Some(&first.version));
    let mut session = Session::new(&plan, &mut venue, run.events.clone(), Mode::Compare);
    options.pause.begin_run(plan.scenario.stages.iter().map(|stage| stage.name.as_str()));
    session.pause = options.pause.clone();
    session.stages(designs, &mut driver, reached, |_, _| {}).await.map(|(held, _)| held)
}
