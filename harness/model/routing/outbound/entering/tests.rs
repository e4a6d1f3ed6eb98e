use rstest::rstest;

use crate::routing::fixture::{RULES, SERVICE, client, mesh};
use crate::routing::{Outbound, Request};

/// A gateway with these servers.
pub(super) fn gateway(name: &str, servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}\n---\n"
    )
}

pub(super) fn server(hosts: &str) -> String {
    format!("{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: {hosts}}}")
}

/// Rules with these hosts, gateways and routes.
pub(super) fn rules(name: &str, hosts: &str, gateways: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: {hosts}, gateways: {gateways}, http: [{http}]}}\n---\n"
    )
}

/// A route to a subset.
pub(super) fn to(subset: &str) -> String {
    format!("{{route: [{{destination: {{host: svc, subset: {subset}}}}}]}}")
}

/// What becomes of a request from outside.
fn entering(text: &str, request: &Request) -> String {
    shown(&mesh(&format!("{SERVICE}{RULES}{text}")).outbound(client()), request)
}

pub(super) fn shown(outbound: &Outbound<'_>, request: &Request) -> String {
    let unknown = outbound.not_modelled(request, outbound.routes(request).ok().as_ref());
    if let Some(note) = unknown.first() {
        return format!("not modelled: {}", note.field);
    }
    let distribution = outbound.distribution(request);
    let mut outcomes: Vec<String> =
        distribution.iter().map(|(outcome, chance)| format!("{outcome} {chance}")).collect();
    outcomes.sort();
    outcomes.join(", ")
}

pub(super) fn hello(path: &str) -> Request {
    Request::entering("hello.example.com", 80, path)
}

const ANY: &str = "['*']";
pub(super) const HELLO: &str = "[hello.example.com]";

#[rstest]
#[case::exact(HELLO, HELLO, "[gw]", "v1 100 %")]
#[case::every_host_of_the_server(ANY, HELLO, "[gw]", "v1 100 %")]
#[case::every_host_of_the_rules(HELLO, ANY, "[gw]", "v1 100 %")]
#[case::wildcards("['*.com']", "['*.example.com']", "[gw]", "v1 100 %")]
#[case::capitals("[hello.EXAMPLE.com]", "[hello.EXAMPLE.com]", "[gw]", "v1 100 %")]
#[case::another_host_of_the_server("[other.example.com]", ANY, "[gw]", "404, no route 100 %")]
#[case::another_host_of_the_rules(ANY, "[other.example.com]", "[gw]", "404, no route 100 %")]
#[case::another_gateway(ANY, HELLO, "[other]", "404, no route 100 %")]
#[case::the_mesh_alone(ANY, HELLO, "[mesh]", "404, no route 100 %")]
#[case::the_mesh_too(ANY, HELLO, "[mesh, gw]", "v1 100 %")]
#[case::with_its_namespace(ANY, HELLO, "[here/gw]", "v1 100 %")]
#[case::with_a_dot_for_the_namespace(ANY, HELLO, "[./gw]", "v1 100 %")]
#[case::of_another_namespace(ANY, HELLO, "[there/gw]", "404, no route 100 %")]
#[case::by_the_name_of_a_service(ANY, HELLO, "[gw.here.svc.cluster.local]", "v1 100 %")]
#[case::hosts_of_this_namespace("['./*']", HELLO, "[gw]", "v1 100 %")]
#[case::hosts_of_all_namespaces("['*/hello.example.com']", HELLO, "[gw]", "v1 100 %")]
#[case::hosts_of_another_namespace("['there/*']", HELLO, "[gw]", "404, no route 100 %")]
fn rules_are_bound_to_gateways_and_hosts(
    #[case] of_server: &str,
    #[case] of_rules: &str,
    #[case] gateways: &str,
    #[case] expected: &str,
) {
    let text = format!("{}{}", gateway("gw", &server(of_server)), rules("r", of_rules, gateways, &to("v1")));
    assert_eq!(entering(&text, &hello("/")), expected);
}

#[test]
fn rules_for_a_gateway_do_not_reach_the_mesh_and_the_reverse() {
    let text = format!("{}{}", gateway("gw", &server(ANY)), rules("r", "[svc]", "[gw]", &to("v2")));
    let mesh = mesh(&format!("{SERVICE}{RULES}{text}"));
    let outbound = mesh.outbound(client());
    assert_eq!(shown(&outbound, &Request::get("svc", 8080, "/")), "v1 100 %");
    let full = Request::entering("svc.here.svc.cluster.local", 80, "/");
    assert_eq!(shown(&outbound, &full), "v2 100 %");
}

#[test]
fn without_a_server_for_the_port_nothing_listens() {
    let refused = "no connection, refused 100 %";
    assert_eq!(entering("", &hello("/")), refused);
    let text = gateway("gw", &server(ANY));
    assert_eq!(entering(&text, &hello("/")), "404, no route 100 %");
    assert_eq!(entering(&text, &Request::entering("hello.example.com", 8080, "/")), refused);
}

#[test]
fn a_destination_without_a_port_goes_to_the_only_one_of_its_service() {
    let two = "apiVersion: v1\nkind: Service\nmetadata: {name: two}\n\
               spec: {selector: {app: a}, ports: [{name: http, port: 8080}, {name: http-b, port: 8081}]}\n---\n";
    let of = |host: &str| {
        let route = format!("{{route: [{{destination: {{host: {host}}}}}]}}");
        let text = format!("{two}{}{}", gateway("gw", &server(ANY)), rules("r", HELLO, "[gw]", &route));
        entering(&text, &hello("/"))
    };
    assert_eq!(of("svc"), "v1 50 %, v2 50 %");
    assert_eq!(of("two"), "503, unknown cluster 100 %");
}

#[test]
fn rules_for_one_host_are_merged_and_a_route_for_all_requests_comes_last() {
    let exact = "{match: [{uri: {exact: /two}}], route: [{destination: {host: svc, subset: v2}}]}";
    let both = [rules("a", HELLO, "[gw]", &to("v1")), rules("b", HELLO, "[gw]", exact)].concat();
    let text = format!("{}{both}", gateway("gw", &server(ANY)));
    assert_eq!(entering(&text, &hello("/")), "v1 100 %");
    assert_eq!(entering(&text, &hello("/two")), "v2 100 %");
    // a host that is more specific has rules of its own alone
    let specific = [rules("a", "['*.example.com']", "[gw]", exact), rules("b", HELLO, "[gw]", &to("v1"))].concat();
    let text = format!("{}{specific}", gateway("gw", &server(ANY)));
    assert_eq!(entering(&text, &hello("/two")), "v1 100 %");
    assert_eq!(entering(&text, &Request::entering("other.example.com", 80, "/two")), "v2 100 %");
    assert_eq!(entering(&text, &Request::entering("other.example.com", 80, "/")), "404, no route 100 %");
}

#[test]
fn two_gateways_of_the_same_pods_share_their_port() {
    let gateways = [gateway("one", &server("[one.example.com]")), gateway("two", &server(HELLO))].concat();
    let text = format!("{gateways}{}", rules("r", ANY, "[two]", &to("v2")));
    assert_eq!(entering(&text, &hello("/")), "v2 100 %");
    assert_eq!(entering(&text, &Request::entering("one.example.com", 80, "/")), "404, no route 100 %");
}

#[rstest]
#[case::of_this_gateway("{gateways: [gw]}", "v2 100 %")]
#[case::of_the_mesh("{gateways: [mesh]}", "v1 100 %")]
#[case::port("{port: 80}", "v2 100 %")]
#[case::another_port("{port: 8080}", "v1 100 %")]
#[case::labels_of_the_gateway("{sourceLabels: {istio: ingressgateway}}", "v2 100 %")]
#[case::labels_of_a_client("{sourceLabels: {app: client}}", "v1 100 %")]
#[case::namespace_of_the_gateway("{sourceNamespace: istio-system}", "v2 100 %")]
#[case::namespace_of_a_client("{sourceNamespace: here}", "v1 100 %")]
#[case::authority("{authority: {exact: hello.example.com}}", "v2 100 %")]
fn a_match_is_for_the_gateway_as_a_client(#[case] matched: &str, #[case] expected: &str) {
    let first = format!("{{match: [{matched}], route: [{{destination: {{host: svc, subset: v2}}}}]}}");
    let http = format!("{first}, {}", to("v1"));
    let text = format!("{}{}", gateway("gw", &server(ANY)), rules("r", HELLO, "[gw]", &http));
    assert_eq!(entering(&text, &hello("/")), expected);
}

#[rstest]
#[case::with_rules(HELLO)]
#[case::without_rules("[other.example.com]")]
fn a_server_may_redirect_to_https(#[case] of_rules: &str) {
    let server = server(HELLO).replace("hosts:", "tls: {httpsRedirect: true}, hosts:");
    let text = format!("{}{}", gateway("gw", &server), rules("r", of_rules, "[gw]", &to("v1")));
    assert_eq!(entering(&text, &hello("/")), "301 by a redirect 100 %");
}

#[rstest]
#[case::tls("tls: {mode: SIMPLE, credentialName: a},", "not modelled: spec.servers[0].tls.mode")]
#[case::bind("bind: 10.0.0.1,", "not modelled: spec.servers[0].bind")]
fn what_is_not_modelled_of_a_server_is_named(#[case] field: &str, #[case] expected: &str) {
    let text = gateway("gw", &server(ANY).replace("hosts:", &format!("{field} hosts:")));
    assert!(entering(&text, &hello("/")).starts_with(expected), "{}", entering(&text, &hello("/")));
    // it does not matter to requests in the mesh
    let mesh = mesh(&format!("{SERVICE}{RULES}{text}"));
    assert_eq!(shown(&mesh.outbound(client()), &Request::get("svc", 8080, "/")), "v1 100 %");
}

#[rstest]
#[case::of_the_gateway("{selector: {matchLabels: {istio: ingressgateway}}, action: DENY}", "istio-system", true)]
#[case::of_others("{selector: {matchLabels: {app: other}}}", "istio-system", false)]
#[case::of_the_servers("{selector: {matchLabels: {app: a}}}", "here", true)]
fn a_policy_of_the_gateway_leaves_answers_unknown(#[case] spec: &str, #[case] namespace: &str, #[case] unknown: bool) {
    let policy = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: {namespace}}}\nspec: {spec}\n---\n"
    );
    let text = format!("{policy}{}{}", gateway("gw", &server(ANY)), rules("r", HELLO, "[gw]", &to("v1")));
    assert_eq!(entering(&text, &hello("/")).contains("AuthorizationPolicy/p"), unknown);
}

#[test]
fn a_secret_for_tls_towards_servers_matters_at_the_gateway_alone() {
    let policy = "  host: svc\n  trafficPolicy: {tls: {mode: SIMPLE, credentialName: cert}}\n";
    let objects = format!("{SERVICE}{RULES}").replace("'a:", "'hello-server:").replace("  host: svc\n", policy);
    let text = format!("{}{}", gateway("gw", &server(ANY)), rules("r", HELLO, "[gw]", &to("v1")));
    let mesh = mesh(&format!("{objects}{text}"));
    let outbound = mesh.outbound(client());
    assert_eq!(shown(&outbound, &hello("/")), "not modelled: spec.trafficPolicy.tls.credentialName");
    assert_eq!(shown(&outbound, &Request::get("svc", 8080, "/")), "v1 100 %");
}

#[test]
fn a_gateway_of_other_pods_is_not_modelled() {
    let text = gateway("gw", &server(ANY)).replace("istio: ingressgateway", "istio: own");
    assert_eq!(entering(&text, &hello("/")), "not modelled: spec.selector");
}
