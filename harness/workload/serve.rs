//! The demo server.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use super::body::{AnswerBody, GRPC_STATUS, unframed};
use super::certificate::{Certificate, begins_with_handshake};
use super::chain::{Behind, NextHop, VERSIONS};
use super::faults::{Faults, delayed};
use super::greet::greet_each;
use super::idle::terminated;
use super::reflection::{DEMO, described, is_reflection};
use super::websocket::Handshake;
use super::wire::{WireFields, WireValue, bytes_field, varint_field};

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
    speaks: Spoken,
    /// With which it answers clients that begin with a handshake of TLS.
    certificate: Option<Certificate>,
    /// The descriptor set that reflection describes; none if there is no reflection.
    descriptors: Option<&'static [u8]>,
    /// Whether requests that it sends on have the headers of those that it gets.
    propagates: bool,
    served: AtomicU64,
}

/// What a demo server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// HTTP/1.1 alone.
    Http1,
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    Http2,
    /// A line to each client of TCP.
    Greeting,
}

/// The method of gRPC that tells whether a server is healthy.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// The method of gRPC that greets.
const GREETING: &str = "/helloworld.Greeter/SayHello";
/// The maximum length of a request message, in bytes.
const MAX_MESSAGE: usize = 64 << 10;
/// The status of gRPC of methods that do not exist: UNIMPLEMENTED.
const UNIMPLEMENTED: HeaderValue = HeaderValue::from_static("12");

/// Whether a request is one of gRPC, as Envoy sees it.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc"));
    kind.is_some_and(|rest| rest.is_empty() || rest[0] == b'+')
}

/// The message in the body of a call of gRPC; empty if there is none.
pub async fn message_of(body: Incoming) -> Vec<u8> {
    let body = Limited::new(body, MAX_MESSAGE).collect().await.map(Collected::to_bytes).unwrap_or_default();
    unframed(&body).unwrap_or_default().to_vec()
}

/// Runs the demo server until SIGTERM or SIGINT. `/` returns 200 `Hello server - v1`; `/error` returns 503 `Hello server - v1 (uri=/error)` if
/// the server is `faulty`.
///
/// It speaks HTTP/1.1, and HTTP/2 with prior knowledge unless that is switched off; over TLS, too, if it has a certificate. Requests of gRPC for
/// `grpc.health.v1.Health/Check`, `helloworld.Greeter/SayHello` and reflection get the status OK, others UNIMPLEMENTED; over HTTP/1.1 they get
/// 505. Of a stream of questions, reflection answers the first, once the client has sent all.
///
/// Below `/work`, answers are slow or fail with 500 as the faults of the server say.
///
/// `/via/HOST[:PORT][/REST]` sends a request for `/REST` to a Service before it answers: with the status of that response, or 502 if that is an
/// error of the server or if there is no response. The header [`VERSIONS`] has the versions along the way.
///
/// A WebSocket handshake is accepted for every path with the status 200, and for those below `/via`, where nothing is sent on. The body becomes
/// the first message.
///
/// A server that is [`greeting`](DemoServer::greeting) says `Hello server - v1` and a line feed to every client, closes the connection, and speaks
/// nothing else.
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
    let server = Arc::new(server);
    let protocols = Protocols { http2: server.speaks == Spoken::Http2, tls: server.certificate.clone() };
    if server.greets() {
        tokio::select! {
            () = greet_each(listener, || server.greeted().unwrap_or_default()) => {}
            () = terminated() => {}
        }
        return Ok(());
    }
    tokio::select! {
        () = serve_each(listener, protocols, move |request| Arc::clone(&server).respond(request)) => {}
        () = terminated() => {}
    }
    Ok(())
}

/// What a server speaks besides HTTP/1.1.
#[derive(Debug, Clone, Default)]
pub(super) struct Protocols {
    /// HTTP/2 with prior knowledge.
    pub http2: bool,
    /// TLS, for clients that begin with a handshake.
    pub tls: Option<Certificate>,
}

/// Answers each request, without end.
pub(super) async fn serve_each<F: Future<Output = Response<AnswerBody>> + Send + 'static>(
    listener: TcpListener,
    Protocols { http2, tls }: Protocols,
    answer: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (answer, tls) = (Arc::clone(&answer), tls.clone());
        tokio::spawn(async move {
            let served = match tls {
                Some(certificate) if begins_with_handshake(&stream).await => match certificate.accept(stream).await {
                    Ok(stream) => serve_one(stream, http2, &*answer).await,
                    Err(error) => Err(error.into()),
                },
                _ => serve_one(stream, http2, &*answer).await,
            };
            if let Err(error) = served {
                tracing::debug!(%error, "a connection was closed");
            }
        });
    }
}

/// Answers the requests of a connection, which may become one of WebSocket.
async fn serve_one<F: Future<Output = Response<AnswerBody>> + Send + 'static>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    answer: &(impl Fn(Request<Incoming>) -> F + Send + Sync),
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request);
        async { Ok::<_, Infallible>(delayed(response.await).await) }
    });
    let stream = TokioIo::new(stream);
    if http2 {
        return Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(stream, service).await;
    }
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(stream, service).with_upgrades().await?)
}

impl DemoServer {
    /// A server that states this version and pod.
    pub fn new(version: &str, pod: &str, faulty: bool) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-version", version), (VERSIONS, version), ("x-pod", pod)] {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
        let greeting = Bytes::from(format!("Hello server - {version}"));
        Self {
            greeting,
            headers,
            faulty,
            faults: Faults::default(),
            speaks: Spoken::Http2,
            certificate: None,
            descriptors: Some(DEMO),
            propagates: true,
            served: AtomicU64::new(0),
        }
    }

    /// Sets whether requests that the server sends on have the headers of those that it gets, as far as
    /// [`is_propagated`](super::is_propagated) says.
    #[must_use]
    pub fn propagating(self, propagates: bool) -> Self {
        Self { propagates, ..self }
    }

    /// Whether requests that the server sends on have the headers of those that it gets.
    pub const fn propagates(&self) -> bool {
        self.propagates
    }

    /// The server with faults.
    #[must_use]
    pub fn with(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// Sets whether the server speaks HTTP/2 besides HTTP/1.1.
    #[must_use]
    pub fn speaking_http2(self, http2: bool) -> Self {
        Self { speaks: if http2 { Spoken::Http2 } else { Spoken::Http1 }, ..self }
    }

    /// Sets whether the server greets every client of TCP with a line and closes the connection, instead of speaking HTTP.
    #[must_use]
    pub fn greeting(self, greets: bool) -> Self {
        Self { speaks: if greets { Spoken::Greeting } else { self.speaks }, ..self }
    }

    /// Whether the server greets every client of TCP, instead of speaking HTTP.
    pub fn greets(&self) -> bool {
        self.speaks == Spoken::Greeting
    }

    /// The line for a client of TCP, if the server greets.
    pub fn greeted(&self) -> Option<Bytes> {
        if !self.greets() {
            return None;
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        Some([&self.greeting[..], b"\n"].concat().into())
    }

    /// Sets the certificate with which the server answers clients that begin with a handshake of TLS.
    #[must_use]
    pub fn showing(self, certificate: Option<Certificate>) -> Self {
        Self { certificate, ..self }
    }

    /// Sets whether the server describes its services of gRPC by reflection.
    #[must_use]
    pub fn reflecting(self, reflects: bool) -> Self {
        Self { descriptors: reflects.then_some(DEMO), ..self }
    }

    /// The number of served requests.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// The response to a request.
    async fn respond(self: Arc<Self>, mut request: Request<Incoming>) -> Response<AnswerBody> {
        let handshake = Handshake::of(&mut request);
        let (parts, body) = request.into_parts();
        match (is_grpc(&parts.headers), parts.version) {
            (false, _) => {
                let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
                if let Some(handshake) = handshake {
                    return handshake.accept(self.answer(path));
                }
                match NextHop::of(path) {
                    Some(_) => self.answer_along(path, parts.method, &parts.headers).await,
                    None => self.answer(path),
                }
            }
            (true, Version::HTTP_2) => self.call(parts.uri.path(), &message_of(body).await),
            (true, _) => {
                // a message that is not read would end the connection, which a proxy may just be using for its next request
                message_of(body).await;
                let mut response = Response::new(AnswerBody::new("gRPC requires HTTP/2"));
                *response.status_mut() = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
                response
            }
        }
    }

    /// The response to a request for a path, after it was sent on to the service that the path names.
    async fn answer_along(&self, path: &str, method: Method, headers: &HeaderMap) -> Response<AnswerBody> {
        match NextHop::of(path) {
            Some(hop) => {
                let behind = hop.send(method, hop.headers(headers, self.propagates)).await;
                self.answer_after(path, &behind)
            }
            None => self.answer(path),
        }
    }

    /// The response to a request for a path, given that of the service to which the request was sent on.
    pub fn answer_after(&self, path: &str, behind: &Behind) -> Response<AnswerBody> {
        let mut response = self.answer(path);
        *response.status_mut() = behind.passed_on();
        if let Some(own) = response.headers().get(VERSIONS) {
            let versions = behind.versions_after(own);
            response.headers_mut().insert(VERSIONS, versions);
        }
        response
    }

    /// The response to a call of a method of gRPC, `/PACKAGE.SERVICE/METHOD`, with a request message.
    pub fn call(&self, method: &str, message: &[u8]) -> Response<AnswerBody> {
        self.served.fetch_add(1, Ordering::Relaxed);
        let body = match method {
            // the field `status` is SERVING
            HEALTH => Some(AnswerBody::message(&varint_field(1, 1))),
            method if is_reflection(method) => {
                self.descriptors.map(|set| AnswerBody::message(&described(set, message)))
            }
            GREETING => Some(AnswerBody::message(&self.greeting_of(message))),
            _ => None,
        };
        let is_known = body.is_some();
        let mut response = Response::new(body.unwrap_or_default());
        let headers = response.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        if !is_known {
            headers.insert(GRPC_STATUS, UNIMPLEMENTED);
            headers.insert("grpc-message", HeaderValue::from_static("unknown method"));
        }
        response
    }

    /// The message `HelloReply` for a `HelloRequest`: the greeting, and the version and the pod of the server in `build`.
    fn greeting_of(&self, request: &[u8]) -> Vec<u8> {
        let greeting = match WireFields(request).last(1) {
            Some(WireValue::Bytes(name)) if !name.is_empty() => {
                Bytes::from([&self.greeting, &b" (name="[..], name, b")"].concat())
            }
            _ => self.greeting.clone(),
        };
        let own = |name| self.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let build = [bytes_field(1, own("x-version")), bytes_field(2, own("x-pod"))].concat();
        // the greeting last, so that a regular expression on the message reads nothing behind it
        [bytes_field(2, &build), bytes_field(1, &greeting)].concat()
    }

    /// The response to a request for a path. It is to be sent when [`delayed`] says so.
    pub fn answer(&self, path: &str) -> Response<AnswerBody> {
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
        let mut response = Response::new(AnswerBody::new(body));
        *response.status_mut() = status;
        response.headers_mut().clone_from(&self.headers);
        if works {
            self.faults.delay(number, &mut response);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::sleep;

    use super::*;

    /// The address of a server that states a version, and the headers of the requests that it gets.
    async fn back(version: &'static str, status: StatusCode) -> (SocketAddr, Arc<Mutex<Vec<(String, HeaderMap)>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let server = DemoServer::new(version, "pod-b", false);
        tokio::spawn(serve_each(listener, Protocols { http2: true, tls: None }, move |request| {
            told.lock().unwrap().push((request.uri().path().to_owned(), request.headers().clone()));
            let mut response = server.answer(request.uri().path());
            *response.status_mut() = status;
            std::future::ready(response)
        }));
        (address, seen)
    }

    /// The response of a front server that sends a request of testers on to an address.
    async fn passed_on(to: SocketAddr, propagates: bool) -> Response<AnswerBody> {
        let front = DemoServer::new("front-v1", "pod-f", false).propagating(propagates);
        let host = to.ip().to_string();
        let hop = NextHop { host: &host, port: to.port(), path: "/orders".to_owned() };
        let headers = [("end-user", "testers"), ("x-request-id", "1"), ("cookie", "secret")];
        let received = headers.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let headers = hop.headers(&HeaderMap::from_iter(received), front.propagates());
        let behind = hop.send(Method::GET, headers).await;
        front.answer_after("/via/svc-back/orders", &behind)
    }

    fn read(response: &Response<AnswerBody>, name: &str) -> String {
        response.headers()[name].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_request_is_sent_on_with_the_headers_that_users_propagate() {
        let (address, seen) = back("back-v2", StatusCode::OK).await;
        let response = passed_on(address, true).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(read(&response, VERSIONS), "front-v1 > back-v2");
        assert_eq!((read(&response, "x-version"), read(&response, "x-pod")), ("front-v1".into(), "pod-f".into()));
        let (path, headers) = seen.lock().unwrap()[0].clone();
        assert_eq!(path, "/orders");
        assert!(headers["end-user"] == "testers" && headers["x-request-id"] == "1", "{headers:?}");
        assert!(!headers.contains_key("cookie"));
    }

    #[tokio::test]
    async fn a_server_that_does_not_propagate_sends_no_header_on() {
        let (address, seen) = back("back-v1", StatusCode::OK).await;
        let response = passed_on(address, false).await;
        assert_eq!(read(&response, VERSIONS), "front-v1 > back-v1");
        let (_, headers) = seen.lock().unwrap()[0].clone();
        assert!(!headers.contains_key("end-user") && !headers.contains_key("x-request-id"), "{headers:?}");
    }

    #[tokio::test]
    async fn a_service_that_fails_or_is_not_there_is_a_bad_gateway() {
        let (address, _) = back("back-v1", StatusCode::SERVICE_UNAVAILABLE).await;
        let response = passed_on(address, true).await;
        assert_eq!((response.status().as_u16(), read(&response, VERSIONS)), (502, "front-v1 > back-v1".into()));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let response = passed_on(closed, true).await;
        assert_eq!((response.status().as_u16(), read(&response, VERSIONS)), (502, "front-v1".into()));
    }

    #[tokio::test]
    async fn a_call_of_grpc_over_http1_leaves_the_connection_open() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = Arc::new(DemoServer::new("v1", "pod", false));
        let protocols = Protocols { http2: true, tls: None };
        tokio::spawn(serve_each(listener, protocols, move |request| Arc::clone(&server).respond(request)));
        let head = "POST /helloworld.Greeter/SayHello HTTP/1.1\r\nhost: hello\r\ncontent-type: application/grpc\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        for _ in 0..2 {
            stream.write_all(head.as_bytes()).await.unwrap();
            // a proxy may send the message later
            sleep(Duration::from_millis(50)).await;
            stream.write_all(b"5\r\n\0\0\0\0\0\r\n0\r\n\r\n").await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"gRPC requires HTTP/2") {
                assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{}", String::from_utf8_lossy(&read));
            }
        }
    }
}
