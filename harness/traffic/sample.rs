use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use thiserror::Error;
use tokio::sync::mpsc;

use crate::cluster::{ClusterError, Session};
use crate::events::Latency;
use crate::scenario::{DRIVER, Scenario, VersionRule};
use crate::verdict::Answer;
use crate::workload::{DrivePlan, FailureKind, Flow, Order, Outcome, Response, Tell, Told, VersionSource, drive_all};

/// The longest latency that is told apart from longer ones, in microseconds.
const LONGEST: u64 = 120_000_000;

/// How the driver sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriverOptions {
    /// The number of connections; each has one request in flight.
    pub connections: usize,
    /// Requests a second of all populations together, in an open loop; none is a closed loop.
    pub qps: Option<f64>,
    /// Whether a connection carries more than one request.
    pub keep_alive: bool,
    /// The longest that one request may take.
    pub timeout: Duration,
    /// The longest that a sample may take, beside the time that its rate asks for.
    pub limit: Duration,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self {
            connections: 8,
            qps: None,
            keep_alive: true,
            timeout: Duration::from_secs(10),
            limit: Duration::from_secs(120),
        }
    }
}

/// Requests of one population that a sample may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// The population.
    pub from: &'a str,
    /// The path that it asks for.
    pub path: &'a str,
    /// How many requests at the most.
    pub requests: u64,
    /// With how many answers a stop may come. Until then the driver tells them in larger batches, which costs the mesh less.
    pub least: u64,
}

/// An answer, as it is told in the order of sending.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The index of what was wanted.
    pub flow: usize,
    /// The answer.
    pub answer: &'a Answer,
    /// The pod that it came from, where the service tells it.
    pub pod: Option<&'a str>,
    /// The index of its connection.
    pub connection: usize,
    /// When its request was due, since the start of the sample, by the driver's clock: in a closed loop, when it was sent.
    pub due: Duration,
    /// When its request was sent.
    pub sent: Duration,
    /// When the answer came, or the request was given up.
    pub at: Duration,
    /// When the driver's clock started, by the clock of this process.
    pub start: DriverStart,
}

/// Bounds on the start of the driver's clock, by the clock of this process: the driver may run elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverStart {
    /// Not before: the plan was sent then.
    pub earliest: Instant,
    /// Not after, since an answer cannot be read before it came.
    pub latest: Instant,
}

impl DriverStart {
    /// The earliest and the latest time, by the driver's clock, of something that happened in this process.
    #[must_use]
    pub fn times(self, happened: Instant) -> (Duration, Duration) {
        (happened.saturating_duration_since(self.latest), happened.saturating_duration_since(self.earliest))
    }
}

/// How all populations are watched: an open loop, in which every request is sent when it is due, whatever is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Requests a second of all populations together at first.
    pub rate: u32,
    /// The most requests a second that [`Next::Rate`] may ask for: the number of requests in flight is limited to those that this
    /// rate sends within the time-out of one request and a second more, and to [`MOST_IN_FLIGHT`].
    pub raised: u32,
    /// The number of connections at first; further ones are opened as they are needed.
    pub connections: usize,
}

/// The most requests in flight while a change is watched; one more fails without being sent. A client has 28,000 ports to one address.
pub const MOST_IN_FLIGHT: usize = 16_384;

/// A time-out is noticed a little late on a busy machine.
const MARGIN: Duration = Duration::from_secs(1);

impl Watch {
    fn in_flight(self, timeout: Duration) -> usize {
        let rate = u128::from(self.rate.max(self.raised));
        let most = (rate * (timeout + MARGIN).as_millis()).div_ceil(1000);
        let most = usize::try_from(most).unwrap_or(MOST_IN_FLIGHT).min(MOST_IN_FLIGHT);
        (most + self.connections).min(MOST_IN_FLIGHT)
    }
}

/// Whether more answers are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// They are.
    Continue,
    /// This flow has been seen enough of: what is under way is still told, nothing more is sent.
    Stop,
    /// All flows have.
    StopAll,
    /// They are, at so many requests a second of all flows together from now on. Only while populations are watched.
    Rate(u32),
}

/// What is known of a whole sample beside its answers.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The number of requests.
    pub requests: u64,
    /// How many requests each pod answered, where the service tells its pod.
    pub pods: BTreeMap<String, u64>,
    /// How often each kind of answer came.
    pub tallies: Vec<Tally>,
    /// From the start to the last answer, by the driver's clock.
    pub took: Duration,
    /// From when a request was due to its answer, in microseconds. Reported, never judged.
    latency: Histogram<u64>,
}

/// How often a kind of answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The index of what was wanted.
    pub flow: usize,
    /// The answer.
    pub answer: Answer,
    /// The pod that it came from, where the service tells it.
    pub pod: Option<String>,
    /// How often.
    pub count: u64,
}

impl Sample {
    fn new() -> Self {
        // bounds that are known to be valid: no error can come of them
        let latency =
            Histogram::new_with_bounds(1, LONGEST, 3).unwrap_or_else(|_| unreachable!("1 is below {LONGEST}"));
        Self { requests: 0, pods: BTreeMap::new(), tallies: Vec::new(), took: Duration::ZERO, latency }
    }

    /// Requests a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The latencies.
    #[must_use]
    pub fn latency(&self) -> Latency {
        let at = |quantile: f64| Duration::from_micros(self.latency.value_at_quantile(quantile));
        Latency { median: at(0.5), p99: at(0.99), max: at(1.0) }
    }

    fn add(&mut self, response: Response, pod: Option<&str>) {
        self.requests += 1;
        self.latency.saturating_record(response.late_us + response.took_us);
        if let Some(pod) = pod {
            if let Some(count) = self.pods.get_mut(pod) {
                *count += 1;
            } else {
                self.pods.insert(pod.to_owned(), 1);
            }
        }
    }
}

/// What keeps a sample from being taken.
#[derive(Debug, Error)]
pub enum TrafficError {
    /// A claim names a population that the scenario does not have.
    #[error("there is no population `{0}`")]
    NoPopulation(String),
    /// The driver could not be started or failed.
    #[error(transparent)]
    Driver(#[from] ClusterError),
}

/// The traffic driver in the client pod: one program for all samples of a walk, started with the first.
#[derive(Debug)]
pub struct Driver {
    place: Place,
    /// The program, in a pod.
    program: String,
    options: DriverOptions,
    plans: u64,
}

/// Where the driver runs.
#[derive(Debug)]
enum Place {
    /// Nowhere.
    Nowhere,
    /// In a pod among these, once it is started.
    Pod(Api<Pod>, Option<Box<Session>>),
    /// In a thread of this process, which sends to an address of the embedded mesh.
    Local(SocketAddr, Option<Local>),
}

/// The driver in a thread of this process.
#[derive(Debug)]
struct Local {
    orders: mpsc::Sender<Order>,
    parts: mpsc::UnboundedReceiver<Vec<Told>>,
    told: VecDeque<Told>,
}

impl Local {
    fn start() -> Result<Self, ClusterError> {
        let failed = |error: std::io::Error| ClusterError::Embedded(error.to_string());
        let (orders, received) = mpsc::channel(16);
        let (sender, parts) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let work = move || {
            if let Err(error) = runtime.block_on(drive_all(received, Parts { sender, kept: Vec::new() })) {
                tracing::debug!(%error, "the driver ended");
            }
        };
        std::thread::Builder::new().name("driver".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { orders, parts, told: VecDeque::new() })
    }

    async fn send(&self, order: Order) -> Result<(), ClusterError> {
        self.orders.send(order).await.map_err(|_| Self::ended())
    }

    async fn told(&mut self) -> Result<Told, ClusterError> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(told);
            }
            self.told = self.parts.recv().await.ok_or_else(Self::ended)?.into();
        }
    }

    fn ended() -> ClusterError {
        ClusterError::Embedded("the driver ended".to_owned())
    }
}

/// What the driver tells, in parts as it flushes them.
struct Parts {
    sender: mpsc::UnboundedSender<Vec<Told>>,
    kept: Vec<Told>,
}

impl Tell for Parts {
    fn take(&mut self, told: Told) -> std::io::Result<()> {
        self.kept.push(told);
        if self.kept.len() < MANY { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let part = std::mem::replace(&mut self.kept, Vec::with_capacity(MANY));
        self.sender.send(part).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }
}

/// How much is told at a time at the most.
const MANY: usize = 1024;

impl Driver {
    /// The driver of the client pod among these.
    #[must_use]
    pub fn new(pods: Api<Pod>, options: DriverOptions) -> Self {
        Self { place: Place::Pod(pods, None), program: DRIVER.to_owned(), options, plans: 0 }
    }

    /// The same, started from elsewhere in the client's container.
    #[must_use]
    pub fn program(mut self, path: &str) -> Self {
        path.clone_into(&mut self.program);
        self
    }

    /// The same in a pod that has taken the place of the one before.
    pub fn anew(&mut self) {
        if let Place::Pod(_, session) = &mut self.place {
            *session = None;
        }
    }

    /// A driver that sends nothing, for a place that has to be filled.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { place: Place::Nowhere, program: String::new(), options: DriverOptions::default(), plans: 0 }
    }

    /// A driver in this process that sends everything to one address.
    #[must_use]
    pub const fn local(address: SocketAddr, options: DriverOptions) -> Self {
        Self { place: Place::Local(address, None), program: String::new(), options, plans: 0 }
    }

    /// Sends requests of all these populations, in turns, and tells each answer in the order of sending. As soon as an answer is
    /// met with [`Next::Stop`] the driver stops that flow.
    ///
    /// # Errors
    /// The driver cannot be started in the client pod, fails, or says something that is not understood.
    pub async fn sample(
        &mut self,
        scenario: &Scenario,
        wanted: &[Wanted<'_>],
        observe: impl FnMut(Answered<'_>) -> Next,
    ) -> Result<Sample, TrafficError> {
        let plan = plan(scenario, wanted, self.options)?;
        self.drive(&scenario.client.pod, &scenario.client.container, plan, observe).await
    }

    /// Sends requests of all populations in turns, each when it is due, until an answer is met with [`Next::StopAll`]. Answers are told
    /// as they come, not in the order of sending.
    ///
    /// # Errors
    /// As those of [`sample`](Self::sample).
    pub async fn watch(
        &mut self,
        scenario: &Scenario,
        watch: Watch,
        observe: impl FnMut(Answered<'_>) -> Next,
    ) -> Result<Sample, TrafficError> {
        // more than can be sent, and longer than anybody waits: the watch ends when it is stopped
        const LONG: u64 = 1 << 40;
        let wanted = scenario.populations.iter();
        let wanted: Vec<Wanted<'_>> =
            wanted.map(|own| Wanted { from: &own.name, path: "/", requests: LONG, least: 0 }).collect();
        let options =
            DriverOptions { connections: watch.connections, qps: Some(f64::from(watch.rate)), ..self.options };
        let mut plan = plan(scenario, &wanted, options)?;
        plan.in_flight = Some(watch.in_flight(options.timeout));
        self.drive(&scenario.client.pod, &scenario.client.container, plan, observe).await
    }

    /// The same for a plan, whose id is given here, in a container of the client pod.
    ///
    /// # Errors
    /// As those of [`sample`](Self::sample).
    pub async fn drive(
        &mut self,
        pod: &str,
        container: &str,
        mut plan: DrivePlan,
        mut observe: impl FnMut(Answered<'_>) -> Next,
    ) -> Result<Sample, TrafficError> {
        self.plans += 1;
        let id = self.plans;
        plan.id = id;
        let flows = plan.flows.len();
        self.start(pod, container).await?;
        if let Place::Local(address, _) = &self.place {
            plan.connect = Some(address.to_string());
        }
        let earliest = Instant::now();
        let mut start: Option<DriverStart> = None;
        self.order(Order::Drive(plan)).await?;
        let mut sample = Sample::new();
        let mut kinds: Vec<(Answer, Option<String>)> = Vec::new();
        let mut counts: Vec<Vec<u64>> = vec![Vec::new(); flows];
        let program = self.program.clone();
        let mut stopped = vec![false; flows];
        loop {
            let failed = |reason: &dyn std::fmt::Display| ClusterError::Exec {
                command: program.clone(),
                pod: pod.to_owned(),
                reason: format!("not what a driver tells: {reason}"),
            };
            match self.told(&failed).await? {
                Told::Kind(outcome) => {
                    kinds.push(answer(outcome).ok_or_else(|| failed(&"neither status nor failure"))?);
                }
                Told::Response(response) => {
                    let (answer, server) = kinds.get(response.kind).ok_or_else(|| failed(&"an unknown kind"))?;
                    if response.flow >= flows {
                        return Err(failed(&"an unknown flow").into());
                    }
                    sample.add(response, server.as_deref());
                    let own = &mut counts[response.flow];
                    if own.len() <= response.kind {
                        own.resize(response.kind + 1, 0);
                    }
                    own[response.kind] += 1;
                    let due = Duration::from_micros(response.due_us);
                    let sent = due + Duration::from_micros(response.late_us);
                    let at = sent + Duration::from_micros(response.took_us);
                    let now = Instant::now();
                    let latest = now.checked_sub(at).unwrap_or(earliest).max(earliest);
                    let latest = start.map_or(latest, |start| start.latest.min(latest));
                    let bounds = *start.insert(DriverStart { earliest, latest });
                    let next = observe(Answered {
                        flow: response.flow,
                        answer,
                        pod: server.as_deref(),
                        connection: response.connection,
                        due,
                        sent,
                        at,
                        start: bounds,
                    });
                    if let Next::Rate(qps) = next {
                        self.order(Order::Rate { plan: id, qps: f64::from(qps) }).await?;
                    }
                    let ended = match next {
                        Next::Continue | Next::Rate(_) => 0..0,
                        Next::Stop => response.flow..response.flow + 1,
                        Next::StopAll => 0..flows,
                    };
                    for flow in ended {
                        if !std::mem::replace(&mut stopped[flow], true) {
                            self.order(Order::Stop { plan: id, flow }).await?;
                        }
                    }
                }
                Told::End { plan, took_us } if plan == id => {
                    sample.took = Duration::from_micros(took_us);
                    let counts = counts.into_iter().enumerate();
                    let counts = counts.flat_map(|(flow, own)| own.into_iter().zip(&kinds).map(move |own| (flow, own)));
                    sample.tallies = counts
                        .filter(|(_, (count, _))| *count > 0)
                        .map(|(flow, (count, (answer, pod)))| Tally {
                            flow,
                            answer: answer.clone(),
                            pod: pod.clone(),
                            count,
                        })
                        .collect();
                    return Ok(sample);
                }
                Told::End { .. } => return Err(failed(&"the end of another plan").into()),
            }
        }
    }
}

impl Driver {
    async fn start(&mut self, pod: &str, container: &str) -> Result<(), ClusterError> {
        match &mut self.place {
            Place::Pod(pods, session @ None) => {
                let command = [self.program.as_str(), "workload", "drive"];
                *session = Some(Box::new(Session::open(pods, pod, container, &command).await?));
            }
            Place::Local(_, local @ None) => *local = Some(Local::start()?),
            _ => {}
        }
        Ok(())
    }

    async fn order(&mut self, order: Order) -> Result<(), ClusterError> {
        match &mut self.place {
            Place::Pod(_, Some(session)) => session.send(&line(&order)).await,
            Place::Local(_, Some(local)) => local.send(order).await,
            _ => Err(Local::ended()),
        }
    }

    async fn told(&mut self, failed: &impl Fn(&dyn std::fmt::Display) -> ClusterError) -> Result<Told, ClusterError> {
        match &mut self.place {
            Place::Pod(_, Some(session)) => {
                let line = session.line().await?;
                Told::read(&line).map_err(|error| failed(&format!("`{line}`: {error}")))
            }
            Place::Local(_, Some(local)) => local.told().await,
            _ => Err(Local::ended()),
        }
    }
}

fn line(order: &Order) -> String {
    serde_json::to_string(order).unwrap_or_else(|error| unreachable!("an order is plain data: {error}"))
}

/// An outcome as the verdicts see it, and the pod that it came from.
fn answer(outcome: Outcome) -> Option<(Answer, Option<String>)> {
    let answer = match (outcome.status, outcome.version, outcome.failure) {
        (Some(status), Some(version), _) => Answer::Version { version, status },
        (Some(status), None, _) => Answer::Unknown { status, excerpt: outcome.excerpt.unwrap_or_default() },
        (None, _, Some(failure)) => Answer::Nothing {
            reason: match failure.kind {
                FailureKind::Connect => format!("no connection ({})", failure.message),
                FailureKind::Timeout => "no answer in time".to_owned(),
                FailureKind::Unsent => format!("not sent ({})", failure.message),
                FailureKind::Broken => format!("the connection broke off ({})", failure.message),
            },
        },
        (None, _, None) => return None,
    };
    Some((answer, outcome.pod))
}

fn plan(scenario: &Scenario, wanted: &[Wanted<'_>], options: DriverOptions) -> Result<DrivePlan, TrafficError> {
    let flows = wanted
        .iter()
        .map(|wanted| {
            let population =
                scenario.population(wanted.from).ok_or_else(|| TrafficError::NoPopulation(wanted.from.to_owned()))?;
            Ok(Flow {
                path: wanted.path.to_owned(),
                requests: wanted.requests,
                quiet: wanted.least,
                variants: population.variants.iter().map(|variant| variant.headers.clone()).collect(),
            })
        })
        .collect::<Result<_, TrafficError>>()?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    let all = wanted.iter().map(|wanted| wanted.requests).sum::<u64>() as f64;
    let paced = options.qps.and_then(|qps| Duration::try_from_secs_f64(all / qps).ok()).unwrap_or_default();
    Ok(DrivePlan {
        id: 0,
        base: format!("http://{}:{}", scenario.service.host, scenario.service.port),
        connect: None,
        connections: options.connections,
        qps: options.qps,
        in_flight: None,
        keep_alive: options.keep_alive,
        timeout_ms: millis(options.timeout),
        limit_ms: millis(options.limit + paced),
        version: match &scenario.version {
            VersionRule::Body(regex) => VersionSource::Body(regex.as_str().to_owned()),
            VersionRule::Header(name) => VersionSource::Header(name.clone()),
            VersionRule::Json(pointer) => VersionSource::Json(pointer.clone()),
        },
        pod_header: scenario.pod_header.clone(),
        flows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_requests_may_be_in_flight_as_are_sent_within_a_time_out() {
        let watch = Watch { rate: 50, raised: 400, connections: 4 };
        assert_eq!(watch.in_flight(Duration::from_secs(10)), 4404);
        assert_eq!(Watch { raised: 50, ..watch }.in_flight(Duration::from_secs(10)), 554);
        assert_eq!(watch.in_flight(Duration::from_secs(1000)), MOST_IN_FLIGHT);
    }

    #[test]
    fn a_time_by_the_clock_of_the_driver_is_known_within_bounds() {
        let earliest = Instant::now();
        let start = DriverStart { earliest, latest: earliest + Duration::from_millis(30) };
        let (not_before, not_after) = start.times(earliest + Duration::from_secs(1));
        assert_eq!((not_before, not_after), (Duration::from_millis(970), Duration::from_secs(1)));
        assert_eq!(start.times(earliest), (Duration::ZERO, Duration::ZERO));
    }
}
