use std::collections::BTreeMap;

use crate::routing::{Client, Mesh, Outbound};
use crate::scenario::{OtherClient, Population, Sender};

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
