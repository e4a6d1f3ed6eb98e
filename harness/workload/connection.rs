use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::drive::{Failure, FailureKind};

/// The longest body that is read; what a version is told by comes long before.
const LONGEST_BODY: usize = 4 << 20;

/// An HTTP/1.1 connection to one address that carries one request at a time and is opened again when it was closed.
#[derive(Debug)]
pub(super) struct Connection {
    address: String,
    keep_alive: bool,
    timeout: Duration,
    open: Option<SendRequest<Empty<Bytes>>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Received {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Connection {
    /// A connection to `HOST:PORT`, opened with its first request.
    pub const fn new(address: String, keep_alive: bool, timeout: Duration) -> Self {
        Self { address, keep_alive, timeout, open: None }
    }

    /// Sends a request and reads the answer.
    pub async fn send(&mut self, request: Request<Empty<Bytes>>) -> Result<Received, Failure> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(request)).await;
        let answered = answered.unwrap_or_else(|_| {
            Err(Failure { kind: FailureKind::Timeout, message: format!("none in {} ms", self.timeout.as_millis()) })
        });
        if answered.is_err() || !self.keep_alive {
            self.open = None;
        }
        answered
    }

    async fn exchange(&mut self, request: Request<Empty<Bytes>>) -> Result<Received, Failure> {
        let kept = self.open.as_ref().is_some_and(|open| !open.is_closed());
        let mut sender = if kept { self.open.take() } else { None };
        if let Some(open) = &mut sender
            && open.ready().await.is_err()
        {
            // closed by the other side while nothing was under way: that is no answer to this request
            sender = None;
        }
        let mut sender = match sender {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, LONGEST_BODY).collect().await.map_err(|error| broken(error.as_ref()))?;
        self.open = Some(sender);
        Ok(Received { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, Failure> {
        let refused =
            |error: &dyn std::fmt::Display| Failure { kind: FailureKind::Connect, message: error.to_string() };
        let stream = TcpStream::connect(&self.address).await.map_err(|error| refused(&error))?;
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke off");
            }
        });
        Ok(sender)
    }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    Failure { kind: FailureKind::Broken, message: root.to_string() }
}
