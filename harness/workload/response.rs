//! Reads version and pod from HTTP responses.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use regex::Regex;

use super::body::{GRPC_STATUS, unframed};
use super::connection::HttpResponse;
use super::protocol::{MessageField, ResultKind, VersionSource};

/// The maximum length of a body's excerpt, in characters.
const EXCERPT: usize = 120;
/// The maximum length of a version, or of the versions along a chain of services, in characters.
const VERSION: usize = 256;
/// The maximum length of the name of a pod, in characters: that of Kubernetes.
const POD: usize = 253;

/// Reads the version and the pod from responses.
pub(super) struct ResponseReader {
    version: VersionSource,
    /// The compiled expression of [`VersionSource::Body`].
    pattern: Option<Regex>,
    pod_header: Option<String>,
    is_grpc: bool,
    /// For each flow, the field of [`VersionSource::Field`].
    fields: Vec<Option<MessageField>>,
}

impl ResponseReader {
    /// A reader that finds the version at `version` and the pod in a header or trailer, of responses of gRPC or of plain HTTP.
    pub fn new(version: VersionSource, pod_header: Option<String>, is_grpc: bool) -> Result<Self, regex::Error> {
        let pattern = match &version {
            VersionSource::Body(pattern) => Some(Regex::new(pattern)?),
            VersionSource::Header(_) | VersionSource::Json(_) | VersionSource::Field => None,
        };
        Ok(Self { version, pattern, pod_header, is_grpc, fields: Vec::new() })
    }

    /// Sets for each flow the field of messages with the version.
    pub fn with_fields(self, fields: impl Iterator<Item = Option<MessageField>>) -> Self {
        let fields = if self.version == VersionSource::Field { fields.collect() } else { Vec::new() };
        Self { fields, ..self }
    }

    /// What distinguishes a flow from others with the same response: nothing where all read the version in the same way.
    fn kind_of_flow(&self, flow: usize) -> usize {
        if self.fields.is_empty() { 0 } else { flow }
    }

    /// The headers or trailers with the version, the pod, and the status and the message of gRPC.
    fn headers<'a>(&self, response: &'a HttpResponse) -> [Option<&'a HeaderValue>; 4] {
        let version = match &self.version {
            VersionSource::Header(name) => Some(name.as_str()),
            VersionSource::Json(_) | VersionSource::Body(_) | VersionSource::Field => None,
        };
        let of_grpc = |name| self.is_grpc.then_some(name);
        let names = [version, self.pod_header.as_deref(), of_grpc(GRPC_STATUS), of_grpc("grpc-message")];
        names.map(|name| response.header(name?))
    }

    fn read(&self, flow: usize, response: &HttpResponse) -> ResultKind {
        let text = |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let [version, pod, grpc_status, grpc_message] = self.headers(response);
        let version = match &self.version {
            VersionSource::Header(_) => text(version),
            VersionSource::Json(pointer) => json_version(&response.body, pointer),
            VersionSource::Field => {
                let field = self.fields.get(flow).and_then(Option::as_ref);
                field.and_then(|field| field.read(unframed(&response.body)?))
            }
            VersionSource::Body(_) => {
                // a message of gRPC also has bytes that are no text
                let body = std::str::from_utf8(&response.body).map(Cow::Borrowed).ok();
                let body = body.or_else(|| self.is_grpc.then(|| String::from_utf8_lossy(&response.body)));
                let found =
                    self.pattern.as_ref().zip(body.as_deref()).and_then(|(pattern, body)| pattern.captures(body));
                found.and_then(|found| Some(found.name("version")?.as_str().to_owned()))
            }
        };
        let said = grpc_message.map_or(&response.body[..], HeaderValue::as_bytes);
        let excerpt = version.is_none().then(|| excerpt(said));
        let grpc_status = text(grpc_status).and_then(|status| status.parse().ok());
        let (version, pod) = (version.map(|version| cut(&version, VERSION)), text(pod).map(|pod| cut(&pod, POD)));
        ResultKind { status: Some(response.status.as_u16()), grpc_status, version, pod, excerpt, failure: None }
    }
}

/// A cache of the first few different responses of a connection. The same few responses repeat, and a look-up takes less time than a
/// regular expression.
#[derive(Default)]
pub(super) struct ResponseCache(Vec<CachedResponse>);

struct CachedResponse {
    flow: usize,
    status: StatusCode,
    headers: [Option<HeaderValue>; 4],
    body: Vec<u8>,
    kind: Arc<ResultKind>,
}

impl ResponseCache {
    const MAX_RESPONSES: usize = 8;
    /// The maximum length of the body of a cached response, in bytes.
    const MAX_BODY: usize = 1024;

    /// The kind of a response to a request of a flow.
    pub fn kind(&mut self, reader: &ResponseReader, flow: usize, response: &HttpResponse) -> Arc<ResultKind> {
        let flow = reader.kind_of_flow(flow);
        let headers = reader.headers(response);
        let is_same = |cached: &&CachedResponse| {
            cached.status == response.status
                && cached.flow == flow
                && cached.body == response.body
                && cached.headers.iter().zip(headers).all(|(cached, header)| cached.as_ref() == header)
        };
        if let Some(cached) = self.0.iter().find(is_same) {
            return Arc::clone(&cached.kind);
        }
        let kind = Arc::new(reader.read(flow, response));
        if self.0.len() < Self::MAX_RESPONSES && response.body.len() <= Self::MAX_BODY {
            self.0.push(CachedResponse {
                flow,
                status: response.status,
                headers: headers.map(Option::<&HeaderValue>::cloned),
                body: response.body.to_vec(),
                kind: Arc::clone(&kind),
            });
        }
        kind
    }
}

/// The string or number at a JSON pointer; nothing else is a version.
fn json_version(body: &[u8], pointer: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    match body.pointer(pointer)? {
        serde_json::Value::String(text) => Some(text.clone()),
        number @ serde_json::Value::Number(_) => Some(number.to_string()),
        _ => None,
    }
}

/// A text of a response on one line of at most so many characters. A text that was changed contains a character that no version in a scenario
/// has, so that it equals none.
fn cut(text: &str, most: usize) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(most).collect();
    if text.chars().nth(most).is_some() {
        line.pop();
        line.push('…');
    }
    line
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::header::HeaderName;

    use super::*;

    #[test]
    fn responses_with_another_status_header_or_body_are_read_apart() {
        let version = VersionSource::Body("Hello server - (?<version>[^ ]+)".to_owned());
        let reader = ResponseReader::new(version, Some("x-pod".to_owned()), false).unwrap();
        let mut cache = ResponseCache::default();
        let mut read = |status: u16, pod: &str, body: &str| {
            let headers = [(HeaderName::from_static("x-pod"), HeaderValue::from_str(pod).unwrap())];
            let response = HttpResponse {
                status: StatusCode::from_u16(status).unwrap(),
                headers: headers.into_iter().collect(),
                body: Bytes::copy_from_slice(body.as_bytes()),
                trailers: None,
            };
            let kind = cache.kind(&reader, 0, &response);
            (kind.status, kind.pod.clone(), kind.version.clone())
        };
        // each response twice, and more responses than the cache keeps
        for n in (0..20).chain(0..20) {
            let (pod, version) = (format!("pod-{}", n % 5), format!("v{}", n % 2));
            let status = if n % 3 == 0 { 503 } else { 200 };
            let seen = read(status, &pod, &format!("Hello server - {version} (uri=/{})", n % 7));
            assert_eq!(seen, (Some(status), Some(pod), Some(version)));
        }
        assert_eq!(cache.0.len(), ResponseCache::MAX_RESPONSES);
    }

    #[rstest::rstest]
    #[case::short("v1", "v1")]
    #[case::escape_sequence("v1\u{1b}[2J", "v1\u{fffd}[2J")]
    #[case::lines("v1\n::error::x", "v1\u{fffd}::error::x")]
    #[case::as_long_as_allowed(&"v".repeat(256), &"v".repeat(256))]
    #[case::too_long(&"v".repeat(3_000_000), &format!("{}…", "v".repeat(255)))]
    fn a_version_is_one_short_line(#[case] answered: &str, #[case] version: &str) {
        let body = serde_json::json!({ "version": answered }).to_string();
        let reader = ResponseReader::new(VersionSource::Json("/version".to_owned()), None, false).unwrap();
        let kind = reader.read(0, &HttpResponse { body: body.into(), ..HttpResponse::default() });
        assert_eq!(kind.version.as_deref(), Some(version));
    }

    #[test]
    fn a_version_in_a_trailer_is_read_and_a_header_comes_first() {
        let reader = ResponseReader::new(VersionSource::Header("x-version".to_owned()), None, true).unwrap();
        let map = |text: &'static str| {
            [("x-version", text), ("grpc-status", "7")]
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .into_iter()
                .collect::<hyper::HeaderMap>()
        };
        let read = |response: &HttpResponse| {
            let kind = reader.read(0, response);
            (kind.version.unwrap(), kind.grpc_status)
        };
        let trailer = HttpResponse { trailers: Some(map("v2")), ..HttpResponse::default() };
        assert_eq!(read(&trailer), ("v2".to_owned(), Some(7)));
        assert_eq!(read(&HttpResponse { headers: map("v1"), ..trailer }), ("v1".to_owned(), Some(7)));
    }

    #[rstest::rstest]
    #[case::text(r#"{"build": {"version": "v2"}}"#, Some("v2"))]
    #[case::number(r#"{"build": {"version": 2}}"#, Some("2"))]
    #[case::neither(r#"{"build": {"version": ["v2"]}}"#, None)]
    #[case::missing(r#"{"build": {}}"#, None)]
    #[case::no_json("Hello server - v2", None)]
    fn a_version_at_a_json_pointer(#[case] body: &str, #[case] version: Option<&str>) {
        assert_eq!(json_version(body.as_bytes(), "/build/version").as_deref(), version);
    }
}
