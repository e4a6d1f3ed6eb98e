use std::collections::BTreeMap;

use crate::scenario::{Manifest, Stage, Step};

/// The API group of Istio's own traffic rules, in all their versions.
const ISTIO: &str = "networking.istio.io";
/// The API group of the Kubernetes Gateway API.
const GATEWAY: &str = "gateway.networking.k8s.io";

/// The objects that a scenario has applied and not deleted again, as written.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The namespace of objects that name none.
    namespace: String,
    /// What the manifests call that namespace.
    declared: String,
    /// Counts the moments at which objects are made: those of one moment are too close to be told apart by their age.
    moment: u64,
    objects: BTreeMap<Key, Object>,
}

/// A kind that the model knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `Service`.
    Service,
    /// `Deployment`.
    Deployment,
    /// `Pod`.
    Pod,
    /// `Namespace`.
    Namespace,
    /// Istio's `VirtualService`.
    VirtualService,
    /// Istio's `DestinationRule`.
    DestinationRule,
    /// The Gateway API's `HTTPRoute`.
    HttpRoute,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    kind: String,
    namespace: String,
    name: String,
}

/// An object that is there.
#[derive(Debug, Clone)]
pub struct Object {
    /// As written.
    pub manifest: Manifest,
    /// Its namespace; empty for an object that belongs to none.
    pub namespace: String,
    /// The moment at which it was made.
    pub created: u64,
}

impl Kind {
    fn of(manifest: &Manifest) -> Option<Self> {
        match (manifest.group(), manifest.kind()) {
            ("", "Service") => Some(Self::Service),
            ("apps", "Deployment") => Some(Self::Deployment),
            ("", "Pod") => Some(Self::Pod),
            ("", "Namespace") => Some(Self::Namespace),
            (ISTIO, "VirtualService") => Some(Self::VirtualService),
            (ISTIO, "DestinationRule") => Some(Self::DestinationRule),
            (GATEWAY, "HTTPRoute") => Some(Self::HttpRoute),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Deployment => "deployment",
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::VirtualService => "virtualservice",
            Self::DestinationRule => "destinationrule",
            Self::HttpRoute => "httproute",
        }
    }
}

impl Key {
    /// Whether it is of that kind, in any case, singular or plural, and has that name.
    fn is_named(&self, kind: &str, name: &str) -> bool {
        let kind = kind.to_lowercase();
        self.name == name
            && (self.kind == kind
                || format!("{}s", self.kind) == kind
                || self.kind.strip_suffix('y').is_some_and(|stem| format!("{stem}ies") == kind))
    }
}

impl Live {
    /// No objects yet. Those that name no namespace, or the `declared` one, will be in `namespace`.
    #[must_use]
    pub fn new(declared: &str, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), declared: declared.to_owned(), ..Self::default() }
    }

    /// The namespace of objects that name none.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Does what a stage does.
    pub fn step_through(&mut self, stage: &Stage) {
        self.later();
        for step in &stage.steps {
            match step {
                Step::Apply(manifests) => manifests.iter().for_each(|manifest| self.apply(manifest)),
                Step::Delete(targets) => targets.iter().for_each(|target| self.delete(&target.kind, &target.name)),
                // objects stay what they are
                Step::Mesh(_) => {}
            }
        }
    }

    /// Objects that are applied from here on are younger than those before.
    pub fn later(&mut self) {
        self.moment += 1;
    }

    /// An object was applied.
    pub fn apply(&mut self, manifest: &Manifest) {
        let key = self.key(manifest);
        let namespace = key.namespace.clone();
        let created = self.objects.get(&key).map_or(self.moment, |earlier| earlier.created);
        self.objects.insert(key, Object { manifest: manifest.clone(), namespace, created });
    }

    /// An object was deleted; the kind in any case, singular or plural.
    pub fn delete(&mut self, kind: &str, name: &str) {
        self.objects.retain(|own, _| !own.is_named(kind, name));
    }

    /// The objects that a deletion would delete.
    pub fn named<'a>(&'a self, kind: &'a str, name: &'a str) -> impl Iterator<Item = &'a Object> {
        self.objects.iter().filter(move |(own, _)| own.is_named(kind, name)).map(|(_, object)| object)
    }

    /// The object that applying another one would change.
    #[must_use]
    pub fn like(&self, manifest: &Manifest) -> Option<&Object> {
        self.objects.get(&self.key(manifest))
    }

    fn key(&self, manifest: &Manifest) -> Key {
        Key {
            kind: manifest.kind().to_lowercase(),
            namespace: self.namespace_of(manifest),
            name: manifest.name().to_owned(),
        }
    }

    /// The object of that kind and name in the scenario's namespace.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        let namespace = if kind == Kind::Namespace { String::new() } else { self.namespace.clone() };
        self.objects.get(&Key { kind: kind.name().to_owned(), namespace, name: name.to_owned() })
    }

    /// All objects of a kind, in all namespaces.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        let from = Key { kind: kind.name().to_owned(), namespace: String::new(), name: String::new() };
        self.objects
            .range(from..)
            .take_while(move |(key, _)| key.kind == kind.name())
            .map(|(_, object)| object)
            .filter(move |object| Kind::of(&object.manifest) == Some(kind))
    }

    /// All objects.
    pub fn all(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    fn namespace_of(&self, manifest: &Manifest) -> String {
        match manifest.object.metadata.namespace.as_deref() {
            _ if Kind::of(manifest) == Some(Kind::Namespace) => String::new(),
            Some(other) if other != self.declared => other.to_owned(),
            _ => self.namespace.clone(),
        }
    }
}
