//! The part of a client's routes that cannot be compared with those of its sidecar.

use std::collections::BTreeSet;

use super::condition::Request;
use super::hosts::{DOMAIN, full_name};
use super::notes::{NotModelled, Scope};
use super::outbound::{Outbound, Routes};
use super::table::{Action, Cluster, Endpoints, Route, RouteTable};

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
}

impl Uncompared {
    /// Whether two tables are the same, apart from what cannot be compared.
    pub fn are_same(&self, found: &RouteTable, expected: &RouteTable) -> bool {
        found == expected || self.everything || !self.notes.is_empty() && self.rest(found) == self.rest(expected)
    }

    fn rest(&self, table: &RouteTable) -> RouteTable {
        let mut rest = table.clone();
        for route in self.routes.iter().filter_map(|index| Some((*index, table.routes.get(*index)?.clone()))) {
            let action = Action::Respond { status: 0, body: String::new() };
            rest.routes[route.0] = Route { abort: None, action, ..route.1 };
        }
        let compared: BTreeSet<Cluster> =
            rest.targets().filter(|cluster| !self.clusters.contains(cluster)).cloned().collect();
        rest.clusters.retain(|cluster, _| compared.contains(cluster));
        rest
    }
}

impl Outbound<'_> {
    /// What cannot be compared with the routes of the client's sidecar for requests to a host and port.
    pub fn uncompared(&self, request: &Request, routes: Option<&Routes>) -> Uncompared {
        let mut uncompared = Uncompared::default();
        let all: Vec<&Route> = routes.iter().flat_map(|routes| &routes.table.routes).collect();
        let gateway = request.is_entering.then(|| self.mesh.at_gateway());
        let reach = gateway.as_ref().unwrap_or(self).reach(request, routes, &all, None);
        for note in self.mesh.not_modelled.iter().filter(|note| !note.only_answers) {
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

fn shown(NotModelled { field, origin, .. }: &NotModelled) -> String {
    format!("{field} ({origin})")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::fixture::{RULES, SERVICE, client, mesh};
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
        assert_eq!(uncompared.are_same(&RouteTable::default(), &expected), !names.is_empty());
    }

    #[test]
    fn of_a_rule_with_a_field_that_is_not_modelled_the_conditions_are_compared() {
        let text =
            base().replacen(ROUTE, "  - headers: {reply: {}}\n    route: [{destination: {host: svc, subset: v1}}]", 1);
        let (expected, uncompared) = of(&text);
        assert_eq!(uncompared.notes, ["spec.http[1].headers.reply (a.yaml:31:15)".to_owned()].into());
        let mut found = expected.clone();
        found.routes[1].action = Action::Respond { status: 200, body: String::new() };
        assert!(uncompared.are_same(&found, &expected));
        found.routes[0].action = Action::Respond { status: 200, body: String::new() };
        assert!(!uncompared.are_same(&found, &expected));
        let mut found = expected.clone();
        found.routes[1].conditions.clone_from(&expected.routes[0].conditions);
        assert!(!uncompared.are_same(&found, &expected));
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
        assert!(uncompared.are_same(&found, &expected));
        found.routes.pop();
        assert!(!uncompared.are_same(&found, &expected));
    }
}
