use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use super::WalkError;
use super::during::{MOST_A_SECOND, watch_for};
use super::served::{PodCounter, Reading};
use super::transition::changes_mesh;
use crate::cluster::wait::{Again, Awaited, Progress, until};
use crate::cluster::{Applied, ClusterError, Deleted, Embedded, Objects, PodState, Tunnel, TunnelError, Workloads};
use crate::events::{Environment, Event, Events};
use crate::mesh::{MeshError, Planes, Sidecar};
use crate::routing::RouteTable;
use crate::scenario::{ControlPlane, Manifest, MeshStep, Scenario, Served, Stage, Target};
use crate::traffic::WatchOptions;

/// The longest that a control plane that has taken the place of another may take to push its configuration.
const PUSH_LIMIT: Duration = Duration::from_secs(120);
/// The longest that the counter of one pod may take to be read, and the list of pods.
const COUNTER_LIMIT: Duration = Duration::from_secs(10);
const PUSH_INTERVAL: Duration = Duration::from_millis(100);
/// Requests a second that watch a change about which something is claimed: 688, which exclude an error share of 1 %, take 2.5 s.
const CLAIMED_RATE: u32 = 275;

/// Where the stages are walked: a namespace of a Kubernetes cluster, or the embedded one.
pub(super) enum Site {
    Kube(Box<KubeSite>),
    Embedded(Box<Embedded>),
}

/// A namespace of a cluster with Istio.
pub(super) struct KubeSite {
    pub client: Client,
    pub namespace: String,
    pub objects: Objects,
    pub workloads: Workloads,
    pub sidecar: Sidecar,
    /// The addresses of endpoints that the client's sidecar sends requests to, as far as stages have waited for them.
    pub endpoints: BTreeSet<String>,
    /// The control planes that the mesh may be given; none where it is not the run's own.
    pub planes: Option<Planes>,
}

impl KubeSite {
    pub fn new(client: Client, namespace: &str, objects: Objects, planes: Option<Planes>, client_pod: &str) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        Self {
            workloads: Workloads::watch(&client, namespace),
            sidecar: Sidecar::new(pods, client_pod.to_owned()),
            endpoints: BTreeSet::new(),
            namespace: namespace.to_owned(),
            objects,
            client,
            planes,
        }
    }

    /// Changes the mesh; the objects that are to be rolled out then.
    pub async fn change(&mut self, step: &MeshStep, events: &Events) -> Result<Vec<Applied>, WalkError> {
        let planes = self.planes.as_mut().ok_or(WalkError::NotThrowaway)?;
        events.tell(Event::SettingUp(step.to_string()));
        match step {
            MeshStep::Install(plane) => {
                let before = self.sidecar.pushed().await?;
                // another revision injects where its label asks for it, which is not here yet
                let own = plane.revision.is_empty();
                planes.install(&self.client, plane, own.then_some(&self.namespace), events.waiting()).await?;
                if own {
                    pushed_anew(&mut self.sidecar, &before, plane, events).await?;
                }
                Ok(Vec::new())
            }
            MeshStep::Inject(plane) => {
                let istio = planes.istio(plane)?;
                let (label, value) = istio.injection_label();
                let mut labels = BTreeMap::from([("istio-injection", None), ("istio.io/rev", None)]);
                let labels_now = [(label.clone(), Some(value))];
                labels.retain(|name, _| *name != label);
                let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(labels_now);
                self.objects.label_namespace(&labels.collect()).await?;
                istio.ready(&self.client, Some(&self.namespace), events.waiting()).await?;
                Ok(Vec::new())
            }
            MeshStep::Restart => Ok(self.objects.restart().await?),
            MeshStep::Remove(plane) => {
                planes.remove(&self.client, plane).await?;
                Ok(Vec::new())
            }
        }
    }

    /// The sidecar of a pod that has taken the place of the client's.
    pub fn sidecar_anew(&mut self, client_pod: &str) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        self.sidecar = Sidecar::new(pods, client_pod.to_owned());
    }
}

/// Waits until a control plane that has taken the place of another has pushed its configuration to the client's sidecar.
async fn pushed_anew(
    sidecar: &mut Sidecar,
    before: &BTreeSet<String>,
    plane: &ControlPlane,
    events: &Events,
) -> Result<(), WalkError> {
    let what = Awaited::FirstPush { plane: plane.to_string() };
    let waited =
        until(what, PUSH_LIMIT, Again::Every(PUSH_INTERVAL), events.waiting(), async || match sidecar.pushed().await {
            Ok(now) if now.is_disjoint(before) => Progress::Done(()),
            Ok(_) => Progress::NotYet("the sidecar has the configuration of the control plane before".to_owned()),
            Err(error) => Progress::NotYet(error.to_string()),
        });
    waited.await.map_err(|error| MeshError::from(error).into())
}

fn embedded_counters(site: &Embedded, labels: &BTreeMap<String, String>) -> Reading {
    let selected = |pod: &PodState| labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    let pods = site.pods().into_iter().filter(selected);
    let counter = |pod: PodState| {
        let (start, count) = site.served(&pod.name)?;
        let starts = BTreeMap::from([("server".to_owned(), start.to_string())]);
        Some((pod.name.clone(), PodCounter { pod: pod.name, starts, leaving: false, count: Ok(count) }))
    };
    pods.filter_map(counter).collect()
}

/// How many requests a pod has served, as its own counter tells.
async fn count(pods: &Api<Pod>, pod: &str, served: &Served) -> Result<u64, String> {
    let failed = |error: TunnelError| error.to_string();
    let mut tunnel = Tunnel::open(pods, pod, served.port).await.map_err(failed)?;
    let body = tunnel.get(&served.path).await.map_err(failed)?;
    let text = String::from_utf8_lossy(&body);
    text.trim()
        .parse()
        .map_err(|_| format!("GET {} gave `{}`, which is not a number of requests", served.path, text.trim()))
}

/// Whether a pod is being deleted or at its end.
fn is_leaving(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed"))
}

/// What identifies the start of each container of a pod but for the sidecar, whose restart resets no counter of the service.
fn starts(pod: &Pod) -> BTreeMap<String, String> {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let own = containers.filter(|container| container.name != "istio-proxy");
    own.map(|container| {
        let id = container.container_id.as_deref().unwrap_or("not started");
        (container.name.clone(), format!("{id}, {} restarts", container.restart_count))
    })
    .collect()
}

impl Site {
    pub async fn apply(&mut self, manifest: &Manifest) -> Result<Applied, ClusterError> {
        match self {
            Self::Kube(site) => site.objects.apply(manifest).await,
            Self::Embedded(site) => site.apply(manifest),
        }
    }

    /// Deletes an object; what is to be waited for then.
    pub async fn delete(&mut self, target: &Target) -> Result<Option<Deleted>, ClusterError> {
        match self {
            Self::Kube(site) => site.objects.delete(target).await.map(Some),
            Self::Embedded(site) => site.delete(target).map(|()| None),
        }
    }

    /// Objects that are applied from here on are younger than those before.
    pub fn later(&mut self) {
        if let Self::Embedded(site) = self {
            site.later();
        }
    }

    pub async fn rolled_out(
        &self,
        applied: &[Applied],
        deleted: &[Deleted],
        limit: Duration,
        seen: impl FnMut(&str),
    ) -> Result<(), ClusterError> {
        match self {
            Self::Kube(site) => site.workloads.rolled_out(applied, deleted, limit, seen).await,
            Self::Embedded(_) => Ok(()),
        }
    }

    /// The longest that deleted objects may take to go: on the embedded mesh they go at once.
    pub const fn removal_limit(&self) -> Duration {
        match self {
            Self::Kube(_) => Duration::from_secs(60),
            Self::Embedded(_) => Duration::from_millis(100),
        }
    }

    /// How often the client's routes are looked at.
    pub const fn interval(&self) -> Duration {
        match self {
            Self::Kube(_) => Duration::from_millis(50),
            Self::Embedded(_) => Duration::from_millis(1),
        }
    }

    /// How a change is watched: a change of the mesh itself closely, and one about which something is claimed as closely as a rollout bears,
    /// then with the highest rate until the claims are decided.
    pub fn watch(&self, stage: &Stage, scenario: &Scenario) -> WatchOptions {
        let steady = |rate: u32, connections: usize| WatchOptions { rate, raised: rate, connections };
        match self {
            Self::Kube(_) if changes_mesh(stage) => steady(MOST_A_SECOND, 8),
            Self::Kube(_) => {
                let with_claims = WatchOptions { rate: CLAIMED_RATE, raised: MOST_A_SECOND, connections: 4 };
                watch_for(stage, scenario, steady(50, 4), with_claims)
            }
            Self::Embedded(_) => steady(2000, 4),
        }
    }

    pub fn pods(&self) -> Vec<PodState> {
        match self {
            Self::Kube(site) => site.workloads.pods(),
            Self::Embedded(site) => site.pods(),
        }
    }

    /// The counters of the pods with these labels, read from the API server and the pods themselves: a watch may lag behind.
    ///
    /// # Errors
    /// The pods cannot be listed. A counter that cannot be read is a part of the reading.
    pub async fn counters(&self, labels: &BTreeMap<String, String>, served: &Served) -> Result<Reading, WalkError> {
        let site = match self {
            Self::Kube(site) => site,
            Self::Embedded(site) => return Ok(embedded_counters(site, labels)),
        };
        let pods: Api<Pod> = Api::namespaced(site.client.clone(), &site.namespace);
        let selector: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let selector = ListParams::default().labels(&selector.join(","));
        let limit = COUNTER_LIMIT;
        let listed = tokio::time::timeout(limit, pods.list(&selector)).await;
        let listed = listed.unwrap_or_else(|elapsed| Err(kube::Error::Service(elapsed.into())));
        let listed = listed.map_err(ClusterError::api("listing the pods that count requests"))?;
        let mut reading = Reading::new();
        for pod in listed {
            let name = pod.name_any();
            let leaving = is_leaving(&pod);
            let count = if leaving {
                Err("the pod is at its end".to_owned())
            } else {
                let read = tokio::time::timeout(limit, count(&pods, &name, served)).await;
                read.unwrap_or_else(|_| Err(format!("no answer in {} s", limit.as_secs())))
            };
            reading
                .insert(pod.uid().unwrap_or_default(), PodCounter { pod: name, starts: starts(&pod), leaving, count });
        }
        Ok(reading)
    }

    /// What runs there, where that is known.
    pub async fn environment(&mut self) -> Option<Environment> {
        match self {
            Self::Kube(site) => {
                let envoy = site.sidecar.envoy().await.ok().flatten();
                Some(Environment { envoy, images: site.workloads.images(), ..Environment::default() })
            }
            Self::Embedded(_) => None,
        }
    }

    pub async fn remaining(&self) -> Result<Vec<String>, ClusterError> {
        match self {
            Self::Kube(site) => site.objects.remaining().await,
            Self::Embedded(site) => Ok(site.remaining()),
        }
    }
}

/// What a look at the routes needs, apart from what may be looked at meanwhile.
pub(super) enum Reader<'a> {
    Sidecar(&'a mut Sidecar, &'a Workloads),
    Embedded(&'a Embedded),
}

impl Site {
    /// The endpoints that stages have waited for; none where a change has its effect at once.
    pub fn endpoints(&mut self) -> Option<&mut BTreeSet<String>> {
        match self {
            Self::Kube(site) => Some(&mut site.endpoints),
            Self::Embedded(_) => None,
        }
    }

    pub fn reader(&mut self) -> Reader<'_> {
        match self {
            Self::Kube(site) => Reader::Sidecar(&mut site.sidecar, &site.workloads),
            Self::Embedded(site) => Reader::Embedded(site),
        }
    }
}

impl Reader<'_> {
    /// How the client's requests to a service port are routed now.
    pub async fn table(&mut self, host: &str, port: u16) -> Result<RouteTable, MeshError> {
        match self {
            Self::Sidecar(sidecar, _) => sidecar.table(host, port).await,
            Self::Embedded(site) => Ok(site.table()),
        }
    }

    /// What the client's sidecar has rejected, as far as it tells.
    pub async fn rejected(&mut self) -> Vec<String> {
        match self {
            Self::Sidecar(sidecar, _) => sidecar.rejected().await.unwrap_or_default(),
            Self::Embedded(_) => Vec::new(),
        }
    }

    pub fn pods(&self) -> Vec<PodState> {
        match self {
            Self::Sidecar(_, workloads) => workloads.pods(),
            Self::Embedded(site) => site.pods(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::served::ServedRequests;
    use super::*;
    use crate::scenario::{Count, Step};
    use crate::verdict::Ruling;

    #[rstest]
    #[case::running("status: {phase: Running}", false)]
    #[case::deleted("metadata: {deletionTimestamp: '2026-01-01T00:00:00Z'}", true)]
    #[case::evicted("status: {phase: Failed, reason: Evicted}", true)]
    fn a_pod_at_its_end_is_known(#[case] yaml: &str, #[case] leaving: bool) {
        assert_eq!(is_leaving(&serde_yaml::from_str(yaml).unwrap()), leaving);
    }

    #[test]
    fn a_server_of_the_embedded_mesh_that_starts_again_loses_its_counter() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mirror")).unwrap();
        let client = &scenario.client;
        let mut mesh = Embedded::start(&scenario.namespace, &client.pod, &scenario.service).unwrap();
        let stage = scenario.stages[0].steps.iter().filter_map(|step| match step {
            Step::Apply(manifests) => Some(manifests),
            _ => None,
        });
        for manifest in client.manifests.iter().chain(stage.flatten()) {
            mesh.apply(manifest).unwrap();
        }
        let labels = BTreeMap::from([("version".to_owned(), "v2".to_owned())]);
        let before = embedded_counters(&mesh, &labels);
        assert_eq!(before.len(), 2);
        let judged = |before: &Reading, after: &Reading| {
            let served = ServedRequests::between(before, after, &BTreeMap::new());
            let place = crate::scenario::Place::new("scenario.yaml", 4, 9);
            served.judge("hello-server-v2", Count::Exactly(0), 688, place).verdict.ruling
        };
        assert_eq!(judged(&before, &embedded_counters(&mesh, &labels)), Ruling::Pass);
        mesh.restart();
        let after = embedded_counters(&mesh, &labels);
        assert!(after.values().all(|own| own.count == Ok(0)));
        assert_eq!(judged(&before, &after), Ruling::Inconclusive);
        // the readings after that are of one start again
        assert_eq!(judged(&after, &embedded_counters(&mesh, &labels)), Ruling::Pass);
    }

    #[test]
    fn a_container_that_was_started_again_is_known_by_its_id_and_its_restarts() {
        let pod = |id: &str, restarts: i32, sidecar: &str| -> Pod {
            let yaml = format!(
                "status:
  containerStatuses:
    - {{name: hello, image: i, imageID: '', ready: true, restartCount: {restarts}, containerID: '{id}'}}
    - {{name: istio-proxy, image: i, imageID: '', ready: true, restartCount: 0, containerID: '{sidecar}'}}"
            );
            serde_yaml::from_str(&yaml).unwrap()
        };
        let first = starts(&pod("containerd://a", 0, "containerd://s"));
        assert_eq!(first, starts(&pod("containerd://a", 0, "containerd://t")));
        assert_ne!(first, starts(&pod("containerd://b", 1, "containerd://s")));
        assert_ne!(first, starts(&pod("containerd://a", 1, "containerd://s")));
        assert_eq!(first.keys().collect::<Vec<_>>(), ["hello"]);
    }
}
