use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::client::Client;
use super::condition::Request;
use super::distribution::{Chance, Distribution, Outcome, Unconnected};
use super::hosts::{addressed, falls_under, is_wildcard};
use super::mesh::Mesh;
use super::rule::{Export, RuleRef};
use super::service::{Port, Protocol, Service};
use super::table::{Action, Cluster, Route, RouteTable, RoutingUnit};
use super::translate;
use super::unmodelled::{self, NotModelled, Reach};
use super::virtual_service::VirtualService;

/// The outbound routing of a client: by its sidecar's rules, or without a sidecar by the node.
#[derive(Debug)]
pub struct Outbound<'m> {
    pub(super) mesh: &'m Mesh,
    pub(super) client: Client,
    /// By host, the indices of its virtual services, in order of precedence.
    exact: HashMap<&'m str, Vec<usize>>,
    /// Wildcards, the longest first.
    wildcards: Vec<(&'m str, usize)>,
}

/// The routes for requests to one service port, with the exact distribution of outcomes for each.
#[derive(Debug, Clone)]
pub struct Routes {
    /// The table, as a sidecar would have it.
    pub table: RouteTable,
    rules: Vec<RuleRef>,
    distributions: Vec<Distribution>,
    no_route: Distribution,
}

/// The routing of one request.
#[derive(Debug, Clone)]
pub struct Decision<'a> {
    /// The outcomes with their probabilities.
    pub distribution: &'a Distribution,
    /// The path that the server receives.
    pub path: Cow<'a, str>,
    /// The rule that decides; the Service if no rule applies to the host; none if no route matches.
    pub rule: Option<&'a RuleRef>,
    /// The index of the route in the table.
    pub route: Option<usize>,
}

impl Mesh {
    /// The outbound routing of a client.
    #[must_use]
    pub fn outbound(&self, client: Client) -> Outbound<'_> {
        Outbound::new(self, client)
    }
}

impl<'m> Outbound<'m> {
    fn new(mesh: &'m Mesh, client: Client) -> Self {
        // Objects that are exported to some namespaces only take precedence over those that are exported to all; among equals, routes of
        // the Gateway API in the client's namespace come first.
        let namespace = client.namespace.as_str();
        let rank = |service: &VirtualService| {
            let scope = match &service.export {
                Export::Everyone => 2,
                Export::Namespaces(_) if service.namespace == namespace => 0,
                Export::Namespaces(_) => 1,
            };
            (scope, !(service.gateway_api && service.namespace == namespace))
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
                    if !wildcards.iter().any(|(known, _)| known == host) {
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

    /// The routes for requests to a host and port, as the client addresses them.
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
                // The virtual hosts of a port cover all of its HTTP services: the `Host` header selects the service, not the address.
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

    /// The outcomes of a request. To evaluate many requests to one host, call [`routes`](Self::routes) once.
    #[must_use]
    pub fn distribution(&self, request: &Request) -> Distribution {
        match self.routes(request) {
            Ok(routes) => routes.decide(request).distribution.clone(),
            Err(reason) => Distribution::certain(Outcome::NoConnection(reason)),
        }
    }

    /// The hosts that rules can route requests to: the names of all services, in every form that this client may use.
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

    /// The addresses of the ready endpoints of a cluster, as in a table; none if the cluster does not exist.
    #[must_use]
    pub fn endpoints(&self, cluster: &Cluster) -> Option<BTreeSet<String>> {
        let ready = self.mesh.ready(cluster, &self.client.namespace)?;
        Some(ready.into_iter().map(|(pod, port)| format!("{}:{port}", pod.address)).collect())
    }

    /// The workloads that may receive a request, or a mirrored copy of it.
    #[must_use]
    pub fn workloads(&self, request: &Request) -> BTreeSet<String> {
        let routes = self.routes(request).ok();
        let route = routes.as_ref().and_then(|routes| routes.table.routes.get(routes.decide(request).route?));
        let Some(Route { action: Action::Forward(forward), .. }) = route else { return BTreeSet::new() };
        let clusters = forward.clusters.iter().chain(&forward.mirrors).map(|(cluster, _)| cluster);
        let ready = clusters.filter_map(|cluster| self.mesh.ready(cluster, &self.client.namespace));
        ready.flatten().map(|(pod, _)| pod.workload.clone()).collect()
    }

    /// What the model does not cover and what can affect a request, given its routes. Without routes there is no connection.
    #[must_use]
    pub fn not_modelled(&self, request: &Request, routes: Option<&Routes>) -> Vec<NotModelled> {
        let decision = routes.map(|routes| routes.decide(request));
        let route = decision.as_ref().and_then(|decision| routes?.table.routes.get(decision.route?));
        let clusters: Vec<&Cluster> = match route.map(|route| &route.action) {
            Some(Action::Forward(forward)) => {
                forward.clusters.iter().chain(&forward.mirrors).map(|(cluster, _)| cluster).collect()
            }
            _ => Vec::new(),
        };
        let called = addressed(&request.host, &self.client.namespace);
        let reach = Reach {
            client: (&self.client.namespace, &self.client.labels),
            hosts: clusters.iter().map(|cluster| cluster.host.as_str()).chain([called.as_str()]).collect(),
            is_http: routes.is_none_or(|routes| routes.table.unit == RoutingUnit::Request),
            rule: decision.as_ref().and_then(|decision| Some(&decision.rule?.origin)),
            destinations: clusters.iter().filter_map(|cluster| self.destination(cluster)).collect(),
        };
        let notes = self.mesh.not_modelled().iter();
        notes.filter(|note| note.scope.covers(&reach)).cloned().collect()
    }

    fn destination<'c>(&'c self, cluster: &'c Cluster) -> Option<unmodelled::Destination<'c>> {
        let service = self.mesh.services.get(&cluster.host)?;
        let mut selector = service.selector.clone()?;
        let subset = cluster.subset.as_ref().and_then(|name| self.mesh.subset(service, name, &self.client.namespace));
        selector.extend(subset.into_iter().flat_map(|subset| subset.labels.clone()));
        let ready = self.mesh.ready(cluster, &self.client.namespace).unwrap_or_default();
        let pods = ready.into_iter().map(|(pod, _)| pod).collect();
        Some(unmodelled::Destination {
            host: &service.host,
            subset: cluster.subset.as_deref(),
            namespace: &service.namespace,
            selector,
            pods,
        })
    }

    pub(super) fn service(&self, host: &str) -> Option<&'m Service> {
        self.mesh.services.get(&addressed(host, &self.client.namespace))
    }

    /// Connections, balanced over all endpoints of the Service.
    fn connections(&self, service: &Service, port: &Port) -> Routes {
        self.evaluate(RoutingUnit::Connection, to_all_endpoints(service, port))
    }

    fn requests(&self, service: &Service, port: &Port) -> Routes {
        let routes = self.rules_for(&service.host).find_map(|rules| {
            // a route of the Gateway API applies in its namespace and in that of the service
            let applies =
                !rules.gateway_api || rules.namespace == service.namespace || rules.namespace == self.client.namespace;
            if applies { translate::routes(rules, &self.client, port.number) } else { None }
        });
        self.evaluate(RoutingUnit::Request, routes.unwrap_or_else(|| to_all_endpoints(service, port)))
    }

    /// The routes for a host that is no service, such as a name with a namespace but without a domain. Istio applies rules to such hosts
    /// on port 80 only.
    fn unregistered(&self, host: &str, port: u16) -> Option<Routes> {
        let host = host.to_lowercase();
        if port != 80 || self.mesh.services.contains_key(&host) {
            return None;
        }
        let rules = self.exact.get(host.as_str())?.iter().map(|index| &self.mesh.virtual_services[*index]);
        let mut rules = rules.filter(|rules| !rules.gateway_api);
        let routes = rules.find_map(|rules| translate::routes(rules, &self.client, port))?;
        Some(self.evaluate(RoutingUnit::Request, routes))
    }

    /// The virtual services for a host, in order of precedence. Exact hosts take precedence over wildcards, of which only the most
    /// specific applies.
    pub(super) fn rules_for(&self, host: &str) -> impl Iterator<Item = &'m VirtualService> {
        let exact = self.exact.get(host).map_or(&[][..], Vec::as_slice);
        let wildcard = if exact.is_empty() {
            self.wildcards.iter().find(|(wildcard, _)| falls_under(host, wildcard)).map(|(_, index)| *index)
        } else {
            None
        };
        exact.iter().copied().chain(wildcard).map(|index| &self.mesh.virtual_services[index])
    }

    /// Adds the endpoints of all clusters, and the distribution of outcomes of each route.
    fn evaluate(&self, unit: RoutingUnit, routes: Vec<(Route, RuleRef)>) -> Routes {
        let (routes, rules): (Vec<Route>, Vec<RuleRef>) = routes.into_iter().unzip();
        let mut table = RouteTable { unit, routes, clusters: BTreeMap::new() };
        let mut by_cluster: BTreeMap<Cluster, Distribution> = BTreeMap::new();
        let targets: BTreeSet<Cluster> = table.targets().cloned().collect();
        for cluster in targets {
            let (endpoints, distribution) = self.mesh.endpoints(&cluster, unit, &self.client.namespace);
            table.clusters.insert(cluster.clone(), endpoints);
            by_cluster.insert(cluster, distribution);
        }
        let distributions = table.routes.iter().map(|route| distribution(route, &by_cluster)).collect();
        Routes { table, rules, distributions, no_route: Distribution::certain(Outcome::NoRoute) }
    }
}

impl Routes {
    /// The routing of a request to this host and port.
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

/// The route that applies without rules: all traffic to the Service.
fn to_all_endpoints(service: &Service, port: &Port) -> Vec<(Route, RuleRef)> {
    let cluster = Cluster { host: service.host.clone(), port: port.number, subset: None };
    let rule = RuleRef { object: format!("Service {}", service.name).into(), origin: service.origin.clone() };
    vec![(Route::all_to(cluster), rule)]
}

/// The outcomes of the requests that take a route.
fn distribution(route: &Route, by_cluster: &BTreeMap<Cluster, Distribution>) -> Distribution {
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
                let outcomes = by_cluster.get(cluster);
                if outcomes.is_none_or(|outcomes| outcomes.iter().next().is_none()) {
                    distribution.add(Outcome::NoCluster(forward.missing), part);
                }
                for (outcome, chance) in outcomes.into_iter().flat_map(Distribution::iter) {
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
    use crate::routing::{Live, Naming, pods_of};
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
      route: [{destination: {host: svc}, headers: {response: {}}}]
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
                "a.yaml:18:52: spec.http[0].route[0].headers.response",
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
