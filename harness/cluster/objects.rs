use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams,
    ValidationDirective,
};
use kube::discovery::{Discovery, Scope};
use kube::{Api, Client};
use serde_json::json;

use super::ClusterError;
use super::run::RunId;
use super::wait::{Again, Progress, until};
use crate::scenario::{Manifest, Origin, Target};

/// The label with the run's id, on everything that a run makes.
pub const RUN_LABEL: &str = "shiftcheck.dev/run";
const FIELD_MANAGER: &str = "shiftcheck";
/// The field manager of restarts, and the annotation that brings one about.
const RESTARTER: &str = "shiftcheck-restart";
const RESTARTED: &str = "shiftcheck.dev/restarted-at-generation";
/// The longest that a deleted pod may take to go, and how often it is looked for.
const GONE_LIMIT: Duration = Duration::from_secs(60);
const GONE_INTERVAL: Duration = Duration::from_millis(50);

/// What the API server made of an applied object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its unique id: tells it from an earlier object of the same name.
    pub uid: String,
    /// The generation that was asked for.
    pub generation: i64,
}

/// Applies and deletes the objects of a run.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    discovery: Arc<Discovery>,
    run: RunId,
    /// The namespace as the scenario names it.
    declared: String,
    /// The namespace as it is on this cluster.
    namespace: String,
    /// Whether the cluster is the run's own, or only the namespace.
    confined: bool,
    kinds: BTreeMap<String, ApiResource>,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Objects").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Objects {
    /// Objects of a run in `namespace`, which the scenario calls `declared`. On a cluster that is not the run's own they are
    /// `confined` to it.
    ///
    /// # Errors
    /// The API server does not tell its kinds.
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
            discovery: Arc::new(discovery),
            run,
            declared: declared.to_owned(),
            namespace: namespace.to_owned(),
            confined,
            kinds: BTreeMap::new(),
        })
    }

    /// Creates the run's namespace, with these labels beside the run's.
    ///
    /// # Errors
    /// It is there already, or the API server refuses.
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

    /// Applies an object, server-side and with strict field validation.
    ///
    /// # Errors
    /// The cluster knows no such kind, the object would land outside of the namespace on a cluster that is not the run's
    /// own, or the API server rejects it.
    pub async fn apply(&mut self, manifest: &Manifest) -> Result<Applied, ClusterError> {
        let mut object = manifest.object.clone();
        let origin = || manifest.origin.clone();
        let Some((resource, capabilities)) = self.discovery.resolve_object(&object) else {
            return Err(ClusterError::UnknownKind {
                origin: origin(),
                kind: manifest.kind().to_owned(),
                api_version: object.types.map(|types| types.api_version).unwrap_or_default(),
            });
        };
        let api = if capabilities.scope == Scope::Cluster {
            if self.confined {
                return Err(self.outside(manifest));
            }
            Api::<DynamicObject>::all_with(self.client.clone(), &resource)
        } else {
            let namespace = match object.metadata.namespace.as_deref() {
                None => self.namespace.clone(),
                Some(declared) if declared == self.declared => self.namespace.clone(),
                Some(_) if self.confined => return Err(self.outside(manifest)),
                Some(other) => other.to_owned(),
            };
            object.metadata.namespace = Some(namespace.clone());
            Api::namespaced_with(self.client.clone(), &namespace, &resource)
        };
        object.metadata.labels.get_or_insert_default().insert(RUN_LABEL.to_owned(), self.run.to_string());
        let parameters = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        let made =
            api.patch(manifest.name(), &parameters, &Patch::Apply(&object)).await.map_err(|error| match error {
                kube::Error::Api(status) => ClusterError::Rejected { origin: origin(), id: manifest.id(), status },
                other => ClusterError::api(format!("applying {}", manifest.id()))(other),
            })?;
        self.kinds.insert(resource.kind.clone(), resource);
        Ok(Applied {
            kind: manifest.kind().to_owned(),
            name: manifest.name().to_owned(),
            uid: made.metadata.uid.unwrap_or_default(),
            generation: made.metadata.generation.unwrap_or_default(),
        })
    }

    /// Deletes an object; what it owns goes in the background.
    ///
    /// # Errors
    /// The cluster knows no such kind, there is no such object, or the API server refuses.
    pub async fn delete(&mut self, target: &Target) -> Result<(), ClusterError> {
        let resource = self
            .kind(&target.kind)
            .ok_or_else(|| ClusterError::UnknownTarget { place: target.place.clone(), kind: target.kind.clone() })?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        match api.delete(&target.name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => {
                let (path, line) = target.place.rsplit_once(':').unwrap_or((&target.place, ""));
                Err(ClusterError::Rejected {
                    origin: Origin { path: path.into(), line: line.parse().unwrap_or(0), column: None },
                    id: format!("the deletion of {}/{}", target.kind, target.name),
                    status,
                })
            }
            Err(error) => Err(ClusterError::api(format!("deleting {}/{}", target.kind, target.name))(error)),
        }
    }

    /// Makes the pods of every Deployment in the namespace start anew.
    ///
    /// # Errors
    /// The API server does not list them, or refuses.
    pub async fn restart(&self) -> Result<Vec<Applied>, ClusterError> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = deployments.list_metadata(&ListParams::default()).await;
        let mut restarted = Vec::new();
        for deployment in list.map_err(ClusterError::api("listing every Deployment"))?.items {
            let Some(name) = deployment.metadata.name else { continue };
            // another field manager than that of what the stages apply, which is not to undo it
            let generation = deployment.metadata.generation.unwrap_or(0);
            let annotations = json!({RESTARTED: generation.to_string()});
            let patch = json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
            let parameters = PatchParams { field_manager: Some(RESTARTER.to_owned()), ..PatchParams::default() };
            let made = deployments
                .patch(&name, &parameters, &Patch::Strategic(patch))
                .await
                .map_err(ClusterError::api(format!("restarting Deployment/{name}")))?;
            restarted.push(Applied {
                kind: "Deployment".to_owned(),
                name,
                uid: made.metadata.uid.unwrap_or_default(),
                generation: made.metadata.generation.unwrap_or_default(),
            });
        }
        Ok(restarted)
    }

    /// Deletes a pod and waits until it is gone.
    ///
    /// # Errors
    /// The API server refuses, or it takes too long.
    pub async fn end_pod(&self, name: &str, seen: impl FnMut(&str)) -> Result<(), ClusterError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        match pods.delete(name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(error) => return Err(ClusterError::api(format!("deleting Pod/{name}"))(error)),
        }
        until(format!("the end of pod {name}"), GONE_LIMIT, Again::Every(GONE_INTERVAL), seen, async || {
            match pods.get_metadata_opt(name).await {
                Ok(None) => Progress::Done(()),
                Ok(Some(_)) => Progress::NotYet(format!("{name} is on its way out")),
                Err(error) => Progress::NotYet(error.to_string()),
            }
        })
        .await
        .map_err(Into::into)
    }

    /// Sets labels of the namespace; those without a value are taken away.
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

    /// What the run has applied and is still there, pods included, as `Kind/name`.
    ///
    /// # Errors
    /// The API server does not list them.
    pub async fn remaining(&self) -> Result<Vec<String>, ClusterError> {
        let mut remaining = BTreeSet::new();
        let own = ListParams::default().labels(&format!("{RUN_LABEL}={}", self.run));
        for (kind, resource) in &self.kinds {
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, resource);
            let list = api.list_metadata(&own).await.map_err(ClusterError::api(format!("listing every {kind}")))?;
            remaining.extend(list.items.into_iter().filter_map(|item| Some(format!("{kind}/{}", item.metadata.name?))));
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = pods.list_metadata(&ListParams::default()).await.map_err(ClusterError::api("listing every Pod"))?;
        remaining.extend(list.items.into_iter().filter_map(|item| Some(format!("Pod/{}", item.metadata.name?))));
        Ok(remaining.into_iter().collect())
    }

    /// The kind that is called so, in any case, singular or plural.
    fn kind(&self, name: &str) -> Option<ApiResource> {
        let name = name.to_lowercase();
        self.discovery
            .groups()
            .flat_map(kube::discovery::ApiGroup::recommended_resources)
            .map(|(resource, _)| resource)
            .find(|resource| resource.kind.to_lowercase() == name || resource.plural == name)
    }

    fn outside(&self, manifest: &Manifest) -> ClusterError {
        ClusterError::Outside { origin: manifest.origin.clone(), id: manifest.id(), namespace: self.namespace.clone() }
    }
}

/// The kinds that the API server knows now.
///
/// # Errors
/// It does not tell.
pub(crate) async fn discover(client: &Client) -> Result<Discovery, ClusterError> {
    Discovery::new(client.clone())
        .run_aggregated()
        .await
        .map_err(ClusterError::api("asking for the kinds that it knows"))
}
