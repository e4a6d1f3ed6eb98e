use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::discovery::{Discovery, Scope};
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::MeshError;
use crate::cluster::wait::{Again, Awaited, Failure, Progress, WaitError, until};
use crate::cluster::{ClusterError, IstioSet, discover, is_about_object};
use crate::scenario::ControlPlane;

const NAMESPACE: &str = "istio-system";
const FIELD_MANAGER: &str = "shiftcheck";
/// How many objects are applied at once.
const AT_ONCE: usize = 8;
/// The longest that istiod may take to become ready.
const LIMIT: Duration = Duration::from_secs(180);

/// Istio on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Istio {
    /// The version that istiod's image tag tells.
    pub version: String,
    /// The namespace of istiod.
    pub namespace: String,
    /// The revision that the injection answers to; empty for the default one.
    pub revision: String,
}

/// The objects of an installation, as `istioctl manifest generate` writes them.
#[derive(Debug, Clone)]
pub struct Manifests(Vec<DynamicObject>);

impl Manifests {
    /// Asks the set's `istioctl` for the objects of an installation. What it answers is kept in `cache`: the same program
    /// with the same settings is not asked again.
    ///
    /// # Errors
    /// It cannot be run, refuses, or writes something that is not understood.
    pub async fn generate(set: &IstioSet, plane: &ControlPlane, cache: &Path) -> Result<Self, MeshError> {
        let failed = |reason: String| MeshError::Generate { istioctl: set.istioctl.clone(), reason };
        let mut settings = vec![
            format!("profile={}", set.profile.as_deref().unwrap_or("minimal")),
            format!("hub={}", set.hub),
            format!("tag={}", set.tag),
            // The kubelet puts the first probe off by up to one period while it is young; of the default 15 s that is most of
            // a throwaway cluster's life.
            "values.global.proxy.readinessPeriodSeconds=1".to_owned(),
            // two cores are asked for in full by fifteen sidecars of the usual 0.1, however little they do
            "values.global.proxy.resources.requests.cpu=10m".to_owned(),
            "values.global.proxy.resources.requests.memory=40Mi".to_owned(),
        ];
        if !plane.revision.is_empty() {
            settings.push(format!("revision={}", plane.revision));
        }
        settings.extend(set.set.iter().chain(&plane.set).cloned());
        let kept = cache.join("manifests").join(format!("{}.json", key(&set.istioctl, &settings)));
        if let Some(objects) = std::fs::read(&kept).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
            return Ok(Self(objects));
        }
        let output = run_istioctl(&set.istioctl, &settings).await.map_err(&failed)?;
        let objects = parsed(&output).map_err(|error| failed(error.to_string()))?;
        if let Err(error) = keep(&kept, &objects) {
            // the next run asks again
            tracing::debug!(%error, "the manifests were not kept");
        }
        Ok(Self(objects))
    }

    /// The environment of the control plane itself: flags that change what it does.
    #[must_use]
    pub fn flags(&self) -> BTreeMap<String, String> {
        let istiod = self.0.iter().find(|object| kind(object) == "Deployment");
        let variables = istiod.and_then(|istiod| istiod.data.pointer("/spec/template/spec/containers/0/env"));
        let variables = variables.and_then(Value::as_array).into_iter().flatten();
        let pairs = variables
            .filter_map(|own| Some((own["name"].as_str()?.to_owned(), own.get("value")?.as_str()?.to_owned())));
        pairs.collect()
    }

    /// Adds the objects of a file, such as definitions of further kinds.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn add(&mut self, file: &Path) -> Result<(), MeshError> {
        let failed = |reason: String| MeshError::Definitions { path: file.to_owned(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
        self.0.extend(parsed(&text).map_err(|error| failed(error.to_string()))?);
        Ok(())
    }
}

fn parsed(text: &str) -> Result<Vec<DynamicObject>, serde_yaml::Error> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_yaml::Value::deserialize(document)?;
        if !value.is_null() {
            objects.push(serde_yaml::from_value(value)?);
        }
    }
    Ok(objects)
}

/// What the answer depends on: the program, by path, size and time, and its settings.
fn key(istioctl: &Path, settings: &[String]) -> String {
    let metadata = std::fs::metadata(istioctl).ok();
    let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
    let text =
        format!("{} {:?} {modified:?} {settings:?}", istioctl.display(), metadata.map(|metadata| metadata.len()));
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

fn keep(path: &Path, objects: &[DynamicObject]) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
    // by rename, so that a run beside this one reads all or nothing
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&fresh, serde_json::to_vec(objects)?)?;
    std::fs::rename(&fresh, path)
}

async fn run_istioctl(istioctl: &Path, settings: &[String]) -> Result<String, String> {
    let mut command = tokio::process::Command::new(istioctl);
    command.args(["manifest", "generate"]).stdin(Stdio::null()).kill_on_drop(true);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.output().await.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

impl Istio {
    /// Installs Istio: first the definitions of its kinds and its namespace, then the rest.
    ///
    /// # Errors
    /// The API server rejects an object, or a definition is not established in time.
    pub async fn apply(
        client: &Client,
        manifests: Manifests,
        version: &str,
        revision: &str,
        onto: Onto,
    ) -> Result<Self, MeshError> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let namespace = serde_json::from_value(namespace).unwrap_or_else(|_| unreachable!("a literal"));
        let (mut first, rest): (Vec<_>, Vec<_>) = manifests.0.into_iter().partition(is_definition);
        if onto == Onto::Newer {
            first.clear();
        }
        let rest = rest.into_iter().map(probed_often).collect::<Vec<_>>();
        let names: Vec<String> = first.iter().map(DynamicObject::name_any).collect();
        first.push(namespace);
        apply_all(client, first).await?;
        let defined = async {
            let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
            for name in names {
                let wait = kube::runtime::wait::await_condition(crds.clone(), &name, is_crd_established());
                let waited = tokio::time::timeout(LIMIT, wait).await;
                established(name, waited).map_err(ClusterError::from)?;
            }
            Ok::<_, MeshError>(())
        };
        // a pod that starts before what it mounts has changed would take minutes to see that
        let (now, then) = match onto {
            Onto::Nothing => (rest, Vec::new()),
            Onto::Older | Onto::Newer => rest.into_iter().partition(|object| kind(object) != "Deployment"),
        };
        let applied = async {
            apply_all(client, now).await?;
            if then.is_empty() { Ok(()) } else { apply_all(client, then).await }
        };
        let (defined, applied) = tokio::join!(defined, applied);
        defined?;
        applied?;
        Ok(Self::of(version, revision))
    }

    /// The one of this version, as its image tag tells, and of this revision that this program has installed.
    pub(super) fn of(version: &str, revision: &str) -> Self {
        Self { version: version.to_owned(), namespace: NAMESPACE.to_owned(), revision: revision.to_owned() }
    }

    /// The Istio that is on a cluster already.
    ///
    /// # Errors
    /// There is none, or the API server does not tell.
    pub async fn find(client: &Client) -> Result<Self, MeshError> {
        let deployments: Api<Deployment> = Api::all(client.clone());
        let found = deployments
            .list(&ListParams::default().labels("app=istiod"))
            .await
            .map_err(ClusterError::api("looking for istiod"))?;
        let istiod = found.items.into_iter().next().ok_or(MeshError::NotInstalled)?;
        let image = istiod
            .spec
            .as_ref()
            .and_then(|spec| spec.template.spec.as_ref())
            .and_then(|pod| pod.containers.first())
            .and_then(|container| container.image.clone())
            .unwrap_or_default();
        let version = image.rsplit_once(':').map_or("unknown", |(_, tag)| tag).to_owned();
        let revision = istiod.labels().get("istio.io/rev").filter(|rev| *rev != "default").cloned();
        Ok(Self { version, namespace: istiod.namespace().unwrap_or_default(), revision: revision.unwrap_or_default() })
    }

    /// The label that makes this Istio inject sidecars into a namespace.
    #[must_use]
    pub fn injection_label(&self) -> (String, String) {
        if self.revision.is_empty() {
            ("istio-injection".to_owned(), "enabled".to_owned())
        } else {
            ("istio.io/rev".to_owned(), self.revision.clone())
        }
    }

    /// Waits until this istiod alone serves its revision and its webhooks answer: a pod that is only tried out gets a sidecar of its
    /// version in `namespace`. Without one, nothing is tried out.
    ///
    /// # Errors
    /// It takes too long, with the state seen last.
    pub async fn ready(
        &self,
        client: &Client,
        namespace: Option<&str>,
        seen: impl FnMut(&str),
    ) -> Result<(), MeshError> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &self.namespace);
        let istiod = if self.revision.is_empty() { "istiod".to_owned() } else { format!("istiod-{}", self.revision) };
        let again = Again::Every(Duration::from_millis(100));
        until(Awaited::ControlPlane { version: self.version.clone() }, LIMIT, again, seen, async || {
            match deployments.get_opt(&istiod).await {
                Ok(Some(deployment)) if is_complete(&deployment) => {}
                Ok(_) => return Progress::NotYet(format!("{istiod} is not available")),
                Err(error) => return Progress::after(error),
            }
            if let Some(missing) = webhook_without_certificate(client).await {
                return Progress::NotYet(format!("webhook {missing} has no certificate"));
            }
            let Some(namespace) = namespace else { return Progress::Done(()) };
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            match pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &trial_pod()).await {
                Ok(pod) => match sidecar_image(&pod) {
                    Some(image) if image.ends_with(&format!(":{}", self.version)) => Progress::Done(()),
                    Some(image) => Progress::NotYet(format!("the sidecar that is injected is {image}")),
                    None => Progress::NotYet("no sidecar is injected".to_owned()),
                },
                Err(error) => Progress::NotYet(error.to_string()),
            }
        })
        .await
        .map_err(Into::into)
    }
}

/// What a control plane is installed onto.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// There is none yet.
    Nothing,
    /// There is none that is newer.
    Older,
    /// There is a newer one: its definitions of Istio's kinds stay, for going back would lose what they know.
    Newer,
}

impl Manifests {
    /// Those of these objects that none of the others has; never definitions, with which users' objects would go, nor namespaces.
    fn beyond(self, others: &[Self]) -> Vec<DynamicObject> {
        // versions of an API show the same objects
        let group = |version: &str| version.rsplit_once('/').map_or(String::new(), |(group, _)| group.to_owned());
        let id = |object: &DynamicObject| {
            let kind = object.types.as_ref().map(|types| (group(&types.api_version), types.kind.clone()));
            (kind, object.namespace(), object.name_any())
        };
        let kept: HashSet<_> = others.iter().flat_map(|other| &other.0).map(id).collect();
        let gone = self.0.into_iter().filter(|object| !is_definition(object) && kind(object) != "Namespace");
        gone.filter(|object| !kept.contains(&id(object))).collect()
    }

    /// Deletes those of these objects that none of the others has.
    ///
    /// # Errors
    /// The API server refuses.
    pub(super) async fn remove(self, client: &Client, others: &[Self]) -> Result<(), MeshError> {
        let discovery = discover(client).await?;
        for object in self.beyond(others) {
            let Some(api) = api_of(client, &discovery, &object) else { continue };
            match api.delete(&object.name_any(), &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => {
                    let doing = format!("removing {}/{}", kind(&object), object.name_any());
                    return Err(ClusterError::api(doing)(error).into());
                }
            }
        }
        Ok(())
    }
}

fn is_definition(object: &DynamicObject) -> bool {
    kind(object) == "CustomResourceDefinition"
}

/// Whether all pods of a Deployment are as it says, and no others are left.
fn is_complete(deployment: &Deployment) -> bool {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    status.observed_generation >= deployment.metadata.generation
        && [status.updated_replicas, status.replicas, status.available_replicas] == [Some(wanted); 3]
}

fn sidecar_image(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.find(|container| container.name == "istio-proxy")?.image.as_deref()
}

/// A webhook of istiod's that the API server could not call yet.
async fn webhook_without_certificate(client: &Client) -> Option<String> {
    let istios = ListParams::default().labels("app in (istiod, sidecar-injector)");
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let (validating, mutating) = tokio::join!(validating.list(&istios), mutating.list(&istios));
    let (Ok(validating), Ok(mutating)) = (validating, mutating) else { return Some("(unknown)".to_owned()) };
    let validating = validating.items.into_iter().flat_map(|item| item.webhooks.unwrap_or_default());
    let mutating = mutating.items.into_iter().flat_map(|item| item.webhooks.unwrap_or_default());
    validating
        .map(|webhook| (webhook.name, webhook.client_config))
        .chain(mutating.map(|webhook| (webhook.name, webhook.client_config)))
        .find(|(_, config)| config.ca_bundle.as_ref().is_none_or(|bundle| bundle.0.is_empty()))
        .map(|(name, _)| name)
}

fn trial_pod() -> Pod {
    let pod = json!({"spec": {"containers": [{"name": "trial", "image": "trial:1"}]}});
    let mut pod: Pod = serde_json::from_value(pod).unwrap_or_else(|_| unreachable!("a literal"));
    pod.metadata = ObjectMeta { generate_name: Some("shiftcheck-trial-".to_owned()), ..ObjectMeta::default() };
    pod
}

/// istiod with a readiness probe every second: a throwaway cluster waits for it, and the default of 3 s would be felt.
fn probed_often(mut object: DynamicObject) -> DynamicObject {
    if kind(&object) == "Deployment"
        && let Some(probe) = object.data.pointer_mut("/spec/template/spec/containers/0/readinessProbe")
    {
        probe["periodSeconds"] = json!(1);
        probe["initialDelaySeconds"] = json!(0);
    }
    object
}

async fn apply_all(client: &Client, objects: Vec<DynamicObject>) -> Result<(), MeshError> {
    let discovery = discover(client).await?;
    let discovery = &discovery;
    stream::iter(objects)
        .map(|object| async move {
            let id = format!("{}/{}", kind(&object), object.name_any());
            let Some(api) = api_of(client, discovery, &object) else {
                // kinds that are defined in this very installation have no objects in a minimal one
                tracing::debug!(%id, "passed over: unknown kind");
                return Ok(());
            };
            // on a fresh cluster a creation costs the API server a fraction of what an application does
            let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            let made = match api.create(&parameters, &object).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => over(&api, object, &parameters).await,
                other => other,
            };
            made.map(|_| ()).map_err(|error| match error {
                kube::Error::Api(status) if is_about_object(&status) => {
                    MeshError::Rejected { object: id, reason: status.message.clone() }
                }
                error => ClusterError::api(format!("installing {id}"))(error).into(),
            })
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

/// Puts an object in the place of one that is there already.
async fn over(
    api: &Api<DynamicObject>,
    mut object: DynamicObject,
    parameters: &PostParams,
) -> Result<DynamicObject, kube::Error> {
    let name = object.name_any();
    // what an older version had said beyond this one has to go: a flag that stayed would not be the new version
    if matches!(kind(&object), "Deployment" | "ConfigMap" | "ClusterRole" | "Role") {
        object.metadata.resource_version = api.get_metadata(&name).await?.metadata.resource_version;
        return api.replace(&name, parameters, &object).await;
    }
    // istiod writes certificates into its webhooks, the API server addresses into its services: these stay
    api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&object)).await
}

fn api_of(client: &Client, discovery: &Discovery, object: &DynamicObject) -> Option<Api<DynamicObject>> {
    let (resource, capabilities) = discovery.resolve_object(object)?;
    Some(if capabilities.scope == Scope::Cluster {
        Api::all_with(client.clone(), &resource)
    } else {
        let namespace = object.namespace().unwrap_or_else(|| NAMESPACE.to_owned());
        Api::namespaced_with(client.clone(), &namespace, &resource)
    })
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| &types.kind)
}

/// What came of the wait for a definition.
fn established<T>(
    name: String,
    waited: Result<Result<T, kube::runtime::wait::Error>, tokio::time::error::Elapsed>,
) -> Result<T, WaitError> {
    let what = Awaited::Definition { name };
    match waited {
        Ok(Ok(definition)) => Ok(definition),
        Ok(Err(error)) => Err(WaitError::Failed { what, source: Failure::from(error) }),
        Err(_) => Err(WaitError::TimedOut { what, limit: LIMIT, last: "not established".to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::{Request, Response};
    use kube::client::Body;

    use super::*;
    use crate::walk::WalkError;

    const DEFINITION: &str = "virtualservices.networking.istio.io";

    /// An API server that has a definition already, and does not take another in its place.
    async fn refuses(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let kinds = |items: Value| json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
        let status = |reason: &str, code: u16, message: &str| json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message});
        let (code, body) = match (request.method().as_str(), request.uri().path()) {
            ("GET", "/apis") => {
                let group = "apiextensions.k8s.io";
                let kind = json!({"group": group, "version": "v1", "kind": "CustomResourceDefinition"});
                let resource = json!({"resource": "customresourcedefinitions", "responseKind": kind, "scope": "Cluster", "verbs": ["create", "patch"]});
                (
                    200,
                    kinds(
                        json!([{"metadata": {"name": group}, "versions": [{"version": "v1", "resources": [resource]}]}]),
                    ),
                )
            }
            ("GET", _) => (200, kinds(json!([]))),
            ("POST", _) => (409, status("AlreadyExists", 409, "it is there")),
            _ => (
                422,
                status("Invalid", 422, "status.storedVersions[0]: Invalid value: \"v2\": missing from spec.versions"),
            ),
        };
        let response = Response::builder().status(code).header("content-type", "application/json");
        Ok(response.body(Body::from(body.to_string().into_bytes())).unwrap())
    }

    #[tokio::test]
    async fn a_definition_that_does_not_go_with_the_one_that_is_there_is_told_as_bad_input() {
        let client = Client::new(tower::service_fn(refuses), "default");
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": DEFINITION},
        });
        let manifests = Manifests(vec![serde_json::from_value(definition).unwrap()]);
        let error = Istio::apply(&client, manifests, "1.31", "", Onto::Older).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "CustomResourceDefinition/virtualservices.networking.istio.io of this version of Istio was rejected: \
             status.storedVersions[0]: Invalid value: \"v2\": missing from spec.versions"
        );
        assert!(WalkError::from(error).is_bad_input());
    }

    #[test]
    fn what_only_the_control_plane_before_had_goes_and_definitions_stay() {
        let object = |version: &str, kind: &str, name: &str| -> DynamicObject {
            serde_json::from_value(
                json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "istio-system"}}),
            )
            .unwrap()
        };
        let old = Manifests(vec![
            object("apps/v1", "Deployment", "istiod"),
            object("policy/v1beta1", "PodDisruptionBudget", "istiod"),
            object("v1", "ConfigMap", "old"),
            object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "old"),
            object("v1", "Namespace", "istio-system"),
        ]);
        let new = Manifests(vec![
            object("apps/v1", "Deployment", "istiod"),
            // another version of its API shows the same object
            object("policy/v1", "PodDisruptionBudget", "istiod"),
        ]);
        let gone: Vec<String> = old.beyond(&[new]).iter().map(DynamicObject::name_any).collect();
        assert_eq!(gone, ["old"]);
    }
}
