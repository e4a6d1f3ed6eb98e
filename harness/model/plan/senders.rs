use std::collections::BTreeMap;

use super::stages::Snapshot;
use crate::routing::{Client, Mesh, Outbound, Request, client_in};
use crate::scenario::{OtherClient, Population, Sender, Service};

/// The outbound routing of each pod that sends requests.
#[derive(Debug)]
pub struct Senders<'m> {
    client: Outbound<'m>,
    others: BTreeMap<String, Outbound<'m>>,
}

impl<'m> Senders<'m> {
    /// The outbound routing of the client pod and of the other pods of a scenario, as `other` finds them.
    pub fn new(mesh: &'m Mesh, client: Client, others: &[OtherClient], other: impl Fn(&OtherClient) -> Client) -> Self {
        let others = others.iter().map(|own| (own.name.clone(), mesh.outbound(other(own))));
        Self { others: others.collect(), client: mesh.outbound(client) }
    }

    /// The outbound routing of the client pod.
    pub const fn client(&self) -> &Outbound<'m> {
        &self.client
    }

    /// The outbound routing of the pod that sends the requests of a population.
    pub fn of(&self, population: &Population) -> &Outbound<'m> {
        match population.sender() {
            Sender::Pod(name) => self.others.get(name).unwrap_or(&self.client),
            Sender::Client | Sender::Outside(_) => &self.client,
        }
    }
}

impl Snapshot<'_> {
    /// Another pod that sends requests; one that is not applied is taken for one without labels.
    pub fn other_client(&self, other: &OtherClient) -> Client {
        let namespace = other.namespace(self.live.namespace());
        client_in(&self.live, namespace, &other.name).unwrap_or_else(|| Client {
            namespace: namespace.to_owned(),
            labels: BTreeMap::new(),
            sidecar: other.sidecar,
        })
    }

    /// What becomes of the requests of all pods that send some.
    pub fn senders(&self) -> Senders<'_> {
        Senders::new(self.mesh(), self.client(), &self.scenario.client.others, |other| self.other_client(other))
    }

    /// The service as the sender of a population addresses it.
    pub fn service(&self, population: &Population) -> Service {
        let service = &self.scenario.service;
        let other = population.from_pod.as_ref().and_then(|name| self.scenario.other_client(name));
        other.map_or_else(|| service.clone(), |other| other.addressed(service, self.live.namespace()))
    }

    /// A request of a population's sender to the scenario's service.
    pub fn request_of(&self, population: &Population) -> Request {
        let Service { host, port } = self.service(population);
        Request::get(&host, port, "/")
    }
}
