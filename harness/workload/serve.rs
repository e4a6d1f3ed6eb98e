//! The demo server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpListener;

use super::faults::{Faults, delayed};
use super::idle::terminated;

/// The address of a server cannot be bound.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ServeError {
    pub(super) address: SocketAddr,
    pub(super) source: std::io::Error,
}

/// The responses of the demo server, and its counter of served requests.
#[derive(Debug)]
pub struct DemoServer {
    /// The beginning of every body.
    greeting: Bytes,
    headers: HeaderMap,
    /// Whether `/error` returns an error.
    faulty: bool,
    faults: Faults,
    served: AtomicU64,
}

/// Runs the demo server until SIGTERM or SIGINT. `/` returns 200 `Hello server - v1`; `/error` returns 503 `Hello server - v1 (uri=/error)` if
/// the server is `faulty`.
///
/// Below `/work`, answers are slow or fail with 500 as the faults of the server say.
///
/// `/served` returns the number of served requests and `/ready` is for readiness probes; neither is counted.
///
/// # Errors
/// The address cannot be bound.
pub fn serve(address: SocketAddr, server: DemoServer) -> ServerFuture {
    Box::pin(serving(address, server))
}

/// The running demo server. Boxed so that all of it is compiled in this package, which is optimised in every profile.
pub type ServerFuture = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

async fn serving(address: SocketAddr, server: DemoServer) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError { address, source })?;
    tokio::select! {
        () = serve_each(listener, move |path| server.answer(path)) => {}
        () = terminated() => {}
    }
    Ok(())
}

/// Answers each request by its path, without end.
pub(super) async fn serve_each(
    listener: TcpListener,
    answer: impl Fn(&str) -> Response<Full<Bytes>> + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = answer(request.uri().path());
                async { Ok::<_, Infallible>(delayed(response).await) }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a connection was closed");
            }
        });
    }
}

impl DemoServer {
    /// A server that states this version and pod.
    pub fn new(version: &str, pod: &str, faulty: bool) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-version", version), ("x-pod", pod)] {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
        let greeting = Bytes::from(format!("Hello server - {version}"));
        Self { greeting, headers, faulty, faults: Faults::default(), served: AtomicU64::new(0) }
    }

    /// The server with faults.
    #[must_use]
    pub fn with(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// The number of served requests.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// The response to a request for a path. It is to be sent when [`delayed`] says so.
    pub fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        let path = path.split('?').next().unwrap_or_default();
        let works = path == "/work" || path.starts_with("/work/");
        let mut number = 0;
        let (status, body) = match path {
            "/served" => (StatusCode::OK, Bytes::from(self.served().to_string())),
            "/ready" => (StatusCode::OK, Bytes::new()),
            path => {
                number = self.served.fetch_add(1, Ordering::Relaxed);
                let status = if path == "/error" && self.faulty {
                    StatusCode::SERVICE_UNAVAILABLE
                } else if works && self.faults.fails(number) {
                    StatusCode::INTERNAL_SERVER_ERROR
                } else {
                    StatusCode::OK
                };
                let body = if path == "/" {
                    self.greeting.clone()
                } else {
                    Bytes::from([&self.greeting[..], b" (uri=", path.as_bytes(), b")"].concat())
                };
                (status, body)
            }
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().clone_from(&self.headers);
        if works {
            self.faults.delay(number, &mut response);
        }
        response
    }
}
