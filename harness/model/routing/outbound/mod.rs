mod entering;
mod outcomes;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::client::Client;
use super::condition::{GatewayPods, Request, TlsHandshake};
use super::distribution::{Distribution, Outcome, Unconnected};
use super::hosts::{Wildcards, addressed, falls_under, is_wildcard};
use super::mesh::Mesh;
use super::notes::NotModelled;
use super::retries::{Failure, Retries};
use super::rule::{Destination, Export, MESH, RuleRef};
use super::service::{Port, Protocol, Service};
use super::table::{Action, Cluster, Endpoints, Forward, Route, RouteTable, RoutingUnit};
use super::translate::{self, Listener, RuleRoute};
use super::unmodelled::{self, Reach};
use super::upstream::Upstream;
use super::virtual_service::VirtualService;
use crate::demo::DemoImage;
use crate::scenario::{GatewayApi, Origin};
use outcomes::of_route;

/// The outbound routing of a client: by its sidecar's rules, or without a sidecar by the node.
#[derive(Debug)]
pub struct Outbound<'m> {
    pub(super) mesh: &'m Mesh,
    pub(super) client: Client,
    /// The virtual services that the client sees, in order of precedence.
    pub(super) visible: Vec<&'m VirtualService>,
    /// By host in lower case, the indices of its virtual services, in order of precedence.
    exact: HashMap<String, Vec<usize>>,
    /// By wildcard, the indices of its virtual services, in order of precedence.
    wildcards: Wildcards<Vec<usize>>,
}

type RuleRoutes = Vec<RuleRoute>;

/// The routes for requests to one service port, with the exact distribution of outcomes for each.
#[derive(Debug, Clone)]
pub struct Routes {
    /// The table, as a sidecar would have it.
    pub table: RouteTable,
    pub(super) rules: Vec<RuleRef>,
    distributions: Vec<Distribution>,
    /// The distributions for the path at which demo servers respond with an error, where they differ.
    at_error: Vec<Option<Distribution>>,
    no_route: Distribution,
}

/// The routing of one request.
#[derive(Debug, Clone)]
pub struct Decision<'a> {
    /// The outcomes with their probabilities.
    pub distribution: &'a Distribution,
    /// The path that the server receives.
    pub path: String,
    /// The rule that decides; the Service if no rule applies to the host; none if no route matches.
    pub rule: Option<&'a RuleRef>,
    /// The index of the route in the table.
    pub route: Option<usize>,
}

impl Mesh {
    /// The outbound routing of a client.
    pub fn outbound(&self, client: Client) -> Outbound<'_> {
        let visible = self.visible(&client.namespace, |service| service.mesh);
        let mut exact: HashMap<String, Vec<usize>> = HashMap::new();
        let mut wildcards: Wildcards<Vec<usize>> = Wildcards::default();
        for (index, service) in visible.iter().enumerate() {
            for host in &service.hosts {
                if is_wildcard(host) {
                    wildcards.entry(host).push(index);
                } else {
                    exact.entry(host.to_lowercase()).or_default().push(index);
                }
            }
        }
        Outbound { mesh: self, client, visible, exact, wildcards }
    }

    /// The virtual services of these that a proxy in a namespace sees, in order of precedence.
    fn visible(&self, namespace: &str, is_own: impl Fn(&VirtualService) -> bool) -> Vec<&VirtualService> {
        // Objects that are exported to some namespaces only take precedence over those that are exported to all; among equals, routes of
        // the Gateway API in the client's namespace come first.
        let rank = |service: &VirtualService| {
            let scope = match &service.export {
                Export::Everyone => 2,
                Export::Namespaces(_) if service.namespace == namespace => 0,
                Export::Namespaces(_) => 1,
            };
            (scope, !(service.gateway_api && service.namespace == namespace))
        };
        let visible = self.virtual_services.iter().filter(|own| is_own(own) && own.export.to(namespace));
        let mut visible: Vec<&VirtualService> = visible.collect();
        visible.sort_by_key(|service| rank(service));
        visible
    }

    /// A pod of a gateway, as rules see it.
    pub fn gateway_client(&self, pods: &GatewayPods) -> Client {
        match pods {
            GatewayPods::Installed => Client::ingress_gateway(),
            GatewayPods::MadeFor(name) => {
                let namespaces = self.gateways.iter().filter_map(|gateway| gateway.made_in(name));
                let own = namespaces.min_by_key(|own| *own != self.namespace);
                let labels = [(GatewayApi::GATEWAY_NAME.to_owned(), name.clone())].into();
                Client::new(own.unwrap_or(&self.namespace), labels)
            }
        }
    }

    /// The routing of a gateway.
    pub(super) fn at_gateway(&self, pods: &GatewayPods) -> Outbound<'_> {
        let client = self.gateway_client(pods);
        let visible = self.visible(&client.namespace, |service| !service.gateways.is_empty());
        Outbound { mesh: self, client, visible, exact: HashMap::new(), wildcards: Wildcards::default() }
    }
}

impl<'m> Outbound<'m> {
    /// The routes for requests to a host and port, as the client addresses them.
    ///
    /// # Errors
    /// There is no such service or port, hence no connection.
    pub fn routes(&self, request: &Request) -> Result<Routes, Unconnected> {
        if let Some(pods) = &request.entering {
            return self.mesh.at_gateway(pods).entering(request);
        }
        let called = self.service(&request.host).ok_or(Unconnected::UnknownName)?;
        let port = called.port(request.port).ok_or(Unconnected::UnknownPort)?;
        if !self.client.sidecar {
            return Ok(self.balanced(called, port));
        }
        match &port.protocol {
            Protocol::Tcp(_) => Ok(self.connections(called, port)),
            Protocol::Detected => Ok(self.detected(called, port)),
            Protocol::Http => {
                let authority = request.authority().to_lowercase();
                let host = authority.rsplit_once(':').map_or(&*authority, |(host, _)| host);
                let routes = self.named(host, request.port);
                Ok(routes.unwrap_or_else(|| self.balanced(called, port)))
            }
        }
    }

    /// The routes for requests to a port with this name in their `Host` header: the virtual hosts of a port cover all of its HTTP services, so
    /// the header selects the service, not the address. None if it names nothing that the sidecar knows.
    fn named(&self, host: &str, number: u16) -> Option<Routes> {
        // since later versions a full name may end in a dot
        let service = match host.strip_suffix('.') {
            Some(full) if self.mesh.version.is_after_1_22() => self.mesh.services.get(full),
            Some(_) => None,
            None => self.service(host),
        };
        let service = service.and_then(|service| Some((service, service.http_port(number)?)));
        let ruled = service.and_then(|(service, port)| self.ruled(service, port));
        let first = ruled.as_ref().map_or(usize::MAX, |(index, _)| *index);
        // a rule may name a host, such as a short name, that stands for a service in other rules
        let beside = self.unregistered(host, number).filter(|(index, _)| *index <= first);
        let routes = match (beside.or(ruled), service) {
            (Some((_, routes)), _) => routes,
            (None, Some((service, port))) => self.to_all_pods(service, port),
            (None, None) => self.unregistered_wildcard(host, number)?,
        };
        Some(self.evaluate(RoutingUnit::Request, routes))
    }

    /// The outcomes of a request. To evaluate many requests to one host, call [`routes`](Self::routes) once.
    pub fn distribution(&self, request: &Request) -> Distribution {
        match self.routes(request) {
            Ok(routes) => routes.decide(request).distribution.clone(),
            Err(reason) => Distribution::certain(Outcome::NoConnection(reason)),
        }
    }

    /// The hosts that rules can route requests to: the names of all services, in every form that this client may use.
    pub fn hosts(&self) -> Vec<String> {
        let names = self.mesh.services.values().flat_map(|service| {
            let within = format!("{}.{}", service.name, service.namespace);
            let short = (service.namespace == self.client.namespace).then(|| service.name.clone());
            [service.host.clone(), format!("{within}.svc"), within].into_iter().chain(short)
        });
        names.chain(self.exact.keys().cloned()).collect()
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

    /// The pod that forwards a request to a server: the gateway, or the client itself.
    pub(super) fn client_of(&self, request: &Request) -> Cow<'_, Client> {
        let gateway = request.entering.as_ref().map(|pods| Cow::Owned(self.mesh.gateway_client(pods)));
        gateway.unwrap_or(Cow::Borrowed(&self.client))
    }

    /// What the model does not cover and what can affect a request, given its routes. Without routes there is no connection.
    pub fn not_modelled(&self, request: &Request, routes: Option<&Routes>) -> Vec<NotModelled> {
        let gateway = request.entering.as_ref().map(|pods| self.mesh.at_gateway(pods));
        let decision = routes.map(|routes| routes.decide(request));
        let route = decision.as_ref().and_then(|decision| routes?.table.routes.get(decision.route?));
        let rule = decision.as_ref().and_then(|decision| Some(&decision.rule?.origin));
        let reach = gateway.as_ref().unwrap_or(self).reach(request, routes, route.as_slice(), rule);
        let notes = self.mesh.not_modelled.iter();
        notes.filter(|note| note.scope.covers(&reach)).cloned().collect()
    }

    /// What the outcome of requests to the host of a request depends on, if they take one of these routes.
    pub(super) fn reach<'c>(
        &'c self,
        request: &Request,
        routes: Option<&Routes>,
        taken: &[&'c Route],
        rule: Option<&'c Origin>,
    ) -> Reach<'c> {
        let clusters = || {
            taken.iter().flat_map(|route| match &route.action {
                Action::Forward(forward) => [forward.clusters.as_slice(), &forward.mirrors].concat(),
                _ => Vec::new(),
            })
        };
        let called = if request.is_entering() {
            request.host.to_lowercase()
        } else {
            addressed(&request.host, &self.client.namespace)
        };
        Reach {
            client: (&self.client.namespace, &self.client.labels),
            placement: &self.client.placement,
            hosts: clusters().map(|(cluster, _)| cluster.host).chain([called]).collect(),
            port: request.port,
            is_http: routes.is_none_or(|routes| routes.table.unit == RoutingUnit::Request),
            is_entering: request.is_entering(),
            rule,
            destinations: clusters().filter_map(|(cluster, _)| self.destination(cluster)).collect(),
        }
    }

    fn destination(&self, cluster: Cluster) -> Option<unmodelled::Destination<'_>> {
        let service = self.mesh.services.get(&cluster.host)?;
        let mut selector = service.selector.clone()?;
        let subset = cluster.subset.as_ref().and_then(|name| self.mesh.subset(service, name, &self.client.namespace));
        selector.extend(subset.into_iter().flat_map(|subset| subset.labels.clone()));
        let behind = self.mesh.by_distance(&cluster, &self.client);
        let (nearest, farther) = behind.map(|own| (own.nearest, own.farther)).unwrap_or_default();
        let placements = nearest.iter().chain(&farther).map(|(pod, _)| &pod.placement).collect();
        let pods = nearest.into_iter().map(|(pod, _)| pod).collect();
        Some(unmodelled::Destination {
            host: &service.host,
            port: cluster.port,
            namespace: &service.namespace,
            subset: cluster.subset,
            selector,
            pods,
            placements,
        })
    }

    pub(super) fn service(&self, host: &str) -> Option<&'m Service> {
        self.mesh.services.get(&addressed(host, &self.client.namespace))
    }

    /// Connections, balanced over all endpoints of the Service.
    fn balanced(&self, service: &Service, port: &Port) -> Routes {
        self.evaluate(RoutingUnit::Connection, to_all_endpoints(Retries::DEFAULT, service, port))
    }

    /// Connections, by the first rule for connections that takes them, in the order of precedence of all virtual services that name the
    /// service: unlike for requests, a wildcard counts as much as the exact name.
    fn connections(&self, service: &Service, port: &Port) -> Routes {
        let exact = self.exact.get(&service.host).into_iter().flatten().copied();
        let exact = exact.filter(|index| self.visible[*index].names(&service.host));
        let wildcards = self.wildcards.matching(&service.host).flat_map(|(_, indices)| indices).copied();
        let indices: BTreeSet<usize> = exact.chain(wildcards).collect();
        let mut rules = indices.iter().flat_map(|index| &self.visible[*index].connections);
        let only_port = |host: &str| self.mesh.services.get(host)?.only_port;
        match rules.find(|rule| self.client.sidecar && rule.takes(&self.client, port)) {
            Some(rule) => {
                self.evaluate(RoutingUnit::Connection, vec![translate::connections(rule, port.number, only_port)])
            }
            None => self.balanced(service, port),
        }
    }

    fn requests(&self, service: &Service, port: &Port) -> Routes {
        let ruled = self.ruled(service, port).map(|(_, routes)| routes);
        self.evaluate(RoutingUnit::Request, ruled.unwrap_or_else(|| self.to_all_pods(service, port)))
    }

    /// The route of requests to a service for which there is no rule.
    fn to_all_pods(&self, service: &Service, port: &Port) -> RuleRoutes {
        let mut routes = to_all_endpoints(Retries::by_default(self.mesh.version), service, port);
        let all = Destination::to(&service.host, port.number);
        let key = self.mesh.hash_for(&all, &self.client.namespace).and_then(|hash| hash.key.clone());
        for (route, _) in &mut routes {
            if let Action::Forward(forward) = &mut route.action {
                forward.hashes.extend(key.clone());
            }
        }
        routes
    }

    /// The routes of a port whose protocol is detected: those of its service, whatever the `Host` header names.
    fn detected(&self, service: &Service, port: &Port) -> Routes {
        let first = self.ruled(service, port).map_or(usize::MAX, |(index, _)| index);
        // up to 1.22, a rule for the name in capitals takes it away from the service, which is left without routes
        if self.unregistered(&service.host, port.number).is_some_and(|(index, _)| index <= first) {
            return self.evaluate(RoutingUnit::Request, Vec::new());
        }
        self.requests(service, port)
    }

    /// The routes of the first virtual service that applies to a service port, with its index.
    fn ruled(&self, service: &Service, port: &Port) -> Option<(usize, RuleRoutes)> {
        self.indices(&service.host).into_iter().find_map(|index| {
            let rules = self.visible[index];
            // a route of the Gateway API applies in its namespace and in that of the service
            let applies =
                !rules.gateway_api || rules.namespace == service.namespace || rules.namespace == self.client.namespace;
            let routes = if applies { self.translated(rules, port.number) } else { None };
            Some((index, routes?))
        })
    }

    /// The routes for a host that is no service with this port, such as a name with a namespace but without a domain. Istio applies rules to
    /// such hosts on port 80, and on the ports of the services that the same rules name.
    fn unregistered(&self, host: &str, port: u16) -> Option<(usize, RuleRoutes)> {
        let is_service = |name: &str| self.mesh.services.get(name).is_some_and(|service| service.port(port).is_some());
        let is_registered = |index: usize| {
            let written = self.visible[index].hosts.iter().find(|name| name.to_lowercase() == host);
            written.is_some_and(|name| is_service(if self.mesh.version.is_after_1_22() { host } else { name }))
        };
        let mut indices = self.exact.get(host)?.iter().copied().filter(|index| !is_registered(*index));
        indices.find_map(|index| Some((index, self.beside_services(index, port)?)))
    }

    fn unregistered_wildcard(&self, host: &str, port: u16) -> Option<RuleRoutes> {
        let is_registered = |suffix: &str| {
            let mut services = self.mesh.services.values().filter(|service| service.port(port).is_some());
            if self.mesh.version.is_after_1_22() {
                services.any(|service| falls_under(&service.host, suffix))
            } else {
                services.any(|service| self.most_specific(&service.host).is_some())
            }
        };
        let fit = self.wildcards.matching(host).filter(|(suffix, _)| !is_registered(suffix));
        fit.flat_map(|(_, indices)| indices).find_map(|index| self.beside_services(*index, port))
    }

    /// The routes of a virtual service for its hosts that are no services.
    fn beside_services(&self, index: usize, port: u16) -> Option<RuleRoutes> {
        let rules = self.visible[index];
        let mut services = self.mesh.services.values().filter(|service| service.http_port(port).is_some());
        let applies =
            !rules.gateway_api && (port == 80 || services.any(|service| self.indices(&service.host).contains(&index)));
        if applies { self.translated(rules, port) } else { None }
    }

    fn translated(&self, rules: &VirtualService, port: u16) -> Option<RuleRoutes> {
        let hash = |destination: &Destination| self.mesh.hash_for(destination, &self.client.namespace);
        let listener = Listener { client: &self.client, port, gateway: MESH, only_port: &|_| None, hash: &hash };
        translate::routes(self.mesh.version, rules, &listener)
    }

    /// The virtual services for a service, in order of precedence.
    pub(super) fn rules_for(&self, host: &str) -> impl Iterator<Item = &'m VirtualService> {
        self.indices(host).into_iter().map(|index| self.visible[index])
    }

    /// The indices of the virtual services for a service.
    fn indices(&self, host: &str) -> Vec<usize> {
        let mut indices = self.exact.get(host).cloned().unwrap_or_default();
        if !self.mesh.version.is_after_1_22() {
            indices.retain(|index| self.visible[*index].names(host));
        }
        indices.extend(self.most_specific(host));
        indices.sort_unstable();
        indices.dedup();
        indices
    }

    /// The first virtual service that names a service, in lower case, otherwise the first with the most specific wildcard.
    fn most_specific(&self, host: &str) -> Option<usize> {
        let exact = self.exact.get(host).into_iter().flatten().copied().find(|index| self.visible[*index].names(host));
        exact.or_else(|| self.wildcards.matching(host).next().and_then(|(_, indices)| indices.first().copied()))
    }

    /// Adds the endpoints of all clusters, and the distribution of outcomes of each route.
    pub(super) fn evaluate(&self, unit: RoutingUnit, routes: RuleRoutes) -> Routes {
        self.evaluate_after(None, unit, routes)
    }

    /// As [`evaluate`](Self::evaluate), for connections with a handshake that servers answer.
    fn evaluate_after(&self, handshake: Option<&TlsHandshake>, unit: RoutingUnit, routes: RuleRoutes) -> Routes {
        let mut table = RouteTable { unit, ..RouteTable::default() };
        let rules;
        (table.routes, rules) = routes.into_iter().unzip();
        let namespace = &self.client.namespace;
        let targets: BTreeSet<Cluster> = table.targets().cloned().collect();
        table.standby = targets.iter().filter_map(|own| self.mesh.standby(own, &self.client)).collect();
        table.clusters =
            targets.into_iter().map(|cluster| (cluster.clone(), self.mesh.endpoints(&cluster, namespace))).collect();
        let there = table.clusters.iter().filter(|(_, endpoints)| **endpoints != Endpoints::NoCluster);
        let upstreams = there.map(|(cluster, _)| (cluster.clone(), self.mesh.upstream(cluster, namespace)));
        table.upstreams = upstreams.filter(|(_, own)| *own != Upstream::default()).collect();
        // many routes lead to the same few clusters
        let mut known = BTreeMap::new();
        let mut outcomes = |cluster: &Cluster, retries: Retries, at_error: bool| {
            let key = (cluster.clone(), retries, at_error);
            let outcomes = || self.mesh.outcomes(cluster, (unit, handshake), &self.client, retries, at_error);
            known.entry(key).or_insert_with(outcomes).clone()
        };
        let header = self.mesh.version_header.as_deref();
        let mut of = |route: &Route, at_error: bool| {
            of_route(route, header, |cluster| outcomes(cluster, route.retries(), at_error))
        };
        let distributions = table.routes.iter().map(|route| of(route, false)).collect();
        let at_error = table.routes.iter().map(|route| {
            let is_sent_again = unit == RoutingUnit::Request && route.retries().follow(Failure::Unavailable);
            is_sent_again.then(|| of(route, true))
        });
        let at_error = at_error.collect();
        Routes { table, rules, distributions, at_error, no_route: Distribution::certain(Outcome::NoRoute) }
    }
}

impl Routes {
    /// The routing of a request to this host and port.
    pub fn decide(&self, request: &Request) -> Decision<'_> {
        let Some(index) = self.table.route(request) else {
            return Decision { distribution: &self.no_route, path: request.path.clone(), rule: None, route: None };
        };
        let path = match self.table.unit {
            RoutingUnit::Request => self.table.routes[index].path(request).into_owned(),
            RoutingUnit::Connection => request.path.clone(),
        };
        let at_error = self.at_error[index].as_ref().filter(|_| DemoImage::is_error(&path));
        let distribution = at_error.unwrap_or(&self.distributions[index]);
        Decision { distribution, path, rule: Some(&self.rules[index]), route: Some(index) }
    }
}

/// The route that applies without rules: all traffic to the Service.
fn to_all_endpoints(retries: Retries, service: &Service, port: &Port) -> RuleRoutes {
    let cluster = Cluster { host: service.host.clone(), port: port.number, subset: None };
    let rule = RuleRef { object: format!("Service {}", service.name).into(), origin: service.origin.clone() };
    vec![(Route::all(Forward { retries, ..Forward::new(vec![(cluster, 1)]) }), rule)]
}

#[cfg(test)]
mod tests;
