//! The endpoints of a cluster, as a client in some namespace sees it.

use std::collections::BTreeSet;

use super::balancing::HashRule;
use super::client::Client;
use super::condition::TlsHandshake;
use super::destination_rule::{Subset, Subsets};
use super::distribution::{Chance, Distribution, Outcome, Unconnected};
use super::locality::{ByDistance, Preference};
use super::mesh::Mesh;
use super::retries::{Failure, Retries};
use super::rule::Destination;
use super::secret::ServerCertificate;
use super::service::{Pod, Port, Protocol, Service};
use super::table::{Cluster, Endpoints, RoutingUnit};
use super::upstream::{Tls, Upstream};
use crate::demo::DemoImage;

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

    /// The ready pods of a cluster, by whether they get the requests of a client; none if the cluster does not exist.
    pub(super) fn by_distance(&self, cluster: &Cluster, client: &Client) -> Option<ByDistance<'_>> {
        let ready = self.ready(cluster, &client.namespace)?;
        let policies = self.policies_of(&cluster.host, &client.namespace).filter(|_| client.sidecar);
        let preference = policies.map(|own| own.preference(cluster.port, cluster.subset.as_deref()));
        Some(ByDistance::new(ready, &preference.unwrap_or(Preference::Nothing), &client.placement))
    }

    /// A cluster with the addresses of the ready endpoints that get no requests of a client as long as nearer ones are ready; none if
    /// there are none.
    pub(super) fn standby(&self, cluster: &Cluster, client: &Client) -> Option<(Cluster, BTreeSet<String>)> {
        let farther = self.by_distance(cluster, client)?.farther;
        let addresses: BTreeSet<String> =
            farther.into_iter().map(|(pod, number)| format!("{}:{number}", pod.address)).collect();
        (!addresses.is_empty()).then(|| (cluster.clone(), addresses))
    }

    /// The outcomes of requests to a cluster, which are sent again after failures, for the path at which demo servers respond with an error or
    /// for any other; none if the cluster does not exist. A handshake is one that a gateway passes through to the servers.
    pub(super) fn outcomes(
        &self,
        cluster: &Cluster,
        (unit, handshake): (RoutingUnit, Option<&TlsHandshake>),
        client: &Client,
        retries: Retries,
        at_error: bool,
    ) -> Distribution {
        let nearest = self.by_distance(cluster, client).map(|own| own.nearest);
        let ready = match (nearest, unit) {
            (None, RoutingUnit::Request) => return Distribution::default(),
            (Some(ready), RoutingUnit::Request) if ready.is_empty() => {
                return Distribution::certain(Outcome::NoEndpoint);
            }
            (ready, _) => ready.unwrap_or_default(),
        };
        if ready.is_empty() {
            return Distribution::certain(Outcome::NoConnection(Unconnected::Refused));
        }
        let protocol = self.protocol(cluster, &client.namespace);
        let answers: Vec<(Outcome, bool)> = ready
            .into_iter()
            .map(|(pod, number)| {
                let (outcome, failure) = answer(pod, number, protocol, unit, at_error);
                match (unit, &outcome) {
                    (RoutingUnit::Request, _) => (outcome, failure.is_some_and(|failure| retries.follow(failure))),
                    (RoutingUnit::Connection, Outcome::Served { .. } | Outcome::NotHttp2) => {
                        let failed = handshake.and_then(|own| self.answered(pod, protocol, own).err());
                        // bytes are forwarded whatever the server speaks
                        let served = if outcome == Outcome::NotHttp2 { served(pod, true) } else { outcome };
                        (failed.map_or(served, Outcome::NoConnection), false)
                    }
                    (RoutingUnit::Connection, _) => (Outcome::NoConnection(Unconnected::Refused), false),
                }
            })
            .collect();
        let all = answers.len() as u64;
        let failing = answers.iter().filter(|(_, is_failing)| *is_failing).count() as u64;
        let failed = all_fail(retries, failing, all);
        let mut distribution = Distribution::default();
        for (outcome, is_failing) in answers {
            // whichever endpoint is tried last, all of a kind are alike
            let (share, of) = if is_failing { (failed, failing) } else { (failed.otherwise(), all - failing) };
            distribution.add(outcome, share.and(Chance::of(1, of)));
        }
        distribution
    }

    /// The certificate that a pod shows; none if it is not known, as for images other than the demo's, which are taken to have one that fits.
    pub(super) fn shown_by(
        &self,
        pod: &Pod,
        EndpointProtocol { http, .. }: EndpointProtocol,
    ) -> Result<Option<&ServerCertificate>, Unconnected> {
        // the sidecar of the server reads HTTP where the port is declared so
        if pod.sidecar && http != HttpVersion::AsClient {
            return Err(Unconnected::ServerWithoutTls);
        }
        if pod.demo_port.is_none() {
            return Ok(None);
        }
        let secret = pod.certificate.as_ref().ok_or(Unconnected::ServerWithoutTls)?;
        // without the Secret, the pod does not start
        self.secrets.certificate(&pod.namespace, secret).map(Some).map_err(|_| Unconnected::ServerWithoutTls)
    }

    /// Whether a pod answers a handshake with a certificate that the client takes.
    fn answered(&self, pod: &Pod, protocol: EndpointProtocol, handshake: &TlsHandshake) -> Result<(), Unconnected> {
        let TlsHandshake { server_name, ca } = handshake;
        match (self.shown_by(pod, protocol)?, ca) {
            (Some(certificate), Some(ca)) => certificate.taken_by(server_name, ca).map_err(Unconnected::Untrusted),
            _ => Ok(()),
        }
    }

    /// The TLS that clients in a namespace use towards a cluster because of a `DestinationRule`.
    fn tls(&self, cluster: &Cluster, client_namespace: &str) -> Tls {
        let subsets = self.policies_of(&cluster.host, client_namespace);
        subsets.map_or_else(Tls::default, |subsets| subsets.tls(cluster.port, cluster.subset.as_deref()))
    }

    /// The protocols of a cluster, as in a table.
    pub(super) fn upstream(&self, cluster: &Cluster, client_namespace: &str) -> Upstream {
        let is_http2 = self.service_port(cluster).is_some_and(|(_, port)| port.is_http2);
        let table = self.hash_of(cluster, client_namespace).map(|hash| hash.table);
        Upstream { tls: self.tls(cluster, client_namespace), is_http2, table }
    }

    /// The hash with which clients in a namespace choose an endpoint of a cluster.
    pub(super) fn hash_of(&self, cluster: &Cluster, client_namespace: &str) -> Option<&HashRule> {
        let subsets = self.policies_of(&cluster.host, client_namespace)?;
        subsets.hash_of_cluster(cluster.port, cluster.subset.as_deref())
    }

    /// The hash of requests of clients in a namespace to a destination of a rule.
    pub(super) fn hash_for(&self, destination: &Destination, client_namespace: &str) -> Option<&HashRule> {
        let subsets = self.policies_of(&destination.host, client_namespace)?;
        subsets.hash_of_destination(destination.port, destination.subset.as_deref())
    }

    /// The `DestinationRule`s for a host that clients in a namespace see.
    fn policies_of(&self, host: &str, client_namespace: &str) -> Option<&Subsets> {
        let service = self.services.get(host)?;
        self.destination_rules.of(&service.host, &service.namespace, client_namespace)
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

    /// How sidecars of a namespace speak to the endpoints of a cluster.
    pub(super) fn protocol(&self, cluster: &Cluster, client_namespace: &str) -> EndpointProtocol {
        let http = self.service_port(cluster).map_or(HttpVersion::AsClient, |(_, port)| match port.protocol {
            Protocol::Http if port.is_http2 => HttpVersion::Http2,
            Protocol::Http => HttpVersion::Http1,
            Protocol::Detected | Protocol::Tcp(_) => HttpVersion::AsClient,
        });
        EndpointProtocol { http, tls: self.tls(cluster, client_namespace) }
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

/// How a sidecar speaks to endpoints.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndpointProtocol {
    http: HttpVersion,
    tls: Tls,
}

/// The version of HTTP that endpoints get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HttpVersion {
    Http1,
    Http2,
    /// That of the client's request.
    AsClient,
}

/// What becomes of a request to a pod, and the failure if there is one.
pub(super) fn answer(
    pod: &Pod,
    number: u16,
    EndpointProtocol { http, tls }: EndpointProtocol,
    unit: RoutingUnit,
    at_error: bool,
) -> (Outcome, Option<Failure>) {
    // where there is a sidecar before the server, it takes the connection and responds
    let of_server = |failure: Option<Failure>| if pod.sidecar { Some(Failure::Unavailable) } else { failure };
    let is_demo = pod.demo_port.is_some();
    if is_demo && (tls == Tls::Server || tls == Tls::Istio && !pod.sidecar) {
        (Outcome::NotTls, Some(Failure::Unconnected))
    } else if !pod.listens(number) {
        (Outcome::NotListening, of_server(Some(Failure::Unconnected)))
    } else if http == HttpVersion::Http2 && is_demo && !DemoImage::speaks_http2(&pod.env) {
        (Outcome::NotHttp2, of_server(None))
    } else {
        let is_faulty = at_error && is_demo && DemoImage::find(&pod.image).is_some_and(|image| image.is_faulty);
        // a connection reaches the server as it is, unless the sidecar of the server takes it
        let is_forwarded = unit == RoutingUnit::Connection && !pod.sidecar;
        (served(pod, is_forwarded || http != HttpVersion::Http1), is_faulty.then_some(Failure::Unavailable))
    }
}

fn served(pod: &Pod, http2: bool) -> Outcome {
    let (version, image) = (pod.version.clone(), pod.image.clone());
    let greets = pod.demo_port.map(|_| DemoImage::greets(&pod.env));
    Outcome::Served { version, image, http2, workload: pod.namespaced_workload(), greets }
}

/// The probability that a request and all of its retries go to endpoints that fail it, of which there are so many among all.
fn all_fail(retries: Retries, failing: u64, all: u64) -> Chance {
    let mut chance = Chance::of(failing, all);
    if retries.to_others {
        for tried in 1..=u64::from(retries.attempts).min(failing).min(all - 1) {
            chance = chance.and(Chance::of(failing - tried, all - tried));
        }
    } else {
        // more are lost in rounding, and do not fit into the numbers of a ratio
        let bits = u64::BITS - all.leading_zeros();
        for _ in 0..retries.attempts.min(48 / bits) {
            chance = chance.and(Chance::of(failing, all));
        }
    }
    chance
}
