//! Responses that a proxy gives itself.

use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Response, StatusCode};

use crate::routing::{Redirect, RedirectPath, Request};
use crate::scenario::StatusCode as Status;
use crate::workload::{AnswerBody, GRPC_STATUS};

/// A response that the proxy gives itself, with its status of HTTP or gRPC.
#[derive(Debug, Clone, Copy)]
struct LocalReply(Status);

/// A response that the proxy gives itself.
pub(super) fn plain(status: Status, body: &str) -> Response<AnswerBody> {
    let code = StatusCode::from_u16(status.as_http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = with_status(code, body);
    response.extensions_mut().insert(LocalReply(status));
    response
}

/// Whether the proxy has given a response itself.
pub(super) fn is_of_proxy(response: &Response<AnswerBody>) -> bool {
    response.extensions().get::<LocalReply>().is_some()
}

/// A response with this status and body.
pub(super) fn with_status(status: StatusCode, body: &str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::new(body.to_owned()));
    *response.status_mut() = status;
    response
}

/// The response to a call of gRPC. What the proxy responds itself becomes a status of gRPC.
pub(super) fn for_grpc(response: Response<AnswerBody>) -> Response<AnswerBody> {
    let Some(LocalReply(status)) = response.extensions().get().copied() else { return response };
    let (parts, body) = response.into_parts();
    let mut response = Response::new(AnswerBody::default());
    let headers = response.headers_mut();
    *headers = parts.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, status.as_grpc().0.into());
    if let Ok(message) = HeaderValue::from_bytes(&body.into_data()) {
        headers.insert("grpc-message", message);
    }
    response
}

/// The response that redirects a request.
pub(super) fn redirected(redirect: &Redirect, request: &Request) -> Response<AnswerBody> {
    let mut response = plain(Status(redirect.status), "");
    let authority = request.authority();
    let host = redirect.host.as_deref().unwrap_or_else(|| authority.split(':').next().unwrap_or_default());
    let port = redirect.port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = match &redirect.path {
        Some(RedirectPath::Full(path) | RedirectPath::Matched(path)) => path.as_str(),
        None => &request.path,
    };
    let location = format!("{}://{host}{port}{path}", redirect.scheme.as_deref().unwrap_or("http"));
    if let Ok(location) = location.parse() {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}
