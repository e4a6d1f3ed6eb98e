//! The traffic driver: runs plans and reports the result of every request.

mod cookies;
mod reflect;
mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::connection::{ClientRequest, Connection, ServerAddress, Tls};
use super::output::{Batcher, MessageSink};
use super::protocol::{
    DrivePlan, DriverCommand, DriverMessage, FailureKind, RequestFailure, RequestResult, ResultKind, VersionSource,
};
use super::response::{ResponseCache, ResponseReader};
use super::schedule::{Schedule, ScheduledRequest, interval};
use cookies::{CookieJar, with_cookie};
use reflect::reflect;
use requests::{Protocol, Target};

/// How far sending may run ahead of the oldest unanswered request: bounds the memory.
const WINDOW: usize = 4096;
/// The number of requests in flight above which the rate is limited to [`DrivePlan::busy_qps`].
const BUSY: usize = 64;
/// The maximum number of connections at the start, and of idle connections kept open in an open loop with a limit of requests in flight.
const MAX_CONNECTIONS: usize = 256;
/// The maximum number of requests that a connection of HTTP/2 carries at a time.
const MAX_STREAMS: usize = 256;
/// The maximum number of results received at once.
const MAX_BATCH: usize = 64;

/// Why the driver cannot run a plan.
#[derive(Debug, Error)]
pub enum DriveError {
    /// The plan is not valid.
    #[error("the plan is not valid: {0}")]
    Plan(String),
    /// The output is closed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// The running driver. The future and its sink are boxed so that all of the driver is compiled in this package, which is optimised in every
/// profile; generic code is compiled in the caller's package.
pub type DriverFuture = Pin<Box<dyn Future<Output = Result<(), DriveError>> + Send>>;

/// A result without the number of its kind.
type Answered = (RequestResult, Arc<ResultKind>);

/// Runs plans in sequence until the command channel is closed.
///
/// # Errors
/// A plan has an invalid header or regular expression, or the output is closed.
pub fn drive_all(commands: mpsc::Receiver<DriverCommand>, sink: impl MessageSink + Send + 'static) -> DriverFuture {
    drive_each(commands, Box::new(sink))
}

fn drive_each(mut commands: mpsc::Receiver<DriverCommand>, mut sink: Box<dyn MessageSink + Send>) -> DriverFuture {
    Box::pin(async move {
        while let Some(command) = commands.recv().await {
            match command {
                DriverCommand::Drive(plan) => drive(*plan, &mut commands, &mut *sink).await?,
                DriverCommand::Reflect(plan) => {
                    sink.send(DriverMessage::Reflected(reflect(&plan).await?))?;
                    sink.flush()?;
                }
                // for a plan that has ended
                DriverCommand::Stop { .. } | DriverCommand::Rate { .. } => {}
            }
        }
        Ok(())
    })
}

/// Runs a plan and reports its results until every flow is done or stopped.
async fn drive(
    plan: DrivePlan,
    commands: &mut mpsc::Receiver<DriverCommand>,
    sink: &mut (dyn MessageSink + Send),
) -> Result<(), DriveError> {
    run(LoadGenerator::new(plan)?, commands, sink).await
}

async fn run(
    mut generator: LoadGenerator,
    commands: &mut mpsc::Receiver<DriverCommand>,
    sink: &mut (dyn MessageSink + Send),
) -> Result<(), DriveError> {
    generator.server.resolve().await;
    generator.start = Instant::now();
    let generator = Arc::new(generator);
    let server = Arc::clone(&generator.server);
    let mut resolving = JoinSet::new();
    resolving.spawn(async move { server.refresh().await });
    let window = Arc::new(Semaphore::new(WINDOW));
    let mut results = generator.start(&window);
    let mut batcher = Batcher::new(sink, &generator.plan.flows);
    let in_order = generator.plan.in_flight.is_none();
    let mut early = BTreeMap::new();
    let mut next = 0;
    let mut listening = true;
    // received in batches, because a wake-up costs more than a result
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        let received = tokio::select! {
            received = results.recv_many(&mut batch, MAX_BATCH) => received,
            command = commands.recv(), if listening => {
                match command {
                    Some(command) => generator.obey(&command),
                    None => listening = false,
                }
                continue;
            }
            () = tokio::time::sleep(batcher.max_delay()), if batcher.has_buffered() => {
                batcher.flush()?;
                continue;
            }
        };
        if received == 0 {
            break;
        }
        if !in_order {
            for (result, kind) in batch.drain(..) {
                batcher.result(result, kind)?;
            }
            continue;
        }
        early.extend(batch.drain(..).map(|(result, kind): Answered| (result.n, (result, kind))));
        while let Some((result, kind)) = early.remove(&next) {
            batcher.result(result, kind)?;
            window.add_permits(1);
            next += 1;
        }
    }
    let took = generator.start.elapsed();
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(took);
    let end = DriverMessage::End {
        plan: generator.plan.id,
        took_us: micros(took),
        started_us: micros(started),
        goaways: generator.goaways.load(Ordering::Relaxed),
        cookies: generator.jars.iter().map(|jar| jar.as_ref().map_or(0, CookieJar::kept)).collect(),
    };
    batcher.send(end)?;
    Ok(batcher.flush()?)
}

/// Sends the requests of a plan.
struct LoadGenerator {
    plan: DrivePlan,
    schedule: Mutex<Schedule>,
    start: Instant,
    reader: ResponseReader,
    protocol: Protocol,
    server: Arc<ServerAddress>,
    /// The number of connections that the server has ended with GOAWAY.
    goaways: Arc<AtomicU64>,
    /// The connections of HTTP/2, by number.
    shared: Mutex<Vec<Connection>>,
    /// For each flow its requests, one per variant.
    requests: Vec<Vec<ClientRequest>>,
    /// For each flow, the cookies of its sessions, if it has any and its requests wait for them.
    jars: Vec<Option<CookieJar>>,
    /// The time from one due request to the next in a plan with a limit of requests in flight.
    interval: Mutex<Duration>,
}

impl LoadGenerator {
    fn new(plan: DrivePlan) -> Result<Self, DriveError> {
        let target = Target::new(&plan.base)?;
        let reader =
            ResponseReader::new(plan.version.clone(), plan.pod_header.clone(), target.protocol == Protocol::Grpc)
                .map_err(|error| DriveError::Plan(error.to_string()))?
                .with_fields(plan.flows.iter().map(|flow| flow.field.clone()));
        let requests = plan.flows.iter().map(|flow| target.requests(flow, &plan)).collect::<Result<_, _>>()?;
        let schedule = Mutex::new(Schedule::new(plan.flows.iter().map(|flow| flow.requests)));
        let tls = plan.tls.as_ref().map(|tls| Tls::new(tls, target.protocol.has_streams()));
        let tls = tls.transpose().map_err(DriveError::Plan)?;
        let server = Arc::new(ServerAddress::new(plan.connect.clone().unwrap_or(target.address)).with(tls));
        let interval = match plan.in_flight {
            Some(_) => plan.qps.and_then(interval).ok_or_else(|| {
                DriveError::Plan("a limit of requests in flight needs a positive rate of requests".to_owned())
            })?,
            None => Duration::ZERO,
        };
        // requests that are sent whatever is in flight cannot wait for a cookie
        let jar = |flow| CookieJar::new(flow).filter(|_| plan.in_flight.is_none());
        let jars = plan.flows.iter().map(jar).collect();
        Ok(Self {
            plan,
            jars,
            schedule,
            start: Instant::now(),
            reader,
            protocol: target.protocol,
            server,
            goaways: Arc::default(),
            shared: Mutex::default(),
            requests,
            interval: Mutex::new(interval),
        })
    }

    /// Starts to send. The channel of results is closed after the last result. `window` limits how far sending runs ahead.
    fn start(self: &Arc<Self>, window: &Arc<Semaphore>) -> mpsc::Receiver<Answered> {
        let (sender, results) = mpsc::channel(256);
        if let Some(in_flight) = self.plan.in_flight {
            tokio::spawn(Arc::clone(self).send_when_due(in_flight, sender));
        } else {
            for slot in 0..self.slots() {
                tokio::spawn(Arc::clone(self).send_in_turn(slot, Arc::clone(window), sender.clone()));
            }
        }
        results
    }

    /// The number of senders at the start: one for each request that a connection carries at a time.
    fn slots(&self) -> usize {
        self.plan.connections.clamp(1, MAX_CONNECTIONS) * self.streams()
    }

    /// The number of requests that a connection carries at a time.
    fn streams(&self) -> usize {
        if self.protocol.has_streams() { usize::from(self.plan.streams).clamp(1, MAX_STREAMS) } else { 1 }
    }

    /// The connection of a sender.
    fn connection(&self, slot: usize) -> NumberedConnection {
        let number = slot / self.streams();
        let timeout = Duration::from_millis(self.plan.timeout_ms);
        let (server, keep_alive) = (|| Arc::clone(&self.server), self.plan.keep_alive);
        let connection = match self.protocol {
            Protocol::Http1 => Connection::http1(server(), keep_alive, timeout),
            Protocol::Tcp => Connection::tcp(server(), timeout),
            Protocol::WebSocket => {
                let reads_message = matches!(self.plan.version, VersionSource::Body(_) | VersionSource::Json(_));
                Connection::websocket(server(), reads_message, timeout)
            }
            Protocol::Http2 | Protocol::Grpc => {
                let mut shared = lock(&self.shared);
                while shared.len() <= number {
                    shared.push(Connection::http2(server(), keep_alive, timeout, Arc::clone(&self.goaways)));
                }
                let stream = shared[number].stream();
                stream.unwrap_or_else(|| Connection::http1(server(), keep_alive, timeout))
            }
        };
        NumberedConnection { number, connection, cache: ResponseCache::default() }
    }

    fn interval(&self) -> Duration {
        *lock(&self.interval)
    }

    /// Carries out a command for this plan.
    fn obey(&self, command: &DriverCommand) {
        match command {
            DriverCommand::Stop { plan, flow } if *plan == self.plan.id => lock(&self.schedule).stop(*flow),
            DriverCommand::Rate { plan, qps } if *plan == self.plan.id => {
                if let Some(interval) = interval(*qps) {
                    *lock(&self.interval) = interval;
                }
            }
            _ => {}
        }
    }

    fn next_request(&self) -> Option<ScheduledRequest> {
        let over = self.start.elapsed() > Duration::from_millis(self.plan.limit_ms);
        if over { None } else { lock(&self.schedule).next() }
    }

    /// Sends one request at a time on one connection, until none is left.
    async fn send_in_turn(self: Arc<Self>, slot: usize, window: Arc<Semaphore>, results: mpsc::Sender<Answered>) {
        let mut connection = self.connection(slot);
        loop {
            let Ok(permit) = window.acquire().await else { return };
            permit.forget();
            let Some(next) = self.next_request() else { return };
            let due = self.wait_until_due(next.n).await;
            let answered = self.send(&mut connection, &next, due).await;
            if results.send(answered).await.is_err() {
                return;
            }
        }
    }

    /// Sends each request when it is due, on a connection that is idle or new, with a limit of requests in flight.
    async fn send_when_due(self: Arc<Self>, in_flight: usize, results: mpsc::Sender<Answered>) {
        let open = |slot| self.connection(slot);
        // a queue, so that all connections are used at any rate
        let idle: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new((0..self.slots()).map(open).collect()));
        let mut opened = self.slots();
        let slots = Arc::new(Semaphore::new(in_flight.min(Semaphore::MAX_PERMITS)));
        let spacing_when_busy = self.plan.busy_qps.and_then(interval).unwrap_or_else(|| self.interval());
        let mut due = Duration::ZERO;
        loop {
            tokio::time::sleep_until((self.start + due).into()).await;
            let Some(next) = self.next_request() else { return };
            if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                let connection = lock(&idle).pop_front().unwrap_or_else(|| {
                    opened += 1;
                    open(opened - 1)
                });
                let (generator, idle, results) = (Arc::clone(&self), Arc::clone(&idle), results.clone());
                tokio::spawn(async move {
                    let mut connection = connection;
                    let answered = generator.send(&mut connection, &next, Some(due)).await;
                    {
                        let mut idle = lock(&idle);
                        if idle.len() < MAX_CONNECTIONS.max(generator.slots()) {
                            idle.push_back(connection);
                        }
                    }
                    drop(slot);
                    // the receiver may be gone
                    let _ = results.send(answered).await;
                });
            } else if results.send(self.unsent(&next, due, in_flight)).await.is_err() {
                return;
            }
            let busy = in_flight.saturating_sub(slots.available_permits()) > BUSY;
            due += if busy { self.interval().max(spacing_when_busy) } else { self.interval() };
        }
    }

    /// The result of a request that was due while the maximum number of requests was in flight.
    fn unsent(&self, request: &ScheduledRequest, due: Duration, in_flight: usize) -> Answered {
        let late = self.start.elapsed().saturating_sub(due);
        let result = RequestResult {
            n: request.n,
            flow: request.flow,
            kind: 0,
            connection: 0,
            due_us: micros(due),
            late_us: micros(late),
            took_us: 0,
        };
        let message = format!("{in_flight} requests were in flight");
        (result, Arc::new(RequestFailure { kind: FailureKind::Unsent, message }.into()))
    }

    /// Sends a request and reads the response.
    async fn send(
        &self,
        connection: &mut NumberedConnection,
        request: &ScheduledRequest,
        due: Option<Duration>,
    ) -> Answered {
        let jar = self.jars[request.flow].as_ref();
        let cookie = match jar {
            Some(jar) => jar.turn(request.earlier).await,
            None => None,
        };
        let sent = self.start.elapsed();
        let due = due.unwrap_or(sent);
        let variants = &self.requests[request.flow];
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of a length")]
        let variant = &variants[(request.earlier % variants.len() as u64) as usize];
        let answered = match cookie {
            Some(cookie) => connection.connection.send(&with_cookie(variant, &cookie)).await,
            // a proxy that sets the cookie gives all requests of a connection the same one
            None if self.plan.flows[request.flow].cookie.is_some() => connection.connection.send_alone(variant).await,
            None => connection.connection.send(variant).await,
        };
        if let Some(jar) = jar {
            jar.answered(request.earlier, answered.as_ref().ok().map(|response| &response.headers));
        }
        let kind = match answered {
            Ok(response) => connection.cache.kind(&self.reader, request.flow, &response),
            Err(failure) => Arc::new(failure.into()),
        };
        let result = RequestResult {
            n: request.n,
            flow: request.flow,
            kind: 0,
            connection: connection.number,
            due_us: micros(due),
            late_us: micros(sent.saturating_sub(due)),
            took_us: micros(self.start.elapsed().saturating_sub(sent)),
        };
        (result, kind)
    }

    /// In an open loop, waits until a request is due and returns that time since the start.
    async fn wait_until_due(&self, n: u64) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
        let due = Duration::try_from_secs_f64(n as f64 / self.plan.qps?).ok()?;
        tokio::time::sleep_until((self.start + due).into()).await;
        Some(due)
    }
}

/// A connection with its number and the responses that it has received.
struct NumberedConnection {
    number: usize,
    connection: Connection,
    cache: ResponseCache,
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
