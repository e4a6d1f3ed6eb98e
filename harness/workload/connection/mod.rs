//! Connections of the driver.

mod http1;
mod http2;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpStream;

use super::protocol::{FailureKind, RequestFailure};
use http1::Http1;
use http2::Http2;

/// A request with its complete body.
pub(super) type ClientRequest = Request<Full<Bytes>>;

/// The maximum length of a response body, in bytes.
const MAX_BODY: usize = 4 << 20;

/// The address of a server, `HOST:PORT`, with the IP addresses of the last DNS look-up.
///
/// A lost DNS packet delays a look-up by five seconds. In an open loop that is longer than many requests: new connections use the known IP
/// addresses, and [`ServerAddress::refresh`] updates them in the background.
#[derive(Debug)]
pub(super) struct ServerAddress {
    name: String,
    known: Mutex<Option<Vec<SocketAddr>>>,
}

impl ServerAddress {
    /// The time between two look-ups.
    const REFRESH: Duration = Duration::from_millis(500);
    /// The timeout of a look-up.
    const TIMEOUT: Duration = Duration::from_secs(30);

    /// An address that is looked up for each connection.
    pub const fn new(name: String) -> Self {
        Self { name, known: Mutex::new(None) }
    }

    /// Looks up the name periodically, until the future is dropped. New connections use the result.
    pub async fn refresh(&self) {
        loop {
            match tokio::time::timeout(Self::TIMEOUT, tokio::net::lookup_host(&self.name)).await {
                Ok(Ok(addresses)) => self.set(Some(addresses.collect())),
                // the name does not exist: the next connection looks it up and reports the error
                Ok(Err(_)) => self.set(None),
                Err(_) => {}
            }
            tokio::time::sleep(Self::REFRESH).await;
        }
    }

    fn set(&self, known: Option<Vec<SocketAddr>>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known.filter(|known| !known.is_empty());
    }

    async fn connect(&self) -> Result<TcpStream, RequestFailure> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stream = match known {
            Some(addresses) => TcpStream::connect(&addresses[..]).await,
            None => TcpStream::connect(&self.name).await,
        };
        let stream = stream.map_err(|error| refused(&error))?;
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        Ok(stream)
    }
}

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

    /// An HTTP/2 connection that is opened by its first request.
    pub fn http2(server: Arc<ServerAddress>, keep_alive: bool, timeout: Duration) -> Self {
        Self { transport: Transport::Http2(Arc::new(Http2::new(server, keep_alive))), timeout }
    }

    /// Another sender on an HTTP/2 connection; none if the connection is one of HTTP/1.1.
    pub fn stream(&self) -> Option<Self> {
        match &self.transport {
            Transport::Http1(_) => None,
            Transport::Http2(shared) => {
                Some(Self { transport: Transport::Http2(Arc::clone(shared)), timeout: self.timeout })
            }
        }
    }

    /// Sends a request and reads the response.
    pub async fn send(&mut self, request: &ClientRequest) -> Result<HttpResponse, RequestFailure> {
        let answered = match &mut self.transport {
            Transport::Http1(own) => tokio::time::timeout(self.timeout, own.exchange(request)).await,
            Transport::Http2(shared) => tokio::time::timeout(self.timeout, shared.exchange(request)).await,
        };
        let answered = answered.unwrap_or_else(|_| {
            let message = format!("none in {} ms", self.timeout.as_millis());
            Err(RequestFailure { kind: FailureKind::Timeout, message })
        });
        if answered.is_err() {
            match &mut self.transport {
                Transport::Http1(own) => own.close(),
                Transport::Http2(shared) => shared.close(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_uses_the_known_addresses() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        // a name that does not exist
        let server = ServerAddress::new("no-such-host.invalid:80".to_owned());
        assert!(server.connect().await.is_err());
        server.set(Some(vec![address]));
        assert_eq!(server.connect().await.unwrap().peer_addr().unwrap(), address);
        // no known addresses
        server.set(Some(Vec::new()));
        assert!(server.connect().await.is_err());
    }

    #[tokio::test]
    async fn refresh_keeps_the_addresses_known() {
        let server = ServerAddress::new("127.0.0.1:8080".to_owned());
        let refreshed = tokio::time::timeout(Duration::from_millis(200), server.refresh()).await;
        assert!(refreshed.is_err());
        let known = server.known.lock().unwrap().clone();
        assert_eq!(known, Some(vec![([127, 0, 0, 1], 8080).into()]));
    }
}
