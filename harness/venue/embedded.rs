use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

use super::stand_ins::{images, stand_ins};
use super::{OpenVenue, PodCounter, Reading, Run, Venue, VenueError, Watches, not_grown};
use crate::cluster::{Applied, ClusterError, Deleted, EmbeddedMesh, NotEmbedded, PodState};
use crate::mesh::MeshError;
use crate::plan::Plan;
use crate::routing::RouteTable;
use crate::scenario::{IngressGateway, Manifest, Scenario, Served, Target};
use crate::traffic::{Driver, DriverOptions, SenderPod, WatchOptions};

/// The embedded mesh: a cluster and a mesh in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded;

#[async_trait]
impl Venue for Embedded {
    fn description(&self, scenario: &Scenario, _namespace: &str) -> String {
        let place = "the embedded mesh, which checks your manifests, not an Istio release";
        let images = images(&Plan::new(scenario)).into_keys().collect::<Vec<_>>().join(", ");
        if images.is_empty() { place.to_owned() } else { format!("{place}; answers come from stand-ins for {images}") }
    }

    async fn open<'a>(&'a self, run: &'a Run<'a>) -> Result<Box<dyn OpenVenue + 'a>, VenueError> {
        if let Some(growth) = run.scenario.stages.iter().find_map(|stage| stage.growth.as_ref()) {
            return Err(not_grown(growth).into());
        }
        if let Some(install) = run.scenario.install.first() {
            let source = NotEmbedded::Controller(install.to_string());
            return Err(ClusterError::NotEmbedded { origin: install.origin.clone(), source }.into());
        }
        let stand_ins = stand_ins(&Plan::of(run.scenario, &run.namespace, None))?;
        let mesh = EmbeddedMesh::start(&run.namespace, &run.scenario.client.pod, &run.scenario.service)?;
        let mesh = mesh.with_gateways(run.scenario)?.with_others(run.scenario)?;
        Ok(Box::new(mesh.with_stand_ins(stand_ins)))
    }

    fn creation(&self, _run: &Run<'_>) -> Option<String> {
        None
    }
}

#[async_trait]
impl OpenVenue for EmbeddedMesh {
    fn is_model(&self) -> bool {
        true
    }

    async fn driver(&mut self, options: DriverOptions) -> Result<Driver, VenueError> {
        let mut driver = Driver::local(self.address(), options);
        for (gateway, address) in self.gateways() {
            let (name, address_called) = ("outside".to_owned(), address.to_string());
            let tls = gateway.tls.clone();
            let pod = SenderPod { name, address: address_called, connects_each: false, tls };
            driver = driver.entering(gateway.clone(), Driver::local(address, options).within_pod(pod));
        }
        for (other, called, address) in self.others() {
            let (name, connects_each) = (other.name.clone(), !other.sidecar);
            let pod = SenderPod { name, address: called, connects_each, tls: None };
            driver = driver.beside(&other.name, Driver::local(address, options).within_pod(pod));
        }
        Ok(driver)
    }

    async fn table_of(&mut self, pod: &str, _host: &str, _port: u16) -> Result<RouteTable, MeshError> {
        EmbeddedMesh::table_of(self, pod).ok_or_else(|| MeshError::NoSidecar { pod: pod.to_owned() })
    }

    async fn table_of_server(
        &mut self,
        namespace: &str,
        pod: &str,
        host: &str,
        port: u16,
    ) -> Result<RouteTable, MeshError> {
        EmbeddedMesh::table_of_server(self, namespace, pod, host, port)
            .ok_or_else(|| MeshError::NoSidecar { pod: pod.to_owned() })
    }

    async fn gateway(&mut self, gateway: &IngressGateway, host: &str) -> Result<Vec<RouteTable>, MeshError> {
        EmbeddedMesh::gateway(self, gateway, host)
            .map(|table| vec![table])
            .ok_or_else(|| MeshError::NoGateway(gateway.to_string()))
    }

    async fn apply(&mut self, manifest: &Manifest) -> Result<Applied, ClusterError> {
        EmbeddedMesh::apply(self, manifest)
    }

    async fn delete(&mut self, target: &Target) -> Result<Option<Deleted>, ClusterError> {
        EmbeddedMesh::delete(self, target).map(|()| None)
    }

    fn later(&mut self) {
        EmbeddedMesh::later(self);
    }

    fn pods(&self) -> Vec<PodState> {
        EmbeddedMesh::pods(self)
    }

    async fn table(&mut self, _host: &str, _port: u16) -> Result<RouteTable, MeshError> {
        Ok(EmbeddedMesh::table(self))
    }

    async fn counters(&self, labels: &BTreeMap<String, String>, _: &Served) -> Result<Reading, ClusterError> {
        let selected = |pod: &PodState| labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        let counter = |pod: PodState| {
            let (start, count) = self.served(&pod.name)?;
            let starts = BTreeMap::from([("server".to_owned(), start.to_string())]);
            Some((pod.name.clone(), PodCounter { pod: pod.name, starts, leaving: false, count: Ok(count) }))
        };
        Ok(EmbeddedMesh::pods(self).into_iter().filter(selected).filter_map(counter).collect())
    }

    async fn remaining(&self) -> Result<Vec<String>, ClusterError> {
        Ok(EmbeddedMesh::remaining(self))
    }

    /// Deleted objects are gone at once.
    fn removal_limit(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn watches(&self) -> Watches {
        // on a machine that is busy for seconds, thousands of new connections would overflow the accept queue of the proxy, and the requests
        // on them would time out
        let watch = WatchOptions { rate: 2000, raised: 2000, busy: 50, connections: 4 };
        Watches { objects: watch, claimed: watch, mesh: watch }
    }
}
