//! Whatever stands in manifests, or comes from a sidecar, ends in an answer or an error, never in a panic. Two seconds by default;
//! `ci/fuzz` runs it for ten minutes.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;
use shiftcheck::mesh::{ConfigDump, read_table};
use shiftcheck::routing::{Client, Live, Mesh, Naming, Request, RouteTable, check, client_of, pods_of};
use shiftcheck::scenario::parse_manifests;

use crate::common::ROOT;

const HOST: &str = "svc-hello.canary.svc.cluster.local";

/// Words and numbers that have a meaning somewhere.
const WORDS: [&str; 24] = [
    "svc-hello",
    "*",
    "",
    "/",
    "v1",
    "-1",
    "4294967296",
    "1e300",
    "null",
    "true",
    "{}",
    "[]",
    "exact",
    "prefix",
    "regex",
    "(",
    "(?i)",
    "\\",
    "~1",
    "\u{0}",
    "ü",
    "0.1",
    "weight",
    "18446744073709551616",
];

fn seconds() -> Duration {
    let asked = std::env::var("SHIFTCHECK_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(2))
}

/// Runs a target on spoilt texts until the time is up; the number of texts.
fn fuzz(corpus: &[String], target: impl Fn(&str) + std::panic::RefUnwindSafe) -> u64 {
    let seed = std::env::var("SHIFTCHECK_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = Rng::with_seed(seed);
    let end = Instant::now() + seconds();
    let mut count = 0;
    while Instant::now() < end {
        let mut text = corpus[random.usize(..corpus.len())].clone();
        for _ in 0..random.usize(1..8) {
            text = spoil(&text, corpus, &mut random);
        }
        count += 1;
        assert!(catch_unwind(|| target(&text)).is_ok(), "seed {seed}, text {count}:\n{text}");
    }
    count
}

/// One change to a text: words and lines taken out, doubled, exchanged or put in.
fn spoil(text: &str, corpus: &[String], random: &mut Rng) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let at = random.usize(..=characters.len());
    let end = (at + random.usize(..40)).min(characters.len());
    match random.u8(..7) {
        0 => drop(characters.drain(at..end)),
        1 => {
            let part: Vec<char> = characters[at..end].to_vec();
            characters.splice(at..at, part);
        }
        2 => {
            let word = WORDS[random.usize(..WORDS.len())];
            characters.splice(at..end.min(at + random.usize(..8)), word.chars());
        }
        3 => {
            let other: Vec<char> = corpus[random.usize(..corpus.len())].chars().collect();
            let from = random.usize(..=other.len());
            let to = (from + random.usize(..200)).min(other.len());
            characters.splice(at..end, other[from..to].iter().copied());
        }
        4 if at < characters.len() => characters[at] = char::from(random.u8(32..127)),
        5 => {
            // one line for another
            let mut lines: Vec<&str> = text.lines().collect();
            if lines.len() > 1 {
                let (left, right) = (random.usize(..lines.len()), random.usize(..lines.len()));
                lines.swap(left, right);
            }
            return lines.join("\n");
        }
        _ => {
            // the value behind a colon
            let colons: Vec<usize> = (0..characters.len()).filter(|index| characters[*index] == ':').collect();
            if let Some(colon) = colons.get(random.usize(..colons.len().max(1))) {
                let stop = (colon + 1..characters.len()).find(|index| "\n,}".contains(characters[*index]));
                let word = format!(" {}", WORDS[random.usize(..WORDS.len())]);
                characters.splice(colon + 1..stop.unwrap_or(characters.len()), word.chars());
            }
        }
    }
    characters.into_iter().collect()
}

fn manifests(text: &str) {
    let Ok(manifests) = parse_manifests(Path::new("fuzz.yaml"), text) else { return };
    let mut live = Live::new("canary", "canary");
    for manifest in &manifests {
        live.apply(manifest);
    }
    for problem in check(&live) {
        let _ = problem.to_string();
    }
    let pods = pods_of(&live, &Naming::default()).into_iter().take(100).collect();
    let mesh = Mesh::new(&live, pods);
    let client = client_of(&live, "client").or_else(|| client_of(&live, "httpbin"));
    let usual = || Client { namespace: "canary".to_owned(), labels: BTreeMap::new(), sidecar: true };
    let client = client.unwrap_or_else(usual);
    let outbound = mesh.outbound(client);
    for port in [80, 8080] {
        for path in ["/", "/api/v1/things?release=v2", "/ü"] {
            let request = Request::get("svc-hello", port, path).with("end-user", "testers");
            let _ = outbound.distribution(&request);
            let _ = outbound.diagnose(&request);
            if let Ok(routes) = outbound.routes(&request) {
                let _ = routes.decide(&request).path.len();
                let _ = routes.table.difference(&RouteTable::default());
            }
        }
    }
}

fn sidecar(text: &str) {
    let mut parts = text.split('\u{1}').map(|part| serde_json::from_str::<Value>(part).unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    let dump = ConfigDump { routes: next(), listeners: next(), endpoints: next(), clusters: Value::Null };
    if let Ok(table) = read_table(&dump, HOST, 8080) {
        let _ = table.difference(&RouteTable::default());
        for path in ["/", "/api", "/parts/x?q=v1"] {
            let request = Request::get("svc-hello", 8080, path).with("end-user", "testers");
            if let Some(route) = table.route(&request) {
                let _ = table.routes[route].path(&request);
            }
        }
    }
}

#[test]
fn manifests_never_panic() {
    let folder = Path::new(ROOT);
    let mut corpus: Vec<String> = std::fs::read_dir(folder.join("fixtures/canary"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name() != "scenario.yaml")
        .map(|entry| std::fs::read_to_string(entry.path()).unwrap())
        .collect();
    corpus.push(std::fs::read_to_string(folder.join("tests/differential/base.yaml")).unwrap());
    // the variants' own objects, and their rules as those of an object
    let table: Value = serde_yaml::from_str(include_str!("../differential/variants.yaml")).unwrap();
    for variant in table["variants"].as_array().unwrap() {
        corpus.extend(variant["objects"].as_str().map(|objects| objects.replace("$NS", "canary")));
        if !variant["http"].is_null() {
            let service = "apiVersion: v1\nkind: Service\nmetadata: {name: svc-hello}\nspec: {selector: {app: hello}, ports: [{name: http, port: 8080}]}\n---\n";
            corpus.push(format!(
                "{service}apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\nspec:\n  hosts: [svc-hello]\n  http: {}\n",
                variant["http"]
            ));
        }
    }
    let all = corpus.join("\n---\n");
    corpus.push(all);
    eprintln!("{} manifests", fuzz(&corpus, manifests));
}

#[test]
fn what_a_sidecar_says_never_panics() {
    let (routes, listeners, clusters) =
        (include_str!("fuzz/sidecar.json"), include_str!("fuzz/listeners.json"), include_str!("fuzz/clusters.json"));
    let corpus = [format!("{routes}\u{1}{listeners}\u{1}{clusters}"), format!("{{}}\u{1}{listeners}\u{1}{clusters}")];
    eprintln!("{} configurations", fuzz(&corpus, sidecar));
}
