use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpListener;

use super::idle::terminated;

/// Why the demo server ended.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Its address is not free.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
}

struct Server {
    version: String,
    pod: String,
    /// Whether `/error` answers an error.
    faulty: bool,
    served: AtomicU64,
}

/// The demo server: `/` answers 200 `Hello server - v1`, `/error` a forced 503 `Hello server - v1 (uri=/error)`.
///
/// `/served` tells the number of requests served so far, `/ready` that it serves; neither counts.
///
/// # Errors
/// The address is not free.
pub async fn serve(address: SocketAddr, version: String, pod: String, faulty: bool) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })?;
    let server = Arc::new(Server { version, pod, faulty, served: AtomicU64::new(0) });
    let accept = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let response = server.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(%error, "a connection broke off");
                }
            });
        }
    };
    tokio::select! {
        () = accept => {}
        () = terminated() => {}
    }
    Ok(())
}

impl Server {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, body) = match request.uri().path() {
            "/served" => (StatusCode::OK, self.served.load(Ordering::Relaxed).to_string()),
            "/ready" => (StatusCode::OK, String::new()),
            path => {
                self.served.fetch_add(1, Ordering::Relaxed);
                let status =
                    if path == "/error" && self.faulty { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                let uri = if path == "/" { String::new() } else { format!(" (uri={path})") };
                (status, format!("Hello server - {}{uri}", self.version))
            }
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        for (name, value) in [("x-version", &self.version), ("x-pod", &self.pod)] {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
