use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Portforwarder;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The timeout of opening a connection and of a request.
const LIMIT: Duration = Duration::from_secs(20);
/// The maximum size of a response, in bytes. The configuration of a sidecar in a large mesh has tens of megabytes.
const MAX_BODY: usize = 256 * 1024 * 1024;

/// An HTTP connection to a port of a pod: by port-forwarding, or from within the pod. It also reaches ports on the pod's loopback address.
pub struct Tunnel {
    pod: String,
    port: u16,
    sender: SendRequest<Empty<Bytes>>,
    // closes the stream when dropped; none within the pod
    _forward: Option<Portforwarder>,
}

/// Why a request through a tunnel failed.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the message of each variant says what its fields are")]
#[non_exhaustive]
pub enum TunnelError {
    /// The API server or the pod refused the connection.
    #[error("port {port} of pod {pod} cannot be reached: {reason}")]
    Unreachable { pod: String, port: u16, reason: String },
    /// The connection or the response timed out.
    #[error("port {port} of pod {pod} did not answer within {} s", LIMIT.as_secs())]
    TimedOut { pod: String, port: u16 },
    /// The connection was closed.
    #[error("no response to GET {path}: {source}")]
    Broken { path: String, source: hyper::Error },
    /// The response is too large or ended early.
    #[error("the response to GET {path} cannot be read: {source}")]
    Body { path: String, source: Box<dyn std::error::Error + Send + Sync> },
    /// The response has an error status.
    #[error("GET {path} returned {status}: {body}")]
    Status { path: String, status: StatusCode, body: String },
}

/// Speaks HTTP on a stream until the sender is dropped.
async fn spoken_to(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Empty<Bytes>>, hyper::Error> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a tunnel closed");
        }
    });
    Ok(sender)
}

impl Tunnel {
    /// Opens a connection to a port of a pod.
    ///
    /// # Errors
    /// The pod does not exist or refuses the connection, or opening times out.
    pub async fn open(pods: &Api<Pod>, pod: &str, port: u16) -> Result<Self, TunnelError> {
        timeout(LIMIT, Self::connect(pods, pod, port))
            .await
            .unwrap_or_else(|_| Err(TunnelError::TimedOut { pod: pod.to_owned(), port }))
    }

    async fn connect(pods: &Api<Pod>, pod: &str, port: u16) -> Result<Self, TunnelError> {
        let unreachable = |reason: String| TunnelError::Unreachable { pod: pod.to_owned(), port, reason };
        let mut forward = pods.portforward(pod, &[port]).await.map_err(|error| unreachable(error.to_string()))?;
        let stream = forward.take_stream(port).ok_or_else(|| unreachable("no stream".to_owned()))?;
        let sender = spoken_to(stream).await.map_err(|error| unreachable(error.to_string()))?;
        Ok(Self { pod: pod.to_owned(), port, sender, _forward: Some(forward) })
    }

    /// Opens a connection to a port of the pod in which this process runs.
    ///
    /// # Errors
    /// Nobody listens, or opening times out.
    pub async fn within(pod: &str, port: u16) -> Result<Self, TunnelError> {
        let unreachable = |reason: String| TunnelError::Unreachable { pod: pod.to_owned(), port, reason };
        let connected = async {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            let sender = spoken_to(stream.map_err(|error| unreachable(error.to_string()))?).await;
            sender.map_err(|error| unreachable(error.to_string()))
        };
        let late = || TunnelError::TimedOut { pod: pod.to_owned(), port };
        let sender = timeout(LIMIT, connected).await.unwrap_or_else(|_| Err(late()))?;
        Ok(Self { pod: pod.to_owned(), port, sender, _forward: None })
    }

    /// Sends a GET request for a path and query and returns the response body.
    ///
    /// # Errors
    /// The connection was closed, the request timed out, or the status is not a success.
    pub async fn get(&mut self, path: &str) -> Result<Bytes, TunnelError> {
        let late = TunnelError::TimedOut { pod: self.pod.clone(), port: self.port };
        timeout(LIMIT, self.answer(path)).await.unwrap_or(Err(late))
    }

    async fn answer(&mut self, path: &str) -> Result<Bytes, TunnelError> {
        let broken = |source| TunnelError::Broken { path: path.to_owned(), source };
        self.sender.ready().await.map_err(broken)?;
        let request = Request::get(path)
            .header("host", "localhost")
            .body(Empty::new())
            .unwrap_or_else(|_| unreachable!("paths are literals of this crate"));
        let response = self.sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|source| TunnelError::Body { path: path.to_owned(), source })?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            let body = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            Err(TunnelError::Status { path: path.to_owned(), status, body })
        }
    }
}
