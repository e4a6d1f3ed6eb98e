use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::demo::{DemoImage, PROPAGATE};
use crate::scenario::{Manifest, Scenario, Stage, escaped};

/// The mutation operators, in the order of the report.
#[rustfmt::skip]
pub const MUTATION_OPERATORS: [&str; 45] = [
    "weights swapped", "weights moved by ten points", "header name changed", "header value changed",
    "match made case-insensitive", "match dropped", "rule order reversed", "default route lost",
    "subset name typo", "host typo", "gateway typo", "gateways left out", "section name typo", "server port changed", "credential typo",
    "redirect to HTTPS left out", "subset label changed", "selector pinned", "selector too wide",
    "port renamed tcp-", "port renamed http-", "no replicas", "wrong image", "canary and stable swapped", "step weight moved",
    "route name typo", "managed route missing", "subsets without hash", "client not injected", "object not applied",
    "canary steps changed", "mirror dropped", "fault left out", "source label changed", "source namespace changed",
    "export changed", "export left out", "headers not propagated", "hash key typo", "hash left out", "cookie lifetime left out",
    "server name typo", "outlier detection left out", "locality setting flipped", "session affinity left out",
];

/// The names that a scenario uses and that operators put in each other's place.
pub(super) struct Vocabulary {
    /// The images of Deployments.
    images: Vec<String>,
    /// The labels that distinguish versions.
    version_labels: BTreeSet<(String, String)>,
    /// Whether servers send requests on.
    has_chains: bool,
}

impl Vocabulary {
    pub fn of(scenario: &Scenario) -> Self {
        let applied: Vec<&Manifest> = scenario.stages.iter().flat_map(Stage::applied).collect();
        Self { images: images(&applied), version_labels: version_labels(&applied), has_chains: scenario.has_chains() }
    }
}

/// The images that Deployments run, in the order of the manifests.
fn images(applied: &[&Manifest]) -> Vec<String> {
    let mut images = Vec::new();
    for manifest in applied {
        if let Some(image) = manifest.at("/spec/template/spec/containers/0/image").and_then(Value::as_str)
            && !images.iter().any(|known| known == image)
        {
            images.push(image.to_owned());
        }
    }
    images
}

/// The labels that distinguish versions: those of the subsets of `DestinationRule`s, and those in which the pods behind one Service
/// differ.
fn version_labels(applied: &[&Manifest]) -> BTreeSet<(String, String)> {
    let labels = |value: Option<&Value>| -> BTreeMap<String, String> {
        let labels = value.and_then(Value::as_object).into_iter().flatten();
        labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    };
    let of_kind = |kind: &'static str| applied.iter().filter(move |manifest| manifest.kind() == kind);
    let mut found = BTreeSet::new();
    for rule in of_kind("DestinationRule") {
        for subset in rule.at("/spec/subsets").and_then(Value::as_array).into_iter().flatten() {
            found.extend(labels(subset.get("labels")));
        }
    }
    let pods: Vec<BTreeMap<String, String>> =
        of_kind("Deployment").map(|manifest| labels(manifest.at("/spec/template/metadata/labels"))).collect();
    let keys: BTreeSet<&String> = pods.iter().flat_map(BTreeMap::keys).collect();
    for service in of_kind("Service") {
        let selector = labels(service.at("/spec/selector"));
        for key in &keys {
            // the selector may already be pinned to one version by this label
            let unpinned: Vec<_> = selector.iter().filter(|(other, _)| other != key).collect();
            if unpinned.is_empty() {
                continue;
            }
            let behind =
                pods.iter().filter(|labels| unpinned.iter().all(|(key, value)| labels.get(*key) == Some(value)));
            let values: BTreeSet<&String> = behind.filter_map(|labels| labels.get(*key)).collect();
            if values.len() > 1 {
                found.extend(values.into_iter().map(|value| ((*key).clone(), value.clone())));
            }
        }
    }
    found
}

/// One application of a mutation operator to an object.
pub(super) struct Mutation {
    pub operator: &'static str,
    /// The changed field, as a JSON pointer.
    pub pointer: String,
    pub what: String,
    /// The new value of the field; none if the object is left out.
    pub value: Option<Value>,
}

/// Collects the mutations of one object.
struct Mutator<'a> {
    manifest: &'a Manifest,
    mutations: Vec<Mutation>,
}

impl Mutator<'_> {
    /// Replaces the value at a pointer. A value that is equal to the present one is no mutation.
    fn set(&mut self, operator: &'static str, pointer: &str, what: String, value: Value) {
        if self.value(pointer).is_some_and(|present| *present != value) {
            self.mutations.push(Mutation { operator, pointer: pointer.to_owned(), what, value: Some(value) });
        }
    }

    /// Misspells the name at a pointer, if there is one.
    fn misspell(&mut self, operator: &'static str, pointer: &str, what: &str) {
        if let Some(wrong) = self.value(pointer).and_then(Value::as_str).map(typo) {
            self.set(operator, pointer, format!("{what} `{wrong}`"), json!(wrong));
        }
    }

    /// Removes a key of the mapping at a pointer, if it is there.
    fn without(&mut self, operator: &'static str, pointer: &str, key: &str) {
        let mut rest = self.value(pointer).cloned().unwrap_or_default();
        rest.as_object_mut().map(|rest| rest.remove(key));
        self.set(operator, pointer, format!("without {key}"), rest);
    }

    fn value(&self, pointer: &str) -> Option<&Value> {
        self.manifest.at(pointer)
    }

    /// The items of the list at a pointer; empty if there is none.
    fn list(&self, pointer: &str) -> &[Value] {
        self.value(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn count(&self, pointer: &str) -> usize {
        self.list(pointer).len()
    }

    /// The entries of the mapping at a pointer; empty if there is none.
    fn entries(&self, pointer: &str) -> Map<String, Value> {
        self.value(pointer).and_then(Value::as_object).cloned().unwrap_or_default()
    }
}

/// Returns every mutation of an object.
pub(super) fn mutations(manifest: &Manifest, vocabulary: &Vocabulary) -> Vec<Mutation> {
    let mut mutator = Mutator { manifest, mutations: Vec::new() };
    match manifest.kind() {
        "VirtualService" => virtual_service(&mut mutator),
        "DestinationRule" => destination_rule(&mut mutator),
        "Service" => service(&mut mutator, &vocabulary.version_labels),
        "Deployment" => {
            deployment(&mut mutator, &vocabulary.images);
            if vocabulary.has_chains {
                lose_headers(&mut mutator);
            }
        }
        "HTTPRoute" | "GRPCRoute" => http_route(&mut mutator),
        "Gateway" if manifest.group() == "networking.istio.io" => gateway(&mut mutator),
        "Gateway" => kubernetes_gateway(&mut mutator),
        "Canary" => canary(&mut mutator),
        "Rollout" => rollout(&mut mutator, &vocabulary.images),
        _ => {}
    }
    let what = "left out".to_owned();
    mutator.mutations.push(Mutation { operator: "object not applied", pointer: String::new(), what, value: None });
    mutator.mutations
}

fn virtual_service(mutator: &mut Mutator<'_>) {
    let rules = mutator.count("/spec/http");
    if rules > 1 {
        let written = mutator.list("/spec/http").to_vec();
        let reversed = written.iter().rev().cloned().collect();
        mutator.set("rule order reversed", "/spec/http", "rules in reverse".to_owned(), Value::Array(reversed));
        let rest = written.into_iter().filter(|rule| rule.get("match").is_some()).collect();
        mutator.set("default route lost", "/spec/http", "without its default route".to_owned(), Value::Array(rest));
    }
    mutator.misspell("host typo", "/spec/hosts/0", "host");
    for gateway in 0..mutator.count("/spec/gateways") {
        mutator.misspell("gateway typo", &format!("/spec/gateways/{gateway}"), "gateway");
    }
    mutator.without("gateways left out", "/spec", "gateways");
    exports(mutator);
    for key in ["tcp", "tls"] {
        for rule in 0..mutator.count(&format!("/spec/{key}")) {
            let rule = format!("/spec/{key}/{rule}");
            destinations(mutator, &rule);
            for one in 0..mutator.count(&format!("{rule}/match")) {
                for name in 0..mutator.count(&format!("{rule}/match/{one}/sniHosts")) {
                    mutator.misspell("server name typo", &format!("{rule}/match/{one}/sniHosts/{name}"), "server name");
                }
            }
        }
    }
    for rule in 0..rules {
        let rule = format!("/spec/http/{rule}");
        destinations(mutator, &rule);
        mutator.without("fault left out", &rule, "fault");
        for one in 0..mutator.count(&format!("{rule}/match")) {
            matches(mutator, &format!("{rule}/match/{one}"));
        }
        if mutator.count(&format!("{rule}/match")) > 0 {
            let mut without = mutator.value(&rule).cloned().unwrap_or_default();
            without.as_object_mut().map(|rule| rule.remove("match"));
            mutator.set("match dropped", &rule, "without its match".to_owned(), without);
        }
    }
}

/// Changes where a rule sends requests or connections, and in what shares.
fn destinations(mutator: &mut Mutator<'_>, rule: &str) {
    weights(mutator, &format!("{rule}/route"));
    for entry in 0..mutator.count(&format!("{rule}/route")) {
        let destination = format!("{rule}/route/{entry}/destination");
        mutator.misspell("host typo", &format!("{destination}/host"), "host");
        mutator.misspell("subset name typo", &format!("{destination}/subset"), "subset");
    }
}

/// Changes the namespaces that see a rule.
fn exports(mutator: &mut Mutator<'_>) {
    let exports = mutator.list("/spec/exportTo").to_vec();
    for (index, namespace) in exports.iter().enumerate() {
        let pointer = format!("/spec/exportTo/{index}");
        match namespace.as_str() {
            Some("." | "*") => {}
            _ => mutator.misspell("export changed", &pointer, "exported to"),
        }
    }
    mutator.without("export left out", "/spec", "exportTo");
}

fn matches(mutator: &mut Mutator<'_>, pointer: &str) {
    let headers = format!("{pointer}/headers");
    let written = mutator.entries(&headers);
    for (name, test) in &written {
        let other = format!("x-{name}");
        let mut renamed = written.clone();
        renamed.remove(name);
        renamed.insert(other.clone(), test.clone());
        mutator.set("header name changed", &headers, format!("header `{other}`"), Value::Object(renamed));
        for kind in ["exact", "prefix", "regex"] {
            let Some(value) = test[kind].as_str() else { continue };
            let pointer = format!("{headers}/{}", escaped(name));
            mutator.misspell("header value changed", &format!("{pointer}/{kind}"), "value");
            if kind == "exact" {
                let any = format!("(?i){value}");
                mutator.set("match made case-insensitive", &pointer, format!("regex `{any}`"), json!({"regex": any}));
            }
        }
    }
    let source = format!("{pointer}/sourceLabels");
    for key in mutator.entries(&source).keys() {
        mutator.misspell("source label changed", &format!("{source}/{}", escaped(key)), key);
    }
    mutator.misspell("source namespace changed", &format!("{pointer}/sourceNamespace"), "namespace");
    let uri = format!("{pointer}/uri");
    if mutator.value(&uri).is_some() {
        let mut any = mutator.value(pointer).cloned().unwrap_or_default();
        any["ignoreUriCase"] = json!(true);
        mutator.set("match made case-insensitive", pointer, "the path in any case".to_owned(), any);
    }
}

/// Swaps weights, and moves them by ten points.
fn weights(mutator: &mut Mutator<'_>, list: &str) {
    let written: Vec<u64> = mutator.list(list).iter().map(|entry| entry["weight"].as_u64().unwrap_or(0)).collect();
    let [first, .., other] = written[..] else { return };
    let with = |mutator: &Mutator<'_>, changed: [u64; 2]| {
        let mut entries = mutator.value(list).cloned().unwrap_or_default();
        entries[0]["weight"] = json!(changed[0]);
        entries[written.len() - 1]["weight"] = json!(changed[1]);
        entries
    };
    let swapped = with(mutator, [other, first]);
    mutator.set("weights swapped", list, format!("weights {other} and {first}"), swapped);
    let total: u64 = written.iter().sum();
    let tenth = total.div_ceil(10);
    let moved = if other >= tenth { [first + tenth, other - tenth] } else { [first - tenth.min(first), other + tenth] };
    let what = format!("weights {} and {} instead of {first} and {other}", moved[0], moved[1]);
    let entries = with(mutator, moved);
    mutator.set("weights moved by ten points", list, what, entries);
}

fn destination_rule(mutator: &mut Mutator<'_>) {
    exports(mutator);
    mutator.misspell("host typo", "/spec/host", "host");
    traffic_policy(mutator, "/spec");
    for subset in 0..mutator.count("/spec/subsets") {
        traffic_policy(mutator, &format!("/spec/subsets/{subset}"));
        mutator.misspell("subset name typo", &format!("/spec/subsets/{subset}/name"), "subset");
        let labels = format!("/spec/subsets/{subset}/labels");
        for (key, value) in mutator.entries(&labels) {
            let pointer = format!("{labels}/{}", escaped(&key));
            let wrong = typo(value.as_str().unwrap_or_default());
            mutator.set("subset label changed", &pointer, format!("{key}={wrong}"), json!(wrong));
        }
    }
}

/// Changes how an endpoint of a host or a subset is chosen.
fn traffic_policy(mutator: &mut Mutator<'_>, of: &str) {
    let policy = format!("{of}/trafficPolicy");
    let balancer = format!("{policy}/loadBalancer");
    hash(mutator, &balancer);
    match mutator.entries(&policy).keys().map(String::as_str).collect::<Vec<_>>()[..] {
        // the API refuses an empty policy
        ["outlierDetection"] => mutator.without("outlier detection left out", of, "trafficPolicy"),
        _ => mutator.without("outlier detection left out", &policy, "outlierDetection"),
    }
    let enabled = format!("{balancer}/localityLbSetting/enabled");
    if let Some(is_enabled) = mutator.value(&enabled).and_then(Value::as_bool) {
        let what = format!("enabled: {}", !is_enabled);
        mutator.set("locality setting flipped", &enabled, what, json!(!is_enabled));
    }
}

/// Another key of a hash, a cookie that is not set, and no hash.
fn hash(mutator: &mut Mutator<'_>, balancer: &str) {
    for key in ["httpHeaderName", "httpQueryParameterName", "httpCookie/name"] {
        let what = key.split('/').next().unwrap_or(key);
        mutator.misspell("hash key typo", &format!("{balancer}/consistentHash/{key}"), what);
    }
    mutator.without("cookie lifetime left out", &format!("{balancer}/consistentHash/httpCookie"), "ttl");
    mutator.without("hash left out", balancer, "consistentHash");
}

fn service(mutator: &mut Mutator<'_>, labels: &BTreeSet<(String, String)>) {
    let selector = mutator.entries("/spec/selector");
    for (key, value) in labels {
        let mut pinned = selector.clone();
        pinned.insert(key.clone(), json!(value));
        mutator.set("selector pinned", "/spec/selector", format!("pinned to {key}={value}"), Value::Object(pinned));
    }
    if selector.len() > 1 {
        for key in selector.keys() {
            let mut wide = selector.clone();
            wide.remove(key);
            mutator.set("selector too wide", "/spec/selector", format!("without {key}"), Value::Object(wide));
        }
    }
    for port in 0..mutator.count("/spec/ports") {
        let pointer = format!("/spec/ports/{port}");
        let mut renamed = mutator.value(&pointer).cloned().unwrap_or_default();
        let name = renamed["name"].as_str().unwrap_or("port").to_owned();
        let operators = [("port renamed tcp-", "tcp"), ("port renamed http-", "http")];
        let operators = match name.split('-').next() {
            // servers of gRPC need HTTP/2
            Some("grpc" | "http2") => &operators[..],
            Some("tcp") => &operators[1..],
            _ => &operators[..1],
        };
        for (operator, protocol) in operators {
            renamed["name"] = json!(format!("{protocol}-{name}"));
            mutator.set(operator, &pointer, format!("port `{protocol}-{name}`"), renamed.clone());
        }
    }
}

fn deployment(mutator: &mut Mutator<'_>, images: &[String]) {
    let mut spec = mutator.value("/spec").cloned().unwrap_or_default();
    spec["replicas"] = json!(0);
    mutator.set("no replicas", "/spec", "0 replicas".to_owned(), spec);
    let pointer = "/spec/template/spec/containers/0/image";
    let present = mutator.value(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    for image in images.iter().filter(|image| **image != present) {
        mutator.set("wrong image", pointer, format!("image `{image}`"), json!(image));
    }
}

/// Has a demo server send requests on without their headers.
fn lose_headers(mutator: &mut Mutator<'_>) {
    let pointer = "/spec/template/spec/containers/0";
    let mut container = mutator.value(pointer).cloned().unwrap_or_default();
    if container["image"].as_str().is_none_or(|image| DemoImage::find(image).is_none()) {
        return;
    }
    let env = container["env"].as_array().cloned().unwrap_or_default();
    let mut env: Vec<Value> = env.into_iter().filter(|variable| variable["name"] != PROPAGATE).collect();
    env.push(json!({"name": PROPAGATE, "value": "false"}));
    container["env"] = Value::Array(env);
    mutator.set("headers not propagated", pointer, format!("{PROPAGATE} is `false`"), container);
}

/// Changes the steps, the mirror and the matches of a Canary, and leaves out what keeps its sessions.
fn canary(mutator: &mut Mutator<'_>) {
    let analysis = "/spec/analysis";
    for key in ["stepWeight", "maxWeight"] {
        let pointer = format!("{analysis}/{key}");
        let Some(weight) = mutator.value(&pointer).and_then(Value::as_u64) else { continue };
        let other = if weight > 90 { weight - 10 } else { weight + 10 };
        mutator.set("canary steps changed", &pointer, format!("{key} {other} instead of {weight}"), json!(other));
    }
    let mirror = format!("{analysis}/mirror");
    if mutator.value(&mirror) == Some(&json!(true)) {
        mutator.set("mirror dropped", &mirror, "without its mirror".to_owned(), json!(false));
    }
    for one in 0..mutator.count(&format!("{analysis}/match")) {
        matches(mutator, &format!("{analysis}/match/{one}"));
    }
    mutator.without("session affinity left out", analysis, "sessionAffinity");
}

/// A Rollout of Argo Rollouts: its pods as those of a Deployment, and how it moves traffic.
fn rollout(mutator: &mut Mutator<'_>, images: &[String]) {
    deployment(mutator, images);
    let canary = "/spec/strategy/canary";
    let routing = format!("{canary}/trafficRouting");
    let rule = format!("{routing}/istio/destinationRule");
    for (parent, [one, other]) in
        [(canary, ["canaryService", "stableService"]), (rule.as_str(), ["canarySubsetName", "stableSubsetName"])]
    {
        let mut swapped = mutator.value(parent).cloned().unwrap_or_default();
        let (Some(first), Some(second)) = (swapped.get(one).cloned(), swapped.get(other).cloned()) else { continue };
        (swapped[one], swapped[other]) = (second, first);
        mutator.set("canary and stable swapped", parent, format!("{one} and {other} swapped"), swapped);
    }
    for step in 0..mutator.count(&format!("{canary}/steps")) {
        let pointer = format!("{canary}/steps/{step}/setWeight");
        let Some(weight) = mutator.value(&pointer).and_then(Value::as_u64) else { continue };
        let moved = if weight >= 10 { weight - 10 } else { weight + 10 };
        let what = format!("weight {moved} instead of {weight} in step {step}");
        mutator.set("step weight moved", &pointer, what, json!(moved));
    }
    let services = format!("{routing}/istio/virtualService");
    mutator.misspell("route name typo", &format!("{services}/routes/0"), "route");
    mutator.without("managed route missing", &routing, "managedRoutes");
    mutator.without("subsets without hash", &format!("{routing}/istio"), "destinationRule");
}

fn gateway(mutator: &mut Mutator<'_>) {
    for server in 0..mutator.count("/spec/servers") {
        let server = format!("/spec/servers/{server}");
        for host in 0..mutator.count(&format!("{server}/hosts")) {
            mutator.misspell("host typo", &format!("{server}/hosts/{host}"), "host");
        }
        mutator.misspell("credential typo", &format!("{server}/tls/credentialName"), "credential");
        if mutator.value(&format!("{server}/tls/httpsRedirect")) == Some(&json!(true)) {
            mutator.without("redirect to HTTPS left out", &server, "tls");
        }
        other_port(mutator, &format!("{server}/port/number"));
    }
}

fn other_port(mutator: &mut Mutator<'_>, pointer: &str) {
    let Some(number) = mutator.value(pointer).and_then(Value::as_u64) else { return };
    let other = if number < 8000 { number + 8000 } else { number - 8000 };
    mutator.set("server port changed", pointer, format!("port {other} instead of {number}"), json!(other));
}

/// Changes the listeners of a gateway of the Gateway API.
fn kubernetes_gateway(mutator: &mut Mutator<'_>) {
    for listener in 0..mutator.count("/spec/listeners") {
        let listener = format!("/spec/listeners/{listener}");
        mutator.misspell("host typo", &format!("{listener}/hostname"), "host");
        mutator.misspell("section name typo", &format!("{listener}/name"), "listener");
        mutator.misspell("credential typo", &format!("{listener}/tls/certificateRefs/0/name"), "credential");
        other_port(mutator, &format!("{listener}/port"));
    }
}

fn http_route(mutator: &mut Mutator<'_>) {
    for host in 0..mutator.count("/spec/hostnames") {
        mutator.misspell("host typo", &format!("/spec/hostnames/{host}"), "host");
    }
    for parent in 0..mutator.count("/spec/parentRefs") {
        let parent = format!("/spec/parentRefs/{parent}");
        if mutator.value(&format!("{parent}/kind")).is_none_or(|kind| kind == "Gateway") {
            mutator.misspell("gateway typo", &format!("{parent}/name"), "gateway");
        }
        mutator.misspell("section name typo", &format!("{parent}/sectionName"), "listener");
    }
    for rule in 0..mutator.count("/spec/rules") {
        let written = format!("/spec/rules/{rule}");
        for one in 0..mutator.count(&format!("{written}/matches")) {
            for header in 0..mutator.count(&format!("{written}/matches/{one}/headers")) {
                let header = format!("{written}/matches/{one}/headers/{header}");
                mutator.misspell("header name changed", &format!("{header}/name"), "header");
                mutator.misspell("header value changed", &format!("{header}/value"), "value");
            }
        }
        let mut without = mutator.value(&written).cloned().unwrap_or_default();
        if without.as_object_mut().and_then(|rule| rule.remove("matches")).is_some() {
            mutator.set("match dropped", &written, "without its matches".to_owned(), without);
        }
        let backends = format!("/spec/rules/{rule}/backendRefs");
        weights(mutator, &backends);
        for backend in 0..mutator.count(&backends) {
            mutator.misspell("host typo", &format!("{backends}/{backend}/name"), "backend");
        }
    }
}

/// The name with its last letter or digit doubled; signs behind it, as in a regular expression, stay.
fn typo(name: &str) -> String {
    let last = name.char_indices().rev().find(|(_, character)| character.is_alphanumeric());
    let (at, last) = last.map_or((name.len(), 'x'), |(at, last)| (at + last.len_utf8(), last));
    format!("{}{last}{}", &name[..at], &name[at..])
}
