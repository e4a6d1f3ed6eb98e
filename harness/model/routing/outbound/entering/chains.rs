//! What a port of a gateway does with handshakes, by the names in them.

use std::collections::BTreeSet;

use crate::routing::connection::ConnectionRule;
use crate::routing::gateway::{Gateway, Server, ServerTls, takes};
use crate::routing::outbound::Outbound;

/// The names in handshakes that something takes.
pub(super) struct Chain<'m> {
    /// In lower case, perhaps with a `*` at the beginning.
    names: Vec<String>,
    pub taker: Taker<'m>,
}

/// What takes connections with some names in their handshakes.
#[derive(Clone, Copy)]
pub(super) enum Taker<'m> {
    /// A server terminates TLS.
    Server(&'m Gateway, &'m Server),
    /// Connections go by a `tls` route to servers that terminate TLS.
    Rule(&'m ConnectionRule),
}

impl Chain<'_> {
    /// How specifically one of the names is that of a handshake; none if none is.
    pub fn fits(&self, server_name: &str) -> Option<usize> {
        let own = self.names.iter().filter(|name| takes(name, server_name));
        own.map(|name| if name.contains('*') { name.len() } else { usize::MAX }).max()
    }

    /// Whether the chain takes every connection, so that Envoy does not ask for a handshake.
    pub fn takes_all(&self) -> bool {
        self.names.iter().any(|name| name == "*")
    }
}

impl<'m> Outbound<'m> {
    /// What takes connections at a port of the gateway by the names in their handshakes. A match of a `tls` route has no effect if another one
    /// before it has one of its names.
    pub(super) fn chains(&self, port: u16) -> Vec<Chain<'m>> {
        let mut servers = self.servers(port);
        // istiod goes through the servers of one protocol after the other, as they are written
        let mut protocols: Vec<&str> = Vec::new();
        for (_, server) in &servers {
            if !protocols.contains(&&*server.protocol) {
                protocols.push(&server.protocol);
            }
        }
        servers.sort_by_key(|(_, server)| protocols.iter().position(|own| *own == server.protocol));
        let mut known: BTreeSet<&String> = BTreeSet::new();
        let mut chains = Vec::new();
        for (gateway, server) in servers {
            match server.tls {
                ServerTls::Plain => {}
                ServerTls::Terminated(..) => {
                    chains.push(Chain { names: server.names().collect(), taker: Taker::Server(gateway, server) });
                }
                ServerTls::PassedThrough => {
                    let bound = self.visible.iter().filter(|rules| gateway.binds(server, rules));
                    for rule in bound.flat_map(|rules| &rules.connections) {
                        for names in rule.names_at(&gateway.id, port) {
                            if names.iter().any(|name| known.contains(name)) {
                                continue;
                            }
                            known.extend(names);
                            let names = names.iter().map(|name| name.to_lowercase()).collect();
                            chains.push(Chain { names, taker: Taker::Rule(rule) });
                        }
                    }
                }
            }
        }
        chains
    }
}
