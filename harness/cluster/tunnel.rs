use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::Portforwarder;
use thiserror::Error;
use tokio::time::timeout;

/// The longest that a connection or an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// An HTTP connection to a port of a pod, through the API server: it reaches what the pod binds to its loopback address.
pub struct Tunnel {
    pod: String,
    port: u16,
    sender: SendRequest<Empty<Bytes>>,
    // dropping it closes the stream
    _forward: Portforwarder,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Tunnel")
    }
}

/// Why nothing came through a tunnel.
#[derive(Debug, Error)]
pub enum TunnelError {
    /// The API server or the pod refused.
    #[error("port {port} of pod {pod} cannot be reached: {reason}")]
    Unreachable {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
        /// Why.
        reason: String,
    },
    /// Nothing came in time.
    #[error("nothing came from port {port} of pod {pod} within {} s", LIMIT.as_secs())]
    TimedOut {
        /// The pod.
        pod: String,
        /// The port.
        port: u16,
    },
    /// The connection broke off.
    #[error("no answer to GET {path}: {source}")]
    Broken {
        /// What was asked for.
        path: String,
        /// Why.
        source: hyper::Error,
    },
    /// The answer is an error.
    #[error("GET {path} was answered {status}: {body}")]
    Status {
        /// What was asked for.
        path: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        body: String,
    },
}

impl Tunnel {
    /// Opens a connection to a port of a pod.
    ///
    /// # Errors
    /// There is no such pod, it does not take the connection, or that takes too long.
    pub async fn open(pods: &Api<Pod>, pod: &str, port: u16) -> Result<Self, TunnelError> {
        timeout(LIMIT, Self::connect(pods, pod, port))
            .await
            .unwrap_or_else(|_| Err(TunnelError::TimedOut { pod: pod.to_owned(), port }))
    }

    async fn connect(pods: &Api<Pod>, pod: &str, port: u16) -> Result<Self, TunnelError> {
        let unreachable = |reason: String| TunnelError::Unreachable { pod: pod.to_owned(), port, reason };
        let mut forward = pods.portforward(pod, &[port]).await.map_err(|error| unreachable(error.to_string()))?;
        let stream = forward.take_stream(port).ok_or_else(|| unreachable("no stream".to_owned()))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(error.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a tunnel closed");
            }
        });
        Ok(Self { pod: pod.to_owned(), port, sender, _forward: forward })
    }

    /// The body that a GET of this path and query is answered with.
    ///
    /// # Errors
    /// The connection broke off, the answer takes too long, or the status is not a success.
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
            .unwrap_or_else(|_| unreachable!("paths are written in this crate"));
        let response = self.sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            let body = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            Err(TunnelError::Status { path: path.to_owned(), status, body })
        }
    }
}
