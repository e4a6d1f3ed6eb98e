use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::SessionError;
use super::judge::{judge_controlled, judge_objects, leave_undecided, not_converged, not_judged};
use super::pause::Pause;
use super::reached::Reached;
use super::routed::Routed;
use crate::cluster::wait::{Again, Awaited, Progress, Wait};
use crate::cluster::{Applied, PodState};
use crate::controller::Gates;
use crate::events::{Event, Events, Judged, Workload};
use crate::mesh::MeshError;
use crate::plan::{Designs, Plan, PlannedStage, Snapshot, StageDesigns};
use crate::routing::{self, Mesh};
use crate::scenario::{Expectation, Origin, Stage};
use crate::traffic::Driver;
use crate::venue::{Neighbours, OpenVenue, ready_pods};
use crate::verdict::Ruling;

/// How often deleted objects are looked for; they are of too many kinds to be watched.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(100);

/// What the stages of a plan are run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// To judge every claim, up to the first stage with a claim that fails.
    Judge,
    /// To compare them with another run: all stages are judged, also where routes do not converge, and fingerprinted.
    Compare,
    /// To try mutants: all stages are judged, and no traffic is sent while they are applied.
    TryMutants,
}

/// A plan in an open venue.
pub(super) struct Session<'a> {
    pub plan: &'a Plan<'a>,
    pub venue: &'a mut dyn OpenVenue,
    pub events: Events,
    pub mode: Mode,
    /// The stage after which the run waits.
    pub pause: Pause,
    /// The objects that are applied, or are being applied.
    pub snapshot: Arc<Snapshot<'a>>,
    /// What was applied for the client; it starts together with the first stage's objects.
    pub client_pod: Vec<Applied>,
    /// What a controller has made of the stage.
    pub reached: Reached,
    /// The answers to webhooks; none before they are needed.
    pub gates: Option<Gates>,
    /// The addresses of endpoints that gateways and the sidecars of other pods use, as far as stages have waited for them.
    pub sender_endpoints: BTreeMap<Routed, BTreeSet<String>>,
    /// The addresses of endpoints to which nodes balance the connections of pods without a sidecar, once a stage has waited for them.
    pub node_endpoints: BTreeSet<String>,
}

impl<'a> Session<'a> {
    /// A session that has applied nothing yet.
    pub fn new(plan: &'a Plan<'a>, venue: &'a mut dyn OpenVenue, events: Events, mode: Mode) -> Self {
        Self {
            snapshot: Arc::clone(plan.after(0)),
            plan,
            venue,
            events,
            mode,
            pause: Pause::default(),
            client_pod: Vec::new(),
            reached: Reached::default(),
            gates: None,
            sender_endpoints: BTreeMap::new(),
            node_endpoints: BTreeSet::new(),
        }
    }

    /// Runs the stages, and returns how many held and the ruling on all of them. `reached` is the number of stages that were begun; `done` is called with the
    /// position of each stage and whether everything in it held.
    pub async fn stages(
        &mut self,
        designs: &Designs,
        driver: &mut Driver,
        reached: &AtomicUsize,
        mut done: impl FnMut(usize, bool),
    ) -> Result<(usize, Ruling), SessionError> {
        self.apply_client().await?;
        let (mut held, mut all) = (0, Ruling::Pass);
        for planned in &self.plan.stages {
            reached.store(planned.number, Ordering::Relaxed);
            let ruling = match self.stage(planned, designs.of(planned.number), driver).await {
                // a client outside of the mesh is refused before anything is sent
                Err(SessionError::Mesh(MeshError::NoSidecar { .. })) if self.mode == Mode::TryMutants => Ruling::Fail,
                ruling => ruling?,
            };
            let passed = ruling == Ruling::Pass;
            all = all.max(ruling);
            done(planned.number, passed);
            held += usize::from(passed);
            if self.pause.begin(planned.number) {
                self.events.tell(Event::Paused(planned.number));
                self.pause.resumed().await;
                self.events.tell(Event::Resumed);
            }
            if !passed && self.mode == Mode::Judge {
                break;
            }
        }
        Ok((held, all))
    }

    /// Runs one stage and returns the ruling on everything in it.
    async fn stage(
        &mut self,
        planned: &PlannedStage<'a>,
        designs: &StageDesigns,
        driver: &mut Driver,
    ) -> Result<Ruling, SessionError> {
        let neighbours = if planned.stage.is_timed() { Neighbours::Excluded } else { Neighbours::Allowed };
        let _turn = self.venue.turn(neighbours).await;
        let (start, stage) = (Instant::now(), planned.stage);
        self.events.tell(Event::Stage { number: planned.number, name: stage.name.clone(), edits: planned.edits() });
        let (during, mismatch) = self.change(planned, !designs.is_empty(), driver).await?;
        self.events.tell(Event::Deployed(self.deployed()));
        if let Some(environment) = self.venue.environment().await {
            self.events.tell(Event::Environment(environment));
        }
        let mut judged = self.sampled(planned, designs, driver).await?;
        if let Some(mismatch) = mismatch {
            judged.push(not_converged(mismatch.lines(), &stage.origin));
            self.events.tell(Event::Misrouted(mismatch.differences));
        }
        judged.extend(during);
        judged.extend(self.controlled_claims(stage));
        for expectation in &stage.expect {
            if let Expectation::NoObjects(origin) = expectation {
                judged.push(self.nothing_left(origin).await?);
            }
        }
        judged.extend(not_judged(stage, &judged));
        self.conclude(judged, start).await
    }

    /// Takes the sample of a stage, if it claims something about requests, and judges the claims.
    pub async fn sampled(
        &mut self,
        planned: &PlannedStage<'a>,
        designs: &StageDesigns,
        driver: &mut Driver,
    ) -> Result<Vec<Judged>, SessionError> {
        if designs.is_empty() {
            return Ok(Vec::new());
        }
        let mut judged = self.traffic(planned.stage, designs, driver).await?;
        if planned.is_controlled() {
            self.leave_undecided_if_moved(planned, &mut judged).await?;
        }
        if self.venue.is_model() {
            leave_undecided(&mut judged, &self.snapshot);
        }
        Ok(judged)
    }

    /// The claims about what a controller has written and what it reports.
    pub fn controlled_claims(&self, stage: &Stage) -> Vec<Judged> {
        let reported = self.reached.status.as_ref().and_then(|status| status.weight);
        judge_controlled(stage, self.snapshot.weights(), reported)
    }

    /// Sends the claims of a stage that began at `start`, and returns the ruling on all of them.
    pub async fn conclude(&self, mut judged: Vec<Judged>, start: Instant) -> Result<Ruling, SessionError> {
        if judged.iter().any(|judged| judged.verdict.ruling == Ruling::Fail) {
            let mut foreign = self.venue.foreign_changes().await;
            if let Some(controlled) = &self.plan.scenario.controller {
                let own = format!(" was changed by {}", controlled.kind.field_manager());
                foreign.retain(|change| !change.ends_with(&own));
            }
            for judged in judged.iter_mut().filter(|judged| judged.verdict.ruling == Ruling::Fail) {
                judged.hints.splice(0..0, foreign.iter().cloned());
            }
        }
        let ruling = judged.iter().map(|judged| judged.verdict.ruling).max().unwrap_or(Ruling::Pass);
        for judged in judged {
            self.events.tell(Event::Judged(judged));
        }
        self.events.tell(Event::StageDone { passed: ruling == Ruling::Pass, took: start.elapsed() });
        Ok(ruling)
    }

    async fn nothing_left(&self, place: &Origin) -> Result<Judged, SessionError> {
        let mut last = Ok(Vec::new());
        let limit = self.venue.removal_limit();
        let mut wait = Wait::new(Awaited::ObjectRemoval, limit, Again::Every(REMOVAL_INTERVAL), self.events.waiting());
        let waited = loop {
            let check = async {
                last = self.venue.remaining().await;
                match &last {
                    Ok(remaining) if remaining.is_empty() => Progress::Done(()),
                    Ok(remaining) => Progress::NotYet(format!("left: {}", remaining.join(", "))),
                    Err(error) => Progress::NotYet(error.to_string()),
                }
            };
            match wait.check(check).await {
                Ok(None) => {}
                Ok(Some(())) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
        };
        Ok(judge_objects(waited, last, place)?)
    }

    /// The namespace, as it is in the venue.
    pub fn namespace(&self) -> &'a str {
        self.plan.namespace()
    }

    /// What the applied objects mean to Istio with the pods that are ready now.
    pub fn mesh(&self) -> Mesh {
        self.snapshot.mesh_of(ready_pods(self.venue.pods()))
    }

    /// The client as rules see it.
    pub fn as_client(&self) -> routing::Client {
        self.live_client(&self.plan.scenario.client.pod, self.namespace())
    }

    /// A pod that sends requests, as rules see it.
    pub fn live_client(&self, name: &str, namespace: &str) -> routing::Client {
        let pod = self.venue.pods().into_iter().find(|pod| pod.name == name && pod.namespace == namespace);
        let told = |pod: PodState| (pod.labels, pod.sidecar.is_some(), pod.placement);
        let (labels, sidecar, placement) = pod.map_or_else(Default::default, told);
        routing::Client { namespace: namespace.to_owned(), labels, sidecar, placement }
    }

    /// The workloads of the namespace, without the client.
    pub fn deployed(&self) -> Vec<Workload> {
        let pods = self.venue.pods();
        let mut deployed: Vec<Workload> = Vec::new();
        for model in self.snapshot.pods() {
            if model.namespace != self.namespace()
                || self.plan.scenario.client.is_driver(&model.name)
                || deployed.iter().any(|own| own.name == model.workload)
            {
                continue;
            }
            let own: Vec<&PodState> = pods
                .iter()
                .filter(|pod| model.labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
                .filter(|pod| pod.name.starts_with(&model.workload) && pod.namespace == model.namespace)
                .collect();
            deployed.push(Workload {
                name: model.workload,
                version: model.version,
                image: model.image,
                ready: own.iter().filter(|pod| pod.ready).count(),
                sidecar: own.iter().all(|pod| pod.sidecar.is_some()),
                pods: own.iter().map(|pod| pod.name.clone()).collect(),
            });
        }
        deployed
    }
}
