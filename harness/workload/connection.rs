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

use super::drive::{Failure, FailureKind};

/// The longest body that is read; what a version is told by comes long before.
const LONGEST_BODY: usize = 4 << 20;

/// Where connections lead: `HOST:PORT`, and the addresses that the name resolved to last.
///
/// A lost packet of a name server's costs a resolver five seconds. Connections that are opened while requests are due every few milliseconds
/// take the addresses that are known, and [`Target::refresh`] looks for others meanwhile.
#[derive(Debug)]
pub(super) struct Target {
    name: String,
    known: Mutex<Option<Vec<SocketAddr>>>,
}

impl Target {
    /// How long addresses are taken for the current ones.
    const FRESH: Duration = Duration::from_millis(500);
    /// The longest that a name may take to be resolved.
    const LIMIT: Duration = Duration::from_secs(30);

    /// A target whose name is resolved for each connection.
    pub const fn new(name: String) -> Self {
        Self { name, known: Mutex::new(None) }
    }

    /// Resolves the name again and again, until it is dropped. Without this, the name is resolved for each connection.
    pub async fn refresh(&self) {
        loop {
            match tokio::time::timeout(Self::LIMIT, tokio::net::lookup_host(&self.name)).await {
                Ok(Ok(addresses)) => self.set(Some(addresses.collect())),
                // the name is not known any more: connections find out by themselves
                Ok(Err(_)) => self.set(None),
                Err(_) => {}
            }
            tokio::time::sleep(Self::FRESH).await;
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

/// An HTTP/1.1 connection to one address that carries one request at a time and is opened again when it was closed.
#[derive(Debug)]
pub(super) struct Connection {
    target: Arc<Target>,
    keep_alive: bool,
    timeout: Duration,
    /// On the heap, for it is large and moves with every task that holds it.
    open: Option<Box<Open>>,
}

/// An open connection. Whoever waits for an answer also does its reading and writing: with a task of its own, every request would be handed
/// over twice.
#[derive(Debug)]
struct Open {
    sender: SendRequest<Empty<Bytes>>,
    line: http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>,
}

impl Open {
    /// Reads and writes until something is done; none where the connection ended before.
    async fn until<F: Future>(
        line: &mut http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>,
        done: F,
    ) -> Option<F::Output> {
        let mut done = std::pin::pin!(done);
        poll_fn(|context| {
            if let Poll::Ready(value) = done.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            let ended = Pin::new(&mut *line).poll(context).is_ready();
            match done.as_mut().poll(context) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending if ended => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Whether the connection takes a request: it may have been closed while nothing was under way.
    async fn is_ready(&mut self) -> bool {
        // what has come meanwhile is looked at first
        let line = &mut self.line;
        let ended = poll_fn(|context| Poll::Ready(Pin::new(&mut *line).poll(context).is_ready())).await;
        !ended && matches!(Self::until(&mut self.line, self.sender.ready()).await, Some(Ok(())))
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Received {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Connection {
    /// A connection to a target, opened with its first request.
    pub const fn new(target: Arc<Target>, keep_alive: bool, timeout: Duration) -> Self {
        Self { target, keep_alive, timeout, open: None }
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
        if let Some(open) = &mut self.open
            && !open.is_ready().await
        {
            // closed by the other side while nothing was under way: that is no answer to this request
            self.open = None;
        }
        let Open { sender, line } = match &mut self.open {
            Some(open) => open.as_mut(),
            None => self.open.insert(connect(&self.target).await?),
        };
        let ended = || Failure { kind: FailureKind::Broken, message: "the connection was closed".to_owned() };
        let response = Open::until(line, sender.send_request(request)).await.ok_or_else(ended)?;
        let (parts, body) = response.map_err(|error| broken(&error))?.into_parts();
        let body = Open::until(line, Limited::new(body, LONGEST_BODY).collect()).await.ok_or_else(ended)?;
        let body = body.map_err(|error| broken(error.as_ref()))?;
        Ok(Received { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    }
}

async fn connect(target: &Target) -> Result<Box<Open>, Failure> {
    let refused = |error: &dyn std::fmt::Display| Failure { kind: FailureKind::Connect, message: error.to_string() };
    let stream = target.connect().await.map_err(|error| refused(&error))?;
    stream.set_nodelay(true).map_err(|error| refused(&error))?;
    let (sender, line) =
        http1::Builder::new().writev(false).handshake(TokioIo::new(stream)).await.map_err(|error| refused(&error))?;
    Ok(Box::new(Open { sender, line }))
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    Failure { kind: FailureKind::Broken, message: root.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_takes_the_addresses_that_are_known() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        // a name that no resolver knows
        let target = Target::new("no-such-host.invalid:80".to_owned());
        assert!(target.connect().await.is_err());
        target.set(Some(vec![address]));
        assert_eq!(target.connect().await.unwrap().peer_addr().unwrap(), address);
        // nothing is known any more
        target.set(Some(Vec::new()));
        assert!(target.connect().await.is_err());
    }

    #[tokio::test]
    async fn addresses_are_looked_for_while_they_are_wanted() {
        let target = Target::new("127.0.0.1:8080".to_owned());
        let refreshed = tokio::time::timeout(Duration::from_millis(200), target.refresh()).await;
        assert!(refreshed.is_err());
        let known = target.known.lock().unwrap().clone();
        assert_eq!(known, Some(vec![([127, 0, 0, 1], 8080).into()]));
    }
}
