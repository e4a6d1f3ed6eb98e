use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use regex::Regex;
use reqwest::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};

/// What the driver sends: several flows, interleaved request by request so that all see the same time window.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DrivePlan {
    /// `http://HOST:PORT`.
    pub base: String,
    /// The number of connections; each has one request in flight.
    pub connections: usize,
    /// Whether a connection carries more than one request.
    pub keep_alive: bool,
    /// The longest that one request may take, in milliseconds.
    pub timeout_ms: u64,
    /// How a response tells its version.
    pub version: VersionSource,
    /// The response header that names the pod.
    pub pod_header: Option<String>,
    /// The flows.
    pub flows: Vec<Flow>,
}

/// How a response tells its version.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionSource {
    /// By the group `version` of a regular expression on the body.
    Body(String),
    /// By a header.
    Header(String),
}

/// Requests of one kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Flow {
    /// The path.
    pub path: String,
    /// How many.
    pub requests: u64,
    /// Sets of headers; they take turns.
    pub variants: Vec<BTreeMap<String, String>>,
}

/// What came of one request: a line of the driver's output, in the order of sending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The request's number, from 0, in the order of sending.
    pub n: u64,
    /// The index of its flow.
    pub flow: usize,
    /// When it was sent, in microseconds since the start.
    pub sent_us: u64,
    /// How long the answer took, in microseconds.
    pub took_us: u64,
    /// The HTTP status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The version that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The pod that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The beginning of a body that told no version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
    /// Why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Why there was no answer; never an HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Where it broke.
    pub kind: FailureKind,
    /// The reason.
    pub message: String,
}

/// Where a request without an answer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke off.
    Broken,
}

/// What keeps the driver from starting or going on.
#[derive(Debug, Error)]
pub enum DriveError {
    /// The plan is not one.
    #[error("the plan is not valid: {0}")]
    Plan(String),
    /// The output is closed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// How far sending may run ahead of the oldest request without an answer: bounds the memory.
const WINDOW: usize = 4096;
/// How much of a body is kept where it tells no version.
const EXCERPT: usize = 120;

/// Sends what the plan asks for and writes one JSON line a request to `output`, in the order of sending.
///
/// # Errors
/// The plan holds an invalid header or expression, or the output is closed.
pub async fn drive(plan: DrivePlan, output: impl Write) -> Result<(), DriveError> {
    let driver = Arc::new(Driver::new(plan)?);
    let window = Arc::new(Semaphore::new(WINDOW));
    let (sender, receiver) = mpsc::channel(256);
    for _ in 0..driver.plan.connections.clamp(1, 256) {
        let client = driver.client()?;
        tokio::spawn(Arc::clone(&driver).work(client, Arc::clone(&window), sender.clone()));
    }
    drop(sender);
    write_in_order(receiver, &window, output).await
}

async fn write_in_order(
    mut outcomes: mpsc::Receiver<Outcome>,
    window: &Semaphore,
    output: impl Write,
) -> Result<(), DriveError> {
    let mut output = io::BufWriter::with_capacity(32 * 1024, output);
    let mut early = BTreeMap::new();
    let mut next = 0;
    while let Some(outcome) = outcomes.recv().await {
        early.insert(outcome.n, outcome);
        while let Some(outcome) = early.remove(&next) {
            serde_json::to_writer(&mut output, &outcome).map_err(io::Error::from)?;
            output.write_all(b"\n")?;
            window.add_permits(1);
            next += 1;
        }
    }
    output.flush()?;
    Ok(())
}

struct Driver {
    plan: DrivePlan,
    schedule: Mutex<Schedule>,
    start: Instant,
    version: Option<Regex>,
    headers: Vec<Vec<HeaderMap>>,
}

impl Driver {
    fn new(plan: DrivePlan) -> Result<Self, DriveError> {
        let version = match &plan.version {
            VersionSource::Body(pattern) => {
                Some(Regex::new(pattern).map_err(|error| DriveError::Plan(error.to_string()))?)
            }
            VersionSource::Header(_) => None,
        };
        let headers = plan
            .flows
            .iter()
            .map(|flow| flow.variants.iter().map(|headers| header_map(headers, plan.keep_alive)).collect())
            .collect::<Result<_, _>>()?;
        let schedule = Mutex::new(Schedule::new(&plan.flows));
        Ok(Self { plan, schedule, start: Instant::now(), version, headers })
    }

    /// One client a connection, so that the number of connections is the number asked for.
    fn client(&self) -> Result<reqwest::Client, DriveError> {
        reqwest::Client::builder()
            .no_proxy()
            .http1_only()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(usize::from(self.plan.keep_alive))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_millis(self.plan.timeout_ms))
            .build()
            .map_err(|error| DriveError::Plan(error.to_string()))
    }

    async fn work(self: Arc<Self>, client: reqwest::Client, window: Arc<Semaphore>, outcomes: mpsc::Sender<Outcome>) {
        loop {
            let Ok(permit) = window.acquire().await else { return };
            permit.forget();
            let turn = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(turn) = turn else { return };
            let outcome = self.request(&client, turn).await;
            if outcomes.send(outcome).await.is_err() {
                return;
            }
        }
    }

    async fn request(&self, client: &reqwest::Client, Turn { n, flow: index, earlier }: Turn) -> Outcome {
        let flow = &self.plan.flows[index];
        let variants = &self.headers[index];
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of a length")]
        let headers = variants.get((earlier % variants.len().max(1) as u64) as usize).cloned().unwrap_or_default();
        let sent = self.start.elapsed();
        let mut outcome = Outcome {
            n,
            flow: index,
            sent_us: micros(sent),
            took_us: 0,
            status: None,
            version: None,
            pod: None,
            excerpt: None,
            failure: None,
        };
        let answer = async {
            let response = client.get(format!("{}{}", self.plan.base, flow.path)).headers(headers).send().await?;
            let status = response.status().as_u16();
            let header =
                |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
            let pod = self.plan.pod_header.as_deref().and_then(header);
            let version = match &self.plan.version {
                VersionSource::Header(name) => header(name),
                VersionSource::Body(_) => None,
            };
            let body = response.bytes().await?;
            Ok::<_, reqwest::Error>((status, pod, version, body))
        }
        .await;
        match answer {
            Ok((status, pod, version, body)) => {
                outcome.status = Some(status);
                outcome.pod = pod;
                outcome.version = version.or_else(|| {
                    let body = std::str::from_utf8(&body).ok()?;
                    Some(self.version.as_ref()?.captures(body)?.name("version")?.as_str().to_owned())
                });
                if outcome.version.is_none() {
                    outcome.excerpt = Some(excerpt(&body));
                }
            }
            Err(error) => outcome.failure = Some(failure(&error)),
        }
        outcome.took_us = micros(self.start.elapsed().saturating_sub(sent));
        outcome
    }
}

/// Whose turn it is: smooth weighted round robin, so that each flow is spread evenly over the whole.
struct Schedule {
    requests: Vec<i64>,
    credit: Vec<i64>,
    sent: Vec<u64>,
    next: u64,
}

/// One turn: the request's number, its flow, and how many of that flow's requests came earlier.
struct Turn {
    n: u64,
    flow: usize,
    earlier: u64,
}

impl Schedule {
    fn new(flows: &[Flow]) -> Self {
        let requests: Vec<i64> = flows.iter().map(|flow| i64::try_from(flow.requests).unwrap_or(i64::MAX)).collect();
        Self { credit: vec![0; requests.len()], sent: vec![0; requests.len()], requests, next: 0 }
    }

    fn total(&self) -> i64 {
        self.requests.iter().sum()
    }
}

impl Iterator for Schedule {
    type Item = Turn;

    fn next(&mut self) -> Option<Turn> {
        let total = self.total();
        if self.next >= total.unsigned_abs() {
            return None;
        }
        for (credit, requests) in self.credit.iter_mut().zip(&self.requests) {
            *credit += requests;
        }
        let flow = (0..self.credit.len()).max_by_key(|flow| (self.credit[*flow], std::cmp::Reverse(*flow)))?;
        self.credit[flow] -= total;
        let turn = Turn { n: self.next, flow, earlier: self.sent[flow] };
        self.sent[flow] += 1;
        self.next += 1;
        Some(turn)
    }
}

fn header_map(headers: &BTreeMap<String, String>, keep_alive: bool) -> Result<HeaderMap, DriveError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let invalid = || DriveError::Plan(format!("`{name}: {value}` is not a header"));
        map.append(
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?,
            HeaderValue::from_str(value).map_err(|_| invalid())?,
        );
    }
    if !keep_alive {
        map.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(map)
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT).collect();
    line.trim().to_owned()
}

fn failure(error: &reqwest::Error) -> Failure {
    let kind = if error.is_connect() {
        FailureKind::Connect
    } else if error.is_timeout() {
        FailureKind::Timeout
    } else {
        FailureKind::Broken
    };
    let mut root: &dyn std::error::Error = error;
    while let Some(source) = root.source() {
        root = source;
    }
    Failure { kind, message: root.to_string() }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_request_is_sent_once_and_flows_are_spread_evenly(requests in prop::collection::vec(0_u64..40, 1..5)) {
            let flows: Vec<Flow> = requests.iter().map(|requests| flow("/", *requests)).collect();
            let total: u64 = requests.iter().sum();
            let mut seen = vec![0_u64; requests.len()];
            for (n, turn) in (0..).zip(Schedule::new(&flows)) {
                prop_assert_eq!((turn.n, turn.earlier), (n, seen[turn.flow]));
                seen[turn.flow] += 1;
                for (index, requests) in requests.iter().enumerate() {
                    // never further from the even share than there are flows
                    let even = (n + 1) * requests;
                    prop_assert!((seen[index] * total).abs_diff(even) <= total * u64::try_from(flows.len()).unwrap());
                }
            }
            prop_assert_eq!(seen, requests);
        }
    }

    fn plan(port: u16, flows: Vec<Flow>) -> DrivePlan {
        DrivePlan {
            base: format!("http://127.0.0.1:{port}"),
            connections: 4,
            keep_alive: true,
            timeout_ms: 2000,
            version: VersionSource::Body("Hello server - (?<version>[^ ]+)".to_owned()),
            pod_header: Some("x-pod".to_owned()),
            flows,
        }
    }

    async fn outcomes(plan: DrivePlan) -> Vec<Outcome> {
        let mut output = Vec::new();
        drive(plan, &mut output).await.unwrap();
        output
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn flow(path: &str, requests: u64) -> Flow {
        Flow { path: path.to_owned(), requests, variants: vec![BTreeMap::new()] }
    }

    async fn free_port() -> u16 {
        tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn answers_come_in_the_order_of_sending_with_version_status_and_pod() {
        let port = free_port().await;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = tokio::spawn(super::super::serve(address, "v1".to_owned(), "pod-a".to_owned(), true));
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        let found = outcomes(plan(port, vec![flow("/", 30), flow("/error", 20)])).await;
        assert_eq!(found.iter().map(|outcome| outcome.n).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
        for outcome in &found {
            let status = if outcome.flow == 0 { 200 } else { 503 };
            assert_eq!(
                (outcome.status, outcome.version.as_deref(), outcome.pod.as_deref()),
                (Some(status), Some("v1"), Some("pod-a"))
            );
        }
        assert_eq!(found.iter().filter(|outcome| outcome.flow == 1).count(), 20);
        server.abort();
    }

    #[tokio::test]
    async fn a_refused_connection_is_no_status() {
        let found = outcomes(plan(free_port().await, vec![flow("/", 3)])).await;
        assert_eq!(found.len(), 3);
        for outcome in found {
            assert_eq!(outcome.status, None);
            assert_eq!(outcome.failure.unwrap().kind, FailureKind::Connect);
        }
    }
}
