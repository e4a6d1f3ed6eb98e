//! The API refuses what the model refuses: objects of variants and example scenarios, spoilt at random, are validated by the model, and by the
//! validator of custom resources and istiod's own checks.

use std::collections::BTreeMap;
use std::path::Path;

use fastrand::Rng;
use serde_json::{Map, Value, json};
use shiftcheck::routing::{Client, Definitions, Live};
use shiftcheck::scenario::parse_manifests;

use super::istiod::{Case, Istiod};
use super::random::asked;
use super::{fixtures, variants};

const NAMESPACE: &str = "spoilt";
/// How many objects istiod is asked about at once.
const CHUNK: usize = 100;
/// A run of the tests says the same each time; `ci/bench/oracle` looks at other objects.
const SEED: u64 = 1;

/// 2,000 spoilt objects for each version, always the same unless `SHIFTCHECK_ORACLE_SPOILT` and `SHIFTCHECK_ORACLE_SEED` say otherwise.
pub fn spoilt_objects_are_refused_as_the_api_refuses_them() {
    let count: usize = asked("SHIFTCHECK_ORACLE_SPOILT", || 2000);
    let seed: u64 = asked("SHIFTCHECK_ORACLE_SEED", || SEED);
    let sound = sound();
    assert!(sound.len() > 50, "{}", sound.len());
    let mut wrong = Vec::new();
    for (version, definitions) in [("1.31", Definitions::Newest), ("1.22", Definitions::Istio1_22)] {
        let mut random = Rng::with_seed(seed);
        let spoilt: Vec<Value> =
            (0..count).map(|_| spoilt(&random.choice(&sound).unwrap().clone(), &mut random)).collect();
        let mut istiod = Istiod::start(version);
        let mut refused = 0;
        for chunk in spoilt.chunks(CHUNK) {
            let case = case(chunk);
            let pushed = istiod.ask(std::slice::from_ref(&case)).remove(0);
            for object in case.live.all() {
                let name = format!("{}/{NAMESPACE}/{}", object.manifest.kind(), object.manifest.name());
                let own: Vec<&str> = object.refused(definitions).iter().map(|own| own.message.as_str()).collect();
                if version == "1.22" && own.iter().any(|problem| is_for_the_api_server(problem)) {
                    continue;
                }
                let own = own.join("; ");
                let theirs = pushed.refused.get(&name).cloned().unwrap_or_default();
                refused += usize::from(!theirs.is_empty());
                if own.is_empty() != theirs.is_empty() {
                    let written = serde_json::to_string(&object.manifest.object.data).unwrap();
                    wrong.push(format!("{version} {name}: {written}\n  model: {own}\n  API: {theirs}"));
                }
            }
        }
        assert!(refused * 3 > count && refused < count, "{refused} of {count} are refused by {version}");
    }
    eprintln!("{count} spoilt objects from seed {seed}");
    assert!(wrong.is_empty(), "seed {seed}: {} of {count} differ\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether a problem is one that the API server finds, and not the validator that istiod 1.22 comes with.
fn is_for_the_api_server(problem: &str) -> bool {
    problem.starts_with("unknown field") || problem.contains(" has two items with ")
}

/// The objects of Istio and the Gateway API in variants and example scenarios, each once.
fn sound() -> Vec<Value> {
    let mut found = BTreeMap::new();
    for case in variants().into_iter().chain(fixtures()) {
        for object in case.live.all().filter(|object| {
            object.manifest.group().ends_with("networking.istio.io") || object.manifest.kind() == "HTTPRoute"
        }) {
            assert_eq!(object.refused(Definitions::Newest), [], "{}", case.name);
            let written = serde_json::to_value(&object.manifest.object).unwrap();
            found.insert(written["spec"].to_string(), written);
        }
    }
    found.into_values().collect()
}

fn case(objects: &[Value]) -> Case {
    let mut live = Live::new(NAMESPACE, NAMESPACE);
    for (number, object) in objects.iter().enumerate() {
        let mut object = object.clone();
        object["metadata"] = json!({"name": format!("x-{number}")});
        let manifest = parse_manifests(Path::new("spoilt.yaml"), &object.to_string()).unwrap().remove(0);
        live.apply(&manifest);
    }
    let client = Client::new(NAMESPACE, BTreeMap::new());
    Case { name: "spoilt".to_owned(), live, client }
}

/// An object with one part changed.
fn spoilt(object: &Value, random: &mut Rng) -> Value {
    let mut object = object.clone();
    let mut places = Vec::new();
    collect(&object["spec"], "/spec", &mut places);
    let place = random.choice(&places).unwrap().clone();
    let value = object.pointer_mut(&place).unwrap();
    let others = [
        json!(true),
        json!(0),
        json!(-1),
        json!(101),
        json!(70000),
        json!("1"),
        json!(""),
        json!("*"),
        json!("a b"),
        json!("5s"),
        json!("0s"),
        json!([]),
        json!({}),
        json!(["a"]),
        json!({"exact": "a"}),
        json!("^$("),
        json!("Abc"),
        json!("svc.example.com"),
        json!(50.5),
    ];
    match (random.u8(0..4), &mut *value) {
        (0, _) => *value = random.choice(&others).unwrap().clone(),
        (1, Value::Object(fields)) if !fields.is_empty() => {
            let key = random.choice(fields.keys()).unwrap().clone();
            fields.remove(&key);
        }
        (2, Value::Object(fields)) if !fields.is_empty() => {
            let key = random.choice(fields.keys()).unwrap().clone();
            let value = fields.remove(&key).unwrap();
            fields.insert(format!("{key}s"), value);
        }
        (3, Value::Object(fields)) => add(fields, random),
        (_, Value::Array(items)) if !items.is_empty() => {
            let again = items[0].clone();
            items.push(again);
        }
        _ => *value = random.choice(&others).unwrap().clone(),
    }
    object
}

/// Adds a field that may be known here.
fn add(fields: &mut Map<String, Value>, random: &mut Rng) {
    let known = [
        ("redirect", json!({"uri": "/a"})),
        ("redirect", json!({})),
        ("rewrite", json!({"uri": "/a"})),
        ("rewrite", json!({})),
        ("fault", json!({"abort": {"httpStatus": 700}})),
        ("fault", json!({})),
        ("timeout", json!("1us")),
        ("timeout", json!("5s")),
        ("retries", json!({"attempts": 0, "retryOn": "5xx"})),
        ("retries", json!({"attempts": -1})),
        ("retries", json!({"attempts": 2, "retryOn": "5xx,nothing"})),
        ("delegate", json!({"name": "a"})),
        ("directResponse", json!({"status": 200})),
        ("mirror", json!({"host": "*"})),
        ("mirrors", json!([{"percentage": {"value": 5}}])),
        ("mirrorPercentage", json!({"value": 101})),
        ("headers", json!({"response": {"set": {"Host": "a"}}})),
        ("headers", json!({"request": {"set": {"Host": "a", ":authority": "b"}}})),
        ("headers", json!({"request": {"add": {":path": "a"}}})),
        ("exportTo", json!(["*", "."])),
        ("exportTo", json!(["a", "a"])),
        ("gateways", json!(["a_b"])),
        ("gateways", json!(["mesh", "a/b"])),
        ("hosts", json!(["*.com", "a.com"])),
        ("weight", json!(-1)),
        ("subset", json!("A_b")),
        ("port", json!({"number": 0})),
        ("port", json!(70000)),
        ("regex", json!("*")),
        ("prefix", json!("")),
        ("corsPolicy", json!({"allowMethods": ["GOT"]})),
        ("corsPolicy", json!({"allowOrigins": [{"exact": ""}]})),
        ("tls", json!({"mode": "MUTUAL"})),
        ("trafficPolicy", json!({})),
        ("trafficPolicy", json!({"connectionPool": {}})),
        ("trafficPolicy", json!({"outlierDetection": {"baseEjectionTime": "0s"}})),
        ("trafficPolicy", json!({"outlierDetection": {"maxEjectionPercent": 101}})),
        ("loadBalancer", json!({"simple": "RANDOM", "consistentHash": {"useSourceIp": true}})),
        ("loadBalancer", json!({"consistentHash": {"httpCookie": {"ttl": "0s"}}})),
        ("filters", json!([{"type": "RequestRedirect"}])),
        (
            "filters",
            json!([{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}}]),
        ),
        ("timeouts", json!({"request": "1s", "backendRequest": "2s"})),
        ("sourceLabels", json!({"a b": "c"})),
        ("sourceNamespace", json!("A_b")),
    ];
    let (key, value) = random.choice(&known).unwrap().clone();
    fields.insert(key.to_owned(), value);
}

/// The pointers of all values.
fn collect(value: &Value, pointer: &str, places: &mut Vec<String>) {
    places.push(pointer.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                collect(value, &format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1")), places);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &format!("{pointer}/{index}"), places);
            }
        }
        _ => {}
    }
}
