//! The part of a client's routes that cannot be compared with those of its sidecar.

use std::collections::BTreeSet;

use super::condition::Request;
use super::hosts::{DOMAIN, full_name};
use super::notes::{NotModelled, Scope};
use super::outbound::{Outbound, Routes};
use super::retries::Retries;
use super::table::{Action, Cluster, Endpoints, Forward, Route, RouteTable};
use super::upstream::{Tls, Upstream};

/// What something that is not modelled can change in the routes of a sidecar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uncompared {
    /// What is not modelled, each as `Kind/name (place)`.
    pub notes: BTreeSet<String>,
    /// Whether it can change all routes.
    pub everything: bool,
    /// The positions of the routes whose action it can change.
    routes: BTreeSet<usize>,
    /// The clusters whose endpoints are not known.
    clusters: BTreeSet<Cluster>,
    /// What is not modelled and can change the protocols of clusters, or which endpoints retries go to.
    protocols: BTreeSet<String>,
    /// The clusters of which it is not told which endpoints are the nearest.
    places: BTreeSet<Cluster>,
    /// The retries of rules that ask for none, unless the configuration of the mesh has others. None if that is known to have no others.
    default_retries: Option<Retries>,
}

/// What the configuration of the mesh, which no manifest contains, can change.
const DEFAULT_RETRIES: &str = "retries by default, which `defaultHttpRetryPolicy` of the mesh can change";
const AUTOMATIC_TLS: &str = "automatic mutual TLS, which `enableAutoMtls` of the mesh can switch off";
const PLACES: &str = "the localities of nodes, of which the nearest to the client may be preferred";
const HTTP1: &str = "HTTP/1.1 to servers, which `h2UpgradePolicy` of the mesh can change to HTTP/2";

impl Uncompared {
    /// What the comparison of two tables leaves out; none if they differ elsewhere, too.
    pub fn left_out(&self, found: &RouteTable, expected: &RouteTable) -> Option<BTreeSet<String>> {
        if found == expected {
            return Some(BTreeSet::new());
        }
        let mut names = self.protocols.clone();
        if found.standby != expected.standby && !self.places.is_empty() {
            names.insert(PLACES.to_owned());
        }
        let (found, expected) = (self.without_protocols(found), self.without_protocols(expected));
        if found == expected {
            return Some(names);
        }
        let (expected, settings) = self.as_this_mesh_has_it(&found, &expected);
        names.extend(settings);
        if found == expected {
            return Some(names);
        }
        names.extend(self.notes.iter().cloned());
        let is_rest_same = || !self.notes.is_empty() && self.rest(&found) == self.rest(&expected);
        (self.everything || is_rest_same()).then_some(names)
    }

    /// The table, or the part of it that nothing can change in these ways.
    fn without_protocols(&self, table: &RouteTable) -> RouteTable {
        let mut rest = table.clone();
        rest.standby.retain(|cluster, _| !self.places.contains(cluster));
        if !self.protocols.is_empty() {
            rest.upstreams.clear();
            for route in &mut rest.routes {
                if let Action::Forward(Forward { retries, .. }) = &mut route.action {
                    retries.to_others = true;
                }
            }
        }
        rest
    }

    /// The expected table with the settings of the mesh that the found one shows, and the names of these.
    fn as_this_mesh_has_it(&self, found: &RouteTable, expected: &RouteTable) -> (RouteTable, BTreeSet<String>) {
        let (mut expected, mut names) = (expected.clone(), BTreeSet::new());
        let Some(default_retries) = self.default_retries else { return (expected, names) };
        for (own, found) in expected.routes.iter_mut().zip(&found.routes) {
            let (Action::Forward(own), Action::Forward(found)) = (&mut own.action, &found.action) else { continue };
            if own.retries == default_retries && found.retries != own.retries {
                own.retries = found.retries;
                names.insert(DEFAULT_RETRIES.to_owned());
            }
        }
        for (cluster, found) in &found.upstreams {
            let own = expected.upstreams.entry(cluster.clone()).or_default();
            if own.tls == Tls::Automatic && found.tls == Tls::Disabled {
                own.tls = Tls::Disabled;
                names.insert(AUTOMATIC_TLS.to_owned());
            }
            if found.is_http2 && !own.is_http2 {
                own.is_http2 = true;
                names.insert(HTTP1.to_owned());
            }
        }
        expected.upstreams.retain(|_, own| *own != Upstream::default());
        (expected, names)
    }

    fn rest(&self, table: &RouteTable) -> RouteTable {
        let mut rest = table.clone();
        for route in self.routes.iter().filter_map(|index| Some((*index, table.routes.get(*index)?.clone()))) {
            let action = Action::Respond { status: 0, body: String::new() };
            rest.routes[route.0] = Route { abort: None, delay: None, action, ..route.1 };
        }
        let compared: BTreeSet<Cluster> =
            rest.targets().filter(|cluster| !self.clusters.contains(cluster)).cloned().collect();
        rest.clusters.retain(|cluster, _| compared.contains(cluster));
        rest.upstreams.retain(|cluster, _| compared.contains(cluster));
        rest.standby.retain(|cluster, _| compared.contains(cluster));
        rest
    }
}

impl Outbound<'_> {
    /// What cannot be compared with the routes of the client's sidecar for requests to a host and port.
    pub fn uncompared(&self, request: &Request, routes: Option<&Routes>) -> Uncompared {
        let mut uncompared =
            Uncompared { default_retries: Some(Retries::by_default(self.mesh.version)), ..Uncompared::default() };
        let all: Vec<&Route> = routes.iter().flat_map(|routes| &routes.table.routes).collect();
        let gateway = request.entering.as_ref().map(|pods| self.mesh.at_gateway(pods));
        let reach = gateway.as_ref().unwrap_or(self).reach(request, routes, &all, None);
        for note in &self.mesh.not_modelled {
            if note.only_answers {
                if changes_protocols(note) && note.scope.covers(&reach) {
                    uncompared.protocols.insert(shown(note));
                }
                continue;
            }
            let own = routes.map(|routes| routes.positions(&note.scope)).unwrap_or_default();
            // what is said of the pods of servers does not reach the client's sidecar
            let covers = match &note.scope {
                Scope::Pods(..) => note.scope.covers_client(&reach),
                scope => scope.covers(&reach),
            };
            if covers || !own.is_empty() {
                uncompared.notes.insert(shown(note));
                uncompared.everything |= covers;
                uncompared.routes.extend(own);
            }
        }
        for (cluster, endpoints) in routes.iter().flat_map(|routes| &routes.table.clusters) {
            if *endpoints == Endpoints::NoCluster && self.may_be_elsewhere(cluster) {
                uncompared.notes.insert(format!("Service {}, which no manifest contains", cluster.host));
                uncompared.clusters.insert(cluster.clone());
            }
        }
        let sender = gateway.as_ref().unwrap_or(self);
        let clusters = routes.iter().flat_map(|routes| routes.table.clusters.keys());
        let is_told = |cluster: &&Cluster| self.mesh.by_distance(cluster, &sender.client).is_none_or(|own| own.is_told);
        uncompared.places = clusters.filter(|cluster| !is_told(cluster)).cloned().collect();
        uncompared
    }

    /// Whether a cluster that the objects do not define may be there all the same: a Service of a namespace that is not the client's.
    fn may_be_elsewhere(&self, cluster: &Cluster) -> bool {
        let own = full_name("", &self.client.namespace);
        cluster.host.ends_with(DOMAIN) && !cluster.host.ends_with(&own) && self.service(&cluster.host).is_none()
    }
}

impl Routes {
    /// The positions of the routes that the rule in a scope gives.
    fn positions(&self, scope: &Scope) -> BTreeSet<usize> {
        let Scope::Rule(origin) = scope else { return BTreeSet::new() };
        let own = self.rules.iter().enumerate().filter(|(_, rule)| rule.origin == *origin);
        own.map(|(index, _)| index).collect()
    }
}

/// Whether it can change the protocols of clusters, or which endpoints retries go to.
fn changes_protocols(NotModelled { field, .. }: &NotModelled) -> bool {
    let of_policies =
        ["h2UpgradePolicy", "useClientProtocol", "proxyProtocol", "tls.credentialName", "loadBalancer.simple"];
    let kinds = ["PeerAuthentication/", "BackendTLSPolicy/"];
    of_policies.iter().any(|name| field.ends_with(name)) || kinds.iter().any(|kind| field.starts_with(kind))
}

fn shown(NotModelled { field, origin, .. }: &NotModelled) -> String {
    format!("{field} ({origin})")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::difference::RouteDiff;
    use super::super::fixture::{RULES, SERVICE, client, mesh, mesh_of};
    use super::*;

    /// The routes of the model, and what cannot be compared with them.
    fn of(text: &str) -> (RouteTable, Uncompared) {
        let mesh = mesh(text);
        let outbound = mesh.outbound(client());
        let request = Request::get("svc", 8080, "/");
        let routes = outbound.routes(&request).unwrap();
        let uncompared = outbound.uncompared(&request, Some(&routes));
        (routes.table, uncompared)
    }

    fn base() -> String {
        format!("{SERVICE}{RULES}")
    }

    const ROUTE: &str = "  - route: [{destination: {host: svc, subset: v1}}]";

    #[rstest]
    #[case::sidecar("{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {name: x}}", &["Sidecar/x (a.yaml:33:2)"])]
    #[case::filter("{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: x}}", &["EnvoyFilter/x (a.yaml:33:2)"])]
    #[case::filter_of_another_pod(
        "{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: x}, \
          spec: {workloadSelector: {labels: {app: a}}}}", &[])]
    #[case::policy("{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x}}", &[])]
    #[case::subset_policy(
        "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: x}, \
          spec: {host: svc, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}}", &[])]
    #[case::a_destination_rule_for_some_clients(
        "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: x}, \
          spec: {host: svc, workloadSelector: {}}}", &["spec.workloadSelector (a.yaml:33:100)"])]
    #[case::another_service_entry(
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x}, spec: {hosts: [example.com]}}", &[])]
    #[case::unknown_kind("{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: x}}", &["Canary/x (a.yaml:33:2)"])]
    fn what_can_change_all_routes_is_named(#[case] object: &str, #[case] names: &[&str]) {
        let (expected, uncompared) = of(&(base() + object));
        assert_eq!(uncompared.notes.iter().map(String::as_str).collect::<Vec<_>>(), names);
        assert_eq!(uncompared.left_out(&RouteTable::default(), &expected).is_some(), !names.is_empty());
    }

    #[test]
    fn of_a_rule_with_a_field_that_is_not_modelled_the_conditions_are_compared() {
        let text =
            base().replacen(ROUTE, "  - headers: {reply: {}}\n    route: [{destination: {host: svc, subset: v1}}]", 1);
        let (expected, uncompared) = of(&text);
        assert_eq!(uncompared.notes, ["spec.http[1].headers.reply (a.yaml:31:15)".to_owned()].into());
        let mut found = expected.clone();
        found.routes[1].action = Action::Respond { status: 200, body: String::new() };
        assert!(uncompared.left_out(&found, &expected).is_some());
        found.routes[0].action = Action::Respond { status: 200, body: String::new() };
        assert!(uncompared.left_out(&found, &expected).is_none());
        let mut found = expected.clone();
        found.routes[1].conditions.clone_from(&expected.routes[0].conditions);
        assert!(uncompared.left_out(&found, &expected).is_none());
    }

    #[test]
    fn the_endpoints_of_a_service_of_another_namespace_are_not_known() {
        let there = "there.svc.cluster.local";
        let text = base().replacen(ROUTE, &format!("  - route: [{{destination: {{host: svc.{there}}}}}]"), 1);
        let (expected, uncompared) = of(&text);
        assert_eq!(uncompared.notes, [format!("Service svc.{there}, which no manifest contains")].into());
        let mut found = expected.clone();
        let cluster = Cluster { host: format!("svc.{there}"), port: 8080, subset: None };
        found.clusters.insert(cluster, Endpoints::Ready(["10.0.0.1:80".to_owned()].into()));
        assert!(uncompared.left_out(&found, &expected).is_some());
        found.routes.pop();
        assert!(uncompared.left_out(&found, &expected).is_none());
    }

    #[test]
    fn the_endpoints_of_a_service_of_another_namespace_that_manifests_contain_are_compared() {
        let there = SERVICE.replace("metadata: {name: ", "metadata: {namespace: there, name: ");
        let host = "svc.there.svc.cluster.local";
        let text = base().replacen(ROUTE, &format!("  - route: [{{destination: {{host: {host}}}}}]"), 1) + &there;
        let (expected, uncompared) = of(&text);
        let cluster = Cluster { host: host.to_owned(), port: 8080, subset: None };
        let ready = ["there/v1-1:8080", "there/v2-1:8080"].map(str::to_owned);
        assert_eq!(expected.clusters[&cluster], Endpoints::Ready(ready.clone().into()));
        let mut found = expected.clone();
        found.clusters.insert(cluster, Endpoints::Ready([ready[0].clone()].into()));
        assert_eq!((uncompared.notes.len(), uncompared.left_out(&found, &expected)), (0, None));
    }

    /// The lines of the model's table for these objects, where they differ from those for the base.
    fn shows(text: &str) -> Vec<String> {
        RouteDiff::lines(&of(text).0.difference(&of(&base()).0))
    }

    fn with_rule(field: &str) -> String {
        base().replacen(ROUTE, &format!("  - {field}\n    route: [{{destination: {{host: svc, subset: v1}}}}]"), 1)
    }

    fn with_policy(policy: &str) -> String {
        base().replacen("  host: svc\n", &format!("  host: svc\n  trafficPolicy: {policy}\n"), 1)
    }

    #[rstest]
    #[case::no_retries("retries: {attempts: 0}", "no retries")]
    #[case::attempts("retries: {attempts: 5}", "5 retries after failed connections")]
    #[case::conditions("retries: {attempts: 1, retryOn: '5xx'}", "1 retry after failed connections and 503")]
    #[case::other_conditions("retries: {attempts: 3, retryOn: retriable-4xx}", "3 retries after other failures")]
    #[case::endpoints(
        "retries: {attempts: 2, retryIgnorePreviousHosts: false}",
        "2 retries after failed connections, also to the same endpoint"
    )]
    #[case::limit("retries: {attempts: 2, perTryTimeout: 1m30s}", "2 retries after failed connections, 90s each")]
    #[case::timeout("timeout: 0.5s", "timeout 500ms")]
    #[case::delay("fault: {delay: {percentage: {value: 12.5}, fixedDelay: 2s}}", "12.5 % delayed by 2s")]
    #[case::delay_by_an_old_field("fault: {delay: {percent: 20, fixedDelay: 2s}}", "20 % delayed by 2s")]
    fn what_a_rule_asks_for_besides_destinations_is_compared(#[case] field: &str, #[case] line: &str) {
        let to = "route 2: any request to subset v1 of svc.here.svc.cluster.local:8080";
        assert_eq!(shows(&with_rule(field)), [format!("- {to}"), format!("+ {to}, {line}")]);
    }

    #[rstest]
    #[case::defaults("retries: {attempts: 2}")]
    #[case::no_timeout("timeout: 0s")]
    #[case::no_delay("fault: {delay: {percentage: {value: 0}, fixedDelay: 2s}}")]
    fn what_a_rule_asks_for_as_by_default_is_no_difference(#[case] field: &str) {
        assert_eq!(shows(&with_rule(field)), [""; 0]);
    }

    #[test]
    fn retries_by_default_are_those_of_the_version() {
        let lines = |version: &str| {
            let mesh = mesh_of(&version.parse().unwrap(), &base());
            mesh.outbound(client()).routes(&Request::get("svc", 8080, "/")).unwrap().table.lines()
        };
        let to = "route 2: any request to subset v1 of svc.here.svc.cluster.local:8080";
        assert_eq!(lines("1.23")[1], format!("{to}, 2 retries after failed connections and 503"));
        assert_eq!(lines("1.24")[1], to);
    }

    #[rstest]
    #[case::disable("{tls: {mode: DISABLE}}", "HTTP/1.1, no TLS")]
    #[case::of_istio("{tls: {mode: ISTIO_MUTUAL}}", "HTTP/1.1, Istio's mutual TLS")]
    #[case::of_servers("{tls: {mode: SIMPLE}}", "HTTP/1.1, TLS of the servers")]
    #[case::of_a_port("{portLevelSettings: [{port: {number: 8080}, tls: {mode: DISABLE}}]}", "HTTP/1.1, no TLS")]
    fn tls_of_a_policy_is_compared(#[case] policy: &str, #[case] protocol: &str) {
        let of = |subset: &str| format!("protocol of subset {subset} of svc.here.svc.cluster.local:8080:");
        let automatic = |subset: &str| format!("- {} HTTP/1.1, automatic mutual TLS", of(subset));
        let own = |subset: &str| format!("+ {} {protocol}", of(subset));
        assert_eq!(shows(&with_policy(policy)), [automatic("v1"), automatic("v2"), own("v1"), own("v2")]);
    }

    #[test]
    fn http2_of_a_port_is_compared() {
        let shown = shows(&base().replacen("name: http", "name: grpc", 1));
        assert_eq!(
            shown[2],
            "+ protocol of subset v1 of svc.here.svc.cluster.local:8080: HTTP/2, automatic mutual TLS"
        );
    }

    /// `docs/verify.md` lists these: no answer that the model knows depends on them.
    #[rstest]
    #[case::balancing(with_policy("{loadBalancer: {simple: ROUND_ROBIN}}"))]
    #[case::connections(with_policy("{connectionPool: {tcp: {maxConnections: 1}}}"))]
    #[case::ejection(with_policy("{outlierDetection: {consecutive5xxErrors: 1}}"))]
    #[case::preflight(with_rule("corsPolicy: {allowOrigins: [{exact: '*'}]}"))]
    #[case::headers_of_requests(with_rule("headers: {request: {set: {x-a: b}}}"))]
    #[case::backoff(with_rule("retries: {attempts: 2, backoff: 1s}"))]
    fn these_are_not_compared(#[case] text: String) {
        assert_eq!(shows(&text), [""; 0]);
    }

    #[test]
    fn tls_routes_are_not_compared_since_no_request_takes_them() {
        let base = base().replacen("name: http", "name: https", 1);
        let with_route = base.replacen(
            "  http:\n",
            "  tls: [{match: [{sniHosts: [svc]}], route: [{destination: {host: gone}}]}]\n  http:\n",
            1,
        );
        assert_ne!(with_route, base);
        assert_eq!(of(&with_route).0, of(&base).0);
    }

    #[test]
    fn what_the_configuration_of_the_mesh_can_change_is_left_out_and_named() {
        let (expected, uncompared) = of(&base());
        let cluster = expected.clusters.keys().next().unwrap().clone();
        let left_out = |change: &dyn Fn(&mut RouteTable)| {
            let mut found = expected.clone();
            change(&mut found);
            uncompared.left_out(&found, &expected)
        };
        let named = |name: &str| Some(BTreeSet::from([name.to_owned()]));
        let with_retries = |retries: Retries| {
            move |table: &mut RouteTable| {
                let Action::Forward(forward) = &mut table.routes[0].action else { unreachable!() };
                forward.retries = retries;
            }
        };
        let own = Retries::after(5, ["5xx"].into_iter());
        assert_eq!(left_out(&with_retries(own)), named(DEFAULT_RETRIES));
        let with = |tls: Tls, is_http2: bool| {
            let cluster = cluster.clone();
            move |table: &mut RouteTable| {
                table.upstreams.insert(cluster.clone(), Upstream { tls, is_http2, table: None });
            }
        };
        assert_eq!(left_out(&with(Tls::Disabled, false)), named(AUTOMATIC_TLS));
        assert_eq!(left_out(&with(Tls::Automatic, true)), named(HTTP1));
        assert_eq!(left_out(&with(Tls::Istio, false)), None);
        assert_eq!(left_out(&|table| drop(table.routes.pop())), None);
        // a rule that asks for retries gets them
        let (asked, uncompared) = of(&base().replacen("  - match:", "  - retries: {attempts: 3}\n    match:", 1));
        let mut found = asked.clone();
        with_retries(own)(&mut found);
        assert_eq!(uncompared.left_out(&found, &asked), None);
    }

    #[test]
    fn where_no_place_is_told_the_nearest_endpoints_may_be_preferred() {
        let (expected, uncompared) =
            of(&with_policy("{outlierDetection: {}}").replace("host: svc, subset: v1", "host: svc"));
        let cluster = expected.clusters.keys().next().unwrap().clone();
        let mut found = expected.clone();
        found.standby.insert(cluster.clone(), ["here/v2-1:8080".to_owned()].into());
        assert_eq!(uncompared.left_out(&found, &expected), Some(BTreeSet::from([PLACES.to_owned()])));
        found.routes.pop();
        assert_eq!(uncompared.left_out(&found, &expected), None);
        // without ejection, no place is preferred
        let (expected, uncompared) = of(&base());
        let mut found = expected.clone();
        found.standby.insert(cluster, ["here/v2-1:8080".to_owned()].into());
        assert_eq!(uncompared.left_out(&found, &expected), None);
    }

    #[rstest]
    #[case::upgrade(
        "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}",
        "spec.trafficPolicy.connectionPool.http.h2UpgradePolicy (a.yaml:21:43)"
    )]
    fn what_can_change_protocols_is_left_out_of_them_alone(#[case] policy: &str, #[case] name: &str) {
        let (expected, uncompared) = of(&with_policy(policy));
        let mut found = expected.clone();
        let upstream = Upstream { tls: Tls::Istio, is_http2: true, table: None };
        found.upstreams.insert(expected.clusters.keys().next().unwrap().clone(), upstream);
        assert_eq!(uncompared.left_out(&found, &expected), Some(BTreeSet::from([name.to_owned()])));
        found.routes.pop();
        assert_eq!(uncompared.left_out(&found, &expected), None);
    }
}
