use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::time::sleep;

use super::SessionError;
use super::change::{settling_time, workers_settle};
use super::routed::Routed;
use super::stage::Session;
use crate::cluster::ClusterError;
use crate::cluster::wait::{Again, Awaited, Progress, Wait};
use crate::demo::NextHop;
use crate::events::ClientConvergence;
use crate::mesh::{Converged, EnvoyError, KUBE_PROXY, MeshError, Polling, ReadTable, TableReading, converge};
use crate::plan::{Senders, Snapshot, requests};
use crate::routing::{self, Client, Mesh, Outbound, Propagation, Request, RouteTable, SentOn, addressed};
use crate::scenario::{GatewayApi, OtherClient, Service, Stage};
use crate::venue::{OpenVenue, ready_pods};

/// The looks at all replicas of the client pod, as multiples of the timeout of convergence: one in which they get the routes, and one in which
/// they keep them.
const ROUNDS: u32 = 2;

/// The pause before the next of these looks, besides the time that sidecars take.
const PAUSE: Duration = Duration::from_millis(10);

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
        if shared.is_empty() {
            return Ok(Vec::new());
        }
        let (seen, begun) = (self.events.waiting(), Instant::now());
        let look = settled(polling.limit * ROUNDS, seen, Replicas { session: self, shared, polling, begun }).await?;
        for (routed, own) in shared.iter().zip(look.found) {
            all.push(own);
            self.know(routed, all);
        }
        Ok(look.times)
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

/// What the replicas of the client pod were found to have.
#[derive(Default)]
struct Look {
    found: Vec<(String, Converged)>,
    times: Vec<ClientConvergence>,
    /// How long they may not use it yet.
    settle: Duration,
}

impl Look {
    fn tables(&self) -> Vec<&RouteTable> {
        self.found.iter().map(|(_, own)| &own.table).collect()
    }
}

/// What looks at the replicas of the client pod again and again.
#[async_trait]
trait Looking: Send {
    /// Waits until each of them has the routes once.
    async fn look(&mut self) -> Result<Look, SessionError>;
}

struct Replicas<'a, 'plan> {
    session: &'a mut Session<'plan>,
    shared: &'a [Routed],
    polling: Polling,
    begun: Instant,
}

#[async_trait]
impl Looking for Replicas<'_, '_> {
    async fn look(&mut self) -> Result<Look, SessionError> {
        let mut look = Look::default();
        for routed in self.shared {
            let (Routed::Pod(pod), settle) = (routed, self.session.settle(routed)) else { continue };
            let found = self.session.sender_converged(routed, self.polling, &|_| Duration::ZERO).await?;
            look.settle = found.iter().map(|(_, own)| settle(&own.table)).max().unwrap_or_default().max(look.settle);
            look.found.extend(found);
            look.times.push(ClientConvergence { pod: pod.clone(), took: self.begun.elapsed() });
        }
        Ok(look)
    }
}

/// Looks until the replicas have had the same routes for as long as they take to use them.
///
/// # Errors
/// A look fails, or the routes have changed again and again for `limit`.
async fn settled(limit: Duration, seen: impl FnMut(&str), mut replicas: impl Looking) -> Result<Look, SessionError> {
    // a pause of nothing would never be cut off
    let mut wait = Wait::new(Awaited::Clients, limit, Again::Every(PAUSE), seen);
    let mut before = None::<Look>;
    loop {
        let check = async {
            let now = match replicas.look().await {
                Ok(now) => now,
                Err(error) => return Progress::Done(Err(error)),
            };
            let is_kept = before.as_ref().is_some_and(|before| before.tables() == now.tables());
            if now.settle.is_zero() || is_kept {
                return Progress::Done(Ok(now));
            }
            let state = if before.is_some() { "they have changed again" } else { "sidecars begin to use them" };
            let pause = now.settle;
            before = Some(now);
            sleep(pause).await;
            Progress::NotYet(state.to_owned())
        };
        if let Some(found) = wait.check(check).await.map_err(ClusterError::from)? {
            return found;
        }
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const SETTLE: Duration = Duration::from_secs(2);

    /// What is found of one replica, which has one of two tables.
    fn found(other: bool, settle: Duration) -> Look {
        let table = if other { RouteTable::of_closed_port() } else { RouteTable::default() };
        let (differences, not_compared) = (Vec::new(), BTreeSet::new());
        let converged = Converged { took: Duration::ZERO, readings: 1, table, differences, not_compared };
        Look { found: vec![("pod httpbin-2".to_owned(), converged)], times: Vec::new(), settle }
    }

    /// Replicas of which a test tells what is found.
    struct Told<F>(F);

    #[async_trait]
    impl<F: FnMut() -> Result<Look, SessionError> + Send> Looking for Told<F> {
        async fn look(&mut self) -> Result<Look, SessionError> {
            (self.0)()
        }
    }

    #[rstest]
    #[case::used_at_once(|_| found(false, Duration::ZERO), Ok(1))]
    #[case::kept(|_| found(false, SETTLE), Ok(2))]
    #[case::changed_once(|look| found(look > 1, SETTLE), Ok(3))]
    #[case::again_and_again(|look| found(look % 2 == 0, SETTLE), Err(60))]
    #[case::not_used_in_time(|_| found(false, Duration::from_secs(3600)), Err(60))]
    #[tokio::test(start_paused = true)]
    async fn replicas_keep_their_routes_before_a_deadline(
        #[case] of: fn(usize) -> Look,
        #[case] expected: Result<usize, u64>,
    ) {
        let (mut looks, start) = (0, tokio::time::Instant::now());
        let told = Told(|| {
            looks += 1;
            Ok(of(looks))
        });
        let look = settled(Duration::from_secs(60), |_| {}, told);
        // without a deadline, the test ends as well
        let ended = tokio::time::timeout(Duration::from_secs(7200), look).await.unwrap();
        match (ended, expected) {
            (Ok(_), Ok(expected)) => assert_eq!(looks, expected),
            (Err(error), Err(seconds)) => {
                assert_eq!(start.elapsed(), Duration::from_secs(seconds));
                assert!(
                    error.to_string().starts_with("the same routes in all client pods took longer than 60 s"),
                    "{error}"
                );
            }
            (ended, expected) => panic!("{:?} instead of {expected:?} after {looks} looks", ended.err()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sidecar_that_cannot_be_read_ends_the_wait() {
        let broken = Told(|| Err(SessionError::NothingToCalibrate("scenario.yaml".into())));
        let look = settled(Duration::from_secs(60), |_| {}, broken);
        assert!(matches!(look.await, Err(SessionError::NothingToCalibrate(_))));
    }
}
