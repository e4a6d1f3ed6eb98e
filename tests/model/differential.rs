//! The model and the embedded mesh give the same answers: a table of variants of the manifests, decided by the model and served by the
//! embedded mesh.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use shiftcheck::cluster::EmbeddedMesh;
use shiftcheck::routing::{Mesh, client_of, pods_of};
use shiftcheck::scenario::{Service, parse_manifests};
use shiftcheck::traffic::{Driver, DriverOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::variants::{CLIENT, HOST, PORT, Table, by_host, naming, send, shown};

#[test]
fn the_model_gives_what_is_written_beside_every_variant() {
    let mut wrong = Vec::new();
    let (table, of_gateways) = (Table::read(), Table::of_gateways());
    let of_kubernetes = Table::of_kubernetes_gateways();
    let tables = [&table, &of_gateways, &of_kubernetes];
    let variants = tables.into_iter().flat_map(|table| table.variants.iter().map(move |own| (table, own)));
    for (table, variant) in variants {
        let live = variant.live("diff", "diff-other");
        let mesh = Mesh::new(&live, pods_of(&live, &naming()));
        let outbound = mesh.outbound(client_of(&live, "client").unwrap());
        for (name, request) in variant.requests(table, "diff") {
            let wanted = variant.gets.get(&name).unwrap_or(&variant.gets["else"]);
            let undecided = outbound.not_modelled(&request, outbound.routes(&request).ok().as_ref());
            assert_eq!(undecided, [], "{}, {name}", variant.name);
            let given = shown(&outbound, &request);
            if given != *wanted {
                wrong.push(format!("{}, {name}: {given}, not {wanted}", variant.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(table.variants.len() >= 60, "only {} variants", table.variants.len());
    assert!(of_gateways.variants.len() >= 30, "only {} variants", of_gateways.variants.len());
}

#[test]
fn names_in_gets_are_requests() {
    let (table, of_gateways) = (Table::read(), Table::of_gateways());
    let of_kubernetes = Table::of_kubernetes_gateways();
    let tables = [&table, &of_gateways, &of_kubernetes];
    let variants = tables.into_iter().flat_map(|table| table.variants.iter().map(move |own| (table, own)));
    for (table, variant) in variants {
        let requests: BTreeSet<String> = variant.requests(table, "diff").into_iter().map(|(name, _)| name).collect();
        assert!(requests.len() >= 6, "{}", variant.name);
        for name in variant.gets.keys().filter(|name| *name != "else") {
            assert!(requests.contains(name), "{}: {name}", variant.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_mesh_gives_what_the_model_gives() {
    let table = Table::read();
    let mut differences = Vec::new();
    for variant in &table.variants {
        let service = Service::http(HOST, PORT);
        let mut embedded = EmbeddedMesh::start("diff", CLIENT, &service).unwrap();
        let mut driver = Driver::local(embedded.address(), DriverOptions::default());
        for manifest in &variant.manifests("diff", "diff-other") {
            embedded.apply(manifest).unwrap_or_else(|error| panic!("{}: {error}", variant.name));
        }
        let live = variant.live("diff", "diff-other");
        for (host, requests) in by_host(variant, &table, "diff") {
            let own = send(&mut driver, &live, variant, &host, &requests).await;
            differences.extend(own.into_iter().map(|difference| format!("{}: {difference}", variant.name)));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_mesh_delays_requests_as_a_rule_asks() {
    let service = Service::http(HOST, PORT);
    let mut embedded = EmbeddedMesh::start("diff", CLIENT, &service).unwrap();
    let rule = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: vs-hello}\n\
                spec: {hosts: [svc-hello], http: [{fault: {delay: {fixedDelay: 300ms, percentage: {value: 100}}}, \
                route: [{destination: {host: svc-hello}}]}]}\n";
    let rule = parse_manifests("a.yaml".as_ref(), rule).unwrap();
    for manifest in Table::read().variants[0].manifests("diff", "diff-other").iter().chain(&rule) {
        embedded.apply(manifest).unwrap();
    }
    let began = Instant::now();
    let mut stream = TcpStream::connect(embedded.address()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: svc-hello:8080\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
}
