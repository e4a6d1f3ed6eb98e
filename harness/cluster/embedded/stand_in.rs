//! Servers in place of images that are not the demo's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::matching::text_with;
use super::reply::with_status;
use crate::cluster::message_field::message_field;
use crate::routing::Pod;
use crate::scenario::{Call, Scenario, VersionRule};
use crate::workload::{AnswerBody, Behind, DemoServer, MessageField};

/// The server of a pod.
pub(super) trait PodServer: fmt::Debug + Send + Sync {
    /// The response to a request for a path.
    fn answer(&self, path: &str) -> Response<AnswerBody>;

    /// The response to a call of a method of gRPC with a request message.
    fn call(&self, method: &str, message: &[u8]) -> Response<AnswerBody>;

    /// The response to a request for a path, given that of the service to which the request was sent on; none if the server sends nothing on.
    fn answer_after(&self, _path: &str, _behind: &Behind) -> Option<Response<AnswerBody>> {
        None
    }

    /// The line for a client of TCP; none if the server waits for a request.
    fn greeted(&self) -> Option<Bytes>;

    /// The number of requests that were answered.
    fn served(&self) -> u64;
}

impl PodServer for DemoServer {
    fn answer(&self, path: &str) -> Response<AnswerBody> {
        if self.greets() { no_http() } else { Self::answer(self, path) }
    }

    fn call(&self, method: &str, message: &[u8]) -> Response<AnswerBody> {
        if self.greets() { no_http() } else { Self::call(self, method, message) }
    }

    fn answer_after(&self, path: &str, behind: &Behind) -> Option<Response<AnswerBody>> {
        Some(Self::answer_after(self, path, behind))
    }

    fn greeted(&self) -> Option<Bytes> {
        Self::greeted(self)
    }

    fn served(&self) -> u64 {
        Self::served(self)
    }
}

/// What a proxy answers instead of a server that greets clients of TCP.
fn no_http() -> Response<AnswerBody> {
    with_status(StatusCode::BAD_GATEWAY, "upstream connect error or disconnect/reset before headers")
}

/// How stand-ins answer: 200, with the version and the pod where the scenario reads them.
#[derive(Debug, Clone)]
pub struct StandIns {
    /// The versions that the scenario claims.
    pub(super) versions: BTreeSet<String>,
    version: VersionRule,
    /// The fields with the version in the answers of the methods of gRPC.
    fields: BTreeMap<String, MessageField>,
    pod_header: Option<String>,
}

/// A response without a pod.
struct Content {
    body: Bytes,
    headers: HeaderMap,
}

impl StandIns {
    /// Stand-ins that a scenario understands.
    pub fn of(scenario: &Scenario) -> Self {
        let (version, pod_header) = (scenario.version.clone(), scenario.pod_header.clone());
        let calls = scenario.calls().unwrap_or_default();
        let field = |(method, call): (String, Call)| Some((method, message_field(&call.version?)));
        Self {
            versions: scenario.versions(),
            version,
            fields: calls.into_iter().filter_map(field).collect(),
            pod_header,
        }
    }

    /// Whether a stand-in can state this version.
    pub fn can_state(&self, version: &str) -> bool {
        self.content(version).is_some()
    }

    /// The stand-in of a pod. A version that it cannot state is missing in its responses.
    pub(super) fn server(&self, pod: &Pod) -> impl PodServer + use<> {
        let Content { body, mut headers } =
            self.content(&pod.version).unwrap_or_else(|| Content::plain(HeaderMap::new()));
        if let Some(name) = &self.pod_header {
            add(&mut headers, name, &pod.name);
        }
        let message = |(method, field): (&String, &MessageField)| Some((method.clone(), field.message(&pod.version)?));
        let messages = self.fields.iter().filter_map(message).collect();
        StandIn { body, headers, messages, served: AtomicU64::new(0) }
    }

    fn content(&self, version: &str) -> Option<Content> {
        match &self.version {
            VersionRule::Header(name) => {
                let mut headers = HeaderMap::new();
                add(&mut headers, name, version)?;
                Some(Content::plain(headers))
            }
            VersionRule::Body(expression) | VersionRule::Line(expression) => {
                Some(Content { body: text_with(expression, version)?.into(), headers: HeaderMap::new() })
            }
            VersionRule::Field(_) => {
                let stated =
                    !self.fields.is_empty() && self.fields.values().all(|field| field.message(version).is_some());
                stated.then(|| Content::plain(HeaderMap::new()))
            }
            VersionRule::Json(pointer) => {
                let document = document(pointer, version)?;
                Some(Content { body: document.to_string().into(), headers: HeaderMap::new() })
            }
        }
    }
}

impl Content {
    fn plain(headers: HeaderMap) -> Self {
        Self { body: Bytes::from_static(b"stand-in"), headers }
    }
}

/// Adds a header; none if its name or its value is not valid.
fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Option<()> {
    headers.insert(name.parse::<HeaderName>().ok()?, value.parse().ok()?);
    Some(())
}

/// A document with the version at a JSON pointer; none if the pointer leads nowhere.
fn document(pointer: &str, version: &str) -> Option<Value> {
    let tokens = pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~"));
    let tokens: Vec<String> = tokens.collect();
    let document = tokens.into_iter().rev().fold(json!(version), |inner, token| json!({ token: inner }));
    (document.pointer(pointer)? == version).then_some(document)
}

/// A server that gives every request, and every call of gRPC, the same response.
#[derive(Debug)]
struct StandIn {
    body: Bytes,
    headers: HeaderMap,
    /// The messages with the version, by the method of gRPC.
    messages: BTreeMap<String, Vec<u8>>,
    served: AtomicU64,
}

impl StandIn {
    fn respond(&self, body: AnswerBody) -> Response<AnswerBody> {
        self.served.fetch_add(1, Ordering::Relaxed);
        let mut response = Response::new(body);
        response.headers_mut().clone_from(&self.headers);
        response
    }
}

impl PodServer for StandIn {
    fn answer(&self, _path: &str) -> Response<AnswerBody> {
        self.respond(AnswerBody::new(self.body.clone()))
    }

    fn call(&self, method: &str, _message: &[u8]) -> Response<AnswerBody> {
        let message = self.messages.get(method).map_or(&self.body[..], Vec::as_slice);
        self.respond(AnswerBody::message(message))
    }

    fn greeted(&self) -> Option<Bytes> {
        self.served.fetch_add(1, Ordering::Relaxed);
        Some([&self.body[..], b"\n"].concat().into())
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::key("/version", r#"{"version":"1.4"}"#)]
    #[case::nested("/build/0/version", r#"{"build":{"0":{"version":"1.4"}}}"#)]
    #[case::escaped("/a~1b/m~0n", r#"{"a/b":{"m~n":"1.4"}}"#)]
    #[case::root("", r#""1.4""#)]
    fn a_document_has_the_version_at_its_pointer(#[case] pointer: &str, #[case] expected: &str) {
        assert_eq!(document(pointer, "1.4").unwrap().to_string(), expected);
    }

    #[test]
    fn a_pointer_that_leads_nowhere_has_no_document() {
        assert_eq!(document("version", "1.4"), None);
    }
}
