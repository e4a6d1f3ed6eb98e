//! Connections of the driver.

mod address;
mod frames;
mod http1;
mod http2;
mod stream;
mod tcp;
mod websocket;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};

use super::protocol::{FailureKind, RequestFailure};
pub(super) use address::ServerAddress;
use http1::Http1;
use http2::Http2;
pub(super) use stream::Tls;
use tcp::Tcp;
use websocket::WebSocket;

/// A request with its complete body.
pub(super) type ClientRequest = Request<Full<Bytes>>;

/// The maximum length of a response body, in bytes.
const MAX_BODY: usize = 4 << 20;

/// A connection of the driver, opened again after it was closed.
#[derive(Debug)]
pub(super) struct Connection {
    transport: Transport,
    timeout: Duration,
}

#[derive(Debug)]
enum Transport {
    Http1(Http1),
    /// Shared by the senders of its streams.
    Http2(Arc<Http2>),
    Tcp(Tcp),
    WebSocket(WebSocket),
}

/// A complete response.
#[derive(Debug, Default)]
pub(super) struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl HttpResponse {
    /// The value of a header, otherwise that of a trailer.
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers.get(name).or_else(|| self.trailers.as_ref()?.get(name))
    }
}

impl Connection {
    /// An HTTP/1.1 connection that is opened by its first request.
    pub const fn http1(server: Arc<ServerAddress>, keep_alive: bool, timeout: Duration) -> Self {
        Self { transport: Transport::Http1(Http1::new(server, keep_alive)), timeout }
    }

    /// An HTTP/2 connection that is opened by its first request. `goaways` counts how often the server ends it with GOAWAY.
    pub fn http2(server: Arc<ServerAddress>, keep_alive: bool, timeout: Duration, goaways: Arc<AtomicU64>) -> Self {
        Self { transport: Transport::Http2(Arc::new(Http2::new(server, keep_alive, goaways))), timeout }
    }

    /// A sender for which each request is a TCP connection of its own.
    pub const fn tcp(server: Arc<ServerAddress>, timeout: Duration) -> Self {
        Self { transport: Transport::Tcp(Tcp::new(server)), timeout }
    }

    /// A sender for which each request is the handshake of a WebSocket connection of its own. `reads_message` has the first message that the
    /// server sends be the body of the response.
    pub const fn websocket(server: Arc<ServerAddress>, reads_message: bool, timeout: Duration) -> Self {
        Self { transport: Transport::WebSocket(WebSocket::new(server, reads_message)), timeout }
    }

    /// Another sender on an HTTP/2 connection; none if the connection is of another protocol.
    pub fn stream(&self) -> Option<Self> {
        match &self.transport {
            Transport::Http1(_) | Transport::Tcp(_) | Transport::WebSocket(_) => None,
            Transport::Http2(shared) => {
                Some(Self { transport: Transport::Http2(Arc::clone(shared)), timeout: self.timeout })
            }
        }
    }

    /// Sends a request and reads the response.
    pub async fn send(&mut self, request: &ClientRequest) -> Result<HttpResponse, RequestFailure> {
        self.exchange(request, false).await
    }

    /// Sends the first request of a new connection and reads the response. On HTTP/2, it is the only one.
    pub async fn send_alone(&mut self, request: &ClientRequest) -> Result<HttpResponse, RequestFailure> {
        if let Transport::Http1(own) = &mut self.transport {
            own.close();
        }
        self.exchange(request, true).await
    }

    async fn exchange(&mut self, request: &ClientRequest, alone: bool) -> Result<HttpResponse, RequestFailure> {
        let answered = match &mut self.transport {
            Transport::Http1(own) => tokio::time::timeout(self.timeout, own.exchange(request)).await,
            Transport::Http2(shared) => tokio::time::timeout(self.timeout, shared.exchange(request, alone)).await,
            Transport::Tcp(own) => tokio::time::timeout(self.timeout, own.exchange()).await,
            Transport::WebSocket(own) => tokio::time::timeout(self.timeout, own.exchange(request)).await,
        };
        let answered = answered.unwrap_or_else(|_| {
            let message = format!("none in {} ms", self.timeout.as_millis());
            Err(RequestFailure { kind: FailureKind::Timeout, message })
        });
        if answered.is_err() {
            match &mut self.transport {
                Transport::Http1(own) => own.close(),
                Transport::Http2(shared) => shared.close(),
                Transport::Tcp(_) | Transport::WebSocket(_) => {}
            }
        }
        answered
    }
}

/// Reads a response to its end.
async fn read(response: Response<Incoming>) -> Result<HttpResponse, RequestFailure> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| broken(error.as_ref()))?;
    let trailers = body.trailers().cloned();
    Ok(HttpResponse { status: parts.status, headers: parts.headers, body: body.to_bytes(), trailers })
}

fn refused(error: &dyn std::fmt::Display) -> RequestFailure {
    RequestFailure { kind: FailureKind::Connect, message: error.to_string() }
}

fn closed() -> RequestFailure {
    RequestFailure { kind: FailureKind::Broken, message: "the connection was closed".to_owned() }
}

fn broken(error: &(dyn std::error::Error + 'static)) -> RequestFailure {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    RequestFailure { kind: FailureKind::Broken, message: root.to_string() }
}
