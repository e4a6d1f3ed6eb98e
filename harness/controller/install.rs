use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::ControllerError;
use crate::cluster::wait::{Again, Awaited, Progress, until};
use crate::cluster::{
    ClusterError, ControllerSet, ImageCache, Installation, is_complete, kind, parse_objects, pod_troubles,
};
use crate::scenario::{Component, ControllerKind, Install};

/// The timeout for a component that was installed.
const LIMIT: Duration = Duration::from_secs(60);

/// How a component is installed by its own manifests.
struct Manner {
    /// The namespace.
    namespace: &'static str,
    /// The Deployment.
    deployment: &'static str,
    /// The lease that the leading replica holds; none where a replica acts as soon as it is ready.
    lease: Option<&'static str>,
    /// The labels by one of which the Deployment is found.
    labels: &'static [&'static str],
    /// The group and version of the API that it adds to those of the API server.
    api: Option<&'static str>,
}

/// The kind that adds an API to those of the API server.
const API: &str = "APIService";

const fn manner(component: Component) -> Manner {
    match component {
        Component::Controller(ControllerKind::ArgoRollouts) => Manner {
            namespace: "argo-rollouts",
            deployment: "argo-rollouts",
            lease: Some("argo-rollouts-controller-lock"),
            labels: &["app.kubernetes.io/name=argo-rollouts"],
            api: None,
        },
        Component::Controller(ControllerKind::Flagger) => Manner {
            namespace: "flagger-system",
            deployment: "flagger",
            lease: None,
            // of its manifests, and of its Helm chart
            labels: &["app=flagger", "app.kubernetes.io/name=flagger"],
            api: None,
        },
        Component::MetricsServer => Manner {
            namespace: "kube-system",
            deployment: "metrics-server",
            lease: None,
            labels: &["k8s-app=metrics-server", "app.kubernetes.io/name=metrics-server"],
            api: Some("metrics.k8s.io/v1beta1"),
        },
    }
}

/// The components to install on a throwaway cluster.
#[derive(Debug, Clone, Default)]
pub struct Components(Vec<(Install, ControllerSet)>);

impl Components {
    /// The components that a scenario needs, from the image cache.
    ///
    /// # Errors
    /// The cache does not have one of them.
    pub fn of(install: &[Install], cache: &ImageCache) -> Result<Self, ClusterError> {
        let sets = install.iter().map(|one| Ok((one.clone(), cache.controller(one)?)));
        sets.collect::<Result<_, _>>().map(Self)
    }

    /// The image archives of all components.
    pub fn archives(&self) -> impl Iterator<Item = &PathBuf> {
        self.0.iter().flat_map(|(_, set)| &set.archives)
    }

    /// Installs all components and waits until they are ready. Istio's CRDs have to be there: a controller looks for them when it starts.
    ///
    /// # Errors
    /// A file of objects cannot be read, the API server rejects an object, or the wait times out.
    pub async fn install(&self, client: &Client, seen: impl FnMut(&str)) -> Result<(), ControllerError> {
        self.apply(client).await?;
        self.ready(client, seen).await
    }

    async fn apply(&self, client: &Client) -> Result<(), ControllerError> {
        for (install, set) in &self.0 {
            // an API that nothing serves yet is registered later: the API server would keep connections that it opened too early
            apply(client, install, set, |kind| kind != API).await?;
        }
        Ok(())
    }

    async fn ready(&self, client: &Client, mut seen: impl FnMut(&str)) -> Result<(), ControllerError> {
        for (install, set) in &self.0 {
            let Manner { namespace, deployment: name, lease, api, .. } = manner(install.component);
            let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
            let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
            let (what, again) = (Awaited::Controller(install.to_string()), Again::Every(Duration::from_millis(100)));
            let waited = until(what, LIMIT, again, &mut seen, async || {
                match deployments.get_opt(name).await {
                    Ok(Some(deployment)) if is_complete(&deployment, deployment.metadata.generation.unwrap_or(0)) => {}
                    Ok(_) => return Progress::NotYet(format!("Deployment/{name} is not available")),
                    Err(error) => return Progress::after(error),
                }
                // its container runs, but it acts only once it leads
                let Some(lease) = lease else { return Progress::Done(()) };
                match leases.get_opt(lease).await {
                    Ok(Some(_)) => Progress::Done(()),
                    Ok(None) => Progress::NotYet(format!("no replica of Deployment/{name} leads")),
                    Err(error) => Progress::after(error),
                }
            });
            if let Err(mut error) = waited.await {
                for trouble in pod_troubles(client, namespace).await {
                    error.add(&trouble);
                }
                return Err(ClusterError::from(error).into());
            }
            if let Some(api) = api {
                apply(client, install, set, |kind| kind == API).await?;
                served(client, install, api, &mut seen).await?;
            }
        }
        Ok(())
    }
}

/// Applies the objects of a component that are of some kinds.
async fn apply(
    client: &Client,
    install: &Install,
    set: &ControllerSet,
    of_kind: impl Fn(&str) -> bool,
) -> Result<(), ControllerError> {
    let objects = objects(set)?.into_iter().filter(|object| of_kind(kind(object)));
    let objects = objects.map(|object| with_image(object, &set.image)).collect();
    let (what, namespace) = (install.to_string(), manner(install.component).namespace);
    Ok(Installation { what: &what, namespace, objects }.apply(client, "").await?)
}

/// Waits until the API server passes on requests to an API that a component serves.
async fn served(client: &Client, install: &Install, api: &str, seen: impl FnMut(&str)) -> Result<(), ControllerError> {
    let (what, again) = (Awaited::Controller(install.to_string()), Again::Every(Duration::from_millis(100)));
    let waited = until(what, LIMIT, again, seen, async || match client.list_api_group_resources(api).await {
        Ok(_) => Progress::Done(()),
        Err(error) => Progress::after(error),
    });
    Ok(waited.await.map_err(ClusterError::from)?)
}

/// A component that is installed on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundComponent {
    /// The component.
    pub component: Component,
    /// The image tag, which is the version.
    pub version: String,
    /// The namespace.
    pub namespace: String,
}

/// Finds a component that a scenario needs on a cluster. Its version may be another one than the scenario names.
///
/// # Errors
/// It is not installed or not ready, or the API server does not answer.
pub async fn find(client: &Client, wanted: &Install) -> Result<FoundComponent, ControllerError> {
    let (component, origin) = (wanted.component, wanted.origin.clone());
    let labels = manner(component).labels;
    let deployments: Api<Deployment> = Api::all(client.clone());
    let mut found = None;
    for label in labels {
        let listed = deployments.list(&ListParams::default().labels(label)).await;
        let listed = listed.map_err(ClusterError::api(format!("looking for {component}")))?;
        found = found.or_else(|| listed.items.into_iter().next());
    }
    let Some(deployment) = found else {
        return Err(ControllerError::NotInstalled { origin, component, label: labels.join(" or ") });
    };
    let namespace = deployment.namespace().unwrap_or_default();
    if deployment.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0) == 0 {
        let mut state = format!("no replica of Deployment/{} is available", deployment.name_any());
        for trouble in pod_troubles(client, &namespace).await {
            state.push_str("; ");
            state.push_str(&trouble);
        }
        return Err(ControllerError::NotReady { origin, component, namespace, state });
    }
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let image = pod.and_then(|pod| pod.containers.first()?.image.clone()).unwrap_or_default();
    let version = image.rsplit_once(':').map_or("of unknown version", |(_, tag)| tag).to_owned();
    Ok(FoundComponent { component, version, namespace })
}

fn objects(set: &ControllerSet) -> Result<Vec<DynamicObject>, ControllerError> {
    let failed = |reason: String| ControllerError::Objects { path: set.objects.clone(), reason };
    let text = std::fs::read_to_string(&set.objects).map_err(|error| failed(error.to_string()))?;
    parse_objects(&text).map_err(|error| failed(error.to_string()))
}

/// Sets the image of a Deployment to that of the set.
fn with_image(mut object: DynamicObject, image: &str) -> DynamicObject {
    if kind(&object) == "Deployment"
        && let Some(container) = object.data.pointer_mut("/spec/template/spec/containers/0")
    {
        container["image"] = json!(image);
        container["imagePullPolicy"] = json!("IfNotPresent");
    }
    object
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::{Request, Response};
    use kube::client::Body;
    use serde_json::Value;

    use super::*;

    /// An API server with a Deployment of metrics-server whose one pod is in this state.
    fn with_pod(state: &Value) -> Client {
        let state = state.clone();
        let answer = move |request: Request<Body>| {
            let path = request.uri().path();
            let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "metrics-server", "namespace": "kube-system"}});
            let pod = json!({"metadata": {"name": "metrics-server-1"}, "status": {"phase": "Pending", "containerStatuses": [
                {"name": "metrics-server", "image": "i:1", "imageID": "", "ready": false, "restartCount": 0, "state": state},
            ]}});
            let body = match path {
                "/apis/apps/v1/deployments" => {
                    json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {}, "items": [deployment]})
                }
                "/apis/apps/v1/namespaces/kube-system/deployments/metrics-server" => deployment,
                "/api/v1/namespaces/kube-system/pods" => {
                    json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [pod]})
                }
                _ => json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": []}),
            };
            std::future::ready(Ok::<_, Infallible>(Response::new(Body::from(body.to_string().into_bytes()))))
        };
        Client::new(tower::service_fn(answer), "default")
    }

    #[tokio::test(start_paused = true)]
    async fn the_reason_of_a_pod_that_does_not_start_is_told() {
        let client = with_pod(&json!({"waiting": {"reason": "ErrImageNeverPull", "message": "image i:1 is missing"}}));
        let install = Install {
            component: Component::MetricsServer,
            version: "0.8".to_owned(),
            origin: crate::scenario::Origin::new(std::path::Path::new("a.yaml"), 1, 1),
        };
        let set = ControllerSet { image: String::new(), archives: Vec::new(), objects: PathBuf::new() };
        let error = Components(vec![(install.clone(), set)]).ready(&client, |_| {}).await.unwrap_err().to_string();
        assert!(error.contains("image i:1 is missing"), "{error}");
        let error = find(&client, &install).await.unwrap_err().to_string();
        assert!(error.contains("image i:1 is missing"), "{error}");
    }
}
