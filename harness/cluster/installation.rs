use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::discovery::{Discovery, Scope};
use kube::runtime::wait::await_condition;
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::json;

use super::ClusterError;
use super::discovery::discover;
use super::error::is_about_object;
use super::wait::{Awaited, Failure, WaitError};

const FIELD_MANAGER: &str = "shiftcheck";
/// The number of objects applied concurrently.
const AT_ONCE: usize = 8;
/// The timeout for CRDs.
const LIMIT: Duration = Duration::from_secs(180);

/// The objects of software that is installed on a cluster.
#[derive(Debug)]
pub(crate) struct Installation<'a> {
    /// The software, for messages.
    pub what: &'a str,
    /// The namespace, which is created; that of objects that name none.
    pub namespace: &'a str,
    /// The objects.
    pub objects: Vec<DynamicObject>,
}

impl Installation<'_> {
    /// Leaves out the CRDs.
    pub fn leave_definitions(&mut self) {
        self.objects.retain(|object| !is_definition(object));
    }

    /// Applies the CRDs and the namespace, then the rest; objects of the kind `last` after all others.
    ///
    /// # Errors
    /// The API server rejects an object, or a CRD is not established in time.
    pub async fn apply(mut self, client: &Client, last: &str) -> Result<(), ClusterError> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        let namespace = serde_json::from_value(namespace).unwrap_or_else(|_| unreachable!("a literal"));
        let (mut first, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.objects).into_iter().partition(is_definition);
        let definitions: Vec<String> = first.iter().map(DynamicObject::name_any).collect();
        first.push(namespace);
        self.apply_all(client, first).await?;
        let (then, now): (Vec<_>, Vec<_>) = rest.into_iter().partition(|object| kind(object) == last);
        let applied = async {
            self.apply_all(client, now).await?;
            if then.is_empty() { Ok(()) } else { self.apply_all(client, then).await }
        };
        let (established, applied) = tokio::join!(all_established(client, definitions), applied);
        established.and(applied)
    }

    async fn apply_all(&self, client: &Client, objects: Vec<DynamicObject>) -> Result<(), ClusterError> {
        let discovery = discover(client).await?;
        let discovery = &discovery;
        stream::iter(objects)
            .map(|object| async move {
                let id = id(&object);
                let Some(api) = api_of(client, discovery, &object, self.namespace) else {
                    // objects of kinds that this installation defines are not needed
                    tracing::debug!(%id, "skipped: unknown kind");
                    return Ok(());
                };
                // on a new cluster, creation takes the API server a fraction of the time of server-side apply
                let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                let made = match api.create(&parameters, &object).await {
                    Err(kube::Error::Api(status)) if status.is_already_exists() => {
                        overwrite(&api, object, &parameters).await
                    }
                    other => other,
                };
                made.map(|_| ()).map_err(|error| match error {
                    kube::Error::Api(status) if is_about_object(&status) => {
                        let (what, reason) = (self.what.to_owned(), status.message.clone());
                        ClusterError::NotInstallable { object: id, what, reason }
                    }
                    error => ClusterError::api(format!("installing {id}"))(error),
                })
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }
}

/// Parses the objects of a YAML text. Empty documents are skipped.
///
/// # Errors
/// The text is not YAML, or a document is not an object.
pub(crate) fn parse_objects(text: &str) -> Result<Vec<DynamicObject>, serde_yaml::Error> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_yaml::Value::deserialize(document)?;
        if !value.is_null() {
            objects.push(serde_yaml::from_value(value)?);
        }
    }
    Ok(objects)
}

/// Whether an object is a CRD.
pub(crate) fn is_definition(object: &DynamicObject) -> bool {
    kind(object) == "CustomResourceDefinition"
}

/// `Kind/name`.
pub(crate) fn id(object: &DynamicObject) -> String {
    format!("{}/{}", kind(object), object.name_any())
}

/// The kind of an object; empty if it has none.
pub(crate) fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| &types.kind)
}

/// The API of an object, in `namespace` if it names none; none if the cluster does not know its kind.
pub(crate) fn api_of(
    client: &Client,
    discovery: &Discovery,
    object: &DynamicObject,
    namespace: &str,
) -> Option<Api<DynamicObject>> {
    let (resource, capabilities) = discovery.resolve_object(object)?;
    Some(if capabilities.scope == Scope::Cluster {
        Api::all_with(client.clone(), &resource)
    } else {
        let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
        Api::namespaced_with(client.clone(), &namespace, &resource)
    })
}

/// Overwrites an existing object.
async fn overwrite(
    api: &Api<DynamicObject>,
    mut object: DynamicObject,
    parameters: &PostParams,
) -> Result<DynamicObject, kube::Error> {
    let name = object.name_any();
    // replaced, because server-side apply would keep fields of the older version, such as feature flags
    if matches!(kind(&object), "Deployment" | "ConfigMap" | "ClusterRole" | "Role") {
        object.metadata.resource_version = api.get_metadata(&name).await?.metadata.resource_version;
        return api.replace(&name, parameters, &object).await;
    }
    // applied, because webhooks hold certificates that were written into them, and services have addresses
    api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object)).await
}

/// Waits until CRDs are established.
async fn all_established(client: &Client, definitions: Vec<String>) -> Result<(), ClusterError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in definitions {
        let wait = await_condition(api.clone(), &name, is_crd_established());
        let waited = tokio::time::timeout(LIMIT, wait).await;
        let what = Awaited::Definition(name);
        let failed = match waited {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => WaitError::Failed { what, source: Failure::Watch(Box::new(error)) },
            Err(_) => WaitError::TimedOut { what, limit: LIMIT, last: "not established".to_owned() },
        };
        return Err(failed.into());
    }
    Ok(())
}
