//! A cluster and a mesh in this process: objects, selectors, endpoints and routes of the model, and real HTTP on loopback to demo servers and
//! to stand-ins for other images. It checks manifests, not an Istio release.

mod api;
mod hashing;
mod matching;
mod proxy;
mod reply;
mod serving;
mod stand_in;
mod tls;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::error::ClusterError;
use super::objects::Applied;
use super::pod::PodState;
use crate::demo::{DemoImage, demo_versions};
use crate::events::Injection;
use crate::routing::{Client, Live, Mesh, Naming, Pod, Request, RouteTable, client_in, client_of, pods_of};
use crate::scenario::{IngressGateway, Manifest, ObjectId, OtherClient, Scenario, Scheme, Service, Target};
use crate::workload::{DemoServer, Faults};

use proxy::Proxy;
use serving::{Callers, Serving};
use stand_in::PodServer;
pub use stand_in::StandIns;

/// The server of a pod.
#[derive(Debug)]
struct Server {
    pod: String,
    /// The number of servers that were started before it.
    start: u64,
    answers: Arc<dyn PodServer>,
}

/// The embedded mesh of one scenario.
#[derive(Debug)]
pub struct EmbeddedMesh {
    live: Live,
    naming: Naming,
    /// How pods of other images than the demo's answer; without it they have no server.
    stand_ins: Option<StandIns>,
    /// A request to the service of the scenario.
    request: Request,
    /// Whether clients open connections of TCP to the service, instead of sending requests.
    connects: bool,
    client: String,
    /// The pod outside of the mesh; empty where there is none.
    outside: String,
    servers: BTreeMap<String, Server>,
    /// The number of servers that were started.
    started: u64,
    proxy: Proxy,
    gateways: Vec<Entrance>,
    others: Vec<SendingPod>,
    applied: u64,
    table: RouteTable,
    /// The servers that send requests on, once there are any.
    callers: Option<Arc<Callers>>,
}

/// A port of an ingress gateway.
#[derive(Debug)]
struct Entrance {
    gateway: IngressGateway,
    /// A request to each host that populations call.
    requests: BTreeMap<String, Request>,
    proxy: Proxy,
    tables: BTreeMap<String, RouteTable>,
}

/// A pod that sends requests, besides the client.
#[derive(Debug)]
struct SendingPod {
    pod: OtherClient,
    /// A request to the service.
    request: Request,
    proxy: Proxy,
    table: RouteTable,
}

impl EmbeddedMesh {
    /// Starts a mesh without objects, for requests of a client pod to a service.
    ///
    /// # Errors
    /// No port can be opened on loopback.
    pub fn start(namespace: &str, client: &str, service: &Service) -> Result<Self, ClusterError> {
        Ok(Self {
            live: Live::new(namespace, namespace),
            naming: Naming { versions: BTreeSet::new(), images: demo_versions() },
            stand_ins: None,
            request: Request::get(&service.host, service.port, "/"),
            connects: service.scheme == Scheme::Tcp,
            client: client.to_owned(),
            outside: String::new(),
            servers: BTreeMap::new(),
            started: 0,
            proxy: Proxy::start().map_err(|error| ClusterError::Embedded(error.to_string()))?,
            gateways: Vec::new(),
            others: Vec::new(),
            applied: 0,
            table: RouteTable::default(),
            callers: None,
        })
    }

    /// Starts the gateways through which the populations of a scenario come.
    ///
    /// # Errors
    /// No port can be opened on loopback.
    pub fn with_gateways(mut self, scenario: &Scenario) -> Result<Self, ClusterError> {
        self.outside = scenario.client.outside.clone().unwrap_or_default();
        for gateway in scenario.ingress_gateways() {
            let own = scenario.populations.iter().filter(|population| population.through.as_ref() == Some(gateway));
            let variants = own.flat_map(|population| &population.variants);
            let hosts = variants.filter_map(|variant| variant.headers.get("host"));
            let requests = hosts.map(|host| (host.to_lowercase(), Request::through(gateway, host, "/").trusting()));
            self.gateways.push(Entrance {
                gateway: gateway.clone(),
                requests: requests.collect(),
                proxy: Proxy::start().map_err(|error| ClusterError::Embedded(error.to_string()))?,
                tables: BTreeMap::new(),
            });
        }
        self.refresh();
        Ok(self)
    }

    /// Starts the other pods that send the requests of a scenario's populations.
    ///
    /// # Errors
    /// No port can be opened on loopback.
    pub fn with_others(mut self, scenario: &Scenario) -> Result<Self, ClusterError> {
        for pod in &scenario.client.others {
            let Service { host, port, .. } = pod.addressed(&scenario.service, self.live.namespace());
            self.others.push(SendingPod {
                pod: pod.clone(),
                request: Request::get(&host, port, "/"),
                proxy: Proxy::start().map_err(|error| ClusterError::Embedded(error.to_string()))?,
                table: RouteTable::default(),
            });
        }
        Ok(self)
    }

    /// The other pods that send requests, each with the address that it calls, `HOST:PORT`, and the one to which its requests are sent.
    pub fn others(&self) -> impl Iterator<Item = (&OtherClient, String, SocketAddr)> {
        self.others.iter().map(|own| {
            let called = format!("{}:{}", own.request.host, own.request.port);
            (&own.pod, called, own.proxy.address())
        })
    }

    /// The routes of another pod that sends requests; none if there is no such pod.
    pub fn table_of(&self, pod: &str) -> Option<RouteTable> {
        Some(self.others.iter().find(|own| own.pod.name == pod)?.table.clone())
    }

    /// The routes of a server, by its namespace and pod, for requests that it sends on to a service; none if there is no such pod.
    pub fn table_of_server(&self, namespace: &str, pod: &str, host: &str, port: u16) -> Option<RouteTable> {
        // the address of a pod is made of its namespace and its name
        let (serving, _) = self.callers.as_ref()?.serving(&format!("{namespace}/{pod}"), host, port)?;
        let table = serving.table();
        Some(if table == RouteTable::default() { RouteTable::of_closed_port() } else { table })
    }

    /// The gateways, each with the address to which requests through it are sent.
    pub fn gateways(&self) -> impl Iterator<Item = (&IngressGateway, SocketAddr)> {
        self.gateways.iter().map(|own| (&own.gateway, own.proxy.address()))
    }

    /// The routes of a gateway for requests to a host; none if no population comes that way.
    pub fn gateway(&self, gateway: &IngressGateway, host: &str) -> Option<RouteTable> {
        let own = self.gateways.iter().find(|own| own.gateway == *gateway)?;
        own.tables.get(&host.to_lowercase()).cloned()
    }

    /// Starts stand-ins for pods of other images than the demo's.
    #[must_use]
    pub fn with_stand_ins(mut self, stand_ins: StandIns) -> Self {
        self.naming.versions.clone_from(&stand_ins.versions);
        self.stand_ins = Some(stand_ins);
        self
    }

    /// The address to which the client sends its requests.
    pub const fn address(&self) -> SocketAddr {
        self.proxy.address()
    }

    /// Makes objects that are applied from now on younger than those before.
    pub fn later(&mut self) {
        self.live.later();
    }

    /// Applies an object. The pods of a Deployment run at once.
    ///
    /// # Errors
    /// The API server would reject it.
    pub fn apply(&mut self, manifest: &Manifest) -> Result<Applied, ClusterError> {
        api::admit(&self.live, manifest)?;
        self.live.apply(manifest);
        self.applied += 1;
        self.refresh();
        Ok(Applied {
            kind: manifest.kind().to_owned(),
            name: manifest.name().to_owned(),
            uid: self.applied.to_string(),
            generation: 1,
        })
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// There is no such object, or the target is ambiguous.
    pub fn delete(&mut self, target: &Target) -> Result<(), ClusterError> {
        api::find(&self.live, target)?;
        self.live.delete(target);
        self.refresh();
        Ok(())
    }

    /// The existing objects and pods: kind, group, name and namespace of each.
    pub fn remaining(&self) -> Vec<String> {
        let pods = pods_of(&self.live, &self.naming).into_iter().map(|pod| ObjectId {
            kind: "Pod".to_owned(),
            group: String::new(),
            namespace: pod.namespace,
            name: pod.name,
        });
        let remaining: BTreeSet<ObjectId> = self.live.left().cloned().chain(pods).collect();
        remaining.iter().map(ToString::to_string).collect()
    }

    /// The pods. All of them are ready.
    pub fn pods(&self) -> Vec<PodState> {
        let pods = pods_of(&self.live, &self.naming).into_iter().map(|pod| PodState {
            sidecar: pod.sidecar.then_some(Injection::Classic),
            name: pod.name,
            namespace: pod.namespace,
            address: Some(pod.address),
            labels: pod.labels,
            ports: pod.ports,
            image: pod.image,
            placement: pod.placement,
            ready: true,
            has_pre_stop: false,
        });
        pods.collect()
    }

    /// The routes of the client's sidecar.
    pub fn table(&self) -> RouteTable {
        self.table.clone()
    }

    /// An identifier of the start of a pod's server, and the number of requests that it has served since; none if no server runs.
    pub fn served(&self, pod: &str) -> Option<(u64, u64)> {
        let running = self.servers.values().find(|own| own.pod == pod)?;
        Some((running.start, running.answers.served()))
    }

    /// Restarts the server of each pod, as after a crash.
    #[cfg(test)]
    pub(crate) fn restart(&mut self) {
        self.servers.clear();
        self.refresh();
    }

    /// Starts and stops servers, and updates the routes of the proxy.
    fn refresh(&mut self) {
        let pods = pods_of(&self.live, &self.naming);
        let key = |pod: &Pod| format!("{} {} {} {:?}", pod.address, pod.image, pod.version, pod.env);
        let mut servers = BTreeMap::new();
        for pod in &pods {
            let running = self.servers.remove(&key(pod));
            let Some(server) = running.or_else(|| self.start_server(pod)) else { continue };
            servers.insert(key(pod), server);
        }
        self.servers = servers;
        let of = |pod: &Pod| self.servers.get(&key(pod)).map(|own| Arc::clone(&own.answers));
        let by_address = pods.iter().filter_map(|pod| Some((pod.address.clone(), of(pod)?)));
        let by_address = by_address.collect::<HashMap<_, _>>();
        let client = client_of(&self.live, &self.client);
        let callers = Arc::new(Callers::new(Mesh::new(&self.live, pods.clone()), &pods, by_address));
        let (mesh, by_address) = (callers.mesh(), callers.servers());
        for own in &mut self.gateways {
            // whichever pod asks, requests from outside take the routes of their gateway
            let outbound = mesh.outbound(Client::ingress_gateway());
            let table =
                |request| outbound.routes(request).map_or_else(|_| RouteTable::of_closed_port(), |own| own.table);
            own.tables = own.requests.iter().map(|(host, request)| (host.clone(), table(request))).collect();
            own.proxy.serve(Serving::at_gateway(mesh, &own.requests, by_address), &callers);
        }
        for own in &mut self.others {
            let client = client_in(&self.live, own.pod.namespace(self.live.namespace()), &own.pod.name);
            let serving = client.map(|client| Serving::new(mesh, client, &own.request, by_address));
            let serving = serving.map(|own| own.of_connections(self.connects));
            own.table = serving.as_ref().map(Serving::table).unwrap_or_default();
            own.proxy.serve(serving, &callers);
        }
        let serving = client.map(|client| Serving::new(mesh, client, &self.request, by_address));
        let serving = serving.map(|own| own.of_connections(self.connects));
        self.table = serving.as_ref().map(Serving::table).unwrap_or_default();
        self.proxy.serve(serving, &callers);
        self.callers = Some(callers);
    }

    /// Whether a pod sends requests.
    fn is_driver(&self, pod: &str) -> bool {
        pod == self.client || pod == self.outside || self.others.iter().any(|own| own.pod.name == pod)
    }

    /// A new server for a pod; none if nothing answers there.
    fn start_server(&mut self, pod: &Pod) -> Option<Server> {
        let answers: Arc<dyn PodServer> = match (DemoImage::find(&pod.image), &self.stand_ins) {
            (Some(image), _) => {
                // a server with faults that cannot be read does not start
                let faults = Faults::of(|name| pod.env.get(name).map(String::as_str)).ok()?;
                let server = DemoServer::new(&pod.version, &pod.name, image.is_faulty).with(faults);
                let server = server.propagating(DemoImage::propagates(&pod.env));
                Arc::new(server.reflecting(DemoImage::reflects(&pod.env)).greeting(DemoImage::greets(&pod.env)))
            }
            (None, Some(stand_ins)) if !self.is_driver(&pod.name) => Arc::new(stand_ins.server(pod)),
            _ => return None,
        };
        self.started += 1;
        Some(Server { pod: pod.name.clone(), start: self.started - 1, answers })
    }
}
