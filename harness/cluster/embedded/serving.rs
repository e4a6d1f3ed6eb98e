//! The routes of sidecars and gateways on loopback: requests take the routes of the model to servers in this process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::hashing::{Hashed, position_of};
use super::reply::{for_grpc, plain, redirected, with_status};
use super::stand_in::PodServer;
use super::tls::{Termination, shown};
use crate::demo::DemoImage;
use crate::routing::{
    Abort, Action, Client, Cluster, Delay, Endpoints, Failure, Forward, HeaderChange, Mesh, Outbound, Outcome, Pod,
    Request, ResponseHeaders, Retries, Route, RouteTable, Routes, RoutingUnit, Unconnected,
};
use crate::scenario::StatusCode as Status;
use crate::workload::{
    AnswerBody, Behind, Certificate, NextHop, VERSIONS, asks_for_websocket, delay_of, is_grpc, postpone,
};

/// The routes of a proxy.
#[derive(Debug)]
pub(super) struct Serving {
    host: Vec<u8>,
    request: Request,
    routes: Result<RoutesWithServers, Unconnected>,
    /// The routes of other hosts than the service.
    others: HashMap<String, RoutesWithServers>,
    termination: Termination,
}

/// Routes with the servers behind them.
#[derive(Debug)]
struct RoutesWithServers {
    routes: Routes,
    /// The headers that the routes match.
    headers: Vec<HeaderName>,
    servers: BTreeMap<Cluster, Vec<Endpoint>>,
}

/// An endpoint: a server, or none if a connection is refused or the server does not speak the protocol.
#[derive(Debug, Clone)]
struct Endpoint {
    /// The address of the pod.
    pod: String,
    server: Option<Arc<dyn PodServer>>,
    /// Whether the server gets calls of gRPC over HTTP/2.
    takes_grpc: bool,
    /// How the endpoint fails all requests.
    failure: Option<Failure>,
    /// What the server shows to clients whose connections are passed through to it; none if it does not speak TLS.
    certificate: Option<Certificate>,
}

impl Endpoint {
    /// The response to a request for a path, or to a call of gRPC; none if there is no server.
    fn respond(&self, path: &str, asked: &Asked<'_>) -> Option<Response<AnswerBody>> {
        let server = self.server.as_ref()?;
        Some(match is_grpc(asked.headers) {
            true if self.takes_grpc => server.call(path, asked.message),
            true => with_status(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gRPC requires HTTP/2"),
            false if asks_for_websocket(asked.headers) => server.answer(path),
            false => self.respond_after(&**server, path, asked).unwrap_or_else(|| server.answer(path)),
        })
    }

    /// The response to a request that the server sends on; none if it answers alone.
    fn respond_after(&self, server: &dyn PodServer, path: &str, asked: &Asked<'_>) -> Option<Response<AnswerBody>> {
        let hop = NextHop::of(path)?;
        let (serving, propagates) = asked.callers.serving(&self.pod, hop.host, hop.port)?;
        let (headers, host) = (hop.headers(asked.headers, propagates), hop.authority());
        let mut line = Line::default();
        let next =
            Asked { path: &hop.path, host: host.as_bytes(), headers: &headers, connection: line.number, ..*asked };
        let response = serving.answer(&next, &mut line);
        let behind = Behind {
            status: response.as_ref().map(Response::status),
            versions: response.as_ref().and_then(|response| response.headers().get(VERSIONS).cloned()),
        };
        let mut own = server.answer_after(path, &behind)?;
        if let Some(response) = &response {
            postpone(&mut own, delay_of(response));
        }
        Some(own)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Line {
    /// A number at random.
    number: u64,
    /// The server of all its requests, if connections are routed instead of requests.
    server: Option<Endpoint>,
    /// The current request. The next one reuses its memory.
    request: Option<Request>,
}

impl Default for Line {
    fn default() -> Self {
        Self { number: fastrand::u64(..), server: None, request: None }
    }
}

/// What a client of TCP, which waits for the server to speak, is told.
pub(super) enum Greeted {
    /// The line of a server.
    Line(Bytes),
    /// Nothing, on a connection that stays open.
    Silence,
    /// Nothing, on a connection that is closed.
    Closed,
}

/// The pods of demo images, which send requests on.
pub(super) struct Callers {
    mesh: Mesh,
    /// By the address of the pod: the pod as a client, and whether it propagates headers.
    pods: HashMap<String, (Client, bool)>,
    servers: HashMap<String, Arc<dyn PodServer>>,
    /// The routes that were needed so far, by the address of the pod and the service.
    routes: Mutex<HashMap<(String, String, u16), Arc<Serving>>>,
}

/// A request that a proxy has got.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub method: &'a Method,
    /// With the query.
    pub path: &'a str,
    pub host: &'a [u8],
    pub headers: &'a HeaderMap,
    /// The message of a call of gRPC.
    pub message: &'a [u8],
    pub callers: &'a Callers,
    /// The number of the connection.
    pub connection: u64,
}

impl<'a> Asked<'a> {
    pub fn of(request: &'a Parts, message: &'a [u8], callers: &'a Callers, line: &Line) -> Self {
        let headers = &request.headers;
        // HTTP/2 has the host in the URL
        let host = request.uri.authority().map(|host| host.as_str().as_bytes());
        let host = host.or_else(|| Some(headers.get(HOST)?.as_bytes())).unwrap_or_default();
        let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
        Self { method: &request.method, path, host, headers, message, callers, connection: line.number }
    }
}

impl Callers {
    /// The callers of a mesh with these pods and their servers, by the address of the pod.
    pub fn new(mesh: Mesh, pods: &[Pod], servers: HashMap<String, Arc<dyn PodServer>>) -> Self {
        let demo = pods.iter().filter(|pod| DemoImage::find(&pod.image).is_some());
        let callers = demo.map(|pod| (pod.address.clone(), (Client::from(pod), DemoImage::propagates(&pod.env))));
        Self { pods: callers.collect(), mesh, servers, routes: Mutex::default() }
    }

    /// The mesh.
    pub const fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// The servers of all pods, by the address of the pod.
    pub const fn servers(&self) -> &HashMap<String, Arc<dyn PodServer>> {
        &self.servers
    }

    /// The routes of a pod to a service, and whether the pod propagates headers; none if it sends nothing on.
    pub fn serving(&self, pod: &str, host: &str, port: u16) -> Option<(Arc<Serving>, bool)> {
        let (client, propagates) = self.pods.get(pod)?;
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let serving = routes.entry((pod.to_owned(), host.to_owned(), port)).or_insert_with(|| {
            let request = Request::get(host, port, "/");
            Arc::new(Serving::of(&self.mesh.outbound(client.clone()), &request, Vec::new(), &self.servers))
        });
        Some((Arc::clone(serving), *propagates))
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Callers").field("pods", &self.pods).finish_non_exhaustive()
    }
}

impl Serving {
    /// The routes of a client's sidecar.
    pub fn new(mesh: &Mesh, client: Client, request: &Request, servers: &HashMap<String, Arc<dyn PodServer>>) -> Self {
        let outbound = mesh.outbound(client);
        let others = outbound.hosts().into_iter().map(|host| (host.clone(), request.clone().with("host", &host)));
        Self::of(&outbound, request, others.collect(), servers)
    }

    /// The routes of a gateway for the requests to each of these hosts, of which there is one at least.
    pub fn at_gateway(
        mesh: &Mesh,
        requests: &BTreeMap<String, Request>,
        servers: &HashMap<String, Arc<dyn PodServer>>,
    ) -> Option<Self> {
        let first = requests.values().next()?;
        let outbound = mesh.outbound(mesh.gateway_client(first.entering.as_ref()?));
        let others = requests.iter().map(|(host, request)| (host.clone(), request.clone()));
        let mut serving = Self::of(&outbound, first, others.collect(), servers);
        let is_passed = serving.routes.as_ref().is_ok_and(|own| own.routes.table.unit == RoutingUnit::Connection);
        serving.termination = match first.tls {
            Some(_) if is_passed => Termination::OfServers,
            Some(_) => Termination::Tls(outbound.certificate(first).as_ref().and_then(shown)),
            None => Termination::Plain,
        };
        Some(serving)
    }

    pub(super) fn of(
        outbound: &Outbound<'_>,
        request: &Request,
        others: Vec<(String, Request)>,
        servers: &HashMap<String, Arc<dyn PodServer>>,
    ) -> Self {
        let with_servers = |routes: Routes| {
            let is_request = routes.table.unit == RoutingUnit::Request;
            let is_passed = request.tls.is_some() && !is_request;
            let endpoint = |cluster: &Cluster, address: &String| {
                let pod = address.rsplit_once(':').map_or(address.as_str(), |(pod, _)| pod);
                let server = servers.get(pod);
                let (outcome, failure) = outbound.answer(cluster, address).unzip();
                let (is_served, takes_grpc) = match outcome {
                    Some(Outcome::Served { http2, .. }) => (true, http2 || !is_request),
                    // bytes are forwarded whatever the server speaks
                    Some(Outcome::NotHttp2) => (!is_request, false),
                    _ => (false, false),
                };
                let server = server.filter(|_| is_served).map(Arc::clone);
                let certificate = is_passed.then(|| outbound.certificate_behind(cluster, address)).flatten();
                Endpoint {
                    pod: pod.to_owned(),
                    server,
                    takes_grpc,
                    failure: failure.flatten(),
                    certificate: certificate.as_ref().and_then(shown),
                }
            };
            let of = |cluster: &Cluster, addresses: &BTreeSet<String>| -> Vec<Endpoint> {
                addresses.iter().map(|address| endpoint(cluster, address)).collect()
            };
            let targets = routes.table.clusters.keys();
            let targets = targets.map(|cluster| (cluster.clone(), of(cluster, &routes.table.active(cluster))));
            let mirrors = routes.table.routes.iter().flat_map(|route| match &route.action {
                Action::Forward(forward) => forward.mirrors.as_slice(),
                _ => &[],
            });
            let mirrors = mirrors.map(|(cluster, _)| {
                let addresses = outbound.endpoints(cluster).unwrap_or_default();
                (cluster.clone(), of(cluster, &addresses))
            });
            let found: BTreeMap<_, Vec<_>> = mirrors.chain(targets).collect();
            let headers = routes.table.headers().chain(["host", "content-type"]).filter_map(|name| name.parse().ok());
            RoutesWithServers { servers: found, headers: headers.collect(), routes }
        };
        let others =
            others.into_iter().filter_map(|(host, other)| Some((host, with_servers(outbound.routes(&other).ok()?))));
        Self {
            host: request.authority().as_bytes().to_vec(),
            others: others.collect(),
            routes: outbound.routes(request).map(with_servers),
            request: request.clone(),
            termination: Termination::Plain,
        }
    }

    /// What becomes of TLS at the proxy.
    pub const fn termination(&self) -> &Termination {
        &self.termination
    }

    /// Sets whether clients open connections of TCP and wait for a line, instead of sending requests.
    pub fn of_connections(mut self, connects: bool) -> Self {
        if connects {
            self.termination = Termination::OfConnections;
        }
        self
    }

    /// What a client of TCP is told.
    pub fn greeted(&self) -> Greeted {
        let Ok(own) = &self.routes else { return Greeted::Closed };
        // the proxy waits for the headers of a request
        if own.routes.table.unit == RoutingUnit::Request {
            return Greeted::Silence;
        }
        let server = own.server_of_connection().and_then(|endpoint| endpoint.server.as_ref());
        server.map_or(Greeted::Closed, |server| server.greeted().map_or(Greeted::Silence, Greeted::Line))
    }

    /// Sends a connection with a handshake to a server, and returns what that shows; none if it shows nothing.
    pub fn pass_through(&self, line: &mut Line) -> Option<Certificate> {
        let server = self.routes.as_ref().ok()?.server_of_connection()?;
        line.server.insert(server.clone()).certificate.clone()
    }

    pub fn table(&self) -> RouteTable {
        self.routes.as_ref().map(|own| own.routes.table.clone()).unwrap_or_default()
    }

    pub(super) fn answer(&self, asked: &Asked<'_>, line: &mut Line) -> Option<Response<AnswerBody>> {
        let Asked { host, path, .. } = *asked;
        let own = self.routes.as_ref().ok()?;
        let endpoints = if host == self.host {
            own
        } else {
            let host = String::from_utf8_lossy(host).to_lowercase();
            let bare = host.split(':').next().unwrap_or_default();
            self.others.get(bare).unwrap_or(own)
        };
        if endpoints.routes.table.unit == RoutingUnit::Connection {
            if line.server.is_none() {
                line.server = Some(endpoints.server_of_connection()?.clone());
            }
            return line.server.as_ref()?.respond(path, asked);
        }
        let request = line.request.get_or_insert_with(|| self.request.clone());
        asked.method.as_str().clone_into(&mut request.method);
        path.clone_into(&mut request.path);
        request.headers.retain(|name, _| name == "host" || asked.headers.contains_key(name.as_str()));
        for name in &endpoints.headers {
            let value = if *name == HOST { Some(host) } else { asked.headers.get(name).map(HeaderValue::as_bytes) };
            let Some(value) = value else { continue };
            let value = String::from_utf8_lossy(value);
            match request.headers.get_mut(name.as_str()) {
                Some(kept) => value.as_ref().clone_into(kept),
                None => drop(request.headers.insert(name.as_str().to_owned(), value.into_owned())),
            }
        }
        let response = endpoints.route(request, asked);
        Some(if request.is_grpc() { for_grpc(response) } else { response })
    }
}

impl RoutesWithServers {
    /// An endpoint for a connection, by the weights of the route; none if there is none.
    fn server_of_connection(&self) -> Option<&Endpoint> {
        let Action::Forward(forward) = &self.routes.table.routes.first()?.action else { return None };
        let (cluster, _) = &forward.clusters[pick(&forward.clusters)?];
        let servers = self.servers.get(cluster)?;
        servers.get(fastrand::usize(..servers.len().max(1)))
    }

    fn route(&self, request: &Request, asked: &Asked<'_>) -> Response<AnswerBody> {
        let Some(index) = self.routes.table.route(request) else { return plain(Status(404), "") };
        let route = &self.routes.table.routes[index];
        let mut response = self.taken(route, request, asked);
        if let Some(Delay { per_million, duration }) = route.delay
            && fastrand::u32(..1_000_000) < per_million
        {
            postpone(&mut response, duration);
        }
        response
    }

    /// The response to a request that takes a route.
    fn taken(&self, route: &Route, request: &Request, asked: &Asked<'_>) -> Response<AnswerBody> {
        if let Some(Abort { per_million, status }) = route.abort
            && fastrand::u32(..1_000_000) < per_million
        {
            return plain(status, "fault filter abort");
        }
        let mut response = match &route.action {
            Action::Respond { status, body } => plain(Status(*status), body),
            Action::Redirect(redirect) => redirected(redirect, request),
            Action::Forward(forward) => {
                let (mut response, position) = self.forwarded(forward, request, &route.path(request), asked);
                let Some(position) = position else { return response };
                if let Some(changes) = forward.responses.get(&position) {
                    change(&mut response, changes);
                }
                response
            }
        };
        change(&mut response, &route.response);
        response
    }

    /// The response, and the position of the cluster whose server has given it; none if the proxy responds itself.
    fn forwarded(
        &self,
        forward: &Forward,
        request: &Request,
        path: &str,
        asked: &Asked<'_>,
    ) -> (Response<AnswerBody>, Option<usize>) {
        let missing = || (plain(Status(forward.missing), ""), None);
        let retries = forward.retries;
        for (mirror, per_million) in &forward.mirrors {
            let servers = self.servers.get(mirror).map_or(&[][..], Vec::as_slice);
            if fastrand::u32(..1_000_000) < *per_million {
                // the answers of mirrors are discarded
                drop(answered(servers, None, retries, path, asked));
            }
        }
        let Some(position) = pick(&forward.clusters) else { return missing() };
        let (cluster, _) = &forward.clusters[position];
        let is_hashed = self.routes.table.upstreams.get(cluster).is_some_and(|own| own.table.is_some());
        let hashed = if is_hashed { Hashed::of(forward, request, asked.connection) } else { Hashed::default() };
        match (self.routes.table.clusters.get(cluster), self.servers.get(cluster).map(Vec::as_slice)) {
            (None | Some(Endpoints::NoCluster), _) => missing(),
            (_, None | Some([])) => (plain(Status(503), "no healthy upstream"), None),
            (_, Some(servers)) => match answered(servers, hashed.key, retries, path, asked) {
                Some(mut response) => {
                    hashed.set_cookies(&mut response);
                    (response, Some(position))
                }
                None => (plain(Status(503), "upstream connect error or disconnect/reset before headers"), None),
            },
        }
    }
}

/// Changes the headers of a response.
fn change(response: &mut Response<AnswerBody>, changes: &ResponseHeaders) {
    for (name, change) in changes.iter() {
        let Ok(name) = name.parse::<HeaderName>() else { continue };
        let headers = response.headers_mut();
        match change {
            HeaderChange::Remove => drop(headers.remove(name)),
            HeaderChange::Set(value) => drop(value.parse().map(|value| headers.insert(name, value))),
            HeaderChange::Add(value) => drop(value.parse().map(|value| headers.append(name, value))),
        }
    }
}

/// The response of the endpoint for a key, or of one at random, and of others as often as the request is sent again; none if there is no response.
fn answered(
    endpoints: &[Endpoint],
    key: Option<u64>,
    retries: Retries,
    path: &str,
    asked: &Asked<'_>,
) -> Option<Response<AnswerBody>> {
    if endpoints.is_empty() {
        return None;
    }
    let mut untried: Vec<&Endpoint> = endpoints.iter().collect();
    for attempt in 0.. {
        if untried.is_empty() || !retries.to_others {
            untried = endpoints.iter().collect();
        }
        let position = key.map_or_else(
            || fastrand::usize(..untried.len()),
            |key| position_of(untried.iter().map(|own| own.pod.as_str()), key),
        );
        let picked = untried.swap_remove(position);
        let response = picked.respond(path, asked);
        let failure = response.as_ref().and_then(|response| match response.status() {
            StatusCode::SERVICE_UNAVAILABLE => Some(Failure::Unavailable),
            StatusCode::BAD_GATEWAY => Some(Failure::BadGateway),
            _ => None,
        });
        let failure = failure.or(picked.failure);
        if attempt >= retries.attempts || !failure.is_some_and(|failure| retries.follow(failure)) {
            return response;
        }
    }
    None
}

/// Picks a cluster at random by the weights: its position.
fn pick(clusters: &[(Cluster, u32)]) -> Option<usize> {
    if let [_] = clusters {
        return Some(0);
    }
    let total: u64 = clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut left = (total > 0).then(|| fastrand::u64(..total))?;
    clusters.iter().position(|(_, weight)| {
        let own = u64::from(*weight);
        let is_here = left < own;
        left = left.saturating_sub(own);
        is_here
    })
}
