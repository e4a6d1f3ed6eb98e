//! The endpoints of a cluster, as a client in some namespace sees it.

use super::destination_rule::Subset;
use super::distribution::{Chance, Distribution, Outcome, Unconnected};
use super::mesh::Mesh;
use super::service::{Pod, Port, Service};
use super::table::{Cluster, Endpoints, RoutingUnit};

impl Mesh {
    /// The endpoints of a cluster.
    pub(super) fn endpoints(&self, cluster: &Cluster, client_namespace: &str) -> Endpoints {
        match self.ready(cluster, client_namespace) {
            Some(ready) => {
                Endpoints::Ready(ready.iter().map(|(pod, number)| format!("{}:{number}", pod.address)).collect())
            }
            None => Endpoints::NoCluster,
        }
    }

    /// The outcomes of requests to a cluster, which are retried so often if no connection comes about; none if the cluster does not exist.
    pub(super) fn outcomes(
        &self,
        cluster: &Cluster,
        unit: RoutingUnit,
        client_namespace: &str,
        retries: u32,
    ) -> Distribution {
        let ready = match (self.ready(cluster, client_namespace), unit) {
            (None, RoutingUnit::Request) => return Distribution::default(),
            (Some(ready), RoutingUnit::Request) if ready.is_empty() => {
                return Distribution::certain(Outcome::NoEndpoint);
            }
            (ready, _) => ready.unwrap_or_default(),
        };
        if ready.is_empty() {
            return Distribution::certain(Outcome::NoConnection(Unconnected::Refused));
        }
        let is_http2 = self.speaks_http2(cluster);
        let (alive, dead): (Vec<_>, Vec<_>) = ready.into_iter().partition(|(pod, number)| pod.listens(*number));
        let (all, dead) = ((alive.len() + dead.len()) as u64, dead.len() as u64);
        let mut failed = Chance::of(dead, all);
        if unit == RoutingUnit::Request {
            // each retry goes to an endpoint that was not tried
            for tried in 1..=u64::from(retries).min(dead).min(all - 1) {
                failed = failed.and(Chance::of(dead - tried, all - tried));
            }
        }
        let mut distribution = Distribution::default();
        distribution.add(
            match unit {
                RoutingUnit::Request => Outcome::NotListening,
                RoutingUnit::Connection => Outcome::NoConnection(Unconnected::Refused),
            },
            failed,
        );
        for (pod, _) in &alive {
            let outcome = if is_http2 && unit == RoutingUnit::Request && pod.demo_port.is_some() {
                Outcome::NotHttp2
            } else {
                Outcome::Served { version: pod.version.clone(), image: pod.image.clone() }
            };
            distribution.add(outcome, failed.otherwise().and(Chance::of(1, alive.len() as u64)));
        }
        distribution
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

    /// Whether sidecars speak HTTP/2 to the endpoints of a cluster.
    pub(super) fn speaks_http2(&self, cluster: &Cluster) -> bool {
        self.service_port(cluster).is_some_and(|(_, port)| port.is_http2)
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
