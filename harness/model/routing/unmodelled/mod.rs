//! What the model does not cover, and which requests it can affect.

use std::collections::{BTreeMap, BTreeSet};

use super::hosts::{falls_under, full_name, is_wildcard, resolved};
use super::live::Object;
use super::notes::{Notes, Scope};
use super::placement::Placement;
use super::rule::Part;
use super::service::Pod;
use crate::scenario::{Origin, field};

/// Istio's root namespace, whose policies apply in all namespaces.
pub(super) const ROOT: &str = "istio-system";

/// The kinds that the model covers.
#[rustfmt::skip]
const MODELLED: [(&str, &str); 14] = [
    ("", "Namespace"), ("", "Pod"), ("", "Service"), ("", "ReplicationController"), ("apps", "DaemonSet"), ("apps", "Deployment"),
    ("apps", "ReplicaSet"), ("apps", "StatefulSet"),
    ("networking.istio.io", "VirtualService"), ("networking.istio.io", "DestinationRule"), ("networking.istio.io", "Gateway"),
    ("gateway.networking.k8s.io", "Gateway"), ("gateway.networking.k8s.io", "HTTPRoute"), ("gateway.networking.k8s.io", "GRPCRoute"),
];

/// Kinds that neither route requests nor create or admit pods that serve them.
#[rustfmt::skip]
const HARMLESS: [(&str, &str); 27] = [
    ("", "ConfigMap"), ("", "Secret"), ("", "ServiceAccount"), ("", "Event"), ("", "PersistentVolume"), ("", "PersistentVolumeClaim"),
    // Istio asks for no grant where the parent of a route is a Service
    ("gateway.networking.k8s.io", "ReferenceGrant"),
    ("rbac.authorization.k8s.io", "Role"), ("rbac.authorization.k8s.io", "RoleBinding"),
    ("rbac.authorization.k8s.io", "ClusterRole"), ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("policy", "PodDisruptionBudget"), ("scheduling.k8s.io", "PriorityClass"), ("storage.k8s.io", "StorageClass"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"), ("coordination.k8s.io", "Lease"),
    ("telemetry.istio.io", "Telemetry"), ("monitoring.coreos.com", "ServiceMonitor"), ("monitoring.coreos.com", "PodMonitor"),
    ("monitoring.coreos.com", "PrometheusRule"), ("cert-manager.io", "Certificate"), ("cert-manager.io", "Issuer"),
    ("cert-manager.io", "ClusterIssuer"), ("external-secrets.io", "ExternalSecret"), ("bitnami.com", "SealedSecret"),
    ("argoproj.io", "AnalysisTemplate"), ("argoproj.io", "ClusterAnalysisTemplate"),
];

/// What the outcome of a request depends on.
pub(super) struct Reach<'a> {
    /// The client's namespace and labels.
    pub client: (&'a str, &'a BTreeMap<String, String>),
    /// Where the client runs.
    pub placement: &'a Placement,
    /// The host that is called and the hosts that the request is forwarded or mirrored to, as full names.
    pub hosts: BTreeSet<String>,
    /// The port that is called.
    pub port: u16,
    /// Whether the request is routed as HTTP.
    pub is_http: bool,
    /// Whether the request comes from outside of the mesh, so that the client is a gateway.
    pub is_entering: bool,
    /// The position of the rule that decides.
    pub rule: Option<&'a Origin>,
    /// The clusters that the request is forwarded or mirrored to.
    pub destinations: Vec<Destination<'a>>,
}

/// A cluster that can receive a request.
pub(super) struct Destination<'a> {
    /// The subset of the Service.
    pub subset: Option<String>,
    /// The full name of the Service.
    pub host: &'a str,
    /// The port of the Service.
    pub port: u16,
    /// The namespace of the Service.
    pub namespace: &'a str,
    /// The selector of the Service, with the labels of the subset.
    pub selector: BTreeMap<String, String>,
    /// The pods that get its requests.
    pub pods: Vec<&'a Pod>,
    /// Where its ready pods run.
    pub placements: BTreeSet<&'a Placement>,
}

impl Destination<'_> {
    /// Whether the pods are of several versions or workloads.
    fn is_mixed(&self) -> bool {
        let kinds: BTreeSet<_> = self.pods.iter().map(|pod| (&pod.version, &pod.workload)).collect();
        kinds.len() > 1
    }
}

impl Reach<'_> {
    /// The clusters of a host, or of a subset of it alone.
    fn to(&self, host: &str, subset: Option<&String>) -> impl Iterator<Item = &Destination<'_>> {
        let is_it = move |destination: &&Destination<'_>| {
            is_host(destination.host, host) && (subset.is_none() || destination.subset.as_ref() == subset)
        };
        self.destinations.iter().filter(is_it)
    }
}

impl Scope {
    /// Whether it names the pod that sends the request.
    pub(super) fn covers_client(&self, reach: &Reach<'_>) -> bool {
        let (there, own) = reach.client;
        let Self::Pods(namespace, labels) = self else { return false };
        namespace.as_deref().is_none_or(|name| name == there) && contains(own, labels)
    }

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
            Self::Subset(host, subset) => reach.to(host, Some(subset)).next().is_some(),
            Self::Port(host, port, target) => reach.destinations.iter().any(|destination| {
                destination.host == host
                    && destination.port == *port
                    && destination.pods.iter().any(|pod| pod.may_not_listen(*target))
            }),
            Self::Late(host, port, addresses) => reach.to(host, None).any(|destination| {
                let late = destination.pods.iter().filter(|pod| addresses.contains(&pod.address)).count();
                destination.port == *port && late > 0 && late < destination.pods.len()
            }),
            Self::Connections(hosts, port) => {
                !reach.is_http && port.is_none_or(|port| port == reach.port) && called(hosts)
            }
            Self::WithoutSidecar(hosts) => {
                called(hosts) && servers().any(|pod| !pod.sidecar && !pod.is_known_for_tls())
            }
            Self::OwnServers(host, subset) => {
                let mut servers = reach.to(host, subset.as_ref()).flat_map(|destination| &destination.pods);
                servers.any(|pod| !pod.is_known_for_tls())
            }
            Self::Localities { host, subset, is_assumed } => reach.to(host, subset.as_ref()).any(|destination| {
                let is_one = *is_assumed && destination.placements == BTreeSet::from([&Placement::Untold]);
                // where it is told, all pods but the nearest are left out
                destination.pods.len() > 1 && !is_one && !reach.placement.tells_nearest(&destination.placements)
            }),
            Self::Hash(host, subset) => reach.to(host, subset.as_ref()).any(Destination::is_mixed),
            Self::Rule(origin) => reach.rule == Some(origin),
            Self::Gateway(port) => reach.is_entering && port.is_none_or(|port| port == reach.port),
            Self::AtGateways(hosts) => reach.is_entering && called(hosts),
            Self::Servers(namespace, labels) => {
                // a gateway is the server of those outside
                served(namespace, labels)
                    || reach.is_entering && within(namespace, reach.client.0) && contains(reach.client.1, labels)
            }
            Self::Pods(namespace, labels) => served(namespace, labels) || self.covers_client(reach),
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

pub(super) fn contains(labels: &BTreeMap<String, String>, part: &BTreeMap<String, String>) -> bool {
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
        notes.only_answers = spares_routes(object);
        notes.add(manifest.origin.clone(), manifest.id());
        notes.only_answers = false;
    }
}

/// Whether a `PeerAuthentication` takes connections with and without mutual TLS, as servers do by default.
fn takes_any_connection(spec: &Part<'_>) -> bool {
    let mode = spec.get("mtls").get("mode");
    matches!(mode.text(), None | Some("PERMISSIVE" | "UNSET")) && !spec.get("portLevelMtls").is_there()
}

/// The requests that an object of an unmodelled kind can affect.
fn scope_of(object: &Object) -> Scope {
    let root = Part::root(&object.manifest);
    let spec = root.get("spec");
    let own = object.namespace.clone();
    // a policy of the root namespace applies in all
    let everywhere = (own != ROOT).then(|| own.clone());
    match (object.manifest.group(), object.manifest.kind()) {
        ("networking.k8s.io", "Ingress" | "IngressClass") => Scope::Gateway(None),
        ("gateway.networking.k8s.io", "GatewayClass") => Scope::Nothing,
        ("gateway.networking.k8s.io", "TCPRoute" | "TLSRoute") => services(&spec.get("parentRefs"), &own),
        ("gateway.networking.k8s.io", "BackendTLSPolicy") => services(&spec.get("targetRefs"), &own),
        ("security.istio.io", "PeerAuthentication") if takes_any_connection(&spec) => Scope::Nothing,
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
        _ => match template(&spec) {
            // a controller of workloads: its pods may be selected
            Some(metadata) => Scope::MorePods(own, metadata.get("labels").labels()),
            None if own.is_empty() => Scope::Everything,
            None => Scope::Namespace(own),
        },
    }
}

/// The requests to the Services among these references.
fn services(references: &Part<'_>, namespace: &str) -> Scope {
    let names = references.items().filter(|part| part.get("kind").text() == Some("Service")).filter_map(|part| {
        Some(full_name(part.get("name").text()?, part.get("namespace").text().unwrap_or(namespace)))
    });
    Scope::Hosts(names.collect())
}

/// The labels and annotations of the pods that a controller creates, also by way of jobs.
fn template<'a>(spec: &Part<'a>) -> Option<Part<'a>> {
    let of_jobs = spec.get("jobTemplate").get("spec");
    let metadata = [spec, &of_jobs].map(|spec| spec.get("template").get("metadata"));
    metadata.into_iter().find(|metadata| metadata.get("labels").is_there())
}

/// Whether an object of an unmodelled kind leaves the routes of sidecars and their endpoints as they are. The pods of workloads are known.
fn spares_routes(object: &Object) -> bool {
    match object.manifest.group() {
        "security.istio.io" | "extensions.istio.io" | "autoscaling" => true,
        _ => {
            matches!(object.manifest.kind(), "ProxyConfig" | "NetworkPolicy" | "BackendTLSPolicy" | "WorkloadGroup")
                || template(&Part::root(&object.manifest).get("spec")).is_some()
        }
    }
}

/// The prefixes of labels and annotations that change how Istio routes the requests from or to a pod.
#[rustfmt::skip]
const OF_PODS: [&str; 10] = [
    "traffic.sidecar.istio.io/", "sidecar.istio.io/interceptionMode", "sidecar.istio.io/bootstrapOverride", "proxy.istio.io/",
    "inject.istio.io/templates", "security.istio.io/tlsMode", "topology.istio.io/", "ambient.istio.io/", "istio.io/dataplane-mode",
    "istio.io/use-waypoint",
];

/// Adds the labels and annotations of a modelled object that move traffic.
fn metadata(object: &Object, notes: &mut Notes) {
    let metadata = &object.manifest.object.metadata;
    let own = object.namespace.clone();
    let moving: &[&str] = match object.manifest.kind() {
        "Namespace" => {
            notes.scope = Scope::Namespace(object.manifest.name().to_owned());
            &["istio.io/use-waypoint", "istio.io/dataplane-mode", "networking.istio.io/traffic-distribution"]
        }
        "Service" => {
            notes.scope = Scope::Hosts([full_name(object.manifest.name(), &own)].into());
            &["istio.io/use-waypoint", "networking.istio.io/", "service.kubernetes.io/topology-"]
        }
        "VirtualService" | "DestinationRule" | "HTTPRoute" | "GRPCRoute" => {
            notes.scope = configured(object);
            &["istio.io/rev"]
        }
        "Gateway" => {
            notes.scope = Scope::Gateway(None);
            &["istio.io/rev"]
        }
        "Pod" => {
            notes.scope = Scope::Pods(Some(own), metadata.labels.clone().unwrap_or_default());
            &OF_PODS
        }
        kind => {
            let template = Part::root(&object.manifest).get("spec").get("template").get("metadata");
            if kind == "DaemonSet" {
                // one pod is modelled, there is one on each node
                notes.scope = Scope::Replicas(own.clone(), object.manifest.name().to_owned());
                notes.add(object.manifest.origin.clone(), object.manifest.id());
            }
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
        _ => return services(&spec.get("parentRefs"), &object.namespace),
    };
    Scope::Hosts(hosts.iter().map(|host| resolved(host, &object.namespace)).collect())
}

#[cfg(test)]
mod tests;
