use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue};
use hyper::{Request, StatusCode};
use regex::Regex;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::connection::{Connection, Received, Target};

/// What the driver is told: a JSON line each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A sample is to be sent. One at a time.
    Drive(DrivePlan),
    /// A flow has been seen enough of: what is under way is waited for, nothing more is sent.
    Stop {
        /// The plan's id; an order for another plan comes too late and is passed over.
        plan: u64,
        /// The index of the flow.
        flow: usize,
    },
    /// From now on so many requests a second are due in a plan with a limit of requests in flight, or as many as at first while more
    /// than 64 requests are in flight: what cannot be served at a raised rate is not overloaded by it. Other plans keep their rate.
    Rate {
        /// The plan's id; an order for another plan is ignored.
        plan: u64,
        /// Requests a second of all flows together; ignored unless positive and finite.
        qps: f64,
    },
}

/// What the driver sends: several flows that take turns request by request, so that all see the same time window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrivePlan {
    /// Tells this plan from others.
    pub id: u64,
    /// `http://HOST:PORT`.
    pub base: String,
    /// Where to connect, `HOST:PORT`, if not to the base's.
    #[serde(default)]
    pub connect: Option<String>,
    /// The number of connections; each has one request in flight.
    pub connections: usize,
    /// Requests a second of all flows together: an open loop, in which a request is due whether or not earlier ones are answered.
    /// None is a closed loop: a connection sends its next request when it has its answer.
    pub qps: Option<f64>,
    /// The most requests in flight in an open loop that opens connections as it needs them. Every request is sent when it is due,
    /// whatever is in flight; a request that is due while so many are in flight is not sent and fails as [`FailureKind::Unsent`].
    /// Answers are told as they come, not in the order of sending. None: each connection has one request in flight, and a request
    /// waits for a free connection.
    #[serde(default)]
    pub in_flight: Option<usize>,
    /// Whether a connection carries more than one request.
    pub keep_alive: bool,
    /// The longest that one request may take, in milliseconds.
    pub timeout_ms: u64,
    /// When no more requests are sent, in milliseconds since the start.
    pub limit_ms: u64,
    /// How a response tells its version.
    pub version: VersionSource,
    /// The response header that names the pod.
    pub pod_header: Option<String>,
    /// The flows.
    pub flows: Vec<Flow>,
}

/// How a response tells its version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionSource {
    /// By the group `version` of a regular expression on the body.
    Body(String),
    /// By a header.
    Header(String),
    /// By the value at a JSON pointer in the body.
    Json(String),
}

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// The path.
    pub path: String,
    /// How many at the most.
    pub requests: u64,
    /// With how many answers a stop may come: until then lines wait longer for others.
    #[serde(default)]
    pub quiet: u64,
    /// Sets of headers; they take turns.
    pub variants: Vec<BTreeMap<String, String>>,
}

/// What the driver tells: a JSON line each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// A kind of answer is seen for the first time; the kinds are numbered from 0.
    Kind(Outcome),
    /// What came of one request, in the order of sending unless the plan limits the requests in flight.
    Response(Response),
    /// All that was sent is answered or given up.
    End {
        /// The plan's id.
        plan: u64,
        /// From the start to the last answer, in microseconds.
        took_us: u64,
    },
}

impl Told {
    /// Reads a line. A response is the array of its numbers, for it comes thousands of times a second.
    ///
    /// # Errors
    /// The line is none of a driver's.
    pub fn read(line: &str) -> Result<Self, serde_json::Error> {
        if line.starts_with('[') { serde_json::from_str(line).map(Self::Response) } else { serde_json::from_str(line) }
    }
}

/// One request's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Numbers", into = "Numbers")]
pub struct Response {
    /// The request's number, from 0, in the order of sending.
    pub n: u64,
    /// The index of its flow.
    pub flow: usize,
    /// The number of its kind of answer.
    pub kind: usize,
    /// The index of its connection.
    pub connection: usize,
    /// When it was due, in microseconds since the start: in a closed loop, when it was sent.
    pub due_us: u64,
    /// How much later it was sent, in microseconds.
    pub late_us: u64,
    /// How long the answer took since then, in microseconds.
    pub took_us: u64,
}

type Numbers = (u64, usize, usize, usize, u64, u64, u64);

impl From<Numbers> for Response {
    fn from((n, flow, kind, connection, due_us, late_us, took_us): Numbers) -> Self {
        Self { n, flow, kind, connection, due_us, late_us, took_us }
    }
}

impl From<Response> for Numbers {
    fn from(Response { n, flow, kind, connection, due_us, late_us, took_us }: Response) -> Self {
        (n, flow, kind, connection, due_us, late_us, took_us)
    }
}

/// What came of a request, without its numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outcome {
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
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Failure {
    /// Where it broke.
    pub kind: FailureKind,
    /// The reason.
    pub message: String,
}

/// Where a request without an answer broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureKind {
    /// No connection.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke off.
    Broken,
    /// It was due and not sent, since too many requests were in flight.
    Unsent,
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
/// With more requests in flight, a raised rate is not kept.
const BUSY: usize = 64;
/// The most connections that are kept open between requests that are sent when they are due. Those that a hang has opened beyond them
/// are closed after their request.
const MOST_IDLE: usize = 256;
/// The most answers that are taken together.
const BATCH: usize = 64;
/// How much of a body is kept where it tells no version.
const EXCERPT: usize = 120;
/// The most kinds of answers that are kept apart by what they say: bounds the memory.
const KINDS: usize = 1024;
/// The longest that a line waits for others, before they go out together. Each batch passes through six processes, whose
/// waking costs the cores more than what it carries.
const FLUSH: Duration = Duration::from_millis(50);
/// The same while no stop can come.
const QUIET_FLUSH: Duration = Duration::from_millis(250);

/// The driver at work. Boxed, and its output a trait object, so that all of it is compiled in this package: generic code
/// and futures would be compiled in the caller's, which is not optimised in a development build.
pub type Driving = Pin<Box<dyn Future<Output = Result<(), DriveError>> + Send>>;

/// Carries out orders, one plan after the other, until there are no more.
///
/// # Errors
/// A plan holds an invalid header or expression, or the output is closed.
#[must_use]
pub fn drive_all(orders: mpsc::Receiver<Order>, output: impl Tell + Send + 'static) -> Driving {
    drive_each(orders, Box::new(output))
}

fn drive_each(mut orders: mpsc::Receiver<Order>, mut output: Box<dyn Tell + Send>) -> Driving {
    Box::pin(async move {
        while let Some(order) = orders.recv().await {
            // a stop for a plan that has ended comes too late
            if let Order::Drive(plan) = order {
                drive(plan, &mut orders, &mut *output).await?;
            }
        }
        Ok(())
    })
}

/// Sends what the plan asks for and writes what came of it, in the order of sending, until every flow is at its end or stopped.
///
/// # Errors
/// The plan holds an invalid header or expression, or the output is closed.
async fn drive(
    plan: DrivePlan,
    orders: &mut mpsc::Receiver<Order>,
    output: &mut (dyn Tell + Send),
) -> Result<(), DriveError> {
    let driver = Arc::new(Driver::new(plan)?);
    let window = Arc::new(Semaphore::new(WINDOW));
    let (sender, mut answers) = mpsc::channel(256);
    let in_order = driver.plan.in_flight.is_none();
    if let Some(in_flight) = driver.plan.in_flight {
        tokio::spawn(Arc::clone(&driver).send_when_due(in_flight, sender));
    } else {
        for connection in 0..driver.connections() {
            tokio::spawn(Arc::clone(&driver).work(connection, Arc::clone(&window), sender.clone()));
        }
        drop(sender);
    }
    let mut teller = Teller::new(output);
    let mut answered = vec![0; driver.plan.flows.len()];
    let mut early = BTreeMap::new();
    let mut next = 0;
    let mut listening = true;
    // those that have come meanwhile are taken together: waiting anew for each costs more than the answer itself
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let taken = tokio::select! {
            taken = answers.recv_many(&mut batch, BATCH) => taken,
            order = orders.recv(), if listening => {
                match order {
                    Some(Order::Stop { plan, flow }) if plan == driver.plan.id => driver.stop(flow),
                    Some(Order::Rate { plan, qps }) if plan == driver.plan.id => driver.set_rate(qps),
                    Some(_) => {}
                    None => listening = false,
                }
                continue;
            }
            () = tokio::time::sleep(teller.patience), if teller.waits() => {
                teller.flush()?;
                continue;
            }
        };
        if taken == 0 {
            break;
        }
        if !in_order {
            for (response, outcome) in batch.drain(..) {
                answered[response.flow] += 1;
                teller.patience = driver.patience(&answered);
                teller.response(response, outcome)?;
            }
            continue;
        }
        early.extend(
            batch.drain(..).map(|(response, outcome): (Response, Arc<Outcome>)| (response.n, (response, outcome))),
        );
        while let Some((response, outcome)) = early.remove(&next) {
            answered[response.flow] += 1;
            teller.patience = driver.patience(&answered);
            teller.response(response, outcome)?;
            window.add_permits(1);
            next += 1;
        }
    }
    teller.tell(Told::End { plan: driver.plan.id, took_us: micros(driver.start.elapsed()) })?;
    teller.flush()
}

/// Where a driver tells what it has to tell; it may be kept until it is flushed.
pub trait Tell {
    /// Takes something.
    ///
    /// # Errors
    /// The output is closed.
    fn take(&mut self, told: Told) -> io::Result<()>;

    /// Passes everything on.
    ///
    /// # Errors
    /// The output is closed.
    fn flush(&mut self) -> io::Result<()>;

    /// Whether something is kept.
    fn keeps(&self) -> bool;
}

/// A JSON line each.
pub struct Lines<'a>(io::BufWriter<Box<dyn Write + Send + 'a>>);

impl<'a> Lines<'a> {
    /// Lines to that output.
    pub fn new(output: impl Write + Send + 'a) -> Self {
        Self(io::BufWriter::with_capacity(32 * 1024, Box::new(output)))
    }
}

impl std::fmt::Debug for Lines<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl Tell for Lines<'_> {
    fn take(&mut self, told: Told) -> io::Result<()> {
        match told {
            // an array of numbers: it comes thousands of times a second
            Told::Response(response) => serde_json::to_writer(&mut self.0, &response)?,
            other => serde_json::to_writer(&mut self.0, &other)?,
        }
        self.0.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn keeps(&self) -> bool {
        !self.0.buffer().is_empty()
    }
}

/// Tells several things at a time, but none much later than it came.
struct Teller<'a> {
    output: &'a mut (dyn Tell + Send),
    kinds: HashMap<Arc<Outcome>, usize>,
    flushed: Instant,
    patience: Duration,
}

impl<'a> Teller<'a> {
    fn new(output: &'a mut (dyn Tell + Send)) -> Self {
        Self { output, kinds: HashMap::new(), flushed: Instant::now(), patience: FLUSH }
    }

    fn response(&mut self, mut response: Response, outcome: Arc<Outcome>) -> Result<(), DriveError> {
        let known = self.kinds.get(&outcome).copied();
        let outcome = if known.is_some() || self.kinds.len() < KINDS { outcome } else { alike(&outcome) };
        response.kind = if let Some(kind) = known.or_else(|| self.kinds.get(&outcome).copied()) {
            kind
        } else {
            let kind = self.kinds.len();
            self.kinds.insert(Arc::clone(&outcome), kind);
            self.tell(Told::Kind((*outcome).clone()))?;
            // what has not been seen before may decide
            self.patience = Duration::ZERO;
            kind
        };
        self.tell(Told::Response(response))
    }

    fn tell(&mut self, told: Told) -> Result<(), DriveError> {
        self.output.take(told)?;
        if self.flushed.elapsed() > self.patience { self.flush() } else { Ok(()) }
    }

    fn waits(&self) -> bool {
        self.output.keeps()
    }

    fn flush(&mut self) -> Result<(), DriveError> {
        self.flushed = Instant::now();
        Ok(self.output.flush()?)
    }
}

/// The same outcome without what makes it one of too many. It tells no version then, which no claim accepts in silence.
fn alike(outcome: &Outcome) -> Arc<Outcome> {
    const MANY: &str = "(one of many different answers)";
    Arc::new(Outcome {
        status: outcome.status,
        excerpt: outcome.status.map(|_| MANY.to_owned()),
        failure: outcome.failure.as_ref().map(|failure| Failure { kind: failure.kind, message: MANY.to_owned() }),
        ..Outcome::default()
    })
}

struct Driver {
    plan: DrivePlan,
    schedule: Mutex<Schedule>,
    start: Instant,
    version: Option<Regex>,
    target: Arc<Target>,
    /// For each flow its requests, which take turns.
    requests: Vec<Vec<Request<Empty<Bytes>>>>,
    /// From one due request to the next, where requests in flight are limited.
    spacing: Mutex<Duration>,
}

impl Driver {
    fn new(plan: DrivePlan) -> Result<Self, DriveError> {
        let version = match &plan.version {
            VersionSource::Body(pattern) => {
                Some(Regex::new(pattern).map_err(|error| DriveError::Plan(error.to_string()))?)
            }
            VersionSource::Header(_) | VersionSource::Json(_) => None,
        };
        let address = plan.base.strip_prefix("http://").map(|rest| rest.trim_end_matches('/').to_owned());
        let address = address.ok_or_else(|| DriveError::Plan(format!("`{}` is not http://HOST:PORT", plan.base)))?;
        let one =
            |flow: &Flow, headers: &BTreeMap<String, String>| request(&address, &flow.path, headers, plan.keep_alive);
        let requests = plan
            .flows
            .iter()
            .map(|flow| match flow.variants.as_slice() {
                [] => Ok(vec![one(flow, &BTreeMap::new())?]),
                variants => variants.iter().map(|headers| one(flow, headers)).collect(),
            })
            .collect::<Result<_, _>>()?;
        let schedule = Mutex::new(Schedule::new(plan.flows.iter().map(|flow| flow.requests)));
        let target = Arc::new(Target::new(plan.connect.clone().unwrap_or(address)));
        let spacing = match plan.in_flight {
            Some(_) => plan.qps.and_then(spacing).ok_or_else(|| {
                DriveError::Plan("a limit of requests in flight needs a positive rate of requests".to_owned())
            })?,
            None => Duration::ZERO,
        };
        Ok(Self { plan, schedule, start: Instant::now(), version, target, requests, spacing: Mutex::new(spacing) })
    }

    /// How many connections there are at first.
    fn connections(&self) -> usize {
        self.plan.connections.clamp(1, 256)
    }

    fn spacing(&self) -> Duration {
        *self.spacing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_rate(&self, qps: f64) {
        if let Some(spacing) = spacing(qps) {
            *self.spacing.lock().unwrap_or_else(PoisonError::into_inner) = spacing;
        }
    }

    fn stop(&self, flow: usize) {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner).stop(flow);
    }

    /// How long lines may wait for others, with so many answers told of each flow.
    fn patience(&self, answered: &[u64]) -> Duration {
        let mut flows = self.plan.flows.iter().zip(answered);
        let stop_may_come = flows.any(|(flow, answered)| flow.quiet <= *answered && *answered < flow.requests);
        if stop_may_come { FLUSH } else { QUIET_FLUSH }
    }

    fn turn(&self) -> Option<Turn> {
        let over = self.start.elapsed() > Duration::from_millis(self.plan.limit_ms);
        if over { None } else { self.schedule.lock().unwrap_or_else(PoisonError::into_inner).next() }
    }

    async fn work(
        self: Arc<Self>,
        connection: usize,
        window: Arc<Semaphore>,
        answers: mpsc::Sender<(Response, Arc<Outcome>)>,
    ) {
        let timeout = Duration::from_millis(self.plan.timeout_ms);
        let mut line = Line::new(connection, &self, timeout);
        loop {
            let Ok(permit) = window.acquire().await else { return };
            permit.forget();
            let Some(turn) = self.turn() else { return };
            let due = self.due(turn.n).await;
            let answered = self.answer(&mut line, &turn, due).await;
            if answers.send(answered).await.is_err() {
                return;
            }
        }
    }

    /// Sends each request when it is due, on a connection that is free or new, with at most so many in flight.
    async fn send_when_due(self: Arc<Self>, in_flight: usize, answers: mpsc::Sender<(Response, Arc<Outcome>)>) {
        let timeout = Duration::from_millis(self.plan.timeout_ms);
        let line = |number| Line::new(number, &self, timeout);
        // connections take turns, so that all of them are used at any rate
        let idle: Arc<Mutex<VecDeque<Line>>> = Arc::new(Mutex::new((0..self.connections()).map(line).collect()));
        let mut opened = self.connections();
        let target = Arc::clone(&self.target);
        let mut resolving = JoinSet::new();
        resolving.spawn(async move { target.refresh().await });
        let places = Arc::new(Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)));
        let first = self.spacing();
        let spacing = |places: &Semaphore| {
            let busy = in_flight.saturating_sub(places.available_permits()) > BUSY;
            if busy { self.spacing().max(first) } else { self.spacing() }
        };
        let mut due = Duration::ZERO;
        loop {
            tokio::time::sleep_until((self.start + due).into()).await;
            let Some(turn) = self.turn() else { return };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                if answers.send(self.unsent(&turn, due, in_flight)).await.is_err() {
                    return;
                }
                due += spacing(&places);
                continue;
            };
            let free = idle.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let mut line = free.unwrap_or_else(|| {
                opened += 1;
                Line::new(opened - 1, &self, timeout)
            });
            let (driver, idle, answers) = (Arc::clone(&self), Arc::clone(&idle), answers.clone());
            tokio::spawn(async move {
                let answered = driver.answer(&mut line, &turn, Some(due)).await;
                {
                    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                    if idle.len() < MOST_IDLE {
                        idle.push_back(line);
                    }
                }
                drop(place);
                // who reads the answers may have gone away
                let _ = answers.send(answered).await;
            });
            due += spacing(&places);
        }
    }

    /// A request that was due while as many as allowed were in flight.
    fn unsent(&self, turn: &Turn, due: Duration, in_flight: usize) -> (Response, Arc<Outcome>) {
        let late = self.start.elapsed().saturating_sub(due);
        let response = Response {
            n: turn.n,
            flow: turn.flow,
            kind: 0,
            connection: 0,
            due_us: micros(due),
            late_us: micros(late),
            took_us: 0,
        };
        let failure = Failure { kind: FailureKind::Unsent, message: format!("{in_flight} requests were in flight") };
        (response, Arc::new(Outcome { failure: Some(failure), ..Outcome::default() }))
    }

    /// Sends the request of a turn and reads its answer.
    async fn answer(&self, line: &mut Line, turn: &Turn, due: Option<Duration>) -> (Response, Arc<Outcome>) {
        let sent = self.start.elapsed();
        let due = due.unwrap_or(sent);
        let outcome = self.request(&mut line.connection, &mut line.memory, turn).await;
        let response = Response {
            n: turn.n,
            flow: turn.flow,
            kind: 0,
            connection: line.number,
            due_us: micros(due),
            late_us: micros(sent.saturating_sub(due)),
            took_us: micros(self.start.elapsed().saturating_sub(sent)),
        };
        (response, outcome)
    }

    /// In an open loop, waits until the request is due and says when that was.
    async fn due(&self, n: u64) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
        let due = Duration::try_from_secs_f64(n as f64 / self.plan.qps?).ok()?;
        tokio::time::sleep_until((self.start + due).into()).await;
        Some(due)
    }

    async fn request(&self, line: &mut Connection, memory: &mut Memory, turn: &Turn) -> Arc<Outcome> {
        let variants = &self.requests[turn.flow];
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of a length")]
        let request = &variants[(turn.earlier % variants.len() as u64) as usize];
        match line.send(request.clone()).await {
            Ok(received) => memory.outcome(self, &received),
            Err(failure) => Arc::new(Outcome { failure: Some(failure), ..Outcome::default() }),
        }
    }

    /// The headers that an answer is told by.
    fn telling<'a>(&'a self, received: &'a Received) -> [Option<&'a HeaderValue>; 2] {
        let version = match &self.plan.version {
            VersionSource::Header(name) => Some(name.as_str()),
            VersionSource::Json(_) | VersionSource::Body(_) => None,
        };
        [version, self.plan.pod_header.as_deref()].map(|name| received.headers.get(name?))
    }

    fn read(&self, received: &Received) -> Outcome {
        let text = |value: Option<&HeaderValue>| value.and_then(|value| value.to_str().ok()).map(ToOwned::to_owned);
        let [version, pod] = self.telling(received);
        let version = match &self.plan.version {
            VersionSource::Header(_) => text(version),
            VersionSource::Json(pointer) => json_version(&received.body, pointer),
            VersionSource::Body(_) => {
                let body = std::str::from_utf8(&received.body).ok();
                let found = self.version.as_ref().zip(body).and_then(|(version, body)| version.captures(body));
                found.and_then(|found| Some(found.name("version")?.as_str().to_owned()))
            }
        };
        let excerpt = version.is_none().then(|| excerpt(&received.body));
        Outcome { status: Some(received.status.as_u16()), version, pod: text(pod), excerpt, failure: None }
    }
}

/// A connection, its number and what it has read.
struct Line {
    number: usize,
    connection: Connection,
    memory: Memory,
}

impl Line {
    fn new(number: usize, driver: &Driver, timeout: Duration) -> Self {
        let connection = Connection::new(Arc::clone(&driver.target), driver.plan.keep_alive, timeout);
        Self { number, connection, memory: Memory::default() }
    }
}

/// From one request to the next at a rate.
fn spacing(qps: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(1.0 / qps).ok().filter(|spacing| !spacing.is_zero())
}

/// The answers that a connection has read first: a few come again and again, and what they tell need not be looked for anew.
#[derive(Default)]
struct Memory(Vec<Remembered>);

struct Remembered {
    status: StatusCode,
    headers: [Option<HeaderValue>; 2],
    body: Vec<u8>,
    outcome: Arc<Outcome>,
}

impl Memory {
    /// How many answers are remembered at the most, and how long their bodies may be.
    const MOST: usize = 8;
    const LONGEST: usize = 1024;

    fn outcome(&mut self, driver: &Driver, received: &Received) -> Arc<Outcome> {
        let headers = driver.telling(received);
        let same = |own: &&Remembered| {
            own.status == received.status
                && own.body == received.body
                && own.headers.iter().zip(headers).all(|(own, header)| own.as_ref() == header)
        };
        if let Some(known) = self.0.iter().find(same) {
            return Arc::clone(&known.outcome);
        }
        let outcome = Arc::new(driver.read(received));
        if self.0.len() < Self::MOST && received.body.len() <= Self::LONGEST {
            self.0.push(Remembered {
                status: received.status,
                headers: headers.map(Option::<&HeaderValue>::cloned),
                body: received.body.to_vec(),
                outcome: Arc::clone(&outcome),
            });
        }
        outcome
    }
}

/// Whose turn it is: the flows take turns, and one that is at its end or stopped is passed over.
struct Schedule {
    left: Vec<u64>,
    sent: Vec<u64>,
    last: usize,
    next: u64,
}

/// One turn: the request's number, its flow, and how many of that flow's requests came earlier.
struct Turn {
    n: u64,
    flow: usize,
    earlier: u64,
}

impl Schedule {
    fn new(requests: impl Iterator<Item = u64>) -> Self {
        let left: Vec<u64> = requests.collect();
        Self { sent: vec![0; left.len()], last: left.len().saturating_sub(1), left, next: 0 }
    }

    fn stop(&mut self, flow: usize) {
        if let Some(left) = self.left.get_mut(flow) {
            *left = 0;
        }
    }
}

impl Iterator for Schedule {
    type Item = Turn;

    fn next(&mut self) -> Option<Turn> {
        let flows = self.left.len();
        let flow = (1..=flows).map(|step| (self.last + step) % flows).find(|flow| self.left[*flow] > 0)?;
        let turn = Turn { n: self.next, flow, earlier: self.sent[flow] };
        self.last = flow;
        self.left[flow] -= 1;
        self.sent[flow] += 1;
        self.next += 1;
        Some(turn)
    }
}

fn request(
    address: &str,
    path: &str,
    headers: &BTreeMap<String, String>,
    keep_alive: bool,
) -> Result<Request<Empty<Bytes>>, DriveError> {
    let invalid = |what: &str| DriveError::Plan(format!("`{what}` cannot be sent"));
    let mut request = Request::builder().uri(path).body(Empty::new()).map_err(|_| invalid(path))?;
    let map = request.headers_mut();
    // as other clients do, which leave out the port that goes without saying
    let host = address.strip_suffix(":80").unwrap_or(address);
    map.insert(HOST, HeaderValue::from_str(host).map_err(|_| invalid(host))?);
    map.insert(ACCEPT, HeaderValue::from_static("*/*"));
    if !keep_alive {
        map.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    for (name, value) in headers {
        let invalid = || invalid(&format!("{name}: {value}"));
        // a header of the scenario takes the place of one of ours
        map.insert(
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?,
            HeaderValue::from_str(value).map_err(|_| invalid())?,
        );
    }
    Ok(request)
}

/// A text at a JSON pointer as it is, a number as it is written; nothing else tells a version.
fn json_version(body: &[u8], pointer: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    match body.pointer(pointer)? {
        serde_json::Value::String(text) => Some(text.clone()),
        number @ serde_json::Value::Number(_) => Some(number.to_string()),
        _ => None,
    }
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT).collect();
    line.trim().to_owned()
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
        fn every_request_is_sent_once_and_flows_take_turns(requests in prop::collection::vec(0_u64..40, 1..5)) {
            let mut seen = vec![0_u64; requests.len()];
            for (n, turn) in (0..).zip(Schedule::new(requests.iter().copied())) {
                prop_assert_eq!((turn.n, turn.earlier), (n, seen[turn.flow]));
                seen[turn.flow] += 1;
                // while none is at its end, none is ahead of another by more than one
                let open = seen.iter().zip(&requests).filter(|(seen, requests)| seen < requests).map(|(seen, _)| *seen);
                let (least, most) = (open.clone().min().unwrap_or(0), open.max().unwrap_or(0));
                prop_assert!(most - least <= 1);
            }
            prop_assert_eq!(seen, requests);
        }

        #[test]
        fn a_stopped_flow_sends_no_more_and_the_others_all(stop in 0_u64..30) {
            let mut schedule = Schedule::new([20, 20].into_iter());
            let mut seen = [0_u64; 2];
            let mut turns = 0;
            while let Some(turn) = schedule.next() {
                seen[turn.flow] += 1;
                turns += 1;
                if turns == stop {
                    schedule.stop(0);
                }
            }
            prop_assert_eq!(seen, [if stop == 0 { 20 } else { stop.div_ceil(2).min(20) }, 20]);
        }
    }

    fn plan(port: u16, flows: Vec<Flow>) -> DrivePlan {
        DrivePlan {
            id: 7,
            base: format!("http://127.0.0.1:{port}"),
            connect: None,
            connections: 4,
            qps: None,
            in_flight: None,
            keep_alive: true,
            timeout_ms: 2000,
            limit_ms: 20_000,
            version: VersionSource::Body("Hello server - (?<version>[^ ]+)".to_owned()),
            pod_header: Some("x-pod".to_owned()),
            flows,
        }
    }

    /// Output that a test reads while it is written; `seen` is called with each line.
    struct Reader<F: FnMut(&Told)> {
        rest: Vec<u8>,
        told: Vec<Told>,
        seen: F,
    }

    impl<F: FnMut(&Told)> Write for Reader<F> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            for byte in bytes {
                if *byte == b'\n' {
                    let told = Told::read(std::str::from_utf8(&self.rest).unwrap()).unwrap();
                    (self.seen)(&told);
                    self.told.push(told);
                    self.rest.clear();
                } else {
                    self.rest.push(*byte);
                }
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Everything that a plan gives: each response with its outcome. `stop` may order a stop when it sees one.
    async fn answers(
        plan: DrivePlan,
        stop: impl Fn(&Response) -> Option<Order> + Send + Sync,
    ) -> Vec<(Response, Outcome)> {
        let (sender, mut orders) = mpsc::channel(16);
        let id = plan.id;
        let seen = |told: &Told| {
            if let Told::Response(response) = told
                && let Some(order) = stop(response)
            {
                sender.try_send(order).unwrap();
            }
        };
        let mut lines = Reader { rest: Vec::new(), told: Vec::new(), seen };
        drive(plan, &mut orders, &mut Lines::new(&mut lines)).await.unwrap();
        let mut kinds = Vec::new();
        let mut answers = Vec::new();
        let told = lines.told;
        assert_matches::assert_matches!(told.last(), Some(Told::End { plan, .. }) if *plan == id);
        for told in told {
            match told {
                Told::Kind(outcome) => kinds.push(outcome),
                Told::Response(response) => answers.push((response, kinds[response.kind].clone())),
                Told::End { .. } => {}
            }
        }
        answers
    }

    fn flow(path: &str, requests: u64) -> Flow {
        Flow { path: path.to_owned(), requests, quiet: 0, variants: vec![BTreeMap::new()] }
    }

    async fn free_port() -> u16 {
        tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
    }

    /// A demo server of v1 on a port of its own.
    async fn server() -> (u16, tokio::task::JoinHandle<()>) {
        let port = free_port().await;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = tokio::spawn(async move {
            super::super::serve(address, "v1".to_owned(), "pod-a".to_owned(), true).await.unwrap();
        });
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        (port, server)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn answers_come_in_the_order_of_sending_with_version_status_and_pod() {
        let (port, server) = server().await;
        let found = answers(plan(port, vec![flow("/", 30), flow("/error", 20)]), |_| None).await;
        assert_eq!(found.iter().map(|(response, _)| response.n).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
        for (response, outcome) in &found {
            let status = if response.flow == 0 { 200 } else { 503 };
            assert_eq!(
                (outcome.status, outcome.version.as_deref(), outcome.pod.as_deref()),
                (Some(status), Some("v1"), Some("pod-a"))
            );
            assert_eq!(response.late_us, 0);
        }
        assert_eq!(found.iter().filter(|(response, _)| response.flow == 1).count(), 20);
        server.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stopped_flow_is_drained_and_the_others_go_on() {
        let (port, server) = server().await;
        let plan = plan(port, vec![flow("/", 100_000), flow("/error", 300)]);
        let id = plan.id;
        let stop = |response: &Response| (response.n == 100).then_some(Order::Stop { plan: id, flow: 0 });
        let found = answers(plan, stop).await;
        let first = found.iter().filter(|(response, _)| response.flow == 0).count();
        assert!((50..20_000).contains(&first), "{first}");
        assert_eq!(found.len() - first, 300);
        server.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_stop_for_another_plan_is_passed_over() {
        let (port, server) = server().await;
        let stop = |response: &Response| (response.n == 5).then_some(Order::Stop { plan: 6, flow: 0 });
        assert_eq!(answers(plan(port, vec![flow("/", 400)]), stop).await.len(), 400);
        server.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_open_loop_sends_when_requests_are_due_and_counts_the_wait() {
        let (port, server) = server().await;
        let start = Instant::now();
        let found = answers(DrivePlan { qps: Some(400.0), ..plan(port, vec![flow("/", 100)]) }, |_| None).await;
        assert!(start.elapsed() >= Duration::from_micros(99 * 2500), "{:?}", start.elapsed());
        for (response, _) in &found {
            assert_eq!(response.due_us, response.n * 2500);
        }
        // a rate that cannot be kept up: the later the request, the longer it has waited
        let fast = DrivePlan { qps: Some(1e6), connections: 1, ..plan(port, vec![flow("/", 200)]) };
        let found = answers(fast, |_| None).await;
        assert!(found[199].0.late_us > found[20].0.late_us && found[199].0.late_us > 1000);
        server.abort();
    }

    /// A server that keeps every request that comes between two times since its first one, and answers it after them; others at once.
    async fn hanging(from: Duration, to: Duration) -> (u16, tokio::task::JoinHandle<()>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // the time of the first request
        let start = Arc::new(std::sync::OnceLock::new());
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let start = Arc::clone(&start);
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    while let Ok(1..) = stream.read(&mut request).await {
                        let start: Instant = *start.get_or_init(Instant::now);
                        if start.elapsed() > from {
                            tokio::time::sleep_until((start + to).into()).await;
                        }
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\nHello server - v1";
                        if stream.write_all(answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (port, server)
    }

    /// How many of these requests were due in `[from, to)` milliseconds, and how many of them failed.
    fn due_within(found: &[(Response, Outcome)], from: u64, to: u64) -> (usize, usize) {
        let due = found.iter().filter(|(own, _)| (from * 1000..to * 1000).contains(&own.due_us));
        (due.clone().count(), due.filter(|(_, own)| own.failure.is_some()).count())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hang_does_not_thin_out_an_open_loop_with_requests_in_flight() {
        let (port, server) = hanging(Duration::from_secs(1), Duration::from_secs(3)).await;
        let watch =
            DrivePlan { qps: Some(200.0), in_flight: Some(400), timeout_ms: 500, ..plan(port, vec![flow("/", 800)]) };
        // with one request in flight on each connection, few of the hang's requests are sent in it
        let (port, other) = hanging(Duration::from_secs(1), Duration::from_secs(3)).await;
        let few = DrivePlan { in_flight: None, base: format!("http://127.0.0.1:{port}"), ..watch.clone() };
        let (found, few) = tokio::join!(answers(watch, |_| None), answers(few, |_| None));
        other.abort();
        let failed = few.iter().filter(|(_, own)| own.failure.is_some()).count();
        assert!(failed < 40, "{failed}");
        // by when they were due, as many in the hang as around it
        let (hang, failed) = due_within(&found, 1000, 3000);
        let (calm, _) = due_within(&found, 0, 1000);
        let (after, _) = due_within(&found, 3000, 4000);
        assert_eq!((hang, calm, after), (400, 200, 200));
        // they were sent in the hang, and those that had to wait for longer than their time-out failed: 300, as a busy machine allows
        let sent = found.iter().filter(|(own, _)| (1_000_000..3_000_000).contains(&(own.due_us + own.late_us))).count();
        assert!(sent > 200, "{sent}");
        assert!((150..=350).contains(&failed), "{failed}");
        server.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_beyond_those_in_flight_fails_and_is_counted() {
        let (port, server) = hanging(Duration::ZERO, Duration::from_secs(60)).await;
        let watch = DrivePlan {
            qps: Some(200.0),
            in_flight: Some(20),
            timeout_ms: 4000,
            limit_ms: 20_000,
            ..plan(port, vec![flow("/", 100)])
        };
        let found = answers(watch, |_| None).await;
        let of = |kind: FailureKind| {
            found.iter().filter(|(_, own)| own.failure.as_ref().is_some_and(|failure| failure.kind == kind)).count()
        };
        assert_eq!((of(FailureKind::Timeout), of(FailureKind::Unsent), found.len()), (20, 80, 100));
        // what was not sent is told before the time-outs of those before it
        assert_eq!(found[0].1.failure.as_ref().unwrap().kind, FailureKind::Unsent);
        server.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_rate_can_be_raised_and_a_flow_stopped_while_requests_are_in_flight() {
        let (port, server) = server().await;
        let watch = DrivePlan {
            qps: Some(50.0),
            in_flight: Some(100),
            limit_ms: 20_000,
            ..plan(port, vec![flow("/", 10_000)])
        };
        let id = watch.id;
        let found = answers(watch, |own| match own.n {
            10 => Some(Order::Rate { plan: id, qps: 1000.0 }),
            500 => Some(Order::Stop { plan: id, flow: 0 }),
            _ => None,
        })
        .await;
        assert!((500..2000).contains(&found.len()), "{}", found.len());
        let due = |n: u64| found.iter().find(|(own, _)| own.n == n).unwrap().0.due_us;
        assert_eq!(due(10), 200_000);
        assert!((11..500).any(|n| due(n + 1) - due(n) == 1000));
        let used: std::collections::BTreeSet<usize> = found.iter().map(|(own, _)| own.connection).collect();
        assert!(used.len() >= 4, "{used:?}");
        server.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_raised_rate_falls_back_while_nothing_is_answered() {
        let (port, server) = hanging(Duration::from_millis(300), Duration::from_secs(60)).await;
        let watch = DrivePlan {
            qps: Some(50.0),
            in_flight: Some(5000),
            timeout_ms: 3000,
            limit_ms: 2500,
            ..plan(port, vec![flow("/", 10_000)])
        };
        let id = watch.id;
        let raise = |own: &Response| (own.n == 3).then_some(Order::Rate { plan: id, qps: 1000.0 });
        let found = answers(watch, raise).await;
        // a raised rate of 1000 a second would have sent some 2300
        let hung = found.iter().filter(|(_, own)| own.failure.is_some()).count();
        assert!((60..BUSY + 400).contains(&hung), "{hung}");
        server.abort();
    }

    #[tokio::test]
    async fn requests_in_flight_are_limited_at_a_rate_alone() {
        let (_sender, mut orders) = mpsc::channel(1);
        let watch = DrivePlan { in_flight: Some(100), ..plan(1, vec![flow("/", 1)]) };
        let error = drive(watch, &mut orders, &mut Lines::new(io::sink())).await.unwrap_err();
        assert!(error.to_string().contains("needs a positive rate"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_sent_past_the_limit_of_time() {
        let (port, server) = server().await;
        let slow = DrivePlan { qps: Some(100.0), limit_ms: 200, ..plan(port, vec![flow("/", 1000)]) };
        let sent = answers(slow, |_| None).await.len();
        assert!((10..=30).contains(&sent), "{sent}");
        server.abort();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_keep_alive_every_request_has_a_connection_of_its_own() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let server = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    while let Ok(1..) = stream.read(&mut request).await {
                        stream
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\nHello server - v1")
                            .await
                            .unwrap();
                    }
                });
            }
        });
        for (keep_alive, connections) in [(true, 4), (false, 40)] {
            accepted.store(0, std::sync::atomic::Ordering::Relaxed);
            let found = answers(DrivePlan { keep_alive, ..plan(port, vec![flow("/", 40)]) }, |_| None).await;
            assert_eq!(found.len(), 40);
            assert_eq!(accepted.load(std::sync::atomic::Ordering::Relaxed), connections, "keep-alive {keep_alive}");
        }
        server.abort();
    }

    #[tokio::test]
    async fn a_refused_connection_is_no_status() {
        let found = answers(plan(free_port().await, vec![flow("/", 3)]), |_| None).await;
        assert_eq!(found.len(), 3);
        for (_, outcome) in found {
            assert_eq!(outcome.status, None);
            assert_eq!(outcome.failure.unwrap().kind, FailureKind::Connect);
        }
    }

    #[test]
    fn answers_are_remembered_by_everything_that_tells_them_apart() {
        let driver = Driver::new(plan(1, vec![flow("/", 1)])).unwrap();
        let mut memory = Memory::default();
        let mut read = |status: u16, pod: &str, body: &str| {
            let headers = [(HeaderName::from_static("x-pod"), HeaderValue::from_str(pod).unwrap())];
            let received = Received {
                status: StatusCode::from_u16(status).unwrap(),
                headers: headers.into_iter().collect(),
                body: Bytes::copy_from_slice(body.as_bytes()),
            };
            let outcome = memory.outcome(&driver, &received);
            (outcome.status, outcome.pod.clone(), outcome.version.clone())
        };
        // each twice, and more than are remembered
        for n in (0..20).chain(0..20) {
            let (pod, version) = (format!("pod-{}", n % 5), format!("v{}", n % 2));
            let status = if n % 3 == 0 { 503 } else { 200 };
            let seen = read(status, &pod, &format!("Hello server - {version} (uri=/{})", n % 7));
            assert_eq!(seen, (Some(status), Some(pod), Some(version)));
        }
        assert_eq!(memory.0.len(), Memory::MOST);
    }

    #[test]
    fn the_number_of_kinds_is_bounded() {
        let mut sink = Lines::new(io::sink());
        let mut teller = Teller::new(&mut sink);
        for n in 0..100_000 {
            let response = Response { n, flow: 0, kind: 0, connection: 0, due_us: 0, late_us: 0, took_us: 0 };
            let outcome = Outcome { status: Some(200), excerpt: Some(n.to_string()), ..Outcome::default() };
            teller.response(response, Arc::new(outcome)).unwrap();
        }
        assert_eq!(teller.kinds.len(), KINDS + 1);
    }

    #[test]
    fn a_response_is_a_line_of_numbers() {
        let response = Response { n: 12, flow: 1, kind: 3, connection: 7, due_us: 5000, late_us: 20, took_us: 900 };
        assert_eq!(serde_json::to_string(&response).unwrap(), "[12,1,3,7,5000,20,900]");
        assert_eq!(Told::read("[12,1,3,7,5000,20,900]").unwrap(), Told::Response(response));
        let told = Told::Kind(Outcome { status: Some(200), version: Some("v1".to_owned()), ..Outcome::default() });
        assert_eq!(Told::read(r#"{"kind":{"status":200,"version":"v1"}}"#).unwrap(), told);
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
