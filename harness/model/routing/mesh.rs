use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::condition::{Pattern, Request};
use super::destination_rule::{DestinationRules, Subset};
use super::distribution::{Chance, Distribution, Outcome, Unconnected};
use super::hosts::{addressed, falls_under, is_wildcard};
use super::http_route;
use super::live::{Kind, Live, Object};
use super::rule::{Destination, NotModelled, RedirectPort, Rule, RuleRef};
use super::service::{Pod, Pods, Port, Protocol, Service};
use super::table::{Action, Behind, Cluster, Forward, Redirect, Rewrite, Route, RouteTable, Unit};
use super::virtual_service::{MESH, VirtualService};

/// Kinds that change what a mesh does and that the model does not know.
const UNKNOWN_KINDS: [&str; 17] = [
    "AuthorizationPolicy",
    "EnvoyFilter",
    "Gateway",
    "GRPCRoute",
    "Ingress",
    "NetworkPolicy",
    "PeerAuthentication",
    "ProxyConfig",
    "RequestAuthentication",
    "ServiceEntry",
    "Sidecar",
    "StatefulSet",
    "TCPRoute",
    "TLSRoute",
    "WasmPlugin",
    "WorkloadEntry",
    "WorkloadGroup",
];

/// What sends requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its namespace.
    pub namespace: String,
    /// Its pod's labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it has a sidecar. Without one no rule holds for it.
    pub sidecar: bool,
}

/// All objects that take part in routing, read and indexed.
#[derive(Debug)]
pub struct Mesh {
    services: HashMap<String, Service>,
    virtual_services: Vec<VirtualService>,
    destination_rules: DestinationRules,
    pods: Pods,
    not_modelled: Vec<NotModelled>,
}

impl Mesh {
    /// Reads the applied objects. The pods are those that are ready: [`pods_of`](super::pods_of) for those that the objects ask for.
    #[must_use]
    pub fn new(live: &Live, pods: Vec<Pod>) -> Self {
        let mut notes = BTreeSet::new();
        let services = live.of(Kind::Service).map(|object| Service::read(object, &mut notes));
        let services = services.map(|service| (service.host.clone(), service)).collect();
        let read = live.of(Kind::VirtualService).map(|object| VirtualService::read(object, &mut notes));
        let (delegates, roots): (Vec<_>, Vec<_>) = read.partition(|own| own.hosts.is_empty());
        let delegates: BTreeMap<_, _> =
            delegates.into_iter().map(|own| ((own.namespace.clone(), own.name.clone()), own)).collect();
        let roots = roots.into_iter().filter(|own| own.mesh).map(|own| own.merged(&delegates));
        let mut virtual_services: Vec<VirtualService> =
            roots.chain(http_route::read_all(live.of(Kind::HttpRoute), &mut notes)).collect();
        virtual_services.sort_by(|left, right| {
            (left.created, &left.name, &left.namespace).cmp(&(right.created, &right.name, &right.namespace))
        });
        let destination_rules = DestinationRules::read(live.of(Kind::DestinationRule), &mut notes);
        for Object { manifest, .. } in live.all() {
            if UNKNOWN_KINDS.contains(&manifest.kind()) {
                notes.insert(NotModelled { origin: manifest.origin.clone(), field: manifest.id() });
            }
        }
        Self {
            services,
            virtual_services,
            destination_rules,
            pods: Pods::new(pods),
            not_modelled: notes.into_iter().collect(),
        }
    }

    /// What the objects say that the model does not know.
    #[must_use]
    pub fn not_modelled(&self) -> &[NotModelled] {
        &self.not_modelled
    }

    /// How many of the pods that a service selects are of each version: who answers if no rule takes part.
    #[must_use]
    pub fn replicas(&self, host: &str, namespace: &str) -> BTreeMap<String, u64> {
        let service = self.services.get(&addressed(host, namespace));
        let selected =
            service.and_then(|service| Some(self.pods.select(&service.namespace, service.selector.as_ref()?)));
        let mut replicas = BTreeMap::new();
        for pod in selected.into_iter().flatten() {
            *replicas.entry(pod.version.clone()).or_default() += 1;
        }
        replicas
    }

    /// What becomes of the requests of a client.
    #[must_use]
    pub fn outbound(&self, client: Client) -> Outbound<'_> {
        Outbound::new(self, client)
    }
}

/// Everything that a client's sidecar does with requests; without a sidecar, what the node does.
#[derive(Debug)]
pub struct Outbound<'m> {
    mesh: &'m Mesh,
    client: Client,
    /// Indices of the rules that hold for a host, the one that counts first.
    exact: HashMap<&'m str, Vec<usize>>,
    /// Wildcards, the longest first.
    wildcards: Vec<(&'m str, usize)>,
}

/// How the requests to one service port are routed, with the exact distribution that each route gives.
#[derive(Debug, Clone)]
pub struct Routes {
    /// The table, as a sidecar would have it.
    pub table: RouteTable,
    rules: Vec<RuleRef>,
    distributions: Vec<Distribution>,
    no_route: Distribution,
}

/// What becomes of one request.
#[derive(Debug, Clone)]
pub struct Decision<'a> {
    /// The outcomes with their chances.
    pub distribution: &'a Distribution,
    /// The path that the server sees.
    pub path: Cow<'a, str>,
    /// The rule that decides, or the Service where there is none; none where no rule matches.
    pub rule: Option<&'a RuleRef>,
    /// The index of the route in the table.
    pub route: Option<usize>,
}

impl<'m> Outbound<'m> {
    fn new(mesh: &'m Mesh, client: Client) -> Self {
        // rules that only some namespaces see count before those for all; among them routes of the Gateway API of the client's own
        let namespace = client.namespace.as_str();
        let rank = |own: &VirtualService| {
            let scope = match &own.export {
                super::rule::Export::Everyone => 2,
                super::rule::Export::Namespaces(_) if own.namespace == namespace => 0,
                super::rule::Export::Namespaces(_) => 1,
            };
            (scope, !(own.gateway_api && own.namespace == namespace))
        };
        let mut visible: Vec<usize> = (0..mesh.virtual_services.len())
            .filter(|index| mesh.virtual_services[*index].export.to(namespace))
            .collect();
        visible.sort_by_key(|index| rank(&mesh.virtual_services[*index]));
        let mut exact: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut wildcards: Vec<(&str, usize)> = Vec::new();
        for index in visible {
            for host in &mesh.virtual_services[index].hosts {
                if is_wildcard(host) {
                    if !wildcards.iter().any(|(own, _)| own == host) {
                        wildcards.push((host, index));
                    }
                } else {
                    exact.entry(host).or_default().push(index);
                }
            }
        }
        wildcards.sort_by_key(|(host, _)| std::cmp::Reverse(host.len()));
        Self { mesh, client, exact, wildcards }
    }

    /// The routes for the requests to a host and port, as the client addresses them.
    ///
    /// # Errors
    /// There is no such service or port, hence no connection.
    pub fn routes(&self, request: &Request) -> Result<Routes, Unconnected> {
        let called = self.service(&request.host).ok_or(Unconnected::UnknownName)?;
        let port = called.port(request.port).ok_or(Unconnected::UnknownPort)?;
        if !self.client.sidecar {
            return Ok(self.connections(called, port));
        }
        match &port.protocol {
            Protocol::Tcp(_) => Ok(self.connections(called, port)),
            Protocol::Detected => Ok(self.requests(called, port)),
            Protocol::Http => {
                let authority = request.authority();
                let host = authority.rsplit_once(':').map_or(&*authority, |(host, _)| host);
                // virtual hosts are for all HTTP services of a port: the host in the request tells them apart, not the address
                if let Some(routes) = self.unregistered(host, request.port) {
                    return Ok(routes);
                }
                let meant = self.service(host).and_then(|meant| Some((meant, meant.port(request.port)?)));
                Ok(match meant.filter(|(_, port)| !matches!(port.protocol, Protocol::Tcp(_))) {
                    Some((meant, port)) => self.requests(meant, port),
                    None => self.connections(called, port),
                })
            }
        }
    }

    /// What a request meets, as far as it is connected at all. Where many requests are asked about, ask [`Routes`] of one host.
    #[must_use]
    pub fn distribution(&self, request: &Request) -> Distribution {
        match self.routes(request) {
            Ok(routes) => routes.decide(request).distribution.clone(),
            Err(reason) => Distribution::certain(Outcome::NoConnection(reason)),
        }
    }

    /// The hosts that a request may name to be routed by rules: those of all services, as this client may write them.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let names = self.mesh.services.values().flat_map(|service| {
            let within = format!("{}.{}", service.name, service.namespace);
            let short = (service.namespace == self.client.namespace).then(|| service.name.clone());
            [service.host.clone(), format!("{within}.svc"), within].into_iter().chain(short)
        });
        names.chain(self.exact.keys().map(|host| (*host).to_owned())).collect()
    }

    /// The routes of all ports of all services.
    pub fn all(&self) -> impl Iterator<Item = Routes> {
        self.mesh.services.values().flat_map(|service| {
            service.ports.iter().map(|port| match port.protocol {
                Protocol::Tcp(_) => self.connections(service, port),
                _ => self.requests(service, port),
            })
        })
    }

    pub(super) fn service(&self, host: &str) -> Option<&'m Service> {
        self.mesh.services.get(&addressed(host, &self.client.namespace))
    }

    /// Connections that are balanced over everything that the Service selects.
    fn connections(&self, service: &Service, port: &Port) -> Routes {
        let cluster = Cluster { host: service.host.clone(), port: port.number, subset: None };
        self.finish(Unit::Connection, vec![(Route::all_to(cluster), of_service(service))])
    }

    fn requests(&self, service: &Service, port: &Port) -> Routes {
        let routes = self.rules_for(&service.host).find_map(|own| {
            // a route of the Gateway API holds for its own namespace and that of the service
            let applies =
                !own.gateway_api || own.namespace == service.namespace || own.namespace == self.client.namespace;
            if applies { self.translate(own, port.number) } else { None }
        });
        let to_all = || {
            let cluster = Cluster { host: service.host.clone(), port: port.number, subset: None };
            vec![(Route::all_to(cluster), of_service(service))]
        };
        self.finish(Unit::Request, routes.unwrap_or_else(to_all))
    }

    /// On port 80 alone a rule also holds for hosts that are no services, such as a name with namespace but without a domain.
    fn unregistered(&self, host: &str, port: u16) -> Option<Routes> {
        let host = host.to_lowercase();
        if port != 80 || self.mesh.services.contains_key(&host) {
            return None;
        }
        let rules = self.exact.get(host.as_str())?.iter().map(|index| &self.mesh.virtual_services[*index]);
        let routes = rules.filter(|own| !own.gateway_api).find_map(|own| self.translate(own, port))?;
        Some(self.finish(Unit::Request, routes))
    }

    /// The rules for a service, the one that counts first. Exact hosts count before wildcards, of which only the most specific counts.
    pub(super) fn rules_for(&self, host: &str) -> impl Iterator<Item = &'m VirtualService> {
        let exact = self.exact.get(host).map_or(&[][..], Vec::as_slice);
        let wildcard = if exact.is_empty() {
            self.wildcards.iter().find(|(wildcard, _)| falls_under(host, wildcard)).map(|(_, index)| *index)
        } else {
            None
        };
        exact.iter().copied().chain(wildcard).map(|index| &self.mesh.virtual_services[index])
    }

    /// The routes that a rule gives this client on a port; none where no part of it holds for the client, so that it counts as not there.
    fn translate(&self, own: &VirtualService, port: u16) -> Option<Vec<(Route, RuleRef)>> {
        let mut routes = Vec::new();
        'rules: for rule in &own.rules {
            if rule.matches.is_empty() {
                routes.push((Self::route(rule, Vec::new(), None, port, own.gateway_api), rule.at.clone()));
                break;
            }
            for one in rule.matches.iter().filter(|one| self.concerned(one, port)) {
                let conditions = one.conditions();
                let all = conditions.is_empty() || is_all(one);
                let route = Self::route(rule, conditions, one.uri.as_ref(), port, own.gateway_api);
                routes.push((route, rule.at.clone()));
                // behind a route for every request the others are not sent
                if all {
                    break 'rules;
                }
            }
        }
        (!routes.is_empty()).then_some(routes)
    }

    fn concerned(&self, one: &super::rule::Match, port: u16) -> bool {
        if one.port.is_some_and(|own| own != port) {
            return false;
        }
        if !one.gateways.is_empty() {
            return one.gateways.iter().any(|gateway| gateway == MESH);
        }
        one.source_labels.iter().all(|(key, value)| self.client.labels.get(key) == Some(value))
            && one.source_namespace.as_ref().is_none_or(|own| *own == self.client.namespace)
    }

    fn route(
        rule: &Rule,
        conditions: Vec<super::Condition>,
        uri: Option<&super::Test>,
        port: u16,
        gateway_api: bool,
    ) -> Route {
        let cluster = |destination: &Destination| Cluster {
            host: destination.host.clone(),
            port: destination.port.unwrap_or(port),
            subset: destination.subset.clone(),
        };
        let action = if let Some(redirect) = &rule.redirect {
            let scheme = redirect.scheme.as_deref().unwrap_or("http");
            let target = match redirect.port {
                RedirectPort::OfScheme => None,
                RedirectPort::OfRequest => Some(port),
                RedirectPort::Number(number) => Some(number),
            };
            Action::Redirect(Redirect {
                status: redirect.status,
                scheme: redirect.scheme.clone(),
                host: redirect.host.clone(),
                port: target.filter(|port| !matches!((port, scheme), (80, "http") | (443, "https"))),
                path: redirect.path.clone(),
            })
        } else if let Some((status, body)) = &rule.response {
            Action::Respond { status: *status, body: body.clone() }
        } else {
            let mut clusters: Vec<(Cluster, u32)> =
                rule.route.iter().map(|destination| (cluster(destination), destination.weight)).collect();
            if clusters.len() > 1 {
                clusters.retain(|(_, weight)| *weight > 0);
            }
            if let [(_, weight)] = clusters.as_mut_slice() {
                // a single destination gets everything, whatever its weight
                *weight = 1;
            }
            let rewrite = rule.rewrite.as_ref().and_then(|rewrite| rewrite.path.clone());
            let rewrite = rewrite.map(|rewrite| match (rewrite, uri) {
                (Rewrite::Matched(text), uri) if gateway_api && text == "/" => without_prefix(uri),
                (other, _) => other,
            });
            Action::Forward(Forward {
                clusters,
                rewrite,
                host: rule.rewrite.as_ref().and_then(|rewrite| rewrite.host.clone()),
                mirrors: rule.mirrors.iter().map(|(destination, share)| (cluster(destination), *share)).collect(),
                missing: rule.missing,
            })
        };
        Route { conditions, abort: rule.abort, action }
    }

    /// Looks up what stands behind the clusters and what each route comes to.
    fn finish(&self, unit: Unit, routes: Vec<(Route, RuleRef)>) -> Routes {
        let (routes, rules): (Vec<Route>, Vec<RuleRef>) = routes.into_iter().unzip();
        let mut table = RouteTable { unit, routes, clusters: BTreeMap::new() };
        let mut shares: BTreeMap<Cluster, Distribution> = BTreeMap::new();
        let targets: BTreeSet<Cluster> = table.targets().cloned().collect();
        for cluster in targets {
            let (behind, distribution) = self.behind(&cluster, unit);
            table.clusters.insert(cluster.clone(), behind);
            shares.insert(cluster, distribution);
        }
        let distributions = table.routes.iter().map(|route| comes_to(route, &shares)).collect();
        Routes { table, rules, distributions, no_route: Distribution::certain(Outcome::NoRoute) }
    }

    fn behind(&self, cluster: &Cluster, unit: Unit) -> (Behind, Distribution) {
        let Some(ready) = self.ready(cluster) else {
            return (Behind::Nothing, Distribution::default());
        };
        let mut distribution = Distribution::default();
        for (pod, number) in &ready {
            let outcome = if pod.listens(*number) {
                Outcome::Served { version: pod.version.clone(), image: pod.image.clone() }
            } else if unit == Unit::Connection {
                Outcome::NoConnection(Unconnected::Refused)
            } else {
                Outcome::NotListening
            };
            distribution.add(outcome, Chance::of(1, ready.len() as u64));
        }
        if ready.is_empty() {
            distribution = nobody(unit);
        }
        let addresses = ready.iter().map(|(pod, number)| format!("{}:{number}", pod.address));
        (Behind::Endpoints(addresses.collect()), distribution)
    }

    /// The pods behind a cluster, with the port on which each is called; none where there is no such cluster.
    fn ready(&self, cluster: &Cluster) -> Option<Vec<(&'m Pod, u16)>> {
        let (service, port) = self.existing(cluster)?;
        let Some(mut labels) = service.selector.clone() else { return Some(Vec::new()) };
        if let Some(subset) = cluster.subset.as_ref().and_then(|subset| self.subset(service, subset)) {
            // a label with two values is one that no pod has
            if subset.labels.iter().any(|(key, value)| labels.get(key).is_some_and(|other| other != value)) {
                return Some(Vec::new());
            }
            labels.extend(subset.labels.clone());
        }
        let pods = self.mesh.pods.select(&service.namespace, &labels);
        Some(pods.into_iter().filter_map(|pod| Some((pod, pod.port(&port.target)?))).collect())
    }

    pub(super) fn almost(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
    ) -> BTreeSet<(String, String, Option<String>)> {
        self.mesh.pods.almost(namespace, labels)
    }

    /// The addresses of the ready endpoints of a cluster, as a table has them; none where there is no such cluster.
    #[must_use]
    pub fn endpoints(&self, cluster: &Cluster) -> Option<BTreeSet<String>> {
        let ready = self.ready(cluster)?;
        Some(ready.into_iter().map(|(pod, port)| format!("{}:{port}", pod.address)).collect())
    }

    /// The workloads that may serve a request, or a copy of it.
    #[must_use]
    pub fn workloads(&self, request: &Request) -> BTreeSet<String> {
        let routes = self.routes(request).ok();
        let route = routes.as_ref().and_then(|routes| routes.table.routes.get(routes.decide(request).route?));
        let Some(Route { action: Action::Forward(forward), .. }) = route else { return BTreeSet::new() };
        let clusters = forward.clusters.iter().chain(&forward.mirrors).map(|(cluster, _)| cluster);
        clusters.filter_map(|cluster| self.ready(cluster)).flatten().map(|(pod, _)| pod.workload.clone()).collect()
    }

    fn existing(&self, cluster: &Cluster) -> Option<(&'m Service, &'m Port)> {
        let service = self.mesh.services.get(&cluster.host)?;
        let port = service.port(cluster.port)?;
        match &cluster.subset {
            Some(subset) => self.subset(service, subset).map(|_| (service, port)),
            None => Some((service, port)),
        }
    }

    pub(super) fn subset(&self, service: &Service, subset: &str) -> Option<&'m Subset> {
        let rules = self.mesh.destination_rules.of(&service.host, &service.namespace, &self.client.namespace)?;
        rules.by_name.get(subset)
    }

    pub(super) const fn has_sidecar(&self) -> bool {
        self.client.sidecar
    }
}

impl Routes {
    /// What becomes of a request to this host and port.
    #[must_use]
    pub fn decide(&self, request: &Request) -> Decision<'_> {
        match self.table.route(request) {
            Some(index) => {
                let route = &self.table.routes[index];
                let rewritten = matches!(&route.action, Action::Forward(forward) if forward.rewrite.is_some());
                Decision {
                    distribution: &self.distributions[index],
                    path: if rewritten { route.path(request).into() } else { request.path.clone().into() },
                    rule: Some(&self.rules[index]),
                    route: Some(index),
                }
            }
            None => {
                Decision { distribution: &self.no_route, path: request.path.clone().into(), rule: None, route: None }
            }
        }
    }
}

/// A match that Istio takes for every request, though it asks for an expression.
fn is_all(one: &super::rule::Match) -> bool {
    matches!(&one.uri, Some(super::Test::Regex(pattern)) if pattern.as_str() == ".*") && one.conditions().len() == 1
}

/// The Gateway API's way to cut a prefix off: whole parts of a path, and at least a `/` remains.
fn without_prefix(uri: Option<&super::Test>) -> Rewrite {
    let prefix = match uri {
        Some(super::Test::PathPrefix(text)) if text != "/" => text.as_str(),
        _ => "",
    };
    let mut quoted = String::new();
    for character in prefix.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    Rewrite::Regex(Pattern::new(&format!("^{quoted}(/?)(.*)")), r"/\2".to_owned())
}

/// What routes where no rule does.
fn of_service(service: &Service) -> RuleRef {
    RuleRef { object: format!("Service {}", service.name).into(), origin: service.origin.clone() }
}

fn nobody(unit: Unit) -> Distribution {
    Distribution::certain(match unit {
        Unit::Request => Outcome::NoEndpoint,
        Unit::Connection => Outcome::NoConnection(Unconnected::Refused),
    })
}

fn comes_to(route: &Route, shares: &BTreeMap<Cluster, Distribution>) -> Distribution {
    let mut distribution = Distribution::default();
    let mut rest = Chance::CERTAIN;
    if let Some(abort) = route.abort {
        let share = Chance::of(u64::from(abort.per_million.min(1_000_000)), 1_000_000);
        distribution.add(Outcome::Aborted(abort.status), share);
        rest = share.otherwise();
    }
    match &route.action {
        Action::Redirect(redirect) => distribution.add(Outcome::Redirected(redirect.clone()), rest),
        Action::Respond { status, body } => {
            distribution.add(Outcome::Responded { status: *status, body: body.clone() }, rest);
        }
        Action::Forward(forward) => {
            let total: u64 = forward.clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
            for (cluster, weight) in &forward.clusters {
                let part = rest.and(Chance::of(u64::from(*weight), total));
                let behind = shares.get(cluster);
                if behind.is_none_or(|behind| behind.iter().next().is_none()) {
                    distribution.add(Outcome::NoCluster(forward.missing), part);
                }
                for (outcome, chance) in behind.into_iter().flat_map(Distribution::iter) {
                    distribution.add(outcome.clone(), part.and(chance));
                }
            }
            if total == 0 {
                distribution.add(Outcome::NoCluster(forward.missing), rest);
            }
        }
    }
    distribution
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::routing::{Naming, pods_of};
    use crate::scenario::parse_manifests;

    fn live(text: &str) -> Live {
        let mut live = Live::new("here", "here");
        parse_manifests(Path::new("a.yaml"), text).unwrap().iter().for_each(|manifest| live.apply(manifest));
        live
    }

    fn client() -> Client {
        Client { namespace: "here".to_owned(), labels: BTreeMap::new(), sidecar: true }
    }

    const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec: {replicas: 3, template: {metadata: {labels: {app: a}}, spec: {containers: [{image: 'a:1'}]}}}
---
";

    #[test]
    fn what_is_not_modelled_is_named_with_its_place() {
        let rule = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [svc]
  http:
    - corsPolicy: {}
      route: [{destination: {host: svc}, headers: {}}]
      timeout: 1s
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: own}
";
        let live = live(&format!("{SERVICE}{rule}"));
        let mesh = Mesh::new(&live, Vec::new());
        let notes = mesh.not_modelled().iter().map(|note| format!("{}: {}", note.origin, note.field));
        assert_eq!(
            notes.collect::<Vec<_>>(),
            [
                "a.yaml:17:7: spec.http[0].corsPolicy",
                "a.yaml:18:42: spec.http[0].route[0].headers",
                "a.yaml:19:7: spec.http[0].timeout",
                "a.yaml:21:1: Sidecar/own",
            ]
        );
    }

    #[test]
    fn on_port_80_a_rule_holds_for_a_host_that_is_no_service() {
        let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\n\
                    spec: {hosts: [svc.here], http: [{directResponse: {status: 418}}]}";
        let live = live(&format!("{SERVICE}{rule}"));
        let mesh = Mesh::new(&live, pods_of(&live, &Naming::default()));
        let outbound = mesh.outbound(client());
        let status = |host: &str| {
            let given = outbound.distribution(&Request::get(host, 80, "/"));
            given.chance(|outcome| outcome.mesh_status() == Some(418)) == Chance::CERTAIN
        };
        assert!(status("svc.here"));
        assert!(!status("svc"));
    }

    #[test]
    fn the_host_of_a_request_chooses_among_the_services_of_a_port() {
        let other = SERVICE
            .replace("name: svc", "name: other")
            .replace("app: a", "app: b")
            .replace("a:1", "b:1")
            .replace("name: a}", "name: b}");
        let live = live(&format!("{SERVICE}{other}"));
        let mesh = Mesh::new(&live, pods_of(&live, &Naming::default()));
        let outbound = mesh.outbound(client());
        let served = |request: &Request, version: &str| {
            outbound.distribution(request).chance(|outcome| outcome.version() == Some(version)) == Chance::CERTAIN
        };
        let request = Request::get("svc", 80, "/");
        assert!(served(&request, "1"), "{:?}", outbound.distribution(&request));
        assert_eq!(mesh.replicas("svc", "here"), BTreeMap::from([("1".to_owned(), 3)]));
        assert_eq!(outbound.workloads(&request.clone().with("host", "other")), BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn what_is_not_there_is_not_connected() {
        let live = live(SERVICE);
        let mesh = Mesh::new(&live, Vec::new());
        let outbound = mesh.outbound(client());
        assert_eq!(outbound.routes(&Request::get("none", 80, "/")).unwrap_err(), Unconnected::UnknownName);
        assert_eq!(outbound.routes(&Request::get("svc", 81, "/")).unwrap_err(), Unconnected::UnknownPort);
        let empty = outbound.distribution(&Request::get("svc.here.svc", 80, "/"));
        assert_eq!(empty, Distribution::certain(Outcome::NoEndpoint));
    }
}
