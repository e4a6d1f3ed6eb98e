use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use thiserror::Error;

use super::manifest::Manifest;
use super::origin::Origin;

/// A kind of object in an API group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKind {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind, such as `VirtualService`.
    pub kind: String,
    /// The plural, such as `virtualservices`.
    pub plural: String,
    /// Short names, such as `vs`.
    pub short: Vec<String>,
    /// Whether objects of the kind belong to a namespace.
    pub scope: Scope,
}

/// Whether objects of a kind belong to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Namespaced.
    Namespaced,
    /// Cluster-scoped.
    Cluster,
}

/// The identity of an object on a cluster, independent of the version of its API group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// The kind, such as `VirtualService`.
    pub kind: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// The kind of an object to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KindRef {
    /// As in `KIND/NAME`: a kind, a plural or a short name in any case, with or without a group: `vs`, `gateway.networking.istio.io`.
    Written(String),
    /// The kind of an object in a manifest file.
    Exact {
        /// The API group; empty for the core group.
        group: String,
        /// The kind.
        kind: String,
        /// The namespace in the manifest.
        namespace: Option<String>,
    },
}

/// An object to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The kind.
    pub kind: KindRef,
    /// The name.
    pub name: String,
    /// The position of the deletion in the scenario.
    pub origin: Origin,
}

/// Why the kind of a deletion is not clear.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnresolvedKind {
    /// There is no such kind.
    #[error("there is no kind `{0}`")]
    Unknown(String),
    /// Several kinds have this name.
    #[error("the kind `{written}` is ambiguous: it may be {}", candidates.join(" or "))]
    Ambiguous {
        /// The kind as written.
        written: String,
        /// The kinds with their groups.
        candidates: Vec<String>,
    },
}

/// Kinds that Kubernetes, Istio, the Gateway API and rollout controllers define: group, kind, plural, short names, scope.
#[rustfmt::skip]
const KNOWN: [(&str, &str, &str, &[&str], Scope); 54] = {
    use Scope::{Cluster, Namespaced};
    [
        ("", "ConfigMap", "configmaps", &["cm"], Namespaced),
        ("", "Endpoints", "endpoints", &["ep"], Namespaced),
        ("", "LimitRange", "limitranges", &["limits"], Namespaced),
        ("", "Namespace", "namespaces", &["ns"], Cluster),
        ("", "Node", "nodes", &["no"], Cluster),
        ("", "PersistentVolume", "persistentvolumes", &["pv"], Cluster),
        ("", "PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"], Namespaced),
        ("", "Pod", "pods", &["po"], Namespaced),
        ("", "ReplicationController", "replicationcontrollers", &["rc"], Namespaced),
        ("", "ResourceQuota", "resourcequotas", &["quota"], Namespaced),
        ("", "Secret", "secrets", &[], Namespaced),
        ("", "Service", "services", &["svc"], Namespaced),
        ("", "ServiceAccount", "serviceaccounts", &["sa"], Namespaced),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", &[], Cluster),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", &[], Cluster),
        ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", &["crd", "crds"], Cluster),
        ("apps", "DaemonSet", "daemonsets", &["ds"], Namespaced),
        ("apps", "Deployment", "deployments", &["deploy"], Namespaced),
        ("apps", "ReplicaSet", "replicasets", &["rs"], Namespaced),
        ("apps", "StatefulSet", "statefulsets", &["sts"], Namespaced),
        ("argoproj.io", "AnalysisTemplate", "analysistemplates", &["at"], Namespaced),
        ("argoproj.io", "Rollout", "rollouts", &["ro"], Namespaced),
        ("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"], Namespaced),
        ("batch", "CronJob", "cronjobs", &["cj"], Namespaced),
        ("batch", "Job", "jobs", &[], Namespaced),
        ("discovery.k8s.io", "EndpointSlice", "endpointslices", &[], Namespaced),
        ("extensions.istio.io", "WasmPlugin", "wasmplugins", &[], Namespaced),
        ("flagger.app", "Canary", "canaries", &[], Namespaced),
        ("gateway.networking.k8s.io", "GRPCRoute", "grpcroutes", &[], Namespaced),
        ("gateway.networking.k8s.io", "Gateway", "gateways", &["gtw"], Namespaced),
        ("gateway.networking.k8s.io", "GatewayClass", "gatewayclasses", &["gc"], Cluster),
        ("gateway.networking.k8s.io", "HTTPRoute", "httproutes", &[], Namespaced),
        ("gateway.networking.k8s.io", "ReferenceGrant", "referencegrants", &["refgrant"], Namespaced),
        ("networking.istio.io", "DestinationRule", "destinationrules", &["dr"], Namespaced),
        ("networking.istio.io", "EnvoyFilter", "envoyfilters", &[], Namespaced),
        ("networking.istio.io", "Gateway", "gateways", &["gw"], Namespaced),
        ("networking.istio.io", "ProxyConfig", "proxyconfigs", &[], Namespaced),
        ("networking.istio.io", "ServiceEntry", "serviceentries", &["se"], Namespaced),
        ("networking.istio.io", "Sidecar", "sidecars", &[], Namespaced),
        ("networking.istio.io", "VirtualService", "virtualservices", &["vs"], Namespaced),
        ("networking.istio.io", "WorkloadEntry", "workloadentries", &["we"], Namespaced),
        ("networking.istio.io", "WorkloadGroup", "workloadgroups", &["wg"], Namespaced),
        ("networking.k8s.io", "Ingress", "ingresses", &["ing"], Namespaced),
        ("networking.k8s.io", "IngressClass", "ingressclasses", &[], Cluster),
        ("networking.k8s.io", "NetworkPolicy", "networkpolicies", &["netpol"], Namespaced),
        ("policy", "PodDisruptionBudget", "poddisruptionbudgets", &["pdb"], Namespaced),
        ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", &[], Cluster),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", &[], Cluster),
        ("rbac.authorization.k8s.io", "Role", "roles", &[], Namespaced),
        ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings", &[], Namespaced),
        ("security.istio.io", "AuthorizationPolicy", "authorizationpolicies", &["ap"], Namespaced),
        ("security.istio.io", "PeerAuthentication", "peerauthentications", &["pa"], Namespaced),
        ("security.istio.io", "RequestAuthentication", "requestauthentications", &["ra"], Namespaced),
        ("telemetry.istio.io", "Telemetry", "telemetries", &["telemetry"], Namespaced),
    ]
};

impl ApiKind {
    /// The kinds that are known without a cluster.
    #[must_use]
    pub fn known() -> &'static [Self] {
        static KINDS: LazyLock<Vec<ApiKind>> = LazyLock::new(|| {
            let kinds = KNOWN.iter().map(|(group, kind, plural, short, scope)| ApiKind {
                group: (*group).to_owned(),
                kind: (*kind).to_owned(),
                plural: (*plural).to_owned(),
                short: short.iter().map(|name| (*name).to_owned()).collect(),
                scope: *scope,
            });
            kinds.collect()
        });
        &KINDS
    }

    /// The known kind with a group and a name.
    #[must_use]
    pub fn find(group: &str, kind: &str) -> Option<&'static Self> {
        Self::known().iter().find(|known| known.group == group && known.kind == kind)
    }

    /// The kind of an applied object. An unknown kind counts as namespaced, with a regular plural.
    #[must_use]
    pub fn of(group: &str, kind: &str) -> Self {
        Self::find(group, kind).cloned().unwrap_or_else(|| {
            let lower = kind.to_lowercase();
            let plural = match (lower.strip_suffix('y'), lower.ends_with('s')) {
                (Some(stem), _) => format!("{stem}ies"),
                (None, true) => format!("{lower}es"),
                (None, false) => format!("{lower}s"),
            };
            let (group, kind) = (group.to_owned(), kind.to_owned());
            Self { group, kind, plural, short: Vec::new(), scope: Scope::Namespaced }
        })
    }

    /// Whether a name refers to this kind: by kind, plural or short name in any case, alone, with the group, or with version and group.
    #[must_use]
    pub fn is_called(&self, written: &str) -> bool {
        let written = written.to_lowercase();
        let (name, group) =
            written.split_once('.').map_or((written.as_str(), None), |(name, group)| (name, Some(group)));
        let is_version = |text: &str| {
            let mut rest = text.strip_prefix('v').unwrap_or_default().chars();
            rest.next().is_some_and(|first| first.is_ascii_digit())
        };
        let in_group = group.is_none_or(|group| {
            let without_version =
                group.split_once('.').filter(|(version, _)| is_version(version)).map(|(_, rest)| rest);
            group == self.group || without_version == Some(self.group.as_str())
        });
        in_group
            && (name == self.kind.to_lowercase()
                || name == self.plural
                || self.short.iter().any(|short| *short == name))
    }
}

impl fmt::Display for ApiKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_group(formatter, &self.kind, &self.group)
    }
}

impl ObjectId {
    /// The id of an applied object. An object whose manifest names no namespace, or `declared`, is in `namespace`.
    #[must_use]
    pub fn of(manifest: &Manifest, scope: Scope, declared: &str, namespace: &str) -> Self {
        let written = manifest.object.metadata.namespace.as_deref();
        Self {
            kind: manifest.kind().to_owned(),
            group: manifest.group().to_owned(),
            namespace: effective_namespace(scope, written, declared, namespace),
            name: manifest.name().to_owned(),
        }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_group(formatter, &self.kind, &self.group)?;
        write!(formatter, "/{}", self.name)?;
        if self.namespace.is_empty() { Ok(()) } else { write!(formatter, " in namespace {}", self.namespace) }
    }
}

impl fmt::Display for KindRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(kind) | Self::Exact { kind, .. } => formatter.write_str(kind),
        }
    }
}

/// Writes a kind with its group, unless it is in the core group: `Deployment.apps`.
fn in_group(formatter: &mut fmt::Formatter<'_>, kind: &str, group: &str) -> fmt::Result {
    formatter.write_str(kind)?;
    if group.is_empty() { Ok(()) } else { write!(formatter, ".{group}") }
}

/// The namespace of an object; empty if it is cluster-scoped.
fn effective_namespace(scope: Scope, written: Option<&str>, declared: &str, namespace: &str) -> String {
    match (scope, written) {
        (Scope::Cluster, _) => String::new(),
        (Scope::Namespaced, Some(other)) if other != declared => other.to_owned(),
        (Scope::Namespaced, _) => namespace.to_owned(),
    }
}

impl Target {
    /// The deletion of the object that a manifest describes.
    #[must_use]
    pub fn of(manifest: &Manifest, origin: Origin) -> Self {
        let kind = KindRef::Exact {
            group: manifest.group().to_owned(),
            kind: manifest.kind().to_owned(),
            namespace: manifest.object.metadata.namespace.clone(),
        };
        Self { kind, name: manifest.name().to_owned(), origin }
    }

    /// The id of the object to delete, in the scenario's namespace unless a manifest names another one. If the written name refers to several
    /// of the `kinds`, the kind of the object with this name among those that the run has `applied` is used.
    ///
    /// # Errors
    /// The kind is unknown or ambiguous.
    pub fn resolve<'a>(
        &self,
        kinds: impl IntoIterator<Item = &'a ApiKind>,
        applied: impl IntoIterator<Item = &'a ObjectId>,
        declared: &str,
        namespace: &str,
    ) -> Result<ObjectId, UnresolvedKind> {
        let id = |kind: &ApiKind, written: Option<&str>| ObjectId {
            kind: kind.kind.clone(),
            group: kind.group.clone(),
            namespace: effective_namespace(kind.scope, written, declared, namespace),
            name: self.name.clone(),
        };
        let written = match &self.kind {
            KindRef::Written(written) => written,
            KindRef::Exact { group, kind, namespace } => {
                let known = kinds.into_iter().find(|known| known.group == *group && known.kind == *kind).cloned();
                return Ok(id(&known.unwrap_or_else(|| ApiKind::of(group, kind)), namespace.as_deref()));
            }
        };
        let called = kinds.into_iter().filter(|kind| kind.is_called(written));
        let mut candidates: BTreeMap<(String, String), ApiKind> =
            called.map(|kind| ((kind.kind.clone(), kind.group.clone()), kind.clone())).collect();
        let applied: Vec<&ObjectId> = applied.into_iter().collect();
        for object in &applied {
            let key = (object.kind.clone(), object.group.clone());
            let kind = ApiKind::of(&object.group, &object.kind);
            if kind.is_called(written) {
                candidates.entry(key).or_insert(kind);
            }
        }
        let all: Vec<&ApiKind> = candidates.values().collect();
        let of_applied: Vec<&ApiKind> =
            all.iter().copied().filter(|kind| applied.iter().any(|object| **object == id(kind, None))).collect();
        match (all.as_slice(), of_applied.as_slice()) {
            ([], _) => Err(UnresolvedKind::Unknown(written.clone())),
            ([one], _) | (_, [one]) => Ok(id(one, None)),
            _ => Err(UnresolvedKind::Ambiguous {
                written: written.clone(),
                candidates: all.iter().map(ToString::to_string).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn target(kind: &str, name: &str) -> Target {
        Target {
            kind: KindRef::Written(kind.to_owned()),
            name: name.to_owned(),
            origin: Origin::new("scenario.yaml", 1, 1),
        }
    }

    fn id(kind: &str, group: &str, namespace: &str, name: &str) -> ObjectId {
        let [kind, group, namespace, name] = [kind, group, namespace, name].map(str::to_owned);
        ObjectId { kind, group, namespace, name }
    }

    fn resolved(written: &str, applied: &[ObjectId]) -> Result<String, String> {
        let found = target(written, "x").resolve(ApiKind::known(), applied.iter(), "canary", "canary-1");
        found.map(|id| id.to_string()).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case::kind("VirtualService", "VirtualService.networking.istio.io/x in namespace canary-1")]
    #[case::any_case("virtualSERVICE", "VirtualService.networking.istio.io/x in namespace canary-1")]
    #[case::plural("virtualservices", "VirtualService.networking.istio.io/x in namespace canary-1")]
    #[case::irregular_plural("ingresses", "Ingress.networking.k8s.io/x in namespace canary-1")]
    #[case::short("vs", "VirtualService.networking.istio.io/x in namespace canary-1")]
    #[case::with_group("deployment.apps", "Deployment.apps/x in namespace canary-1")]
    #[case::with_version("deployments.v1.apps", "Deployment.apps/x in namespace canary-1")]
    #[case::core("svc", "Service/x in namespace canary-1")]
    #[case::cluster_scoped("clusterrole", "ClusterRole.rbac.authorization.k8s.io/x")]
    #[case::one_of_two_groups("gateway.networking.istio.io", "Gateway.networking.istio.io/x in namespace canary-1")]
    fn a_kind_is_found_by_every_name_that_kubectl_takes(#[case] written: &str, #[case] expected: &str) {
        assert_eq!(resolved(written, &[]).unwrap(), expected);
    }

    #[test]
    fn an_ambiguous_kind_is_refused_unless_one_object_of_that_name_was_applied() {
        let refused = "the kind `gateway` is ambiguous: it may be Gateway.gateway.networking.k8s.io or Gateway.networking.istio.io";
        let istio = id("Gateway", "networking.istio.io", "canary-1", "x");
        let kubernetes = id("Gateway", "gateway.networking.k8s.io", "canary-1", "x");
        assert_eq!(resolved("gateway", &[]).unwrap_err(), refused);
        assert_eq!(resolved("gateway", std::slice::from_ref(&istio)).unwrap(), istio.to_string());
        assert_eq!(resolved("gateway", &[istio, kubernetes]).unwrap_err(), refused);
    }

    #[test]
    fn a_kind_that_only_the_run_has_applied_is_found_and_another_is_not() {
        let applied = id("Sprocket", "example.com", "canary-1", "x");
        assert_eq!(resolved("sprockets", std::slice::from_ref(&applied)).unwrap(), applied.to_string());
        assert_eq!(resolved("sprockets", &[]).unwrap_err(), "there is no kind `sprockets`");
    }
}
