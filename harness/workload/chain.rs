//! Chains of services: requests that the demo server sends on to another service before it answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};

use super::connection::{ClientRequest, Connection, ServerAddress};

/// The response header with the versions along the way, the first one that of the server which answers.
pub const VERSIONS: &str = "x-versions";
/// What stands between two versions.
const ARROW: &str = " > ";
/// The maximum length of [`VERSIONS`], in bytes.
const MAX_VERSIONS: usize = 1024;
/// The timeout of a request that is sent on, with the response.
const DEADLINE: Duration = Duration::from_secs(10);
/// The prefix of paths of requests that are sent on.
const VIA: &str = "/via/";
/// The domain of the Services of a cluster.
const DOMAIN: &str = ".svc.cluster.local";

/// Where a request for `/via/HOST[:PORT][/REST]` is sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop<'p> {
    /// The host: the name of a Service in the namespace of the server, or a full name, `NAME.NAMESPACE.svc.cluster.local`.
    pub host: &'p str,
    /// The port; by default 80.
    pub port: u16,
    /// The path, with the query: `/REST`, or `/`.
    pub path: String,
}

/// The response of the service behind a server.
#[derive(Debug, Clone, Default)]
pub struct Behind {
    /// The status; none if there is no response.
    pub status: Option<StatusCode>,
    /// The versions along the rest of the way, if the response states them.
    pub versions: Option<HeaderValue>,
}

impl<'p> NextHop<'p> {
    /// Where a request for a path is sent on; none if the server answers alone. Each hop takes a part of the path, so that every chain ends.
    pub fn of(path: &'p str) -> Option<Self> {
        let rest = path.strip_prefix(VIA)?;
        let (server, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match server.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (server, 80),
        };
        let is_plain = rest.starts_with('/');
        let path = if is_plain { rest.to_owned() } else { format!("/{rest}") };
        is_service(host).then_some(Self { host, port, path })
    }

    /// The value of the `Host` header, without the default port.
    pub fn authority(&self) -> String {
        if self.port == 80 { self.host.to_owned() } else { format!("{}:{}", self.host, self.port) }
    }

    /// The headers of the request, given those of the request that the server has received.
    pub fn headers(&self, received: &HeaderMap, propagates: bool) -> HeaderMap {
        let kept = received.iter().filter(|(name, _)| propagates && is_propagated(name.as_str()));
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in kept {
            headers.append(name.clone(), value.clone());
        }
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.extend(HeaderValue::from_str(&self.authority()).map(|host| (HOST, host)));
        headers
    }

    /// Sends a request, on a connection of its own, so that each is routed independently.
    pub(super) async fn send(&self, method: Method, mut headers: HeaderMap) -> Behind {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let request = Request::builder().method(method).uri(&self.path).body(Full::new(Bytes::new()));
        let Ok(mut request): Result<ClientRequest, _> = request else { return Behind::default() };
        *request.headers_mut() = headers;
        let server = Arc::new(ServerAddress::new(format!("{}:{}", self.host, self.port)));
        match Connection::http1(server, false, DEADLINE).send(&request).await {
            Ok(response) => Behind {
                status: Some(response.status),
                versions: response.headers.get(VERSIONS).or_else(|| response.headers.get("x-version")).cloned(),
            },
            Err(failure) => {
                tracing::debug!(?failure, "a request was not sent on");
                Behind::default()
            }
        }
    }
}

impl Behind {
    /// The status of the server's own response: that of the service behind it, or 502 if that service fails.
    pub fn passed_on(&self) -> StatusCode {
        self.status.filter(|status| !status.is_server_error()).unwrap_or(StatusCode::BAD_GATEWAY)
    }

    /// The versions along the way, beginning with the server's own.
    pub(super) fn versions_after(&self, own: &HeaderValue) -> HeaderValue {
        let Some(behind) = &self.versions else { return own.clone() };
        let joined = [own.as_bytes(), ARROW.as_bytes(), behind.as_bytes()].concat();
        HeaderValue::from_bytes(&joined)
            .ok()
            .filter(|joined| joined.len() <= MAX_VERSIONS)
            .unwrap_or_else(|| own.clone())
    }
}

/// Whether a header of a request is sent on: headers that services define, and those of tracing. Headers that proxies write themselves are not.
pub fn is_propagated(name: &str) -> bool {
    const TRACING: [HeaderName; 5] = [
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
        HeaderName::from_static("b3"),
        HeaderName::from_static("baggage"),
        HeaderName::from_static("end-user"),
    ];
    let is_of_proxies = ["x-forwarded-", "x-envoy-"].iter().any(|prefix| name.starts_with(prefix));
    (name.starts_with("x-") && !is_of_proxies) || TRACING.iter().any(|own| own == name)
}

/// Whether a host is the name of a Service. Other names and addresses are refused, so that the server cannot be made to ask anything else.
fn is_service(host: &str) -> bool {
    let labels = host.strip_suffix(DOMAIN).map_or_else(|| vec![host], |own| own.split('.').collect());
    let is_label = |label: &&str| {
        label.len() <= 63
            && label.starts_with(|first: char| first.is_ascii_lowercase())
            && label.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let parts = if host.ends_with(DOMAIN) { 2 } else { 1 };
    labels.len() == parts && labels.iter().all(is_label) && host != "localhost"
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::name("/via/svc-back", Some(("svc-back", 80, "/")))]
    #[case::rest("/via/svc-back/orders/1?x=1", Some(("svc-back", 80, "/orders/1?x=1")))]
    #[case::query("/via/svc-back?x=1", Some(("svc-back", 80, "/?x=1")))]
    #[case::port("/via/svc-back:8080/", Some(("svc-back", 8080, "/")))]
    #[case::two_hops("/via/a/via/b", Some(("a", 80, "/via/b")))]
    #[case::full_name("/via/back.shop.svc.cluster.local", Some(("back.shop.svc.cluster.local", 80, "/")))]
    #[case::other_path("/viaduct/svc-back", None)]
    #[case::no_host("/via/", None)]
    #[case::port_zero("/via/svc-back:0", None)]
    #[case::no_port("/via/svc-back:x", None)]
    #[case::address("/via/127.0.0.1", None)]
    #[case::number("/via/2130706433", None)]
    #[case::address_6("/via/[::1]", None)]
    #[case::own_machine("/via/localhost:15000", None)]
    #[case::outside("/via/example.com", None)]
    #[case::user("/via/a@example.com", None)]
    #[case::dot("/via/svc-back.", None)]
    #[case::escaped("/via/svc%2dback", None)]
    fn a_request_is_sent_on_to_services_alone(#[case] path: &str, #[case] expected: Option<(&str, u16, &str)>) {
        let hop = NextHop::of(path);
        assert_eq!(hop.as_ref().map(|hop| (hop.host, hop.port, hop.path.as_str())), expected);
    }

    #[rstest]
    #[case("end-user", true)]
    #[case("x-request-id", true)]
    #[case("x-b3-traceid", true)]
    #[case("traceparent", true)]
    #[case("x-forwarded-for", false)]
    #[case("x-envoy-attempt-count", false)]
    #[case("host", false)]
    #[case("content-length", false)]
    #[case("cookie", false)]
    fn headers_of_users_and_of_tracing_are_propagated(#[case] name: &str, #[case] expected: bool) {
        assert_eq!(is_propagated(name), expected);
        let received = HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static("1"))]);
        let hop = NextHop::of("/via/svc-back:8080").unwrap();
        let value = hop.headers(&received, true).get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
        assert_eq!(value.as_deref(), if name == "host" { Some("svc-back:8080") } else { expected.then_some("1") });
        assert_eq!(hop.headers(&received, false).len(), 2);
    }

    #[test]
    fn the_versions_along_the_way_are_joined_up_to_a_length() {
        let own = HeaderValue::from_static("front-v1");
        let behind = |versions: &str| Behind { status: None, versions: HeaderValue::from_str(versions).ok() };
        assert_eq!(behind("back-v2").versions_after(&own), "front-v1 > back-v2");
        assert_eq!(Behind::default().versions_after(&own), "front-v1");
        assert_eq!(behind(&"x".repeat(MAX_VERSIONS)).versions_after(&own), "front-v1");
    }

    #[rstest]
    #[case::success(Some(200), 200)]
    #[case::refused(Some(404), 404)]
    #[case::failed(Some(503), 502)]
    #[case::no_response(None, 502)]
    fn a_failure_behind_is_a_bad_gateway(#[case] status: Option<u16>, #[case] expected: u16) {
        let status = status.map(|status| StatusCode::from_u16(status).unwrap());
        assert_eq!(Behind { status, versions: None }.passed_on().as_u16(), expected);
    }
}
