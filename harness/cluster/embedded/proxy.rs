//! The proxies on loopback: the client's sidecar, those of other pods, and gateways.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use hyper::Response;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::reply::is_of_proxy;
use super::serving::{Asked, Callers, Greeted, Line, Serving};
use super::tls::Termination;
use crate::workload::{AnswerBody, Handshake, delayed, is_grpc, message_of};

/// A proxy that listens.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    serving: Shared,
    _end: tokio::sync::oneshot::Sender<()>,
}

/// The current routes of a proxy, and the servers that send requests on.
type Current = (Serving, Arc<Callers>);

impl Proxy {
    /// Listens on a port of loopback. A thread serves it until it is dropped.
    pub fn start() -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let serving = Arc::new(RwLock::new(None));
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&serving);
        std::thread::Builder::new().name("embedded mesh".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { address, serving, _end: end })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn serve(&self, serving: Option<Serving>, callers: &Arc<Callers>) {
        let current = serving.map(|serving| Arc::new((serving, Arc::clone(callers))));
        *self.serving.write().unwrap_or_else(PoisonError::into_inner) = current;
    }
}

async fn accept(listener: TcpListener, serving: Shared) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let serving = Arc::clone(&serving);
        tokio::spawn(async move {
            let now = serving.read().unwrap_or_else(PoisonError::into_inner).clone();
            let mut line = Line::default();
            let certificate = match now.as_ref().map(|now| (now, now.0.termination())) {
                None | Some((_, Termination::Plain)) => return serve(stream, line, &serving).await,
                Some((_, Termination::Tls(certificate))) => certificate.clone(),
                Some((now, Termination::OfServers)) => now.0.pass_through(&mut line),
                Some((now, Termination::OfConnections)) => return greet(stream, now.0.greeted()).await,
            };
            // without a certificate, the connection is closed
            let Some(certificate) = certificate else { return };
            if let Ok(stream) = certificate.accept(stream).await {
                serve(stream, line, &serving).await;
            }
        });
    }
}

/// Tells a client of TCP what the server says, and waits until the client closes the connection.
async fn greet(mut stream: TcpStream, greeted: Greeted) {
    let line = match greeted {
        Greeted::Line(line) => line,
        Greeted::Silence => Bytes::new(),
        Greeted::Closed => return,
    };
    if stream.write_all(&line).await.is_err() {
        return;
    }
    let mut unread = [0; 64];
    while matches!(stream.read(&mut unread).await, Ok(1..)) {}
}

/// The current routes of a proxy that can change.
type Shared = Arc<RwLock<Option<Arc<Current>>>>;

/// The response to a request; without one the connection is closed.
fn answer(serving: &Shared, line: &Mutex<Line>, request: &Parts, message: &[u8]) -> Option<Response<AnswerBody>> {
    let now = serving.read().unwrap_or_else(PoisonError::into_inner).clone()?;
    let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
    let (serving, callers) = &*now;
    serving.answer(&Asked::of(request, message, callers, &line), &mut line)
}

/// Answers the requests of a connection.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, line: Line, serving: &Shared) {
    let line = Arc::new(Mutex::new(line));
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        let handshake = Handshake::of(&mut request);
        let (request, body) = request.into_parts();
        // of gRPC, a server gets the message, too
        let (answered, call) = if is_grpc(&request.headers) {
            (None, Some((Arc::clone(serving), Arc::clone(&line), request, body)))
        } else {
            (answer(serving, &line, &request, &[]), None)
        };
        async {
            let response = match call {
                Some((serving, line, request, body)) => answer(&serving, &line, &request, &message_of(body).await),
                None => answered,
            };
            match (response, handshake) {
                (Some(response), Some(handshake)) if !is_of_proxy(&response) => {
                    Ok(delayed(handshake.accept(response)).await)
                }
                (Some(response), _) => Ok(delayed(response).await),
                (None, _) => Err("no connection"),
            }
        }
    });
    let mut server = Builder::new(TokioExecutor::new());
    // answers are short: one buffer is faster than vectored writes
    server.http1().writev(false).auto_date_header(false);
    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}
