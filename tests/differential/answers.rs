//! Sends the requests of a variant and compares the answers with what the model gives.

use std::collections::{BTreeMap, BTreeSet};

use shiftcheck::demo::{DemoImage, demo_versions};
use shiftcheck::routing::{Chance, Distribution, Live, Mesh, Naming, Outbound, Outcome, Request, client_of, pods_of};
use shiftcheck::scenario::StatusCode;
use shiftcheck::traffic::{Driver, Next};
use shiftcheck::verdict::Answer;
use shiftcheck::workload::{DrivePlan, DriveTls, Flow, VersionSource};

use super::table::{PORT, Table, Variant};

pub const CLIENT: &str = "client";
/// The requests of a kind where only one outcome is possible, and where several are.
const FEW: u64 = 24;
const MANY: u64 = 400;
/// The chance with which a right share is refused.
const FALSE_ALARM: f64 = 1e-9;

pub fn naming() -> Naming {
    Naming { versions: BTreeSet::new(), images: demo_versions() }
}

/// What is sent to a host, by a protocol.
pub fn plan(protocol: &str, host: &str, keep_alive: bool, flows: Vec<Flow>) -> DrivePlan {
    DrivePlan {
        id: 0,
        base: format!("{protocol}://{host}:{PORT}"),
        connect: None,
        tls: None,
        connections: 8,
        streams: 1,
        in_flight: None,
        busy_qps: None,
        qps: None,
        keep_alive,
        timeout_ms: 10_000,
        limit_ms: 60_000,
        version: match protocol {
            "grpc" => VersionSource::Header("x-version".to_owned()),
            _ => VersionSource::Body(r"Hello server - (?<version>[^ ]+( \(uri=[^)]*\))?)".to_owned()),
        },
        pod_header: None,
        flows,
    }
}

/// The requests of a variant by the host that they go to.
pub fn by_host(variant: &Variant, table: &Table, namespace: &str) -> BTreeMap<String, Vec<(String, Request)>> {
    let mut by_host: BTreeMap<String, Vec<(String, Request)>> = BTreeMap::new();
    for (kind, request) in variant.requests(table, namespace) {
        by_host.entry(request.host.clone()).or_default().push((kind, request));
    }
    by_host
}

/// How requests come into the mesh: from a pod without a sidecar to the address of a gateway.
pub struct Entrance {
    pub pod: &'static str,
    pub address: String,
    pub tls: Option<DriveTls>,
}

/// Sends what is asked for to a host from the client and compares the answers with what the model gives.
pub async fn send(
    driver: &mut Driver,
    live: &Live,
    variant: &Variant,
    host: &str,
    requests: &[(String, Request)],
) -> Vec<String> {
    send_by(driver, live, variant, host, requests, None).await
}

/// What becomes of a request, and the path that its server gets.
fn decide(outbound: &Outbound<'_>, request: &Request) -> (Distribution, String) {
    match outbound.routes(request) {
        Ok(routes) => {
            let decision = routes.decide(request);
            (decision.distribution.clone(), decision.path)
        }
        Err(reason) => (Distribution::certain(Outcome::NoConnection(reason)), request.path.clone()),
    }
}

/// As [`send`], through a gateway if there is an entrance.
pub async fn send_by(
    driver: &mut Driver,
    live: &Live,
    variant: &Variant,
    host: &str,
    requests: &[(String, Request)],
    entrance: Option<&Entrance>,
) -> Vec<String> {
    let mesh = Mesh::new(live, pods_of(live, &naming()));
    let outbound = mesh.outbound(client_of(live, CLIENT).unwrap());
    let decisions: Vec<(Distribution, String)> =
        requests.iter().map(|(_, request)| decide(&outbound, request)).collect();
    let flow = |((_, request), (distribution, _)): (&(String, Request), &(Distribution, String))| Flow {
        method: None,
        path: request.path.clone(),
        requests: if distribution.iter().count() > 1 { MANY } else { FEW },
        min_results: MANY,
        message: Vec::new(),
        field: None,
        cookie: None,
        queries: Vec::new(),
        variants: vec![request.headers.clone()],
    };
    let protocol = &variant.protocol;
    let mut plan = plan(protocol, host, !variant.connections, requests.iter().zip(&decisions).map(flow).collect());
    if let Some(Entrance { address, tls, .. }) = entrance {
        plan.base = format!("{protocol}://{host}");
        plan.connect = Some(address.clone());
        plan.tls = tls.clone().map(Box::new);
        // handshakes are compared
        plan.keep_alive = false;
    }
    let sender = entrance.map_or(CLIENT, |entrance| entrance.pod);
    let mut counts: Vec<BTreeMap<String, u64>> = vec![BTreeMap::new(); requests.len()];
    let mut failures: Vec<BTreeSet<String>> = vec![BTreeSet::new(); requests.len()];
    let observed = driver.drive(sender, sender, plan, |answered| {
        if let Answer::Nothing { reason } = answered.answer {
            failures[answered.flow].insert(reason.clone());
        }
        *counts[answered.flow].entry(seen(answered.answer)).or_default() += 1;
        Next::Continue
    });
    if let Err(error) = observed.await {
        return vec![error.to_string()];
    }
    let mut differences = Vec::new();
    let each = requests.iter().zip(&decisions).zip(&counts).zip(&failures);
    for ((((kind, _), (distribution, path)), counts), failures) in each {
        let mut expected: BTreeMap<String, Chance> = BTreeMap::new();
        for (outcome, chance) in distribution.iter() {
            let text = if protocol == "grpc" { of_call(outcome, path) } else { foreseen(outcome, path) };
            let own = expected.entry(text).or_insert(Chance::NONE);
            *own = own.or(chance);
        }
        if !agrees(&expected, counts) {
            let expected: Vec<_> = expected.iter().map(|(text, chance)| format!("{text} {chance}")).collect();
            let expected = expected.join(", ");
            differences
                .push(format!("{kind}: the model gives {expected}, the mesh {counts:?} (failures: {failures:?})"));
        }
    }
    differences
}

/// Whether counts are what a distribution gives: nothing that it excludes, and no count that is too far off.
fn agrees(expected: &BTreeMap<String, Chance>, counts: &BTreeMap<String, u64>) -> bool {
    let all: u64 = counts.values().sum();
    let close = |(text, chance): (&String, &Chance)| {
        let number = |count: u64| f64::from(u32::try_from(count).unwrap());
        let (n, p) = (number(all), chance.fraction());
        let count = number(counts.get(text).copied().unwrap_or(0));
        // Hoeffding's bound on either side
        (count - n * p).abs() <= (n * (2.0 / FALSE_ALARM).ln() / 2.0).sqrt()
    };
    all > 0
        && counts.keys().all(|text| expected.contains_key(text))
        && expected.iter().all(|(text, chance)| {
            if *chance == Chance::CERTAIN { counts.get(text) == Some(&all) } else { close((text, chance)) }
        })
}

/// An answer in words that tell the outcomes apart.
fn seen(answer: &Answer) -> String {
    match answer {
        Answer::Version { version, status } => format!("{} {version}", StatusCode(*status)),
        Answer::Unknown { status, excerpt } => {
            let status = StatusCode(*status);
            format!("{status} `{}`", excerpt.split(['.', '(']).next().unwrap_or_default().trim())
        }
        Answer::Nothing { .. } => "nothing".to_owned(),
    }
}

/// The beginning of the body of Envoy's response; empty if Envoy sends none.
fn mesh_body(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Responded { body, .. } => body,
        Outcome::Aborted(_) => "fault filter abort",
        Outcome::NoEndpoint => "no healthy upstream",
        Outcome::NotListening | Outcome::NotHttp2 | Outcome::NotTls => {
            "upstream connect error or disconnect/reset before headers"
        }
        _ => "",
    }
}

/// What a client sees of an outcome, in the same words.
fn foreseen(outcome: &Outcome, path: &str) -> String {
    match outcome {
        Outcome::Served { version, .. } => {
            let bare = path.split('?').next().unwrap_or_default();
            let status = if bare == "/error" { 503 } else { 200 };
            let uri = if bare == "/" { String::new() } else { format!(" (uri={bare})") };
            format!("{status} {version}{uri}")
        }
        Outcome::NoConnection(_) => "nothing".to_owned(),
        other => format!("{} `{}`", other.mesh_status().unwrap_or(0), mesh_body(other)),
    }
}

/// What a client of gRPC sees of an outcome, in the same words.
fn of_call(outcome: &Outcome, method: &str) -> String {
    match outcome {
        Outcome::Served { http2: false, .. } => "UNKNOWN `gRPC requires HTTP/2`".to_owned(),
        Outcome::Served { version, .. } => format!("{} {version}", StatusCode(DemoImage::grpc_status(method))),
        Outcome::NoConnection(_) => "nothing".to_owned(),
        other => format!("{} `{}`", StatusCode(other.grpc_status().unwrap_or(2)), mesh_body(other)),
    }
}
