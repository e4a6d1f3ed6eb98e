use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use super::WalkError;
use super::event::{Environment, Event, Events};
use crate::cluster::wait::{Again, Awaited, Progress, until};
use crate::cluster::{Applied, ClusterError, Deleted, Embedded, Objects, PodState, Tunnel, Workloads};
use crate::mesh::{MeshError, Planes, Sidecar};
use crate::routing::RouteTable;
use crate::scenario::{ControlPlane, Manifest, MeshStep, Served, Target};
use crate::traffic::Watch;

/// The longest that a control plane that has taken the place of another may take to push its configuration.
const PUSH_LIMIT: Duration = Duration::from_secs(120);
const PUSH_INTERVAL: Duration = Duration::from_millis(100);

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
    /// The control planes that the mesh may be given; none where it is not the run's own.
    pub planes: Option<Planes>,
}

impl KubeSite {
    pub fn new(client: Client, namespace: &str, objects: Objects, planes: Option<Planes>, client_pod: &str) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        Self {
            workloads: Workloads::watch(&client, namespace),
            sidecar: Sidecar::new(pods, client_pod.to_owned()),
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

    /// How often the client's routes are looked at.
    pub const fn interval(&self) -> Duration {
        match self {
            Self::Kube(_) => Duration::from_millis(50),
            Self::Embedded(_) => Duration::from_millis(1),
        }
    }

    /// How many requests a second watch a change, over how many connections: a change of the mesh itself is watched closely.
    pub const fn watch(&self, of_mesh: bool) -> Watch {
        let (rate, connections) = match self {
            Self::Kube(_) if of_mesh => (1200, 8),
            Self::Kube(_) => (50, 4),
            Self::Embedded(_) => (2000, 4),
        };
        Watch { rate, raised: rate, connections }
    }

    pub fn pods(&self) -> Vec<PodState> {
        match self {
            Self::Kube(site) => site.workloads.pods(),
            Self::Embedded(site) => site.pods(),
        }
    }

    /// How many requests a pod has served, as its own counter tells.
    pub async fn served(&self, pod: &str, served: &Served) -> Result<u64, WalkError> {
        let site = match self {
            Self::Kube(site) => site,
            Self::Embedded(site) => return Ok(site.served(pod)),
        };
        let pods: Api<Pod> = Api::namespaced(site.client.clone(), &site.namespace);
        let mut tunnel = Tunnel::open(&pods, pod, served.port).await.map_err(MeshError::from)?;
        let body = tunnel.get(&served.path).await.map_err(MeshError::from)?;
        let text = String::from_utf8_lossy(&body);
        let count = text.trim().parse().map_err(|_| ClusterError::Exec {
            command: format!("GET {}", served.path),
            pod: pod.to_owned(),
            reason: format!("`{}` is not a number of requests", text.trim()),
        })?;
        Ok(count)
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
