use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use kube::Client;

use super::{OpenVenue, Reading, Run, Venue, VenueError, Watches};
use crate::cluster::{Applied, ClusterError, Deleted, OwnPod, PodState, RunId};
use crate::controller::ControlledObjects;
use crate::events::Event;
use crate::mesh::{MeshError, Sidecar};
use crate::routing::RouteTable;
use crate::scenario::{IstioVersion, Manifest, Scenario, Served, Target};
use crate::traffic::{Driver, DriverOptions, WatchOptions};

/// The namespace of the pod in which this process runs, which is the client. Nothing is created or changed there.
#[derive(Debug, Clone)]
pub struct Inside {
    /// The pod.
    pub own: OwnPod,
}

#[async_trait]
impl Venue for Inside {
    fn description(&self, _scenario: &Scenario, namespace: &str) -> String {
        format!("namespace {namespace}, from within pod {}", self.own.name)
    }

    fn namespace(&self, _declared: &str, _run: &RunId) -> String {
        self.own.namespace.clone()
    }

    fn has_known_definitions(&self) -> bool {
        false
    }

    async fn open<'a>(&'a self, run: &'a Run<'a>) -> Result<Box<dyn OpenVenue + 'a>, VenueError> {
        run.scenario.refuse_other_senders("a pod of the mesh")?;
        run.scenario.refuse_chains("a pod of the mesh")?;
        let client = self.own.client()?;
        let pods = self.own.pods(&client).await?;
        if !pods.iter().any(|pod| pod.name == self.own.name && pod.sidecar.is_some()) {
            return Err(MeshError::NoSidecar { pod: self.own.name.clone() }.into());
        }
        let mut sidecar = Sidecar::own(self.own.name.clone());
        let istio = sidecar.istio().await?;
        if let Some(version) = &istio {
            run.events.tell(Event::Ready(format!("Istio {version}")));
        }
        let object = run.scenario.controller.as_ref();
        let controlled = object.map(|_| ControlledObjects::watch(&client, &self.own.namespace, object));
        Ok(Box::new(OpenInside {
            own: &self.own,
            client,
            pods,
            sidecar,
            istio,
            controlled,
            endpoints: BTreeSet::new(),
        }))
    }

    fn creation(&self, _run: &Run<'_>) -> Option<String> {
        None
    }
}

struct OpenInside<'a> {
    own: &'a OwnPod,
    client: Client,
    /// The pods when the routes were read last.
    pods: Vec<PodState>,
    sidecar: Sidecar,
    istio: Option<IstioVersion>,
    controlled: Option<ControlledObjects>,
    endpoints: BTreeSet<String>,
}

#[async_trait]
impl OpenVenue for OpenInside<'_> {
    async fn driver(&mut self, options: DriverOptions) -> Result<Driver, VenueError> {
        Ok(Driver::within(options))
    }

    async fn apply(&mut self, manifest: &Manifest) -> Result<Applied, ClusterError> {
        Err(ClusterError::NotChanged(manifest.id()))
    }

    async fn delete(&mut self, target: &Target) -> Result<Option<Deleted>, ClusterError> {
        Err(ClusterError::NotChanged(target.name.clone()))
    }

    fn istio(&self) -> Option<IstioVersion> {
        self.istio.clone()
    }

    fn pods(&self) -> Vec<PodState> {
        self.pods.clone()
    }

    async fn table(&mut self, host: &str, port: u16) -> Result<RouteTable, MeshError> {
        self.pods = self.own.pods(&self.client).await?;
        self.sidecar.table(host, port).await
    }

    fn sidecar(&mut self) -> Option<&mut Sidecar> {
        Some(&mut self.sidecar)
    }

    fn controlled(&self) -> Option<&ControlledObjects> {
        self.controlled.as_ref()
    }

    fn endpoints(&mut self) -> Option<&mut BTreeSet<String>> {
        Some(&mut self.endpoints)
    }

    /// No counter: a claim about it stays undecided.
    async fn counters(&self, _: &BTreeMap<String, String>, _: &Served) -> Result<Reading, ClusterError> {
        Ok(Reading::new())
    }

    async fn remaining(&self) -> Result<Vec<String>, ClusterError> {
        Ok(Vec::new())
    }

    fn watches(&self) -> Watches {
        let watch = WatchOptions { rate: 50, raised: 50, busy: 50, connections: 4 };
        Watches { objects: watch, claimed: watch, mesh: watch }
    }
}
