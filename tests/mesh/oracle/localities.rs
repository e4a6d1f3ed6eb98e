//! Policies that have clients prefer the nearest endpoints, in every place of a client.

use shiftcheck::routing::{Live, client_of};
use shiftcheck::scenario::parse_manifests;

use super::agree;
use super::istiod::Case;

/// The places of clients, the first of which is not told: a label, or none.
const CLIENTS: [&str; 6] = ["", "r.a", "r.a.1", "r.c", "s.a", "u.a"];

/// The places of the pods: labels, and the region and zone of a node.
const PODS: [(&str, &str); 6] =
    [("v1", "r.a"), ("v1", "r.a.1"), ("v2", "r.b"), ("v2", "s.a"), ("v3", "t.a"), ("v3", "node r.b")];

/// Policies of a host, and of its subset v2.
const POLICIES: [[&str; 2]; 12] = [
    ["{outlierDetection: {consecutive5xxErrors: 3}}", ""],
    ["{loadBalancer: {localityLbSetting: {enabled: true}}}", ""],
    ["{outlierDetection: {consecutive5xxErrors: 3}, loadBalancer: {localityLbSetting: {enabled: false}}}", ""],
    [
        "{outlierDetection: {consecutive5xxErrors: 3}, loadBalancer: {localityLbSetting: {enabled: false}}}",
        "{loadBalancer: {simple: RANDOM}}",
    ],
    ["{loadBalancer: {simple: RANDOM}}", "{outlierDetection: {consecutive5xxErrors: 3}}"],
    ["{outlierDetection: {consecutive5xxErrors: 3}}", "{loadBalancer: {localityLbSetting: {enabled: false}}}"],
    ["{outlierDetection: {consecutive5xxErrors: 3}}", "{connectionPool: {tcp: {maxConnections: 3}}}"],
    ["{portLevelSettings: [{port: {number: 80}, outlierDetection: {consecutive5xxErrors: 3}}]}", ""],
    [
        "{outlierDetection: {consecutive5xxErrors: 3}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}",
        "",
    ],
    [
        "{outlierDetection: {consecutive5xxErrors: 3}}",
        "{portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}",
    ],
    [
        "{outlierDetection: {consecutive5xxErrors: 3}, loadBalancer: {localityLbSetting: {failover: [{from: r, to: t}, {from: s, to: r}]}}}",
        "",
    ],
    [
        "{outlierDetection: {consecutive5xxErrors: 3}, loadBalancer: {localityLbSetting: {failover: [{from: u, to: s}]}}}",
        "{loadBalancer: {consistentHash: {useSourceIp: true}}}",
    ],
];

pub(super) fn nearest_endpoints_are_preferred_as_istiod_says() {
    let cases = POLICIES.iter().flat_map(|policies| CLIENTS.iter().map(|client| case(client, policies)));
    agree(&cases.collect::<Vec<_>>());
}

fn pod(name: &str, labels: &str, place: &str) -> String {
    let (label, selector) = match place.strip_prefix("node ").and_then(|place| place.split_once('.')) {
        Some((region, zone)) => {
            (String::new(), format!("topology.kubernetes.io/region: {region}, topology.kubernetes.io/zone: {zone}"))
        }
        None if place.is_empty() => (String::new(), String::new()),
        None => (format!(", istio-locality: {place}"), String::new()),
    };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{{labels}{label}}}}}\n\
         spec: {{nodeSelector: {{{selector}}}, containers: [{{name: a, image: 'a:1'}}]}}\n"
    )
}

fn case(client: &str, [of_host, of_subset]: &[&str; 2]) -> Case {
    let name = format!("a client in `{client}`, {of_host}, {of_subset}");
    let of_subset = if of_subset.is_empty() { String::new() } else { format!(", trafficPolicy: {of_subset}") };
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: svc}}\nspec: {{selector: {{app: a}}, ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: dr}}\n\
         spec: {{host: svc, trafficPolicy: {of_host}, subsets: [{{name: v2, labels: {{version: v2}}{of_subset}}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\n\
         spec: {{hosts: [svc], http: [{{route: [{{destination: {{host: svc, subset: v2}}, weight: 30}}, {{destination: {{host: svc}}, weight: 70}}]}}]}}\n"
    );
    text.push_str(&pod("client", "app: client", client));
    for (number, (version, place)) in PODS.iter().enumerate() {
        text.push_str(&pod(&format!("pod-{number}"), &format!("app: a, version: {version}"), place));
    }
    let mut live = Live::new("here", "here");
    parse_manifests("localities.yaml".as_ref(), &text).unwrap().iter().for_each(|manifest| live.apply(manifest));
    Case { name, client: client_of(&live, "client").unwrap(), live }
}
