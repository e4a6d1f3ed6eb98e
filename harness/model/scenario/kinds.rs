use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use displaydoc::Display;
use serde::Deserialize;
use thiserror::Error;

use super::manifest::Manifest;
use super::origin::Origin;

/// A kind of object in an API group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKind {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind, such as `VirtualService`.
    pub kind: String,
    /// The plural, such as `virtualservices`.
    pub plural: String,
    /// Short names, such as `vs`.
    #[serde(default)]
    pub short: Vec<String>,
    /// Whether objects of the kind belong to a namespace.
    #[serde(default)]
    pub scope: Scope,
}

/// Whether objects of a kind belong to a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Scope {
    /// Namespaced.
    #[default]
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
#[derive(Debug, Clone, PartialEq, Eq, Display)]
pub enum KindRef {
    /// As in `KIND/NAME`: a kind, a plural or a short name in any case, with or without a group: `vs`, `gateway.networking.istio.io`.
    #[displaydoc("{0}")]
    Written(String),
    /// The kind of an object in a manifest file.
    #[displaydoc("{kind}")]
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
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
#[non_exhaustive]
pub enum UnresolvedKind {
    /// There is no such kind.
    #[error("there is no kind `{0}`")]
    Unknown(String),
    /// Several kinds have this name.
    #[error("the kind `{written}` is ambiguous: it may be {}", candidates.join(" or "))]
    Ambiguous { written: String, candidates: Vec<String> },
}

impl ApiKind {
    /// The kinds that are known without a cluster.
    pub fn known() -> &'static [Self] {
        static KINDS: LazyLock<Vec<ApiKind>> =
            LazyLock::new(|| serde_saphyr::from_str(include_str!("kinds.yaml")).unwrap_or_default());
        &KINDS
    }

    /// The known kind with a group and a name.
    pub fn find(group: &str, kind: &str) -> Option<&'static Self> {
        Self::known().iter().find(|known| known.group == group && known.kind == kind)
    }

    /// The kind of an applied object. An unknown kind counts as namespaced, with a regular plural.
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
    fn the_list_of_known_kinds_is_complete() {
        assert_eq!(ApiKind::known().len(), include_str!("kinds.yaml").matches("- {group: ").count());
        assert_eq!(ApiKind::known().len(), 54);
        assert_eq!(ApiKind::find("", "Namespace").unwrap().scope, Scope::Cluster);
    }

    #[test]
    fn a_kind_that_only_the_run_has_applied_is_found_and_another_is_not() {
        let applied = id("Sprocket", "example.com", "canary-1", "x");
        assert_eq!(resolved("sprockets", std::slice::from_ref(&applied)).unwrap(), applied.to_string());
        assert_eq!(resolved("sprockets", &[]).unwrap_err(), "there is no kind `sprockets`");
    }
}
