use rstest::rstest;

use super::tests::{HELLO, gateway, hello, rules, server, shown, to};
use super::tls_tests::{CA, CERTIFICATE, KEY, OTHER_CA, OTHER_HOST, OTHER_KEY, https, over_tls, secret};
use crate::routing::fixture::{RULES, SERVICE, client, mesh};
use crate::routing::{Endpoints, Request, RoutingUnit};

/// A server that passes connections through.
fn passing(name: &str, hosts: &str) -> String {
    format!("{{port: {{number: 443, name: {name}, protocol: TLS}}, tls: {{mode: PASSTHROUGH}}, hosts: {hosts}}}")
}

/// Rules with `tls` routes.
fn tls_rules(name: &str, hosts: &str, gateways: &str, routes: &str) -> String {
    rules(name, hosts, gateways, "").replace("http: []", &format!("tls: [{routes}]"))
}

/// A `tls` route for names, to a subset.
fn for_names(names: &str, subset: &str) -> String {
    format!(
        "{{match: [{{sniHosts: {names}}}], route: [{{destination: {{host: svc, subset: {subset}, port: {{number: 8080}}}}}}]}}"
    )
}

/// Demo servers behind a port of TLS, of which these mount a certificate.
fn servers(certificates: &str, with_tls: &[&str]) -> String {
    let mut text = SERVICE.replace("name: http,", "name: https,");
    for (version, image) in [("v1", "'a:v1'"), ("v2", "'a:v2'")] {
        let tls = if with_tls.contains(&version) {
            ", env: [{name: TLS, value: /tls}], volumeMounts: [{name: c, mountPath: /tls/}]}], \
             volumes: [{name: c, secret: {secretName: own}}]}}}"
        } else {
            "}]}}}"
        };
        text = text.replace(&format!("{image}}}]}}}}}}"), &format!("'hello-server:{version}'{tls}"));
    }
    format!("{certificates}{text}{RULES}")
}

fn own(certificate: &str, key: &str) -> String {
    secret("own", certificate, key).replace("istio-system", "here")
}

fn entering(text: &str, request: &Request) -> String {
    let servers = servers(&own(CERTIFICATE, KEY), &["v1", "v2"]);
    shown(&mesh(&format!("{servers}{text}")).outbound(client()), request)
}

fn hello_over_tls() -> Request {
    over_tls("hello.example.com", CA)
}

const NO_NAME: &str = "no TLS handshake, no server of the gateway at this port has the name 100 %";
const REFUSED: &str = "no connection, refused 100 %";

#[rstest]
#[case::exact(HELLO, HELLO, "[gw]", HELLO, "v2 100 %")]
#[case::every_host_of_the_server("['*']", HELLO, "[gw]", HELLO, "v2 100 %")]
#[case::wildcard_of_the_route("['*']", "['*.example.com']", "[gw]", "['*.example.com']", "v2 100 %")]
#[case::every_name("['*']", "['*']", "[gw]", "['*']", "v2 100 %")]
#[case::another_name("['*']", "['*.example.com']", "[gw]", "[other.example.com]", NO_NAME)]
#[case::another_host_of_the_server("[other.example.com]", HELLO, "[gw]", HELLO, REFUSED)]
#[case::another_gateway(HELLO, HELLO, "[other]", HELLO, REFUSED)]
#[case::the_mesh_alone(HELLO, HELLO, "[mesh]", HELLO, REFUSED)]
fn connections_are_passed_through_by_the_name_in_the_handshake(
    #[case] of_server: &str,
    #[case] of_rules: &str,
    #[case] gateways: &str,
    #[case] names: &str,
    #[case] expected: &str,
) {
    let text = format!(
        "{}{}",
        gateway("gw", &passing("tls", of_server)),
        tls_rules("r", of_rules, gateways, &for_names(names, "v2"))
    );
    assert_eq!(entering(&text, &hello_over_tls()), expected);
}

#[rstest]
#[case::tls("TLS", "{mode: PASSTHROUGH}")]
#[case::https("HTTPS", "{mode: PASSTHROUGH}")]
#[case::by_default("HTTPS", "{httpsRedirect: false}")]
fn the_mode_passes_connections_through_not_the_protocol(#[case] protocol: &str, #[case] tls: &str) {
    let server = passing("tls", HELLO).replace("TLS", protocol).replace("{mode: PASSTHROUGH}", tls);
    let text = format!("{}{}", gateway("gw", &server), tls_rules("r", HELLO, "[gw]", &for_names(HELLO, "v1")));
    assert_eq!(entering(&text, &hello_over_tls()), "v1 100 %");
}

#[test]
fn weights_are_shares_of_connections() {
    let weighed = "{match: [{sniHosts: [hello.example.com]}], route: [\
                   {destination: {host: svc, subset: v1}, weight: 80}, {destination: {host: svc, subset: v2}, weight: 20}]}";
    let text = format!("{}{}", gateway("gw", &passing("tls", HELLO)), tls_rules("r", HELLO, "[gw]", weighed));
    assert_eq!(entering(&text, &hello_over_tls()), "v1 80 %, v2 20 %");
    let mesh = mesh(&format!("{}{text}", servers(&own(CERTIFICATE, KEY), &["v1", "v2"])));
    let table = mesh.outbound(client()).routes(&hello_over_tls()).unwrap().table;
    assert_eq!((table.unit, table.certificate), (RoutingUnit::Connection, None));
    assert!(table.clusters.values().all(|endpoints| matches!(endpoints, Endpoints::Ready(all) if all.len() == 1)));
}

#[rstest]
#[case::of_this_gateway("gateways: [gw], sniHosts", "v2 100 %")]
#[case::of_another("gateways: [other], sniHosts", "v1 100 %")]
#[case::with_its_namespace("gateways: [here/gw], sniHosts", "v2 100 %")]
#[case::port("port: 443, sniHosts", "v2 100 %")]
#[case::another_port("port: 8443, sniHosts", "v1 100 %")]
// gateways do not look at these
#[case::labels("sourceLabels: {app: x}, sniHosts", "v2 100 %")]
#[case::namespace("sourceNamespace: other, sniHosts", "v2 100 %")]
fn a_match_of_a_tls_route_is_for_gateways_and_ports(#[case] matched: &str, #[case] expected: &str) {
    let first = for_names(HELLO, "v2").replace("sniHosts", matched);
    let routes = format!("{first}, {}", for_names(HELLO, "v1"));
    let text = format!("{}{}", gateway("gw", &passing("tls", HELLO)), tls_rules("r", HELLO, "[gw]", &routes));
    assert_eq!(entering(&text, &hello_over_tls()), expected);
}

#[test]
fn the_most_specific_name_decides_and_a_match_with_a_known_name_has_no_effect() {
    let routes = [
        for_names("['*.example.com']", "v1"),
        for_names(HELLO, "v2"),
        for_names("[other.example.com, hello.example.com]", "v1"),
    ];
    let all = "['*.example.com']";
    let text = format!("{}{}", gateway("gw", &passing("tls", all)), tls_rules("r", all, "[gw]", &routes.join(", ")));
    assert_eq!(entering(&text, &hello_over_tls()), "v2 100 %");
    let certificate = "no TLS handshake, the server's certificate is not for the host 100 %";
    assert_eq!(entering(&text, &over_tls("other.example.com", CA)), certificate);
}

#[test]
fn one_port_may_terminate_some_connections_and_pass_others_through() {
    let servers = [https("https", "cert", "[other.example.com]"), passing("tls", HELLO)].join(", ");
    let secret = secret("cert", OTHER_HOST, OTHER_KEY);
    let http = rules("http", "[other.example.com]", "[gw]", &to("v1"));
    let tls = tls_rules("tls", HELLO, "[gw]", &for_names(HELLO, "v2"));
    let text = format!("{secret}{}{http}{tls}", gateway("gw", &servers));
    assert_eq!(entering(&text, &over_tls("other.example.com", CA)), "v1 100 %");
    assert_eq!(entering(&text, &hello_over_tls()), "v2 100 %");
    assert_eq!(entering(&text, &over_tls("a.example.com", CA)), NO_NAME);
}

#[test]
fn one_name_at_one_port_that_is_terminated_and_passed_through_is_not_modelled() {
    let servers = [https("https", "cert", HELLO), passing("tls", "['*.example.com']")].join(", ");
    let secret = secret("cert", CERTIFICATE, KEY);
    let tls = tls_rules("tls", HELLO, "[gw]", &for_names(HELLO, "v2"));
    let text = format!("{secret}{}{tls}", gateway("gw", &servers));
    // Envoy refuses a listener in which two parts have the same name
    let expected = "not modelled: name `hello.example.com`, which another server of the port has";
    assert_eq!(entering(&text, &hello_over_tls()), expected);
}

#[test]
fn callers_without_tls_get_no_connection_unless_every_name_is_passed_through() {
    let plain = Request { port: 443, ..hello("/") };
    let of = |names: &str| {
        let (server, route) = (passing("tls", "['*']"), for_names(names, "v2"));
        let text = format!("{}{}", gateway("gw", &server), tls_rules("r", names, "[gw]", &route));
        entering(&text, &plain)
    };
    assert_eq!(of(HELLO), "no connection, the port of the gateway takes HTTPS alone 100 %");
    assert_eq!(of("['*']"), "v2 100 %");
    let text = gateway("gw", &passing("tls", "['*']"));
    assert_eq!((entering(&text, &plain), entering(&text, &hello_over_tls())), (REFUSED.to_owned(), REFUSED.to_owned()));
}

#[test]
fn a_server_of_http_before_one_of_tls_leaves_it_without_effect() {
    let servers = [server(HELLO).replace("80", "443"), passing("tls", HELLO)].join(", ");
    let tls = tls_rules("tls", HELLO, "[gw]", &for_names(HELLO, "v2"));
    let text = format!("{}{tls}", gateway("gw", &servers));
    let expected = "no TLS handshake, the port of the gateway takes HTTP alone 100 %";
    assert_eq!(entering(&text, &hello_over_tls()), expected);
}

#[test]
fn whether_a_sidecar_takes_the_certificate_of_a_server_is_not_modelled() {
    let policy = "  host: svc\n  trafficPolicy: {tls: {mode: SIMPLE}}\n";
    let of = |with_tls: &[&str]| {
        let text = servers(&own(CERTIFICATE, KEY), with_tls).replace("  host: svc\n", policy);
        let text = text.replace("name: https,", "name: http,");
        shown(&mesh(&text).outbound(client()), &Request::get("svc", 8080, "/"))
    };
    assert_eq!(of(&[]), "503, the pod does not speak TLS, as a DestinationRule asks for 100 %");
    assert_eq!(of(&["v1"]), "not modelled: spec.trafficPolicy.tls.mode");
}

#[test]
fn a_server_of_http_after_one_of_tls_takes_requests_without_a_handshake() {
    let plain = Request { port: 443, ..hello("/") };
    let http = server("['*']").replace("80", "443");
    let of = |before: &str| {
        let gateway = gateway("gw", &format!("{before}, {http}"));
        let passed = for_names(HELLO, "v2");
        let routes = rules("r", HELLO, "[gw]", &to("v1")).replace("http:", &format!("tls: [{passed}], http:"));
        format!("{}{gateway}{routes}", secret("cert", CERTIFICATE, KEY))
    };
    let passing = of(&passing("tls", HELLO));
    assert_eq!(
        (entering(&passing, &plain), entering(&passing, &hello_over_tls())),
        ("v1 100 %".into(), "v2 100 %".into())
    );
    let terminating = of(&https("https", "cert", HELLO));
    assert_eq!(
        (entering(&terminating, &plain), entering(&terminating, &hello_over_tls())),
        ("v1 100 %".into(), "v1 100 %".into())
    );
    let every_name = of(&https("https", "cert", "['*']"));
    assert_eq!(entering(&every_name, &plain), "not modelled: name `*`, which another server of the port has");
}

#[rstest]
#[case::fits(own(CERTIFICATE, KEY), &["v1", "v2"], CA, "v1 50 %, v2 50 %")]
#[case::one_without(
    own(CERTIFICATE, KEY),
    &["v2"],
    CA,
    "no TLS handshake, the server behind the gateway does not speak TLS 50 %, v2 50 %"
)]
#[case::no_secret(
    String::new(),
    &["v1", "v2"],
    CA,
    "no TLS handshake, the server behind the gateway does not speak TLS 100 %"
)]
#[case::other_authority(
    own(CERTIFICATE, KEY),
    &["v1", "v2"],
    OTHER_CA,
    "no TLS handshake, the server's certificate is not signed by an authority in the `ca` of the population 100 %"
)]
#[case::other_host(
    own(OTHER_HOST, OTHER_KEY),
    &["v1", "v2"],
    CA,
    "no TLS handshake, the server's certificate is not for the host 100 %"
)]
fn the_servers_behind_the_gateway_answer_the_handshake(
    #[case] certificates: String,
    #[case] with_tls: &[&str],
    #[case] ca: &str,
    #[case] expected: &str,
) {
    let route = for_names(HELLO, "v1").replace("subset: v1, ", "");
    let text = format!("{}{}", gateway("gw", &passing("tls", HELLO)), tls_rules("r", HELLO, "[gw]", &route));
    let mesh = mesh(&format!("{}{text}", servers(&certificates, with_tls)));
    assert_eq!(shown(&mesh.outbound(client()), &over_tls("hello.example.com", ca)), expected);
}

#[rstest]
#[case::with_a_sidecar("true", "no TLS handshake, the server behind the gateway does not speak TLS 100 %")]
#[case::without("false", "v2 100 %")]
fn the_sidecar_of_a_server_reads_http_where_the_port_is_declared_so(#[case] sidecar: &str, #[case] expected: &str) {
    let text =
        format!("{}{}", gateway("gw", &passing("tls", HELLO)), tls_rules("r", HELLO, "[gw]", &for_names(HELLO, "v2")));
    let servers = servers(&own(CERTIFICATE, KEY), &["v1", "v2"]).replace("name: https,", "name: http,");
    let labels = format!("labels: {{sidecar.istio.io/inject: '{sidecar}', app: a,");
    let mesh = mesh(&format!("{}{text}", servers.replace("labels: {app: a,", &labels)));
    assert_eq!(shown(&mesh.outbound(client()), &hello_over_tls()), expected);
}
