//! What Envoy does with the servers of gateways: the variants of gateways with TLS, one after another, at the ingress gateway of a real mesh.
//! Which part of a listener takes a connection is decided by Envoy, and not in the configuration that istiod sends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use shiftcheck::cluster::wait::{Again, Awaited, Progress, Wait};
use shiftcheck::cluster::{KubeCluster, Objects, RunId, Workloads};
use shiftcheck::mesh::{Ingress, MERGE_WINDOW};
use shiftcheck::routing::{Live, Mesh, Request, RouteDiff, RouteTable, TlsHandshake, client_of};
use shiftcheck::scenario::{CallerTls, GatewayApi, IngressGateway, Manifest, Origin, Target, parse_manifests};
use shiftcheck::traffic::{Driver, DriverOptions};
use shiftcheck::venue::{ProvisionedCluster, ready_pods};
use shiftcheck::workload::DriveTls;
use tokio::time::sleep;

use crate::cluster::Kept;
use crate::harness::block_on;
use crate::variants::{CLIENT, Entrance, Table, Variant, send_by};

const NAMESPACE: &str = "gateways";
const OTHER: &str = "gateways-other";
/// The namespace of the gateway's pods.
const ROOT: &str = "istio-system";
const OUTSIDE: &str = "outside";
const ROLLOUT: Duration = Duration::from_secs(120);
const CA: &str = include_str!("../../fixtures/ingress-tls/ca.pem");

/// Asserts that the ingress gateway of a cluster does with the requests of the variants with TLS what the model gives.
pub fn assert_variants_hold(kept: &Kept) {
    let differences = block_on(differences(kept));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

async fn differences(kept: &Kept) -> Vec<String> {
    let (_, client) = KubeCluster::connect(Some(&kept.kubeconfig), None).await.unwrap();
    let cluster = ProvisionedCluster::find(client).await.unwrap();
    let run = kept.run.parse().unwrap();
    let mut slot = Slot::new(&cluster, &run).await;
    let table = Table::of_gateways();
    let mut differences = Vec::new();
    let with_tls: Vec<&Variant> = table.variants.iter().filter(|variant| variant.has_requests_over_tls()).collect();
    assert!(with_tls.len() > 15, "{}", with_tls.len());
    for variant in with_tls {
        let own = slot.compare(variant, &table).await;
        differences.extend(own.into_iter().map(|difference| format!("{}: {difference}", variant.name)));
    }
    differences
}

/// Two namespaces in which variants follow each other, and the Secrets of the gateway.
struct Slot {
    client: Client,
    objects: Objects,
    other_objects: Objects,
    there: Vec<Manifest>,
    live: Live,
    workloads: Workloads,
    driver: Driver,
}

impl Slot {
    async fn new(cluster: &ProvisionedCluster, run: &RunId) -> Self {
        let pods: Api<_> = Api::namespaced(cluster.client.clone(), NAMESPACE);
        let mut slot = Self {
            objects: cluster.create_namespace(run, NAMESPACE, NAMESPACE).await.unwrap(),
            other_objects: cluster.create_namespace(run, OTHER, OTHER).await.unwrap(),
            there: Vec::new(),
            live: Live::new(NAMESPACE, NAMESPACE),
            workloads: Workloads::watch(&cluster.client, NAMESPACE),
            // each request in a connection of its own, so that handshakes are compared
            driver: Driver::new(pods, DriverOptions { keep_alive: false, ..DriverOptions::default() }),
            client: cluster.client.clone(),
        };
        let outside = include_str!("../../fixtures/canary/httpbin.yaml").replace("httpbin", OUTSIDE);
        let plain = "labels: {sidecar.istio.io/inject: 'false', app:";
        let outside = parse_manifests(Path::new("outside.yaml"), &outside.replace("labels: {app:", plain)).unwrap();
        let applied = slot.objects.apply(&outside[0]).await.unwrap();
        slot.workloads.rolled_out(&[applied], &[], ROLLOUT, |_| {}).await.unwrap();
        slot
    }

    /// Makes the namespaces hold the objects of a variant and nothing else. Whether pods may be new.
    async fn hold(&mut self, variant: &Variant) -> bool {
        let wanted = variant.manifests(NAMESPACE, OTHER);
        let namespace = |manifest: &Manifest| manifest.object.metadata.namespace.clone();
        let same = |one: &Manifest, two: &Manifest| one.id() == two.id() && namespace(one) == namespace(two);
        let (mut deleted, mut applied, mut has_new) = (Vec::new(), Vec::new(), false);
        for old in self.there.iter().filter(|old| !wanted.iter().any(|wanted| same(wanted, old))) {
            match namespace(old).as_deref() {
                Some(ROOT) => {
                    self.secrets().delete(old.name(), &DeleteParams::default()).await.unwrap();
                }
                Some(OTHER) => {
                    self.other_objects.delete(&Target::of(old, old.origin.clone())).await.unwrap();
                }
                _ => deleted.push(self.objects.delete(&Target::of(old, old.origin.clone())).await.unwrap()),
            }
        }
        for manifest in &wanted {
            if self.there.iter().any(|old| same(old, manifest) && old.object.data == manifest.object.data) {
                continue;
            }
            has_new |= manifest.kind() == "Deployment";
            match namespace(manifest).as_deref() {
                Some(ROOT) => {
                    let secret: Secret =
                        serde_json::from_value(serde_json::to_value(&manifest.object).unwrap()).unwrap();
                    self.secrets().create(&PostParams::default(), &secret).await.unwrap();
                }
                Some(OTHER) => {
                    self.other_objects.apply(manifest).await.unwrap();
                }
                _ => applied.push(self.objects.apply(manifest).await.unwrap()),
            }
        }
        self.live = variant.live(NAMESPACE, OTHER);
        self.there = wanted;
        self.workloads.rolled_out(&applied, &deleted, ROLLOUT, |_| {}).await.unwrap();
        has_new
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), ROOT)
    }

    /// What the gateway does otherwise than the model.
    async fn compare(&mut self, variant: &Variant, table: &Table) -> Vec<String> {
        let has_new_pods = self.hold(variant).await;
        let mut by_entrance: BTreeMap<(u16, bool, String), Vec<(String, Request)>> = BTreeMap::new();
        for (kind, request) in variant.requests(table, NAMESPACE) {
            // the gateway's Service has no other ports
            if [80, 443].contains(&request.port) {
                let own = (request.port, request.tls.is_some(), request.host.clone());
                let tls = request.tls.clone().map(|tls| TlsHandshake { ca: Some(CA.into()), ..tls });
                by_entrance.entry(own).or_default().push((kind, Request { tls, ..request }));
            }
        }
        for ((port, _, host), requests) in &by_entrance {
            if let Err(difference) = self.converged(*port, host, &requests[0].1).await {
                return vec![difference];
            }
        }
        if has_new_pods {
            sleep(MERGE_WINDOW).await;
        }
        let mut differences = Vec::new();
        for ((port, is_tls, host), requests) in &by_entrance {
            let entrance = Entrance {
                address: format!("istio-ingressgateway.{ROOT}:{port}"),
                tls: is_tls.then(|| DriveTls { server_name: host.to_lowercase(), ca: CA.to_owned() }),
                pod: OUTSIDE,
            };
            differences.extend(send_by(&mut self.driver, &self.live, variant, host, requests, Some(&entrance)).await);
        }
        differences
    }

    /// Waits until the gateway has the routes that the model gives.
    async fn converged(&self, port: u16, host: &str, request: &Request) -> Result<(), String> {
        let server_name = request.tls.as_ref().map(|tls| tls.server_name.clone());
        let gateway = IngressGateway {
            name: "gw".to_owned(),
            api: GatewayApi::Istio,
            port,
            selector: [("istio".to_owned(), "ingressgateway".to_owned())].into(),
            tls: server_name
                .map(|server_name| Arc::new(CallerTls { server_name, ca_file: "ca.pem".into(), ca: CA.to_owned() })),
            origin: Origin { path: "gateways.yaml".into(), line: 1, column: 1 },
        };
        let mut ingress = Ingress::find(&self.client, &gateway, None).await.unwrap();
        let mut wait =
            Wait::new(Awaited::Connections, Duration::from_secs(30), Again::Every(Duration::from_millis(50)), |_| {});
        loop {
            let checked = async {
                let mesh = Mesh::new(&self.live, ready_pods(self.workloads.pods()));
                let outbound = mesh.outbound(client_of(&self.live, CLIENT).unwrap());
                let routes = outbound.routes(&request.clone().trusting());
                let expected = routes.map_or_else(|_| RouteTable::of_closed_port(), |routes| routes.table);
                match ingress.tables(host).await {
                    Ok(tables) => {
                        let differences: BTreeSet<String> =
                            tables.iter().flat_map(|table| RouteDiff::lines(&table.difference(&expected))).collect();
                        if differences.is_empty() {
                            Progress::Done(())
                        } else {
                            Progress::NotYet(differences.into_iter().collect::<Vec<_>>().join("; "))
                        }
                    }
                    Err(error) => Progress::NotYet(error.to_string()),
                }
            };
            match wait.check(checked).await {
                Ok(Some(())) => break,
                Ok(None) => {}
                Err(error) => return Err(format!("{host}:{port}: {error}")),
            }
        }
        Ok(())
    }
}
