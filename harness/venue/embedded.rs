use std::collections::BTreeMap;
use std::future::ready;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{OpenVenue, PodCounter, Reading, Run, Venue, VenueError, Watches};
use crate::cluster::{Applied, ClusterError, Deleted, EmbeddedMesh, PodState};
use crate::mesh::MeshError;
use crate::routing::RouteTable;
use crate::scenario::{Manifest, Served, Target};
use crate::traffic::{Driver, DriverOptions, WatchOptions};

/// The embedded mesh: a cluster and a mesh in this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Embedded;

impl Venue for Embedded {
    fn description(&self, _namespace: &str) -> String {
        "the embedded mesh, which checks your manifests, not an Istio release".to_owned()
    }

    fn open<'a>(&'a self, run: &'a Run<'a>) -> BoxFuture<'a, Result<Box<dyn OpenVenue + 'a>, VenueError>> {
        let mesh = EmbeddedMesh::start(&run.namespace, &run.scenario.client.pod, &run.scenario.service);
        ready(mesh.map(|mesh| Box::new(mesh) as Box<dyn OpenVenue>).map_err(VenueError::from)).boxed()
    }

    fn creation(&self, _run: &Run<'_>) -> Option<String> {
        None
    }
}

impl OpenVenue for EmbeddedMesh {
    fn driver(&self, options: DriverOptions) -> Driver {
        Driver::local(self.address(), options)
    }

    fn apply<'a>(&'a mut self, manifest: &'a Manifest) -> BoxFuture<'a, Result<Applied, ClusterError>> {
        ready(EmbeddedMesh::apply(self, manifest)).boxed()
    }

    fn delete<'a>(&'a mut self, target: &'a Target) -> BoxFuture<'a, Result<Option<Deleted>, ClusterError>> {
        ready(EmbeddedMesh::delete(self, target).map(|()| None)).boxed()
    }

    fn later(&mut self) {
        EmbeddedMesh::later(self);
    }

    fn pods(&self) -> Vec<PodState> {
        EmbeddedMesh::pods(self)
    }

    fn table<'a>(&'a mut self, _host: &'a str, _port: u16) -> BoxFuture<'a, Result<RouteTable, MeshError>> {
        ready(Ok(EmbeddedMesh::table(self))).boxed()
    }

    fn counters<'a>(
        &'a self,
        labels: &'a BTreeMap<String, String>,
        _served: &'a Served,
    ) -> BoxFuture<'a, Result<Reading, ClusterError>> {
        ready(Ok(reading(self, labels))).boxed()
    }

    fn remaining(&self) -> BoxFuture<'_, Result<Vec<String>, ClusterError>> {
        ready(Ok(EmbeddedMesh::remaining(self))).boxed()
    }

    /// Deleted objects are gone at once.
    fn removal_limit(&self) -> Duration {
        Duration::from_millis(100)
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn watches(&self) -> Watches {
        let watch = WatchOptions { rate: 2000, raised: 2000, connections: 4 };
        Watches { objects: watch, claimed: watch, mesh: watch }
    }
}

/// The counters of the pods with these labels.
fn reading(mesh: &EmbeddedMesh, labels: &BTreeMap<String, String>) -> Reading {
    let selected = |pod: &PodState| labels.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
    let pods = mesh.pods().into_iter().filter(selected);
    let counter = |pod: PodState| {
        let (start, count) = mesh.served(&pod.name)?;
        let starts = BTreeMap::from([("server".to_owned(), start.to_string())]);
        Some((pod.name.clone(), PodCounter { pod: pod.name, starts, leaving: false, count: Ok(count) }))
    };
    pods.filter_map(counter).collect()
}
