//! Whatever stands in a scenario, in manifests, a report or a record, or comes from a sidecar or a driver, ends in an answer or an error, never
//! in a panic. Two seconds each by default; `ci/fuzz` takes ten minutes. Texts that once panicked are kept in `fuzz/<name>/`.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;
use shiftcheck::cluster::{Owner, RunRecords};
use shiftcheck::mesh::{ConfigDump, read_table};
use shiftcheck::plan::{Designs, Plan};
use shiftcheck::report::{Report, compare, compared};
use shiftcheck::routing::{Client, Definitions, Live, Mesh, Naming, Request, RouteTable, check, client_of, pods_of};
use shiftcheck::scenario::{Scenario, Sensitive, parse_manifests};
use shiftcheck::traffic::replay;
use shiftcheck::verify::{problems, verify};

use crate::common::{ROOT, spoilt};

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

/// The longest that a text may take on a busy machine.
const LONGEST: Duration = Duration::from_secs(20);

fn seconds() -> Duration {
    let asked = std::env::var("SHIFTCHECK_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(2))
}

/// Runs a target on the kept texts, and then on spoilt ones until the time is up; tells the number of texts.
fn fuzz(name: &str, mut corpus: Vec<String>, target: impl Fn(&str) + std::panic::RefUnwindSafe) {
    let seed = std::env::var("SHIFTCHECK_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = Rng::with_seed(seed);
    let kept = std::fs::read_dir(Path::new(ROOT).join("tests/model/fuzz").join(name)).into_iter().flatten();
    corpus.extend(kept.flatten().map(|entry| std::fs::read_to_string(entry.path()).unwrap()));
    for text in &corpus {
        tried(text, &target, "kept or unspoilt");
    }
    let end = Instant::now() + seconds();
    let mut count = 0;
    while Instant::now() < end {
        let mut text = corpus[random.usize(..corpus.len())].clone();
        for _ in 0..random.usize(1..8) {
            text = spoil(&text, &corpus, &mut random);
        }
        count += 1;
        tried(&text, &target, &format!("seed {seed}, text {count}"));
    }
    eprintln!("{name}: {count} texts");
}

fn tried(text: &str, target: &(impl Fn(&str) + std::panic::RefUnwindSafe), which: &str) {
    let start = Instant::now();
    assert!(catch_unwind(|| target(text)).is_ok(), "{which}:\n{text}");
    assert!(start.elapsed() < LONGEST, "{which} took {:?}:\n{text}", start.elapsed());
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
    for problem in check(&live, Definitions::Newest) {
        let _ = problem.to_string();
    }
    let pods = pods_of(&live, &Naming::default()).into_iter().take(100).collect();
    let mesh = Mesh::new(&live, pods);
    let client = client_of(&live, "client").or_else(|| client_of(&live, "httpbin"));
    let usual = || Client::new("canary", BTreeMap::new());
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
    let dump = ConfigDump { routes: next(), listeners: next(), endpoints: next(), ..ConfigDump::default() };
    if let Ok(table) = read_table(&dump, HOST, 8080, Some("10.0.0.1")) {
        let _ = table.difference(&RouteTable::default());
        for path in ["/", "/api", "/parts/x?q=v1"] {
            let request = Request::get("svc-hello", 8080, path).with("end-user", "testers");
            if let Some(route) = table.route(&request) {
                let _ = table.routes[route].path(&request);
            }
        }
    }
}

/// Everything that is done with a scenario before anything starts.
fn scenario(folder: &Path, text: &str) {
    std::fs::write(folder.join("scenario.yaml"), text).unwrap();
    let scenario = match Scenario::read(folder) {
        Ok(scenario) => scenario,
        Err(error) => return drop(error.to_string()),
    };
    let _ = Sensitive::of(&scenario).hidden_in(text).len();
    let plan = Plan::new(&scenario);
    let _ = Designs::new(&plan).map(|designs| designs.totals());
    let _ = (verify(&plan).len(), problems(&plan).len());
}

fn report(text: &str) {
    let (before, after) = text.split_once('\u{1}').unwrap_or((text, text));
    let (before, after) = (serde_json::from_str::<Report>(before), serde_json::from_str::<Report>(after));
    if let (Ok(before), Ok(after)) = (before, after) {
        compared(&mut Vec::new(), &compare(&before, &after)).unwrap();
    }
}

fn record(folder: &Path, text: &str) {
    std::fs::write(folder.join("runs/0123abcd.json"), text).unwrap();
    let known = RunRecords::new(folder).all();
    let _ = known.unreadable.len();
    for line in text.split('"') {
        let _ = Owner::parse(line).map(|owner| owner.label());
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
    fuzz("manifests", corpus, manifests);
}

#[test]
fn what_a_sidecar_says_never_panics() {
    let (routes, listeners, clusters) =
        (include_str!("fuzz/sidecar.json"), include_str!("fuzz/listeners.json"), include_str!("fuzz/clusters.json"));
    let corpus = [format!("{routes}\u{1}{listeners}\u{1}{clusters}"), format!("{{}}\u{1}{listeners}\u{1}{clusters}")];
    fuzz("configurations", corpus.into(), sidecar);
}

#[test]
fn scenarios_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    spoilt(folder.path(), &[]);
    let read = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("scenario.yaml")).ok();
    let fixtures = std::fs::read_dir(Path::new(ROOT).join("fixtures")).unwrap().flatten();
    let mut corpus: Vec<String> = fixtures.filter_map(read).collect();
    // most of their manifests are not in the folder: the canary's scenario weighs more
    corpus.extend(std::iter::repeat_n(std::fs::read_to_string(folder.path().join("scenario.yaml")).unwrap(), 8));
    fuzz("scenarios", corpus, |text| scenario(folder.path(), text));
}

#[test]
fn lines_of_a_driver_never_panic() {
    let lines = "{\"kind\":{\"status\":200,\"version\":\"v1\",\"pod\":\"a\"}}\n[0,0,0,0,10,20,30]\n\
        {\"kind\":{\"failure\":{\"kind\":\"timeout\",\"message\":\"m\"}}}\n[1,1,1,3,40,5,18446744073709551615]\n\
        {\"kind\":{\"status\":503,\"excerpt\":\"no\"}}\n[2,0,2,1,50,60,70]\n{\"end\":{\"plan\":1,\"took_us\":99}}";
    fuzz("driver-lines", vec![lines.to_owned()], |text| {
        if let Ok(sample) = replay(text, 2) {
            let _ = (sample.rate(), sample.latency());
        }
    });
}

#[test]
fn reports_never_panic() {
    let report_of = |name: &str| std::fs::read_to_string(Path::new(ROOT).join("tests/model/fuzz").join(name)).unwrap();
    let whole = report_of("report.json");
    fuzz("reports", vec![format!("{whole}\u{1}{whole}"), whole], report);
}

#[test]
fn records_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("runs")).unwrap();
    let own = r#"{"id":"0123abcd","owner":{"pid":1,"started":2,"boot":"b"},"kept":false,"engine":"unix:///var/run/docker.sock","namespace":null}"#;
    let guest = r#"{"id":"0123abcd","owner":null,"kept":true,"namespace":{"name":"canary-0123abcd","cluster":{"kubeconfig":"/k","context":"c","server":"https://a","authority":"x"}}}"#;
    fuzz("records", vec![own.to_owned(), guest.to_owned()], |text| record(folder.path(), text));
}
