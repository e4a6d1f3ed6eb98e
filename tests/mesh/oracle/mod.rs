//! The model agrees with istiod: for every variant, every example scenario and random manifests, the routes that the model computes are those
//! that istiod would push to the client's sidecar, in both versions of Istio.

mod definitions;
mod generate;
mod istiod;
mod localities;
mod random;
mod refusals;

use std::collections::BTreeSet;

use serde_json::Value;
use shiftcheck::routing::{
    Client, GatewayPods, Kind, Live, Mesh, Naming, Request, RouteDiff, RouteTable, Scope, TlsHandshake, addressed,
    client_in, client_of, pods_of,
};
use shiftcheck::scenario::{ControllerKind, GatewayApi, IngressGateway, Scenario};

use crate::common::{ROOT, scratch};
use crate::harness::tests;
use crate::variants::{CLIENT, Table};

use definitions::definitions_are_those_of_the_modules;
pub use istiod::program;
use istiod::{Case, Istiod, Pushed};
use localities::nearest_endpoints_are_preferred_as_istiod_says;
use random::random_manifests_are_routed_as_istiod_says;
use refusals::spoilt_objects_are_refused_as_the_api_refuses_them;

tests![
    a_folder_of_manifests_is_a_case(),
    variants_are_routed_as_istiod_says(),
    variants_of_gateways_are_routed_as_istiod_says(),
    variants_of_kubernetes_gateways_are_routed_as_istiod_says(),
    fixtures_are_routed_as_istiod_says(),
    nearest_endpoints_are_preferred_as_istiod_says(),
    random_manifests_are_routed_as_istiod_says(),
    definitions_are_those_of_the_modules(),
    spoilt_objects_are_refused_as_the_api_refuses_them(),
];

/// The versions of Istio that are asked.
pub const VERSIONS: [&str; 2] = ["1.31", "1.22"];

fn a_folder_of_manifests_is_a_case() {
    let folder = scratch("oracle-folder");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("objects.yaml"), include_str!("../../differential/base.yaml")).unwrap();
    for version in VERSIONS {
        let answer = istiod::of_folder(version, "here", &folder);
        assert_eq!(answer["name"], *folder.to_str().unwrap());
        let host = "svc-hello.here.svc.cluster.local";
        assert!(answer["addresses"][host].is_string(), "{version}: {answer}");
        for part in ["routes", "endpoints", "clusters"] {
            assert!(answer[part].to_string().contains(host), "{version}, {part}");
        }
        assert!(answer["listeners"].to_string().contains(r#""route_config_name":"8080""#), "{version}");
    }
}

fn variants_are_routed_as_istiod_says() {
    // without a sidecar there is nothing to push
    agree(&variants().into_iter().filter(|case| case.client.sidecar).collect::<Vec<_>>());
}

fn fixtures_are_routed_as_istiod_says() {
    agree(&fixtures());
}

fn variants_of_kubernetes_gateways_are_routed_as_istiod_says() {
    let client = Client::new("diff", [(GatewayApi::GATEWAY_NAME.to_owned(), "gw".to_owned())].into());
    let cases = Table::of_kubernetes_gateways().variants.into_iter().map(|variant| {
        let live = variant.live("diff", "diff-other");
        Case { name: variant.name, client: client.clone(), live }
    });
    agree(&cases.collect::<Vec<_>>());
}

fn variants_of_gateways_are_routed_as_istiod_says() {
    let variants = Table::of_gateways().variants;
    for version in VERSIONS {
        let known = variants.iter().filter(|variant| variant.unknown_in.as_deref() != Some(version));
        let cases = known.map(|variant| {
            let live = variant.live("diff", "diff-other");
            Case { name: variant.name.clone(), client: Client::ingress_gateway(), live }
        });
        agree_in(version, &cases.collect::<Vec<_>>());
    }
}

/// A case for each variant.
fn variants() -> Vec<Case> {
    let table = Table::read();
    let cases = table.variants.iter().map(|variant| {
        let live = variant.live("diff", "diff-other");
        Case { name: variant.name.clone(), client: client_of(&live, CLIENT).unwrap(), live }
    });
    cases.filter(|case| is_read_in_process(&case.live)).collect()
}

/// Whether the istiod in process reads every rule of a case.
///
/// It reads no `GRPCRoutes`. The one on a mesh does: see `differential`.
fn is_read_in_process(live: &Live) -> bool {
    live.of(Kind::GrpcRoute).next().is_none()
}

/// A case for each stage of the example scenarios.
fn fixtures() -> Vec<Case> {
    let mut cases = Vec::new();
    let folders = std::fs::read_dir(format!("{ROOT}/fixtures")).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|folder| folder.join("scenario.yaml").is_file()) {
        // the EnvoyFilter of one is not modelled; the other has the rules of `rollouts-subset` beside a hundred Services
        if ["canary-shadowed-on-1.31", "rollouts-superseded"].iter().any(|name| folder.ends_with(name)) {
            continue;
        }
        let scenario = Scenario::read(&folder).unwrap();
        // Flagger makes the Services and the rules
        if scenario.controller.as_ref().is_some_and(|own| own.kind == ControllerKind::Flagger) {
            continue;
        }
        let mut live = Live::new(&scenario.namespace, &scenario.namespace);
        scenario.client.manifests.iter().for_each(|manifest| live.apply(manifest));
        for stage in &scenario.stages {
            live.step_through(stage);
            if !is_read_in_process(&live) {
                continue;
            }
            let made = |gateway: &IngressGateway| Client::new(&scenario.namespace, gateway.selector.clone());
            let gateway = scenario.ingress_gateways().into_iter().next().map(|gateway| match gateway.api {
                GatewayApi::Istio => Client::ingress_gateway(),
                GatewayApi::Kubernetes => made(gateway),
            });
            let injected = scenario.client.others.iter().filter(|own| own.sidecar);
            let others = injected.filter_map(|own| client_in(&live, own.namespace(&scenario.namespace), &own.name));
            for client in client_of(&live, &scenario.client.pod).into_iter().chain(others).chain(gateway) {
                cases.push(Case { name: format!("{} {}", folder.display(), stage.name), client, live: live.clone() });
            }
        }
    }
    assert!(cases.len() > 20, "{}", cases.len());
    cases
}

/// Every case is routed alike, by both versions.
fn agree(cases: &[Case]) {
    for version in VERSIONS {
        agree_in(version, cases);
    }
}

/// Every case is routed alike by a version.
fn agree_in(version: &str, cases: &[Case]) {
    let mut wrong = Vec::new();
    for (case, pushed) in cases.iter().zip(Istiod::start(version).ask(cases)) {
        wrong.extend(pushed.refused.iter().map(|(object, why)| format!("{version}, {}: {object}: {why}", case.name)));
        let Compared { skipped, differences, .. } = Compared::new(version, case, &pushed);
        wrong.extend(differences.iter().map(|difference| format!("{version}, {}: {difference}", case.name)));
        if skipped > 0 {
            wrong.push(format!("{version}, {}: {skipped} requests to what is not modelled", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The model's answers for a case beside those of istiod.
#[derive(Default)]
struct Compared {
    requests: usize,
    /// The requests to hosts that the model names as not modelled.
    skipped: usize,
    /// Where the two differ, each difference once.
    differences: Vec<String>,
}

impl Compared {
    fn new(version: &str, case: &Case, pushed: &Pushed) -> Self {
        let mut compared = Self::default();
        if !pushed.error.is_empty() {
            compared.differences.push(pushed.error.clone());
            return compared;
        }
        let mesh = Mesh::of(&version.parse().unwrap(), &case.live, pods_of(&case.live, &Naming::default()));
        let mut unmodelled: BTreeSet<&str> = BTreeSet::new();
        // what changes answers alone is not in the routes
        for note in mesh.not_modelled.iter().filter(|note| !note.only_answers) {
            match &note.scope {
                // whether a server listens on a port is no part of a route; what affects connections is asked of each request below
                Scope::Nothing
                | Scope::Port(..)
                | Scope::Connections(..)
                | Scope::Gateway(..)
                | Scope::AtGateways(..) => {}
                Scope::Hosts(hosts) => unmodelled.extend(hosts.iter().map(String::as_str)),
                _ => compared.differences.push(format!("not modelled: {}", note.field)),
            }
        }
        let outbound = mesh.outbound(case.client.clone());
        let mut seen = BTreeSet::new();
        for request in requests(case) {
            compared.requests += 1;
            let expected = outbound.routes(&request);
            let called = addressed(&request.host, &case.client.namespace);
            let notes = outbound.not_modelled(&request, expected.as_ref().ok());
            let of_connections = notes
                .iter()
                .any(|note| matches!(note.scope, Scope::Connections(..) | Scope::Gateway(..) | Scope::AtGateways(..)));
            let targets = expected.iter().flat_map(|routes| routes.table.clusters.keys());
            if of_connections
                || targets.map(|cluster| &*cluster.host).chain([&*called]).any(|host| unmodelled.contains(host))
            {
                compared.skipped += 1;
                continue;
            }
            let found = pushed.table(&request, &case.client.namespace);
            let difference = match (expected, found) {
                (Ok(expected), Ok(found)) => RouteDiff::lines(&found.difference(&expected.table)).join("\n"),
                (Err(_), Err(_)) => String::new(),
                (Err(_), Ok(found)) if found == RouteTable::of_closed_port() => String::new(),
                (Ok(_), Err(error)) => error,
                (Err(reason), Ok(_)) => format!("{reason:?}"),
            };
            if !difference.is_empty() && seen.insert(difference.clone()) {
                let (host, port) = (&request.host, request.port);
                let differs = format!("{host}:{port} for the host {}:\n{difference}", request.authority());
                compared.differences.push(differs);
            }
        }
        compared
    }
}

/// Requests to every port of every Service, under every name that a rule or a Service has.
fn requests(case: &Case) -> Vec<Request> {
    if case.is_gateway() {
        return entering(case);
    }
    let mut names = BTreeSet::from(["unknown.acme.io".to_owned()]);
    let mut ports = Vec::new();
    for object in case.live.of(Kind::Service) {
        let (name, namespace) = (object.manifest.name(), &object.namespace);
        let full = format!("{name}.{namespace}.svc.cluster.local");
        names.extend([name.to_owned(), format!("{name}.{namespace}"), format!("{full}."), full.to_uppercase()]);
        let numbers = object.manifest.at("/spec/ports").and_then(Value::as_array).into_iter().flatten();
        // the sidecar has no listener for UDP
        let numbers = numbers.filter(|port| port["protocol"] != "UDP");
        ports.extend(numbers.filter_map(|port| Some((full.clone(), u16::try_from(port["port"].as_u64()?).ok()?))));
        names.insert(full);
    }
    for object in case.live.of(Kind::VirtualService) {
        let hosts = object.manifest.at("/spec/hosts").and_then(Value::as_array).into_iter().flatten();
        names.extend(hosts.filter_map(Value::as_str).map(|host| host.replace('*', "any")));
    }
    // the name in a request decides among all services of a port, whichever of them is called
    let mut known = BTreeSet::new();
    let requests = ports.iter().flat_map(|(host, port)| {
        let plain = Request::get(host, *port, "/");
        let names = names.iter().filter(|_| !known.contains(port));
        let others = names.map(|name| Request::get(host, *port, "/").with("host", name));
        let requests: Vec<Request> = std::iter::once(plain).chain(others).collect();
        known.insert(*port);
        requests
    });
    requests.collect()
}

/// Requests from outside to every port of every Gateway, for every host that a server or a rule has.
fn entering(case: &Case) -> Vec<Request> {
    let mut hosts = BTreeSet::from(["unknown.acme.io".to_owned(), "any.unknown.acme.io".to_owned()]);
    let mut ports = BTreeSet::from([80]);
    let texts = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|text| Some(text.as_str()?.to_owned())).collect()
    };
    for object in case.live.of(Kind::Gateway) {
        for server in object.manifest.at("/spec/servers").and_then(Value::as_array).into_iter().flatten() {
            ports.extend(server["port"]["number"].as_u64().and_then(|port| u16::try_from(port).ok()));
            hosts.extend(texts(server.get("hosts")));
        }
    }
    for object in case.live.of(Kind::KubernetesGateway) {
        for listener in object.manifest.at("/spec/listeners").and_then(Value::as_array).into_iter().flatten() {
            ports.extend(listener["port"].as_u64().and_then(|port| u16::try_from(port).ok()));
            hosts.extend(listener["hostname"].as_str().map(ToOwned::to_owned));
        }
    }
    for object in case.live.of(Kind::HttpRoute) {
        hosts.extend(texts(object.manifest.at("/spec/hostnames")));
    }
    for object in case.live.of(Kind::VirtualService) {
        let written = texts(object.manifest.at("/spec/hosts"));
        let full = written.iter().filter(|host| !host.contains(['.', '*']));
        hosts.extend(full.map(|host| format!("{host}.{}.svc.cluster.local", object.namespace)));
        hosts.extend(written.clone());
        let rules = object.manifest.at("/spec/tls").and_then(Value::as_array).into_iter().flatten();
        let matches = rules.flat_map(|rule| rule["match"].as_array().into_iter().flatten());
        hosts.extend(matches.flat_map(|one| texts(one.get("sniHosts"))));
    }
    let name = |host: &String| host.rsplit('/').next().unwrap_or_default().replace('*', "any");
    let names: BTreeSet<String> = hosts.iter().map(name).flat_map(|host| [host.to_uppercase(), host]).collect();
    // a port of HTTPS is asked as HTTP too
    let over_tls = |request: &Request| {
        let server_name = request.host.to_lowercase();
        Request { tls: Some(TlsHandshake { server_name, ca: None }), ..request.clone() }
    };
    let pods = case.pods().unwrap_or(GatewayPods::Installed);
    let one = |host: &str, port: u16| Request::entering(host, port, "/").by_way_of(pods.clone());
    let each = names.iter().flat_map(|host| ports.iter().map(|port| one(host, *port)));
    each.flat_map(|request| [over_tls(&request), request]).collect()
}
