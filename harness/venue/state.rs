use std::fmt::Write as _;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Event, Pod, Service};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, LogParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;

use super::ready_pods;
use crate::cluster::Tunnel;
use crate::mesh::{ADMIN_PORT, Sidecar};
use crate::plan::Snapshot;
use crate::routing::{RouteDiff, addressed};
use crate::scenario::{Redactor, Scenario, Sensitive};

/// The timeout of collecting the state of a cluster.
const LIMIT: Duration = Duration::from_secs(30);
/// The number of lines of a container's log that are saved.
const LINES: i64 = 2000;
/// The kinds of the mesh whose objects are saved, besides those of Kubernetes.
const KINDS: [(&str, &str, &str); 6] = [
    ("networking.istio.io", "v1", "VirtualService"),
    ("networking.istio.io", "v1", "DestinationRule"),
    ("networking.istio.io", "v1", "ServiceEntry"),
    ("networking.istio.io", "v1", "Sidecar"),
    ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
    ("gateway.networking.k8s.io", "v1", "GRPCRoute"),
];

/// Saves the state of a cluster where something failed, as the files and folders in [`STATE`](crate::events::STATE):
///
/// - `events.txt`: the events of the namespace, by time;
/// - `pods.txt`: one line per container: phase, readiness, restarts, and why it waits or has ended;
/// - `objects/KIND-NAME.yaml`: the objects of the namespace with their status;
/// - `logs/POD.CONTAINER.log`, and `….previous.log` of a container that has restarted, also of istiod;
/// - `sidecar/config_dump.json`, `clusters.json`, `stats.txt`: the client's Envoy;
/// - `routes.txt`: the routes of the client's requests, and their differences from the expected routes.
///
/// Values of environment variables and other sensitive values are not saved. Parts that the cluster does not return in time are missing.
pub(super) struct StateCollector<'a> {
    pub client: Client,
    pub scenario: &'a Scenario,
    /// The namespace of the run.
    pub namespace: &'a str,
    /// The objects of the stage that was begun last.
    pub expected: &'a Snapshot<'a>,
    pub folder: &'a Path,
    /// The values that no file shows.
    pub sensitive: Sensitive,
}

impl StateCollector<'_> {
    /// Saves everything that the cluster returns in time.
    pub async fn collect(&self) {
        let namespaces = [self.namespace, "istio-system"];
        let work = async {
            for part in ["objects", "logs", "sidecar"] {
                let _ = std::fs::create_dir_all(self.folder.join(part));
            }
            tokio::join!(self.events(), self.pods(&namespaces), self.objects(), self.sidecar(), self.routes());
        };
        if tokio::time::timeout(LIMIT, Box::pin(work)).await.is_err() {
            self.write("incomplete.txt", format!("the cluster did not return more within {} s\n", LIMIT.as_secs()));
        }
    }

    fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let text = String::from_utf8_lossy(text.as_ref());
        if let Err(error) = std::fs::write(self.folder.join(name), &*self.sensitive.hidden_in(&text)) {
            tracing::warn!(%error, "the cluster state cannot be saved");
        }
    }

    async fn events(&self) {
        let events: Api<Event> = Api::namespaced(self.client.clone(), self.namespace);
        let Ok(list) = events.list(&ListParams::default()).await else { return };
        let mut lines: Vec<String> = list
            .items
            .iter()
            .map(|event| {
                let object = &event.involved_object;
                let at = event.last_timestamp.as_ref().map(|at| at.0.to_string());
                let at = at.or_else(|| event.event_time.as_ref().map(|at| at.0.to_string())).unwrap_or_default();
                format!(
                    "{at} {} {} {}/{}: {}",
                    event.type_.as_deref().unwrap_or("-"),
                    event.reason.as_deref().unwrap_or("-"),
                    object.kind.as_deref().unwrap_or("-"),
                    object.name.as_deref().unwrap_or("-"),
                    event.message.as_deref().unwrap_or_default().replace('\n', " "),
                )
            })
            .collect();
        lines.sort();
        self.write("events.txt", lines.join("\n") + "\n");
    }

    async fn pods(&self, namespaces: &[&str]) {
        let mut text = String::new();
        for namespace in namespaces {
            let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
            let Ok(pods) = api.list(&ListParams::default()).await else { continue };
            for pod in &pods {
                let status = pod.status.clone().unwrap_or_default();
                let phase = status.phase.as_deref().unwrap_or("-");
                let all = [status.init_container_statuses, status.container_statuses];
                for container in all.iter().flatten().flatten() {
                    let _ = writeln!(text, "{namespace}/{} {phase} {}", pod.name_any(), state(container));
                    self.log(&api, pod, container).await;
                }
            }
        }
        self.write("pods.txt", text);
    }

    async fn log(&self, pods: &Api<Pod>, pod: &Pod, container: &ContainerStatus) {
        for previous in [false, true] {
            if previous && container.restart_count == 0 {
                continue;
            }
            let what = LogParams {
                container: Some(container.name.clone()),
                previous,
                tail_lines: Some(LINES),
                timestamps: true,
                ..LogParams::default()
            };
            if let Ok(log) = pods.logs(&pod.name_any(), &what).await {
                let which = if previous { ".previous" } else { "" };
                self.write(format!("logs/{}.{}{which}.log", pod.name_any(), container.name), log);
            }
        }
    }

    async fn objects(&self) {
        let (client, namespace) = (|| self.client.clone(), self.namespace);
        tokio::join!(
            self.listed::<Pod>("Pod", Api::namespaced(client(), namespace)),
            self.listed::<Deployment>("Deployment", Api::namespaced(client(), namespace)),
            self.listed::<Service>("Service", Api::namespaced(client(), namespace)),
            self.listed::<ConfigMap>("ConfigMap", Api::namespaced(client(), namespace)),
        );
        for (group, version, kind) in KINDS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::namespaced_with(client(), namespace, &resource);
            self.listed(kind, api).await;
        }
    }

    fn listed<'a, K>(&'a self, kind: &'a str, api: Api<K>) -> impl Future<Output = ()> + use<'a, K>
    where
        K: kube::Resource + Clone + std::fmt::Debug + Serialize + serde::de::DeserializeOwned + 'a,
    {
        async move {
            let Ok(list) = api.list(&ListParams::default()).await else { return };
            for mut object in list {
                object.meta_mut().managed_fields = None;
                let name = object.name_any();
                let object = serde_json::to_value(&object).map(|object| Redactor::default().redacted(object));
                if let Some(text) = object.ok().and_then(|object| serde_yaml::to_string(&object).ok()) {
                    self.write(format!("objects/{kind}-{name}.yaml"), text);
                }
            }
        }
    }

    async fn sidecar(&self) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        let Ok(mut tunnel) = Tunnel::open(&pods, &self.scenario.client.pod, ADMIN_PORT).await else { return };
        let wanted = [
            ("/config_dump?include_eds", "config_dump.json"),
            ("/clusters?format=json", "clusters.json"),
            ("/stats", "stats.txt"),
        ];
        for (path, file) in wanted {
            match tunnel.get(path).await {
                Ok(body) => self.write(PathBuf::from("sidecar").join(file), body),
                Err(_) => return,
            }
        }
    }

    async fn routes(&self) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), self.namespace);
        let service = &self.scenario.service;
        let host = addressed(&service.host, self.namespace);
        let mut sidecar = Sidecar::new(pods.clone(), self.scenario.client.pod.clone());
        let Ok(table) = sidecar.table(&host, service.port).await else { return };
        let Ok(there) = pods.list(&ListParams::default()).await else { return };
        let there = there.iter().map(crate::cluster::pod_state).collect();
        let mesh = self.expected.mesh_of(ready_pods(there));
        let expected = mesh.outbound(self.expected.client()).routes(&self.expected.request());
        let expected = expected.map(|routes| routes.table).unwrap_or_default();
        let mut text = format!("the client's sidecar routes requests to {host}:{}:\n", service.port);
        for line in table.lines() {
            let _ = writeln!(text, "  {line}");
        }
        let difference = table.difference(&expected);
        if difference.is_empty() {
            text.push_str("these are the expected routes\n");
        } else {
            text.push_str("missing (-) and unexpected (+) routes:\n");
            for line in RouteDiff::lines(&difference) {
                let _ = writeln!(text, "  {line}");
            }
        }
        for rejected in sidecar.rejected().await.unwrap_or_default() {
            let _ = writeln!(text, "the sidecar rejected {rejected}");
        }
        self.write("routes.txt", text);
    }
}

/// `istio-proxy ready, 0 restarts`, with the reason if it is not ready.
fn state(container: &ContainerStatus) -> String {
    let mut text = format!("{} ", container.name);
    text.push_str(if container.ready { "ready" } else { "not ready" });
    let _ = write!(text, ", {} restarts, image {} ({})", container.restart_count, container.image, container.image_id);
    if let Some(state) = &container.state {
        if let Some(waiting) = &state.waiting {
            let _ = write!(text, ", waiting: {}", waiting.reason.as_deref().unwrap_or("-"));
            if let Some(message) = &waiting.message {
                let _ = write!(text, ": {}", message.replace('\n', " "));
            }
        }
        if let Some(ended) = &state.terminated {
            let _ = write!(text, ", ended with {}: {}", ended.exit_code, ended.reason.as_deref().unwrap_or("-"));
        }
    }
    text
}
