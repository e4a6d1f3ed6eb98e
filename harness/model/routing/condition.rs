use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::pattern::Pattern;
use crate::scenario::{GatewayApi, IngressGateway};

/// The parts of a request that routes can match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path, with the query after a `?`.
    pub path: String,
    /// The host that the client connects to, as written: `svc-hello`.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The gateway to whose port the request comes from outside of the mesh; none if a pod of the mesh sends it.
    pub entering: Option<GatewayPods>,
    /// The TLS of a request from outside of the mesh; none for HTTP.
    pub tls: Option<TlsHandshake>,
    /// The headers, by lower-case name. A `host` here replaces the `Host` header, but not the host that the client connects to.
    pub headers: BTreeMap<String, String>,
}

/// The pods of a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayPods {
    /// Those that Istio's own manifests install.
    Installed,
    /// Those that istiod makes for the `Gateway` of the Gateway API with this name.
    MadeFor(String),
}

/// What a client says in a TLS handshake, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsHandshake {
    /// The name of the server, in lower case.
    pub server_name: String,
    /// The certificates of the authorities that the client trusts, in PEM; none if it takes every certificate.
    pub ca: Option<Arc<str>>,
}

impl Request {
    /// A `GET` request without headers.
    pub fn get(host: &str, port: u16, path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            host: host.to_owned(),
            port,
            entering: None,
            tls: None,
            headers: BTreeMap::new(),
        }
    }

    /// A `GET` request from outside of the mesh, through the ingress gateway that Istio's own manifests install.
    pub fn entering(host: &str, port: u16, path: &str) -> Self {
        Self { entering: Some(GatewayPods::Installed), ..Self::get(host, port, path) }
    }

    /// The request through another gateway.
    #[must_use]
    pub fn by_way_of(self, pods: GatewayPods) -> Self {
        Self { entering: Some(pods), ..self }
    }

    /// Whether the request comes from outside of the mesh.
    pub fn is_entering(&self) -> bool {
        self.entering.is_some()
    }

    /// A `GET` request to a host from outside of the mesh, as callers through a gateway send it.
    pub fn through(gateway: &IngressGateway, host: &str, path: &str) -> Self {
        let tls = gateway
            .tls
            .as_ref()
            .map(|tls| TlsHandshake { server_name: tls.server_name.clone(), ca: Some(tls.ca.as_str().into()) });
        let entering = match gateway.api {
            GatewayApi::Istio => GatewayPods::Installed,
            GatewayApi::Kubernetes => GatewayPods::MadeFor(gateway.name.clone()),
        };
        Self { tls, entering: Some(entering), ..Self::get(host, gateway.port, path) }
    }

    /// The request of a client that takes every certificate.
    #[must_use]
    pub fn trusting(mut self) -> Self {
        if let Some(tls) = &mut self.tls {
            tls.ca = None;
        }
        self
    }

    /// Sets the method.
    #[must_use]
    pub fn by(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_lowercase(), value.to_owned());
        self
    }

    /// Whether it is a request of gRPC, as Envoy sees it.
    pub fn is_grpc(&self) -> bool {
        let kind = self.headers.get("content-type").and_then(|kind| kind.strip_prefix("application/grpc"));
        kind.is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
    }

    /// Makes it a WebSocket handshake.
    #[must_use]
    pub fn asking_for_websocket(self) -> Self {
        let own = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            // a placeholder: clients choose a random key
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        own.into_iter().fold(self, |request, (name, value)| request.with(name, value))
    }

    /// Whether it is a WebSocket handshake.
    pub fn asks_for_websocket(&self) -> bool {
        self.headers.get("upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
    }

    /// The value of the `Host` header. Clients omit port 80.
    pub fn authority(&self) -> Cow<'_, str> {
        match self.headers.get("host") {
            Some(host) => Cow::Borrowed(host),
            None if self.port == 80 => Cow::Borrowed(&self.host),
            None => Cow::Owned(format!("{}:{}", self.host, self.port)),
        }
    }

    /// The path without the query.
    pub fn bare_path(&self) -> &str {
        self.path.split(['?', '#']).next().unwrap_or_default()
    }

    /// The value of a header as routes see it, by lower-case name. Envoy adds `x-forwarded-proto`, and `host` is another name of the authority.
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        match (name, self.headers.get(name)) {
            ("host", _) => Some(self.authority()),
            ("x-forwarded-proto", None) => Some(Cow::Borrowed(self.sent_as())),
            (_, value) => value.map(|value| Cow::Borrowed(value.as_str())),
        }
    }

    /// The scheme that Envoy assumes for a request over HTTP/1.
    fn scheme(&self) -> &str {
        let forwarded = self.headers.get("x-forwarded-proto").map_or(self.sent_as(), String::as_str);
        if forwarded.eq_ignore_ascii_case("https") { "https" } else { "http" }
    }

    const fn sent_as(&self) -> &str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        let mut pairs = query.split('#').next().unwrap_or_default().split('&');
        pairs.find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }
}

/// A condition on a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// The part of the request.
    pub subject: Subject,
    /// The test of that part.
    pub test: Test,
    /// Whether the test has to succeed or to fail.
    pub polarity: Polarity,
}

/// Whether a test has to succeed or to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Polarity {
    /// The test has to succeed.
    Positive,
    /// The test has to fail: `withoutHeaders`. A missing header counts as empty, except for [`Test::Present`].
    Negative,
}

/// The part of a request that a condition tests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Subject {
    /// The path, without the query.
    Path,
    /// The method.
    Method,
    /// The `Host` header.
    Authority,
    /// The scheme.
    Scheme,
    /// A header, by its lower-case name.
    Header(String),
    /// A query parameter.
    Query(String),
}

impl Subject {
    /// The subject for the name of a header in any case. Envoy takes the names of pseudo-headers for parts of the request line.
    pub fn header(name: &str) -> Self {
        match name.to_lowercase() {
            name if name == ":method" => Self::Method,
            name if name == ":authority" => Self::Authority,
            name if name == ":scheme" => Self::Scheme,
            name => Self::Header(name),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => formatter.write_str("the path"),
            Self::Method => formatter.write_str("the method"),
            Self::Authority => formatter.write_str("the host"),
            Self::Scheme => formatter.write_str("the scheme"),
            Self::Header(name) => write!(formatter, "the header `{name}`"),
            Self::Query(name) => write!(formatter, "the query parameter `{name}`"),
        }
    }
}

/// A test of a part of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// Equals this text.
    Exact(String),
    /// Begins with this text.
    Prefix(String),
    /// Equals this text, ignoring case.
    ExactInAnyCase(String),
    /// Begins with this text, ignoring case.
    PrefixInAnyCase(String),
    /// Begins with these path elements: the Gateway API's `PathPrefix`.
    PathPrefix(String),
    /// Matches this regular expression as a whole.
    Regex(Pattern),
    /// Exists, with any value.
    Present,
}

/// A path without a query as Envoy normalizes it before it routes a request, which Istio asks for by default: dot segments are resolved,
/// backslashes become slashes, and escaped characters that need no escape are decoded.
pub(super) fn normalized(path: &str) -> Cow<'_, str> {
    if !path.contains(['%', '\\']) && !path.contains("/.") {
        return Cow::Borrowed(path);
    }
    let decoded = decoded(path).replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    let mut all = decoded.split('/').skip(1).peekable();
    while let Some(segment) = all.next() {
        let is_last = all.peek().is_none();
        if segment == ".." {
            segments.pop();
        } else if segment != "." {
            segments.push(segment);
            continue;
        }
        if is_last {
            segments.push("");
        }
    }
    Cow::Owned(format!("/{}", segments.join("/")))
}

/// Decodes the escaped letters, digits and marks that a path may contain without an escape.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let character = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).map(char::from);
        let needs_no_escape = |character: &char| character.is_ascii_alphanumeric() || "-._~".contains(*character);
        if let Some(character) = character.filter(needs_no_escape) {
            decoded.push(character);
            decoded.push_str(&part[2..]);
        } else {
            decoded.push('%');
            decoded.push_str(part);
        }
    }
    decoded
}

impl Condition {
    /// A condition whose test has to succeed.
    pub const fn new(subject: Subject, test: Test) -> Self {
        Self { subject, test, polarity: Polarity::Positive }
    }

    /// Whether a request meets the condition.
    pub fn met_by(&self, request: &Request) -> bool {
        let value = match &self.subject {
            Subject::Path => Some(normalized(request.bare_path())),
            Subject::Method => Some(Cow::Borrowed(request.method.as_str())),
            Subject::Authority => Some(request.authority()),
            Subject::Scheme => Some(Cow::Borrowed(request.scheme())),
            Subject::Header(name) => request.header(name),
            Subject::Query(name) => request.query(name).map(Cow::Borrowed),
        };
        let value = value.as_deref();
        match self.polarity {
            Polarity::Positive => value.is_some_and(|value| self.test.met_by(value)),
            Polarity::Negative if self.test == Test::Present => value.is_none(),
            Polarity::Negative => !self.test.met_by(value.unwrap_or_default()),
        }
    }
}

impl Test {
    fn met_by(&self, value: &str) -> bool {
        let same = |left: &str, right: &str| left.eq_ignore_ascii_case(right);
        match self {
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::ExactInAnyCase(text) => same(value, text),
            Self::PrefixInAnyCase(text) => value.get(..text.len()).is_some_and(|start| same(start, text)),
            Self::PathPrefix(text) => {
                value.strip_prefix(text.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(pattern) => pattern.matches(value),
            Self::Present => true,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::Path => formatter.write_str("path")?,
            Subject::Method => formatter.write_str("method")?,
            Subject::Authority => formatter.write_str("authority")?,
            Subject::Scheme => formatter.write_str("scheme")?,
            Subject::Header(name) => write!(formatter, "{name}")?,
            Subject::Query(name) => write!(formatter, "?{name}")?,
        }
        let (is, begins, matches) = match self.polarity {
            Polarity::Positive => ("is", "begins", "matches"),
            Polarity::Negative => ("is not", "does not begin", "does not match"),
        };
        match &self.test {
            Test::Exact(text) => write!(formatter, " {is} `{text}`"),
            Test::ExactInAnyCase(text) => write!(formatter, " {is} `{text}` in any case"),
            Test::Prefix(text) => write!(formatter, " {begins} with `{text}`"),
            Test::PrefixInAnyCase(text) => write!(formatter, " {begins} with `{text}` in any case"),
            Test::PathPrefix(text) => write!(formatter, " {begins} with the parts `{text}`"),
            Test::Regex(pattern) => write!(formatter, " {matches} `{}`", pattern.as_str()),
            Test::Present => write!(formatter, " {is} present"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn request() -> Request {
        Request::get("svc-hello", 8080, "/a/b?q=1&flag#part").with("End-User", "testers").with("x-empty", "")
    }

    fn header(name: &str) -> Subject {
        Subject::Header(name.to_owned())
    }

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[rstest]
    #[case::header_exact(header("end-user"), Test::Exact(text("testers")), true)]
    #[case::header_values_have_a_case(header("end-user"), Test::Exact(text("Testers")), false)]
    #[case::header_prefix(header("end-user"), Test::Prefix(text("test")), true)]
    #[case::regex_matches_the_whole(header("end-user"), Test::Regex(Pattern::new("test")), false)]
    #[case::regex_alternatives_are_whole(header("end-user"), Test::Regex(Pattern::new("x|testers")), true)]
    #[case::present(header("end-user"), Test::Present, true)]
    #[case::present_though_empty(header("x-empty"), Test::Present, true)]
    #[case::absent(header("x-none"), Test::Present, false)]
    #[case::path_exact_without_query(Subject::Path, Test::Exact(text("/a/b")), true)]
    #[case::path_prefix_within_a_part(Subject::Path, Test::Prefix(text("/a/")), true)]
    #[case::path_has_a_case(Subject::Path, Test::Exact(text("/A/b")), false)]
    #[case::path_in_any_case(Subject::Path, Test::ExactInAnyCase(text("/A/B")), true)]
    #[case::prefix_in_any_case(Subject::Path, Test::PrefixInAnyCase(text("/A")), true)]
    #[case::path_parts(Subject::Path, Test::PathPrefix(text("/a")), true)]
    #[case::not_half_a_part(Subject::Path, Test::PathPrefix(text("/a/b/c")), false)]
    #[case::path_regex(Subject::Path, Test::Regex(Pattern::new("/a/[a-z]")), true)]
    #[case::method(Subject::Method, Test::Exact(text("GET")), true)]
    #[case::authority_has_the_port(Subject::Authority, Test::Exact(text("svc-hello:8080")), true)]
    #[case::query(Subject::Query(text("q")), Test::Exact(text("1")), true)]
    #[case::query_present(Subject::Query(text("flag")), Test::Present, true)]
    #[case::query_absent(Subject::Query(text("p")), Test::Present, false)]
    #[case::scheme(Subject::Scheme, Test::Exact(text("https")), false)]
    #[case::the_host_is_the_authority(header("host"), Test::Exact(text("svc-hello:8080")), true)]
    #[case::envoy_adds_the_protocol(header("x-forwarded-proto"), Test::Exact(text("http")), true)]
    fn a_request_is_looked_at(#[case] subject: Subject, #[case] test: Test, #[case] met: bool) {
        assert_eq!(Condition::new(subject, test).met_by(&request()), met);
    }

    #[rstest]
    #[case::other_value("end-user", Test::Exact(text("staff")), true)]
    #[case::that_value("end-user", Test::Exact(text("testers")), false)]
    #[case::missing_is_empty("x-none", Test::Exact(text("testers")), true)]
    #[case::missing_matches_what_matches_nothing("x-none", Test::Regex(Pattern::new(".*")), false)]
    #[case::missing_is_not_present("x-none", Test::Present, true)]
    #[case::present("end-user", Test::Present, false)]
    fn without_headers(#[case] name: &str, #[case] test: Test, #[case] met: bool) {
        let condition = Condition { subject: header(name), test, polarity: Polarity::Negative };
        assert_eq!(condition.met_by(&request()), met);
    }

    #[rstest]
    #[case::nothing_to_do("/a//b/.c", "/a//b/.c")]
    #[case::dots("/a/./b/../c", "/a/c")]
    #[case::dots_at_the_end("/a/b/..", "/a/")]
    #[case::a_dot_at_the_end("/a/.", "/a/")]
    #[case::above_the_root("/../../a", "/a")]
    #[case::escaped_dots("/a/%2e%2E/b", "/b")]
    #[case::backslashes(r"/a\b", "/a/b")]
    #[case::an_escaped_letter("/%61pi", "/api")]
    #[case::an_escaped_slash("/a%2Fb", "/a%2Fb")]
    #[case::no_escape("/a%zz", "/a%zz")]
    fn paths_are_normalized(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(normalized(path), expected);
        let condition = Condition::new(Subject::Path, Test::Exact(text(expected)));
        assert!(condition.met_by(&Request::get("svc", 80, &format!("{path}?x=/../y"))));
    }

    #[test]
    fn the_scheme_is_the_forwarded_protocol() {
        let https = Condition::new(Subject::Scheme, Test::Exact(text("https")));
        assert!(https.met_by(&Request::get("svc", 80, "/").with("X-Forwarded-Proto", "https")));
        assert!(!https.met_by(&Request::get("svc", 80, "/").with("X-Forwarded-Proto", "spdy")));
    }

    #[test]
    fn clients_leave_out_port_80() {
        assert_eq!(Request::get("svc", 80, "/").authority(), "svc");
        assert_eq!(Request::get("svc", 80, "/").with("Host", "other").authority(), "other");
    }
}
