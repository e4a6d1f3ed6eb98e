//! The variants on a real mesh: one cluster, and as many namespaces as two cores start in a minute; in each, one variant follows the other.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use kube::Api;
use shiftcheck::cluster::wait::{Again, Awaited, Progress, until};
use shiftcheck::cluster::{ClusterError, Docker, Objects, RunId, RunRecord, RunRecords, Workloads, default_cache};
use shiftcheck::mesh::{IstioChoice, Look, Planes, Sidecar, converge};
use shiftcheck::routing::{self, Behind, Chance, Live, Mesh, Outcome, Request, addressed, client_of, pods_of};
use shiftcheck::scenario::{Manifest, Target};
use shiftcheck::traffic::{Answered, Driver, DriverOptions, Next};
use shiftcheck::verdict::Answer;
use shiftcheck::walk::{Events, Ground, Setting};
use shiftcheck::workload::{DrivePlan, Flow, VersionSource};

use super::naming;
use super::table::{HOST, PORT, Table, Variant};

/// How many namespaces the variants share.
const SLOTS: usize = 6;
pub const CLIENT: &str = "client";
const ROLLOUT: Duration = Duration::from_secs(180);
const INTERVAL: Duration = Duration::from_millis(50);
const CONVERGENCE: Duration = Duration::from_secs(60);
/// The requests of a kind where only one outcome is possible, and where several are.
const FEW: u64 = 24;
const MANY: u64 = 400;
/// The chance with which a right share is refused.
const FALSE_ALARM: f64 = 1e-9;

/// Runs all variants; every difference in words.
pub async fn differences(table: &Table) -> Vec<String> {
    let cache = default_cache();
    let record = RunRecord::own(RunId::fresh(), None, &default_cache());
    let (events, _stream) = Events::channel();
    let run = AssertUnwindSafe(async {
        let (planes, first) = Planes::only(&IstioChoice::default(), &cache).await.unwrap();
        let setting = Setting {
            cache: &cache,
            binary: Path::new(env!("CARGO_BIN_EXE_shiftcheck")),
            node: None,
            planes,
            first,
            snapshotter: "overlayfs",
            gateway_api: true,
        };
        let start = Instant::now();
        let ground = Ground::raise(setting, &record, "differential", start, &events).await.unwrap();
        // a variant whose pods are its own has a namespace of its own; the others follow each other in a few
        let (own, shared): (Vec<_>, Vec<_>) = table.variants.iter().partition(|variant| variant.changes_pods());
        let mut lots: Vec<Vec<&Variant>> = own.into_iter().map(|variant| vec![variant]).collect();
        let first = lots.len();
        lots.extend((0..SLOTS).map(|_| Vec::new()));
        for (index, variant) in shared.into_iter().enumerate() {
            lots[first + index % SLOTS].push(variant);
        }
        let lots = lots.iter().enumerate().map(|(number, lot)| one_lot(&ground, &record.id, number, lot, table));
        join_all(lots).await.concat()
    });
    let outcome = run.catch_unwind().await;
    Docker::connect().await.unwrap().remove_run(&record.id).await.unwrap();
    RunRecords::new(&cache).remove(&record.id).unwrap();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn one_lot(ground: &Ground, run: &RunId, number: usize, lot: &[&Variant], table: &Table) -> Vec<String> {
    let mut slot = Slot::new(ground, run, &format!("diff-{number}"), lot[0]).await;
    let mut differences = Vec::new();
    for variant in lot {
        let own = slot.compare(variant, table).await;
        differences.extend(own.into_iter().map(|difference| format!("{}: {difference}", variant.name)));
    }
    differences
}

/// A namespace, and another beside it, in which variants follow each other.
struct Slot {
    namespace: String,
    other: String,
    objects: Objects,
    other_objects: Objects,
    there: Vec<Manifest>,
    live: Live,
    workloads: Workloads,
    sidecar: Sidecar,
    driver: Driver,
}

impl Slot {
    async fn new(ground: &Ground, run: &RunId, namespace: &str, first: &Variant) -> Self {
        let other = format!("{namespace}-other");
        let pods: Api<_> = Api::namespaced(ground.client.clone(), namespace);
        let options = DriverOptions { keep_alive: !first.connections, ..DriverOptions::default() };
        Self {
            objects: ground.namespace_of(run, namespace, namespace).await.unwrap(),
            other_objects: ground.namespace_of(run, &other, &other).await.unwrap(),
            there: Vec::new(),
            live: Live::new(namespace, namespace),
            workloads: Workloads::watch(&ground.client, namespace),
            sidecar: Sidecar::new(pods.clone(), CLIENT.to_owned()),
            driver: Driver::new(pods, options),
            namespace: namespace.to_owned(),
            other,
        }
    }

    /// Makes the namespace hold the objects of a variant and nothing else.
    async fn hold(&mut self, variant: &Variant) -> Result<(), ClusterError> {
        let mut wanted = variant.manifests(&self.namespace, &self.other);
        // rules before pods, so that sidecars start with them
        wanted.sort_by_key(|manifest| matches!(manifest.kind(), "Deployment" | "Pod"));
        let same = |left: &Manifest, right: &Manifest| {
            left.id() == right.id() && left.object.metadata.namespace == right.object.metadata.namespace
        };
        let mut deleted = Vec::new();
        for old in self.there.iter().filter(|old| !wanted.iter().any(|wanted| same(wanted, old))) {
            let target = Target::of(old, old.origin.clone());
            let elsewhere = old.object.metadata.namespace.is_some();
            let objects = if elsewhere { &mut self.other_objects } else { &mut self.objects };
            deleted.push(objects.delete(&target).await?);
        }
        let mut applied = Vec::new();
        for manifest in &wanted {
            let changed = !self.there.iter().any(|old| same(old, manifest) && old.object.data == manifest.object.data);
            if changed {
                let elsewhere = manifest.object.metadata.namespace.is_some();
                applied
                    .push(if elsewhere { &mut self.other_objects } else { &mut self.objects }.apply(manifest).await?);
            }
        }
        self.live = variant.live(&self.namespace, &self.other);
        self.there = wanted;
        self.workloads.rolled_out(&applied, &deleted, ROLLOUT, |_| {}).await
    }

    /// What the mesh does otherwise than the model.
    async fn compare(&mut self, variant: &Variant, table: &Table) -> Vec<String> {
        if let Err(error) = self.hold(variant).await {
            return vec![error.to_string()];
        }
        if let Err(error) = self.converged().await {
            return vec![error.to_string()];
        }
        let mut differences = Vec::new();
        for (host, requests) in by_host(variant, table, &self.namespace) {
            differences.extend(send(&mut self.driver, &self.live, variant, &host, &requests).await);
        }
        differences
    }

    /// Waits for the routes that the model gives; this alone compares the sidecar's configuration with it.
    async fn converged(&mut self) -> Result<(), shiftcheck::mesh::MeshError> {
        let request = Request::get(HOST, PORT, "/");
        let client = client_of(&self.live, CLIENT).unwrap();
        if !client.sidecar {
            return self.connected().await;
        }
        let (live, workloads, namespace) = (&self.live, &self.workloads, &self.namespace);
        let host = addressed(HOST, namespace);
        let sidecar = &mut self.sidecar;
        let look = async || {
            let table = sidecar.table(&host, PORT).await?;
            let ready = workloads.pods().into_iter().filter(|pod| pod.ready);
            let pods = ready.filter_map(|pod| {
                Some(routing::Pod {
                    name: pod.name,
                    namespace: namespace.clone(),
                    labels: pod.labels,
                    address: pod.address?,
                    ports: pod.ports,
                    ..routing::Pod::default()
                })
            });
            let expected = Mesh::new(live, pods.collect()).outbound(client.clone()).routes(&request).unwrap().table;
            Ok(Look { table, expected })
        };
        converge(INTERVAL, CONVERGENCE, |_| {}, look).await.map(|_| ())
    }
}

impl Slot {
    /// Waits until every server behind the service has answered a connection: without a sidecar there is no configuration that tells which of
    /// them the node knows.
    async fn connected(&mut self) -> Result<(), shiftcheck::mesh::MeshError> {
        let mesh = Mesh::new(&self.live, pods_of(&self.live, &naming()));
        let client = client_of(&self.live, CLIENT).unwrap();
        let table = mesh.outbound(client).routes(&Request::get(HOST, PORT, "/")).unwrap().table;
        let behind = table.clusters.values().map(|behind| match behind {
            Behind::Endpoints(addresses) => addresses.len(),
            Behind::Nothing => 0,
        });
        let servers: usize = behind.sum();
        // with four servers, one that is known is missed by that many connections in one of ten million rounds
        let flow = Flow { path: "/".to_owned(), requests: 64, quiet: 64, variants: vec![BTreeMap::new()] };
        let plan = DrivePlan { pod_header: Some("x-pod".to_owned()), ..plan(HOST, false, vec![flow]) };
        let driver = &mut self.driver;
        let answered = async || {
            let mut nothing = 0;
            let observe = |answered: Answered<'_>| {
                nothing += u32::from(matches!(answered.answer, Answer::Nothing { .. }));
                Next::Continue
            };
            match driver.drive(CLIENT, CLIENT, plan.clone(), observe).await {
                Ok(sample) if nothing == 0 && sample.pods.len() == servers => Progress::Done(()),
                Ok(sample) => Progress::NotYet(format!(
                    "{} of {servers} servers answered, and {nothing} connections did not come about",
                    sample.pods.len()
                )),
                Err(error) => Progress::NotYet(error.to_string()),
            }
        };
        Ok(until(Awaited::Connections, CONVERGENCE, Again::Every(INTERVAL), |_| {}, answered).await?)
    }
}

/// What is sent to a host.
fn plan(host: &str, keep_alive: bool, flows: Vec<Flow>) -> DrivePlan {
    DrivePlan {
        id: 0,
        base: format!("http://{host}:{PORT}"),
        connect: None,
        connections: 8,
        in_flight: None,
        qps: None,
        keep_alive,
        timeout_ms: 10_000,
        limit_ms: 60_000,
        version: VersionSource::Body(r"Hello server - (?<version>[^ ]+( \(uri=[^)]*\))?)".to_owned()),
        pod_header: None,
        flows,
    }
}

/// The requests of a variant by the host that they go to.
pub fn by_host(variant: &Variant, table: &Table, namespace: &str) -> BTreeMap<String, Vec<(String, Request)>> {
    let mut by_host: BTreeMap<String, Vec<(String, Request)>> = BTreeMap::new();
    for (kind, request) in variant.requests(table, namespace) {
        by_host.entry(request.host.clone()).or_default().push((kind, request));
    }
    by_host
}

/// Sends what is asked for to a host and compares the answers with what the model gives.
pub async fn send(
    driver: &mut Driver,
    live: &Live,
    variant: &Variant,
    host: &str,
    requests: &[(String, Request)],
) -> Vec<String> {
    let mesh = Mesh::new(live, pods_of(live, &naming()));
    let outbound = mesh.outbound(client_of(live, CLIENT).unwrap());
    let routes = outbound.routes(&requests[0].1).unwrap();
    let decisions: Vec<_> = requests.iter().map(|(_, request)| routes.decide(request)).collect();
    let flow = |(kind, decision): (&(String, Request), &routing::Decision<'_>)| Flow {
        path: kind.1.path.clone(),
        requests: if decision.distribution.iter().count() > 1 { MANY } else { FEW },
        quiet: MANY,
        variants: vec![kind.1.headers.clone()],
    };
    let plan = plan(host, !variant.connections, requests.iter().zip(&decisions).map(flow).collect());
    let mut counts: Vec<BTreeMap<String, u64>> = vec![BTreeMap::new(); requests.len()];
    let observed = driver.drive(CLIENT, CLIENT, plan, |answered| {
        *counts[answered.flow].entry(seen(answered.answer)).or_default() += 1;
        Next::Continue
    });
    if let Err(error) = observed.await {
        return vec![error.to_string()];
    }
    let mut differences = Vec::new();
    for (((kind, _), decision), counts) in requests.iter().zip(&decisions).zip(&counts) {
        let mut expected: BTreeMap<String, Chance> = BTreeMap::new();
        for (outcome, chance) in decision.distribution.iter() {
            let own = expected.entry(foreseen(outcome, &decision.path)).or_insert(Chance::NONE);
            *own = own.or(chance);
        }
        if !agrees(&expected, counts) {
            let expected: Vec<_> = expected.iter().map(|(text, chance)| format!("{text} {chance}")).collect();
            differences.push(format!("{kind}: the model gives {}, the mesh {counts:?}", expected.join(", ")));
        }
    }
    differences
}

/// Whether counts are what a distribution gives: nothing that it excludes, and no count that is too far off.
fn agrees(expected: &BTreeMap<String, Chance>, counts: &BTreeMap<String, u64>) -> bool {
    let all: u64 = counts.values().sum();
    let close = |(text, chance): (&String, &Chance)| {
        let number = |count: u64| f64::from(u32::try_from(count).unwrap());
        let (n, p) = (number(all), chance.fraction());
        let count = number(counts.get(text).copied().unwrap_or(0));
        // Hoeffding's bound on either side
        (count - n * p).abs() <= (n * (2.0 / FALSE_ALARM).ln() / 2.0).sqrt()
    };
    all > 0
        && counts.keys().all(|text| expected.contains_key(text))
        && expected.iter().all(|(text, chance)| {
            if *chance == Chance::CERTAIN { counts.get(text) == Some(&all) } else { close((text, chance)) }
        })
}

/// An answer in words that tell the outcomes apart.
fn seen(answer: &Answer) -> String {
    match answer {
        Answer::Version { version, status } => format!("{status} {version}"),
        Answer::Unknown { status, excerpt } => {
            format!("{status} `{}`", excerpt.split(['.', '(']).next().unwrap_or_default().trim())
        }
        Answer::Nothing { .. } => "nothing".to_owned(),
    }
}

/// What a client sees of an outcome, in the same words.
fn foreseen(outcome: &Outcome, path: &str) -> String {
    match outcome {
        Outcome::Served { version, .. } => {
            let bare = path.split('?').next().unwrap_or_default();
            let status = if bare == "/error" { 503 } else { 200 };
            let uri = if bare == "/" { String::new() } else { format!(" (uri={bare})") };
            format!("{status} {version}{uri}")
        }
        Outcome::NoConnection(_) => "nothing".to_owned(),
        other => format!("{} `{}`", other.mesh_status().unwrap_or(0), other.mesh_body()),
    }
}
