use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::given::Given;
use super::stages::Stages;
use crate::routing::Chance;
use crate::scenario::{Manifest, Scenario, Stage, Step};

/// A scenario with one thing wrong in its manifests.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// The kind of slip, such as `weights swapped`.
    pub slip: &'static str,
    /// What was done where: `VirtualService vs-hello (vs-hello-testers.yaml:11:11): weights 50 and 50 to 60 and 40`.
    pub what: String,
    /// The position of the stage that applies the wrong manifest, from 1.
    pub stage: usize,
    /// The scenario with it.
    pub scenario: Scenario,
}

/// What came of a mutant.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// No population is given anything else, at any stage.
    Harmless,
    /// A claim fails in a way that a sample tells: the first one.
    Caught(Catch),
    /// Somebody is given something else, and no claim sees it.
    Survives(Gap),
}

/// The claim that catches a mutant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catch {
    /// The stage, from 1.
    pub stage: usize,
    /// The claim: `testers: v1 50 %, v2 50 %`.
    pub claim: String,
}

/// A change that no claim sees, and the claim that would.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// The stage, from 1.
    pub stage: usize,
    /// Its name.
    pub name: String,
    /// The claim that would catch it, as the scenario would write it.
    pub claim: String,
}

/// The slips that are made, in the order in which they are tried.
pub const SLIPS: [&str; 18] = [
    "weights swapped",
    "weights moved by ten points",
    "header name changed",
    "header value changed",
    "match made case-insensitive",
    "match dropped",
    "rule order reversed",
    "default route lost",
    "subset name typo",
    "host typo",
    "subset label changed",
    "selector pinned",
    "selector too wide",
    "port renamed tcp-",
    "no replicas",
    "wrong image",
    "client not injected",
    "object not applied",
];

/// Makes every mutant of a scenario: each slip, wherever its manifests give room for it.
#[must_use]
pub fn mutants(scenario: &Scenario) -> Vec<Mutant> {
    let found = Found { images: images(scenario), labels: version_labels(scenario) };
    let mut mutants = Vec::new();
    for (index, stage) in scenario.stages.iter().enumerate() {
        for (step, part) in stage.steps.iter().enumerate() {
            let Step::Apply(manifests) = part else { continue };
            for (position, manifest) in manifests.iter().enumerate() {
                for Wrong { slip, pointer, what, data } in wrongs(manifest, &found) {
                    let mut wrong = scenario.clone();
                    if let Step::Apply(manifests) = &mut wrong.stages[index].steps[step] {
                        match data {
                            Some(data) => manifests[position].object.data = data,
                            None => drop(manifests.remove(position)),
                        }
                    }
                    let what = format!("{} ({}): {what}", manifest.id(), manifest.place(&pointer));
                    mutants.push(Mutant { slip, what, stage: index + 1, scenario: wrong });
                }
            }
        }
    }
    mutants.extend(not_injected(scenario));
    mutants
}

fn not_injected(scenario: &Scenario) -> Option<Mutant> {
    let mut wrong = scenario.clone();
    let client = wrong.client.manifests.iter_mut().find(|manifest| manifest.name() == wrong.client.pod)?;
    let labels = client.object.metadata.labels.get_or_insert_default();
    labels.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
    let what = format!("{} ({}): without a sidecar", client.id(), client.origin);
    Some(Mutant { slip: "client not injected", what, stage: 1, scenario: wrong })
}

/// What becomes of a mutant: decided exactly, by the model.
#[must_use]
pub fn fate(scenario: &Scenario, mutant: &Mutant) -> Fate {
    let (mut right, mut wrong) = (Stages::new(scenario), Stages::new(&mutant.scenario));
    let mut gap = None;
    while let (Some(stage), Some(own)) = (right.advance(), wrong.advance()) {
        let decided = wrong.decide(own);
        if let Some(claim) = decided.claims.iter().find(|claim| claim.decided.is_caught()) {
            let claim = claim.expectation.to_string();
            return Fate::Caught(Catch { stage: decided.number, claim });
        }
        gap = gap.or_else(|| changed(scenario, stage, decided.number, &right, &wrong));
    }
    gap.map_or(Fate::Harmless, Fate::Survives)
}

/// The first population that a mutant gives something else at a stage. Paths are those that the stage claims, or else all that are claimed.
fn changed(scenario: &Scenario, stage: &Stage, number: usize, right: &Stages<'_>, wrong: &Stages<'_>) -> Option<Gap> {
    let (before, after) = (right.mesh(), wrong.mesh());
    let (before, after) = (before.outbound(right.client()), after.outbound(wrong.client()));
    let mut paths: Vec<&str> =
        scenario.stages.iter().flat_map(Stage::claims).map(|claim| claim.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    for population in &scenario.populations {
        for path in &paths {
            let given = |outbound| Given::to(population, &scenario.service, path, outbound);
            let (before, after) = (given(&before), given(&after));
            if before.seen != after.seen {
                let claim = as_claim(&population.name, path, &before);
                return Some(Gap { stage: number, name: stage.name.clone(), claim });
            }
        }
    }
    None
}

/// What is given, as the scenario would claim it.
fn as_claim(from: &str, path: &str, given: &Given) -> String {
    let mut versions: BTreeMap<&str, Chance> = BTreeMap::new();
    for (seen, chance) in &given.seen {
        if let Some(version) = &seen.version {
            let own = versions.entry(version).or_insert(Chance::NONE);
            *own = own.or(*chance);
        }
    }
    let percent = |chance: Chance| format!("{}%", (chance.fraction() * 1e4).round() / 1e2);
    let path = if path == "/" { String::new() } else { format!(", path: {path}") };
    let get: Vec<String> =
        versions.iter().map(|(version, chance)| format!("{version}: {}", percent(*chance))).collect();
    let mut statuses: BTreeMap<u16, Chance> = BTreeMap::new();
    for (seen, chance) in &given.seen {
        let own = statuses.entry(seen.status.unwrap_or(200)).or_insert(Chance::NONE);
        *own = own.or(*chance);
    }
    let status: Vec<String> =
        statuses.iter().map(|(status, chance)| format!("{status}: {}", percent(*chance))).collect();
    let get = if get.is_empty() { String::new() } else { format!(", get: {{{}}}", get.join(", ")) };
    let status = match statuses.keys().collect::<Vec<_>>()[..] {
        [200] => String::new(),
        [status] => format!(", status: {status}"),
        _ => format!(", status: {{{}}}", status.join(", ")),
    };
    format!("{{from: {from}{path}{get}{status}}}")
}

/// The images that the scenario's Deployments run, in the order in which they come.
fn images(scenario: &Scenario) -> Vec<String> {
    let mut images = Vec::new();
    let steps = scenario.stages.iter().flat_map(|stage| &stage.steps);
    for manifest in steps.filter_map(|step| if let Step::Apply(own) = step { Some(own) } else { None }).flatten() {
        if let Some(image) = manifest.at("/spec/template/spec/containers/0/image").and_then(Value::as_str)
            && !images.iter().any(|own| own == image)
        {
            images.push(image.to_owned());
        }
    }
    images
}

/// What of a scenario the mutants are made with.
struct Found {
    /// The images that Deployments run.
    images: Vec<String>,
    /// The labels that tell versions from each other.
    labels: BTreeSet<(String, String)>,
}

/// The labels that tell the versions of the scenario from each other: those of the subsets of `DestinationRule`s, and those in which the pods
/// behind one Service differ. A label that is the
/// same on all of them tells none.
fn version_labels(scenario: &Scenario) -> BTreeSet<(String, String)> {
    let steps = scenario.stages.iter().flat_map(|stage| &stage.steps);
    let applied = steps.filter_map(|step| if let Step::Apply(own) = step { Some(own) } else { None }).flatten();
    let applied: Vec<&Manifest> = applied.collect();
    let of = |value: Option<&Value>| -> BTreeMap<String, String> {
        let labels = value.and_then(Value::as_object).into_iter().flatten();
        labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    let mut found = BTreeSet::new();
    for rule in applied.iter().filter(|own| own.kind() == "DestinationRule") {
        for subset in rule.at("/spec/subsets").and_then(Value::as_array).into_iter().flatten() {
            found.extend(of(subset.get("labels")));
        }
    }
    let pods: Vec<BTreeMap<String, String>> = applied
        .iter()
        .filter(|own| own.kind() == "Deployment")
        .map(|own| of(own.at("/spec/template/metadata/labels")))
        .collect();
    let keys: BTreeSet<&String> = pods.iter().flat_map(BTreeMap::keys).collect();
    for service in applied.iter().filter(|own| own.kind() == "Service") {
        let selector = of(service.at("/spec/selector"));
        for key in &keys {
            // a selector that is pinned already selects one version
            let mut others = selector.iter().filter(|(own, _)| own != key).peekable();
            if others.peek().is_none() {
                continue;
            }
            let others: Vec<_> = others.collect();
            let behind = pods.iter().filter(|labels| others.iter().all(|(own, value)| labels.get(*own) == Some(value)));
            let values: BTreeSet<&String> = behind.filter_map(|labels| labels.get(*key)).collect();
            if values.len() > 1 {
                found.extend(values.into_iter().map(|value| ((*key).clone(), value.clone())));
            }
        }
    }
    found
}

/// A manifest with a slip.
struct Wrong {
    slip: &'static str,
    pointer: String,
    what: String,
    /// None where the object is left out.
    data: Option<Value>,
}

/// Makes wrong versions of one object.
struct Maker<'a> {
    manifest: &'a Manifest,
    made: Vec<Wrong>,
}

impl Maker<'_> {
    /// A copy in which the value at a pointer is another.
    fn set(&mut self, slip: &'static str, pointer: &str, what: String, value: Value) {
        let mut data = self.manifest.object.data.clone();
        if let Some(place) = data.pointer_mut(pointer) {
            *place = value;
        }
        // a slip that changes not even the text is none
        if data != self.manifest.object.data {
            self.made.push(Wrong { slip, pointer: pointer.to_owned(), what, data: Some(data) });
        }
    }

    fn value(&self, pointer: &str) -> Option<&Value> {
        self.manifest.at(pointer)
    }

    fn count(&self, pointer: &str) -> usize {
        self.value(pointer).and_then(Value::as_array).map_or(0, Vec::len)
    }
}

fn wrongs(manifest: &Manifest, found: &Found) -> Vec<Wrong> {
    let mut maker = Maker { manifest, made: Vec::new() };
    match manifest.kind() {
        "VirtualService" => virtual_service(&mut maker),
        "DestinationRule" => destination_rule(&mut maker),
        "Service" => service(&mut maker, &found.labels),
        "Deployment" => deployment(&mut maker, &found.images),
        "HTTPRoute" => http_route(&mut maker),
        _ => {}
    }
    let what = "left out".to_owned();
    maker.made.push(Wrong { slip: "object not applied", pointer: String::new(), what, data: None });
    maker.made
}

fn virtual_service(maker: &mut Maker<'_>) {
    let rules = maker.count("/spec/http");
    if rules > 1 {
        let mut reversed = maker.value("/spec/http").and_then(Value::as_array).cloned().unwrap_or_default();
        reversed.reverse();
        maker.set("rule order reversed", "/spec/http", "rules in reverse".to_owned(), Value::Array(reversed));
        let mut rest = maker.value("/spec/http").and_then(Value::as_array).cloned().unwrap_or_default();
        rest.retain(|rule| rule.get("match").is_some());
        maker.set("default route lost", "/spec/http", "without its default route".to_owned(), Value::Array(rest));
    }
    if let Some(host) = maker.value("/spec/hosts/0").and_then(Value::as_str).map(typo) {
        maker.set("host typo", "/spec/hosts/0", format!("host `{host}`"), json!(host));
    }
    for rule in 0..rules {
        let rule = format!("/spec/http/{rule}");
        weights(maker, &format!("{rule}/route"), "weight");
        for entry in 0..maker.count(&format!("{rule}/route")) {
            let destination = format!("{rule}/route/{entry}/destination");
            for (slip, key) in [("host typo", "host"), ("subset name typo", "subset")] {
                let pointer = format!("{destination}/{key}");
                if let Some(wrong) = maker.value(&pointer).and_then(Value::as_str).map(typo) {
                    maker.set(slip, &pointer, format!("{key} `{wrong}`"), json!(wrong));
                }
            }
        }
        for one in 0..maker.count(&format!("{rule}/match")) {
            matches(maker, &format!("{rule}/match/{one}"));
        }
        if maker.count(&format!("{rule}/match")) > 0 {
            let mut without = maker.value(&rule).cloned().unwrap_or_default();
            without.as_object_mut().map(|rule| rule.remove("match"));
            maker.set("match dropped", &rule, "without its match".to_owned(), without);
        }
    }
}

fn matches(maker: &mut Maker<'_>, pointer: &str) {
    let headers = format!("{pointer}/headers");
    let written: Map<String, Value> = maker.value(&headers).and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, test) in &written {
        let other = format!("x-{name}");
        let mut renamed = written.clone();
        renamed.remove(name);
        renamed.insert(other.clone(), test.clone());
        maker.set("header name changed", &headers, format!("header `{other}`"), Value::Object(renamed));
        for kind in ["exact", "prefix", "regex"] {
            let Some(value) = test[kind].as_str() else { continue };
            let pointer = format!("{headers}/{}/{kind}", name.replace('~', "~0").replace('/', "~1"));
            let other = typo(value);
            maker.set("header value changed", &pointer, format!("value `{other}`"), json!(other));
            if kind == "exact" {
                let pointer = format!("{headers}/{}", name.replace('~', "~0").replace('/', "~1"));
                let any = format!("(?i){value}");
                maker.set("match made case-insensitive", &pointer, format!("regex `{any}`"), json!({"regex": any}));
            }
        }
    }
    let uri = format!("{pointer}/uri");
    if maker.value(&uri).is_some() {
        let mut any = maker.value(pointer).cloned().unwrap_or_default();
        any["ignoreUriCase"] = json!(true);
        maker.set("match made case-insensitive", pointer, "the path in any case".to_owned(), any);
    }
}

/// Swapped weights, and weights that are ten points off.
fn weights(maker: &mut Maker<'_>, list: &str, key: &str) {
    let written: Vec<u64> = maker
        .value(list)
        .and_then(Value::as_array)
        .map(|entries| entries.iter().map(|entry| entry[key].as_u64().unwrap_or(0)).collect())
        .unwrap_or_default();
    let [first, .., other] = written[..] else { return };
    let with = |maker: &Maker<'_>, changed: [u64; 2]| {
        let mut entries = maker.value(list).cloned().unwrap_or_default();
        entries[0][key] = json!(changed[0]);
        entries[written.len() - 1][key] = json!(changed[1]);
        entries
    };
    let swapped = with(maker, [other, first]);
    maker.set("weights swapped", list, format!("weights {other} and {first}"), swapped);
    let total: u64 = written.iter().sum();
    let tenth = total.div_ceil(10);
    let moved = if other >= tenth { [first + tenth, other - tenth] } else { [first - tenth.min(first), other + tenth] };
    let what = format!("weights {} and {} instead of {first} and {other}", moved[0], moved[1]);
    let entries = with(maker, moved);
    maker.set("weights moved by ten points", list, what, entries);
}

fn destination_rule(maker: &mut Maker<'_>) {
    if let Some(host) = maker.value("/spec/host").and_then(Value::as_str).map(typo) {
        maker.set("host typo", "/spec/host", format!("host `{host}`"), json!(host));
    }
    for subset in 0..maker.count("/spec/subsets") {
        let name = format!("/spec/subsets/{subset}/name");
        if let Some(wrong) = maker.value(&name).and_then(Value::as_str).map(typo) {
            maker.set("subset name typo", &name, format!("subset `{wrong}`"), json!(wrong));
        }
        let labels = format!("/spec/subsets/{subset}/labels");
        let written = maker.value(&labels).and_then(Value::as_object).cloned().unwrap_or_default();
        for (key, value) in written {
            let pointer = format!("{labels}/{}", key.replace('~', "~0").replace('/', "~1"));
            let wrong = typo(value.as_str().unwrap_or_default());
            maker.set("subset label changed", &pointer, format!("{key}={wrong}"), json!(wrong));
        }
    }
}

fn service(maker: &mut Maker<'_>, labels: &BTreeSet<(String, String)>) {
    let selector = maker.value("/spec/selector").and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, value) in labels {
        let mut pinned = selector.clone();
        pinned.insert(key.clone(), json!(value));
        maker.set("selector pinned", "/spec/selector", format!("pinned to {key}={value}"), Value::Object(pinned));
    }
    if selector.len() > 1 {
        for key in selector.keys() {
            let mut wide = selector.clone();
            wide.remove(key);
            maker.set("selector too wide", "/spec/selector", format!("without {key}"), Value::Object(wide));
        }
    }
    for port in 0..maker.count("/spec/ports") {
        let pointer = format!("/spec/ports/{port}");
        let mut renamed = maker.value(&pointer).cloned().unwrap_or_default();
        let name = renamed["name"].as_str().unwrap_or("port").to_owned();
        renamed["name"] = json!(format!("tcp-{name}"));
        maker.set("port renamed tcp-", &pointer, format!("port `tcp-{name}`"), renamed);
    }
}

fn deployment(maker: &mut Maker<'_>, images: &[String]) {
    let mut spec = maker.value("/spec").cloned().unwrap_or_default();
    spec["replicas"] = json!(0);
    maker.set("no replicas", "/spec", "0 replicas".to_owned(), spec);
    let pointer = "/spec/template/spec/containers/0/image";
    let own = maker.value(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    for image in images.iter().filter(|image| **image != own) {
        maker.set("wrong image", pointer, format!("image `{image}`"), json!(image));
    }
}

fn http_route(maker: &mut Maker<'_>) {
    for rule in 0..maker.count("/spec/rules") {
        let backends = format!("/spec/rules/{rule}/backendRefs");
        weights(maker, &backends, "weight");
        for backend in 0..maker.count(&backends) {
            let pointer = format!("{backends}/{backend}/name");
            if let Some(wrong) = maker.value(&pointer).and_then(Value::as_str).map(typo) {
                maker.set("host typo", &pointer, format!("backend `{wrong}`"), json!(wrong));
            }
        }
    }
}

/// A name with its last letter doubled; in an expression, not a sign of it.
fn typo(name: &str) -> String {
    let last = name.char_indices().rev().find(|(_, character)| character.is_alphanumeric());
    let (at, last) = last.map_or((name.len(), 'x'), |(at, last)| (at + last.len_utf8(), last));
    format!("{}{last}{}", &name[..at], &name[at..])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The canary's files, in which versions carry the label `track` with other values.
    fn with_other_labels(folder: &Path) -> Scenario {
        let canary = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary");
        for entry in std::fs::read_dir(canary).unwrap().flatten() {
            let Ok(mut text) = std::fs::read_to_string(entry.path()) else { continue };
            if entry.file_name() != "scenario.yaml" {
                text = text.replace("version: v1", "track: stable").replace("version: v2", "track: next");
            }
            std::fs::write(folder.join(entry.file_name()), text).unwrap();
        }
        Scenario::read(folder).unwrap()
    }

    fn pinned(scenario: &Scenario) -> BTreeSet<String> {
        let pinned = mutants(scenario).into_iter().filter(|mutant| mutant.slip == "selector pinned");
        pinned.filter_map(|mutant| mutant.what.rsplit_once("pinned to ").map(|(_, label)| label.to_owned())).collect()
    }

    #[test]
    fn a_selector_is_pinned_to_the_labels_that_tell_the_versions_apart() {
        let canary = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/canary")).unwrap();
        assert_eq!(pinned(&canary), ["version=v1", "version=v2"].map(str::to_owned).into());
        let folder = tempfile::tempdir().unwrap();
        let other = with_other_labels(folder.path());
        assert_eq!(pinned(&other), ["track=next", "track=stable"].map(str::to_owned).into());
    }
}
