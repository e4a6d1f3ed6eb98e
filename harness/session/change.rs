use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::SessionError;
use super::judge::{Watched, causes, ended_at_once, judge_during};
use super::observe::{TransitionObserver, watch_for};
use super::reached::{Rules, live_rules};
use super::stage::{Mode, Session};
use crate::cluster::{Applied, ClusterError};
use crate::controller::ControlledObjects;
use crate::events::{ClientConvergence, Event, Judged, Routing, Tallied, Transition};
use crate::mesh::{
    Converged, EnvoyError, KUBE_PROXY, MERGE_WINDOW, MeshError, Mismatch, Polling, ReadTable, TableReading, converge,
};
use crate::plan::{PlannedStage, Snapshot, during_claims};
use crate::routing::{Action, Client, NotModelled, Request, Route, RouteTable, RoutingUnit, addressed};
use crate::scenario::{Manifest, MeshStep, Step};
use crate::traffic::{Driver, Next, WatchOptions};
use crate::venue::{OpenVenue, ready_pods};
use crate::verdict::Ruling;

/// The timeout of a stage's rollouts.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(180);
/// The timeout of convergence.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(60);
/// The timeout of convergence in a run that continues without it.
const COMPARED_LIMIT: Duration = Duration::from_secs(10);
/// How long a change waits for the first answer of the watch.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

impl<'a> Session<'a> {
    /// Applies a stage and waits until the client's sidecar has its routes, while traffic is watched. Returns the decided claims about that
    /// time, and the difference of the routes from those that the manifests ask for, if there is one.
    pub async fn change(
        &mut self,
        planned: &PlannedStage<'a>,
        converging: bool,
        driver: &mut Driver,
    ) -> Result<(Vec<Judged>, Option<Mismatch>), SessionError> {
        let stage = planned.stage;
        if self.mode == Mode::TryMutants || !planned.is_watched() {
            self.roll_out(planned).await?;
            let mismatch = if converging { self.settled().await?.mismatch } else { None };
            let unwatched = Watched::default();
            return Ok((during_claims(stage).map(|during| judge_during(during, &unwatched).0).collect(), mismatch));
        }
        let (judged, mut mismatch) = self.watched_change(planned, driver).await?;
        if stage.steps.iter().any(|step| matches!(step, Step::Mesh(MeshStep::Restart))) {
            // the client's turn comes when nobody sends from it
            self.restart_client(driver).await?;
            mismatch = self.settled().await?.mismatch;
        }
        Ok((judged, mismatch))
    }

    async fn watched_change(
        &mut self,
        planned: &PlannedStage<'a>,
        driver: &mut Driver,
    ) -> Result<(Vec<Judged>, Option<Mismatch>), SessionError> {
        let before = self.reader().read().await?.table;
        let (pods, scenario, watch) = (self.venue.pods(), self.plan.scenario, self.watch(planned));
        // when the last object was applied or deleted, and whether the change ended well
        let (applied, ended) = (OnceLock::new(), OnceLock::new());
        let (answering, begun, follower) = (Notify::new(), Instant::now(), self.follow(planned).await?);
        let mut observer = TransitionObserver::new(planned, watch, self.events.clone());
        let changing = async {
            // the first answer may be long in coming, where there is none to be had
            let _ = tokio::time::timeout(FIRST_ANSWER, answering.notified()).await;
            let changed = async {
                self.roll_out_marking(planned, &applied).await?;
                self.settled().await
            };
            let changed = changed.await;
            let _ = ended.set(changed.is_ok());
            changed
        };
        let watching = driver.watch(scenario, watch, |answered| {
            answering.notify_one();
            observer.see(&answered, applied.get().copied());
            match ended.get() {
                None => Next::Continue,
                Some(true) => observer.next(applied.get().copied()),
                Some(false) => Next::StopAll,
            }
        });
        let (changed, watched) = tokio::join!(changing, watching);
        let (settled, watched) = (changed?, watched?);
        if planned.shows_in_routes() && settled.as_expected && settled.table == before {
            return Err(MeshError::Blind.into());
        }
        let (start, (mut seen, requests)) = (observer.start(), observer.end(applied.get().copied()));
        self.record_writes(planned, &mut seen, (begun, start, watched.started)).await?;
        let way = Box::pin(self.judge_way(planned, follower, (begun, start), &requests));
        let (mut judged, mut bounds, unknown) = (way.await?, Vec::new(), planned.not_modelled());
        for during in during_claims(planned.stage) {
            let (mut decided, excluded) = judge_during(during, &requests);
            if decided.verdict.ruling == Ruling::Fail {
                decided.hints = causes(&seen, planned);
                let of_pods = planned.is_controlled() && !seen.errors.is_empty();
                decided.hints.extend(of_pods.then(|| ended_at_once(&pods, &self.venue.pods())).flatten());
            }
            if let Some(unknown) = &unknown
                && (self.venue.is_model() || decided.verdict.ruling == Ruling::Fail)
            {
                leave_change_undecided(&mut decided, unknown);
            }
            judged.push(decided);
            bounds.extend(excluded);
        }
        let answers = watched.tallies.into_iter().map(|tally| Tallied {
            from: scenario.populations[tally.flow].name.clone(),
            path: scenario.service.path.clone(),
            answer: tally.answer,
            pod: tally.pod,
            count: tally.count,
        });
        (seen.took, seen.goaways) = (watched.took, watched.goaways);
        self.events.tell(Event::Changed(Transition { answers: answers.collect(), bounds, ..seen }));
        Ok((judged, settled.mismatch))
    }

    /// Waits for the client's routes to converge. In a run that is compared with another, routes that do not converge are returned with the
    /// mismatch; in any other run they are an error.
    async fn settled(&mut self) -> Result<Settled, SessionError> {
        match self.converged().await {
            Ok(Converged { table, differences, .. }) => {
                let as_expected = differences.is_empty();
                if !as_expected {
                    self.events.tell(Event::Misrouted(differences));
                }
                Ok(Settled { table, as_expected, mismatch: None })
            }
            Err(SessionError::Mesh(MeshError::NotConverged { mismatch, .. })) if self.mode == Mode::Compare => {
                let table = self.reader().read().await?.table;
                Ok(Settled { table, as_expected: false, mismatch: Some(mismatch) })
            }
            Err(error) => Err(error),
        }
    }

    /// Replaces the client pod.
    async fn restart_client(&mut self, driver: &mut Driver) -> Result<(), SessionError> {
        self.venue.end_client().await?;
        driver.reset();
        let applied = self.apply(&self.plan.scenario.client.manifests).await?;
        Ok(self.venue.rolled_out(&applied, &[], ROLLOUT_LIMIT).await?)
    }

    /// How the change that a stage makes is watched.
    fn watch(&self, planned: &PlannedStage<'_>) -> WatchOptions {
        let watches = self.venue.watches();
        // at a lower rate, most errors of a controller would be missed: they last for some milliseconds; and pods are started under load
        if planned.changes_mesh() || planned.is_controlled() || planned.stage.growth.is_some() {
            watches.mesh
        } else {
            watch_for(planned.stage, self.plan.scenario, watches.objects, watches.claimed)
        }
    }

    /// Reads how the client's requests are routed now, and how the applied objects ask for it.
    fn reader(&mut self) -> RouteReader<'_, 'a> {
        let service = &self.plan.scenario.service;
        RouteReader {
            host: addressed(&service.host, self.namespace()),
            port: service.port,
            client: self.as_client(),
            request: self.snapshot.request(),
            snapshot: Arc::clone(&self.snapshot),
            controlled: self.reached.status.is_some().then(|| self.venue.controlled().cloned()).flatten(),
            rules: Rules::default(),
            venue: &mut *self.venue,
        }
    }

    /// Applies the objects of the client.
    pub async fn apply_client(&mut self) -> Result<(), ClusterError> {
        self.client_pod = self.apply(&self.plan.scenario.client.manifests).await?;
        Ok(())
    }

    /// Makes a stage's changes and waits for its rollouts.
    pub async fn roll_out(&mut self, planned: &PlannedStage<'a>) -> Result<(), SessionError> {
        self.roll_out_marking(planned, &OnceLock::new()).await
    }

    /// The same, and sets the time at which the last object was applied or deleted.
    async fn roll_out_marking(
        &mut self,
        planned: &PlannedStage<'a>,
        applied_all: &OnceLock<Instant>,
    ) -> Result<(), SessionError> {
        let start = Instant::now();
        self.snapshot = Arc::clone(&planned.after);
        self.venue.later();
        let mut applied = std::mem::take(&mut self.client_pod);
        let (mut deleted, mut mark) = (Vec::new(), self.mark(planned).await?);
        let with_client = !applied.is_empty();
        for step in &planned.stage.steps {
            match step {
                Step::Apply(manifest) => {
                    if self.needs_gates(manifest) {
                        self.venue.rolled_out(&applied, &deleted, ROLLOUT_LIMIT).await?;
                    }
                    let manifest = self.with_gates(manifest).await?;
                    applied.push(self.venue.apply(&manifest).await?);
                }
                Step::Gate(gate) => self.answer(gate),
                Step::Delete(target) => deleted.extend(self.venue.delete(target).await?),
                Step::Act(action) => mark = self.act(*action).await?,
                Step::Mesh(step) => applied.extend(self.venue.change_mesh(step).await?),
            }
        }
        if !planned.is_controlled() {
            let _ = applied_all.set(Instant::now());
        }
        self.venue.rolled_out(&applied, &deleted, ROLLOUT_LIMIT).await?;
        if let Some(growth) = &planned.stage.growth {
            let grown = self.venue.grown(growth).await?;
            self.events.tell(Event::Controlled(grown.join("; ")));
        }
        if planned.is_controlled() {
            self.reach(planned, &mark).await?;
            // a controller starts the pods first, and then moves the traffic
            let _ = applied_all.set(Instant::now());
        }
        if with_client {
            self.check_sidecars()?;
        }
        self.events.tell(Event::RolledOut(start.elapsed()));
        self.events.tell(Event::Deployed(self.deployed()));
        Ok(())
    }

    /// Refuses pods that send requests and have no sidecar although they should, or one although they should not.
    fn check_sidecars(&self) -> Result<(), MeshError> {
        let (client, namespace) = (&self.plan.scenario.client, self.namespace());
        let others = client.others.iter().map(|own| (&own.name, own.namespace(namespace), own.sidecar));
        for (pod, namespace, sidecar) in std::iter::once((&client.pod, namespace, true)).chain(others) {
            match (self.live_client(pod, namespace).sidecar, sidecar) {
                (false, true) => return Err(MeshError::NoSidecar { pod: pod.clone() }),
                (true, false) => return Err(MeshError::HasSidecar { pod: pod.clone() }),
                _ => {}
            }
        }
        Ok(())
    }

    /// Applies these objects, in this order.
    async fn apply(&mut self, manifests: &[Manifest]) -> Result<Vec<Applied>, ClusterError> {
        let mut applied = Vec::new();
        for manifest in manifests {
            applied.push(self.venue.apply(manifest).await?);
        }
        Ok(applied)
    }

    /// Waits until the client's sidecar has the routes that the manifests ask for.
    pub async fn converged(&mut self) -> Result<Converged, SessionError> {
        let limit = if self.mode == Mode::Compare { COMPARED_LIMIT } else { CONVERGENCE_LIMIT };
        let polling = Polling { interval: self.venue.interval(), limit };
        let known = self.venue.endpoints().cloned();
        let settles = |table: &RouteTable| settling_time(known.as_ref(), table);
        let events = self.events.clone();
        let mut reader = self.reader();
        let converged = converge(polling, settles, events.waiting(), &mut reader).await;
        (self.snapshot, self.reached.rules) = (reader.snapshot, reader.rules);
        let converged = match converged {
            Err(MeshError::NotConverged { who, seconds, mismatch }) => {
                let rejected = match self.venue.sidecar() {
                    Some(sidecar) => sidecar.rejected().await.unwrap_or_default(),
                    None => Vec::new(),
                };
                let mismatch = Mismatch { rejected, ..mismatch };
                return Err(MeshError::NotConverged { who, seconds, mismatch }.into());
            }
            other => other?,
        };
        if let Some(endpoints) = self.venue.endpoints() {
            endpoints.extend(converged.table.addresses().map(ToOwned::to_owned));
        }
        let mut routing = self.routing(&converged);
        let (start, mut readings) = (Instant::now(), converged.readings);
        let senders = self.senders_converged(polling).await?;
        if !senders.replicas.is_empty() {
            let own = ClientConvergence { pod: self.plan.scenario.client.pod.clone(), took: Duration::ZERO };
            let all = std::iter::once(own).chain(senders.replicas);
            let since = |own: ClientConvergence| ClientConvergence { took: converged.took + own.took, ..own };
            routing.clients = all.map(since).collect();
        }
        for (sender, converged) in senders.all {
            let Converged { table, differences, not_compared, .. } = converged;
            readings += converged.readings;
            routing.lines.extend(table.lines().into_iter().map(|line| format!("{sender}: {line}")));
            routing.not_compared.extend(not_compared);
            if !differences.is_empty() {
                self.events.tell(Event::Misrouted(differences));
            }
        }
        self.events.tell(Event::Converged { took: converged.took + start.elapsed(), readings, routing });
        Ok(converged)
    }

    /// How the client's requests are routed, for people.
    fn routing(&self, Converged { table, not_compared, .. }: &Converged) -> Routing {
        let mesh = self.mesh();
        let senders = self.senders(&mesh);
        let populations = self.plan.scenario.populations.iter();
        let path = &self.plan.scenario.service.path;
        let given = populations.map(|own| self.snapshot.given(own, path, &senders));
        let rules: BTreeSet<String> = given.flat_map(|given| given.rules).map(|rule| rule.object.to_string()).collect();
        let splits = |route: &Route| matches!(&route.action, Action::Forward(forward) if forward.clusters.len() > 1);
        Routing {
            lines: table.lines(),
            not_compared: not_compared.iter().cloned().collect(),
            rules: rules.into_iter().filter(|rule| !rule.starts_with("Service ")).collect(),
            traffic_shifting: table.routes.iter().any(splits),
            fault_injection: table.routes.iter().any(|route| route.abort.is_some()),
            clients: Vec::new(),
        }
    }
}

/// The client's routes after a change.
struct Settled {
    table: RouteTable,
    /// Whether all of them are as the manifests ask for.
    as_expected: bool,
    mismatch: Option<Mismatch>,
}

/// Reads the client's routes, and what the applied objects ask for.
struct RouteReader<'a, 'plan> {
    venue: &'a mut dyn OpenVenue,
    snapshot: Arc<Snapshot<'plan>>,
    /// The objects that a controller drives; none where no controller does.
    controlled: Option<ControlledObjects>,
    /// The rules that the controller had left when they were read last.
    rules: Rules,
    client: Client,
    request: Request,
    host: String,
    port: u16,
}

#[async_trait]
impl ReadTable for RouteReader<'_, '_> {
    async fn read(&mut self) -> Result<TableReading, MeshError> {
        let read = self.venue.table(&self.host, self.port).await;
        // pods come and go meanwhile, and a controller may write rules after it has reported a state
        let pods = ready_pods(self.venue.pods());
        if let Some(objects) = &self.controlled {
            self.rules = live_rules(objects).await?;
            self.snapshot = Arc::new(self.snapshot.observed(&self.rules, pods.clone()));
        }
        let mesh = self.snapshot.mesh_of(pods);
        let outbound = mesh.outbound(self.client.clone());
        let routes = outbound.routes(&self.request).ok();
        let uncompared = outbound.uncompared(&self.request, routes.as_ref());
        let table = match read {
            // what is not modelled can take the routes away or make them unreadable
            Err(MeshError::Unreadable { source, .. })
                if uncompared.everything && !matches!(source, EnvoyError::Json(_)) =>
            {
                RouteTable::default()
            }
            read => read?,
        };
        Ok(TableReading { table, expected: routes.map(|routes| routes.table).unwrap_or_default(), uncompared })
    }
}

/// How long a table has to stay as expected: the workers of the client's sidecar may not use endpoints yet that are not among the `known` ones,
/// and nodes may balance connections as before. None are known where there is no sidecar.
pub(super) fn settling_time(known: Option<&BTreeSet<String>>, table: &RouteTable) -> Duration {
    let Some(known) = known else { return Duration::ZERO };
    // a connection that no rule takes goes to the address that was called, and the node chooses the endpoint
    if table.unit == RoutingUnit::Connection && !table.routes.is_empty() {
        return KUBE_PROXY;
    }
    workers_settle(known, table)
}

/// How long a table has to stay as expected for the workers of a proxy to use endpoints that are not among the `known` ones.
pub(super) fn workers_settle(known: &BTreeSet<String>, table: &RouteTable) -> Duration {
    if table.addresses().any(|address| !known.contains(address)) { MERGE_WINDOW } else { Duration::ZERO }
}

/// Makes a claim about a change undecided, because the model does not know which answers are right.
fn leave_change_undecided(judged: &mut Judged, NotModelled { origin, field, .. }: &NotModelled) {
    let verdict = &mut judged.verdict;
    verdict.ruling = Ruling::Inconclusive;
    verdict.reason =
        format!("{}; which answers are right is not known, because {field} ({origin}) is not modelled", verdict.reason);
    (judged.hints, judged.layer) = (Vec::new(), None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing;

    #[test]
    fn only_endpoints_that_no_stage_has_waited_for_are_waited_for() {
        let set = |addresses: &[&str]| addresses.iter().map(|address| (*address).to_owned()).collect::<BTreeSet<_>>();
        let cluster = routing::Cluster { host: "svc-hello".to_owned(), port: 8080, subset: None };
        let behind = routing::Endpoints::Ready(set(&["10.0.0.1", "10.0.0.2"]));
        let table = RouteTable { clusters: [(cluster, behind)].into(), ..RouteTable::default() };
        assert_eq!(settling_time(Some(&set(&[])), &table), MERGE_WINDOW);
        assert_eq!(settling_time(Some(&set(&["10.0.0.1"])), &table), MERGE_WINDOW);
        assert_eq!(settling_time(Some(&set(&["10.0.0.1", "10.0.0.2", "10.0.0.3"])), &table), Duration::ZERO);
        assert_eq!(settling_time(None, &table), Duration::ZERO);
    }

    #[test]
    fn nodes_that_balance_connections_are_waited_for() {
        let cluster = routing::Cluster { host: "svc-hello".to_owned(), port: 8080, subset: None };
        let routes = vec![Route::all_to(cluster)];
        let table = RouteTable { unit: RoutingUnit::Connection, routes, ..RouteTable::default() };
        assert_eq!(settling_time(Some(&BTreeSet::new()), &table), KUBE_PROXY);
        assert_eq!(settling_time(None, &table), Duration::ZERO);
        assert_eq!(settling_time(Some(&BTreeSet::new()), &RouteTable::of_closed_port()), Duration::ZERO);
    }
}
