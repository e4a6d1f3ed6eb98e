use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::WalkError;
use super::during::{self, Found, Watched, watch_for};
use super::edit::edits;
use super::fingerprint::Picks;
use super::served::ServedRequests;
use super::transition::{Expected, Milestones, changes_mesh, is_watched};
use crate::cluster::wait::{Again, Awaited, Progress, Wait};
use crate::cluster::{Applied, ClusterError, PodState};
use crate::events::{
    Bound, Counters, Deployed, Event, Events, FailureLayer, Fingerprint, Judged, Routing, Subject, Tallied, Transition,
};
use crate::mesh::{Converged, MERGE_WINDOW, MeshError, Mismatch, TableReading, converge};
use crate::routing::{
    self, Action, Finding, Kind, Live, Mesh, Outbound, Request, Route, RouteTable, addressed, pods_of,
};
use crate::scenario::{Claim, Count, During, Expectation, Manifest, MeshStep, Origin, Scenario, Stage, Step};
use crate::traffic::{Driver, Next, Sample, SampleFlow, WatchOptions};
use crate::venue::{OpenVenue, Reading, ready_pods};
use crate::verdict::{Answer, Design, Ruling, Trial, Verdict};
use crate::verify::{Decided, Given, decide, naming};

/// The longest that the rollouts of a stage may take.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(180);
/// The longest that the sidecar may take to do what the manifests ask for.
const CONVERGENCE_LIMIT: Duration = Duration::from_secs(60);
/// The same in a walk that goes on without.
const COMPARED_LIMIT: Duration = Duration::from_secs(10);
/// How long a change waits for the first answer of the watch.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// How often deleted objects are looked for; they are of too many kinds to be watched.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(100);

/// The stages of a scenario, walked one after the other on one cluster.
pub(super) struct Walk<'a> {
    pub scenario: &'a Scenario,
    pub namespace: String,
    pub venue: &'a mut dyn OpenVenue,
    pub live: Live,
    pub events: Events,
    pub expected: Expected,
    /// What was applied for the client; it starts beside the first stage's objects.
    pub client_pod: Vec<Applied>,
    /// Whether it is walked to be compared with another: then a stage whose routes are not as they should be is judged all the same, and
    /// has a fingerprint.
    pub comparing: bool,
}

impl<'a> Walk<'a> {
    /// A walk that has applied nothing yet.
    pub fn new(scenario: &'a Scenario, venue: &'a mut dyn OpenVenue, namespace: &str, events: Events) -> Self {
        Self {
            scenario,
            venue,
            namespace: namespace.to_owned(),
            live: Live::new(&scenario.namespace, namespace),
            events,
            expected: Expected::new(scenario),
            client_pod: Vec::new(),
            comparing: false,
        }
    }

    /// Applies the objects of the client.
    pub async fn apply_client(&mut self) -> Result<(), ClusterError> {
        self.client_pod = self.apply(&self.scenario.client.manifests).await?;
        Ok(())
    }

    /// Walks one stage; whether everything in it held.
    pub async fn stage(
        &mut self,
        number: usize,
        stage: &Stage,
        designs: &[Design],
        driver: &mut Driver,
    ) -> Result<bool, WalkError> {
        let start = Instant::now();
        let edits = edits(&self.live, stage);
        self.events.tell(Event::Stage { number, name: stage.name.clone(), edits });
        let (during, mismatch) = self.change(number, stage, !designs.is_empty(), driver).await?;
        self.events.tell(Event::Deployed(self.deployed()));
        if let Some(environment) = self.venue.environment().await {
            self.events.tell(Event::Environment(environment));
        }
        let mut judged = Vec::new();
        if !designs.is_empty() {
            judged.extend(self.traffic(stage, designs, driver).await?);
        }
        if let Some(mismatch) = mismatch {
            judged.push(not_converged(mismatch.lines(), &stage.origin));
            self.events.tell(Event::Misrouted(mismatch.differences));
        }
        judged.extend(during);
        for expectation in &stage.expect {
            if let Expectation::NoObjects { origin } = expectation {
                judged.push(self.nothing_left(origin).await?);
            }
        }
        judged.extend(not_judged(stage, &judged));
        let passed = judged.iter().all(|judged| judged.verdict.ruling == Ruling::Pass);
        for judged in judged {
            self.events.tell(Event::Judged(judged));
        }
        self.events.tell(Event::StageDone { passed, took: start.elapsed() });
        Ok(passed)
    }

    /// Does what the stage does and waits until the client's sidecar does it, too, while the traffic is watched: what is claimed about that
    /// time, decided, and how the routes differ from those that the manifests ask for.
    async fn change(
        &mut self,
        number: usize,
        stage: &Stage,
        converging: bool,
        driver: &mut Driver,
    ) -> Result<(Vec<Judged>, Option<Mismatch>), WalkError> {
        if !is_watched(number, stage) {
            self.roll_out(stage).await?;
            let mismatch = if converging { self.settled().await?.1 } else { None };
            let unwatched = Watched::default();
            return Ok((during::claims(stage).map(|during| judge_during(during, &unwatched).0).collect(), mismatch));
        }
        let before = self.table().await?;
        let (scenario, watch) = (self.scenario, self.watch(stage));
        let (milestones, answering) = (Milestones::default(), Notify::new());
        let mut witness = self.expected.witness(number, scenario, watch);
        let changing = async {
            // the first answer may be long in coming, where there is none to be had
            let _ = tokio::time::timeout(FIRST_ANSWER, answering.notified()).await;
            let changed = async {
                self.roll_out_marking(stage, || milestones.set_applied()).await?;
                self.settled().await
            };
            let changed = changed.await;
            milestones.end(changed.is_ok());
            changed
        };
        let watching = driver.watch(scenario, watch, |answered| {
            answering.notify_one();
            witness.see(&answered, milestones.applied());
            match milestones.ended() {
                None => Next::Continue,
                Some(true) => witness.next(milestones.applied()),
                Some(false) => Next::StopAll,
            }
        });
        let (changed, watched) = tokio::join!(changing, watching);
        let (table, mut mismatch) = changed?;
        let watched = watched?;
        if self.expected.changes(number) && table == before && mismatch.is_none() {
            return Err(MeshError::Blind.into());
        }
        let answers = watched.tallies.iter().map(|tally| Tallied {
            from: self.scenario.populations[tally.flow].name.clone(),
            path: "/".to_owned(),
            answer: tally.answer.clone(),
            pod: tally.pod.clone(),
            count: tally.count,
        });
        let (seen, requests) = witness.end(milestones.applied());
        let (mut judged, mut bounds) = (Vec::new(), Vec::new());
        for during in during::claims(stage) {
            let (mut decided, excluded) = judge_during(during, &requests);
            if decided.verdict.ruling == Ruling::Fail {
                decided.hints = causes(&seen);
            }
            judged.push(decided);
            bounds.extend(excluded);
        }
        let transition = Transition { answers: answers.collect(), bounds, took: watched.took, ..seen };
        self.events.tell(Event::Changed(transition));
        if stage.steps.iter().any(|step| matches!(step, Step::Mesh(MeshStep::Restart))) {
            // the client's turn comes when nobody sends from it
            self.restart_client(driver).await?;
            mismatch = self.settled().await?.1;
        }
        Ok((judged, mismatch))
    }

    /// Waits for the client's routes to converge. In a run that is compared with another, routes that do not converge are returned with the
    /// mismatch; in any other run they are an error.
    async fn settled(&mut self) -> Result<(RouteTable, Option<Mismatch>), WalkError> {
        match self.converged().await {
            Ok(converged) => Ok((converged.table, None)),
            Err(WalkError::Mesh(MeshError::NotConverged { mismatch, .. })) if self.comparing => {
                Ok((self.table().await?, Some(mismatch)))
            }
            Err(error) => Err(error),
        }
    }

    /// Puts another client in the place of the one that is there.
    async fn restart_client(&mut self, driver: &mut Driver) -> Result<(), WalkError> {
        self.venue.end_client().await?;
        driver.reset();
        let applied = self.apply(&self.scenario.client.manifests).await?;
        Ok(self.venue.rolled_out(&applied, &[], ROLLOUT_LIMIT).await?)
    }

    /// How the change that a stage makes is watched.
    fn watch(&self, stage: &Stage) -> WatchOptions {
        let watches = self.venue.watches();
        if changes_mesh(stage) {
            watches.mesh
        } else {
            watch_for(stage, self.scenario, watches.objects, watches.claimed)
        }
    }

    /// How the client's requests are routed now.
    async fn table(&mut self) -> Result<RouteTable, MeshError> {
        let host = addressed(&self.scenario.service.host, &self.namespace);
        self.venue.table(&host, self.scenario.service.port).await
    }

    /// Does what the stage does to the cluster and waits for its rollouts.
    pub async fn roll_out(&mut self, stage: &Stage) -> Result<(), WalkError> {
        self.roll_out_marking(stage, || {}).await
    }

    /// The same; `applied_all` is called when the last object is applied or deleted.
    async fn roll_out_marking(&mut self, stage: &Stage, applied_all: impl FnOnce()) -> Result<(), WalkError> {
        let start = Instant::now();
        self.live.later();
        self.venue.later();
        let mut applied = std::mem::take(&mut self.client_pod);
        let mut deleted = Vec::new();
        let with_client = !applied.is_empty();
        for step in &stage.steps {
            match step {
                Step::Apply(manifests) => applied.extend(self.apply(manifests).await?),
                Step::Delete(targets) => {
                    for target in targets {
                        deleted.extend(self.venue.delete(target).await?);
                        self.live.delete(target);
                    }
                }
                Step::Mesh(step) => applied.extend(self.venue.change_mesh(step).await?),
            }
        }
        applied_all();
        self.venue.rolled_out(&applied, &deleted, ROLLOUT_LIMIT).await?;
        if with_client
            && !self.venue.pods().iter().any(|pod| pod.name == self.scenario.client.pod && pod.sidecar.is_some())
        {
            return Err(MeshError::NoSidecar { pod: self.scenario.client.pod.clone() }.into());
        }
        self.events.tell(Event::RolledOut { took: start.elapsed() });
        Ok(())
    }

    /// Applies these objects, in this order.
    pub async fn apply(&mut self, manifests: &[Manifest]) -> Result<Vec<Applied>, ClusterError> {
        let mut applied = Vec::new();
        for manifest in manifests {
            applied.push(self.venue.apply(manifest).await?);
            self.live.apply(manifest);
        }
        Ok(applied)
    }

    async fn traffic(
        &mut self,
        stage: &Stage,
        designs: &[Design],
        driver: &mut Driver,
    ) -> Result<Vec<Judged>, WalkError> {
        let counted = counted(stage);
        let mut servers: BTreeSet<String> = counted.keys().cloned().collect();
        if self.comparing {
            servers.extend(self.deployed().into_iter().map(|own| own.name));
        }
        let counters = self.counters().await;
        let before = self.served(&servers).await?;
        let (sample, trials, picks) = self.sample(designs, driver).await?;
        let after = self.served(&servers).await?;
        let between = |own| Some((own, ServedRequests::between(before.get(own)?, after.get(own)?, &sample.pods)));
        let served: BTreeMap<&String, ServedRequests> = servers.iter().filter_map(between).collect();
        if self.comparing {
            // where a counter was lost, nobody knows how many there were
            let told = self.scenario.served.is_some() && served.values().all(|own| own.lost.is_empty());
            let print = Fingerprint {
                sent: sample.requests,
                served: told.then(|| served.values().map(|own| own.at_least).sum()),
                ..self.fingerprint(counters, designs, &picks).await?
            };
            self.events.tell(Event::Fingerprinted(Box::new(print)));
        }
        let findings = self.mesh().outbound(self.as_client()).diagnose(&self.request());
        // the pods' own versions, as the manifests have them
        let model = Mesh::new(&self.live, pods_of(&self.live, &naming(self.scenario)));
        let outbound = model.outbound(self.as_client());
        let judge = |trial: &Trial| {
            let (claim, verdict) = (&trial.design().claim, trial.verdict());
            let (layer, hints) = match verdict.ruling {
                Ruling::Pass | Ruling::Inconclusive => (None, Vec::new()),
                Ruling::Fail => {
                    let (layer, hints) = blame(claim, trial, &findings, &outbound, self.scenario);
                    (Some(layer), hints)
                }
            };
            Judged {
                subject: Subject::Population { name: claim.from.clone(), path: claim.path.clone() },
                claim: claim.to_string(),
                verdict,
                hints,
                place: claim.origin.clone(),
                errors: Some(claim.errors),
                link: layer,
            }
        };
        let mut judged: Vec<Judged> = trials.iter().map(judge).collect();
        for (workload, (expected, place)) in counted {
            let served = served.get(&workload).cloned().unwrap_or_else(|| ServedRequests::unknown(&workload));
            judged.push(served.judge(&workload, expected, sample.requests, place));
        }
        Ok(judged)
    }

    /// What the client's sidecar has counted so far; none where nobody compares, or it does not count.
    async fn counters(&mut self) -> Option<Counters> {
        let sidecar = self.venue.sidecar().filter(|_| self.comparing)?;
        sidecar.counters().await.ok().filter(Counters::is_counting)
    }

    async fn fingerprint(
        &mut self,
        before: Option<Counters>,
        designs: &[Design],
        picks: &Picks,
    ) -> Result<Fingerprint, WalkError> {
        let host = addressed(&self.scenario.service.host, &self.namespace);
        let after = self.counters().await;
        let order = designs.iter().enumerate().filter_map(|(flow, design)| {
            Some(((design.claim.from.clone(), design.claim.path.clone()), picks.order(flow)?))
        });
        let mut print = Fingerprint {
            order: order.collect(),
            injection: self.venue.pods().into_iter().filter_map(|pod| pod.sidecar).collect(),
            ..Fingerprint::default()
        };
        if let Some(after) = after {
            let (connections, handshakes) = after.connections();
            print.secured = (connections > 0).then_some(handshakes > 0);
            print.counters = Some(&after - &before.unwrap_or_default());
        }
        if let Some(sidecar) = self.venue.sidecar() {
            print.configuration = sidecar.configuration(&host, self.scenario.service.port).await?;
        }
        Ok(print)
    }

    /// Waits until the client's sidecar does what the manifests ask for.
    pub async fn converged(&mut self) -> Result<Converged, WalkError> {
        let service = &self.scenario.service;
        let host = addressed(&service.host, &self.namespace);
        let (client, request) = (self.as_client(), self.request());
        let (live, namespace) = (&self.live, &self.namespace);
        let interval = self.venue.interval();
        let limit = if self.comparing { COMPARED_LIMIT } else { CONVERGENCE_LIMIT };
        let known = self.venue.endpoints().cloned();
        let settles = |table: &RouteTable| settling_time(known.as_ref(), table);
        let venue = &mut *self.venue;
        let look = async || {
            let table = venue.table(&host, service.port).await?;
            // pods come and go meanwhile
            let mesh = Mesh::new(live, ready_pods(venue.pods(), namespace));
            let expected = mesh.outbound(client.clone()).routes(&request).map(|routes| routes.table);
            Ok(TableReading { table, expected: expected.unwrap_or_default() })
        };
        let converged = match converge(interval, limit, settles, self.events.waiting(), look).await {
            Err(MeshError::NotConverged { seconds, mismatch }) => {
                let rejected = match self.venue.sidecar() {
                    Some(sidecar) => sidecar.rejected().await.unwrap_or_default(),
                    None => Vec::new(),
                };
                let mismatch = Mismatch { rejected, ..mismatch };
                return Err(MeshError::NotConverged { seconds, mismatch }.into());
            }
            other => other?,
        };
        if let Some(endpoints) = self.venue.endpoints() {
            endpoints.extend(converged.table.addresses().map(ToOwned::to_owned));
        }
        let routing = self.routing(&converged.table);
        self.events.tell(Event::Converged { took: converged.took, readings: converged.readings, routing });
        Ok(converged)
    }

    /// Sends until every claim is decided.
    async fn sample(&self, designs: &[Design], driver: &mut Driver) -> Result<(Sample, Vec<Trial>, Picks), WalkError> {
        let mut picks = Picks::default();
        let comparing = self.comparing;
        let mut trials: Vec<Trial> = designs.iter().cloned().map(Trial::new).collect();
        let wanted: Vec<SampleFlow<'_>> = designs
            .iter()
            .map(|design| SampleFlow {
                from: &design.claim.from,
                path: &design.claim.path,
                requests: design.allowed,
                least: design.least(),
            })
            .collect();
        let claims = designs.len();
        let (mut done, mut decided) = (0, 0);
        let mut told = Instant::now();
        let events = &self.events;
        let sample = driver
            .sample(self.scenario, &wanted, |answered| {
                if comparing {
                    picks.see(&answered);
                }
                let trial = &mut trials[answered.flow];
                let before = trial.ruling();
                let kind = trial.kind(answered.answer);
                let ruling = trial.observe(kind);
                done += 1;
                decided += usize::from(before.is_none() && ruling.is_some());
                // a line a response is more than a person reads
                if told.elapsed() > Duration::from_millis(100) {
                    told = Instant::now();
                    events.tell(Event::Sampling { done, decided, claims });
                }
                if ruling.is_some() { Next::Stop } else { Next::Continue }
            })
            .await?;
        let tallies = sample.tallies.iter().map(|tally| Tallied {
            from: wanted[tally.flow].from.to_owned(),
            path: wanted[tally.flow].path.to_owned(),
            answer: tally.answer.clone(),
            pod: tally.pod.clone(),
            count: tally.count,
        });
        self.events.tell(Event::Sampled {
            requests: sample.requests,
            rate: sample.rate(),
            latency: sample.latency(),
            tallies: tallies.collect(),
        });
        Ok((sample, trials, picks))
    }

    /// The counters of the pods of each of these Deployments, where their pods can be found by labels.
    async fn served(&self, workloads: &BTreeSet<String>) -> Result<BTreeMap<String, Reading>, WalkError> {
        let mut counters = BTreeMap::new();
        let Some(served) = &self.scenario.served else { return Ok(counters) };
        for workload in workloads {
            let Some(object) = self.live.get(Kind::Deployment, workload) else { continue };
            let labels = object.manifest.at("/spec/selector/matchLabels").cloned().unwrap_or_default();
            let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap_or_default();
            // no labels would select all pods of the namespace
            if labels.is_empty() {
                continue;
            }
            counters.insert(workload.clone(), self.venue.counters(&labels, served).await?);
        }
        Ok(counters)
    }

    async fn nothing_left(&self, place: &Origin) -> Result<Judged, WalkError> {
        let mut last = Ok(Vec::new());
        let limit = self.venue.removal_limit();
        let mut wait = Wait::new(Awaited::ObjectRemoval, limit, Again::Every(REMOVAL_INTERVAL), self.events.waiting());
        let waited = loop {
            let check = async {
                match self.venue.remaining().await {
                    Ok(remaining) if remaining.is_empty() => Progress::Done(()),
                    Ok(remaining) => {
                        let state = format!("left: {}", remaining.join(", "));
                        last = Ok(remaining);
                        Progress::NotYet(state)
                    }
                    Err(error) => {
                        let state = error.to_string();
                        last = Err(error);
                        Progress::NotYet(state)
                    }
                }
            };
            match wait.check(check).await {
                Ok(None) => {}
                Ok(Some(())) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let verdict = no_objects(waited.map_err(ClusterError::from), last)?;
        let layer = (verdict.ruling != Ruling::Pass).then_some(FailureLayer::Leftovers);
        Ok(Judged {
            subject: Subject::Objects,
            claim: "none".to_owned(),
            verdict,
            hints: Vec::new(),
            place: place.clone(),
            errors: None,
            link: layer,
        })
    }

    /// What the applied objects and the pods that are ready now come to.
    fn mesh(&self) -> Mesh {
        Mesh::new(&self.live, ready_pods(self.venue.pods(), &self.namespace))
    }

    /// The client as rules see it.
    fn as_client(&self) -> routing::Client {
        let pod = self.venue.pods().into_iter().find(|pod| pod.name == self.scenario.client.pod);
        let (labels, sidecar) = pod.map_or_else(Default::default, |pod| (pod.labels, pod.sidecar.is_some()));
        routing::Client { namespace: self.namespace.clone(), labels, sidecar }
    }

    /// How the client's requests are routed, for people.
    fn routing(&self, table: &RouteTable) -> Routing {
        let mesh = self.mesh();
        let outbound = mesh.outbound(self.as_client());
        let populations = self.scenario.populations.iter();
        let given = populations.map(|own| Given::to(own, &self.scenario.service, "/", &outbound));
        let rules: BTreeSet<String> = given.flat_map(|given| given.rules).map(|rule| rule.object.to_string()).collect();
        let splits = |route: &Route| matches!(&route.action, Action::Forward(forward) if forward.clusters.len() > 1);
        Routing {
            lines: table.lines(),
            rules: rules.into_iter().filter(|rule| !rule.starts_with("Service ")).collect(),
            shifting: table.routes.iter().any(splits),
            fault: table.routes.iter().any(|route| route.abort.is_some()),
        }
    }

    /// The workloads that are there, but for the client.
    fn deployed(&self) -> Vec<Deployed> {
        let pods = self.venue.pods();
        let mut deployed: Vec<Deployed> = Vec::new();
        for model in pods_of(&self.live, &naming(self.scenario)) {
            if model.namespace != self.namespace
                || model.name == self.scenario.client.pod
                || deployed.iter().any(|own| own.name == model.workload)
            {
                continue;
            }
            let own: Vec<&PodState> = pods
                .iter()
                .filter(|pod| model.labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
                .filter(|pod| pod.name.starts_with(&model.workload))
                .collect();
            deployed.push(Deployed {
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

    /// Some request to the service.
    fn request(&self) -> Request {
        Request::get(&self.scenario.service.host, self.scenario.service.port, "/")
    }
}

/// The layer that a failed claim points to, and hints that explain it.
fn blame(
    claim: &Claim,
    trial: &Trial,
    findings: &[Finding],
    outbound: &Outbound<'_>,
    scenario: &Scenario,
) -> (FailureLayer, Vec<String>) {
    let mut hints: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let given = scenario
        .population(&claim.from)
        .map(|own| Given::to(own, &scenario.service, &claim.path, outbound))
        .unwrap_or_default();
    let model = decide(claim, &given);
    if let Decided::Fails(_) = model
        && findings.is_empty()
    {
        let rules: Vec<String> = given.rules.iter().map(|rule| format!("{} ({})", rule.object, rule.origin)).collect();
        let by = if rules.is_empty() { "no rule".to_owned() } else { rules.join(" and ") };
        hints.push(format!("the manifests give {given} by {by}"));
    }
    let layer = match (findings, &model) {
        (findings, _) if findings.iter().any(Finding::is_of_endpoints) => FailureLayer::Endpoints,
        ([], Decided::Fails(_)) | ([_, ..], _) => FailureLayer::Route,
        ([], _) => match trial.most_excluded() {
            None => FailureLayer::Share,
            // what should not come at all, though the routes are right
            Some(Answer::Version { version, .. }) if claim.versions.get(version).is_none_or(|own| own.is_none()) => {
                FailureLayer::Delivery
            }
            Some(_) => FailureLayer::Application,
        },
    };
    (layer, hints)
}

fn counted(stage: &Stage) -> BTreeMap<String, (Count, Origin)> {
    stage
        .expect
        .iter()
        .filter_map(|expectation| match expectation {
            Expectation::Served { workload, requests, origin } => Some((workload.clone(), (*requests, origin.clone()))),
            _ => None,
        })
        .collect()
}

/// A claim about the time while a stage was applied, decided, and what the requests exclude.
fn judge_during(claim: &During, watched: &Watched) -> (Judged, Vec<Bound>) {
    let Found { ruling, reason, bounds } = during::judge(claim, watched);
    let judged = Judged {
        subject: Subject::Change,
        claim: claim.to_string(),
        verdict: Verdict::counted(ruling, watched.sightings.len() as u64, reason),
        hints: Vec::new(),
        place: claim.origin.clone(),
        errors: None,
        link: (ruling == Ruling::Fail).then_some(FailureLayer::Transition),
    };
    (judged, bounds)
}

/// What was answered instead of what the stage before or this one gives.
fn causes(transition: &Transition) -> Vec<String> {
    transition.errors.iter().map(|(answer, count)| format!("{count} of them were answered {answer}")).collect()
}

/// The expectations of a stage that nothing was judged of. There are none, unless the walk has a gap: then it does not pass.
fn not_judged(stage: &Stage, judged: &[Judged]) -> Vec<Judged> {
    let places = stage.expect.iter().map(|expectation| (expectation, expectation.origin()));
    let missing = places.filter(|(_, place)| !judged.iter().any(|judged| judged.place == **place));
    missing
        .map(|(expectation, place)| Judged {
            subject: match expectation {
                Expectation::Claim(claim) => Subject::Population { name: claim.from.clone(), path: claim.path.clone() },
                Expectation::Served { workload, .. } => Subject::Workload(workload.clone()),
                Expectation::During(_) => Subject::Change,
                Expectation::NoObjects { .. } => Subject::Objects,
            },
            claim: match expectation {
                Expectation::Claim(claim) => claim.to_string(),
                Expectation::Served { requests, .. } => format!("{requests} served"),
                Expectation::During(during) => during.to_string(),
                Expectation::NoObjects { .. } => "none".to_owned(),
            },
            verdict: Verdict::counted(Ruling::Inconclusive, 0, "this stage did not look at it".to_owned()),
            hints: Vec::new(),
            place: place.clone(),
            errors: None,
            link: None,
        })
        .collect()
}

/// The client's routes did not come to be what the manifests ask for: a failure of its own, whatever the answers were.
fn not_converged(hints: Vec<String>, stage: &Origin) -> Judged {
    Judged {
        subject: Subject::Routes,
        claim: "as the manifests ask for".to_owned(),
        verdict: Verdict::counted(Ruling::Fail, 0, "the client's sidecar routes otherwise".to_owned()),
        hints,
        place: stage.clone(),
        errors: None,
        link: Some(FailureLayer::Delivery),
    }
}

/// How long a table has to stay as expected: the workers of the client's sidecar may not use endpoints yet that are not among the `known` ones.
/// None are known where there is no sidecar.
fn settling_time(known: Option<&BTreeSet<String>>, table: &RouteTable) -> Duration {
    let is_new = |known: &BTreeSet<String>| table.addresses().any(|address| !known.contains(address));
    if known.is_some_and(is_new) { MERGE_WINDOW } else { Duration::ZERO }
}

/// The verdict on the claim that no object is left, from the end of the wait and what was listed last.
///
/// # Errors
/// The last list could not be had, or there was none: neither says what is left.
fn no_objects(
    waited: Result<(), ClusterError>,
    last: Result<Vec<String>, ClusterError>,
) -> Result<Verdict, ClusterError> {
    let Err(error) = waited else {
        return Ok(Verdict::counted(Ruling::Pass, 0, "nothing is left".to_owned()));
    };
    let left = last?;
    if left.is_empty() {
        Err(error)
    } else {
        Ok(Verdict::counted(Ruling::Fail, 0, format!("left: {}", left.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    use super::super::during::Sighting;
    use super::*;
    use crate::cluster::wait::WaitError;
    use crate::scenario::ErrorRates;

    #[test]
    fn what_cannot_be_listed_is_an_error_and_neither_nothing_nor_something_left() {
        let late = || {
            let (limit, last) = (Duration::from_secs(1), String::new());
            Err(ClusterError::from(WaitError::TimedOut { what: Awaited::ObjectRemoval, limit, last }))
        };
        let unread = || ClusterError::NoEngine("the list could not be had".to_owned());
        let said = |verdict: Verdict| (verdict.ruling, verdict.reason);
        let left = no_objects(late(), Ok(vec!["ConfigMap/settings".to_owned()])).unwrap();
        assert_eq!(said(left), (Ruling::Fail, "left: ConfigMap/settings".to_owned()));
        let error = no_objects(late(), Err(unread())).unwrap_err();
        assert_eq!(error.to_string(), unread().to_string());
        // the wait ended before anything was listed
        assert!(no_objects(late(), Ok(Vec::new())).unwrap_err().to_string().contains("took longer than 1 s"));
        // a list that could not be had at first and was empty in the end
        assert_eq!(no_objects(Ok(()), Err(unread())).unwrap().ruling, Ruling::Pass);
    }

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
    fn what_a_stage_does_not_look_at_is_not_passed() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let stage = &scenario.stages[2];
        let nothing = not_judged(stage, &[]);
        assert_eq!(nothing.len(), stage.expect.len());
        assert!(nothing.iter().all(|judged| judged.verdict.ruling == Ruling::Inconclusive));
        let Some(last) = nothing.last() else { panic!("it expects something") };
        assert_eq!((last.claim.as_str(), last.place.line), ("0 served", 42));
        let missing = not_judged(stage, &nothing[..3]);
        assert_eq!(missing.len(), 1);
        assert_eq!(missing[0].subject, Subject::Workload("hello-server-v2".to_owned()));
        assert!(not_judged(stage, &nothing).is_empty());
    }

    #[test]
    fn a_claim_about_a_change_that_nobody_watched_is_not_passed() {
        let (judged, bounds) = judge_during(&during(), &Watched::default());
        assert_eq!(judged.verdict.ruling, Ruling::Inconclusive);
        assert_eq!(bounds.iter().map(|bound| bound.requests).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn more_errors_during_a_change_than_are_claimed_fail_it() {
        let judged = |failed: usize| {
            let sighting =
                |n: usize| Sighting { population: 0, due: 1, sent: 1, at: 2, good: n >= failed, version: None };
            let watched = Watched { sightings: (0..9).map(sighting).collect(), ..Watched::default() };
            judge_during(&during(), &watched).0
        };
        // as many as are claimed, in too few requests to exclude a share of them
        assert_eq!(judged(1).verdict.ruling, Ruling::Inconclusive);
        let failed = judged(2);
        assert_eq!((failed.verdict.ruling, failed.link), (Ruling::Fail, Some(FailureLayer::Transition)));
        assert_eq!(failed.verdict.reason, "2 of 9 requests failed while the stage was applied");
        let errors = [("503".to_owned(), 1), ("no answer in time".to_owned(), 1)].into_iter().collect();
        let hints = causes(&Transition { requests: 9, errors, ..Transition::default() });
        assert_eq!(hints, ["1 of them were answered 503", "1 of them were answered no answer in time"]);
    }

    fn during() -> During {
        During {
            errors: Some(1),
            excludes: During::EXCLUDES,
            miss: ErrorRates::default().miss,
            gap: None,
            last_of: BTreeMap::new(),
            origin: Origin::new("scenario.yaml", 3, 9),
        }
    }
}
