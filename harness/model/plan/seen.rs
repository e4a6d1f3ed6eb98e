//! What clients see of the outcomes of their requests.

use crate::demo::{ARROW, DemoImage};
use crate::routing::{Outcome, Request};
use crate::scenario::{Scheme, StatusCode};

/// The response of one outcome, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The version that served the request; none if the mesh answered, or if there is no response.
    pub version: Option<String>,
    /// The status: of HTTP, or of gRPC for a service of gRPC; none if only the application knows it, or if there is no response.
    pub status: Option<u16>,
    /// What the mesh did, if it answered, took the version out of the response or did not connect.
    pub mesh: Option<String>,
}

impl Seen {
    /// What a client sees of an outcome of its request, which a server gets with this path.
    pub(super) fn by_request(outcome: &Outcome, request: &Request, path: &str) -> Self {
        match (request.is_grpc(), request.asks_for_websocket()) {
            (true, _) => Self::by_grpc(outcome, path),
            (false, true) => Self::by_websocket(outcome, path),
            (false, false) => Self::by_http(outcome, path),
        }
    }

    /// What a client of HTTP sees of an outcome of its request for a path.
    fn by_http(outcome: &Outcome, path: &str) -> Self {
        let of_image = |image: &str| DemoImage::find(image).and_then(|image| image.status(path));
        match outcome {
            Outcome::Served { greets: Some(true), .. } => Self::nothing(SPEAKS_NO_HTTP),
            Outcome::Served { version, image, .. } => {
                Self { version: Some(version.clone()), status: of_image(image), mesh: None }
            }
            Outcome::WithoutVersion { image, .. } => {
                Self { version: None, status: of_image(image), mesh: Some(outcome.to_string()) }
            }
            other => Self { version: None, status: other.mesh_status(), mesh: Some(other.to_string()) },
        }
    }

    /// What a WebSocket client sees of an outcome of its handshake for a path.
    fn by_websocket(outcome: &Outcome, path: &str) -> Self {
        let seen = Self::by_http(outcome, path);
        let is_accepted = outcome.is_of_server() && seen.status == Some(Scheme::Http.success());
        Self { status: if is_accepted { Some(Scheme::Ws.success()) } else { seen.status }, ..seen }
    }

    /// What a client of TCP, which waits for the server to speak, sees of an outcome of its connection.
    pub(super) fn by_connection(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Served { greets: Some(false), .. } => Self::nothing(SAYS_NOTHING),
            Outcome::Served { version, .. } => {
                Self { version: Some(version.clone()), status: Some(Scheme::Tcp.success()), mesh: None }
            }
            other => Self::nothing(&other.to_string()),
        }
    }

    /// No response, and why.
    pub(super) fn nothing(why: &str) -> Self {
        Self { version: None, status: None, mesh: Some(why.to_owned()) }
    }

    /// What a client sees of a server that has sent the request on, given what the server sees: the status of that response, or 502 if it is an
    /// error of the server or there is none.
    pub(super) fn after(&self, behind: &Self) -> Self {
        let version = match (&self.version, &behind.version) {
            (Some(own), Some(behind)) => Some(format!("{own}{ARROW}{behind}")),
            (own, _) => own.clone(),
        };
        let status = match (behind.status, &behind.version) {
            (Some(status), _) if status < 500 => Some(status),
            (None, Some(_)) => None,
            _ => Some(BAD_GATEWAY),
        };
        Self { version, status, mesh: behind.mesh.clone() }
    }

    /// What a client of gRPC sees of an outcome of its call.
    fn by_grpc(outcome: &Outcome, method: &str) -> Self {
        let of_image = |image: &str| DemoImage::find(image).map(|_| DemoImage::grpc_status(method));
        match outcome {
            Outcome::Served { image, http2: false, .. } | Outcome::WithoutVersion { image, http2: false } => {
                // a demo server refuses the call with 505, others end the connection
                let status = StatusCode(if DemoImage::find(image).is_some() { 505 } else { 502 }).as_grpc();
                let mesh = format!("{status}, the pod gets HTTP/1.1, as the port declares, and gRPC needs HTTP/2");
                Self { version: None, status: Some(status.0), mesh: Some(mesh) }
            }
            Outcome::Served { version, image, .. } => {
                Self { version: Some(version.clone()), status: of_image(image), mesh: None }
            }
            Outcome::WithoutVersion { image, .. } => {
                Self { version: None, status: of_image(image), mesh: Some(outcome.to_string()) }
            }
            other => Self { version: None, status: other.grpc_status(), mesh: Some(other.to_string()) },
        }
    }
}

/// The status of a server if the service behind it fails.
pub(super) const BAD_GATEWAY: u16 = 502;

/// Why a request of HTTP gets no response.
const SPEAKS_NO_HTTP: &str = "no response of HTTP: the server greets clients of TCP";
/// Why a connection of TCP gets no line from a server.
const SAYS_NOTHING: &str = "no line: the server waits for a request of HTTP";
/// Why a connection of TCP gets no line from a proxy.
pub(super) const WAITS_FOR_REQUEST: &str = "no line: by the name of the port, the proxy waits for a request of HTTP";
