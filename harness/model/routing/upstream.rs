//! How a sidecar talks to the endpoints of a cluster.

use std::fmt;

use super::hash_key::HashTable;

/// The TLS towards the endpoints of a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tls {
    /// Istio's mutual TLS towards endpoints with a sidecar, none towards others.
    #[default]
    Automatic,
    /// None.
    Disabled,
    /// Istio's mutual TLS, which the sidecars of servers speak.
    Istio,
    /// TLS that servers themselves have to speak.
    Server,
}

/// The protocols towards the endpoints of a cluster, and how one of them is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upstream {
    /// The TLS.
    pub tls: Tls,
    /// Whether requests are sent as HTTP/2, whatever the client has sent.
    pub is_http2: bool,
    /// How the endpoint of a hash is found; none if no hash decides.
    pub table: Option<HashTable>,
}

impl fmt::Display for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let http = if self.is_http2 { "HTTP/2" } else { "HTTP/1.1" };
        let tls = match self.tls {
            Tls::Automatic => "automatic mutual TLS",
            Tls::Disabled => "no TLS",
            Tls::Istio => "Istio's mutual TLS",
            Tls::Server => "TLS of the servers",
        };
        write!(formatter, "{http}, {tls}")?;
        self.table.map_or(Ok(()), |table| write!(formatter, ", {table}"))
    }
}
