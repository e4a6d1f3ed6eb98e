//! The model agrees with istiod: for every variant, every example scenario and random manifests, the routes that the model computes are those
//! that istiod would push to the client's sidecar, in both versions of Istio.

mod generate;
mod istiod;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;
use shiftcheck::routing::{Client, Kind, Live, Mesh, Naming, Request, RouteDiff, client_of, pods_of};
use shiftcheck::scenario::{Scenario, parse_manifests};

use crate::common::ROOT;
use crate::harness::tests;
use crate::variants::{CLIENT, Table};
use generate::Written;
pub use istiod::program;
use istiod::{Case, Istiod, Pushed};

tests![
    variants_are_routed_as_istiod_says(),
    fixtures_are_routed_as_istiod_says(),
    random_manifests_are_routed_as_istiod_says(),
];

/// The versions of Istio that are asked.
pub const VERSIONS: [&str; 2] = ["1.31", "1.22"];

fn variants_are_routed_as_istiod_says() {
    let table = Table::read();
    let cases = table.variants.iter().map(|variant| {
        let live = variant.live("diff", "diff-other");
        Case { name: variant.name.clone(), client: client_of(&live, CLIENT).unwrap(), live }
    });
    // without a sidecar there is nothing to push
    agree(&cases.filter(|case| case.client.sidecar).collect::<Vec<_>>());
}

fn fixtures_are_routed_as_istiod_says() {
    let mut cases = Vec::new();
    let folders = std::fs::read_dir(format!("{ROOT}/fixtures")).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|folder| folder.join("scenario.yaml").is_file()) {
        let scenario = Scenario::read(&folder).unwrap();
        let mut live = Live::new(&scenario.namespace, &scenario.namespace);
        scenario.client.manifests.iter().for_each(|manifest| live.apply(manifest));
        for stage in &scenario.stages {
            live.step_through(stage);
            let client = client_of(&live, &scenario.client.pod).unwrap();
            cases.push(Case { name: format!("{} {}", folder.display(), stage.name), client, live: live.clone() });
        }
    }
    assert!(cases.len() > 20, "{}", cases.len());
    agree(&cases);
}

/// Every case is routed alike, by both versions.
fn agree(cases: &[Case]) {
    let mut wrong = Vec::new();
    for version in VERSIONS {
        for (case, pushed) in cases.iter().zip(Istiod::start(version).ask(cases)) {
            wrong.extend(
                pushed.refused.iter().map(|(object, why)| format!("{version}, {}: {object}: {why}", case.name)),
            );
            let differences = differences(case, &pushed);
            wrong.extend(differences.iter().map(|difference| format!("{version}, {}: {difference}", case.name)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where the model differs from istiod, each difference once.
fn differences(case: &Case, pushed: &Pushed) -> Vec<String> {
    if !pushed.error.is_empty() {
        return vec![pushed.error.clone()];
    }
    let mesh = Mesh::new(&case.live, pods_of(&case.live, &Naming::default()));
    let mut notes = mesh.not_modelled().iter().map(|note| format!("not modelled: {}", note.field)).collect::<Vec<_>>();
    let outbound = mesh.outbound(case.client.clone());
    let mut seen = BTreeSet::new();
    for request in requests(case) {
        let found = pushed.table(&request, &case.client.namespace);
        let difference = match (outbound.routes(&request), found) {
            (Ok(expected), Ok(found)) => RouteDiff::lines(&found.difference(&expected.table)).join("\n"),
            (Err(_), Err(_)) => String::new(),
            (Ok(_), Err(error)) => error,
            (Err(reason), Ok(_)) => format!("{reason:?}"),
        };
        if !difference.is_empty() && seen.insert(difference.clone()) {
            let (host, port) = (&request.host, request.port);
            notes.push(format!("{host}:{port} for the host {}:\n{difference}", request.authority()));
        }
    }
    notes
}

/// Requests to every port of every Service, under every name that a rule or a Service has.
fn requests(case: &Case) -> Vec<Request> {
    let mut names = BTreeSet::from(["unknown.acme.io".to_owned()]);
    let mut ports = Vec::new();
    for object in case.live.of(Kind::Service) {
        let (name, namespace) = (object.manifest.name(), &object.namespace);
        let full = format!("{name}.{namespace}.svc.cluster.local");
        names.extend([name.to_owned(), format!("{name}.{namespace}"), format!("{full}."), full.to_uppercase()]);
        let numbers = object.manifest.at("/spec/ports").and_then(Value::as_array).into_iter().flatten();
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
        let named = names.map(|name| Request::get(host, *port, "/").with("host", name));
        let requests: Vec<Request> = std::iter::once(plain).chain(named).collect();
        known.insert(*port);
        requests
    });
    requests.collect()
}

/// How many random cases are tried, and from which seed: `SHIFTCHECK_ORACLE_CASES`, `SHIFTCHECK_ORACLE_SEED`.
fn asked<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn random_manifests_are_routed_as_istiod_says() {
    let (count, seed) = (asked("SHIFTCHECK_ORACLE_CASES", 300), asked("SHIFTCHECK_ORACLE_SEED", fastrand::u64(..)));
    eprintln!("oracle: {count} random cases from seed {seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let objects = generate::objects();
    let mut trees: Vec<_> = (0..count).map(|_| objects.new_tree(&mut runner).unwrap()).collect();
    let cases: Vec<Case> = trees.iter().map(|tree| case(&tree.current())).collect();
    let mut report = String::new();
    for version in VERSIONS {
        let mut istiod = Istiod::start(version);
        let mut refused = 0;
        let mut found: Vec<usize> = Vec::new();
        for (number, (case, pushed)) in cases.iter().zip(istiod.ask(&cases)).enumerate() {
            refused += usize::from(!pushed.refused.is_empty());
            if !masked(&trees[number].current()) && !differences(&accepted(case, &pushed), &pushed).is_empty() {
                found.push(number);
            }
        }
        assert!(refused * 4 < count, "{version}: {refused} of {count} cases hold objects that istiod refuses");
        for number in found.iter().take(asked("SHIFTCHECK_ORACLE_SHOWN", 3)) {
            shrink(&mut istiod, &mut trees[*number]);
            let _ = writeln!(report, "{version}: {}", shown(&mut istiod, &trees[*number].current()));
        }
        let _ = write!(
            report,
            "{}",
            if found.is_empty() { String::new() } else { format!("{version}: {} cases\n", found.len()) }
        );
    }
    assert!(report.is_empty(), "seed {seed}\n{report}");
}

fn masked(written: &[Written]) -> bool {
    let masks = std::env::var("SHIFTCHECK_ORACLE_MASK").unwrap_or_default();
    let text: String = written.iter().map(|object| object.manifest.to_string()).collect();
    masks.split('|').any(|mask| !mask.is_empty() && text.contains(mask))
}

/// A case of generated objects, with a client in the namespace `here`.
fn case(written: &[Written]) -> Case {
    let mut live = Live::new("here", "here");
    for moment in 0..generate::MOMENTS {
        live.later();
        for object in written.iter().filter(|object| object.created == moment) {
            let text = object.manifest.to_string();
            parse_manifests("random.yaml".as_ref(), &text).unwrap().iter().for_each(|manifest| live.apply(manifest));
        }
    }
    let labels = BTreeMap::from([("app".to_owned(), "client".to_owned()), ("tier".to_owned(), "front".to_owned())]);
    Case { name: String::new(), live, client: Client { namespace: "here".to_owned(), labels, sidecar: true } }
}

/// The case without the objects that istiod refuses.
fn accepted(case: &Case, pushed: &Pushed) -> Case {
    if pushed.refused.is_empty() {
        return case.clone();
    }
    let mut left = Case { live: Live::new("here", "here"), ..case.clone() };
    for moment in 0..=generate::MOMENTS {
        left.live.later();
        for object in case.live.all().filter(|object| object.created == moment + 1) {
            let (kind, name) = (object.manifest.kind(), object.manifest.name());
            if !pushed.refused.contains_key(&format!("{kind}/{}/{name}", object.namespace)) {
                left.live.apply(&object.manifest);
            }
        }
    }
    left
}

fn differ(istiod: &mut Istiod, written: &[Written]) -> Vec<String> {
    if masked(written) {
        return Vec::new();
    }
    let case = case(written);
    let pushed = istiod.ask(std::slice::from_ref(&case)).remove(0);
    differences(&accepted(&case, &pushed), &pushed)
}

/// Makes a case as small as it can be while the model differs from istiod.
fn shrink(istiod: &mut Istiod, tree: &mut impl ValueTree<Value = Vec<Written>>) {
    for _ in 0..500 {
        let smaller = if differ(istiod, &tree.current()).is_empty() { tree.complicate() } else { tree.simplify() };
        if !smaller {
            break;
        }
    }
    while differ(istiod, &tree.current()).is_empty() && tree.complicate() {}
}

fn shown(istiod: &mut Istiod, written: &[Written]) -> String {
    let manifests: Vec<String> = written
        .iter()
        .map(|object| format!("# created at {}\n{}", object.created, serde_yaml::to_string(&object.manifest).unwrap()))
        .collect();
    format!("{}\n{}", differ(istiod, written).join("\n"), manifests.join("---\n"))
}
