use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::SessionError;
use super::judge::{Declaration, Mover, Watched, judge_declared, judge_followed, micros};
use super::reached::{Rules, live_rules};
use super::stage::Session;
use crate::cluster::ClusterError;
use crate::controller::{ControlledObjects, ControllerError, Warning, last_warnings};
use crate::events::Judged;
use crate::plan::{Given, PlannedStage, RouteWeights};
use crate::routing::{Chance, Kind, Pod};
use crate::traffic::DriverStart;
use crate::venue::ready_pods;
use crate::verdict::Ruling;

/// How often the live rules are read, in addition to each change that a watch shows. A change within two reads is not seen.
const INTERVAL: Duration = Duration::from_millis(200);

/// Reads what the live rules declare, again and again, until it is dropped. Reads of the API server come after every earlier write, which a
/// watch may show later.
pub(super) struct DeclarationReader {
    read: Arc<Mutex<Vec<Declared>>>,
    /// The warnings that the controller had written before.
    warned: Vec<Warning>,
    _task: JoinSet<()>,
}

/// Rules and pods that several reads in a row have found.
#[derive(Debug, Clone)]
struct Declared {
    /// When the first of these reads ended.
    first_ended: Instant,
    /// When the last of these reads began.
    last_began: Instant,
    rules: Rules,
    pods: Vec<Pod>,
}

impl DeclarationReader {
    fn start(objects: ControlledObjects, warned: Vec<Warning>) -> Self {
        let read: Arc<Mutex<Vec<Declared>>> = Arc::default();
        let (log, mut task) = (Arc::clone(&read), JoinSet::new());
        task.spawn(async move {
            let mut changes = objects.changes();
            loop {
                let began = Instant::now();
                // without an answer, nothing is known of the time since the last one
                if let Ok((rules, pods)) = read_once(&objects).await {
                    take(&mut log.lock().unwrap_or_else(PoisonError::into_inner), began, rules, pods);
                }
                let _ = tokio::time::timeout(INTERVAL, changes.changed()).await;
            }
        });
        Self { read, warned, _task: task }
    }
}

async fn read_once(objects: &ControlledObjects) -> Result<(Rules, Vec<Pod>), ClusterError> {
    let (rules, pods) = tokio::try_join!(live_rules(objects), objects.pods())?;
    Ok((rules, ready_pods(pods)))
}

fn take(known: &mut Vec<Declared>, began: Instant, rules: Rules, pods: Vec<Pod>) {
    match known.last_mut().filter(|last| last.rules == rules && last.pods == pods) {
        Some(last) => last.last_began = began,
        None => known.push(Declared { first_ended: Instant::now(), last_began: began, rules, pods }),
    }
}

impl<'a> Session<'a> {
    /// Starts to read what the live rules declare, in a stage that follows a controller or an autoscaler.
    pub async fn follow(&self, planned: &PlannedStage<'a>) -> Result<Option<DeclarationReader>, SessionError> {
        let Some(origin) = planned.stage.followed() else { return Ok(None) };
        let objects = self.venue.controlled().ok_or_else(|| ControllerError::NoController(origin.clone()))?;
        let warned = match &self.plan.scenario.controller {
            Some(controlled) => objects.warnings(controlled).await,
            None => Vec::new(),
        };
        Ok(Some(DeclarationReader::start(objects.clone(), warned)))
    }

    /// What the controller has warned of since a stage has begun.
    async fn warned_since(&self, earlier: &[Warning]) -> Result<Vec<String>, SessionError> {
        let (controlled, objects) = self.controlled()?;
        let mut warnings = objects.warnings(controlled).await;
        warnings.retain(|own| !earlier.contains(own));
        Ok(last_warnings(warnings).into_iter().map(|own| format!("{controlled} has the warning `{own}`")).collect())
    }

    /// Judges the claims about what clients got since a time, and about what a controller has done by itself.
    pub async fn judge_way(
        &self,
        planned: &PlannedStage<'a>,
        reader: Option<DeclarationReader>,
        (begun, start): (Instant, Option<DriverStart>),
        watched: &Watched,
    ) -> Result<Vec<Judged>, SessionError> {
        let (Some(reader), Some(start)) = (reader, start) else { return Ok(Vec::new()) };
        let read = reader.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let declared: Vec<Declaration> = read.into_iter().map(|own| declaration(planned, own, start)).collect();
        let mover = if planned.stage.wait.is_some() { Mover::Controller } else { Mover::Nothing };
        let claims = planned.stage.declared().map(|claim| judge_declared(claim, &declared, mover, watched));
        let mut way = match &planned.stage.wait {
            None => None,
            Some(wait) => {
                let initial = declared.first().and_then(|own| own.weights);
                judge_followed(wait, initial, &self.written_weights(planned, begun)?)
            }
        };
        let claims: Vec<Judged> = claims.collect();
        if let Some(failed) = way.as_mut().filter(|own| own.verdict.ruling == Ruling::Fail) {
            failed.hints = self.warned_since(&reader.warned).await?;
        }
        Ok(claims.into_iter().chain(way).collect())
    }

    /// The weights that were written to the route since a time.
    fn written_weights(&self, planned: &PlannedStage<'a>, begun: Instant) -> Result<Vec<RouteWeights>, SessionError> {
        let mut weights = Vec::new();
        for write in self.controlled()?.1.writes_since(begun) {
            let Some(name) = write.object.strip_prefix("VirtualService/") else { continue };
            let rule = (Kind::VirtualService, name.to_owned(), serde_json::json!({"spec": write.spec}));
            weights.extend(planned.after.observed(&[rule], Vec::new()).weights());
        }
        Ok(weights)
    }
}

/// What rules and pods declare for each population.
fn declaration(planned: &PlannedStage<'_>, own: Declared, start: DriverStart) -> Declaration {
    let snapshot = planned.after.observed(&own.rules, own.pods);
    let (senders, path) = (snapshot.senders(), &snapshot.scenario.service.path);
    let shares =
        snapshot.scenario.populations.iter().map(|population| shares(snapshot.given(population, path, &senders)));
    Declaration {
        seen: micros(start.times(own.first_ended).1),
        until: micros(start.times(own.last_began).0),
        weights: snapshot.weights(),
        shares: shares.collect(),
    }
}

/// The share of each version, or why it is not known.
fn shares(given: Given) -> Result<std::collections::BTreeMap<String, Chance>, String> {
    if let Some(note) = given.not_modelled.first() {
        return Err(format!("{} ({}) is not modelled", note.field, note.origin));
    }
    let without = given.chance(|seen| seen.version.is_none());
    if without != Chance::NONE {
        return Err(format!("by the rules and pods, the mesh answers {without} of the requests: {given}"));
    }
    let mut shares = std::collections::BTreeMap::new();
    for (seen, chance) in given.seen {
        let share = shares.entry(seen.version.unwrap_or_default()).or_insert(Chance::NONE);
        *share = share.or(chance);
    }
    Ok(shares)
}
