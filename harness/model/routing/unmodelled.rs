//! What the model does not cover, and which requests it can affect.

use std::collections::{BTreeMap, BTreeSet};

use super::hosts::{falls_under, full_name, is_wildcard, resolved};
use super::live::Object;
use super::notes::{Notes, Scope};
use super::rule::{Part, field};
use super::service::Pod;
use crate::scenario::Origin;

/// Istio's root namespace, whose policies apply in all namespaces.
pub(super) const ROOT: &str = "istio-system";

/// The kinds that the model covers.
#[rustfmt::skip]
const MODELLED: [(&str, &str); 9] = [
    ("", "Namespace"), ("", "Pod"), ("", "Service"), ("apps", "Deployment"), ("apps", "ReplicaSet"), ("apps", "StatefulSet"),
    ("networking.istio.io", "VirtualService"), ("networking.istio.io", "DestinationRule"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
];

/// Kinds that neither route requests nor create or admit pods that serve them.
#[rustfmt::skip]
const HARMLESS: [(&str, &str); 24] = [
    ("", "ConfigMap"), ("", "Secret"), ("", "ServiceAccount"), ("", "Event"), ("", "PersistentVolume"), ("", "PersistentVolumeClaim"),
    ("rbac.authorization.k8s.io", "Role"), ("rbac.authorization.k8s.io", "RoleBinding"),
    ("rbac.authorization.k8s.io", "ClusterRole"), ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("policy", "PodDisruptionBudget"), ("scheduling.k8s.io", "PriorityClass"), ("storage.k8s.io", "StorageClass"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"), ("coordination.k8s.io", "Lease"),
    ("telemetry.istio.io", "Telemetry"), ("monitoring.coreos.com", "ServiceMonitor"), ("monitoring.coreos.com", "PodMonitor"),
    ("monitoring.coreos.com", "PrometheusRule"), ("cert-manager.io", "Certificate"), ("cert-manager.io", "Issuer"),
    ("cert-manager.io", "ClusterIssuer"), ("external-secrets.io", "ExternalSecret"), ("bitnami.com", "SealedSecret"),
];

/// What the outcome of a request depends on.
pub(super) struct Reach<'a> {
    /// The client's namespace and labels.
    pub client: (&'a str, &'a BTreeMap<String, String>),
    /// The host that is called and the hosts that the request is forwarded or mirrored to, as full names.
    pub hosts: BTreeSet<&'a str>,
    /// Whether the request is routed as HTTP.
    pub is_http: bool,
    /// The position of the rule that decides.
    pub rule: Option<&'a Origin>,
    /// The clusters that the request is forwarded or mirrored to.
    pub destinations: Vec<Destination<'a>>,
}

/// A cluster that can receive a request.
pub(super) struct Destination<'a> {
    /// The subset of the Service.
    pub subset: Option<&'a str>,
    /// The full name of the Service.
    pub host: &'a str,
    /// The namespace of the Service.
    pub namespace: &'a str,
    /// The selector of the Service, with the labels of the subset.
    pub selector: BTreeMap<String, String>,
    /// The pods.
    pub pods: Vec<&'a Pod>,
}

impl Scope {
    /// Whether a request with this reach can be affected.
    pub(super) fn covers(&self, reach: &Reach<'_>) -> bool {
        let called =
            |hosts: &BTreeSet<String>| hosts.iter().any(|host| reach.hosts.iter().any(|called| is_host(called, host)));
        let within = |namespace: &Option<String>, there: &str| namespace.as_deref().is_none_or(|name| name == there);
        let servers = || reach.destinations.iter().flat_map(|destination| destination.pods.iter().copied());
        let served = |namespace: &Option<String>, labels: &BTreeMap<String, String>| {
            servers().any(|pod| within(namespace, &pod.namespace) && contains(&pod.labels, labels))
        };
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Hosts(hosts) => called(hosts),
            Self::Subset(host, subset) => reach
                .destinations
                .iter()
                .any(|destination| is_host(destination.host, host) && destination.subset == Some(subset.as_str())),
            Self::Connections(hosts) => !reach.is_http && called(hosts),
            Self::WithoutSidecar(hosts) => called(hosts) && servers().any(|pod| !pod.sidecar),
            Self::Rule(origin) => reach.rule == Some(origin),
            Self::Servers(namespace, labels) => served(namespace, labels),
            Self::Pods(namespace, labels) => {
                let (client, own) = reach.client;
                served(namespace, labels) || within(namespace, client) && contains(own, labels)
            }
            Self::MorePods(namespace, labels) => {
                let mut destinations =
                    reach.destinations.iter().filter(|destination| destination.namespace == namespace);
                destinations.any(|destination| contains(labels, &destination.selector))
            }
            Self::Replicas(namespace, workload) => reach.destinations.iter().any(|destination| {
                let is_own = |pod: &&&Pod| pod.namespace == *namespace && pod.workload == *workload;
                let own = destination.pods.iter().filter(is_own).count();
                own > 0 && own < destination.pods.len()
            }),
            Self::Namespace(name) => {
                let suffix = format!(".{name}.svc.cluster.local");
                reach.client.0 == name || reach.hosts.iter().any(|host| host.ends_with(&suffix))
            }
        }
    }
}

fn is_host(called: &str, host: &str) -> bool {
    called == host || is_wildcard(host) && falls_under(called, host)
}

fn contains(labels: &BTreeMap<String, String>, part: &BTreeMap<String, String>) -> bool {
    part.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Adds an object whose kind the model does not cover, and the labels and annotations that change what a covered kind does.
pub(super) fn note(object: &Object, notes: &mut Notes) {
    let manifest = &object.manifest;
    let kind = (manifest.group(), manifest.kind());
    if MODELLED.contains(&kind) {
        metadata(object, notes);
    } else if !HARMLESS.contains(&kind) {
        notes.scope = scope_of(object);
        notes.add(manifest.origin.clone(), manifest.id());
    }
}

/// The requests that an object of an unmodelled kind can affect.
fn scope_of(object: &Object) -> Scope {
    let root = Part::root(&object.manifest);
    let spec = root.get("spec");
    let own = object.namespace.clone();
    // a policy of the root namespace applies in all
    let everywhere = (own != ROOT).then(|| own.clone());
    let of_services = |references: Part<'_>| {
        let names = references.items().filter(|part| part.get("kind").text() == Some("Service")).filter_map(|part| {
            let namespace = part.get("namespace").text().unwrap_or(&own);
            Some(full_name(part.get("name").text()?, namespace))
        });
        Scope::Hosts(names.collect())
    };
    match (object.manifest.group(), object.manifest.kind()) {
        ("networking.istio.io", "Gateway")
        | ("networking.k8s.io", "Ingress" | "IngressClass")
        | ("gateway.networking.k8s.io", "GatewayClass") => Scope::Nothing,
        ("gateway.networking.k8s.io", "Gateway") => match spec.get("gatewayClassName").text() {
            Some(class) if class.contains("waypoint") => Scope::Namespace(own),
            _ => Scope::Nothing,
        },
        ("gateway.networking.k8s.io", "GRPCRoute" | "TCPRoute" | "TLSRoute") => of_services(spec.get("parentRefs")),
        ("gateway.networking.k8s.io", "BackendTLSPolicy") => of_services(spec.get("targetRefs")),
        ("security.istio.io", "AuthorizationPolicy" | "PeerAuthentication" | "RequestAuthentication")
            if !spec.get("targetRef").is_there() && !spec.get("targetRefs").is_there() =>
        {
            Scope::Servers(everywhere, spec.get("selector").get("matchLabels").labels())
        }
        ("networking.istio.io", "EnvoyFilter" | "Sidecar") => {
            Scope::Pods(everywhere, spec.get("workloadSelector").get("labels").labels())
        }
        ("networking.istio.io", "ProxyConfig") | ("extensions.istio.io", "WasmPlugin") => {
            Scope::Pods(everywhere, spec.get("selector").get("matchLabels").labels())
        }
        ("networking.k8s.io", "NetworkPolicy") => {
            Scope::Pods(Some(own), spec.get("podSelector").get("matchLabels").labels())
        }
        ("networking.istio.io", "ServiceEntry") => {
            Scope::Hosts(spec.get("hosts").texts().iter().map(|host| resolved(host, &own)).collect())
        }
        ("networking.istio.io", "WorkloadEntry") => Scope::MorePods(own, spec.get("labels").labels()),
        ("networking.istio.io", "WorkloadGroup") => Scope::MorePods(own, spec.get("metadata").get("labels").labels()),
        ("discovery.k8s.io", "EndpointSlice") => {
            let labels = object.manifest.object.metadata.labels.as_ref();
            match labels.and_then(|labels| labels.get("kubernetes.io/service-name")) {
                Some(name) => Scope::Hosts([full_name(name, &own)].into()),
                None => Scope::Namespace(own),
            }
        }
        ("", "Endpoints") => Scope::Hosts([full_name(object.manifest.name(), &own)].into()),
        ("autoscaling", "HorizontalPodAutoscaler") => {
            Scope::Replicas(own, spec.get("scaleTargetRef").get("name").owned().unwrap_or_default())
        }
        // a controller of workloads: its pods may be selected
        _ if spec.get("template").get("metadata").get("labels").is_there() => {
            Scope::MorePods(own, spec.get("template").get("metadata").get("labels").labels())
        }
        _ if own.is_empty() => Scope::Everything,
        _ => Scope::Namespace(own),
    }
}

/// The prefixes of labels and annotations that change how Istio routes the requests from or to a pod.
const OF_PODS: [&str; 5] = [
    "traffic.sidecar.istio.io/",
    "sidecar.istio.io/interceptionMode",
    "proxy.istio.io/config",
    "inject.istio.io/templates",
    "istio.io/use-waypoint",
];

/// Adds the labels and annotations of a modelled object that move traffic.
fn metadata(object: &Object, notes: &mut Notes) {
    let metadata = &object.manifest.object.metadata;
    let own = object.namespace.clone();
    let moving: &[&str] = match object.manifest.kind() {
        "Namespace" => {
            notes.scope = Scope::Namespace(object.manifest.name().to_owned());
            &["istio.io/use-waypoint", "istio.io/dataplane-mode"]
        }
        "Service" => {
            notes.scope = Scope::Hosts([full_name(object.manifest.name(), &own)].into());
            &["istio.io/use-waypoint", "networking.istio.io/", "service.kubernetes.io/topology-mode"]
        }
        "VirtualService" | "DestinationRule" | "HTTPRoute" => {
            notes.scope = configured(object);
            &["istio.io/rev"]
        }
        "Pod" => {
            notes.scope = Scope::Pods(Some(own), metadata.labels.clone().unwrap_or_default());
            &OF_PODS
        }
        _ => {
            let template = Part::root(&object.manifest).get("spec").get("template").get("metadata");
            notes.scope = Scope::Pods(Some(own), template.get("labels").labels());
            for part in ["labels", "annotations"].map(|name| template.get(name)) {
                for (key, value) in part.entries().filter(|(key, _)| begins_with(key, &OF_PODS)) {
                    notes.add(value.origin(), format!("{}.{key}", field(&part.pointer)));
                }
            }
            return;
        }
    };
    for (name, map) in [("labels", &metadata.labels), ("annotations", &metadata.annotations)] {
        for key in map.iter().flat_map(|map| map.keys()).filter(|key| begins_with(key, moving)) {
            let pointer = format!("/metadata/{name}/{}", key.replace('~', "~0").replace('/', "~1"));
            notes.add(object.manifest.origin_of(&pointer), format!("metadata.{name}.{key}"));
        }
    }
}

fn begins_with(key: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| key.starts_with(prefix))
}

/// The hosts that an object configures.
fn configured(object: &Object) -> Scope {
    let spec = Part::root(&object.manifest).get("spec");
    let hosts = match object.manifest.kind() {
        "VirtualService" => spec.get("hosts").texts(),
        "DestinationRule" => spec.get("host").owned().into_iter().collect(),
        _ => spec.get("parentRefs").items().filter_map(|parent| parent.get("name").owned()).collect(),
    };
    Scope::Hosts(hosts.iter().map(|host| resolved(host, &object.namespace)).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use super::super::{Client, Live, Mesh, Naming, Request, pods_of};
    use crate::scenario::parse_manifests;

    /// Two versions of one service in the namespace `here`, a rule for testers and one for everyone.
    const BASE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: svc}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: v1}
spec: {template: {metadata: {labels: {app: a, version: v1}}, spec: {containers: [{image: 'a:v1'}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: v2}
spec: {template: {metadata: {labels: {app: a, version: v2}}, spec: {containers: [{image: 'a:v2'}]}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: dr}
spec:
  host: svc
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [svc]
  http:
  - match: [{headers: {end-user: {exact: testers}}}]
    route: [{destination: {host: svc, subset: v2}}]
  - route: [{destination: {host: svc, subset: v1}}]
---
";

    const EVERYONE: &str = "everyone";
    const TESTERS: &str = "testers";

    /// The populations whose requests something unmodelled can affect, and the names of all that is not modelled.
    fn affected(text: &str) -> (Vec<&'static str>, Vec<String>) {
        let mut live = Live::new("here", "here");
        parse_manifests(Path::new("a.yaml"), text).unwrap().iter().for_each(|manifest| live.apply(manifest));
        let naming = Naming { versions: ["v1", "v2"].map(str::to_owned).into(), ..Naming::default() };
        let mesh = Mesh::new(&live, pods_of(&live, &naming));
        let labels = [("app".to_owned(), "client".to_owned())].into();
        let outbound = mesh.outbound(Client { namespace: "here".to_owned(), labels, sidecar: true });
        let request = Request::get("svc", 80, "/");
        let mut populations = vec![(EVERYONE, request.clone()), (TESTERS, request.with("end-user", "testers"))];
        populations.retain(|(_, request)| {
            let routes = outbound.routes(request).ok();
            !outbound.not_modelled(request, routes.as_ref()).is_empty()
        });
        let named = mesh.not_modelled.iter().map(|note| note.field.clone()).collect();
        (populations.into_iter().map(|(name, _)| name).collect(), named)
    }

    #[rstest]
    #[case::deny_all("{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x}}", &[EVERYONE, TESTERS])]
    #[case::denied_in_another_namespace(
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x, namespace: other}}", &[])]
    #[case::denied_in_the_root_namespace(
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x, namespace: istio-system}}",
        &[EVERYONE, TESTERS])]
    #[case::denied_for_one_version(
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x}, \
          spec: {selector: {matchLabels: {version: v2}}}}", &[TESTERS])]
    #[case::filter_of_the_client(
        "{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: x}, \
          spec: {workloadSelector: {labels: {app: client}}}}", &[EVERYONE, TESTERS])]
    #[case::filter_of_another_pod(
        "{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: x}, \
          spec: {workloadSelector: {labels: {app: other}}}}", &[])]
    #[case::gateway("{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: x}}", &[])]
    #[case::service_entry_of_another_host(
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x}, spec: {hosts: [example.com]}}", &[])]
    #[case::service_entry_of_this_host(
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x}, \
          spec: {hosts: [svc.here.svc.cluster.local]}}", &[EVERYONE, TESTERS])]
    #[case::rollout_with_the_selected_labels(
        "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: x}, \
          spec: {template: {metadata: {labels: {app: a, version: v2}}}}}", &[TESTERS])]
    #[case::rollout_of_another_service(
        "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: x}, \
          spec: {template: {metadata: {labels: {app: b}}}}}", &[])]
    #[case::autoscaler_of_a_subset_of_its_own(
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: x}, spec: {scaleTargetRef: {name: v2}}}", &[])]
    #[case::unknown_kind("{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: x}}", &[EVERYONE, TESTERS])]
    #[case::unknown_kind_elsewhere("{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: x, namespace: other}}", &[])]
    #[case::endpoint_slice(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, \
          metadata: {name: x, labels: {kubernetes.io/service-name: svc}}}", &[EVERYONE, TESTERS])]
    #[case::network_policy("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x}}", &[EVERYONE, TESTERS])]
    fn an_object_of_an_unmodelled_kind_affects(#[case] object: &str, #[case] populations: &[&str]) {
        let (affected, named) = affected(&format!("{BASE}{object}"));
        assert_eq!(affected, populations);
        assert_eq!(named.len(), 1, "{named:?}");
    }

    #[rstest]
    #[case::config_map("v1, kind: ConfigMap")]
    #[case::service_monitor("monitoring.coreos.com/v1, kind: ServiceMonitor")]
    fn a_harmless_kind_is_not_named(#[case] kind: &str) {
        assert_eq!(affected(&format!("{BASE}{{apiVersion: {kind}, metadata: {{name: x}}}}")), (vec![], vec![]));
    }

    #[rstest]
    #[case::in_the_rule_of_the_testers(
        "  - match: [{headers: {end-user: {exact: testers}}}]", "  - corsPolicy: {}\n    match: [{headers: {end-user: {exact: testers}}}]",
        &[TESTERS])]
    #[case::in_the_rule_of_everyone(
        "  - route: [{destination: {host: svc, subset: v1}}]", "  - corsPolicy: {}\n    route: [{destination: {host: svc, subset: v1}}]",
        &[EVERYONE])]
    #[case::in_a_match("{exact: testers}}}]", "{exact: testers}}, statPrefix: a, unknown: 1}]", &[EVERYONE, TESTERS])]
    #[case::timeouts_and_retries("  - route:", "  - timeout: 5s\n    retries: {attempts: 3}\n    route:", &[])]
    #[case::delay("  - route:", "  - fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}\n    route:", &[])]
    #[case::request_header("  - route:", "  - headers: {request: {set: {x-a: b}}}\n    route:", &[])]
    #[case::host_header("  - route:", "  - headers: {request: {set: {Host: b}}}\n    route:", &[EVERYONE])]
    #[case::response_header("  - route:", "  - headers: {response: {remove: [x-version]}}\n    route:", &[EVERYONE])]
    #[case::tcp_routes("  hosts: [svc]", "  hosts: [svc]\n  tcp: [{}]", &[])]
    #[case::mutual_tls("  host: svc\n", "  host: svc\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n", &[])]
    #[case::tls("  host: svc\n", "  host: svc\n  trafficPolicy: {tls: {mode: SIMPLE}}\n", &[EVERYONE, TESTERS])]
    #[case::least_request("  host: svc\n", "  host: svc\n  trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}\n", &[])]
    #[case::outlier_detection("  host: svc\n", "  host: svc\n  trafficPolicy: {outlierDetection: {}, connectionPool: {}}\n", &[])]
    #[case::consistent_hash(
        "  host: svc\n", "  host: svc\n  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}\n",
        &[EVERYONE, TESTERS])]
    #[case::of_one_subset(
        "labels: {version: v2}}]", "labels: {version: v2}, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}}]",
        &[TESTERS])]
    #[case::of_another_host("  host: svc\n", "  host: other\n  trafficPolicy: {tls: {mode: SIMPLE}}\n", &[])]
    #[case::excluded_port_of_a_server(
        "{labels: {app: a, version: v2}}", "{labels: {app: a, version: v2}, \
          annotations: {traffic.sidecar.istio.io/excludeInboundPorts: '80'}}", &[TESTERS])]
    #[case::rule_of_another_revision("metadata: {name: vs}", "metadata: {name: vs, labels: {istio.io/rev: canary}}", &[EVERYONE, TESTERS])]
    #[case::waypoint("metadata: {name: svc}", "metadata: {name: svc, labels: {istio.io/use-waypoint: w}}", &[EVERYONE, TESTERS])]
    #[case::internal_traffic_policy("ports: [{name", "internalTrafficPolicy: Local, ports: [{name", &[EVERYONE, TESTERS])]
    fn a_field_affects(#[case] part: &str, #[case] instead: &str, #[case] populations: &[&str]) {
        assert!(BASE.contains(part));
        assert_eq!(affected(&BASE.replacen(part, instead, 1)).0, populations);
    }

    #[test]
    fn a_rule_for_gateways_alone_affects_no_client_of_the_mesh() {
        let rule = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: x}, \
                     spec: {hosts: [svc], gateways: [g], http: [{corsPolicy: {}}]}}";
        assert_eq!(affected(&format!("{BASE}{rule}")), (vec![], vec!["spec.http[0].corsPolicy".to_owned()]));
    }

    #[test]
    fn mutual_tls_affects_only_pods_without_a_sidecar() {
        let tls = BASE.replacen("  host: svc\n", "  host: svc\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n", 1);
        let tls = tls.replace("{app: a, version: v2}", "{app: a, version: v2, sidecar.istio.io/inject: 'false'}");
        assert_eq!(affected(&tls).0, [TESTERS]);
    }
}
