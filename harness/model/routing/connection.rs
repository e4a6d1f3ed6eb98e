//! Rules for connections: the `tcp` and `tls` routes of a `VirtualService`. They apply on ports that are not HTTP, `tls` where the port is
//! declared as TLS, `tcp` elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::client::Client;
use super::notes::{Notes, Scope};
use super::rule::{Destination, MESH, Part, RuleRef, destination, named_gateways};
use super::service::Port;

/// A rule for connections.
#[derive(Debug, Clone)]
pub(super) struct ConnectionRule {
    pub at: RuleRef,
    pub route: Vec<Destination>,
    /// Whether it is a `tls` route.
    is_tls: bool,
    matches: Vec<ConnectionMatch>,
}

#[derive(Debug, Clone)]
struct ConnectionMatch {
    port: Option<u16>,
    source_labels: BTreeMap<String, String>,
    source_namespace: Option<String>,
    /// An empty list stands for every gateway and the mesh.
    gateways: Vec<String>,
    /// The names in handshakes that a `tls` route takes, as written.
    names: Vec<String>,
    /// Whether plain connections match, to whatever address: populations in the mesh send HTTP, which names no server as TLS does.
    takes_plain: bool,
}

impl ConnectionRule {
    /// Reads the rules of a `VirtualService` for these hosts.
    pub fn read(spec: &Part<'_>, namespace: &str, named: &Arc<str>, notes: &mut Notes) -> Vec<Self> {
        let mut rules = Vec::new();
        for (key, is_tls) in [("tcp", false), ("tls", true)] {
            for part in spec.get(key).items() {
                part.only(&["match", "route"], notes);
                let route = part.get("route");
                let destinations = route.items().map(|entry| {
                    entry.only(&["destination", "weight"], notes);
                    let weight = entry.get("weight").number().unwrap_or(0);
                    destination(&entry.get("destination"), namespace, weight)
                });
                rules.push(Self {
                    at: RuleRef { object: Arc::clone(named), origin: part.origin() },
                    route: destinations.collect(),
                    is_tls,
                    matches: part
                        .get("match")
                        .items()
                        .map(|one| ConnectionMatch::read(&one, namespace, is_tls, notes))
                        .collect(),
                });
            }
        }
        rules
    }

    /// Whether the rule takes the plain connections of a client to a port.
    pub fn takes(&self, client: &Client, port: &Port) -> bool {
        let takes = |one: &ConnectionMatch| one.takes_plain && one.applies(client, port.number);
        self.is_tls == port.is_tls
            && !self.route.is_empty()
            && (self.matches.iter().any(takes) || self.matches.is_empty() && !self.is_tls)
    }

    /// The names in handshakes that each match of a `tls` route takes at a port of a gateway. Gateways ask for nothing else.
    pub fn names_at<'r>(&'r self, gateway: &'r str, port: u16) -> impl Iterator<Item = &'r [String]> {
        let of_route = self.matches.iter().filter(|_| self.is_tls && !self.route.is_empty());
        let own = of_route.filter(move |one| {
            one.port.is_none_or(|wanted| wanted == port)
                && (one.gateways.is_empty() || one.gateways.iter().any(|own| own == gateway))
        });
        own.map(|one| one.names.as_slice())
    }
}

impl ConnectionMatch {
    fn read(part: &Part<'_>, namespace: &str, is_tls: bool, notes: &mut Notes) -> Self {
        let known =
            ["port", "sourceLabels", "sourceNamespace", "gateways", "sniHosts", "sourceSubnet", "destinationSubnets"];
        part.only(&known, notes);
        let names = part.get("sniHosts").texts();
        let names_servers = is_tls && !names.iter().any(|name| name == "*");
        let subnets = part.get("destinationSubnets");
        let one = Self {
            port: part.get("port").number(),
            source_labels: part.get("sourceLabels").labels(),
            source_namespace: part.get("sourceNamespace").owned().filter(|name| !name.is_empty()),
            gateways: named_gateways(part, namespace),
            names: if is_tls { names } else { Vec::new() },
            takes_plain: !names_servers && subnets.texts().is_empty(),
        };
        if !names_servers && !one.takes_plain {
            // the address of a Service is not known before the Service is there
            let outer = notes.scope.clone();
            if let Scope::Connections(_, port) = &mut notes.scope {
                *port = one.port;
            }
            subnets.not_modelled(notes);
            notes.scope = outer;
        }
        one
    }

    fn applies(&self, client: &Client, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
            && (self.gateways.is_empty() || self.gateways.iter().any(|gateway| gateway == MESH))
            && self.source_labels.iter().all(|(key, value)| client.labels.get(key) == Some(value))
            && self.source_namespace.as_ref().is_none_or(|namespace| *namespace == client.namespace)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::fixture::{RULES, SERVICE, client, mesh};
    use super::super::{Request, Scope};

    /// The Services `svc`, with a port for connections, and `next`, with another port alone, and rules for both.
    fn objects(port: &str, routes: &str) -> String {
        let service = SERVICE.replacen("ports: [{name: http, port: 8080}]", &format!("ports: [{port}]"), 1);
        let next = "apiVersion: v1\nkind: Service\nmetadata: {name: next}\n\
                    spec: {selector: {version: v2}, ports: [{name: tcp, port: 90, targetPort: 8080}]}\n---\n";
        let rules = RULES.replacen("  http:\n", &format!("{routes}  http:\n"), 1);
        format!("{service}{next}{rules}")
    }

    fn outcome(text: &str) -> String {
        let mesh = mesh(text);
        let distribution = mesh.outbound(client()).distribution(&Request::get("svc", 8080, "/"));
        let outcomes = distribution.iter().map(|(outcome, chance)| format!("{outcome} {chance}"));
        outcomes.collect::<Vec<_>>().join(", ")
    }

    const TCP: &str = "{name: tcp, port: 8080}";
    const HTTPS: &str = "{name: https, port: 8080}";
    const HTTP: &str = "{name: http, port: 8080}";
    const BOTH: &str = "v1 50 %, v2 50 %";
    const NONE: &str = "no connection, refused 100 %";

    #[rstest]
    #[case::all_to_one_subset(TCP, "route: [{destination: {host: svc, subset: v2}}]", "v2 100 %")]
    #[case::weights(
        TCP,
        "route: [{destination: {host: svc, subset: v1}, weight: 20}, {destination: {host: svc, subset: v2}, weight: 80}]",
        "v1 20 %, v2 80 %"
    )]
    #[case::an_unknown_subset(TCP, "route: [{destination: {host: svc, subset: v3}}]", NONE)]
    #[case::a_service_with_one_port(TCP, "route: [{destination: {host: next}}]", "v2 100 %")]
    #[case::another_port(TCP, "route: [{destination: {host: svc, port: {number: 90}}}]", NONE)]
    #[case::port(TCP, "match: [{port: 8080}], route: [{destination: {host: next}}]", "v2 100 %")]
    #[case::port_of_others(TCP, "match: [{port: 80}], route: [{destination: {host: next}}]", BOTH)]
    #[case::labels(TCP, "match: [{sourceLabels: {app: client}}], route: [{destination: {host: next}}]", "v2 100 %")]
    #[case::labels_of_others(TCP, "match: [{sourceLabels: {app: x}}], route: [{destination: {host: next}}]", BOTH)]
    #[case::all_parts_of_a_match(
        TCP,
        "match: [{gateways: [mesh], sourceLabels: {app: x}}], route: [{destination: {host: next}}]",
        BOTH
    )]
    #[case::namespace_of_others(TCP, "match: [{sourceNamespace: there}], route: [{destination: {host: next}}]", BOTH)]
    #[case::gateways(TCP, "match: [{gateways: [front]}], route: [{destination: {host: next}}]", BOTH)]
    #[case::one_of_two_matches(
        TCP,
        "match: [{port: 80}, {gateways: [mesh]}], route: [{destination: {host: next}}]",
        "v2 100 %"
    )]
    #[case::a_port_of_tls(HTTPS, "route: [{destination: {host: next}}]", BOTH)]
    #[case::a_port_of_http(HTTP, "route: [{destination: {host: next}}]", "v1 100 %")]
    #[case::a_port_without_a_protocol("{port: 8080}", "route: [{destination: {host: next}}]", "v1 100 %")]
    fn a_tcp_route_gives(#[case] port: &str, #[case] rule: &str, #[case] expected: &str) {
        assert_eq!(outcome(&objects(port, &format!("  tcp: [{{{rule}}}]\n"))), expected);
    }

    #[rstest]
    #[case::a_server_that_http_does_not_name(HTTPS, "sniHosts: [svc.here.svc.cluster.local]", BOTH)]
    #[case::every_server(HTTPS, "sniHosts: ['*']", "v2 100 %")]
    #[case::a_port_of_tcp(TCP, "sniHosts: ['*']", BOTH)]
    fn a_tls_route_gives(#[case] port: &str, #[case] one: &str, #[case] expected: &str) {
        let rule = format!("  tls: [{{match: [{{{one}}}], route: [{{destination: {{host: next}}}}]}}]\n");
        assert_eq!(outcome(&objects(port, &rule)), expected);
    }

    #[test]
    fn the_first_rule_that_takes_connections_applies() {
        let rules = "  tcp: [{match: [{port: 80}], route: [{destination: {host: none}}]}, {route: [{destination: {host: next}}]}, \
                     {route: [{destination: {host: svc, subset: v1}}]}]\n";
        assert_eq!(outcome(&objects(TCP, rules)), "v2 100 %");
    }

    #[test]
    fn a_wildcard_counts_as_much_as_the_exact_name() {
        let own = objects(TCP, "  tcp: [{route: [{destination: {host: svc, subset: v1}}]}]\n");
        let wildcard = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
                        spec: {hosts: ['*.cluster.local'], tcp: [{route: [{destination: {host: next}}]}]}\n---\n";
        assert_eq!(outcome(&format!("{own}{wildcard}")), "v2 100 %");
    }

    #[test]
    fn subnets_are_not_modelled_on_the_port_of_the_match() {
        let rule = |port: u16| {
            format!(
                "  tcp: [{{match: [{{port: {port}, destinationSubnets: [10.0.0.0/8]}}], route: [{{destination: {{host: next}}}}]}}]\n"
            )
        };
        let notes = |port: u16| {
            let mesh = mesh(&objects(TCP, &rule(port)));
            let outbound = mesh.outbound(client());
            let request = Request::get("svc", 8080, "/");
            let routes = outbound.routes(&request).unwrap();
            outbound.not_modelled(&request, Some(&routes))
        };
        assert_eq!(notes(90), []);
        let own = notes(8080);
        assert_eq!(own[0].field, "spec.tcp[0].match[0].destinationSubnets");
        assert_eq!(own[0].scope, Scope::Connections(["svc.here.svc.cluster.local".to_owned()].into(), Some(8080)));
    }
}
