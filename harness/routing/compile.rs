use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use thiserror::Error;

use super::table::{Cluster, Condition, Route, RouteTable, Subject, Test, Unit};
use crate::scenario::{Manifest, Origin};

/// The domain of cluster-internal names.
const DOMAIN: &str = "svc.cluster.local";

/// The objects that a scenario has applied and not deleted again, as written.
#[derive(Debug, Clone, Default)]
pub struct Live(BTreeMap<(String, String), Manifest>);

impl Live {
    /// An object was applied.
    pub fn apply(&mut self, manifest: &Manifest) {
        self.0.insert((manifest.kind().to_lowercase(), manifest.name().to_owned()), manifest.clone());
    }

    /// An object was deleted; the kind in any case, singular or plural.
    pub fn delete(&mut self, kind: &str, name: &str) {
        let kind = kind.to_lowercase();
        self.0.retain(|(own, other), _| {
            other != name
                || !(*own == kind
                    || format!("{own}s") == kind
                    || own.strip_suffix('y').is_some_and(|stem| format!("{stem}ies") == kind))
        });
    }

    /// The object of that kind and name.
    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Option<&Manifest> {
        self.0.get(&(kind.to_lowercase(), name.to_owned()))
    }

    /// All objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Manifest> {
        self.0.values().filter(move |manifest| manifest.kind() == kind)
    }
}

/// Why no route table can be computed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RoutingError {
    /// The service is not among the objects.
    #[error("no Service `{0}` is applied")]
    NoService(String),
    /// The objects say something that is not modelled.
    #[error("{origin}: not modelled: {field}")]
    NotModelled {
        /// Where the object is written.
        origin: Origin,
        /// The field.
        field: String,
    },
}

/// The route table that these objects give a client in the same namespace for one port of a service. `endpoints` tells the addresses of the
/// ready pods that carry all of the given labels.
///
/// Modelled are Service selectors, ports that are declared as TCP (their connections are balanced over all endpoints, and `http` rules
/// are not used), the `DestinationRule` of the service with its subsets, and the `VirtualService` of the service
/// with `http` rules that match headers and paths and route by weight.
///
/// # Errors
/// There is no such Service, or the objects use a field that is not modelled.
pub fn compile(
    live: &Live,
    namespace: &str,
    service: &str,
    port: u16,
    endpoints: impl Fn(&BTreeMap<String, String>) -> BTreeSet<String>,
) -> Result<RouteTable, RoutingError> {
    let object = live.get("Service", service).ok_or_else(|| RoutingError::NoService(service.to_owned()))?;
    let selector = labels(object.object.data.pointer("/spec/selector"));
    let host = full_name(service, namespace);
    let unit = if tcp_port(object, port).is_some() { Unit::Connection } else { Unit::Request };
    let routes = match rule_for(live, namespace, service) {
        Some(rule) => virtual_service(rule, namespace).map(|routes| (unit == Unit::Request).then_some(routes))?,
        None => None,
    };
    let to_all =
        || Route { conditions: BTreeSet::new(), clusters: vec![(Cluster { host: host.clone(), subset: None }, 1)] };
    let mut table = RouteTable { unit, routes: routes.unwrap_or_else(|| vec![to_all()]), endpoints: BTreeMap::new() };
    for (cluster, _) in table.routes.iter().flat_map(|route| &route.clusters) {
        let mut wanted = selector.clone();
        let addresses = match &cluster.subset {
            Some(subset) => match subset_labels(live, namespace, &cluster.host, subset) {
                Some(labels) if contradicts(&selector, &labels) => BTreeSet::new(),
                Some(labels) => {
                    wanted.extend(labels);
                    endpoints(&wanted)
                }
                // a subset that no DestinationRule defines is a cluster that does not exist
                None => BTreeSet::new(),
            },
            None => endpoints(&wanted),
        };
        table.endpoints.insert(cluster.clone(), addresses);
    }
    Ok(table)
}

/// The `VirtualService` for a service.
pub(super) fn rule_for<'a>(live: &'a Live, namespace: &str, service: &str) -> Option<&'a Manifest> {
    let host = full_name(service, namespace);
    live.of_kind("VirtualService").find(|rule| hosts(rule).any(|name| full_name(name, namespace) == host))
}

/// How a service port is declared as TCP, if it is: by `appProtocol`, or by a name that is `tcp` or begins with `tcp-`.
pub(super) fn tcp_port(service: &Manifest, port: u16) -> Option<String> {
    let ports = service.object.data.pointer("/spec/ports").and_then(Value::as_array);
    let found = ports.into_iter().flatten().find(|candidate| candidate["port"] == port)?;
    let is_tcp = |text: &str| text.eq_ignore_ascii_case("tcp");
    match (found["appProtocol"].as_str(), found["name"].as_str()) {
        (Some(protocol), _) => is_tcp(protocol).then(|| format!("has the appProtocol `{protocol}`")),
        (None, Some(name)) => is_tcp(name.split('-').next().unwrap_or(name)).then(|| format!("is named `{name}`")),
        (None, None) => None,
    }
}

/// The labels of a subset, from the `DestinationRule` of its host.
pub(super) fn subset_labels(
    live: &Live,
    namespace: &str,
    host: &str,
    subset: &str,
) -> Option<BTreeMap<String, String>> {
    let rule = destination_rule(live, namespace, host)?;
    let subsets = rule.object.data.pointer("/spec/subsets")?.as_array()?;
    let found = subsets.iter().find(|candidate| candidate["name"] == subset)?;
    Some(labels(found.get("labels")))
}

/// How many pods the Service selects among the Deployments' replicas, by the pods' label `version`, or by the Deployment's name
/// where they carry none: what answers if no route takes part.
#[must_use]
pub fn replicas(live: &Live, service: &str) -> BTreeMap<String, u64> {
    let mut replicas = BTreeMap::new();
    let Some(service) = live.get("Service", service) else { return replicas };
    let selector = labels(service.object.data.pointer("/spec/selector"));
    for deployment in live.of_kind("Deployment") {
        let data = &deployment.object.data;
        let pods = labels(data.pointer("/spec/template/metadata/labels"));
        if selector.iter().all(|(key, value)| pods.get(key) == Some(value)) {
            let name = pods.get("version").cloned().unwrap_or_else(|| deployment.name().to_owned());
            let count = data.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
            *replicas.entry(name).or_default() += count;
        }
    }
    replicas
}

pub(super) fn destination_rule<'a>(live: &'a Live, namespace: &str, host: &str) -> Option<&'a Manifest> {
    live.of_kind("DestinationRule").find(|rule| {
        rule.object
            .data
            .pointer("/spec/host")
            .and_then(Value::as_str)
            .is_some_and(|name| full_name(name, namespace) == host)
    })
}

pub(super) fn labels(value: Option<&Value>) -> BTreeMap<String, String> {
    let pairs = value.and_then(Value::as_object).into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether no pod can carry both sets of labels.
pub(super) fn contradicts(left: &BTreeMap<String, String>, right: &BTreeMap<String, String>) -> bool {
    left.iter().any(|(key, value)| right.get(key).is_some_and(|other| other != value))
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.matches('.').count() {
        0 => format!("{name}.{namespace}.{DOMAIN}"),
        _ => name.to_owned(),
    }
}

fn hosts(rule: &Manifest) -> impl Iterator<Item = &str> {
    rule.object.data.pointer("/spec/hosts").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn virtual_service(rule: &Manifest, namespace: &str) -> Result<Vec<Route>, RoutingError> {
    let not_modelled = |field: String| RoutingError::NotModelled { origin: rule.origin.clone(), field };
    let spec = rule.object.data.get("spec").and_then(Value::as_object);
    for key in spec.into_iter().flat_map(Map::keys) {
        if !["hosts", "http"].contains(&key.as_str()) {
            return Err(not_modelled(format!("spec.{key}")));
        }
    }
    let rules = rule.object.data.pointer("/spec/http").and_then(Value::as_array);
    let mut routes = Vec::new();
    for (index, http) in rules.into_iter().flatten().enumerate() {
        for key in http.as_object().into_iter().flat_map(Map::keys) {
            if !["name", "match", "route"].contains(&key.as_str()) {
                return Err(not_modelled(format!("spec.http[{index}].{key}")));
            }
        }
        let clusters = destinations(&http["route"], namespace)
            .map_err(|key| not_modelled(format!("spec.http[{index}].route{key}")))?;
        match http.get("match").and_then(Value::as_array) {
            None => routes.push(Route { conditions: BTreeSet::new(), clusters }),
            Some(blocks) => {
                for (block, conditions) in blocks.iter().enumerate() {
                    let conditions = match_block(conditions)
                        .map_err(|key| not_modelled(format!("spec.http[{index}].match[{block}].{key}")))?;
                    routes.push(Route { conditions, clusters: clusters.clone() });
                }
            }
        }
    }
    // behind a route for every request the others are not sent
    if let Some(last) = routes.iter().position(|route| route.conditions.is_empty()) {
        routes.truncate(last + 1);
    }
    Ok(routes)
}

/// The clusters of a rule with their weights; the error is the field that is not modelled.
fn destinations(route: &Value, namespace: &str) -> Result<Vec<(Cluster, u32)>, String> {
    let entries = route.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut clusters = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        for key in entry.as_object().into_iter().flat_map(Map::keys) {
            if !["destination", "weight"].contains(&key.as_str()) {
                return Err(format!("[{index}].{key}"));
            }
        }
        let destination = &entry["destination"];
        let host = destination["host"].as_str().unwrap_or_default();
        let subset = destination["subset"].as_str().map(ToOwned::to_owned);
        // a weight that is not written counts in full only where it stands alone
        let default = u64::from(entries.len() == 1);
        let weight = entry["weight"].as_u64().unwrap_or(default);
        let cluster = Cluster { host: full_name(host, namespace), subset };
        clusters.push((cluster, u32::try_from(weight).unwrap_or(u32::MAX)));
    }
    if clusters.len() > 1 {
        clusters.retain(|(_, weight)| *weight > 0);
    }
    if let [(_, weight)] = clusters.as_mut_slice() {
        // a single destination gets everything, whatever its weight
        *weight = 1;
    }
    Ok(clusters)
}

fn match_block(block: &Value) -> Result<BTreeSet<Condition>, String> {
    let mut conditions = BTreeSet::new();
    for (key, value) in block.as_object().into_iter().flatten() {
        match key.as_str() {
            "name" => {}
            "headers" => {
                for (name, test) in value.as_object().into_iter().flatten() {
                    let test = string_match(test).ok_or_else(|| format!("headers.{name}"))?;
                    conditions.insert(Condition { subject: Subject::Header(name.to_lowercase()), test });
                }
            }
            "uri" => {
                let test = string_match(value).ok_or("uri")?;
                conditions.insert(Condition { subject: Subject::Path, test });
            }
            other => return Err(other.to_owned()),
        }
    }
    Ok(conditions)
}

fn string_match(value: &Value) -> Option<Test> {
    let fields = value.as_object()?;
    let Some((kind, text)) = fields.iter().next() else { return Some(Test::Present) };
    let text = text.as_str()?.to_owned();
    match (kind.as_str(), fields.len()) {
        ("exact", 1) => Some(Test::Exact(text)),
        ("prefix", 1) => Some(Test::Prefix(text)),
        ("regex", 1) => Some(Test::Regex(text)),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::scenario::read_manifests;

    pub fn live(files: &[&str]) -> Live {
        let mut live = Live::default();
        for file in files {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/canary").join(file);
            for mut manifest in read_manifests(&path).unwrap() {
                manifest.origin.path = file.into();
                live.apply(&manifest);
            }
        }
        live
    }

    /// Two ready pods of each version.
    pub fn pods(wanted: &BTreeMap<String, String>) -> BTreeSet<String> {
        [("v1", "10.0.0.1"), ("v1", "10.0.0.2"), ("v2", "10.0.0.3"), ("v2", "10.0.0.4")]
            .into_iter()
            .filter(|(version, _)| wanted.get("version").is_none_or(|wanted| wanted == version))
            .map(|(_, address)| address.to_owned())
            .collect()
    }

    fn shown(files: &[&str]) -> Vec<String> {
        compile(&live(files), "canary", "svc-hello", 8080, pods).unwrap().lines()
    }

    #[test]
    fn a_service_alone_routes_to_all_that_it_selects() {
        assert_eq!(
            shown(&["svc-hello.yaml"]),
            [
                "route 1: any request to svc-hello.canary.svc.cluster.local",
                "endpoints of svc-hello.canary.svc.cluster.local: 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4",
            ]
        );
    }

    #[test]
    fn http_rules_are_not_used_on_a_tcp_port() {
        assert_eq!(
            shown(&["../canary-tcp-port/svc-hello.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"]),
            [
                "route of connections 1: any request to svc-hello.canary.svc.cluster.local",
                "endpoints of svc-hello.canary.svc.cluster.local: 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4",
            ]
        );
    }

    #[rstest]
    #[case(json!({"port": 8080, "name": "tcp"}), true)]
    #[case(json!({"port": 8080, "name": "tcp-hello"}), true)]
    #[case(json!({"port": 8080, "name": "tcpish"}), false)]
    #[case(json!({"port": 8080, "name": "http-hello"}), false)]
    #[case(json!({"port": 8080, "name": "tcp-hello", "appProtocol": "http"}), false)]
    #[case(json!({"port": 8080, "name": "http", "appProtocol": "tcp"}), true)]
    #[case(json!({"port": 9090, "name": "tcp"}), false)]
    #[case(json!({"port": 8080}), false)]
    fn a_port_is_tcp_by_its_protocol_or_its_name(#[case] port: Value, #[case] tcp: bool) {
        let mut live = live(&["svc-hello.yaml"]);
        let mut service = live.get("Service", "svc-hello").unwrap().clone();
        service.object.data["spec"]["ports"] = json!([port]);
        live.apply(&service);
        assert_eq!(tcp_port(&service, 8080).is_some(), tcp);
    }

    #[test]
    fn testers_are_split_and_everyone_else_gets_v1() {
        assert_eq!(
            shown(&["svc-hello.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"]),
            [
                "route 1: end-user is `testers` to subset v1 of svc-hello.canary.svc.cluster.local (50), subset v2 of svc-hello.canary.svc.cluster.local (50)",
                "route 2: any request to subset v1 of svc-hello.canary.svc.cluster.local",
                "endpoints of subset v1 of svc-hello.canary.svc.cluster.local: 10.0.0.1, 10.0.0.2",
                "endpoints of subset v2 of svc-hello.canary.svc.cluster.local: 10.0.0.3, 10.0.0.4",
            ]
        );
    }

    #[test]
    fn a_pinned_selector_leaves_the_other_subset_without_endpoints() {
        let lines = shown(&["svc-hello-v1.yaml", "dr-hello.yaml", "vs-hello-testers.yaml"]);
        assert_eq!(lines[3], "endpoints of subset v2 of svc-hello.canary.svc.cluster.local: none");
    }

    #[test]
    fn replicas_are_those_that_the_service_selects() {
        let counted = |files: &[&str]| replicas(&live(files), "svc-hello").into_iter().collect::<Vec<_>>();
        let both = [("v1".to_owned(), 2), ("v2".to_owned(), 2)];
        assert_eq!(counted(&["svc-hello.yaml", "hello-server-v1.yaml", "hello-server-v2.yaml"]), both);
        assert_eq!(counted(&["svc-hello-v1.yaml", "hello-server-v1.yaml", "hello-server-v2.yaml"]), both[..1]);
        let unlabelled = [("hello-server-v1".to_owned(), 2)];
        assert_eq!(counted(&["svc-hello.yaml", "hello-server-v1-first.yaml"]), unlabelled);
        assert_eq!(counted(&["hello-server-v1.yaml"]), []);
    }

    #[test]
    fn what_is_not_modelled_is_named() {
        let mut live = live(&["svc-hello.yaml", "vs-hello-rollback.yaml"]);
        let mut rule = live.get("VirtualService", "vs-hello").unwrap().clone();
        rule.object.data["spec"]["http"][0]["corsPolicy"] = Value::Bool(true);
        live.apply(&rule);
        let error = compile(&live, "canary", "svc-hello", 8080, pods).unwrap_err();
        assert_eq!(error.to_string(), "vs-hello-rollback.yaml:1: not modelled: spec.http[0].corsPolicy");
    }

    #[test]
    fn deleted_objects_no_longer_count() {
        let mut live = live(&["svc-hello.yaml", "vs-hello-rollback.yaml"]);
        live.delete("virtualservices", "vs-hello");
        live.delete("Service", "svc-hello");
        assert_eq!(
            compile(&live, "canary", "svc-hello", 8080, pods),
            Err(RoutingError::NoService("svc-hello".to_owned()))
        );
    }
}
