//! The requests of a plan, in the protocol of its base URL.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{
    ACCEPT, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_VERSION, TE, UPGRADE,
};

use super::DriveError;
use crate::body::framed;
use crate::connection::ClientRequest;
use crate::protocol::{DrivePlan, Flow};

/// The protocol of requests: the scheme of a base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `http`: HTTP/1.1.
    Http1,
    /// `h2c`: HTTP/2 with prior knowledge.
    Http2,
    /// `grpc`: unary calls, over HTTP/2 with prior knowledge.
    Grpc,
    /// `tcp`: connections to servers that speak first.
    Tcp,
    /// `ws`: WebSocket handshakes, each on a connection of its own.
    WebSocket,
}

impl Protocol {
    /// Whether a connection carries several requests at a time.
    pub const fn has_streams(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }
}

/// The server of a plan.
#[derive(Debug)]
pub(super) struct Target {
    pub protocol: Protocol,
    /// `HOST:PORT`.
    pub address: String,
}

impl Target {
    /// The server of a base URL.
    pub fn new(base: &str) -> Result<Self, DriveError> {
        let (scheme, address) = base.split_once("://").unwrap_or_default();
        let protocol = match scheme {
            "http" => Protocol::Http1,
            "h2c" => Protocol::Http2,
            "grpc" => Protocol::Grpc,
            "tcp" => Protocol::Tcp,
            "ws" => Protocol::WebSocket,
            _ => {
                let message = format!(
                    "`{base}` is not http://HOST:PORT, h2c://HOST:PORT, grpc://HOST:PORT, tcp://HOST:PORT or ws://HOST:PORT"
                );
                return Err(DriveError::Plan(message));
            }
        };
        Ok(Self { protocol, address: address.trim_end_matches('/').to_owned() })
    }

    /// A call of a method of gRPC with a message.
    pub fn call(&self, method: &str, message: &[u8]) -> Result<ClientRequest, DriveError> {
        let invalid = |what: &str| DriveError::Plan(format!("`{what}` cannot be sent"));
        let mut headers = self.default_headers(true).map_err(invalid)?;
        headers.remove(HOST);
        let host = self.address.strip_suffix(":80").unwrap_or(&self.address);
        let request = Request::post(format!("http://{host}{method}")).body(Full::new(framed(message)));
        let mut request = request.map_err(|_| invalid(method))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// The requests of a flow, one for each variant.
    pub fn requests(&self, flow: &Flow, plan: &DrivePlan) -> Result<Vec<ClientRequest>, DriveError> {
        match flow.variants.as_slice() {
            [] => Ok(vec![self.request(flow, &flow.path, &BTreeMap::new(), plan)?]),
            variants => {
                let queries = flow.queries.iter().map(String::as_str).chain(std::iter::repeat(""));
                let paths = queries.map(|query| with_query(&flow.path, query));
                variants.iter().zip(paths).map(|(headers, path)| self.request(flow, &path, headers, plan)).collect()
            }
        }
    }

    fn request(
        &self,
        flow: &Flow,
        path: &str,
        headers: &BTreeMap<String, String>,
        plan: &DrivePlan,
    ) -> Result<ClientRequest, DriveError> {
        let invalid = |what: &str| DriveError::Plan(format!("`{what}` cannot be sent"));
        let mut map = self.default_headers(plan.keep_alive).map_err(invalid)?;
        for (name, value) in headers {
            let invalid = || invalid(&format!("{name}: {value}"));
            // a header of the scenario replaces a default header
            map.insert(
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?,
                HeaderValue::from_str(value).map_err(|_| invalid())?,
            );
        }
        let (method, body) = match self.protocol {
            Protocol::Grpc => ("POST", framed(&flow.message)),
            _ => (flow.method.as_deref().unwrap_or("GET"), Bytes::new()),
        };
        // HTTP/2 has the host in the URL
        let host = if self.protocol.has_streams() { map.remove(HOST) } else { None };
        let host = host.as_ref().and_then(|host| host.to_str().ok());
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        let url = host.map_or_else(|| path.to_owned(), |host| format!("{scheme}://{host}{path}"));
        let request = Request::builder().method(method).uri(url).body(Full::new(body));
        let mut request = request.map_err(|_| invalid(&format!("{method} {path}")))?;
        *request.headers_mut() = map;
        Ok(request)
    }

    /// The headers of every request; the error is the host if it is no header value.
    fn default_headers(&self, keep_alive: bool) -> Result<HeaderMap, &str> {
        // like other clients, without the default port
        let host = self.address.strip_suffix(":80").unwrap_or(&self.address);
        let mut map = HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).map_err(|_| host)?)]);
        let fixed = HeaderValue::from_static;
        match self.protocol {
            Protocol::Http1 | Protocol::Http2 => drop(map.insert(ACCEPT, fixed("*/*"))),
            Protocol::Tcp => {}
            Protocol::WebSocket => map.extend([
                (CONNECTION, fixed("Upgrade")),
                (UPGRADE, fixed("websocket")),
                (SEC_WEBSOCKET_VERSION, fixed("13")),
            ]),
            Protocol::Grpc => map.extend([(CONTENT_TYPE, fixed("application/grpc")), (TE, fixed("trailers"))]),
        }
        if !keep_alive && self.protocol == Protocol::Http1 {
            map.insert(CONNECTION, fixed("close"));
        }
        Ok(map)
    }
}

/// A path with more in its query.
fn with_query(path: &str, query: &str) -> String {
    let separator = match query {
        "" => "",
        _ if path.contains('?') => "&",
        _ => "?",
    };
    format!("{path}{separator}{query}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none("/a", "", "/a")]
    #[case::the_first("/a", "user=session-1", "/a?user=session-1")]
    #[case::another("/a?x=1", "user=session-1", "/a?x=1&user=session-1")]
    fn a_variant_adds_to_the_query(#[case] path: &str, #[case] query: &str, #[case] expected: &str) {
        assert_eq!(with_query(path, query), expected);
    }
}
