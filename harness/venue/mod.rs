//! Where a scenario runs: on a throwaway cluster, on an existing one, from within a pod of a cluster, or on the embedded mesh. A [`Run`] opens its venue, which then takes
//! objects and requests. Everything that the run creates outside of this process has a record, and [`Run::close`] removes or keeps it. An open
//! venue borrows its run, so that it cannot be used after the run is closed.

mod addons;
mod cluster;
mod descriptors;
mod embedded;
mod error;
mod existing;
mod inside;
mod namespace;
mod pods;
mod run;
mod shared;
mod stand_ins;
mod state;
mod throwaway;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use kube::Client;

use crate::cluster::{Applied, ClusterError, Deleted, NotEmbedded, PodState, RunId, RunRecord};
use crate::controller::ControlledObjects;
use crate::events::Environment;
use crate::mesh::{MeshError, Sidecar};
use crate::routing::RouteTable;
use crate::scenario::{Growth, IngressGateway, IstioVersion, Manifest, MeshStep, Scenario, Served, Target};
use crate::traffic::{Driver, DriverOptions, WatchOptions};

pub use cluster::{ClusterSpec, ProvisionedCluster};
pub use embedded::Embedded;
pub use error::{LeftBehind, VenueError};
pub use existing::Existing;
pub use inside::Inside;
pub use namespace::OpenNamespace;
pub use pods::{PodCounter, Reading, ready_pods};
pub use run::Run;
pub use shared::SharedCluster;
pub use throwaway::Throwaway;
pub use turns::{Neighbours, Turn};

/// A place where scenarios run. It holds the settings of the user and no state of a run.
#[async_trait]
pub trait Venue: fmt::Debug + Send + Sync {
    /// The venue in words, for a run of a scenario in this namespace.
    fn description(&self, scenario: &Scenario, namespace: &str) -> String;

    /// The namespace of a run whose scenario names `declared`.
    fn namespace(&self, declared: &str, _run: &RunId) -> String {
        declared.to_owned()
    }

    /// The venue as a throwaway cluster, which supports several namespaces and versions of Istio; none for other venues.
    fn throwaway(&self) -> Option<&Throwaway> {
        None
    }

    /// Whether the API has the definitions that manifests are validated by before anything starts. An existing cluster may have others, by which
    /// it decides itself.
    fn has_known_definitions(&self) -> bool {
        true
    }

    /// Opens the venue: everything is ready for the first object.
    ///
    /// # Errors
    /// The cluster or the mesh does not become ready, or the scenario may not run there.
    async fn open<'a>(&'a self, run: &'a Run<'a>) -> Result<Box<dyn OpenVenue + 'a>, VenueError>;

    /// A client of the cluster that a run has created something on; none where there is no such cluster.
    async fn client(&self, _run: &Run<'_>) -> Option<Client> {
        None
    }

    /// Waits until something else stops what a run has created, and returns that as an error. Never returns where that cannot be seen.
    async fn lost(&self, _run: &Run<'_>) -> ClusterError {
        std::future::pending().await
    }

    /// What a run creates outside of this process, in words; none if it creates nothing there.
    fn creation(&self, run: &Run<'_>) -> Option<String>;

    /// Marks what a run has created as kept, and returns the commands that show it; none if there is nothing to keep.
    ///
    /// # Errors
    /// The engine does not answer or refuses.
    async fn keep(&self, _run: &Run<'_>) -> Result<Option<Vec<String>>, ClusterError> {
        Ok(None)
    }

    /// Removes what a run has created, by its record.
    ///
    /// # Errors
    /// The engine or the API server does not answer or refuses.
    async fn remove(&self, _record: &RunRecord) -> Result<(), ClusterError> {
        Ok(())
    }
}

/// An open venue: the namespace of one scenario, with its client and its service. The defaults are those of a cluster with Istio.
#[async_trait]
pub trait OpenVenue: Send + Sync {
    /// A traffic driver in the client's pod, in each other pod that sends requests, and in the pod outside of the mesh for each gateway through
    /// which populations come.
    ///
    /// # Errors
    /// The pods of a gateway or their Service cannot be found.
    async fn driver(&mut self, options: DriverOptions) -> Result<Driver, VenueError>;

    /// Applies an object.
    ///
    /// # Errors
    /// The API server rejects it or does not know its kind.
    async fn apply(&mut self, manifest: &Manifest) -> Result<Applied, ClusterError>;

    /// Deletes an object, and returns it if its pods have to be waited for.
    ///
    /// # Errors
    /// There is no such object, or the API server refuses.
    async fn delete(&mut self, target: &Target) -> Result<Option<Deleted>, ClusterError>;

    /// Waits for the turn of a stage among those of other runs on the same cluster.
    async fn turn(&self, _: Neighbours) -> Turn {
        Turn::Only
    }

    /// Marks the end of a step in time: objects that are applied from now on are younger than those before.
    fn later(&mut self) {}

    /// Waits for the rollouts of these objects.
    ///
    /// # Errors
    /// A workload cannot become ready, or the limit has passed.
    async fn rolled_out(&self, _: &[Applied], _: &[Deleted], _limit: Duration) -> Result<(), ClusterError> {
        Ok(())
    }

    /// Waits until Deployments have as many pods as a stage waits for, and returns a line for each: `Deployment/hello: 3 pods, 1 before`.
    ///
    /// # Errors
    /// Nothing starts pods here, a pod cannot start, or the timeout has passed.
    async fn grown(&self, growth: &Growth) -> Result<Vec<String>, ClusterError> {
        Err(not_grown(growth))
    }

    /// Changes the mesh, and returns the objects whose rollouts follow from that.
    ///
    /// # Errors
    /// The venue is not a throwaway cluster, or the cluster or the mesh fails.
    async fn change_mesh(&mut self, _step: &MeshStep) -> Result<Vec<Applied>, VenueError> {
        Err(VenueError::NotThrowaway)
    }

    /// Deletes the client's pod and waits until it is gone.
    ///
    /// # Errors
    /// The API server refuses, or it takes too long.
    async fn end_client(&mut self) -> Result<(), ClusterError> {
        Ok(())
    }

    /// The version of Istio; none where there is none, or where its image does not tell.
    fn istio(&self) -> Option<IstioVersion> {
        None
    }

    /// The pods that are there now, in the namespace and in others that the scenario names.
    fn pods(&self) -> Vec<PodState>;

    /// How the client's requests to a service port are routed now.
    ///
    /// # Errors
    /// The client's sidecar does not answer, or its configuration cannot be read.
    async fn table(&mut self, host: &str, port: u16) -> Result<RouteTable, MeshError>;

    /// How each pod of a gateway routes requests to a host now.
    ///
    /// # Errors
    /// There is no such gateway, its pods do not answer, or their configuration cannot be read.
    async fn gateway(&mut self, gateway: &IngressGateway, _host: &str) -> Result<Vec<RouteTable>, MeshError> {
        Err(MeshError::NoGateway(gateway.to_string()))
    }

    /// How the requests of another pod with a sidecar to a service port are routed now.
    ///
    /// # Errors
    /// There is no such pod, its sidecar does not answer, or its configuration cannot be read.
    async fn table_of(&mut self, pod: &str, _host: &str, _port: u16) -> Result<RouteTable, MeshError> {
        Err(MeshError::NoSidecar { pod: pod.to_owned() })
    }

    /// How requests that a pod with a sidecar sends on to a service port are routed now. The pod is a server, not one that the scenario names.
    ///
    /// # Errors
    /// There is no such pod, its sidecar does not answer, or its configuration cannot be read.
    async fn table_of_server(&mut self, _: &str, pod: &str, _host: &str, _port: u16) -> Result<RouteTable, MeshError> {
        Err(MeshError::NoSidecar { pod: pod.to_owned() })
    }

    /// Whether the answers come from the routing model, so that they prove nothing where something unmodelled can affect them.
    fn is_model(&self) -> bool {
        false
    }

    /// The client's sidecar; none where there is no Envoy.
    fn sidecar(&mut self) -> Option<&mut Sidecar> {
        None
    }

    /// The rules by which requests are routed, and the object that a rollout controller drives; none where no stage asks for them.
    fn controlled(&self) -> Option<&ControlledObjects> {
        None
    }

    /// The addresses of endpoints that stages have waited for; none where a change has its effect at once.
    fn endpoints(&mut self) -> Option<&mut BTreeSet<String>> {
        None
    }

    /// The counters of the pods with these labels.
    ///
    /// # Errors
    /// The pods cannot be listed. A counter that cannot be read is a part of the reading.
    async fn counters(&self, labels: &BTreeMap<String, String>, served: &Served) -> Result<Reading, ClusterError>;

    /// The version of the client's Envoy and the images of the pods, where they are known.
    async fn environment(&mut self) -> Option<Environment> {
        None
    }

    /// The applied objects and pods that are left: kind, group, name and namespace of each.
    ///
    /// # Errors
    /// The API server does not list them.
    async fn remaining(&self) -> Result<Vec<String>, ClusterError>;

    /// What something else has done to the applied objects, a line each.
    async fn foreign_changes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The timeout for deleted objects to go.
    fn removal_limit(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// How often the client's routes are read while they converge.
    fn interval(&self) -> Duration {
        Duration::from_millis(50)
    }

    /// How changes are observed.
    fn watches(&self) -> Watches;
}

/// The error of a place where nothing starts pods but the stages.
fn not_grown(growth: &Growth) -> ClusterError {
    ClusterError::NotEmbedded { origin: growth.origin.clone(), source: NotEmbedded::Growth }
}

/// The requests that observe a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watches {
    /// A change of objects.
    pub objects: WatchOptions,
    /// A change of objects about which something is claimed.
    pub claimed: WatchOptions,
    /// A change of the mesh itself.
    pub mesh: WatchOptions,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::*;
    use crate::events::Events;

    fn existing(namespace: Option<&str>) -> Existing {
        Existing { namespace: namespace.map(ToOwned::to_owned), ..Existing::default() }
    }

    #[rstest]
    #[case::throwaway(Throwaway::new("shiftcheck".into()), "a throwaway cluster", Some("the cluster"))]
    #[case::existing(existing(None), "namespace canary-RUN of an existing cluster", Some("the namespace canary-RUN"))]
    #[case::named(existing(Some("qa")), "namespace qa of an existing cluster", Some("the namespace qa"))]
    #[case::embedded(Embedded, "the embedded mesh, which checks your manifests, not an Istio release", None)]
    fn a_run_says_where_it_is_and_what_it_creates(
        #[case] venue: impl Venue + 'static,
        #[case] place: &str,
        #[case] creation: Option<&str>,
    ) {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let venue = Arc::new(venue);
        let run = Run::new(Arc::clone(&venue) as Arc<dyn Venue>, &scenario, "cache".as_ref(), Events::channel().0);
        let without_id = |text: String| text.replace(run.id.as_str(), "RUN");
        assert_eq!(without_id(run.place()), place);
        assert_eq!(venue.creation(&run).map(without_id).as_deref(), creation);
        // only the throwaway cluster takes several namespaces and other control planes
        assert_eq!(venue.throwaway().is_some(), place == "a throwaway cluster");
    }

    #[tokio::test]
    async fn the_embedded_mesh_refuses_changes_of_the_mesh() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let run = Run::new(Arc::new(Embedded), &scenario, "cache".as_ref(), Events::channel().0);
        let mut venue = run.open().await.unwrap();
        let refused = venue.change_mesh(&MeshStep::Restart).await;
        assert!(matches!(refused, Err(VenueError::NotThrowaway)), "{refused:?}");
        assert!(venue.sidecar().is_none() && venue.endpoints().is_none() && venue.environment().await.is_none());
    }
}
