use std::collections::BTreeMap;

use rstest::rstest;
use serde_json::json;

use super::*;
use crate::routing::{Client, Live, Mesh, Request, RouteDiff};
use crate::scenario::parse_manifests;

const HOST: &str = "svc-hello.canary.svc.cluster.local";

fn routes() -> Value {
    json!({"configs": [{"route_config": {"name": "8080", "virtual_hosts": [
        {"name": "other.canary.svc.cluster.local:8080", "domains": [], "routes": []},
        {"name": format!("{HOST}:8080"), "domains": ["svc-hello:8080"], "routes": [
            {"match": {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "testers"}}]},
             "route": {"weighted_clusters": {"clusters": [
                 {"name": format!("outbound|8080|v1|{HOST}"), "weight": 50},
                 {"name": format!("outbound|8080|v2|{HOST}"), "weight": 50}]}, "retry_policy": default_retries()}},
            {"match": {"prefix": "/"}, "route": {"cluster": format!("outbound|8080|v1|{HOST}"), "retry_policy": default_retries()}},
        ]},
    ]}}]})
}

/// The policy of a rule that asks for none.
fn default_retries() -> Value {
    json!({
        "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2,
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts"}],
        "host_selection_retry_max_attempts": "5",
    })
}

fn endpoints() -> Value {
    let endpoint = |address: &str, health: &str| {
        json!({"address": {"socket_address": {"address": address, "port_value": 8080}},
               "health_status": {"eds_health_status": health}})
    };
    json!({"cluster_statuses": [
        {"name": format!("outbound|8080|v1|{HOST}"), "host_statuses": [endpoint("10.0.0.1", "HEALTHY"), endpoint("10.0.0.2", "UNHEALTHY")]},
        {"name": format!("outbound|9090|v1|{HOST}"), "host_statuses": [endpoint("10.0.0.9", "HEALTHY")]},
        {"name": format!("outbound|8080|v2|{HOST}")},
        {"name": "xds-grpc", "host_statuses": [endpoint("10.0.0.7", "HEALTHY")]},
    ]})
}

fn dump() -> ConfigDump {
    ConfigDump { routes: routes(), endpoints: endpoints(), ..ConfigDump::default() }
}

#[test]
fn endpoints_behind_the_first_priority_stand_by() {
    let endpoint = |number: u8, priority: u8, health: &str| {
        json!({"address": {"socket_address": {"address": format!("10.0.0.{number}"), "port_value": 8080}},
               "health_status": {"eds_health_status": health}, "priority": priority})
    };
    let read = |own: &str| {
        let name = format!("outbound|8080|v1|{HOST}");
        let hosts = [endpoint(1, 0, own), endpoint(2, 1, "HEALTHY"), endpoint(3, 2, "HEALTHY")];
        let endpoints = json!({"cluster_statuses": [{"name": name, "host_statuses": hosts}]});
        let table = read_table(&ConfigDump { endpoints, ..dump() }, HOST, 8080, None).unwrap();
        table
            .lines()
            .into_iter()
            .filter(|line| line.contains("subset v1") && line.starts_with("endpoints"))
            .collect::<Vec<_>>()
    };
    let all = format!("endpoints of subset v1 of {HOST}:8080");
    let [one, two, three] = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"];
    assert_eq!(read("HEALTHY"), [format!("{all}: {one}, {two}, {three}; too far away: {two}, {three}")]);
    assert_eq!(read("UNHEALTHY"), [format!("{all}: {two}, {three}; too far away: {three}")]);
}

#[test]
fn faults_are_read_with_their_shares() {
    let share = |numerator: u32| json!({"numerator": numerator, "denominator": "MILLION"});
    let read = |delay: Value| {
        let faults = json!({"delay": delay, "abort": {"percentage": share(100_000), "http_status": 418}});
        let route = json!({
            "match": {"prefix": "/"},
            "direct_response": {"status": 200},
            "typed_per_filter_config": {"envoy.filters.http.fault": faults},
        });
        read_route(&route).unwrap().to_string()
    };
    let delayed = read(json!({"fixed_delay": "0.500s", "percentage": share(250_000)}));
    assert_eq!(delayed, "any request is answered 200, 10 % aborted with 418, 25 % delayed by 500ms");
    let none = "any request is answered 200, 10 % aborted with 418";
    assert_eq!([read(json!({"fixed_delay": "5s", "percentage": share(0)})), read(Value::Null)], [none; 2]);
}

#[test]
fn routes_and_endpoints_become_a_route_table() {
    let table = read_table(&dump(), HOST, 8080, None).unwrap();
    assert_eq!(
        RouteDiff::lines(&table.difference(&RouteTable::default())),
        [
            format!("+ route 1: end-user is `testers` to subset v1 of {HOST}:8080 (50), subset v2 of {HOST}:8080 (50)"),
            format!("+ route 2: any request to subset v1 of {HOST}:8080"),
            format!("+ endpoints of subset v1 of {HOST}:8080: 10.0.0.1:8080"),
            format!("+ endpoints of subset v2 of {HOST}:8080: none"),
        ]
    );
}

#[test]
fn a_listener_that_forwards_connections_is_a_route_of_connections() {
    let filter =
        |cluster: &str| json!({"name": "envoy.filters.network.tcp_proxy", "typed_config": {"cluster": cluster}});
    let chain = |cluster: String| json!({"filter_chains": [{"filters": [{"name": "istio.stats"}, filter(&cluster)]}]});
    let listeners = json!({"configs": [
        {"name": "virtualOutbound", "active_state": {"listener": chain("PassthroughCluster".to_owned())}},
        {"name": "10.43.0.7_9090", "active_state": {"listener": chain(format!("outbound|9090||{HOST}"))}},
        {"name": "10.43.0.7_8080", "active_state": {"listener": chain(format!("outbound|8080||{HOST}"))}},
    ]});
    let endpoints = json!({"cluster_statuses": [{"name": format!("outbound|8080||{HOST}"), "host_statuses": [
        {"address": {"socket_address": {"address": "10.0.0.1", "port_value": 8080}}, "health_status": {"eds_health_status": "HEALTHY"}},
    ]}]});
    let dump = ConfigDump { listeners, endpoints, ..ConfigDump::default() };
    let table = read_table(&dump, HOST, 8080, None).unwrap();
    assert_eq!(
        RouteDiff::lines(&table.difference(&RouteTable::default())),
        [
            format!("+ route of connections 1: any request to {HOST}:8080"),
            format!("+ endpoints of {HOST}:8080: 10.0.0.1:8080"),
        ]
    );
    assert!(read_table(&dump, HOST, 7070, None).is_err());
}

#[rstest]
#[case::weights(
    json!({"weighted_clusters": {"clusters": [
        {"name": format!("outbound|8080|v1|{HOST}"), "weight": 20}, {"name": format!("outbound|8080|v2|{HOST}"), "weight": 80},
    ]}}),
    format!("subset v1 of {HOST}:8080 (20), subset v2 of {HOST}:8080 (80)")
)]
#[case::past_the_endpoints(json!({"cluster": "PassthroughCluster"}), format!("{HOST}:8080"))]
fn the_listener_of_an_address_has_the_rules_for_connections(#[case] proxy: Value, #[case] expected: String) {
    let chain = |proxy: Value, matched: Value| {
        let filters = json!([{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]);
        json!({"filter_chain_match": matched, "filters": filters})
    };
    let other = || json!({"cluster": "outbound|1||other"});
    let listener = json!({
        "name": "10.43.0.7_8080",
        "filter_chains": [
            chain(other(), json!({"server_names": ["a"]})), chain(other(), json!({"prefix_ranges": [{"address_prefix": "10.0.0.0"}]})),
            chain(other(), json!({"application_protocols": ["http/1.1"]})),
        ],
        "default_filter_chain": chain(proxy, Value::Null),
    });
    let listeners = json!({"configs": [{"active_state": {"listener": listener}}]});
    let dump = ConfigDump { listeners, ..ConfigDump::default() };
    let table = read_table(&dump, HOST, 8080, Some("10.43.0.7")).unwrap();
    assert_eq!(table.lines()[0], format!("route of connections 1: any request to {expected}"));
    assert!(read_table(&dump, HOST, 8080, Some("10.43.0.8")).is_err());
}

#[rstest]
#[case::exact("Hello.Example.com:80", "route 1: any request to subset exact")]
#[case::longest_wildcard("a.b.example.com", "route 1: any request to subset long")]
#[case::wildcard("a.example.com", "route 1: any request to subset short")]
#[case::redirect("tls.example.com", "route 1: any request is redirected with 301, scheme https")]
#[case::no_character_for_the_wildcard(".example.com", "")]
#[case::unknown("example.org", "")]
fn a_gateway_routes_by_the_host(#[case] host: &str, #[case] expected: &str) {
    let virtual_host = |domain: &str, subset: &str| {
        let route = json!({"match": {"prefix": "/"}, "route": {"cluster": format!("outbound|8080|{subset}|{HOST}")}});
        json!({"domains": [domain], "routes": [route]})
    };
    let mut hosts = vec![
        virtual_host("*.example.com", "short"),
        virtual_host("*.b.example.com", "long"),
        virtual_host("hello.example.com", "exact"),
        virtual_host("tls.example.com", ""),
    ];
    hosts[3]["require_tls"] = json!("ALL");
    let other = json!({"route_config": {"name": "http.8081", "virtual_hosts": [virtual_host("*", "other")]}});
    let own = json!({"route_config": {"name": "http.8080", "virtual_hosts": hosts}});
    let listener = json!({"name": "0.0.0.0_8080", "filter_chains": [{"filters": []}]});
    let listeners = json!({"configs": [{"active_state": {"listener": listener}}]});
    let dump = ConfigDump { routes: json!({"configs": [other, own]}), listeners, ..ConfigDump::default() };
    let line = read_gateway(&dump, 8080, host, None).unwrap().lines().into_iter().next().unwrap_or_default();
    assert!(line.starts_with(expected) && line.is_empty() == expected.is_empty(), "{line}");
    // where nothing listens, connections are refused
    assert_eq!(read_gateway(&dump, 8081, host, None).unwrap().unit, RoutingUnit::Connection);
    let dump = ConfigDump { routes: Value::Null, ..dump };
    assert_eq!(read_gateway(&dump, 8080, host, None).unwrap_err().to_string(), "it has no route for http.8080 yet");
}

#[test]
fn a_service_without_a_route_is_an_error() {
    let error = read_table(&dump(), "none.canary.svc.cluster.local", 8080, None).unwrap_err();
    assert_eq!(error.to_string(), "it has no route for none.canary.svc.cluster.local:8080 yet");
}

#[test]
fn an_unsupported_match_is_an_error() {
    let mut dump = dump();
    dump.routes["configs"][0]["route_config"]["virtual_hosts"][1]["routes"][1]["match"] =
        json!({"connect_matcher": {}});
    let error = read_table(&dump, HOST, 8080, None).unwrap_err();
    assert_eq!(error.to_string(), r#"it has an unsupported path match: {"connect_matcher":{}}"#);
}

#[rstest]
#[case::none(Value::Null, "no retries")]
#[case::by_default(default_retries(), "")]
#[case::up_to_1_23(
    json!({
        "retry_on": "connect-failure,retriable-status-codes", "num_retries": 2, "retriable_status_codes": [503],
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts"}],
    }),
    "2 retries after failed connections and 503"
)]
#[case::others(
    json!({"retry_on": "gateway-error", "num_retries": 1, "per_try_timeout": "0.250s"}),
    "1 retry after failed connections and 503, also to the same endpoint, 250ms each"
)]
#[case::for_another_status(
    json!({
        "retry_on": "retriable-status-codes", "num_retries": 1, "retriable_status_codes": [502],
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts"}],
    }),
    "1 retry after other failures"
)]
fn retries_are_read(#[case] policy: Value, #[case] expected: &str) {
    let separator = if expected.is_empty() { "" } else { ", " };
    let action = json!({"cluster": format!("outbound|8080||{HOST}"), "retry_policy": policy});
    let lines = of_one_route(&json!({"match": {"prefix": "/"}, "route": action}));
    assert_eq!(lines[0], format!("route 1: any request to {HOST}:8080{separator}{expected}"));
}

#[test]
fn timeouts_and_delays_are_read() {
    let lines = of_one_route(&json!({
        "match": {"prefix": "/"},
        "route": {"cluster": format!("outbound|8080||{HOST}"), "timeout": "1.500s", "retry_policy": default_retries()},
        "typed_per_filter_config": {"envoy.filters.http.fault": {
            "delay": {"fixed_delay": "5s", "percentage": {"numerator": 100_000, "denominator": "MILLION"}},
        }},
    }));
    assert_eq!(lines[0], format!("route 1: any request to {HOST}:8080, timeout 1.5s, 10 % delayed by 5s"));
    let none = json!({
        "match": {"prefix": "/"},
        "route": {"cluster": format!("outbound|8080||{HOST}"), "timeout": "0s", "retry_policy": default_retries()},
    });
    assert_eq!(of_one_route(&none)[0], format!("route 1: any request to {HOST}:8080"));
}

/// The lines of a virtual host with this route.
fn of_one_route(route: &Value) -> Vec<String> {
    read_virtual_host(&ConfigDump::default(), &json!({"routes": [route]})).unwrap().lines()
}

#[test]
fn protocols_of_the_clusters_are_read() {
    let clusters = json!({"configs": [
        {"cluster": {"name": format!("outbound|8080|v2|{HOST}")}}, {"cluster": {"name": format!("outbound|9090||{HOST}")}},
    ]});
    let table = read_table(&ConfigDump { clusters, ..dump() }, HOST, 8080, None).unwrap();
    assert_eq!(table.lines()[4..], [format!("protocol of subset v2 of {HOST}:8080: HTTP/1.1, no TLS")]);
}

/// istiod's routes for rules after which a stage once waited for its routes until the timeout.
#[rstest]
#[case::host_in_a_header(
    "headers: {request: {set: {Host: beta.acme.io}}}",
    json!({"cluster": format!("outbound|8080||{HOST}"), "host_rewrite_literal": "beta.acme.io"}),
    Value::Null
)]
#[case::status_of_grpc(
    "fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}",
    json!({"cluster": format!("outbound|8080||{HOST}")}),
    json!({"abort": {"grpc_status": 14, "percentage": {"numerator": 1_000_000, "denominator": "MILLION"}}})
)]
fn routes_of_the_sidecar_are_those_of_the_model(#[case] field: &str, #[case] mut action: Value, #[case] fault: Value) {
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: svc-hello}}\nspec: {{ports: [{{name: http, port: 8080}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs-hello}}\n\
         spec: {{hosts: [svc-hello], http: [{{{field}, route: [{{destination: {{host: svc-hello}}}}]}}]}}\n"
    );
    let mut live = Live::new("canary", "canary");
    parse_manifests("a.yaml".as_ref(), &text).unwrap().iter().for_each(|manifest| live.apply(manifest));
    let client = Client::new("canary", BTreeMap::new());
    let mesh = Mesh::new(&live, Vec::new());
    let expected = mesh.outbound(client).routes(&Request::get("svc-hello", 8080, "/")).unwrap().table;
    action["retry_policy"] = default_retries();
    let route = json!({
        "match": {"prefix": "/"}, "route": action, "typed_per_filter_config": {"envoy.filters.http.fault": fault},
    });
    let endpoints = json!({"cluster_statuses": [{"name": format!("outbound|8080||{HOST}")}]});
    let dump = ConfigDump { endpoints, ..ConfigDump::default() };
    let found = read_virtual_host(&dump, &json!({"routes": [route]})).unwrap();
    assert_eq!(RouteDiff::lines(&found.difference(&expected)), [""; 0]);
}

#[rstest]
#[case::exact("hello.example.com", "subset exact", "one")]
#[case::wildcard("a.example.com", "subset wide", "two")]
#[case::any_name("example.org", "subset rest", "three")]
fn a_gateway_routes_by_the_name_in_the_handshake(#[case] name: &str, #[case] subset: &str, #[case] secret: &str) {
    let config = |name: &str, subset: &str| {
        let route = json!({"match": {"prefix": "/"}, "route": {"cluster": format!("outbound|8080|{subset}|{HOST}")}});
        // over TLS, nothing is redirected to HTTPS
        let virtual_host = json!({"domains": ["*"], "routes": [route], "require_tls": "ALL"});
        json!({"route_config": {"name": name, "virtual_hosts": [virtual_host]}})
    };
    let chain = |names: &[&str], routes: &str, secret: &str| {
        let secrets = json!([{"name": format!("kubernetes://{secret}")}]);
        json!({
            "filter_chain_match": {"server_names": names},
            "filters": [{"name": "http", "typed_config": {"rds": {"route_config_name": routes}}}],
            "transport_socket": {"typed_config": {"common_tls_context": {"tls_certificate_sds_secret_configs": secrets}}},
        })
    };
    let pem = STANDARD.encode(include_str!("../../../fixtures/ingress-tls/ca.pem"));
    let active = |secret: &str| {
        let certificate = json!({"certificate_chain": {"inline_bytes": pem}});
        json!({"name": format!("kubernetes://{secret}"), "secret": {"tls_certificate": certificate}})
    };
    let mut chains = vec![
        chain(&["*.example.com"], "https.443.two", "two"),
        chain(&["hello.example.com"], "https.443.one", "one"),
        chain(&[], "https.443.three", "three"),
    ];
    let configs = [("https.443.one", "exact"), ("https.443.two", "wide"), ("https.443.three", "rest")];
    let dump = |chains: &[Value]| ConfigDump {
        routes: json!({"configs": configs.map(|(name, subset)| config(name, subset))}),
        listeners: json!({"configs": [{"active_state": {"listener": {"name": "0.0.0.0_8443", "filter_chains": chains}}}]}),
        secrets: json!({"configs": [active("two"), active("one"), active("three")]}),
        ..ConfigDump::default()
    };
    let lines = read_gateway(&dump(&chains), 8443, name, Some(name)).unwrap().lines();
    assert!(lines[0].starts_with(&format!("route 1: any request to {subset} of {HOST}:8080")), "{lines:?}");
    assert!(lines.last().unwrap().starts_with(&format!("certificate of Secret {secret}: SHA-256 ")), "{lines:?}");
    let closed = RouteTable::of_closed_port();
    // without its certificate, for another name, and without TLS
    let without = ConfigDump { secrets: Value::Null, ..dump(&chains) };
    assert_eq!(read_gateway(&without, 8443, name, Some(name)).unwrap(), closed);
    assert_eq!(read_gateway(&dump(&chains), 8443, name, None).unwrap(), closed);
    chains.truncate(2);
    assert_eq!(read_gateway(&dump(&chains), 8443, "example.org", Some("example.org")).unwrap(), closed);
}
