use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::SessionError;
use super::change::settling_time;
use super::routed::Routed;
use super::stage::Session;
use crate::mesh::{Converged, MeshError, Polling, ReadTable, TableReading, converge};
use crate::plan::{Senders, Snapshot};
use crate::routing::{self, Client, Mesh, Request, RouteTable, addressed};
use crate::scenario::{OtherClient, Service};
use crate::venue::{OpenVenue, ready_pods};

/// How long the node may not use new endpoints that sidecars already have: kube-proxy applies changes at most once a second.
const KUBE_PROXY: Duration = Duration::from_secs(2);

impl Session<'_> {
    /// The gateways with the hosts that populations call through them, and the other pods with sidecars.
    fn routed(&self) -> BTreeSet<Routed> {
        let populations = self.plan.scenario.populations.iter();
        let entering = populations.filter_map(|population| Some((population.through.clone()?, &population.variants)));
        let hosts = entering.flat_map(|(through, variants)| {
            let hosts = variants.iter().filter_map(|variant| variant.headers.get("host"));
            hosts.map(move |host| Routed::Gateway(through.clone(), host.clone()))
        });
        let injected = self.plan.scenario.client.others.iter().filter(|own| own.sidecar);
        hosts.chain(injected.map(|own| Routed::Pod(own.name.clone()))).collect()
    }

    /// Waits until all gateway pods and the sidecars of the other pods have the routes that the manifests ask for, and returns these routes, each
    /// with what has them.
    pub async fn senders_converged(&mut self, polling: Polling) -> Result<Vec<(String, Converged)>, SessionError> {
        let mut all = Vec::new();
        for routed in self.routed() {
            let known = self.venue.endpoints().is_some();
            let known = known.then(|| self.sender_endpoints.entry(routed.clone()).or_default().clone());
            let settles = |table: &RouteTable| settling_time(known.as_ref(), table);
            let other = match &routed {
                Routed::Gateway(..) => None,
                Routed::Pod(name) => self.plan.scenario.other_client(name),
            };
            let (client, request) = match (&routed, other) {
                (Routed::Gateway(gateway, host), _) => (self.as_client(), Request::entering(host, gateway.port, "/")),
                (Routed::Pod(_), Some(other)) => (self.as_other(other), self.request_from(other)),
                (Routed::Pod(_), None) => continue,
            };
            let (who, place) = match &routed {
                Routed::Gateway(gateway, host) => (format!("{gateway} for {host}"), format!("{gateway}, {host}")),
                Routed::Pod(name) => (format!("the sidecar of pod {name}"), format!("pod {name}")),
            };
            let snapshot = Arc::clone(&self.snapshot);
            let reader = SenderReader { request, client, snapshot, routed: &routed, venue: &mut *self.venue };
            let converged = match converge(polling, settles, self.events.waiting(), reader).await {
                Err(MeshError::NotConverged { seconds, mismatch, .. }) => {
                    return Err(MeshError::NotConverged { who, seconds, mismatch }.into());
                }
                other => other?,
            };
            let addresses = converged.table.addresses().map(ToOwned::to_owned);
            self.sender_endpoints.entry(routed).or_default().extend(addresses);
            all.push((place, converged));
        }
        self.nodes_settled().await;
        Ok(all)
    }

    /// Waits until nodes use the endpoints of the service, if they have changed and a pod without a sidecar sends requests.
    async fn nodes_settled(&mut self) {
        let plain = self.plan.scenario.client.others.iter().find(|own| !own.sidecar);
        let (Some(plain), true) = (plain, self.venue.endpoints().is_some()) else { return };
        let mesh = self.mesh();
        let routes = mesh.outbound(self.as_other(plain)).routes(&self.request_from(plain));
        let endpoints = routes.map(|routes| routes.table.addresses().map(ToOwned::to_owned).collect());
        let endpoints: BTreeSet<String> = endpoints.unwrap_or_default();
        if self.node_endpoints != endpoints {
            sleep(KUBE_PROXY).await;
            self.node_endpoints = endpoints;
        }
    }

    /// What becomes of the requests of all pods that send some, as they are now.
    pub fn senders<'m>(&self, mesh: &'m Mesh) -> Senders<'m> {
        Senders::new(mesh, self.as_client(), &self.plan.scenario.client.others, |other| self.as_other(other))
    }

    /// Another pod that sends requests, as rules see it.
    fn as_other(&self, other: &OtherClient) -> routing::Client {
        self.live_client(&other.name, other.namespace(self.namespace()))
    }

    /// A request of another pod to the service.
    fn request_from(&self, other: &OtherClient) -> Request {
        let Service { host, port, .. } = other.addressed(&self.plan.scenario.service, self.namespace());
        Request::get(&host, port, "/")
    }
}

/// Reads the routes of a sender, and what the applied objects ask for.
struct SenderReader<'a, 'plan> {
    venue: &'a mut dyn OpenVenue,
    snapshot: Arc<Snapshot<'plan>>,
    routed: &'a Routed,
    client: Client,
    request: Request,
}

#[async_trait]
impl ReadTable for SenderReader<'_, '_> {
    async fn read(&mut self) -> Result<TableReading, MeshError> {
        let tables = match self.routed {
            Routed::Gateway(gateway, host) => self.venue.gateway(gateway, host).await?,
            Routed::Pod(name) => {
                let host = addressed(&self.request.host, &self.client.namespace);
                vec![self.venue.table_of(name, &host, self.request.port).await?]
            }
        };
        let mesh = self.snapshot.mesh_of(ready_pods(self.venue.pods()));
        let outbound = mesh.outbound(self.client.clone());
        let routes = outbound.routes(&self.request).ok();
        let uncompared = outbound.uncompared(&self.request, routes.as_ref());
        let expected = routes.map_or_else(RouteTable::of_closed_port, |routes| routes.table);
        // the pod that differs, if one does
        let differs = tables.iter().position(|table| uncompared.left_out(table, &expected).is_none());
        let table = tables.into_iter().nth(differs.unwrap_or(0)).unwrap_or_default();
        Ok(TableReading { table, expected, uncompared })
    }
}
