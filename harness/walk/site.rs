use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

use super::WalkError;
use super::event::Environment;
use crate::cluster::{Applied, ClusterError, Embedded, Objects, PodState, Tunnel, Workloads};
use crate::mesh::{MeshError, Sidecar};
use crate::routing::RouteTable;
use crate::scenario::{Manifest, Served, Target};

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
}

impl KubeSite {
    pub fn new(client: Client, namespace: &str, objects: Objects, client_pod: &str) -> Self {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        Self {
            workloads: Workloads::watch(&client, namespace),
            sidecar: Sidecar::new(pods, client_pod.to_owned()),
            namespace: namespace.to_owned(),
            objects,
            client,
        }
    }
}

impl Site {
    pub async fn apply(&mut self, manifest: &Manifest) -> Result<Applied, ClusterError> {
        match self {
            Self::Kube(site) => site.objects.apply(manifest).await,
            Self::Embedded(site) => site.apply(manifest),
        }
    }

    pub async fn delete(&mut self, target: &Target) -> Result<(), ClusterError> {
        match self {
            Self::Kube(site) => site.objects.delete(target).await,
            Self::Embedded(site) => site.delete(target),
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
        limit: Duration,
        seen: impl FnMut(&str),
    ) -> Result<(), ClusterError> {
        match self {
            Self::Kube(site) => site.workloads.rolled_out(applied, limit, seen).await,
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

    /// How many requests a second watch a change.
    pub const fn watch_rate(&self) -> f64 {
        match self {
            Self::Kube(_) => 50.0,
            Self::Embedded(_) => 2000.0,
        }
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
