mod foreign;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams, TypeMeta,
    ValidationDirective,
};
use kube::discovery::{ApiCapabilities, Discovery};
use kube::{Api, Client};
use serde_json::json;

use self::foreign::{Left, forget, remember_restarted};
use super::ClusterError;
use super::discovery::{discover, kinds, scope};
use super::reach::{Bounds, Extent, confine, extent};
use super::run_id::RunId;
use super::wait::{Again, Awaited, Progress, until};
use crate::events::Reach;
use crate::scenario::{ApiKind, Manifest, ObjectId, Origin, Target, UnresolvedKind};

/// The label with the id of the run, on every object that a run creates.
pub const RUN_LABEL: &str = "shiftcheck.dev/run";
const FIELD_MANAGER: &str = "shiftcheck";
/// The field manager of restarts, and the annotation that triggers a restart.
const RESTARTER: &str = "shiftcheck-restart";
const RESTARTED: &str = "shiftcheck.dev/restarted-at-generation";
/// The timeout for the removal of a pod, and the interval of checks.
const GONE_LIMIT: Duration = Duration::from_secs(60);
const GONE_INTERVAL: Duration = Duration::from_millis(50);

/// An applied object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The unique id, which differs from that of an earlier object with the same name.
    pub uid: String,
    /// The generation after the change.
    pub generation: i64,
}

impl Applied {
    fn of(kind: &str, name: &str, made: ObjectMeta) -> Self {
        let (uid, generation) = (made.uid.unwrap_or_default(), made.generation.unwrap_or_default());
        Self { kind: kind.to_owned(), name: name.to_owned(), uid, generation }
    }
}

/// A deleted object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The unique id, which differs from that of a later object with the same name.
    pub uid: String,
}

/// Applies and deletes the objects of a run.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    discovery: Arc<Discovery>,
    /// The kinds whose objects can be deleted.
    kinds: Arc<Vec<ApiKind>>,
    run: RunId,
    /// The namespace in the scenario.
    declared: String,
    /// The namespace on the cluster.
    namespace: String,
    /// Whether the run may change only its namespace.
    confined: bool,
    /// Whether gateways in other namespaces have to see the rules of its own hosts.
    seen_by_gateways: bool,
    /// The objects that the run has applied, including deleted ones.
    applied: BTreeMap<ObjectId, ApiResource>,
    /// The objects that the run has applied and not deleted, as it has left them.
    left: BTreeMap<ObjectId, Left>,
}

impl Objects {
    /// Objects of a run in `namespace`, which is `declared` in the scenario. On an existing cluster they are `confined` to it.
    ///
    /// # Errors
    /// The API server does not list its kinds.
    pub async fn new(
        client: Client,
        run: RunId,
        declared: &str,
        namespace: &str,
        confined: bool,
    ) -> Result<Self, ClusterError> {
        let discovery = discover(&client).await?;
        Ok(Self {
            client,
            kinds: Arc::new(kinds(&discovery)),
            discovery: Arc::new(discovery),
            run,
            declared: declared.to_owned(),
            namespace: namespace.to_owned(),
            confined,
            seen_by_gateways: false,
            applied: BTreeMap::new(),
            left: BTreeMap::new(),
        })
    }

    /// Leaves the `DestinationRule`s of a confined run visible in other namespaces if gateways there have to apply them: a gateway sends no
    /// requests to subsets that it does not see.
    #[must_use]
    pub fn seen_by_gateways(self, seen_by_gateways: bool) -> Self {
        Self { seen_by_gateways, ..self }
    }

    /// The namespace on the cluster.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Creates the run's namespace with these labels and the run's label.
    ///
    /// # Errors
    /// The namespace already exists, or the API server refuses.
    pub async fn create_namespace(&self, labels: &BTreeMap<String, String>) -> Result<(), ClusterError> {
        let mut labels = labels.clone();
        labels.insert(RUN_LABEL.to_owned(), self.run.to_string());
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(self.namespace.clone()), labels: Some(labels), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        match Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                Err(ClusterError::NamespaceTaken(self.namespace.clone()))
            }
            Err(error) => Err(ClusterError::api(format!("creating the namespace `{}`", self.namespace))(error)),
        }
    }

    /// Finds the effects of objects outside of the run's namespace on an existing cluster, without applying them. `root` is Istio's root
    /// namespace. Objects of unknown kinds are skipped: they cannot be applied either.
    ///
    /// # Errors
    /// An object is in another namespace or in none: it would not be removed with the namespace of the run.
    pub fn reach<'a>(
        &self,
        manifests: impl Iterator<Item = &'a Manifest>,
        root: &str,
    ) -> Result<Vec<Reach>, ClusterError> {
        let mut found = Vec::new();
        for manifest in manifests {
            let Some((_, capabilities)) = self.resolve(manifest) else { continue };
            let id = ObjectId::of(manifest, scope(&capabilities.scope), &self.declared, &self.namespace);
            if self.is_outside(&id) {
                return Err(self.outside(manifest.origin.clone(), manifest.id()));
            }
            if let Extent::Outside(reach) = extent(manifest, self.bounds(root)) {
                found.extend(reach.into_iter().filter(|reach| !found.contains(reach)).collect::<Vec<_>>());
            }
        }
        Ok(found)
    }

    fn bounds<'a>(&'a self, root: &'a str) -> Bounds<'a> {
        Bounds { namespace: &self.namespace, root }
    }

    /// Applies an object by server-side apply with strict field validation.
    ///
    /// # Errors
    /// The cluster does not have the kind, the object is outside of the namespace on an existing cluster, or the API server rejects it.
    pub async fn apply(&mut self, manifest: &Manifest) -> Result<Applied, ClusterError> {
        let mut object = manifest.object.clone();
        let origin = || manifest.origin.clone();
        if self.resolve(manifest).is_none() {
            self.discover_again().await?;
        }
        let Some((resource, capabilities)) = self.resolve(manifest) else {
            return Err(ClusterError::UnknownKind {
                origin: origin(),
                kind: object.kind,
                api_version: object.api_version,
            });
        };
        let id = ObjectId::of(manifest, scope(&capabilities.scope), &self.declared, &self.namespace);
        if self.is_outside(&id) {
            return Err(self.outside(manifest.origin.clone(), manifest.id()));
        }
        if !id.namespace.is_empty() {
            object.metadata.namespace = Some(id.namespace.clone());
        }
        let is_seen = self.seen_by_gateways && manifest.kind() == "DestinationRule";
        if self.confined && !is_seen && extent(manifest, self.bounds("")) == Extent::InsideIfConfined {
            confine(&mut object.data);
        }
        let api = self.api(&id.namespace, &resource);
        object.metadata.labels.get_or_insert_default().insert(RUN_LABEL.to_owned(), self.run.to_string());
        let parameters = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        let made =
            api.patch(manifest.name(), &parameters, &Patch::Apply(&object)).await.map_err(|error| match error {
                kube::Error::Api(status) => ClusterError::answered(origin(), manifest.id(), status),
                other => ClusterError::api(format!("applying {}", manifest.id()))(other),
            })?;
        self.left.insert(id.clone(), Left::of(&made.metadata));
        self.applied.insert(id, resource);
        Ok(Applied::of(manifest.kind(), manifest.name(), made.metadata))
    }

    /// Discovers the kinds of the run's own cluster once more. A definition that was applied shortly before the first discovery may have been
    /// missing there, and a scenario may apply one. On an existing cluster the kinds stay those whose reach was checked.
    async fn discover_again(&mut self) -> Result<(), ClusterError> {
        if !self.confined {
            let discovery = discover(&self.client).await?;
            self.kinds = Arc::new(kinds(&discovery));
            self.discovery = Arc::new(discovery);
        }
        Ok(())
    }

    /// Deletes an object. Its dependents are deleted in the background.
    ///
    /// # Errors
    /// The kind is unknown or ambiguous, the object is outside of the namespace on an existing cluster, it does not exist, or the API server
    /// refuses.
    pub async fn delete(&mut self, target: &Target) -> Result<Deleted, ClusterError> {
        let id = target
            .resolve(self.kinds.iter(), self.applied.keys(), &self.declared, &self.namespace)
            .map_err(|source| ClusterError::Target { place: target.origin.clone(), source })?;
        let resource = self.resource(&id).ok_or_else(|| ClusterError::Target {
            place: target.origin.clone(),
            source: UnresolvedKind::Unknown(target.kind.to_string()),
        })?;
        let origin = target.origin.clone();
        let what = format!("the deletion of {}/{}", target.kind, target.name);
        if self.is_outside(&id) {
            return Err(self.outside(origin, what));
        }
        let uid = match self.api(&id.namespace, &resource).delete(&id.name, &DeleteParams::background()).await {
            Ok(deleted) => deleted.either(
                |object| object.metadata.uid,
                |status| status.details.map(|details| details.uid).filter(|uid| !uid.is_empty()),
            ),
            Err(kube::Error::Api(status)) => return Err(ClusterError::answered(origin, what, status)),
            Err(error) => return Err(ClusterError::api(format!("deleting {id}"))(error)),
        };
        forget(&mut self.left, &id);
        Ok(Deleted { kind: id.kind, name: id.name, uid: uid.unwrap_or_default() })
    }

    /// Restarts every Deployment in the namespace.
    ///
    /// # Errors
    /// The API server does not list the Deployments, or refuses the change.
    pub async fn restart(&mut self) -> Result<Vec<Applied>, ClusterError> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = deployments.list_metadata(&ListParams::default()).await;
        let mut restarted = Vec::new();
        for deployment in list.map_err(ClusterError::api("listing every Deployment"))?.items {
            let Some(name) = deployment.metadata.name else { continue };
            // a separate field manager, so that applying a stage does not remove the annotation
            let generation = deployment.metadata.generation.unwrap_or(0);
            let annotations = json!({RESTARTED: generation.to_string()});
            let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
            let parameters = PatchParams { field_manager: Some(RESTARTER.to_owned()), ..PatchParams::default() };
            let made = deployments
                .patch(&name, &parameters, &Patch::Strategic(patch))
                .await
                .map_err(ClusterError::api(format!("restarting Deployment/{name}")))?;
            remember_restarted(&mut self.left, &self.namespace, &made.metadata);
            restarted.push(Applied::of("Deployment", &name, made.metadata));
        }
        Ok(restarted)
    }

    /// Deletes a pod and waits until it is removed.
    ///
    /// # Errors
    /// The API server refuses, or the wait times out.
    pub async fn end_pod(&self, name: &str, seen: impl FnMut(&str)) -> Result<(), ClusterError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        match pods.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(ClusterError::api(format!("deleting Pod/{name}"))(error)),
        }
        let check = async || match pods.get_metadata_opt(name).await {
            Ok(None) => Progress::Done(()),
            Ok(Some(_)) => Progress::NotYet(format!("{name} is terminating")),
            Err(error) => Progress::after(error),
        };
        let what = Awaited::PodRemoval(name.to_owned());
        Ok(until(what, GONE_LIMIT, Again::Every(GONE_INTERVAL), seen, check).await?)
    }

    /// Sets labels of the namespace and removes those without a value.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn label_namespace(&self, labels: &BTreeMap<String, Option<String>>) -> Result<(), ClusterError> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let patch = json!({"metadata": {"labels": labels}});
        namespaces
            .patch(&self.namespace, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map(|_| ())
            .map_err(ClusterError::api(format!("labelling the namespace `{}`", self.namespace)))
    }

    /// Lists the remaining objects that the run has applied, and all pods of the namespace: kind, group, name and namespace of each. The run's
    /// own namespace is not listed; it is removed at the end of the run.
    ///
    /// # Errors
    /// The API server does not list the objects.
    pub async fn remaining(&self) -> Result<Vec<String>, ClusterError> {
        let mut remaining = BTreeSet::new();
        let own = ListParams::default().labels(&format!("{RUN_LABEL}={}", self.run));
        let mut lists: BTreeMap<(&str, &str, &str), &ApiResource> = BTreeMap::new();
        for (id, resource) in &self.applied {
            lists.insert((&id.kind, &id.group, &id.namespace), resource);
        }
        for ((kind, group, namespace), resource) in lists {
            let list = match self.api(namespace, resource).list_metadata(&own).await {
                Ok(list) => list.items,
                // the CRD was deleted with all objects of the kind
                Err(kube::Error::Api(status)) if status.is_not_found() => continue,
                Err(error) => return Err(ClusterError::api(format!("listing every {kind}"))(error)),
            };
            let ids = list.into_iter().filter_map(|item| item.metadata.name).map(|name| ObjectId {
                kind: kind.to_owned(),
                group: group.to_owned(),
                namespace: namespace.to_owned(),
                name,
            });
            let is_own = |id: &ObjectId| id.group.is_empty() && id.kind == "Namespace" && id.name == self.namespace;
            remaining.extend(ids.filter(|id| !is_own(id)));
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = pods.list_metadata(&ListParams::default()).await.map_err(ClusterError::api("listing every Pod"))?;
        let names = list.items.into_iter().filter_map(|item| item.metadata.name);
        remaining.extend(names.map(|name| ObjectId {
            kind: "Pod".to_owned(),
            group: String::new(),
            namespace: self.namespace.clone(),
            name,
        }));
        Ok(remaining.iter().map(ToString::to_string).collect())
    }

    /// The API of a kind in a namespace, or in the cluster if the namespace is empty.
    fn api(&self, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, resource)
        }
    }

    /// The API resource of a manifest with its capabilities; none if the cluster does not have the kind.
    fn resolve(&self, manifest: &Manifest) -> Option<(ApiResource, ApiCapabilities)> {
        let types = TypeMeta { api_version: manifest.object.api_version.clone(), kind: manifest.object.kind.clone() };
        self.discovery.resolve_typemeta(&types)
    }

    /// The API resource of an object.
    fn resource(&self, id: &ObjectId) -> Option<ApiResource> {
        let applied = self.applied.get(id).cloned();
        applied.or_else(|| {
            let group = self.discovery.get(&id.group)?;
            group.recommended_kind(&id.kind).map(|(resource, _)| resource)
        })
    }

    /// Whether an object is outside of the run's namespace on an existing cluster.
    fn is_outside(&self, id: &ObjectId) -> bool {
        self.confined && id.namespace != self.namespace
    }

    fn outside(&self, origin: Origin, id: String) -> ClusterError {
        ClusterError::Outside { origin, id, namespace: self.namespace.clone() }
    }
}

#[cfg(test)]
mod tests;
