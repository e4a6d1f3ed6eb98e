//! What is behind the clusters of a client's routes.

use std::collections::BTreeSet;

use super::condition::Request;
use super::distribution::Outcome;
use super::endpoints::answer;
use super::outbound::Outbound;
use super::retries::Failure;
use super::secret::ServerCertificate;
use super::service::Pod;
use super::table::{Action, Cluster, Route, RoutingUnit};

impl Outbound<'_> {
    /// The addresses of the endpoints of a cluster that get requests; none if the cluster does not exist.
    pub fn endpoints(&self, cluster: &Cluster) -> Option<BTreeSet<String>> {
        let pods = self.mesh.by_distance(cluster, &self.client)?.nearest;
        Some(pods.into_iter().map(|(pod, port)| format!("{}:{port}", pod.address)).collect())
    }

    /// What becomes of requests that the sidecar sends to the address of a pod behind a cluster, as in a table, and how the pod fails them.
    pub fn answer(&self, cluster: &Cluster, address: &str) -> Option<(Outcome, Option<Failure>)> {
        let (pod, number) = self.pod_behind(cluster, address)?;
        Some(answer(pod, number, self.mesh.protocol(cluster, &self.client.namespace), RoutingUnit::Request, false))
    }

    /// The certificate that the pod at the address of a cluster shows; none if it shows none, or if that is not known.
    pub fn certificate_behind(&self, cluster: &Cluster, address: &str) -> Option<ServerCertificate> {
        let (pod, _) = self.pod_behind(cluster, address)?;
        self.mesh.shown_by(pod, self.mesh.protocol(cluster, &self.client.namespace)).ok().flatten().cloned()
    }

    /// The pod at the address of a cluster, and its port.
    fn pod_behind(&self, cluster: &Cluster, address: &str) -> Option<(&Pod, u16)> {
        let ready = self.mesh.ready(cluster, &self.client.namespace)?;
        ready.into_iter().find(|(pod, port)| format!("{}:{port}", pod.address) == address)
    }

    /// The workloads that may receive a request, or a mirrored copy of it.
    pub fn workloads(&self, request: &Request) -> BTreeSet<String> {
        let routes = self.routes(request).ok();
        let route = routes.as_ref().and_then(|routes| routes.table.routes.get(routes.decide(request).route?));
        let Some(Route { action: Action::Forward(forward), .. }) = route else { return BTreeSet::new() };
        let clusters = forward.clusters.iter().chain(&forward.mirrors).map(|(cluster, _)| cluster);
        let client = self.client_of(request);
        let pods = clusters.filter_map(|cluster| Some(self.mesh.by_distance(cluster, &client)?.nearest));
        pods.flatten().map(|(pod, _)| pod.workload.clone()).collect()
    }

    /// The workloads whose ready pods are the endpoints of a cluster.
    pub fn workloads_of(&self, cluster: &Cluster) -> BTreeSet<String> {
        let ready = self.mesh.ready(cluster, &self.client.namespace).unwrap_or_default();
        ready.into_iter().map(|(pod, _)| pod.workload.clone()).collect()
    }
}
