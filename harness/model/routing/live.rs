use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::admission::{Problem, with_defaults};
use crate::scenario::{ApiKind, Manifest, Metadata, ObjectId, Scope, Stage, Step, Target, UnresolvedKind};

/// The API group of Istio's traffic rules, in all versions.
const ISTIO: &str = "networking.istio.io";
/// The API group of the Kubernetes Gateway API.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// The objects that a scenario has applied and not deleted, with the defaults of their definitions.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// The namespace of objects whose manifests name none.
    namespace: String,
    /// The name of that namespace in the manifests.
    declared: String,
    /// The logical time of creation. Objects that are created at the same time are not ordered by age.
    moment: u64,
    objects: BTreeMap<ObjectId, Object>,
}

/// A kind that the model covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// `Service`.
    Service,
    /// `DaemonSet`.
    DaemonSet,
    /// `Deployment`.
    Deployment,
    /// `ReplicaSet`.
    ReplicaSet,
    /// `ReplicationController`.
    ReplicationController,
    /// `StatefulSet`.
    StatefulSet,
    /// `Pod`.
    Pod,
    /// `Namespace`.
    Namespace,
    /// `Secret`.
    Secret,
    /// Istio's `VirtualService`.
    VirtualService,
    /// Istio's `DestinationRule`.
    DestinationRule,
    /// Istio's `Gateway`.
    Gateway,
    /// The Gateway API's `Gateway`.
    KubernetesGateway,
    /// The Gateway API's `HTTPRoute`.
    HttpRoute,
    /// The Gateway API's `GRPCRoute`.
    GrpcRoute,
}

/// An applied object.
#[derive(Debug, Clone)]
pub struct Object {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// The namespace; empty for a cluster-scoped object.
    pub namespace: String,
    /// The logical time of creation.
    pub created: u64,
    /// What the API would refuse with each of the definitions, once it is asked for.
    pub(super) refused: Arc<[OnceLock<Vec<Problem>>; 2]>,
}

impl Kind {
    /// The kinds of workloads whose pods are modelled. A `DaemonSet` counts as one pod.
    pub const WORKLOADS: [Self; 5] =
        [Self::DaemonSet, Self::Deployment, Self::ReplicaSet, Self::ReplicationController, Self::StatefulSet];

    /// The API group and the name of the kind.
    const fn group_and_name(self) -> (&'static str, &'static str) {
        match self {
            Self::Service => ("", "Service"),
            Self::DaemonSet => ("apps", "DaemonSet"),
            Self::Deployment => ("apps", "Deployment"),
            Self::ReplicaSet => ("apps", "ReplicaSet"),
            Self::ReplicationController => ("", "ReplicationController"),
            Self::StatefulSet => ("apps", "StatefulSet"),
            Self::Pod => ("", "Pod"),
            Self::Namespace => ("", "Namespace"),
            Self::Secret => ("", "Secret"),
            Self::VirtualService => (ISTIO, "VirtualService"),
            Self::DestinationRule => (ISTIO, "DestinationRule"),
            Self::Gateway => (ISTIO, "Gateway"),
            Self::KubernetesGateway => (GATEWAY_API, "Gateway"),
            Self::HttpRoute => (GATEWAY_API, "HTTPRoute"),
            Self::GrpcRoute => (GATEWAY_API, "GRPCRoute"),
        }
    }
}

impl Live {
    /// No objects. Objects whose manifests name no namespace, or `declared`, belong to `namespace`.
    pub fn new(declared: &str, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), declared: declared.to_owned(), ..Self::default() }
    }

    /// The namespace of objects whose manifests name none.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Applies and deletes the objects of a stage.
    pub fn step_through(&mut self, stage: &Stage) {
        self.later();
        for step in &stage.steps {
            match step {
                Step::Apply(manifest) => self.apply_shared(manifest),
                Step::Delete(target) => self.delete(target),
                // the plan adds what a controller makes of its object; changes of the mesh leave objects as they are
                Step::Act(_) | Step::Gate(_) | Step::Mesh(_) => {}
            }
        }
    }

    /// Advances the logical time: objects that are applied from now on are younger.
    pub fn later(&mut self) {
        self.moment += 1;
    }

    /// Applies an object.
    pub fn apply(&mut self, manifest: &Manifest) {
        self.apply_shared(&Arc::new(manifest.clone()));
    }

    /// Applies an object whose manifest others read too, so that it is not copied.
    pub fn apply_shared(&mut self, manifest: &Arc<Manifest>) {
        let key = self.id(manifest);
        let namespace = key.namespace.clone();
        let created = self.objects.get(&key).map_or(self.moment, |earlier| earlier.created);
        let manifest = with_defaults(manifest);
        self.objects.insert(key, Object { manifest, namespace, created, refused: Arc::default() });
    }

    /// Deletes an object; with a namespace, all objects in it. If the kind is unknown or ambiguous, nothing is deleted.
    pub fn delete(&mut self, target: &Target) {
        let Ok(id) = self.resolve(target) else { return };
        self.objects.remove(&id);
        if is_namespace(&id) {
            self.objects.retain(|other, _| other.namespace != id.name);
        }
    }

    /// Removes the object that a manifest describes.
    pub fn remove(&mut self, manifest: &Manifest) {
        let id = self.id(manifest);
        self.objects.remove(&id);
    }

    /// Changes the data of an object in the scenario's namespace, if it is there.
    pub fn edit(&mut self, kind: Kind, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let key = self.key(kind, name);
        if let Some(object) = self.objects.get_mut(&key) {
            change(&mut Arc::make_mut(&mut object.manifest).object.data);
        }
    }

    /// Changes the data of an object in the scenario's namespace. One that is not there is created as if written where `like` is.
    pub fn put(&mut self, kind: Kind, name: &str, data: serde_json::Value, like: &Manifest) {
        if self.get(kind, name).is_some() {
            return self.edit(kind, name, |own| *own = data);
        }
        let (group, kind) = kind.group_and_name();
        let mut made = like.clone();
        made.object.api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        kind.clone_into(&mut made.object.kind);
        let namespace = made.object.metadata.namespace.take();
        made.object.metadata = Metadata { name: name.to_owned(), namespace, ..Metadata::default() };
        made.object.data = data;
        self.apply(&made);
    }

    /// The object that a deletion refers to, if it exists.
    pub fn named(&self, target: &Target) -> Option<&Object> {
        self.objects.get(&self.resolve(target).ok()?)
    }

    /// The id of the object that a deletion refers to.
    ///
    /// # Errors
    /// The kind is unknown or ambiguous.
    pub fn resolve(&self, target: &Target) -> Result<ObjectId, UnresolvedKind> {
        target.resolve(ApiKind::known(), self.objects.keys(), &self.declared, &self.namespace)
    }

    /// The object that applying a manifest would change.
    pub fn like(&self, manifest: &Manifest) -> Option<&Object> {
        self.objects.get(&self.id(manifest))
    }

    /// The id of an object once it is applied.
    pub fn id(&self, manifest: &Manifest) -> ObjectId {
        let scope = ApiKind::of(manifest.group(), manifest.kind()).scope;
        ObjectId::of(manifest, scope, &self.declared, &self.namespace)
    }

    /// The ids of all objects.
    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.objects.keys()
    }

    /// The objects that a run has to delete to leave nothing behind: all except the run's namespace, which is deleted at the end.
    pub fn left(&self) -> impl Iterator<Item = &ObjectId> {
        let is_of_run = |id: &ObjectId| is_namespace(id) && id.name == self.declared;
        self.objects.keys().filter(move |id| !is_of_run(id))
    }

    /// The object of that kind and name in the scenario's namespace.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects.get(&self.key(kind, name))
    }

    fn key(&self, kind: Kind, name: &str) -> ObjectId {
        let (group, kind) = kind.group_and_name();
        let scope = ApiKind::of(group, kind).scope;
        let namespace = if scope == Scope::Cluster { String::new() } else { self.namespace.clone() };
        ObjectId { kind: kind.to_owned(), group: group.to_owned(), namespace, name: name.to_owned() }
    }

    /// All objects of a kind, in all namespaces.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        let (group, kind) = kind.group_and_name();
        let from =
            ObjectId { kind: kind.to_owned(), group: group.to_owned(), namespace: String::new(), name: String::new() };
        let objects = self.objects.range(from..).take_while(move |(id, _)| id.kind == kind && id.group == group);
        objects.map(|(_, object)| object)
    }

    /// All objects.
    pub fn all(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }
}

fn is_namespace(id: &ObjectId) -> bool {
    id.group.is_empty() && id.kind == "Namespace"
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::{KindRef, Origin, parse_manifests};

    fn manifests(text: &str) -> Vec<Manifest> {
        parse_manifests(Path::new("objects.yaml"), text).unwrap()
    }

    fn live(text: &str) -> Live {
        let mut live = Live::new("canary", "canary-1");
        for manifest in manifests(text) {
            live.apply(&manifest);
        }
        live
    }

    fn ids(live: &Live) -> Vec<String> {
        live.ids().map(ToString::to_string).collect()
    }

    fn written(kind: &str, name: &str) -> Target {
        Target {
            kind: KindRef::Written(kind.to_owned()),
            name: name.to_owned(),
            origin: Origin::new("scenario.yaml", 1, 1),
        }
    }

    const GATEWAYS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front}
";

    #[test]
    fn one_kind_in_two_groups_is_two_objects() {
        let mut live = live(GATEWAYS);
        assert_eq!(live.ids().count(), 2);
        // the kind is ambiguous, so that nothing is deleted
        live.delete(&written("gateway", "front"));
        assert_eq!(live.ids().count(), 2);
        live.delete(&written("gateway.networking.istio.io", "front"));
        assert_eq!(ids(&live), ["Gateway.gateway.networking.k8s.io/front in namespace canary-1"]);
    }

    const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: hello}
---
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: other}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: hello, namespace: other}
---
apiVersion: v1
kind: Namespace
metadata: {name: canary}
";

    #[test]
    fn a_deletion_by_name_deletes_in_the_namespace_of_the_scenario_alone() {
        let mut live = live(SERVICES);
        live.delete(&written("svc", "hello"));
        let left: Vec<String> = live.left().map(ToString::to_string).collect();
        assert_eq!(left, ["ClusterRole.rbac.authorization.k8s.io/hello", "Service/hello in namespace other"]);
    }

    #[test]
    fn a_namespace_takes_its_objects_along() {
        let mut live = live(&SERVICES.replace("name: canary}", "name: other}"));
        live.delete(&written("ns", "other"));
        let left: Vec<String> = live.left().map(ToString::to_string).collect();
        assert_eq!(left, ["ClusterRole.rbac.authorization.k8s.io/hello", "Service/hello in namespace canary-1"]);
    }

    #[test]
    fn a_deletion_by_file_deletes_exactly_the_objects_of_the_file() {
        let mut live = live(&format!("{SERVICES}---{GATEWAYS}"));
        for manifest in &manifests(SERVICES)[1..3] {
            live.delete(&Target::of(manifest, manifest.origin.clone()));
        }
        live.delete(&Target::of(&manifests(GATEWAYS)[1], Origin::new("objects.yaml", 1, 1)));
        let left: Vec<String> = live.left().map(ToString::to_string).collect();
        assert_eq!(
            left,
            ["Gateway.networking.istio.io/front in namespace canary-1", "Service/hello in namespace canary-1"]
        );
    }
}
