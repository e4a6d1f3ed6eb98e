//! Messages between the harness and the traffic driver. Both ends are the same binary, so the format has no versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A command to the driver: one JSON line each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriverCommand {
    /// Runs a plan. The driver runs one plan at a time.
    Drive(Box<DrivePlan>),
    /// Asks a server of gRPC for the types of its messages. The driver answers with [`DriverMessage::Reflected`].
    Reflect(Box<ReflectPlan>),
    /// Stops a flow: the driver sends no more of its requests and waits for those in flight.
    Stop {
        /// The id of the plan. The driver ignores the command if another plan is running.
        plan: u64,
        /// The index of the flow.
        flow: usize,
    },
    /// Changes the request rate of a plan with [`DrivePlan::in_flight`].
    Rate {
        /// The id of the plan. The driver ignores the command if another plan is running.
        plan: u64,
        /// Requests per second of all flows together. The driver ignores a value that is not positive and finite.
        qps: f64,
    },
}

/// A plan for the driver: flows that take turns request by request, so that all of them cover the same time window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrivePlan {
    /// The id of the plan, unique for one driver.
    pub id: u64,
    /// The base URL, `http://HOST:PORT`, `h2c://HOST:PORT` for HTTP/2 with prior knowledge, `grpc://HOST:PORT`, `tcp://HOST:PORT`,
    /// where each request is a connection and the first line that the server sends is the response, or `ws://HOST:PORT`, where each request is a
    /// WebSocket connection and the response is that to its handshake. Versions in bodies are then read in the first message of the server.
    pub base: String,
    /// The address to connect to, `HOST:PORT`, if it is not the one in the base URL.
    #[serde(default)]
    pub connect: Option<String>,
    /// TLS on each connection; none without.
    #[serde(default)]
    pub tls: Option<Box<DriveTls>>,
    /// The number of connections.
    pub connections: usize,
    /// The number of requests in flight on each connection of HTTP/2, at least one. A connection of HTTP/1.1 has one.
    #[serde(default)]
    pub streams: u16,
    /// Requests per second of all flows together in an open loop: requests are due at fixed times, whether or not earlier requests were
    /// answered. `None` is a closed loop: a connection sends its next request when it has the answer to the last one.
    pub qps: Option<f64>,
    /// The maximum number of requests in flight in an open loop that opens connections when needed. Every request is sent when it is due. A
    /// request that is due while so many are in flight is not sent and fails as [`FailureKind::Unsent`]. Results are reported as they
    /// arrive, not in the order of sending. `None`: a request waits for a free connection or stream.
    #[serde(default)]
    pub in_flight: Option<usize>,
    /// The maximum requests per second while more than 64 requests are in flight, so that a slow service and its proxies are not overloaded:
    /// each request in flight has a connection of its own. By default the initial rate, [`qps`](Self::qps).
    #[serde(default)]
    pub busy_qps: Option<f64>,
    /// Whether to use keep-alive.
    pub keep_alive: bool,
    /// The timeout of one request, in milliseconds.
    pub timeout_ms: u64,
    /// The time after which no more requests are sent, in milliseconds since the start.
    pub limit_ms: u64,
    /// Where a response states the version.
    pub version: VersionSource,
    /// The response header with the name of the pod.
    pub pod_header: Option<String>,
    /// The flows.
    pub flows: Vec<Flow>,
}

/// What to ask the reflection of a server for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReflectPlan {
    /// The base URL, as in a [`DrivePlan`].
    pub base: String,
    /// The address to connect to, `HOST:PORT`, if it is not the one in the base URL.
    #[serde(default)]
    pub connect: Option<String>,
    /// The full names of the services whose methods are called.
    pub services: Vec<String>,
    /// The timeout of each question, in milliseconds.
    pub timeout_ms: u64,
}

/// What the reflection of a server has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reflection {
    /// The types.
    Described {
        /// The encoded `FileDescriptorProto`s of the services, as far as the server knows them, and of everything that they import.
        files: Vec<Vec<u8>>,
        /// The names of all services of the server.
        services: Vec<String>,
    },
    /// The answer has another status than OK, or no message.
    Refused {
        /// The status of gRPC, or that of HTTP if there is none of gRPC.
        status: u16,
        /// The message of gRPC.
        message: String,
    },
    /// There was no answer.
    Failed(RequestFailure),
}

/// TLS on the connections of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriveTls {
    /// The name of the server, which the client says and for which it takes a certificate.
    pub server_name: String,
    /// The certificates of the authorities that the client trusts, in PEM.
    pub ca: String,
}

/// Where a response states the version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionSource {
    /// In the body: the group `version` of a regular expression.
    Body(String),
    /// In a header or a trailer.
    Header(String),
    /// In a JSON body, at a JSON pointer.
    Json(String),
    /// In the message of gRPC, in the field that the flow names: [`Flow::field`].
    Field,
}

/// A field of a message of gRPC with the version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageField {
    /// The number of the field, after those of the messages around it.
    pub numbers: Vec<u32>,
    /// The type of its value.
    pub value: FieldValue,
    /// The version in a message that leaves the field out; none if there is none.
    #[serde(default)]
    pub default: Option<String>,
}

/// The type of a field of a message of gRPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldValue {
    /// A text.
    Text,
    /// A number that may be negative.
    Signed,
    /// A number that is not negative.
    Unsigned,
    /// A number with a name.
    Enum(BTreeMap<i32, String>),
}

/// Requests to one path, sent in turn with those of other flows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The path.
    pub path: String,
    /// The method; none is `GET`. Requests of gRPC are `POST`.
    #[serde(default)]
    pub method: Option<String>,
    /// The maximum number of requests.
    pub requests: u64,
    /// The number of results before which no [`DriverCommand::Stop`] comes. Until then the driver sends larger batches of messages.
    #[serde(default)]
    pub min_results: u64,
    /// The encoded request message of a call of gRPC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub message: Vec<u8>,
    /// The field with the version, for [`VersionSource::Field`]; none if the answers state none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<MessageField>,
    /// The name of the cookie with which the server tells sessions apart; none without such sessions. Then there is a variant for each session:
    /// a session sends its next request when the last one was answered, with the cookie that the server has set. Without the cookie, a session
    /// opens a connection of its own. With [`DrivePlan::in_flight`], each request is the first of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// What the requests of each variant have in their query, after that of the path; empty if they have nothing more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<String>,
    /// Sets of request headers, used in turn.
    pub variants: Vec<BTreeMap<String, String>>,
}

/// A message from the driver: one JSON line each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriverMessage {
    /// A kind of result that occurs for the first time. Kinds are numbered from 0 in the order of these messages.
    Kind(ResultKind),
    /// The result of one request, in the order of sending unless [`DrivePlan::in_flight`] is set.
    Result(RequestResult),
    /// The answer to [`DriverCommand::Reflect`].
    Reflected(Reflection),
    /// The plan is done: every request was answered or failed.
    End {
        /// The id of the plan.
        plan: u64,
        /// The time from the start to the last answer, in microseconds.
        took_us: u64,
        /// When the driver's clock started, by the clock of its machine: microseconds since 1970, in UTC.
        started_us: u64,
        /// The number of connections of HTTP/2 that the server has ended with GOAWAY.
        #[serde(default)]
        goaways: u64,
        /// For each flow, the number of sessions for which the server has set [`Flow::cookie`].
        #[serde(default)]
        cookies: Vec<u64>,
    },
}

impl DriverMessage {
    /// Parses a line. A result is an array of numbers, because there are thousands of results per second.
    ///
    /// # Errors
    /// The line is not a message.
    pub fn parse(line: &str) -> Result<Self, serde_json::Error> {
        if line.starts_with('[') { serde_json::from_str(line).map(Self::Result) } else { serde_json::from_str(line) }
    }
}

/// The result of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Numbers", into = "Numbers")]
pub struct RequestResult {
    /// The number of the request in the order of sending, from 0.
    pub n: u64,
    /// The index of the flow.
    pub flow: usize,
    /// The number of the kind of result.
    pub kind: usize,
    /// The index of the connection.
    pub connection: usize,
    /// When the request was due, in microseconds since the start. In a closed loop: when it was sent.
    pub due_us: u64,
    /// The time from due to sent, in microseconds.
    pub late_us: u64,
    /// The time from sent to answered or failed, in microseconds.
    pub took_us: u64,
}

type Numbers = (u64, usize, usize, usize, u64, u64, u64);

impl From<Numbers> for RequestResult {
    fn from((n, flow, kind, connection, due_us, late_us, took_us): Numbers) -> Self {
        Self { n, flow, kind, connection, due_us, late_us, took_us }
    }
}

impl From<RequestResult> for Numbers {
    fn from(result: RequestResult) -> Self {
        let RequestResult { n, flow, kind, connection, due_us, late_us, took_us } = result;
        (n, flow, kind, connection, due_us, late_us, took_us)
    }
}

/// What results have in common: the status, version and pod of the response, or the failure.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResultKind {
    /// The HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The status of gRPC, if the response has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// The version of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The beginning of the body, or the message of gRPC, if the response states no version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
    /// Why there was no response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RequestFailure>,
}

impl From<RequestFailure> for ResultKind {
    fn from(failure: RequestFailure) -> Self {
        Self { failure: Some(failure), ..Self::default() }
    }
}

/// Why a request got no response. An HTTP error status is a response, not a failure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestFailure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The reason.
    pub message: String,
}

/// Kinds of request failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// The connection could not be opened.
    Connect,
    /// The connection was opened, and the TLS handshake failed.
    Handshake,
    /// The request timed out.
    Timeout,
    /// The connection was closed before the response was complete.
    Broken,
    /// The request was not sent, because too many requests were in flight.
    Unsent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_a_line_of_numbers() {
        let result = RequestResult { n: 12, flow: 1, kind: 3, connection: 7, due_us: 5000, late_us: 20, took_us: 900 };
        assert_eq!(serde_json::to_string(&result).unwrap(), "[12,1,3,7,5000,20,900]");
        assert_eq!(DriverMessage::parse("[12,1,3,7,5000,20,900]").unwrap(), DriverMessage::Result(result));
        let kind = ResultKind { status: Some(200), version: Some("v1".to_owned()), ..ResultKind::default() };
        let parsed = DriverMessage::parse(r#"{"kind":{"status":200,"version":"v1"}}"#).unwrap();
        assert_eq!(parsed, DriverMessage::Kind(kind));
    }
}
