use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::sleep;

use super::SessionError;
use super::change::{settling_time, workers_settle};
use super::routed::Routed;
use super::stage::Session;
use crate::demo::NextHop;
use crate::events::ClientConvergence;
use crate::mesh::{Converged, EnvoyError, KUBE_PROXY, MeshError, Polling, ReadTable, TableReading, converge};
use crate::plan::{Senders, Snapshot, requests};
use crate::routing::{self, Client, Mesh, Outbound, Propagation, Request, RouteTable, SentOn, addressed};
use crate::scenario::{GatewayApi, OtherClient, Service, Stage};
use crate::venue::{OpenVenue, ready_pods};

/// What sends requests besides the client pod, with its routes.
pub(super) struct SendersConverged {
    /// What has which routes.
    pub all: Vec<(String, Converged)>,
    /// The replicas of the client pod, each with the time until it was known to have them.
    pub replicas: Vec<ClientConvergence>,
}

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
        let servers = self.servers_on_the_way();
        hosts.chain(injected.map(|own| Routed::Pod(own.name.clone()))).chain(servers).collect()
    }

    /// The ready pods with sidecars that send requests of claims on to other services, each with the service.
    fn servers_on_the_way(&self) -> Vec<Routed> {
        let scenario = self.plan.scenario;
        let claims = scenario.stages.iter().flat_map(Stage::asked);
        let paths: BTreeSet<&str> = claims.map(|(_, path)| path).filter(|path| NextHop::of(path).is_some()).collect();
        if paths.is_empty() {
            return Vec::new();
        }
        let mesh = self.mesh();
        let senders = self.senders(&mesh);
        let mut found = BTreeSet::new();
        for (population, path) in scenario.populations.iter().flat_map(|own| paths.iter().map(move |path| (own, path)))
        {
            let service = self.snapshot.service(population);
            for request in requests(population, &service, path) {
                collect_servers(senders.of(population), &request, &mut found);
            }
        }
        found.into_iter().collect()
    }

    /// Waits until all gateway pods and the sidecars of the other pods have the routes that the manifests ask for, and returns these routes, each
    /// with what has them.
    pub async fn senders_converged(&mut self, polling: Polling) -> Result<SendersConverged, SessionError> {
        let (mut all, scenario) = (Vec::new(), self.plan.scenario);
        let is_replica = |routed: &Routed| matches!(routed, Routed::Pod(name) if scenario.client.replicas().any(|own| own.name == *name));
        let (shared, others): (Vec<Routed>, Vec<Routed>) = self.routed().into_iter().partition(is_replica);
        let replicas = self.replicas_converged(&shared, polling, &mut all).await?;
        for routed in others {
            let settle = self.settle(&routed);
            all.extend(self.sender_converged(&routed, polling, &settle).await?);
            self.know(&routed, &all);
        }
        self.nodes_settled().await;
        Ok(SendersConverged { all, replicas })
    }

    /// The same for the replicas of the client pod, which settle at the same time.
    async fn replicas_converged(
        &mut self,
        shared: &[Routed],
        polling: Polling,
        all: &mut Vec<(String, Converged)>,
    ) -> Result<Vec<ClientConvergence>, SessionError> {
        let begun = Instant::now();
        let mut before: Vec<(String, Converged)> = Vec::new();
        loop {
            let (mut now, mut times, mut longest) = (Vec::new(), Vec::new(), Duration::ZERO);
            for routed in shared {
                let (Routed::Pod(pod), settle) = (routed, self.settle(routed)) else { continue };
                let found = self.sender_converged(routed, polling, &|_| Duration::ZERO).await?;
                longest = found.iter().map(|(_, own)| settle(&own.table)).max().unwrap_or_default().max(longest);
                now.extend(found);
                times.push(ClientConvergence { pod: pod.clone(), took: begun.elapsed() });
            }
            let tables = |all: &[(String, Converged)]| all.iter().map(|(_, own)| own.table.clone()).collect::<Vec<_>>();
            if longest.is_zero() || tables(&before) == tables(&now) {
                for (routed, own) in shared.iter().zip(now) {
                    all.push(own);
                    self.know(routed, all);
                }
                return Ok(times);
            }
            before = now;
            sleep(longest).await;
        }
    }

    /// How long a sender may not use what its table has: by the table.
    fn settle(&mut self, routed: &Routed) -> Box<dyn Fn(&RouteTable) -> Duration + Send + Sync> {
        let known = self.venue.endpoints().is_some();
        let known = known.then(|| self.sender_endpoints.entry(routed.clone()).or_default().clone());
        // nodes have to learn of the Service that istiod makes for a gateway
        let is_new = known.is_some() && self.is_made_anew(routed);
        let is_gateway = matches!(routed, Routed::Gateway(..));
        Box::new(move |table| match &known {
            _ if is_new => KUBE_PROXY,
            // gateways choose endpoints themselves, also for connections
            Some(known) if is_gateway => workers_settle(known, table),
            known => settling_time(known.as_ref(), table),
        })
    }

    /// Remembers the endpoints that the sender whose routes were found last uses.
    fn know(&mut self, routed: &Routed, all: &[(String, Converged)]) {
        let Some((_, converged)) = all.last() else { return };
        let addresses = converged.table.addresses().map(ToOwned::to_owned);
        self.sender_endpoints.entry(routed.clone()).or_default().extend(addresses);
    }

    /// Waits until one sender has the routes that the manifests ask for; none if it is not known any more.
    async fn sender_converged(
        &mut self,
        routed: &Routed,
        polling: Polling,
        settle: &(dyn Fn(&RouteTable) -> Duration + Send + Sync),
    ) -> Result<Option<(String, Converged)>, SessionError> {
        let other = match routed {
            Routed::Gateway(..) | Routed::Server { .. } => None,
            Routed::Pod(name) => self.plan.scenario.other_client(name),
        };
        let (client, request) = match (routed, other) {
            (Routed::Server { namespace, pod, host, port }, _) => {
                (self.live_client(pod, namespace), Request::get(host, *port, "/"))
            }
            (Routed::Gateway(gateway, host), _) => (self.as_client(), Request::through(gateway, host, "/").trusting()),
            (Routed::Pod(_), Some(other)) => (self.as_other(other), self.request_from(other)),
            (Routed::Pod(_), None) => return Ok(None),
        };
        let (who, place) = match routed {
            Routed::Gateway(gateway, host) => (format!("{gateway} for {host}"), format!("{gateway}, {host}")),
            Routed::Pod(name) => (format!("the sidecar of pod {name}"), format!("pod {name}")),
            Routed::Server { pod, host, .. } => {
                (format!("the sidecar of pod {pod}, for {host}"), format!("pod {pod}, {host}"))
            }
        };
        let snapshot = Arc::clone(&self.snapshot);
        let reader = SenderReader { request, client, snapshot, routed, venue: &mut *self.venue };
        match converge(polling, settle, self.events.waiting(), reader).await {
            Err(MeshError::NotConverged { seconds, mismatch, .. }) => {
                Err(MeshError::NotConverged { who, seconds, mismatch }.into())
            }
            converged => Ok(Some((place, converged?))),
        }
    }

    /// Whether istiod has just made a gateway, so that nodes have to learn of its Service.
    fn is_made_anew(&self, routed: &Routed) -> bool {
        let Routed::Gateway(gateway, _) = routed else { return false };
        let was_used = |(own, known): (&Routed, &BTreeSet<String>)| {
            matches!(own, Routed::Gateway(own, _) if own == gateway) && !known.is_empty()
        };
        gateway.api == GatewayApi::Kubernetes && !self.sender_endpoints.iter().any(was_used)
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

/// Adds the pods that send a request on, and those that send these requests on in turn.
fn collect_servers(outbound: &Outbound<'_>, request: &Request, found: &mut BTreeSet<Routed>) {
    // what is sent on from there is routed by its headers, and pods do not tell whether they propagate them
    let sent_on = [Propagation::Kept, Propagation::Lost].map(|own| outbound.sent_on(request, own));
    for SentOn { pod, client, request } in sent_on.into_iter().flatten() {
        if client.sidecar {
            let (host, port) = (request.host.clone(), request.port);
            found.insert(Routed::Server { namespace: pod.namespace.clone(), pod: pod.name.clone(), host, port });
        }
        collect_servers(&outbound.mesh().outbound(client), &request, found);
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
        let pods = ready_pods(self.venue.pods());
        if let Routed::Server { namespace, pod, .. } = self.routed
            && !pods.iter().any(|own| (&own.namespace, &own.name) == (namespace, pod))
        {
            // it ends, and gets no more requests to send on
            return Ok(TableReading::default());
        }
        let mesh = self.snapshot.mesh_of(pods);
        let is_unknown = mesh.outbound(self.client.clone()).routes(&self.request).is_err();
        let tables = match self.routed {
            Routed::Gateway(gateway, host) => self.venue.gateway(gateway, host).await?,
            Routed::Pod(name) => {
                let host = addressed(&self.request.host, &self.client.namespace);
                vec![self.venue.table_of(name, &host, self.request.port).await?]
            }
            Routed::Server { namespace, pod, host, port } => {
                let host = addressed(host, namespace);
                match self.venue.table_of_server(namespace, pod, &host, *port).await {
                    // a sidecar has no routes to a service that does not exist
                    Err(MeshError::Unreadable { source, .. })
                        if is_unknown && !matches!(source, EnvoyError::Json(_)) =>
                    {
                        vec![RouteTable::of_closed_port()]
                    }
                    table => vec![table?],
                }
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
