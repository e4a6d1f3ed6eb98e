//! The proxies on loopback: the client's sidecar, those of other pods, and gateways.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::serving::{Asked, Callers, Line, Serving};
use super::tls::Termination;
use crate::workload::delayed;

/// A proxy that listens.
#[derive(Debug)]
pub(super) struct Proxy {
    address: SocketAddr,
    serving: Arc<RwLock<Option<Arc<Current>>>>,
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

async fn accept(listener: TcpListener, serving: Arc<RwLock<Option<Arc<Current>>>>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let serving = Arc::clone(&serving);
        tokio::spawn(async move {
            let now = serving.read().unwrap_or_else(PoisonError::into_inner).clone();
            match now.as_ref().map_or(&Termination::Plain, |now| now.0.termination()) {
                Termination::Plain => serve(stream, &serving).await,
                Termination::Tls(None) => {}
                Termination::Tls(Some(acceptor)) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &serving).await;
                    }
                }
            }
        });
    }
}

/// Answers the requests of a connection.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, serving: &RwLock<Option<Arc<Current>>>) {
    let line = Mutex::new(Line::default());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let now = serving.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
        // without an answer the connection is closed
        let response = now.and_then(|now| {
            let (serving, callers) = &*now;
            serving.answer(&Asked::of(&request, callers), &mut line)
        });
        let response = response.ok_or("no connection");
        async {
            match response {
                Ok(response) => Ok(delayed(response).await),
                error => error,
            }
        }
    });
    let mut server = Builder::new(TokioExecutor::new());
    // answers are short: one buffer is faster than vectored writes
    server.http1().writev(false).auto_date_header(false);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}
