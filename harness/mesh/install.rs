use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::discovery::Scope;
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::MeshError;
use crate::cluster::wait::{Again, Progress, until};
use crate::cluster::{ClusterError, IstioSet, discover};

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
    /// Asks the set's `istioctl` for the objects of a minimal installation. What it answers is kept in `cache`: the same program
    /// with the same settings is not asked again.
    ///
    /// # Errors
    /// It cannot be run, refuses, or writes something that is not understood.
    pub async fn generate(set: &IstioSet, cache: &Path) -> Result<Self, MeshError> {
        let failed = |reason: String| MeshError::Generate { istioctl: set.istioctl.clone(), reason };
        let mut settings = vec![
            "profile=minimal".to_owned(),
            format!("hub={}", set.hub),
            format!("tag={}", set.tag),
            // The kubelet puts the first probe off by up to one period while it is young; of the default 15 s that is most of
            // a throwaway cluster's life.
            "values.global.proxy.readinessPeriodSeconds=1".to_owned(),
            // two cores are asked for in full by fifteen sidecars of the usual 0.1, however little they do
            "values.global.proxy.resources.requests.cpu=10m".to_owned(),
            "values.global.proxy.resources.requests.memory=40Mi".to_owned(),
        ];
        settings.extend(set.set.iter().cloned());
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
    pub async fn apply(client: &Client, manifests: Manifests, version: &str) -> Result<Self, MeshError> {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        let namespace = serde_json::from_value(namespace).unwrap_or_else(|_| unreachable!("a literal"));
        let (definitions, rest): (Vec<_>, Vec<_>) =
            manifests.0.into_iter().partition(|object| kind(object) == "CustomResourceDefinition");
        let rest = rest.into_iter().map(probed_often).collect::<Vec<_>>();
        let first = definitions.into_iter().chain([namespace]).collect::<Vec<_>>();
        let names: Vec<String> = first
            .iter()
            .filter(|object| kind(object) == "CustomResourceDefinition")
            .map(DynamicObject::name_any)
            .collect();
        apply_all(client, first).await?;
        let established = async {
            let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
            for name in names {
                let wait = kube::runtime::wait::await_condition(crds.clone(), &name, is_crd_established());
                tokio::time::timeout(LIMIT, wait)
                    .await
                    .map_err(|_| timed_out(format!("the definition {name}")))?
                    .map_err(|error| ClusterError::Kubeconfig(error.to_string()))?;
            }
            Ok::<_, MeshError>(())
        };
        let (established, applied) = tokio::join!(established, apply_all(client, rest));
        established?;
        applied?;
        Ok(Self { version: version.to_owned(), namespace: NAMESPACE.to_owned(), revision: String::new() })
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

    /// Waits until istiod is ready and its webhooks answer: a pod that is only tried out gets a sidecar in `namespace`.
    ///
    /// # Errors
    /// It takes too long, with the state seen last.
    pub async fn ready(&self, client: &Client, namespace: &str, seen: impl FnMut(&str)) -> Result<(), MeshError> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &self.namespace);
        let istiods = ListParams::default().labels("app=istiod");
        let again = Again::Every(Duration::from_millis(100));
        until("istiod", LIMIT, again, seen, async || {
            let available = deployments.list(&istiods).await.is_ok_and(|list| {
                list.items
                    .iter()
                    .any(|istiod| istiod.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0) > 0)
            });
            if !available {
                return Progress::NotYet("istiod is not available".to_owned());
            }
            if let Some(missing) = webhook_without_certificate(client).await {
                return Progress::NotYet(format!("webhook {missing} has no certificate"));
            }
            match pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &trial_pod()).await {
                Ok(pod) => {
                    let spec = pod.spec.unwrap_or_default();
                    let injected = spec
                        .containers
                        .iter()
                        .chain(spec.init_containers.iter().flatten())
                        .any(|container| container.name == "istio-proxy");
                    if injected { Progress::Done(()) } else { Progress::NotYet("no sidecar is injected".to_owned()) }
                }
                Err(error) => Progress::NotYet(error.to_string()),
            }
        })
        .await
        .map_err(Into::into)
    }
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
            let Some((resource, capabilities)) = discovery.resolve_object(&object) else {
                // kinds that are defined in this very installation have no objects in a minimal one
                tracing::debug!(%id, "passed over: unknown kind");
                return Ok(());
            };
            let api: Api<DynamicObject> = if capabilities.scope == Scope::Cluster {
                Api::all_with(client.clone(), &resource)
            } else {
                let namespace = object.namespace().unwrap_or_else(|| NAMESPACE.to_owned());
                Api::namespaced_with(client.clone(), &namespace, &resource)
            };
            // on a fresh cluster a creation costs the API server a fraction of what an application does
            let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            let created = api.create(&parameters, &object);
            let made = match created.await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    let parameters = PatchParams::apply(FIELD_MANAGER).force();
                    api.patch(&object.name_any(), &parameters, &Patch::Apply(&object)).await
                }
                other => other,
            };
            made.map(|_| ()).map_err(ClusterError::api(format!("installing {id}")))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
        .map_err(Into::into)
}

fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| &types.kind)
}

fn timed_out(what: String) -> MeshError {
    crate::cluster::wait::WaitError::TimedOut { what, limit: LIMIT, last: "not established".to_owned() }.into()
}
