//! Populations that come through a gateway over TLS.

use std::path::Path;

use rstest::rstest;

use crate::scenario::{Scenario, ScenarioError};

const FILES: [&str; 5] = ["scenario.yaml", "gateway.yaml", "ca.pem", "secret.yaml", "secret-renewed.yaml"];

/// The scenario with TLS in a folder of its own, with changes of its files, or the first line of its error.
fn ingress_tls(changes: &[(&str, &str, &str)]) -> Result<Scenario, String> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let mut text = std::fs::read_to_string(fixtures.join("ingress-tls").join(file)).unwrap();
        for (of, from, to) in changes.iter().filter(|(of, ..)| *of == file) {
            assert!(text.contains(from), "{of} does not hold `{from}`");
            text = text.replacen(from, to, 1);
        }
        let shared = format!("{}/", fixtures.display());
        std::fs::write(folder.path().join(file), text.replace("../", &shared)).unwrap();
    }
    Scenario::read(folder.path()).map_err(|error: ScenarioError| {
        let folder = format!("{}/", folder.path().display());
        error.to_string().lines().next().unwrap_or_default().replace(&folder, "")
    })
}

#[test]
fn a_population_speaks_tls_to_a_gateway() {
    let scenario = ingress_tls(&[]).unwrap();
    let through = |name: &str| scenario.population(name).unwrap().through.clone().unwrap();
    let visitors = through("visitors");
    let tls = visitors.tls.as_ref().unwrap();
    assert_eq!((visitors.port, tls.server_name.as_str()), (443, "hello.example.com"));
    assert!(tls.ca.starts_with("-----BEGIN CERTIFICATE-----") && tls.ca_file.ends_with("ca.pem"));
    assert_eq!((through("without-tls").port, through("without-tls").tls), (80, None));
    assert_eq!(through("unknown-host").tls.unwrap().server_name, "other.test.example.com");
    // a gateway for each port and name
    assert_eq!(scenario.ingress_gateways().len(), 3);
    assert!(scenario.files().any(|file| file.ends_with("ca.pem")));
    let upper = ingress_tls(&[("scenario.yaml", "host: hello.example.com, tls", "host: 'Hello.example.com:443', tls")]);
    let visitors = upper.unwrap().population("visitors").unwrap().through.clone().unwrap();
    assert_eq!(visitors.tls.unwrap().server_name, "hello.example.com");
}

#[rstest]
#[case::no_file(
    "tls: {ca: ca.pem}}",
    "tls: {ca: ca.pm}}",
    "scenario.yaml:11:73: there is no file ca.pm; did you mean `ca.pem`?"
)]
#[case::no_certificate(
    "tls: {ca: ca.pem}}",
    "tls: {ca: gateway.yaml}}",
    "scenario.yaml:11:73: gateway.yaml has no certificate in PEM: no line `-----BEGIN CERTIFICATE-----`"
)]
#[case::no_ca("tls: {ca: ca.pem}}", "tls: {}}", "scenario.yaml:11:68: missing field `ca`")]
#[case::no_gateway(
    "inside: {}",
    "inside: {tls: {ca: ca.pem}}",
    "scenario.yaml:10:17: `tls` is for callers outside of the mesh, and needs `through`"
)]
#[case::toward_http(
    "host: hello.example.com, tls",
    "host: hello.example.com, port: 80, tls",
    "scenario.yaml:11:69: the port 80 of gateway/hello is HTTP, and this population sends HTTPS: leave out its `tls`"
)]
#[case::http_toward_https(
    "host: hello.example.com, tls: {ca: ca.pem}}",
    "host: hello.example.com, port: 443}",
    "scenario.yaml:11:69: the port 443 of gateway/hello is HTTPS, and this population sends HTTP: give it `tls: {ca: …}`, the file of a certificate authority"
)]
#[case::unknown_host(
    "host: hello.example.com, tls",
    "host: helo.example.com, tls",
    "scenario.yaml:11:44: no server of gateway/hello at port 443 has the host `helo.example.com`; hosts of its servers: hello.example.com, *.test.example.com; did you mean `hello.example.com`?"
)]
#[case::host_of_https_alone(
    "host: hello.example.com}",
    "host: other.test.example.com}",
    "scenario.yaml:14:47: no server of gateway/hello at port 80 has the host `other.test.example.com`; hosts of its servers: hello.example.com; did you mean `hello.example.com`?"
)]
#[case::address(
    "host: hello.example.com, tls",
    "host: 10.0.0.1, tls",
    "scenario.yaml:11:44: `10.0.0.1` is an address, which callers do not name in a TLS handshake"
)]
fn tls_that_cannot_be_used_is_told_with_its_place(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    assert_eq!(ingress_tls(&[("scenario.yaml", from, to)]).unwrap_err(), expected);
}

#[rstest]
#[case::not_pem("MII", "M!!", "scenario.yaml:12:72: ca.pem is not PEM: ")]
#[case::not_a_certificate("MII", "AII", "scenario.yaml:12:72: ca.pem has a certificate that cannot be read: ")]
fn authorities_that_cannot_be_read_are_told(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    let error = ingress_tls(&[("ca.pem", from, to)]).unwrap_err();
    assert!(error.starts_with(expected), "{error}");
}

#[rstest]
#[case::mutual("mode: SIMPLE", "mode: MUTUAL")]
#[case::of_meshes("mode: SIMPLE, credentialName: hello-certificate", "mode: AUTO_PASSTHROUGH")]
fn a_port_of_another_kind_of_tls_is_refused(#[case] from: &str, #[case] to: &str) {
    let error = ingress_tls(&[("gateway.yaml", from, to)]).unwrap_err();
    let expected = "the port 443 of gateway/hello is not HTTPS that the gateway terminates, `tls: {mode: SIMPLE, credentialName: …}`, or passes through, `tls: {mode: PASSTHROUGH}`";
    assert!(error.starts_with("scenario.yaml:12:67: ") && error.ends_with(expected), "{error}");
}
