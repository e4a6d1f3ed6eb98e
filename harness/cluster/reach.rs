//! The effects of objects outside of the run's namespace. Istio applies many objects to other namespaces: a `VirtualService` for a host of
//! another namespace changes the requests of every client in the mesh.

use serde_json::{Value, json};

use crate::events::Reach;
use crate::scenario::{ApiKind, Manifest, Scenario, Scope};

/// Istio's root namespace on a throwaway cluster.
const ROOT: &str = "istio-system";
/// The suffix of full service names.
const LOCAL: &str = "svc.cluster.local";

/// The namespaces that limit the effects of objects.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// The run's namespace on the cluster.
    pub namespace: &'a str,
    /// Istio's root namespace.
    pub root: &'a str,
}

/// How far an object reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// It has no effects outside of the run's namespace.
    Inside,
    /// It has none with `exportTo: ["."]`, which makes no difference for the clients of the run.
    InsideIfConfined,
    /// It has these effects outside.
    Outside(Vec<Reach>),
}

/// How far an object in the run's namespace reaches.
pub fn extent(manifest: &Manifest, bounds: Bounds<'_>) -> Extent {
    let mut effects = Effects { manifest, bounds, found: Vec::new() };
    let confinable = match (manifest.group(), manifest.kind()) {
        ("networking.istio.io", "VirtualService") => effects.virtual_service(),
        ("networking.istio.io", "DestinationRule") => effects.exported(&effects.texts("/spec/host")),
        ("networking.istio.io", "ServiceEntry") => effects.exported(&effects.texts("/spec/hosts")),
        ("networking.istio.io", "Gateway") => {
            effects.add("/spec/selector", "configures gateway pods, which other namespaces use");
            false
        }
        ("networking.k8s.io", "Ingress") => {
            effects.add("/spec", "publishes hosts through an ingress controller, which other namespaces use");
            false
        }
        ("gateway.networking.k8s.io", kind) => {
            effects.gateway_api(kind);
            false
        }
        ("", "Service") => {
            effects.service();
            false
        }
        _ => false,
    };
    if bounds.namespace == bounds.root && is_mesh_wide_in_root(manifest) {
        effects.add("/metadata", "applies to the whole mesh, since the namespace is Istio's root namespace");
    }
    match (effects.found.is_empty(), confinable) {
        (false, _) => Extent::Outside(effects.found),
        (true, true) => Extent::InsideIfConfined,
        (true, false) => Extent::Inside,
    }
}

/// Whether the objects of a scenario can be in a namespace of any name, without effects outside of it.
pub fn is_confinable(scenario: &Scenario) -> bool {
    let declared = scenario.namespace.as_str();
    // hosts in manifests that name the declared namespace would be those of another
    let namespace = format!("{declared}-other");
    scenario.manifests().all(|manifest| {
        let is_inside = manifest.object.metadata.namespace.as_deref().is_none_or(|own| own == declared);
        let is_namespaced = ApiKind::of(manifest.group(), manifest.kind()).scope == Scope::Namespaced;
        let bounds = Bounds { namespace: &namespace, root: ROOT };
        is_inside && is_namespaced && !matches!(extent(manifest, bounds), Extent::Outside(_))
    })
}

/// Limits an object to its namespace.
pub fn confine(spec: &mut Value) {
    if let Some(spec) = spec.get_mut("spec").and_then(Value::as_object_mut) {
        spec.insert("exportTo".to_owned(), json!(["."]));
    }
}

/// Whether objects of this kind apply to the whole mesh if they are in the root namespace.
fn is_mesh_wide_in_root(manifest: &Manifest) -> bool {
    matches!(
        (manifest.group(), manifest.kind()),
        ("networking.istio.io", "EnvoyFilter" | "Sidecar" | "ProxyConfig" | "DestinationRule")
            | ("security.istio.io" | "telemetry.istio.io" | "extensions.istio.io", _)
    )
}

/// Collects the effects of an object.
struct Effects<'a> {
    manifest: &'a Manifest,
    bounds: Bounds<'a>,
    found: Vec<Reach>,
}

impl Effects<'_> {
    fn add(&mut self, pointer: &str, effect: impl Into<String>) {
        let (place, id) = (self.manifest.origin_of(pointer), self.manifest.id());
        self.found.push(Reach { place, id, effect: effect.into() });
    }

    /// The string or strings at a JSON pointer, each with its own pointer; `*` stands for every element of a list.
    fn texts(&self, pattern: &str) -> Vec<(String, String)> {
        let path: Vec<&str> = pattern.split('/').skip(1).collect();
        texts(&self.manifest.object.data, &path, "")
    }

    /// Whether a host in a rule of the run's namespace is one of the run's services.
    fn is_own(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_lowercase();
        let own = |suffix: &str| {
            let name = host.strip_suffix(suffix).and_then(|name| name.strip_suffix('.'));
            name.is_some_and(|name| !name.is_empty() && !name.contains('.'))
        };
        let namespace = self.bounds.namespace;
        let short = !host.contains('.') && !host.contains('*') && !host.is_empty();
        short || own(&format!("{namespace}.{LOCAL}")) || own(&format!("{namespace}.svc")) || own(namespace)
    }

    fn virtual_service(&mut self) -> bool {
        let protocols = ["http", "tls", "tcp"];
        let matches = protocols.iter().flat_map(|protocol| self.texts(&format!("/spec/{protocol}/*/match/*/gateways")));
        let gateways: Vec<_> = matches.chain(self.texts("/spec/gateways")).filter(|(_, name)| name != "mesh").collect();
        for (pointer, name) in gateways {
            self.add(&pointer, format!("changes the gateway `{name}`, which other namespaces use"));
        }
        let mut targets = Vec::new();
        for protocol in protocols {
            for target in ["route/*/destination/host", "mirror/host", "mirrors/*/destination/host"] {
                targets.extend(self.texts(&format!("/spec/{protocol}/*/{target}")));
            }
        }
        self.sends(targets);
        self.exported(&self.texts("/spec/hosts"))
    }

    /// Checks hosts that requests are sent to: services of other namespaces would receive the traffic of the test.
    fn sends(&mut self, targets: Vec<(String, String)>) {
        for (pointer, host) in targets {
            let full = host.trim_end_matches('.');
            let of_cluster =
                full.ends_with(LOCAL) || full.split('.').next_back() == Some("svc") || full.split('.').count() == 2;
            if of_cluster && !self.is_own(&host) {
                self.add(
                    &pointer,
                    format!("sends requests to `{host}`, outside of the namespace `{}`", self.bounds.namespace),
                );
            }
        }
    }

    /// Checks an object that Istio applies to the namespaces in its `exportTo`, by default all; returns whether `exportTo` can be set.
    fn exported(&mut self, hosts: &[(String, String)]) -> bool {
        let namespace = self.bounds.namespace;
        let export = self.texts("/spec/exportTo");
        let is_inside = |name: &str| name == "." || name == "~" || name == namespace;
        if !export.is_empty() && export.iter().all(|(_, name)| is_inside(name)) {
            return false;
        }
        for (pointer, name) in export.iter().filter(|(_, name)| !is_inside(name)) {
            let whom = if name == "*" { "all namespaces".to_owned() } else { format!("the namespace `{name}`") };
            self.add(pointer, format!("is exported to {whom}"));
        }
        for (pointer, host) in hosts.iter().filter(|(_, host)| !self.is_own(host)).cloned().collect::<Vec<_>>() {
            self.add(&pointer, format!("applies to `{host}` for the clients of all namespaces"));
        }
        export.is_empty()
    }

    fn gateway_api(&mut self, kind: &str) {
        if matches!(kind, "Gateway" | "ListenerSet") {
            self.add("/spec", "opens a gateway to clients outside of the namespace");
        }
        if !kind.ends_with("Route") {
            return;
        }
        let (manifest, own) = (self.manifest, self.bounds.namespace);
        let parents = manifest.at("/spec/parentRefs").and_then(Value::as_array);
        for (index, parent) in parents.into_iter().flatten().enumerate() {
            let pointer = format!("/spec/parentRefs/{index}");
            let text = |key: &str| parent[key].as_str();
            let (kind, name) = (text("kind").unwrap_or("Gateway"), text("name").unwrap_or_default());
            match text("namespace").filter(|namespace| *namespace != own) {
                Some(namespace) => {
                    self.add(&pointer, format!("applies to {kind} `{name}` in the namespace `{namespace}`"));
                }
                None if kind != "Service" => self.add(&pointer, format!("publishes routes through {kind} `{name}`")),
                None => {}
            }
        }
        let backends = self.texts("/spec/rules/*/backendRefs/*/namespace");
        let mirrors = self.texts("/spec/rules/*/filters/*/requestMirror/backendRef/namespace");
        for (pointer, namespace) in backends.into_iter().chain(mirrors).filter(|(_, namespace)| namespace != own) {
            let backend = pointer.trim_end_matches("/namespace");
            let name = manifest.at(&format!("{backend}/name")).and_then(Value::as_str).unwrap_or_default();
            self.add(backend, format!("sends requests to `{name}` in the namespace `{namespace}`"));
        }
    }

    fn service(&mut self) {
        for (pointer, address) in self.texts("/spec/externalIPs") {
            self.add(&pointer, format!("takes over requests of the whole cluster to {address}"));
        }
        self.sends(self.texts("/spec/externalName"));
    }
}

fn texts(value: &Value, path: &[&str], pointer: &str) -> Vec<(String, String)> {
    match (path, value) {
        ([], Value::String(text)) => vec![(pointer.to_owned(), text.clone())],
        ([], Value::Array(_)) => texts(value, &["*"], pointer),
        (["*", rest @ ..], Value::Array(values)) => {
            let each = values.iter().enumerate();
            each.flat_map(|(index, value)| texts(value, rest, &format!("{pointer}/{index}"))).collect()
        }
        ([key, rest @ ..], value) => {
            value.get(key).map(|value| texts(value, rest, &format!("{pointer}/{key}"))).unwrap_or_default()
        }
        ([], _) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::*;
    use crate::scenario::parse_manifests;

    fn judged(api_version: &str, kind: &str, spec: &str, root: &str) -> Extent {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n");
        let manifests = parse_manifests(Path::new("x.yaml"), &text).unwrap();
        extent(&manifests[0], Bounds { namespace: "canary-1", root })
    }

    /// The effects of an object, one per line, or `confined` or `inside` if there are none.
    fn told(extent: &Extent) -> String {
        match extent {
            Extent::Inside => "inside".to_owned(),
            Extent::InsideIfConfined => "confined".to_owned(),
            Extent::Outside(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
        }
    }

    const ISTIO: &str = "networking.istio.io/v1";
    const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

    #[rstest]
    #[case::short_name("{hosts: [svc]}", "confined")]
    #[case::full_name("{hosts: [svc.canary-1.svc.cluster.local]}", "confined")]
    #[case::with_its_namespace("{hosts: [svc.canary-1]}", "confined")]
    #[case::with_svc("{hosts: [svc.canary-1.svc]}", "confined")]
    #[case::in_capitals("{hosts: [SVC.Canary-1.svc.cluster.local.]}", "confined")]
    #[case::all_of_its_namespace("{hosts: ['*.canary-1.svc.cluster.local']}", "confined")]
    #[case::exported_to_itself("{hosts: [svc], exportTo: ['.']}", "inside")]
    #[case::exported_to_itself_by_name("{hosts: [svc], exportTo: [canary-1]}", "inside")]
    #[case::of_others_but_kept_inside("{hosts: [checkout.prod.svc.cluster.local], exportTo: ['.']}", "inside")]
    #[case::of_the_mesh("{hosts: [svc], gateways: [mesh]}", "confined")]
    #[case::of_others(
        "{hosts: [checkout.prod.svc.cluster.local]}",
        "x.yaml:4:16: VirtualService/x applies to `checkout.prod.svc.cluster.local` for the clients of all namespaces"
    )]
    #[case::of_others_in_short("{hosts: [checkout.prod]}", "applies to `checkout.prod` for")]
    #[case::of_a_namespace_with_a_longer_name(
        "{hosts: [svc.my-canary-1.svc.cluster.local]}",
        "applies to `svc.my-canary-1.svc"
    )]
    #[case::of_the_second_host(
        "{hosts: [svc, pay.prod.svc.cluster.local]}",
        "x.yaml:4:21: VirtualService/x applies to `pay.prod"
    )]
    #[case::all_hosts("{hosts: ['*']}", "applies to `*` for")]
    #[case::all_services("{hosts: ['*.svc.cluster.local']}", "applies to `*.svc.cluster.local` for")]
    #[case::a_host_of_the_internet("{hosts: [example.com]}", "applies to `example.com` for")]
    #[case::exported_to_all("{hosts: [svc], exportTo: ['*']}", "VirtualService/x is exported to all namespaces")]
    #[case::exported_to_one(
        "{hosts: [svc], exportTo: ['.', prod]}",
        "x.yaml:4:38: VirtualService/x is exported to the namespace `prod`"
    )]
    #[case::of_a_gateway(
        "{hosts: [svc], gateways: [mesh, istio-system/ingress]}",
        "changes the gateway `istio-system/ingress`"
    )]
    #[case::of_a_gateway_in_a_match(
        "{hosts: [svc], exportTo: ['.'], http: [{match: [{gateways: [edge]}], route: [{destination: {host: svc}}]}]}",
        "changes the gateway `edge`"
    )]
    #[case::sent_to_others(
        "{hosts: [svc], http: [{route: [{destination: {host: checkout.prod.svc.cluster.local}}]}]}",
        "x.yaml:4:53: VirtualService/x sends requests to `checkout.prod.svc.cluster.local`, outside of the namespace `canary-1`"
    )]
    #[case::mirrored_to_others(
        "{hosts: [svc], exportTo: ['.'], http: [{route: [{destination: {host: svc}}], mirror: {host: svc.prod}}]}",
        "sends requests to `svc.prod`"
    )]
    fn virtual_services(#[case] spec: &str, #[case] expected: &str) {
        let told = told(&judged(ISTIO, "VirtualService", spec, "istio-system"));
        assert!(told.contains(expected), "{told}");
    }

    #[rstest]
    #[case::own_rule(ISTIO, "DestinationRule", "{host: svc}", "confined")]
    #[case::rule_for_others(
        ISTIO,
        "DestinationRule",
        "{host: svc.prod.svc.cluster.local}",
        "x.yaml:4:8: DestinationRule/x applies to"
    )]
    #[case::rule_for_all(ISTIO, "DestinationRule", "{host: '*.local'}", "applies to `*.local`")]
    #[case::own_entry(ISTIO, "ServiceEntry", "{hosts: [svc.canary-1.svc.cluster.local]}", "confined")]
    #[case::entry_for_the_internet(ISTIO, "ServiceEntry", "{hosts: [example.com]}", "applies to `example.com`")]
    #[case::entry_kept_inside(ISTIO, "ServiceEntry", "{hosts: [example.com], exportTo: ['.']}", "inside")]
    #[case::gateway(ISTIO, "Gateway", "{selector: {istio: ingressgateway}}", "configures gateway pods")]
    #[case::envoy_filter(ISTIO, "EnvoyFilter", "{configPatches: []}", "inside")]
    #[case::sidecar(ISTIO, "Sidecar", "{egress: []}", "inside")]
    #[case::peers("security.istio.io/v1", "PeerAuthentication", "{mtls: {mode: STRICT}}", "inside")]
    #[case::ingress("networking.k8s.io/v1", "Ingress", "{rules: []}", "ingress controller")]
    #[case::route(
        GATEWAY_API,
        "HTTPRoute",
        "{parentRefs: [{kind: Service, group: '', name: svc}], rules: [{backendRefs: [{name: v2}]}]}",
        "inside"
    )]
    #[case::route_of_a_gateway(
        GATEWAY_API,
        "HTTPRoute",
        "{parentRefs: [{name: edge}]}",
        "publishes routes through Gateway `edge`"
    )]
    #[case::route_of_others(
        GATEWAY_API,
        "HTTPRoute",
        "{parentRefs: [{kind: Service, name: svc, namespace: prod}]}",
        "x.yaml:4:21: HTTPRoute/x applies to Service `svc` in the namespace `prod`"
    )]
    #[case::route_to_others(
        GATEWAY_API,
        "GRPCRoute",
        "{parentRefs: [{kind: Service, name: svc}], rules: [{backendRefs: [{name: pay, namespace: prod}]}]}",
        "sends requests to `pay` in"
    )]
    #[case::mirror_to_others(
        GATEWAY_API,
        "HTTPRoute",
        "{rules: [{filters: [{requestMirror: {backendRef: {name: pay, namespace: prod}}}]}]}",
        "sends requests to `pay` in"
    )]
    #[case::kubernetes_gateway(GATEWAY_API, "Gateway", "{gatewayClassName: istio}", "opens a gateway")]
    #[case::reference_grant(GATEWAY_API, "ReferenceGrant", "{from: [], to: []}", "inside")]
    #[case::service("v1", "Service", "{ports: [{port: 80}]}", "inside")]
    #[case::external_addresses(
        "v1",
        "Service",
        "{externalIPs: [10.0.0.7]}",
        "requests of the whole cluster to 10.0.0.7"
    )]
    #[case::external_name(
        "v1",
        "Service",
        "{type: ExternalName, externalName: pay.prod.svc.cluster.local}",
        "sends requests to `pay.prod"
    )]
    #[case::deployment("apps/v1", "Deployment", "{replicas: 1}", "inside")]
    fn other_kinds(#[case] api_version: &str, #[case] kind: &str, #[case] spec: &str, #[case] expected: &str) {
        let told = told(&judged(api_version, kind, spec, "istio-system"));
        assert!(told.contains(expected), "{told}");
    }

    #[rstest]
    #[case(ISTIO, "EnvoyFilter")]
    #[case(ISTIO, "Sidecar")]
    #[case("security.istio.io/v1", "AuthorizationPolicy")]
    #[case("security.istio.io/v1", "PeerAuthentication")]
    #[case("telemetry.istio.io/v1", "Telemetry")]
    fn in_the_root_namespace_they_apply_to_the_whole_mesh(#[case] api_version: &str, #[case] kind: &str) {
        assert!(told(&judged(api_version, kind, "{}", "canary-1")).contains("applies to the whole mesh"));
        assert_eq!(told(&judged(api_version, kind, "{}", "istio-system")), "inside");
    }

    #[test]
    fn a_confined_object_is_exported_only_to_its_namespace() {
        let mut object = json!({"spec": {"hosts": ["svc"]}});
        confine(&mut object);
        assert_eq!(object, json!({"spec": {"hosts": ["svc"], "exportTo": ["."]}}));
    }
}
