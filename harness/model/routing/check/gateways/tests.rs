use rstest::rstest;

use crate::admission::{Definitions, Severity};
use crate::routing::check;
use crate::routing::fixture::{SERVICE, live};

/// The warnings about manifests.
fn warnings(text: &str) -> Vec<String> {
    let problems = check(&live(&format!("{SERVICE}{text}")), Definitions::of(None)).into_iter();
    problems.filter(|problem| problem.severity == Severity::Warning).map(|problem| problem.message).collect()
}

/// Gateways in the order of their names, each with its servers.
fn gateways(all: &[&str]) -> String {
    let gateway = |(index, servers): (usize, &&str)| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw-{index}}}\n\
             spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}\n---\n"
        )
    };
    all.iter().enumerate().map(gateway).collect()
}

#[test]
fn gateways_of_rules_are_checked() {
    let of = |gateways: &str, hosts: &str| {
        let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\n\
                       spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.com']}]}\n---\n";
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: r}}\n\
             spec: {{hosts: [{hosts}], gateways: [{gateways}], http: [{{route: [{{destination: {{host: svc}}}}]}}]}}\n"
        );
        let problems = check(&live(&format!("{SERVICE}{gateway}{rule}")), Definitions::of(None)).into_iter();
        let warnings = problems.filter(|problem| problem.severity == Severity::Warning);
        warnings.map(|problem| problem.message).collect::<Vec<_>>()
    };
    assert_eq!(of("gw, elsewhere/gw", "hello.com"), [""; 0]);
    let unknown = "no Gateway is called `here/gv`, so the rule has no effect there; did you mean `here/gw`?";
    assert_eq!(of("gv", "hello.com"), [unknown]);
    let hosts = "the gateways of this rule have none of its hosts, so the rule has no effect there; they have *.com";
    assert_eq!(of("gw", "hello.org"), [hosts]);
}

const HTTP: &str = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.com']}";
const REDIRECT: &str =
    "{port: {number: 80, name: redirect, protocol: HTTP}, hosts: [a.com], tls: {httpsRedirect: true}}";

#[rstest]
#[case::one(&[HTTP], &[])]
#[case::http_shares_its_hosts(&[HTTP, HTTP], &[])]
#[case::redirects_of_one_host(
    &[REDIRECT, REDIRECT],
    &["this server has no effect, because Gateway gw-0 (a.yaml:19:53) has one for `a.com` at port 80"]
)]
#[case::https_at_a_port_of_http(
    &[HTTP, "{port: {number: 80, name: https, protocol: HTTPS}, hosts: [a.com], tls: {mode: SIMPLE, credentialName: ''}}"],
    &["this server of HTTPS has no effect, because a server before it at port 80, of Gateway gw-0 (a.yaml:19:53), takes HTTP"]
)]
#[case::http_at_a_port_of_https(
    &["{port: {number: 80, name: https, protocol: HTTPS}, hosts: [a.com], tls: {mode: SIMPLE, credentialName: ''}}", HTTP],
    &[]
)]
fn servers_without_effect_are_told(#[case] all: &[&str], #[case] expected: &[&str]) {
    assert_eq!(warnings(&gateways(all)), expected);
}

#[rstest]
#[case::of_istio("istio: ingressgateway", "")]
#[case::of_both("istio: ingressgateway, app: istio-ingressgateway", "")]
#[case::another_gateway("istio: ingress", "")]
#[case::value(
    "istio: ingresgateway",
    "the pods of Istio's ingress gateway do not have the label istio=ingresgateway; did you mean `ingressgateway`?"
)]
#[case::key(
    "isto: ingressgateway",
    "the pods of Istio's ingress gateway do not have the label isto=ingressgateway; did you mean `istio`?"
)]
fn selectors_that_are_nearly_right_are_told(#[case] selector: &str, #[case] expected: &str) {
    let text = gateways(&[HTTP]).replace("istio: ingressgateway", selector);
    assert_eq!(warnings(&text).join(""), expected);
}
