//! Behaviour of istiod that comparisons with istiod itself have found, one case each.

use rstest::rstest;

use super::fixture::{SERVICE, client, mesh_of};
use super::{Action, Request};

/// Another Service, in the namespace `there`.
const NEXT: &str = "
apiVersion: v1
kind: Service
metadata: {name: next, namespace: there}
spec: {selector: {app: a}, ports: [{name: http, port: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: v1, namespace: there}
spec: {template: {metadata: {labels: {app: a, version: v1}}, spec: {containers: [{image: 'a:v1'}]}}}
---
";

/// What becomes of a request from the namespace `here` to `svc`, or to the host in its `Host` header.
fn outcome(version: &str, text: &str, host: &str) -> String {
    let mesh = mesh_of(&version.parse().unwrap(), &format!("{SERVICE}{NEXT}{text}"));
    let distribution = mesh.outbound(client()).distribution(&Request::get("svc", 8080, "/").with("host", host));
    let mut outcomes: Vec<String> =
        distribution.iter().map(|(outcome, chance)| format!("{outcome} {chance}")).collect();
    outcomes.sort();
    outcomes.join(", ")
}

fn virtual_service(name: &str, hosts: &str, destination: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {{hosts: {hosts}, http: [{{route: [{{destination: {destination}}}]}}]}}\n---\n"
    )
}

fn destination_rule(place: &str, host: &str, export: &str, label: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{{place}}}\n\
         spec: {{host: {host}, exportTo: {export}, subsets: [{{name: one, labels: {{version: {label}}}}}]}}\n---\n"
    )
}

fn http_route(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
    )
}

const BOTH: &str = "v1 50 %, v2 50 %";
const PARENT: &str = "parentRefs: [{group: '', kind: Service, name: svc}]";

#[rstest]
#[case::capitals_in_a_destination("[svc]", "{host: Svc}", "svc", "503, unknown cluster 100 %")]
#[case::a_host_beside_a_service("[svc, other.io]", "{host: next.there.svc.cluster.local}", "other.io", "v1 100 %")]
#[case::a_wildcard_beside_a_service(
    "[svc, '*.other.io']",
    "{host: next.there.svc.cluster.local}",
    "a.other.io",
    "v1 100 %"
)]
#[case::a_host_beside_no_service("[other.io]", "{host: next.there.svc.cluster.local}", "other.io", BOTH)]
fn hosts_of_rules(#[case] hosts: &str, #[case] destination: &str, #[case] host: &str, #[case] expected: &str) {
    assert_eq!(outcome("1.31", &virtual_service("vs", hosts, destination), host), expected);
}

#[rstest]
#[case("1.22", BOTH)]
#[case("1.31", "503, unknown cluster 100 %")]
fn a_rule_for_a_host_in_capitals_applies_since_later_versions(#[case] version: &str, #[case] expected: &str) {
    assert_eq!(outcome(version, &virtual_service("vs", "[Svc]", "{host: none}"), "svc"), expected);
}

#[rstest]
#[case("1.22", BOTH)]
#[case("1.31", "503, unknown cluster 100 %")]
fn a_name_with_a_dot_at_its_end_is_known_since_later_versions(#[case] version: &str, #[case] expected: &str) {
    let rule = virtual_service("vs", "[svc]", "{host: none}");
    assert_eq!(outcome(version, &rule, "svc.here.svc.cluster.local."), expected);
    assert_eq!(outcome(version, &rule, "svc."), BOTH);
}

#[test]
fn a_destination_rule_that_the_client_does_not_see_hides_no_wildcard() {
    let next = "next.there.svc.cluster.local";
    let rule = virtual_service("vs", "[svc]", &format!("{{host: {next}, subset: one}}"));
    let private = destination_rule("name: a, namespace: there", next, "[.]", "v1");
    let wildcard = destination_rule("name: b, namespace: there", "'*.there.svc.cluster.local'", "['*']", "v1");
    assert_eq!(outcome("1.31", &format!("{rule}{private}{wildcard}"), "svc"), "v1 100 %");
}

#[rstest]
#[case::merged_the_older_subset_applies("1.22", "v1 100 %")]
#[case::apart_the_younger_rule_applies("1.31", "v2 100 %")]
fn destination_rules_with_different_exports(#[case] version: &str, #[case] expected: &str) {
    let rule = virtual_service("vs", "[svc]", "{host: svc, subset: one}");
    let (older, younger) =
        (destination_rule("name: a", "svc", "['*']", "v1"), destination_rule("name: b", "svc", "[.]", "v2"));
    assert_eq!(outcome(version, &format!("{rule}{older}{younger}"), "svc"), expected);
}

#[rstest]
#[case::a_parent_without_a_group_is_no_service("parentRefs: [{kind: Service, name: svc}], rules: [{}]", BOTH)]
#[case::no_rules_have_a_default("parentRefs: [{group: '', kind: Service, name: svc}]", "500 by the route itself 100 %")]
#[case::an_unknown_filter_drops_the_route(
    "parentRefs: [{group: '', kind: Service, name: svc}], rules: [{}, {filters: [{type: ExtensionRef}]}]",
    BOTH
)]
fn http_routes(#[case] spec: &str, #[case] expected: &str) {
    assert_eq!(outcome("1.31", &http_route("a", spec), "svc"), expected);
}

#[rstest]
#[case::by_the_names_of_the_objects("1.22", "500 by the route itself 100 %")]
#[case::by_the_names_that_istio_makes("1.31", "418 by a redirect 100 %")]
fn http_routes_of_one_second_are_ordered(#[case] version: &str, #[case] expected: &str) {
    let redirect = "rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 418}}]}]";
    let (a, a_b) = (http_route("a", PARENT), http_route("a-b", &format!("{PARENT}, {redirect}")));
    assert_eq!(outcome(version, &format!("{a}{a_b}"), "svc"), expected);
}

#[test]
fn a_rule_without_matches_comes_before_a_regular_expression() {
    let by_expression =
        "matches: [{path: {type: RegularExpression, value: '/.*'}}], backendRefs: [{name: none, port: 1}]";
    let route = http_route("a", &format!("{PARENT}, rules: [{{{by_expression}}}, {{}}]"));
    assert_eq!(outcome("1.31", &route, "svc"), "500 by the route itself 100 %");
}

#[rstest]
#[case("1.22", "503, unknown cluster 100 %", "v2 100 %")]
#[case("1.31", "v1 100 %", "v1 100 %")]
fn a_name_with_a_dash_comes_first_up_to_1_22(#[case] version: &str, #[case] rule: &str, #[case] subset: &str) {
    let rules = |one: &str, other: &str| {
        format!("{}{}", virtual_service("a", "[svc]", one), virtual_service("a-b", "[svc]", other))
    };
    let next = "{host: next.there.svc.cluster.local}";
    assert_eq!(outcome(version, &rules(next, "{host: none}"), "svc"), rule);
    let (older, younger) =
        (destination_rule("name: a", "svc", "['*']", "v1"), destination_rule("name: a-b", "svc", "['*']", "v2"));
    let destination = "{host: svc, subset: one}";
    assert_eq!(outcome(version, &format!("{}{older}{younger}", rules(destination, destination)), "svc"), subset);
}

/// Among objects of one second the name decides: up to 1.22, that of the second object that is made for `b` is `b-0`, not `b-1`, since the
/// rules for `other` join those of `a`.
#[rstest]
#[case("1.22", "500 by the route itself 100 %")]
#[case("1.31", "503, unknown cluster 100 %")]
fn routes_are_named_by_the_number_of_objects_that_are_made(#[case] version: &str, #[case] expected: &str) {
    let parents = |names: &[&str]| {
        let parents = names.iter().map(|name| format!("{{group: '', kind: Service, name: {name}}}"));
        format!("parentRefs: [{}], rules: [{{}}]", parents.collect::<Vec<_>>().join(", "))
    };
    let route = |name: &str, names: &[&str]| http_route(&format!("{name}, namespace: there"), &parents(names));
    let routes = format!("{}{}", route("a", &["other"]), route("b", &["other", "next"]));
    // `b-0-istio…` comes before this name, `b-1-istio…` does not, nor does the name that later versions make up from the host
    let next = "next.there.svc.cluster.local";
    let rule = virtual_service("b-0-j", &format!("[{next}]"), "{host: none}");
    assert_eq!(outcome(version, &format!("{routes}{rule}"), next), expected);
}

#[rstest]
#[case::left_out_where_there_is_no_such_service("1.31", "none", None)]
#[case::whole_up_to_1_22("1.22", "svc", Some(1_000_000))]
#[case::in_part("1.31", "svc", Some(200_000))]
fn mirrors_of_routes(#[case] version: &str, #[case] name: &str, #[case] expected: Option<u32>) {
    let mirror = format!("{{backendRef: {{name: {name}, port: 8080}}, percent: 20}}");
    let rules = format!(
        "rules: [{{filters: [{{type: RequestMirror, requestMirror: {mirror}}}], backendRefs: [{{name: svc, port: 8080}}]}}]"
    );
    let text = format!("{SERVICE}{NEXT}{}", http_route("a", &format!("{PARENT}, {rules}")));
    let mesh = mesh_of(&version.parse().unwrap(), &text);
    let outbound = mesh.outbound(client());
    let table = outbound.routes(&Request::get("svc", 8080, "/")).unwrap().table;
    let Action::Forward(forward) = &table.routes[0].action else { panic!("{:?}", table.routes) };
    assert_eq!(forward.mirrors.first().map(|(_, share)| *share), expected);
}

#[rstest]
#[case("1.22", "v1 100 %")]
#[case("1.31", "503, unknown cluster 100 %")]
fn a_rule_that_delegates_comes_later_up_to_1_22(#[case] version: &str, #[case] expected: &str) {
    let delegating = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
                      spec: {hosts: [svc], http: [{delegate: {name: gone}}, {route: [{destination: {host: none}}]}]}\n---\n";
    let other = virtual_service("b", "[svc]", "{host: next.there.svc.cluster.local}");
    assert_eq!(outcome(version, &format!("{delegating}{other}"), "svc"), expected);
}

/// Where a rule for connections names no port, that of its destination counts only if there is no other, and a port of UDP is another.
#[rstest]
#[case::alone("{name: http, port: 8080}", "v1 100 %")]
#[case::beside_udp("{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}", "no connection, refused 100 %")]
fn the_only_port_of_a_destination(#[case] ports: &str, #[case] expected: &str) {
    let next = NEXT.replace("{name: http, port: 8080}", ports);
    let asked = "apiVersion: v1\nkind: Service\nmetadata: {name: asked}\nspec: {ports: [{name: tcp, port: 90}]}\n---\n";
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs}\n\
                spec: {hosts: [asked], tcp: [{route: [{destination: {host: next.there.svc.cluster.local}}]}]}\n---\n";
    let mesh = mesh_of(&"1.31".parse().unwrap(), &format!("{next}{asked}{rule}"));
    let distribution = mesh.outbound(client()).distribution(&Request::get("asked", 90, "/"));
    let outcomes: Vec<String> = distribution.iter().map(|(outcome, chance)| format!("{outcome} {chance}")).collect();
    assert_eq!(outcomes, [expected]);
}

/// Envoy takes hosts that differ in capitals alone for one host twice, and refuses them.
#[rstest]
#[case::up_to_1_22("1.22", "./svc.example.com", Some("hosts `Svc.example.com` and `svc.example.com` of one port"))]
#[case::in_one_spelling("1.22", "./Svc.example.com", None)]
#[case::of_no_rule("1.22", "there/svc.example.com", None)]
#[case::later_versions("1.31", "./svc.example.com", None)]
fn hosts_of_a_gateway_in_two_spellings(#[case] version: &str, #[case] host: &str, #[case] expected: Option<&str>) {
    let server =
        |name: &str, host: &str| format!("{{port: {{number: 80, name: {name}, protocol: HTTP}}, hosts: ['{host}']}}");
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\n\
         spec: {{selector: {{istio: ingressgateway}}, servers: [{}, {}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\n\
         spec: {{hosts: ['*'], gateways: [gw], http: [{{route: [{{destination: {{host: svc}}}}]}}]}}\n",
        server("one", "Svc.example.com"),
        server("other", host),
    );
    let mesh = mesh_of(&version.parse().unwrap(), &format!("{SERVICE}{text}"));
    let outbound = mesh.outbound(client());
    let fields = |port| {
        let request = Request::entering("svc.example.com", port, "/");
        let notes = outbound.not_modelled(&request, outbound.routes(&request).ok().as_ref());
        notes.iter().map(|note| note.field.clone()).collect::<Vec<_>>()
    };
    assert_eq!(fields(80), expected.into_iter().collect::<Vec<_>>());
    assert_eq!(fields(81), Vec::<String>::new());
}
