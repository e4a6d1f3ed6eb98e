use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;

use super::tests::{HELLO, gateway, hello, rules, server, shown, to};
use crate::admission::Definitions;
use crate::routing::fixture::{RULES, SERVICE, client, live, mesh};
use crate::routing::{Request, RouteDiff, TlsHandshake, check};

pub(super) const CA: &str = include_str!("ca.pem");
pub(super) const OTHER_CA: &str = include_str!("other-ca.pem");
pub(super) const CERTIFICATE: &str = include_str!("hello.pem");
pub(super) const KEY: &str = include_str!("hello.key");
pub(super) const OTHER_HOST: &str = include_str!("other-host.pem");
pub(super) const OTHER_KEY: &str = include_str!("other-host.key");
const EXPIRED: &str = include_str!("expired.pem");
const EXPIRED_KEY: &str = include_str!("expired.key");

/// A server of HTTPS.
pub(super) fn https(name: &str, secret: &str, hosts: &str) -> String {
    format!(
        "{{port: {{number: 443, name: {name}, protocol: HTTPS}}, tls: {{mode: SIMPLE, credentialName: {secret}}}, hosts: {hosts}}}"
    )
}

/// A Secret with a certificate and a key.
pub(super) fn secret(name: &str, certificate: &str, key: &str) -> String {
    let (certificate, key) = (STANDARD.encode(certificate), STANDARD.encode(key));
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\ntype: kubernetes.io/tls\n\
         data: {{tls.crt: {certificate}, tls.key: {key}}}\n---\n"
    )
}

/// A request over TLS from a client that trusts an authority.
pub(super) fn over_tls(host: &str, ca: &str) -> Request {
    let tls = TlsHandshake { server_name: host.to_owned(), ca: Some(ca.into()) };
    Request { tls: Some(tls), ..Request::entering(host, 443, "/") }
}

fn entering(text: &str, request: &Request) -> String {
    shown(&mesh(&format!("{SERVICE}{RULES}{text}")).outbound(client()), request)
}

/// A gateway with a server of HTTPS, rules for it and this Secret.
fn terminating(secret: &str) -> String {
    format!("{secret}{}{}", gateway("gw", &https("https", "cert", HELLO)), rules("r", HELLO, "[gw]", &to("v1")))
}

#[rstest]
#[case::fits(secret("cert", CERTIFICATE, KEY), CA, "v1 100 %")]
#[case::both_authorities(secret("cert", CERTIFICATE, KEY), &format!("{OTHER_CA}{CA}"), "v1 100 %")]
#[case::other_authority(
    secret("cert", CERTIFICATE, KEY),
    OTHER_CA,
    "no TLS handshake, the server's certificate is not signed by an authority in the `ca` of the population 100 %"
)]
#[case::other_host(
    secret("cert", OTHER_HOST, OTHER_KEY),
    CA,
    "no TLS handshake, the server's certificate is not for the host 100 %"
)]
#[case::expired(
    secret("cert", EXPIRED, EXPIRED_KEY),
    CA,
    "no TLS handshake, the server's certificate has expired 100 %"
)]
#[case::other_key(
    secret("cert", CERTIFICATE, OTHER_KEY),
    CA,
    "no TLS handshake, the private key in the Secret of the gateway is not that of the certificate 100 %"
)]
#[case::not_there(
    secret("certt", CERTIFICATE, KEY),
    CA,
    "no TLS handshake, the namespace of the gateway's pods has no Secret with the name in `credentialName` 100 %"
)]
#[case::of_another_namespace(
    secret("cert", CERTIFICATE, KEY).replace("istio-system", "here"), CA,
    "no TLS handshake, the namespace of the gateway's pods has no Secret with the name in `credentialName` 100 %"
)]
#[case::other_keys(
    secret("cert", CERTIFICATE, KEY).replace("tls.key", "tls.pem"), CA,
    "no TLS handshake, the Secret of the gateway has neither `tls.crt` and `tls.key` nor `cert` and `key` 100 %"
)]
#[case::generic(secret("cert", CERTIFICATE, KEY).replace("tls.crt", "cert").replace("tls.key", "key"), CA, "v1 100 %")]
#[case::no_certificate(
    secret("cert", "hello", KEY),
    CA,
    "no TLS handshake, the Secret of the gateway has no certificate in PEM that can be read 100 %"
)]
#[case::no_key(
    secret("cert", CERTIFICATE, "hello"),
    CA,
    "no TLS handshake, the Secret of the gateway has no private key in PEM that can be read 100 %"
)]
fn a_handshake_needs_a_certificate_that_fits(#[case] secret: String, #[case] ca: &str, #[case] expected: &str) {
    assert_eq!(entering(&terminating(&secret), &over_tls("hello.example.com", ca)), expected);
}

#[test]
fn a_secret_may_be_written_as_text() {
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert, namespace: istio-system}}\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n---\n",
        CERTIFICATE.trim_end().replace('\n', "\n    "),
        KEY.trim_end().replace('\n', "\n    ")
    );
    assert_eq!(entering(&terminating(&text), &over_tls("hello.example.com", CA)), "v1 100 %");
}

#[test]
fn a_port_takes_either_http_or_https() {
    let text = terminating(&secret("cert", CERTIFICATE, KEY));
    let plain = Request::entering("hello.example.com", 443, "/");
    assert_eq!(entering(&text, &plain), "no connection, the port of the gateway takes HTTPS alone 100 %");
    let text = format!("{}{}", gateway("gw", &server(HELLO)), rules("r", HELLO, "[gw]", &to("v1")));
    let encrypted = Request { port: 80, ..over_tls("hello.example.com", CA) };
    assert_eq!(entering(&text, &encrypted), "no TLS handshake, the port of the gateway takes HTTP alone 100 %");
    assert_eq!(entering(&text, &over_tls("hello.example.com", CA)), "no connection, refused 100 %");
    assert_eq!(entering(&text, &hello("/")), "v1 100 %");
}

#[test]
fn a_server_is_chosen_by_the_name_in_the_handshake() {
    let both = "[hello.example.com, a.test.example.com]";
    let servers = [https("one", "cert", HELLO), https("two", "other", "['*.test.example.com']")].join(", ");
    let secrets = format!("{}{}", secret("cert", CERTIFICATE, KEY), secret("other", CERTIFICATE, KEY));
    let text = format!("{secrets}{}{}", gateway("gw", &servers), rules("r", both, "[gw]", &to("v2")));
    assert_eq!(entering(&text, &over_tls("hello.example.com", CA)), "v2 100 %");
    assert_eq!(entering(&text, &over_tls("a.test.example.com", CA)), "v2 100 %");
    assert_eq!(entering(&text, &over_tls("b.test.example.com", CA)), "404, no route 100 %");
    let unknown = "no TLS handshake, no server of the gateway at this port has the name 100 %";
    assert_eq!(entering(&text, &over_tls("other.example.com", CA)), unknown);
    // the rules of a server apply to its hosts alone
    let servers = [https("one", "cert", HELLO), https("two", "other", "['*']")].join(", ");
    let text = format!("{secrets}{}{}", gateway("gw", &servers), rules("r", HELLO, "[gw]", &to("v2")));
    assert_eq!(entering(&text, &over_tls("hello.example.com", CA)), "v2 100 %");
    assert_eq!(entering(&text, &over_tls("a.test.example.com", CA)), "404, no route 100 %");
}

#[test]
fn a_host_has_one_server_with_tls() {
    let both = "[other.example.com, hello.example.com]";
    let gateways = [
        gateway("a", &https("https", "cert", HELLO)),
        // it has a host of the first one, and is left out as a whole
        gateway("b", &https("https", "gone", both)),
    ];
    let secret = secret("cert", CERTIFICATE, KEY);
    let text = format!("{secret}{}{}", gateways.concat(), rules("r", both, "[a, b]", &to("v1")));
    assert_eq!(entering(&text, &over_tls("hello.example.com", CA)), "v1 100 %");
    let unknown = "no TLS handshake, no server of the gateway at this port has the name 100 %";
    assert_eq!(entering(&text, &over_tls("other.example.com", CA)), unknown);
}

#[rstest]
#[case::scheme("match: [{scheme: {exact: https}}]", "v2 100 %")]
#[case::plain_scheme("match: [{scheme: {exact: http}}]", "v1 100 %")]
#[case::header("match: [{headers: {x-forwarded-proto: {exact: https}}}]", "v2 100 %")]
#[case::port("match: [{port: 443}]", "v2 100 %")]
#[case::other_port("match: [{port: 80}]", "v1 100 %")]
fn rules_see_the_scheme_of_a_request_over_tls(#[case] matched: &str, #[case] expected: &str) {
    let http = format!("{{{matched}, {}, {}", &to("v2")[1..], to("v1"));
    let secret = secret("cert", CERTIFICATE, KEY);
    let text = format!("{secret}{}{}", gateway("gw", &https("https", "cert", HELLO)), rules("r", HELLO, "[gw]", &http));
    assert_eq!(entering(&text, &over_tls("hello.example.com", CA)), expected);
}

#[rstest]
#[case::mesh_gateways("{mode: AUTO_PASSTHROUGH}", "not modelled: spec.servers[0].tls.mode")]
#[case::mutual("{mode: MUTUAL, credentialName: cert}", "not modelled: spec.servers[0].tls.mode")]
#[case::files(
    "{mode: SIMPLE, serverCertificate: /a, privateKey: /b}",
    "not modelled: spec.servers[0].tls.serverCertificate"
)]
#[case::version(
    "{mode: SIMPLE, credentialName: cert, minProtocolVersion: TLSV1_3}",
    "not modelled: spec.servers[0].tls.minProtocolVersion"
)]
fn what_is_not_modelled_of_tls_is_named(#[case] tls: &str, #[case] expected: &str) {
    let server = https("https", "cert", HELLO).replace("{mode: SIMPLE, credentialName: cert}", tls);
    let text = format!("{}{}", gateway("gw", &server), rules("r", HELLO, "[gw]", &to("v1")));
    assert_eq!(entering(&text, &over_tls("hello.example.com", CA)), expected);
}

#[test]
fn a_secret_that_another_object_may_make_is_not_known() {
    let made = "apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: c, namespace: istio-system}\n---\n";
    let expected = "not modelled: Secret cert, which another object may make";
    assert_eq!(entering(&terminating(made), &over_tls("hello.example.com", CA)), expected);
}

#[test]
fn the_certificate_is_a_part_of_the_table() {
    let table = |secret: &str| {
        let mesh = mesh(&format!("{SERVICE}{RULES}{}", terminating(secret)));
        let request = over_tls("hello.example.com", CA).trusting();
        mesh.outbound(client()).routes(&request).unwrap().table
    };
    let one = table(&secret("cert", CERTIFICATE, KEY));
    let last = one.lines().pop().unwrap();
    assert!(last.starts_with("certificate of Secret cert: SHA-256 "), "{last}");
    // a renewed certificate is waited for
    let other = table(&secret("cert", OTHER_HOST, OTHER_KEY));
    let differences = RouteDiff::lines(&one.difference(&other));
    assert_eq!(differences, [format!("- {}", other.lines().pop().unwrap()), format!("+ {last}")]);
    assert_eq!(one.difference(&one), []);
}

#[rstest]
#[case::fits(secret("cert", CERTIFICATE, KEY), "")]
#[case::typo(
    secret("certt", CERTIFICATE, KEY),
    "no Secret is called `cert` in istio-system, the namespace of the gateway's pods, so these connections are closed; did you mean `certt`?"
)]
#[case::of_another_namespace(
    secret("cert", CERTIFICATE, KEY).replace("istio-system", "here"),
    "no Secret is called `cert` in istio-system, the namespace of the gateway's pods, so these connections are closed; there is one in here"
)]
#[case::other_key(
    secret("cert", CERTIFICATE, OTHER_KEY),
    "the private key in the Secret of the gateway is not that of the certificate, so these connections are closed: Secret `cert` in istio-system"
)]
#[case::other_host(
    secret("cert", OTHER_HOST, OTHER_KEY),
    "the certificate in Secret `cert` is not for hello.example.com, so clients refuse it"
)]
fn a_secret_that_does_not_fit_is_told_with_its_place(#[case] secret: String, #[case] expected: &str) {
    let live = live(&format!("{SERVICE}{RULES}{}", terminating(&secret)));
    let problems = check(&live, Definitions::of(None)).into_iter();
    let own: Vec<String> = problems
        .filter(|own| own.message.contains("ertificate") || own.message.contains("Secret"))
        .map(|own| own.message)
        .collect();
    assert_eq!(own.join("\n"), expected);
}
