//! The endpoints of a cluster, as a client in some namespace sees it.

use super::destination_rule::Subset;
use super::distribution::{Chance, Distribution, Outcome, Unconnected};
use super::mesh::Mesh;
use super::service::{Pod, Port, Service};
use super::table::{Cluster, Endpoints, RoutingUnit};

impl Mesh {
    /// The endpoints of a cluster, and the outcomes of requests to it; none if the cluster does not exist.
    pub(super) fn endpoints(
        &self,
        cluster: &Cluster,
        unit: RoutingUnit,
        client_namespace: &str,
    ) -> (Endpoints, Distribution) {
        let Some(ready) = self.ready(cluster, client_namespace) else {
            return (Endpoints::NoCluster, Distribution::default());
        };
        let mut distribution = Distribution::default();
        for (pod, number) in &ready {
            let outcome = if pod.listens(*number) {
                Outcome::Served { version: pod.version.clone(), image: pod.image.clone() }
            } else if unit == RoutingUnit::Connection {
                Outcome::NoConnection(Unconnected::Refused)
            } else {
                Outcome::NotListening
            };
            distribution.add(outcome, Chance::of(1, ready.len() as u64));
        }
        if ready.is_empty() {
            distribution = Distribution::certain(match unit {
                RoutingUnit::Request => Outcome::NoEndpoint,
                RoutingUnit::Connection => Outcome::NoConnection(Unconnected::Refused),
            });
        }
        let addresses = ready.iter().map(|(pod, number)| format!("{}:{number}", pod.address));
        (Endpoints::Ready(addresses.collect()), distribution)
    }

    /// The ready pods of a cluster, each with its target port; none if the cluster does not exist.
    pub(super) fn ready(&self, cluster: &Cluster, client_namespace: &str) -> Option<Vec<(&Pod, u16)>> {
        let (service, port) = self.service_port(cluster)?;
        let subset = match &cluster.subset {
            Some(name) => Some(self.subset(service, name, client_namespace)?),
            None => None,
        };
        let Some(mut labels) = service.selector.clone() else { return Some(Vec::new()) };
        if let Some(subset) = subset {
            // no pod has two values for one label
            if subset.labels.iter().any(|(key, value)| labels.get(key).is_some_and(|other| other != value)) {
                return Some(Vec::new());
            }
            labels.extend(subset.labels.clone());
        }
        let pods = self.pods.select(&service.namespace, &labels);
        Some(pods.into_iter().filter_map(|pod| Some((pod, pod.port(&port.target)?))).collect())
    }

    fn service_port(&self, cluster: &Cluster) -> Option<(&Service, &Port)> {
        let service = self.services.get(&cluster.host)?;
        Some((service, service.port(cluster.port)?))
    }

    /// The subset of a service, by the `DestinationRule`s that a client in this namespace sees.
    pub(super) fn subset(&self, service: &Service, name: &str, client_namespace: &str) -> Option<&Subset> {
        self.destination_rules.of(&service.host, &service.namespace, client_namespace)?.by_name.get(name)
    }
}
