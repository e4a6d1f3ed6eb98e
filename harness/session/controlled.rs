use std::sync::Arc;

use super::SessionError;
use super::reached::{Reached, live_rules};
use super::stage::Session;
use crate::controller::{ChangeMark, ControlledObjects, ControllerError};
use crate::events::{Event, Judged, Subject};
use crate::plan::PlannedStage;
use crate::scenario::{Action, Controlled};
use crate::venue::ready_pods;
use crate::verdict::Ruling;

impl<'a> Session<'a> {
    fn controlled(&self) -> Result<(&'a Controlled, &ControlledObjects), ControllerError> {
        let scenario = self.plan.scenario;
        let Some(controlled) = &scenario.controller else {
            return Err(ControllerError::NoController(scenario.version_origin.clone()));
        };
        let objects = self.venue.controlled();
        objects
            .map(|objects| (controlled, objects))
            .ok_or_else(|| ControllerError::NoController(controlled.origin.clone()))
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
            Some(wait) => objects.reached(controlled, wait, after, self.events.waiting()).await?,
            None => objects.status(controlled).await?,
        };
        self.events.tell(Event::Controlled(format!("{controlled}: {status}")));
        let rules = live_rules(objects).await?;
        let pods = ready_pods(self.venue.pods());
        self.snapshot = Arc::new(planned.after.observed(&rules, pods));
        self.reached = Reached { status: Some(status), rules };
        Ok(())
    }

    /// Leaves the claims of a sample undecided during which the controller has changed a rule.
    pub async fn leave_undecided_if_moved(&self, judged: &mut [Judged]) -> Result<(), SessionError> {
        let now = live_rules(self.controlled()?.1).await?;
        let moved = now.iter().find(|rule| !self.reached.rules.contains(rule));
        let Some((kind, name, _)) = moved else { return Ok(()) };
        for judged in
            judged.iter_mut().filter(|own| matches!(own.subject, Subject::Population { .. } | Subject::Workload(_)))
        {
            judged.verdict.ruling = Ruling::Inconclusive;
            judged.verdict.reason = format!("the controller changed {kind:?}/{name} while the sample was taken");
            (judged.hints, judged.layer) = (Vec::new(), None);
        }
        Ok(())
    }
}
