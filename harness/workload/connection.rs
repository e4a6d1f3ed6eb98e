//! HTTP/1.1 connections of the driver.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::protocol::{FailureKind, RequestFailure};

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

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(addresses) => TcpStream::connect(&addresses[..]).await,
            None => TcpStream::connect(&self.name).await,
        }
    }
}

/// An HTTP/1.1 connection with one request at a time, opened again after it was closed.
#[derive(Debug)]
pub(super) struct Connection {
    server: Arc<ServerAddress>,
    keep_alive: bool,
    timeout: Duration,
    /// Boxed, because it is large and moves with every task that owns the connection.
    open: Option<Box<OpenConnection>>,
}

/// An open connection. The task that waits for a response also reads and writes: a separate task would add two task switches per request.
#[derive(Debug)]
struct OpenConnection {
    sender: SendRequest<Empty<Bytes>>,
    stream: http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>,
}

impl OpenConnection {
    /// Reads and writes until a future is done; none if the connection was closed before.
    async fn until<F: Future>(
        stream: &mut http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>,
        done: F,
    ) -> Option<F::Output> {
        let mut done = std::pin::pin!(done);
        poll_fn(|context| {
            if let Poll::Ready(value) = done.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            let ended = Pin::new(&mut *stream).poll(context).is_ready();
            match done.as_mut().poll(context) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending if ended => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Whether the connection can send a request: the server may have closed it while it was idle.
    async fn is_ready(&mut self) -> bool {
        // read first what has arrived since the last request
        let stream = &mut self.stream;
        let ended = poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll(context).is_ready())).await;
        !ended && matches!(Self::until(&mut self.stream, self.sender.ready()).await, Some(Ok(())))
    }
}

/// A complete response.
#[derive(Debug)]
pub(super) struct HttpResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Connection {
    /// A connection that is opened by its first request.
    pub const fn new(server: Arc<ServerAddress>, keep_alive: bool, timeout: Duration) -> Self {
        Self { server, keep_alive, timeout, open: None }
    }

    /// Sends a request and reads the response.
    pub async fn send(&mut self, request: Request<Empty<Bytes>>) -> Result<HttpResponse, RequestFailure> {
        let answered = tokio::time::timeout(self.timeout, self.exchange(request)).await;
        let answered = answered.unwrap_or_else(|_| {
            let message = format!("none in {} ms", self.timeout.as_millis());
            Err(RequestFailure { kind: FailureKind::Timeout, message })
        });
        if answered.is_err() || !self.keep_alive {
            self.open = None;
        }
        answered
    }

    async fn exchange(&mut self, request: Request<Empty<Bytes>>) -> Result<HttpResponse, RequestFailure> {
        if let Some(open) = &mut self.open
            && !open.is_ready().await
        {
            // closed by the server while idle: not a failure of this request
            self.open = None;
        }
        let OpenConnection { sender, stream } = match &mut self.open {
            Some(open) => open.as_mut(),
            None => self.open.insert(connect(&self.server).await?),
        };
        let ended = || RequestFailure { kind: FailureKind::Broken, message: "the connection was closed".to_owned() };
        let response = OpenConnection::until(stream, sender.send_request(request)).await.ok_or_else(ended)?;
        let (parts, body) = response.map_err(|error| broken(&error))?.into_parts();
        let body = OpenConnection::until(stream, Limited::new(body, MAX_BODY).collect()).await.ok_or_else(ended)?;
        let body = body.map_err(|error| broken(error.as_ref()))?;
        Ok(HttpResponse { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }
}

async fn connect(server: &ServerAddress) -> Result<Box<OpenConnection>, RequestFailure> {
    let refused =
        |error: &dyn std::fmt::Display| RequestFailure { kind: FailureKind::Connect, message: error.to_string() };
    let stream = server.connect().await.map_err(|error| refused(&error))?;
    stream.set_nodelay(true).map_err(|error| refused(&error))?;
    let (sender, stream) =
        http1::Builder::new().writev(false).handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))?;
    Ok(Box::new(OpenConnection { sender, stream }))
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
