use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DynamicObject, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use super::MeshError;
use super::manifests::{INGRESS_GATEWAY, Manifests, NAMESPACE};
use crate::cluster::wait::{Again, Awaited, Progress, until};
use crate::cluster::{ClusterError, Installation, is_complete, kind};
use crate::scenario::IstioVersion;

/// The timeout for istiod.
const LIMIT: Duration = Duration::from_secs(180);
/// The ConfigMap with the root certificate, which proxies mount.
const ROOT_CERTIFICATE: &str = "istio-ca-root-cert";

/// Istio on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Istio {
    /// The image tag of istiod, which is the version.
    pub version: String,
    /// The namespace of istiod.
    pub namespace: String,
    /// The revision; empty for the default revision.
    pub revision: String,
    /// Whether this program installs an ingress gateway with it.
    pub(super) has_ingress: bool,
}

impl Istio {
    /// The Istio with this image tag and revision that this program installs.
    pub(super) fn new(version: &str, revision: &str) -> Self {
        Self {
            version: version.to_owned(),
            namespace: NAMESPACE.to_owned(),
            revision: revision.to_owned(),
            has_ingress: false,
        }
    }

    /// The version, where the image tag is one.
    pub fn parsed_version(&self) -> Option<IstioVersion> {
        self.version.parse().ok()
    }

    /// Applies the objects of the installation: first the CRDs and the namespace, then the rest.
    ///
    /// # Errors
    /// The API server rejects an object, or a definition is not established in time.
    pub(super) async fn apply(&self, client: &Client, manifests: Manifests, onto: Onto) -> Result<(), MeshError> {
        let objects = manifests.0.into_iter().map(starts_fast).collect();
        let mut installation = Installation { what: "this version of Istio", namespace: &self.namespace, objects };
        if onto == Onto::Newer {
            installation.leave_definitions();
        }
        // a pod that starts before the objects that it mounts have changed takes minutes to notice the change
        let last = if onto == Onto::Nothing { "" } else { "Deployment" };
        Ok(installation.apply(client, last).await?)
    }

    /// Waits until pods in istiod's namespace can mount the root certificate that istiod publishes.
    ///
    /// # Errors
    /// The wait times out.
    pub(super) async fn root_certificate(&self, client: &Client, seen: impl FnMut(&str)) -> Result<(), MeshError> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &self.namespace);
        let again = Again::Every(Duration::from_millis(100));
        until(Awaited::ControlPlane(self.version.clone()), LIMIT, again, seen, async || {
            match maps.get_metadata_opt(ROOT_CERTIFICATE).await {
                Ok(Some(_)) => Progress::Done(()),
                Ok(None) => Progress::NotYet("istiod has not published its root certificate".to_owned()),
                Err(error) => Progress::after(error),
            }
        })
        .await
        .map_err(Into::into)
    }

    /// Finds the Istio that is installed on a cluster.
    ///
    /// # Errors
    /// Istio is not installed, or the API server does not answer.
    pub async fn find(client: &Client) -> Result<Self, MeshError> {
        let deployments: Api<Deployment> = Api::all(client.clone());
        let found = deployments
            .list(&ListParams::default().labels("app=istiod"))
            .await
            .map_err(ClusterError::api("looking for istiod"))?;
        let istiod = found.items.into_iter().next().ok_or(MeshError::NotInstalled)?;
        let pod = istiod.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let image = pod.and_then(|pod| pod.containers.first()?.image.clone()).unwrap_or_default();
        let version = image.rsplit_once(':').map_or("unknown", |(_, tag)| tag).to_owned();
        let revision = istiod.labels().get("istio.io/rev").filter(|rev| *rev != "default").cloned();
        Ok(Self {
            version,
            namespace: istiod.namespace().unwrap_or_default(),
            revision: revision.unwrap_or_default(),
            has_ingress: false,
        })
    }

    /// The namespace label that makes this Istio inject sidecars.
    pub fn injection_label(&self) -> (String, String) {
        if self.revision.is_empty() {
            ("istio-injection".to_owned(), "enabled".to_owned())
        } else {
            ("istio.io/rev".to_owned(), self.revision.clone())
        }
    }

    /// Why no istiod is ready; none if one is, or if that cannot be seen.
    pub async fn outage(&self, client: &Client) -> Option<String> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &self.namespace);
        // another revision may have replaced the one that was found
        let found = deployments.list(&ListParams::default().labels("app=istiod")).await.ok()?;
        let ready = |one: &Deployment| one.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
        if found.items.iter().any(|one| ready(one) > 0) {
            return None;
        }
        let wanted = |one: &Deployment| one.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let each = found.items.iter().map(|one| format!("{}: 0 of {} pods are ready", one.name_any(), wanted(one)));
        Some(each.reduce(|all, one| format!("{all}, {one}")).unwrap_or_else(|| "there is no istiod".to_owned()))
    }

    /// Waits until no other istiod serves the revision and the webhooks answer: a dry-run pod in `namespace` gets a sidecar of this version.
    /// Without a namespace, injection is not checked.
    ///
    /// # Errors
    /// The wait times out.
    pub async fn ready(
        &self,
        client: &Client,
        namespace: Option<&str>,
        seen: impl FnMut(&str),
    ) -> Result<(), MeshError> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), &self.namespace);
        let istiod = if self.revision.is_empty() { "istiod".to_owned() } else { format!("istiod-{}", self.revision) };
        let again = Again::Every(Duration::from_millis(100));
        until(Awaited::ControlPlane(self.version.clone()), LIMIT, again, seen, async || {
            match deployments.get_opt(&istiod).await {
                Ok(Some(deployment)) if is_complete(&deployment, deployment.metadata.generation.unwrap_or(0)) => {}
                Ok(_) => return Progress::NotYet(format!("{istiod} is not available")),
                Err(error) => return Progress::after(error),
            }
            if self.has_ingress {
                match deployments.get_opt(INGRESS_GATEWAY).await {
                    Ok(Some(gateway)) if is_complete(&gateway, gateway.metadata.generation.unwrap_or(0)) => {}
                    Ok(_) => return Progress::NotYet(format!("{INGRESS_GATEWAY} is not available")),
                    Err(error) => return Progress::after(error),
                }
            }
            if let Some(missing) = webhook_without_certificate(client).await {
                return Progress::NotYet(format!("webhook {missing} has no certificate"));
            }
            let Some(namespace) = namespace else { return Progress::Done(()) };
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            match pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &dry_run_pod()).await {
                Ok(pod) => match sidecar_image(&pod) {
                    Some(image) if image.ends_with(&format!(":{}", self.version)) => Progress::Done(()),
                    Some(image) => Progress::NotYet(format!("the injected sidecar is {image}")),
                    None => Progress::NotYet("no sidecar is injected".to_owned()),
                },
                Err(error) => Progress::NotYet(error.to_string()),
            }
        })
        .await
        .map_err(Into::into)
    }
}

/// The control planes that are installed before another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Onto {
    /// None.
    Nothing,
    /// None that is newer.
    Older,
    /// A newer one. Its CRDs stay: older ones could lose stored versions and fields.
    Newer,
}

fn sidecar_image(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.find(|container| container.name == "istio-proxy")?.image.as_deref()
}

/// A webhook of istiod that has no certificate yet, so that the API server cannot call it.
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

fn dry_run_pod() -> Pod {
    let metadata = json!({"generateName": "shiftcheck-trial-"});
    let pod = json!({"metadata": metadata, "spec": {"containers": [{"name": "trial", "image": "trial:1"}]}});
    serde_json::from_value(pod).unwrap_or_else(|_| unreachable!("a literal"))
}

/// Makes Deployments start fast, because every throwaway cluster waits for them: readiness is probed every second, and DNS is asked again after
/// a second. The node may not forward to its DNS yet when a gateway starts, and the default timeout is five seconds.
fn starts_fast(mut object: DynamicObject) -> DynamicObject {
    if kind(&object) != "Deployment" {
        return object;
    }
    if let Some(probe) = object.data.pointer_mut("/spec/template/spec/containers/0/readinessProbe") {
        probe["periodSeconds"] = json!(1);
        probe["initialDelaySeconds"] = json!(0);
    }
    if let Some(pod) = object.data.pointer_mut("/spec/template/spec") {
        pod["dnsConfig"] = json!({"options": [{"name": "timeout", "value": "1"}, {"name": "attempts", "value": "5"}]});
    }
    object
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::{Request, Response};
    use kube::client::Body;
    use rstest::rstest;
    use serde_json::Value;

    use super::*;
    use crate::session::SessionError;

    const DEFINITION: &str = "virtualservices.networking.istio.io";

    /// An API server that has a definition and rejects changes to it.
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

    #[test]
    fn deployments_probe_and_ask_dns_again_after_a_second() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "istiod"}, "spec": {"template": {"spec": {
            "containers": [{"readinessProbe": {"periodSeconds": 3, "initialDelaySeconds": 1, "timeoutSeconds": 5}}],
        }}}});
        let pod = starts_fast(serde_json::from_value(deployment).unwrap()).data["spec"]["template"]["spec"].clone();
        let probe = json!({"periodSeconds": 1, "initialDelaySeconds": 0, "timeoutSeconds": 5});
        assert_eq!(pod["containers"][0]["readinessProbe"], probe);
        assert_eq!(pod["dnsConfig"]["options"][0], json!({"name": "timeout", "value": "1"}));
    }

    #[rstest]
    #[case::ready("[{name: istiod, ready: 1}]", None)]
    #[case::replaced_by_a_revision("[{name: istiod-1-22, ready: 0}, {name: istiod-1-31, ready: 1}]", None)]
    #[case::frozen("[{name: istiod, ready: 0}]", Some("istiod: 0 of 2 pods are ready"))]
    #[case::none("[]", Some("there is no istiod"))]
    #[case::cannot_be_seen("no", None)]
    #[tokio::test]
    async fn a_control_plane_without_ready_pods_is_out_of_order(#[case] found: &str, #[case] expected: Option<&str>) {
        let found: Value = serde_yaml::from_str(found).unwrap();
        let client = Client::new(
            tower::service_fn(move |_: Request<Body>| {
                let items = found.as_array().map(|all| {
                    all.iter()
                        .map(|one| json!({"metadata": {"name": one["name"]}, "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": {"readyReplicas": one["ready"]}}))
                        .collect::<Vec<_>>()
                });
                let code = if items.is_some() { 200 } else { 403 };
                let body = json!({"apiVersion": "apps/v1", "kind": "DeploymentList", "metadata": {}, "items": items});
                let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
                std::future::ready(Ok::<_, Infallible>(response.unwrap()))
            }),
            "default",
        );
        assert_eq!(Istio::new("1.31", "").outage(&client).await.as_deref(), expected);
    }

    #[tokio::test]
    async fn a_definition_that_cannot_replace_the_existing_one_is_bad_input() {
        let client = Client::new(tower::service_fn(refuses), "default");
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": DEFINITION},
        });
        let manifests = Manifests(vec![serde_json::from_value(definition).unwrap()]);
        let error = Istio::new("1.31", "").apply(&client, manifests, Onto::Older).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "CustomResourceDefinition/virtualservices.networking.istio.io of this version of Istio was rejected: \
             status.storedVersions[0]: Invalid value: \"v2\": missing from spec.versions"
        );
        assert!(SessionError::from(error).is_bad_input());
    }
}
