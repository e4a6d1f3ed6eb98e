use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::time::timeout;

use super::decode::{Decoded, Decoder, Statuses, message};
use super::error::{ProtocolError, TrafficError};
use super::local::LocalDriver;
use super::options::{DriverOptions, SampleFlow, WatchOptions, plan};
use super::sample::{Next, ObservedResponse, Sample};
use super::together::{Part, Shared, part_of, parts};
use crate::cluster::Session;
use crate::scenario::{CallerTls, Calls, DRIVER, IngressGateway, Scenario, Sender};
use crate::workload::{DrivePlan, DriveTls, DriverCommand, DriverMessage};

/// How long the driver may be silent, in addition to the longest time that a request of its plan takes.
const SILENCE: Duration = Duration::from_secs(20);

/// The traffic driver of the client pod. It is started with the first sample and runs until it is dropped.
pub struct Driver {
    pub(super) backend: Backend,
    /// The path of the program in the client's container.
    program: String,
    options: DriverOptions,
    plans: u64,
    /// The calls of gRPC, once the server was asked for their messages.
    pub(super) calls: Option<Arc<Calls>>,
    /// The other pod in which it runs; none for the client pod.
    pod: Option<SenderPod>,
    /// The drivers of gateways, by the gateway through which their requests come.
    entering: BTreeMap<IngressGateway, Driver>,
    /// The drivers in other pods, by the name of the pod.
    others: BTreeMap<String, Driver>,
}

/// A pod that sends requests, other than the client pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderPod {
    /// The pod's name.
    pub name: String,
    /// The address that it calls: `HOST:PORT`.
    pub address: String,
    /// Whether each request has a connection of its own, because connections are balanced, not requests.
    pub connects_each: bool,
    /// How it speaks TLS; none for HTTP.
    pub tls: Option<Arc<CallerTls>>,
}

/// Where the driver runs.
pub(super) enum Backend {
    /// In a pod, once it is started.
    Pod(Api<Pod>, Option<Box<Session>>),
    /// In a thread of this process, once it is started. It sends requests to an address of the embedded mesh, or to the service itself.
    Local(Option<SocketAddr>, Option<LocalDriver>),
}

impl Driver {
    /// A driver in a client pod among these pods.
    pub fn new(pods: Api<Pod>, options: DriverOptions) -> Self {
        Self { program: DRIVER.to_owned(), ..Self::of(Backend::Pod(pods, None), options) }
    }

    /// Sets the path of the program in the client's container.
    #[must_use]
    pub fn program(mut self, path: &str) -> Self {
        path.clone_into(&mut self.program);
        self
    }

    /// Starts the driver and those in other pods again with the next sample, in the pods that replaced theirs.
    pub fn reset(&mut self) {
        if let Backend::Pod(_, session) = &mut self.backend {
            *session = None;
        }
        self.others.values_mut().for_each(Self::reset);
    }

    /// A driver in this process that sends every request to one address.
    pub const fn local(address: SocketAddr, options: DriverOptions) -> Self {
        Self::of(Backend::Local(Some(address), None), options)
    }

    /// A driver in this process, which runs in a pod of the mesh.
    pub const fn within(options: DriverOptions) -> Self {
        Self::of(Backend::Local(None, None), options)
    }

    const fn of(backend: Backend, options: DriverOptions) -> Self {
        Self {
            backend,
            program: String::new(),
            options,
            plans: 0,
            calls: None,
            pod: None,
            entering: BTreeMap::new(),
            others: BTreeMap::new(),
        }
    }

    /// Sets the pod in which it runs, if that is not the client's.
    #[must_use]
    pub fn within_pod(mut self, pod: SenderPod) -> Self {
        self.pod = Some(pod);
        self
    }

    /// Adds the driver in another pod.
    #[must_use]
    pub fn beside(mut self, pod: &str, driver: Self) -> Self {
        self.others.insert(pod.to_owned(), driver);
        self
    }

    /// Adds the driver of populations that come through a gateway.
    #[must_use]
    pub fn entering(mut self, gateway: IngressGateway, driver: Self) -> Self {
        self.entering.insert(gateway, driver);
        self
    }

    /// Sends the requests of all flows in turns and calls `observe` with each response, in the order of sending. A flow ends when
    /// `observe` returns [`Next::Stop`].
    ///
    /// # Errors
    /// The driver cannot be started, fails, or sends an invalid message.
    pub async fn sample(
        &mut self,
        scenario: &Scenario,
        flows: &[SampleFlow<'_>],
        observe: impl FnMut(ObservedResponse<'_>) -> Next,
    ) -> Result<Sample, TrafficError> {
        let (options, calls) = (self.options, self.calls(scenario).await?);
        self.drive_parts(scenario, flows, Order::OfSending, observe, |flows, share| {
            plan(scenario, &calls, flows, DriverOptions { qps: options.qps.map(|qps| qps * share), ..options })
        })
        .await
    }

    /// Sends requests of all populations in turns, each when it is due, until `observe` returns [`Next::StopAll`]. `observe` is called as
    /// responses arrive, not in the order of sending.
    ///
    /// # Errors
    /// As for [`sample`](Self::sample).
    pub async fn watch(
        &mut self,
        scenario: &Scenario,
        watch: WatchOptions,
        observe: impl FnMut(ObservedResponse<'_>) -> Next,
    ) -> Result<Sample, TrafficError> {
        // effectively unlimited: the watch ends when it is stopped
        const UNLIMITED: u64 = 1 << 40;
        let populations = scenario.populations.iter();
        let flows: Vec<SampleFlow<'_>> = populations
            .map(|population| SampleFlow {
                from: &population.name,
                path: &scenario.service.path,
                requests: UNLIMITED,
                least: 0,
            })
            .collect();
        let (options, calls) = (self.options, self.calls(scenario).await?);
        self.drive_parts(scenario, &flows, Order::OfArrival, observe, |flows, share| {
            let qps = Some(f64::from(watch.rate) * share);
            let mut plan =
                plan(scenario, &calls, flows, DriverOptions { connections: watch.connections, qps, ..options })?;
            plan.in_flight = Some(watch.in_flight(options.timeout));
            plan.busy_qps = Some(f64::from(watch.busy) * share);
            Ok(plan)
        })
        .await
    }

    /// Drives flows with a plan for each sender, which gets the sender's portion of their requests and its share of the rate.
    async fn drive_parts(
        &mut self,
        scenario: &Scenario,
        flows: &[SampleFlow<'_>],
        order: Order,
        observe: impl FnMut(ObservedResponse<'_>) -> Next,
        plan: impl Fn(&[SampleFlow<'_>], f64) -> Result<DrivePlan, TrafficError>,
    ) -> Result<Sample, TrafficError> {
        let parts = parts(scenario, flows)?;
        if parts.iter().all(|part| part.sender == Sender::Client) {
            return self.drive_for(scenario, plan(flows, 1.0)?, observe).await;
        }
        let (mut entering, mut others) = (std::mem::take(&mut self.entering), std::mem::take(&mut self.others));
        let mut drivers: BTreeMap<Sender<'_>, &mut Self> = BTreeMap::from([(Sender::Client, &mut *self)]);
        drivers.extend(entering.iter_mut().map(|(gateway, driver)| (Sender::Outside(gateway), driver)));
        drivers.extend(others.iter_mut().map(|(pod, driver)| (Sender::Pod(pod), driver)));
        let together = parts.into_iter().map(|part| {
            let missing = || TrafficError::NoSender(part.sender.to_string());
            let driver = drivers.remove(&part.sender).ok_or_else(missing)?;
            let plan = plan(&part.flows(flows), part.share(flows.len()))?;
            Ok((part, driver, plan))
        });
        let sample = match together.collect::<Result<Vec<_>, TrafficError>>() {
            Ok(together) => drive_together(together, scenario, (flows.len(), order), observe).await,
            Err(error) => Err(error),
        };
        drop(drivers);
        (self.entering, self.others) = (entering, others);
        sample
    }

    /// The pod in which the driver runs.
    pub(super) fn pod<'a>(&'a self, scenario: &'a Scenario) -> &'a str {
        self.pod.as_ref().map_or(&scenario.client.pod, |pod| &pod.name)
    }

    /// Starts the driver in the pod from which it sends requests of a scenario.
    pub(super) async fn start_for(&mut self, scenario: &Scenario) -> Result<(), TrafficError> {
        let pod = self.pod(scenario).to_owned();
        self.start(&pod, &scenario.client.container).await
    }

    /// Runs a plan in the pod from which it sends requests of a scenario.
    pub(super) async fn drive_for(
        &mut self,
        scenario: &Scenario,
        mut plan: DrivePlan,
        observe: impl FnMut(ObservedResponse<'_>) -> Next,
    ) -> Result<Sample, TrafficError> {
        if let Some(pod) = &self.pod {
            plan.base = format!("{}://{}", scenario.service.scheme, pod.address);
            plan.keep_alive &= !pod.connects_each;
            let of = |tls: &CallerTls| DriveTls { server_name: tls.server_name.clone(), ca: tls.ca.clone() };
            plan.tls = pod.tls.as_deref().map(|tls| Box::new(of(tls)));
        }
        let pod = self.pod(scenario).to_owned();
        self.drive(&pod, &scenario.client.container, plan, observe).await
    }

    /// Runs a plan in a container of the client pod. The id of the plan is assigned here.
    ///
    /// # Errors
    /// As for [`sample`](Self::sample).
    pub async fn drive(
        &mut self,
        pod: &str,
        container: &str,
        mut plan: DrivePlan,
        mut observe: impl FnMut(ObservedResponse<'_>) -> Next,
    ) -> Result<Sample, TrafficError> {
        self.plans += 1;
        let id = self.plans;
        plan.id = id;
        self.start(pod, container).await?;
        if let Backend::Local(address, _) = &self.backend {
            plan.connect = address.map(|address| address.to_string());
        }
        let (mut running, silence) = (vec![true; plan.flows.len()], longest_silence(&plan));
        let mut decoder = Decoder::new(id, plan.flows.len(), Statuses::of(&plan.base));
        let deadline = Deadline { pod, limit: silence };
        deadline.of(self.send(DriverCommand::Drive(Box::new(plan)))).await?;
        let invalid = |source: ProtocolError| TrafficError::Protocol { pod: pod.to_owned(), source };
        loop {
            let message = deadline.of(self.receive(invalid)).await?;
            let response = match decoder.decode(message).map_err(invalid)? {
                Decoded::Kind => continue,
                Decoded::Response(response) => response,
                Decoded::End => return Ok(decoder.finish()),
            };
            let flow = response.flow;
            let stopped = match observe(response) {
                Next::Continue => continue,
                Next::Rate(qps) => {
                    deadline.of(self.send(DriverCommand::Rate { plan: id, qps: f64::from(qps) })).await?;
                    continue;
                }
                Next::Stop => flow..flow + 1,
                Next::StopAll => 0..running.len(),
            };
            for flow in stopped {
                if std::mem::replace(&mut running[flow], false) {
                    deadline.of(self.send(DriverCommand::Stop { plan: id, flow })).await?;
                }
            }
        }
    }

    async fn start(&mut self, pod: &str, container: &str) -> Result<(), TrafficError> {
        match &mut self.backend {
            Backend::Pod(pods, session @ None) => {
                let command = [self.program.as_str(), "workload", "drive"];
                *session = Some(Box::new(Session::open(pods, pod, container, &command).await?));
            }
            Backend::Local(_, local @ None) => *local = Some(LocalDriver::start()?),
            _ => {}
        }
        Ok(())
    }

    pub(super) async fn send(&mut self, command: DriverCommand) -> Result<(), TrafficError> {
        match &mut self.backend {
            Backend::Pod(_, Some(session)) => Ok(session.send(&line(&command)).await?),
            Backend::Local(_, Some(local)) => {
                local.send(command).await;
                Ok(())
            }
            _ => Err(TrafficError::Ended),
        }
    }

    pub(super) async fn receive(
        &mut self,
        invalid: impl Fn(ProtocolError) -> TrafficError,
    ) -> Result<DriverMessage, TrafficError> {
        match &mut self.backend {
            Backend::Pod(_, Some(session)) => message(session.line().await?).map_err(invalid),
            Backend::Local(_, Some(local)) => local.receive().await,
            _ => Err(TrafficError::Ended),
        }
    }
}

/// In which order the responses of several senders are observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// In that of sending, where several senders send requests of one flow.
    OfSending,
    /// As they arrive.
    OfArrival,
}

/// Sends the requests of all parts at the same time, each part with its driver and its plan.
async fn drive_together(
    parts: Vec<(Part<'_>, &mut Driver, DrivePlan)>,
    scenario: &Scenario,
    (flows, order): (usize, Order),
    observe: impl FnMut(ObservedResponse<'_>) -> Next,
) -> Result<Sample, TrafficError> {
    let is_divided = parts.iter().any(|(part, ..)| part.is_divided());
    let merged = (order == Order::OfSending && is_divided).then_some(parts.len());
    let shared = Mutex::new(Shared::new(observe, merged));
    let mut runs = Vec::new();
    for (sender, (part, driver, plan)) in parts.into_iter().enumerate() {
        // before any of them sends, so that their clocks start together
        driver.start_for(scenario).await?;
        let (shared, positions, share) = (&shared, part.positions(), part.share(flows));
        runs.push(async move {
            let mut raised = None;
            let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
            let sample = driver.drive_for(scenario, plan, |answered| {
                let answered = ObservedResponse { flow: positions[answered.flow], ..answered };
                match lock().see(sender, answered, &mut raised) {
                    Next::Rate(rate) => Next::Rate(part_of(rate, share)),
                    next => next,
                }
            });
            let sample = sample.await?;
            lock().end(sender);
            Ok::<_, TrafficError>(sample.with_flows(&positions))
        });
    }
    let samples = try_join_all(runs).await?;
    Ok(samples.into_iter().reduce(Sample::and).unwrap_or_else(Sample::new))
}

/// Ends the wait for a driver that does not run any more.
struct Deadline<'a> {
    pod: &'a str,
    limit: Duration,
}

impl Deadline<'_> {
    async fn of<T>(&self, exchange: impl Future<Output = Result<T, TrafficError>>) -> Result<T, TrafficError> {
        let silent = |_| TrafficError::Silent { pod: self.pod.to_owned(), limit: self.limit };
        timeout(self.limit, exchange).await.map_err(silent)?
    }
}

/// The longest time without a message from a driver that runs this plan.
fn longest_silence(plan: &DrivePlan) -> Duration {
    let pause = plan.qps.and_then(|qps| Duration::try_from_secs_f64(qps.recip()).ok()).unwrap_or_default();
    Duration::from_millis(plan.timeout_ms) + pause + SILENCE
}

fn line(command: &DriverCommand) -> String {
    serde_json::to_string(command).unwrap_or_else(|error| unreachable!("a command is plain data: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use assert_matches::assert_matches;

    use super::*;
    use crate::workload::{DriveError, VersionSource};

    #[test]
    fn a_line_that_is_no_message_is_refused() {
        let error = message("Segmentation fault".to_owned()).unwrap_err();
        assert_matches!(&error, ProtocolError::Line(line, _) if line == "Segmentation fault");
        let error = TrafficError::Protocol { pod: "client".to_owned(), source: error }.to_string();
        let expected = "the driver in pod client sent an invalid message: `Segmentation fault`: expected value";
        assert!(error.starts_with(expected), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_is_silent_ends_the_sample() {
        let pending = std::future::pending::<Result<(), TrafficError>>();
        let silent = Deadline { pod: "client", limit: Duration::from_secs(30) }.of(pending).await.unwrap_err();
        assert_eq!(silent.to_string(), "the driver in pod client sent nothing for 30 s");
    }

    #[test]
    fn a_driver_may_be_silent_between_two_requests_and_until_one_times_out() {
        let silence = |qps: Option<f64>| longest_silence(&DrivePlan { qps, timeout_ms: 10_000, ..plan() }).as_secs();
        assert_eq!(silence(None), 30);
        assert_eq!(silence(Some(0.1)), 40);
        assert_eq!(silence(Some(f64::INFINITY)), 30);
    }

    fn plan() -> DrivePlan {
        DrivePlan {
            id: 0,
            base: "https://svc-hello:8080".to_owned(),
            connect: None,
            tls: None,
            connections: 1,
            streams: 1,
            qps: None,
            in_flight: None,
            busy_qps: None,
            keep_alive: true,
            timeout_ms: 1000,
            limit_ms: 1000,
            version: VersionSource::Header("x-version".to_owned()),
            pod_header: None,
            flows: Vec::new(),
        }
    }

    #[tokio::test]
    async fn an_error_of_the_driver_ends_the_sample() {
        let mut driver = Driver::local((Ipv4Addr::LOCALHOST, 1).into(), DriverOptions::default());
        let failed = driver.drive("client", "client", plan(), |_| Next::Continue).await;
        assert_matches!(failed, Err(TrafficError::Failed(DriveError::Plan(reason))) if reason.contains("https://"));
        // the driver is not running any more
        let ended = driver.drive("client", "client", plan(), |_| Next::Continue).await;
        assert_matches!(ended, Err(TrafficError::Ended));
    }
}
