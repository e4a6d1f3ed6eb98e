//! Who calls the service, and through what.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::origin::Origin;
use super::sessions::Sessions;

/// A group of callers whose requests are alike in everything that routes match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Population {
    /// The name.
    pub name: String,
    /// The gateway through which the requests come from outside of the mesh; none if the client pod sends them to the service.
    pub through: Option<IngressGateway>,
    /// The name of the pod that sends the requests, if it is neither the client pod nor outside of the mesh.
    pub from_pod: Option<String>,
    /// The variants of the requests, which take turns. With sessions, one for each session.
    pub variants: Vec<Request>,
    /// The sessions, if the callers have any.
    pub sessions: Option<Sessions>,
}

impl Population {
    /// The sender of the requests.
    pub fn sender(&self) -> Sender<'_> {
        match (&self.through, &self.from_pod) {
            (Some(gateway), _) => Sender::Outside(gateway),
            (None, Some(pod)) => Sender::Pod(pod),
            (None, None) => Sender::Client,
        }
    }
}

/// The sender of the requests of a population.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sender<'a> {
    /// The client pod.
    Client,
    /// Another pod, by its name.
    Pod(&'a str),
    /// The pod outside of the mesh, through a gateway.
    Outside(&'a IngressGateway),
}

impl fmt::Display for Sender<'_> {
    /// `from pod shop`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => formatter.write_str("from the client pod"),
            Self::Pod(name) => write!(formatter, "from pod {name}"),
            Self::Outside(gateway) => write!(formatter, "through {gateway}"),
        }
    }
}

/// A port of the pods that an Istio `Gateway` configures, and how its callers connect to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IngressGateway {
    /// The name of the `Gateway`.
    pub name: String,
    /// The API of the `Gateway`.
    pub api: GatewayApi,
    /// The port of the pods' Service.
    pub port: u16,
    /// The labels of the pods: those that the first manifest of the `Gateway` selects, or that of the pods that istiod makes.
    pub selector: BTreeMap<String, String>,
    /// How callers speak TLS; none for HTTP.
    pub tls: Option<Arc<CallerTls>>,
    /// The position of the first population that names it.
    pub origin: Origin,
}

/// The API of a `Gateway`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GatewayApi {
    /// Istio's own: it configures pods that are there.
    Istio,
    /// The Gateway API of Kubernetes: istiod makes the pods.
    Kubernetes,
}

impl GatewayApi {
    /// The label of the pods that istiod makes for a `Gateway` of Kubernetes, with its name as the value.
    pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
}

impl fmt::Display for IngressGateway {
    /// `gateway/hello`, with the port unless it is 80.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "gateway/{}", self.name)?;
        if self.port == 80 { Ok(()) } else { write!(formatter, " at port {}", self.port) }
    }
}

/// How callers outside of the mesh speak TLS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallerTls {
    /// The name in the handshake, in lower case.
    pub server_name: String,
    /// The file with the certificates of the authorities that the callers trust.
    pub ca_file: PathBuf,
    /// These certificates, in PEM.
    pub ca: String,
}

/// The properties of a population's requests, except the path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The method; none is `GET`.
    pub method: Option<String>,
    /// Request headers; `host` is the authority.
    pub headers: BTreeMap<String, String>,
}
