use std::path::Path;
use std::sync::Arc;

use rstest::{Context, rstest};

use super::super::live::Live;
use crate::admission::Definitions;
use crate::scenario::parse_manifests;

const VIRTUAL_SERVICE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [svc]
  http:
  - match: [{headers: {end-user: {exact: testers}}, sourceLabels: {app: a}}]
    timeout: 5s
    route: [{destination: {host: svc, subset: v2}, weight: 100}, {destination: {host: svc, subset: v1}}]
";

const DESTINATION_RULE: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: dr}
spec:
  host: svc
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
  subsets: [{name: v1, labels: {version: v1}}]
";

const GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: http}, hosts: [a.com]}]
";

fn problems(text: &str) -> String {
    refused(Definitions::Newest, text)
}

fn refused(definitions: Definitions, text: &str) -> String {
    let mut live = Live::new("here", "here");
    for manifest in parse_manifests(Path::new("a.yaml"), text).unwrap() {
        live.apply(&Arc::new(manifest));
    }
    let problems = live.all().flat_map(|object| object.refused(definitions)).map(ToString::to_string);
    problems.collect::<Vec<_>>().join("\n")
}

#[rstest]
#[case(VIRTUAL_SERVICE)]
#[case(DESTINATION_RULE)]
#[case(GATEWAY)]
#[case::hosts_of_a_gateway(&GATEWAY.replace("[a.com]", "['*', '*.a.com', a.com, 10.0.0.1, '*/b.com', ./c.com, here/d.com, here/*]"))]
#[case::number_as_a_host(&VIRTUAL_SERVICE.replace("hosts: [svc]", "hosts: ['1']"))]
#[case::server_name_under_a_wildcard(&VIRTUAL_SERVICE.replace("hosts: [svc]", "hosts: [svc, '*.a.com']").replace("  http:\n", "  tls:\n  - match: [{sniHosts: [b.a.com, '*.b.a.com', svc]}]\n    route: [{destination: {host: svc}}]\n  http:\n"))]
#[case::behind_a_gateway_without_namespace(&VIRTUAL_SERVICE.replace("hosts: [svc]", "hosts: [svc]\n  gateways: [mesh, a_b]"))]
fn a_valid_object_has_no_problems(#[case] object: &str) {
    assert_eq!(problems(object), "");
}

#[rstest]
#[case::route_with_redirect(VIRTUAL_SERVICE, "    timeout", "    redirect: {uri: /a}\n    timeout")]
#[case::redirect_without_target(VIRTUAL_SERVICE, "    route: [", "    redirect: {}\n    mirrors: [")]
#[case::no_action(VIRTUAL_SERVICE, "    route: [", "    mirrors: [")]
#[case::every_host_in_the_mesh(VIRTUAL_SERVICE, "hosts: [svc]", "hosts: ['*']")]
#[case::host_twice(VIRTUAL_SERVICE, "hosts: [svc]", "hosts: ['*.com', a.com]")]
#[case::no_host_name(VIRTUAL_SERVICE, "hosts: [svc]", "hosts: [svc_a]")]
#[case::gateways_of_a_delegate(VIRTUAL_SERVICE, "hosts: [svc]", "gateways: [a]")]
#[case::number_as_a_gateway(VIRTUAL_SERVICE, "hosts: [svc]", "hosts: [svc]\n  gateways: ['1']")]
#[case::no_gateway(VIRTUAL_SERVICE, "hosts: [svc]", "hosts: [svc]\n  gateways: [a_b]")]
#[case::no_rules(VIRTUAL_SERVICE, "  http:\n", "  http: []\n  tcp:\n")]
#[case::star_as_an_expression(VIRTUAL_SERVICE, "exact: testers", "regex: '*'")]
#[case::broken_expression(VIRTUAL_SERVICE, "exact: testers", "regex: 'test(ers'")]
#[case::empty_prefix(VIRTUAL_SERVICE, "exact: testers", "prefix: ''")]
#[case::header_with_a_space(VIRTUAL_SERVICE, "end-user:", "end user:")]
#[case::source_label(VIRTUAL_SERVICE, "{app: a}", "{app: 'a b'}")]
#[case::weights_of_nothing(VIRTUAL_SERVICE, ", weight: 100", "")]
#[case::negative_weight(VIRTUAL_SERVICE, "weight: 100", "weight: -1")]
#[case::destination_of_every_host(VIRTUAL_SERVICE, "host: svc, subset: v2", "host: '*'")]
#[case::microseconds(VIRTUAL_SERVICE, "timeout: 5s", "timeout: 1500us")]
#[case::impossible_status(VIRTUAL_SERVICE, "timeout: 5s", "fault: {abort: {httpStatus: 700}}")]
#[case::percentage_above_all(
    VIRTUAL_SERVICE,
    "timeout: 5s",
    "fault: {abort: {httpStatus: 503, percentage: {value: 150}}}"
)]
#[case::fault_of_nothing(VIRTUAL_SERVICE, "timeout: 5s", "fault: {}")]
#[case::retries_without_attempts(VIRTUAL_SERVICE, "timeout: 5s", "retries: {retryOn: 5xx}")]
#[case::unknown_retry(VIRTUAL_SERVICE, "timeout: 5s", "retries: {attempts: 2, retryOn: 'gateway-errors'}")]
#[case::host_of_a_response(VIRTUAL_SERVICE, "timeout: 5s", "headers: {response: {set: {Host: a}}}")]
#[case::host_set_twice(
    VIRTUAL_SERVICE,
    "timeout: 5s",
    "rewrite: {authority: a}\n    headers: {request: {set: {Host: b}}}"
)]
#[case::rewrite_of_nothing(VIRTUAL_SERVICE, "timeout: 5s", "rewrite: {}")]
#[case::unknown_method(VIRTUAL_SERVICE, "timeout: 5s", "corsPolicy: {allowMethods: [GOT]}")]
#[case::exported_to_all_and_here(VIRTUAL_SERVICE, "  hosts:", "  exportTo: ['*', .]\n  hosts:")]
#[case::server_name_of_another_host(
    VIRTUAL_SERVICE,
    "  http:\n",
    "  tls:\n  - match: [{sniHosts: [svc, '*.svc', other]}]\n    route: [{destination: {host: svc}}]\n  http:\n"
)]
#[case::no_server_name(
    VIRTUAL_SERVICE,
    "  http:\n",
    "  tls:\n  - match: [{sniHosts: [10.0.0.1, a_b]}]\n    route: [{destination: {host: svc}}]\n  http:\n"
)]
#[case::match_of_connections(
    VIRTUAL_SERVICE,
    "  http:\n",
    "  tcp:\n  - match: [{gateways: [''], sourceLabels: {app: 'a b'}, destinationSubnets: [10.0.0.0/33, svc]}]\n    route: [{destination: {host: svc}}]\n  http:\n"
)]
#[case::unknown_protocol(GATEWAY, "protocol: http", "protocol: HTTPX")]
#[case::https_without_tls(GATEWAY, "protocol: http", "protocol: HTTPS")]
#[case::tls_at_a_plain_port(GATEWAY, "hosts:", "tls: {mode: SIMPLE, credentialName: a}, hosts:")]
#[case::port_zero_at_a_gateway(GATEWAY, "number: 80", "number: 0")]
#[case::nameless_port(GATEWAY, ", name: http", "")]
#[case::no_host_at_a_gateway(GATEWAY, "[a.com]", "[]")]
#[case::no_server(GATEWAY, "[{port: {number: 80, name: http, protocol: http}, hosts: [a.com]}]", "[]")]
#[case::two_ports_of_a_name(
    GATEWAY,
    "hosts: [a.com]}",
    "hosts: [a.com]}, {port: {number: 81, name: http, protocol: TCP}, hosts: ['*']}"
)]
#[case::short_name_at_a_gateway(GATEWAY, "[a.com]", "[a.com, '1', svc]")]
#[case::no_host_name_at_a_gateway(GATEWAY, "[a.com]", "[a_b.com, '10.0.0.300', a.com/*]")]
#[case::part_of_a_label_at_a_gateway(GATEWAY, "[a.com]", "['*-a.com', './*a.com']")]
#[case::no_namespace_at_a_gateway(GATEWAY, "[a.com]", "[a_b/a.com, /a.com, here/]")]
#[case::two_subsets_alike(DESTINATION_RULE, "subsets: [", "subsets: [{name: v1}, ")]
#[case::subset_without_a_name(DESTINATION_RULE, "name: v1,", "name: '',")]
#[case::label_of_a_subset(DESTINATION_RULE, "version: v1", "version: 'v 1'")]
#[case::empty_policy(DESTINATION_RULE, "{loadBalancer: {simple: ROUND_ROBIN}}", "{}")]
#[case::empty_policy_of_a_port(
    DESTINATION_RULE,
    "loadBalancer: {simple: ROUND_ROBIN}",
    "portLevelSettings: [{port: {number: 80}}, {port: {number: 81}, outlierDetection: {maxEjectionPercent: 101}}]"
)]
#[case::mutual_tls_without_certificates(DESTINATION_RULE, "loadBalancer: {simple: ROUND_ROBIN}", "tls: {mode: MUTUAL}")]
#[case::cookie_without_a_name(
    DESTINATION_RULE,
    "loadBalancer: {simple: ROUND_ROBIN}",
    "loadBalancer: {consistentHash: {httpCookie: {name: ''}}}"
)]
#[case::lifetime_of_a_cookie(
    DESTINATION_RULE,
    "loadBalancer: {simple: ROUND_ROBIN}",
    "loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: a day}}}"
)]
#[case::two_sizes_of_a_ring(
    DESTINATION_RULE,
    "loadBalancer: {simple: ROUND_ROBIN}",
    "loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 64, ringHash: {minimumRingSize: 128}}}"
)]
#[case::ejection_above_all(
    DESTINATION_RULE,
    "loadBalancer: {simple: ROUND_ROBIN}",
    "outlierDetection: {maxEjectionPercent: 101}"
)]
fn what_istiod_refuses_is_told_with_its_place(
    #[context] context: Context,
    #[case] object: &str,
    #[case] part: &str,
    #[case] instead: &str,
) {
    assert!(object.contains(part));
    let found = problems(&object.replacen(part, instead, 1));
    assert!(!found.is_empty());
    insta::assert_snapshot!(context.description.unwrap(), found);
}

#[rstest]
#[case::two_subsets_of_one_name(DESTINATION_RULE, "subsets: [", "subsets: [{name: v1}, ", "there are two subsets `v1`")]
#[case::no_expression_for_an_absent_header(
    VIRTUAL_SERVICE,
    "headers: {end-user: {exact: testers}}",
    "withoutHeaders: {end-user: {regex: '('}}",
    "is not a regular expression"
)]
#[case::empty_prefix_of_an_authority(
    VIRTUAL_SERVICE,
    "headers: {end-user: {exact: testers}}",
    "authority: {prefix: ''}",
    "authority.prefix is empty"
)]
#[case::field_since_1_23(VIRTUAL_SERVICE, "timeout: 5s", "retries: {attempts: 1, retryIgnorePreviousHosts: true}", "")]
fn istio_1_22_accepts_other_objects(
    #[case] object: &str,
    #[case] written: &str,
    #[case] instead: &str,
    #[case] newest: &str,
) {
    assert!(object.contains(written));
    let object = object.replace(written, instead);
    let found = refused(Definitions::Newest, &object);
    assert!(found.contains(newest) && found.is_empty() == newest.is_empty(), "{found}");
    let on_1_22 = refused(Definitions::Istio1_22, &object);
    let unknown = "unknown field `spec.http[0].retries.retryIgnorePreviousHosts`";
    assert!(if newest.is_empty() { on_1_22.contains(unknown) } else { on_1_22.is_empty() }, "{on_1_22}");
}

/// The definitions of Istio 1.22 do not say so.
#[rstest]
#[case::of_a_delay(
    "fault: {delay: {fixedDelay: '', percentage: {value: 25}}}",
    "fixedDelay is ``, not a duration such as 5s"
)]
#[case::of_a_timeout("timeout: '5'", "timeout is `5`, not a duration such as 5s")]
fn istio_1_22_refuses_what_is_no_duration(#[case] instead: &str, #[case] expected: &str) {
    let found = refused(Definitions::Istio1_22, &VIRTUAL_SERVICE.replace("timeout: 5s", instead));
    assert!(found.contains(expected), "{found}");
}
