use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SessionError;
use super::reached::{Reached, live_rules};
use super::stage::Session;
use crate::cluster::ClusterError;
use crate::cluster::wait::WaitError;
use crate::controller::{ChangeMark, ControlledObjects, ControllerError, ObservedWrite};
use crate::events::{Event, Judged, StepTimes, Subject, Transition, Write};
use crate::plan::PlannedStage;
use crate::routing::addressed;
use crate::scenario::{Action, Canary, Controlled, ControllerKind, Gate, Manifest, Scenario, Step};
use crate::traffic::DriverStart;
use crate::venue::ready_pods;
use crate::verdict::Ruling;

impl<'a> Session<'a> {
    pub fn controlled(&self) -> Result<(&'a Controlled, &ControlledObjects), ControllerError> {
        let scenario = self.plan.scenario;
        let Some(controlled) = &scenario.controller else {
            return Err(ControllerError::NoController(scenario.version_origin.clone()));
        };
        let objects = self.venue.controlled();
        objects
            .map(|objects| (controlled, objects))
            .ok_or_else(|| ControllerError::NoController(controlled.origin.clone()))
    }

    /// The mark of the change that a stage makes to the pods of a Rollout or to the workload of a Canary, before the change; an empty mark for other stages.
    pub async fn mark(&self, planned: &PlannedStage<'a>) -> Result<ChangeMark, ControllerError> {
        if !changes_target(planned, self.plan.scenario) {
            return Ok(ChangeMark::default());
        }
        let (controlled, objects) = self.controlled()?;
        objects.mark(controlled).await
    }

    /// The manifest to apply: a Canary asks this run the webhooks that stages answer, from the first time on that it is applied.
    pub async fn with_gates(&mut self, manifest: &Arc<Manifest>) -> Result<Arc<Manifest>, ControllerError> {
        let scenario = self.plan.scenario;
        let names = gates(scenario);
        if names.is_empty() || !scenario.controller.as_ref().is_some_and(|controlled| controlled.is(manifest)) {
            return Ok(Arc::clone(manifest));
        }
        if self.gates.is_none() {
            let (_, objects) = self.controlled()?;
            self.gates = Some(objects.gates(&scenario.client, manifest, &names).await?);
        }
        Ok(self.gates.as_ref().map_or_else(|| Arc::clone(manifest), |gates| Arc::new(gates.redirected(manifest))))
    }

    /// Whether the webhooks of an object have to be answered from now on, which takes the client pod.
    pub fn needs_gates(&self, manifest: &Manifest) -> bool {
        let scenario = self.plan.scenario;
        let is_controlled = scenario.controller.as_ref().is_some_and(|controlled| controlled.is(manifest));
        self.gates.is_none() && is_controlled && !gates(scenario).is_empty()
    }

    /// Answers a webhook as a stage says, until the state that the stage waits for is reached.
    pub fn answer(&self, gate: &Gate) {
        if let Some(gates) = &self.gates {
            gates.set(gate);
        }
    }

    /// Has the controller act on its object.
    pub async fn act(&self, action: Action) -> Result<ChangeMark, ControllerError> {
        let (controlled, objects) = self.controlled()?;
        objects.act(controlled, action).await
    }

    /// Waits until the controller has brought its object to the state that a stage waits for. From then on, routes are expected as the live
    /// rules say.
    pub async fn reach(&mut self, planned: &PlannedStage<'a>, after: &ChangeMark) -> Result<(), SessionError> {
        let (controlled, objects) = self.controlled()?;
        let status = match &planned.stage.wait {
            Some(wait) => {
                let reached = objects.reached(controlled, wait, after, self.events.waiting()).await;
                reached.map_err(|error| self.explained(error))?
            }
            None => objects.status(controlled).await?,
        };
        if let Some(gates) = &self.gates {
            gates.reset();
        }
        self.events.tell(Event::Controlled(format!("{controlled}: {status}")));
        let rules = live_rules(objects).await?;
        let pods = ready_pods(self.venue.pods());
        self.snapshot = Arc::new(planned.after.observed(&rules, pods));
        self.reached = Reached { status: Some(status), rules };
        Ok(())
    }

    /// The error of a wait for a controller, with the answers to its webhooks.
    fn explained(&self, mut error: WaitError) -> ClusterError {
        if let Some(gates) = &self.gates {
            error.add(&gates.to_string());
        }
        error.into()
    }

    /// Records what was written since a stage of a controller has begun, and when its step took effect. The driver's clock has started by our
    /// clock, and by that of its machine.
    pub async fn record_writes(
        &mut self,
        planned: &PlannedStage<'a>,
        transition: &mut Transition,
        (begun, start, started): (Instant, Option<DriverStart>, Duration),
    ) -> Result<(), SessionError> {
        let Some(start) = start.filter(|_| planned.is_controlled()) else { return Ok(()) };
        let (controlled, objects) = self.controlled()?;
        let kind = controlled.group_and_kind().1;
        let write =
            |own: ObservedWrite| Write { at: start.times(own.seen).1, object: own.object, changes: own.changes };
        transition.writes = objects.writes_since(begun).into_iter().map(write).collect();
        let service = &self.plan.scenario.service;
        let host = addressed(&service.host, self.namespace());
        let updated = match self.venue.sidecar() {
            Some(sidecar) => sidecar.updated(&host, service.port).await?,
            None => None,
        };
        let state = self.reached.status.as_ref().map(ToString::to_string);
        let last = |kind: &str, is_it: &dyn Fn(&Write) -> bool| {
            transition.writes.iter().rev().find(|own| own.kind() == kind && is_it(own)).map(|own| own.at)
        };
        transition.step_times = Some(StepTimes {
            status: last(kind, &|own| own.changes.last() == state.as_ref()),
            route: last("VirtualService", &|_| true),
            // routes that this stage has not changed are older than its traffic
            sidecar: updated.and_then(|updated| updated.checked_sub(started)),
            answered: transition.shifts.iter().filter_map(|shift| shift.first_new).min(),
        });
        Ok(())
    }

    /// Leaves the claims of a sample undecided during which the controller has changed a rule, unless the rules give the population the same
    /// as before.
    pub async fn leave_undecided_if_moved(
        &self,
        planned: &PlannedStage<'a>,
        judged: &mut [Judged],
    ) -> Result<(), SessionError> {
        let now = live_rules(self.controlled()?.1).await?;
        let moved = now.iter().find(|rule| !self.reached.rules.contains(rule));
        let Some((kind, name, _)) = moved else { return Ok(()) };
        let later = planned.after.observed(&now, ready_pods(self.venue.pods()));
        let is_moved = |judged: &&mut Judged| match &judged.subject {
            Subject::Population { name, path } => self.plan.scenario.population(name).is_none_or(|population| {
                let [before, after] =
                    [&*self.snapshot, &later].map(|snapshot| snapshot.given(population, path, &snapshot.senders()));
                !before.is_known_to_answer_as(&after)
            }),
            Subject::Workload(_) => true,
            _ => false,
        };
        for judged in judged.iter_mut().filter(is_moved) {
            judged.verdict.ruling = Ruling::Inconclusive;
            judged.verdict.reason = format!("the controller changed {kind:?}/{name} while the sample was taken");
            (judged.hints, judged.layer) = (Vec::new(), None);
        }
        Ok(())
    }
}

/// The names of the webhooks that stages answer.
fn gates(scenario: &Scenario) -> Vec<&str> {
    let steps = scenario.stages.iter().flat_map(|stage| &stage.steps);
    let gates = steps.filter_map(|step| if let Step::Gate(gate) = step { Some(gate.name.as_str()) } else { None });
    gates.collect()
}

/// Whether a stage changes the pods of a Rollout, or of the workload of a Canary.
fn changes_target(planned: &PlannedStage<'_>, scenario: &Scenario) -> bool {
    let Some(controlled) = &scenario.controller else { return false };
    let target = match controlled.kind {
        ControllerKind::ArgoRollouts => controlled.to_string(),
        ControllerKind::Flagger => {
            let applied = planned.after.live.all().map(|object| &object.manifest);
            let canary = applied.into_iter().find(|manifest| controlled.is(manifest));
            let name = canary.map(|canary| Canary::new(&canary.object.data).target().to_owned()).unwrap_or_default();
            format!("Deployment/{name}")
        }
    };
    planned.edits().into_iter().any(|edit| {
        let template =
            |manifest: &Option<Manifest>| manifest.as_ref().and_then(|own| own.at("/spec/template").cloned());
        edit.object == target && template(&edit.before) != template(&edit.after)
    })
}
