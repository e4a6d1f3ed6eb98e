//! The variants on a real mesh: as many namespaces as two cores start in a minute; in each, one variant follows the other.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use kube::Api;
use shiftcheck::cluster::wait::{Again, Awaited, Progress, Wait};
use shiftcheck::cluster::{ClusterError, Objects, RunId, Workloads};
use shiftcheck::mesh::{KUBE_PROXY, MeshError, Polling, ReadTable, Sidecar, TableReading, converge};
use shiftcheck::routing::{
    Client, Endpoints, Live, Mesh, Request, RouteTable, RoutingUnit, Uncompared, addressed, client_of, pods_of,
};
use shiftcheck::scenario::{Manifest, Target};
use shiftcheck::traffic::{Driver, DriverOptions, Next, ObservedResponse};
use shiftcheck::venue::{ProvisionedCluster, ready_pods};
use shiftcheck::verdict::Answer;
use shiftcheck::workload::{DrivePlan, Flow};

use crate::cluster::shared;
use crate::harness::{block_on, tests};
use crate::variants::{CLIENT, HOST, PORT, Table, Variant, by_host, naming, plan, send};

tests![the_mesh_gives_what_the_model_gives()];

fn the_mesh_gives_what_the_model_gives() {
    // raised by a runtime of its own
    shared();
    let differences = block_on(differences(&Table::read()));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// How many namespaces the variants share.
const SLOTS: usize = 6;
const ROLLOUT: Duration = Duration::from_secs(180);
const POLLING: Polling = Polling { interval: Duration::from_millis(50), limit: Duration::from_secs(60) };

/// Runs all variants; every difference in words.
async fn differences(table: &Table) -> Vec<String> {
    let shared = shared();
    let cluster = shared.provisioned().await;
    // a variant whose pods are its own has a namespace of its own; the others follow each other in a few
    let (own, others): (Vec<_>, Vec<_>) = table.variants.iter().partition(|variant| variant.changes_pods());
    let mut lots: Vec<Vec<&Variant>> = own.into_iter().map(|variant| vec![variant]).collect();
    let first = lots.len();
    lots.extend((0..SLOTS).map(|_| Vec::new()));
    for (index, variant) in others.into_iter().enumerate() {
        lots[first + index % SLOTS].push(variant);
    }
    let lots = lots.iter().enumerate().map(|(number, lot)| one_lot(&cluster, shared.run(), number, lot, table));
    join_all(lots).await.concat()
}

async fn one_lot(
    cluster: &ProvisionedCluster,
    run: &RunId,
    number: usize,
    lot: &[&Variant],
    table: &Table,
) -> Vec<String> {
    let mut slot = Slot::new(cluster, run, &format!("diff-{number}"), lot[0]).await;
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
    async fn new(cluster: &ProvisionedCluster, run: &RunId, namespace: &str, first: &Variant) -> Self {
        let other = format!("{namespace}-other");
        let pods: Api<_> = Api::namespaced(cluster.client.clone(), namespace);
        let options = DriverOptions { keep_alive: !first.connections, ..DriverOptions::default() };
        Self {
            objects: cluster.create_namespace(run, namespace, namespace).await.unwrap(),
            other_objects: cluster.create_namespace(run, &other, &other).await.unwrap(),
            there: Vec::new(),
            live: Live::new(namespace, namespace),
            workloads: Workloads::watch(&cluster.client, namespace),
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
    async fn converged(&mut self) -> Result<(), MeshError> {
        let request = Request::get(HOST, PORT, "/");
        let client = client_of(&self.live, CLIENT).unwrap();
        if !client.sidecar {
            return self.connected().await;
        }
        let reader = Reader {
            host: addressed(HOST, &self.namespace),
            live: &self.live,
            workloads: &self.workloads,
            sidecar: &mut self.sidecar,
            client,
            request,
        };
        converge(POLLING, settling_time, |_| {}, reader).await.map(|_| ())
    }
}

/// Nodes balance connections that no rule takes, and a renamed port leaves them without endpoints for a moment.
fn settling_time(table: &RouteTable) -> Duration {
    if table.unit == RoutingUnit::Connection { KUBE_PROXY } else { Duration::ZERO }
}

/// Reads the routes of a variant's client, and those that the model gives.
struct Reader<'a> {
    sidecar: &'a mut Sidecar,
    live: &'a Live,
    workloads: &'a Workloads,
    client: Client,
    request: Request,
    host: String,
}

#[async_trait]
impl ReadTable for Reader<'_> {
    async fn read(&mut self) -> Result<TableReading, MeshError> {
        let table = self.sidecar.table(&self.host, PORT).await?;
        let pods = ready_pods(self.workloads.pods());
        let mesh = Mesh::new(self.live, pods);
        let expected = mesh.outbound(self.client.clone()).routes(&self.request).unwrap().table;
        Ok(TableReading { table, expected, uncompared: Uncompared::default() })
    }
}

impl Slot {
    /// Waits until every server behind the service has answered a connection: without a sidecar there is no configuration that tells which of
    /// them the node knows.
    async fn connected(&mut self) -> Result<(), MeshError> {
        let mesh = Mesh::new(&self.live, pods_of(&self.live, &naming()));
        let client = client_of(&self.live, CLIENT).unwrap();
        let table = mesh.outbound(client).routes(&Request::get(HOST, PORT, "/")).unwrap().table;
        let behind = table.clusters.values().map(|behind| match behind {
            Endpoints::Ready(addresses) => addresses.len(),
            Endpoints::NoCluster => 0,
        });
        let servers: usize = behind.sum();
        // with four servers, one that is known is missed by that many connections in one of ten million rounds
        let flow = Flow {
            path: "/".to_owned(),
            method: None,
            requests: 64,
            min_results: 64,
            message: Vec::new(),
            field: None,
            cookie: None,
            queries: Vec::new(),
            variants: vec![BTreeMap::new()],
        };
        let plan = DrivePlan { pod_header: Some("x-pod".to_owned()), ..plan("http", HOST, false, vec![flow]) };
        let driver = &mut self.driver;
        let mut wait = Wait::new(Awaited::Connections, POLLING.limit, Again::Every(POLLING.interval), |_| {});
        loop {
            let answered = async {
                let mut nothing = 0;
                let observe = |answered: ObservedResponse<'_>| {
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
            if wait.check(answered).await?.is_some() {
                return Ok(());
            }
        }
    }
}
