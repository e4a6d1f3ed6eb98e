use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::SessionError;
use super::reached::{Reached, live_rules};
use super::run::{Ending, Options, Outcome, Prepared};
use super::stage::{Mode, Session};
use crate::events::{Event, Events};
use crate::plan::{Designs, PlannedStage};
use crate::scenario::{Expectation, Scenario, Stage};
use crate::traffic::Driver;
use crate::venue::ready_pods;
use crate::verdict::Ruling;

/// Judges the claims of the stage at which the controlled object of a scenario is now. Nothing is applied: claims about changes, about counters
/// and about what is left are not judged.
///
/// # Errors
/// The scenario is wrong, no stage waits for the state of the object, or the environment failed.
pub async fn judge_reached(
    scenario: Scenario,
    options: Options,
    events: Events,
    cancelled: impl Future<Output = ()>,
) -> Result<Outcome, SessionError> {
    let prepared = Prepared::new(&scenario, &options, events)?;
    let body = async {
        let Prepared { run, designs, reached, .. } = &prepared;
        prepared.tell_started(None);
        let mut venue = run.open().await?;
        let plan = prepared.plan_on(&*venue);
        let mut driver = venue.driver(options.driver).await?;
        let mut session = Session::new(&plan, &mut *venue, run.events.clone(), Mode::Judge);
        let planned = session.find_stage().await?;
        reached.store(planned.number, Ordering::Relaxed);
        let ending = match session.judge_stage(planned, designs, &mut driver).await? {
            Ruling::Pass => Ending::Passed,
            Ruling::Inconclusive => Ending::Undecided,
            Ruling::Fail => Ending::Failed,
        };
        Ok(Outcome { ending, passed: usize::from(ending == Ending::Passed), stages: 1 })
    };
    let ended = prepared.ended(body, cancelled).await;
    prepared.close(ended).await
}

impl<'a> Session<'a> {
    /// The stage that waits for the state of the controlled object, the last if there are several. From then on, routes are expected as the
    /// live rules say.
    async fn find_stage(&mut self) -> Result<&'a PlannedStage<'a>, SessionError> {
        let (controlled, objects) = self.controlled()?;
        let (status, route) = objects.routed(controlled).await?;
        self.events.tell(Event::Controlled(format!("{controlled}: {status}")));
        let waits =
            |planned: &&PlannedStage<'_>| planned.stage.wait.as_ref().is_some_and(|wait| status.is_at(wait, route));
        let Some(planned) = self.plan.stages.iter().rfind(waits) else {
            let route = route.map(|route| format!("; weight {route} % in the route")).unwrap_or_default();
            let (origin, status) = (controlled.origin.clone(), format!("{controlled} is {status}{route}"));
            return Err(SessionError::NoStage { origin, status });
        };
        if decides_nothing(planned.stage) {
            let (origin, stage) = (planned.stage.origin.clone(), planned.stage.name.clone());
            return Err(SessionError::NothingToJudge { origin, stage });
        }
        let rules = live_rules(objects).await?;
        self.snapshot = Arc::new(planned.after.observed(&rules, ready_pods(self.venue.pods())));
        self.reached = Reached { status: Some(status), rules };
        Ok(planned)
    }

    async fn judge_stage(
        &mut self,
        planned: &PlannedStage<'a>,
        designs: &Designs,
        driver: &mut Driver,
    ) -> Result<Ruling, SessionError> {
        let (start, stage, designs) = (Instant::now(), planned.stage, designs.of(planned.number));
        self.events.tell(Event::Stage { number: planned.number, name: stage.name.clone(), edits: Vec::new() });
        if !designs.is_empty() {
            self.converged().await?;
        }
        let mut judged = self.sampled(planned, designs, driver).await?;
        judged.extend(self.controlled_claims(stage));
        self.conclude(judged, start).await
    }
}

/// Whether a stage has no claim that can be judged without a change.
fn decides_nothing(stage: &Stage) -> bool {
    let needs_a_change = |claim: &Expectation| {
        matches!(claim, Expectation::During(_) | Expectation::Declared(_) | Expectation::NoObjects(_))
    };
    stage.expect.iter().all(needs_a_change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_with_claims_about_changes_alone_has_nothing_to_judge() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let [first, .., last] = scenario.stages.as_slice() else { panic!("the canary has several stages") };
        assert_eq!((decides_nothing(first), decides_nothing(last)), (false, true));
    }
}
