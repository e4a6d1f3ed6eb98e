use std::time::Duration;

use super::TrafficError;
use crate::cluster::message_field;
use crate::scenario::{Calls, Scenario, VersionRule};
use crate::workload::{DrivePlan, Flow, VersionSource};

/// How the driver sends requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriverOptions {
    /// The number of connections.
    pub connections: usize,
    /// The number of requests in flight on each connection of HTTP/2. A connection of HTTP/1.1 has one.
    pub streams: u16,
    /// Requests per second of all populations together, in an open loop. `None` is a closed loop.
    pub qps: Option<f64>,
    /// Whether to use keep-alive.
    pub keep_alive: bool,
    /// The timeout of one request.
    pub timeout: Duration,
    /// The maximum duration of a sample. In an open loop the time that the rate takes is added.
    pub limit: Duration,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self {
            connections: 8,
            streams: 4,
            qps: None,
            keep_alive: true,
            timeout: Duration::from_secs(10),
            limit: Duration::from_secs(120),
        }
    }
}

/// Requests of one population in a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleFlow<'a> {
    /// The population.
    pub from: &'a str,
    /// The path.
    pub path: &'a str,
    /// The maximum number of requests.
    pub requests: u64,
    /// The number of responses before which the flow is not stopped. Until then the driver reports larger batches, which takes less CPU time
    /// from the mesh.
    pub least: u64,
}

/// How to send requests of all populations during a change: in an open loop, in which every request is sent when it is due, whatever is in
/// flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchOptions {
    /// The initial number of requests per second of all populations together.
    pub rate: u32,
    /// The maximum rate that `Next::Rate` may set. The number of requests in flight is limited to what this rate sends
    /// within the timeout of one request plus one second, and to [`MAX_IN_FLIGHT`].
    pub raised: u32,
    /// The maximum rate while more than 64 requests are in flight.
    pub busy: u32,
    /// The initial number of connections; more are opened when needed.
    pub connections: usize,
}

/// The maximum number of requests in flight during a change; further requests fail without being sent. A client has 28,000 ports for one
/// address.
pub const MAX_IN_FLIGHT: usize = 16_384;

/// How late a timeout may be noticed on a busy machine.
const MARGIN: Duration = Duration::from_secs(1);

impl WatchOptions {
    pub(super) fn in_flight(self, timeout: Duration) -> usize {
        let rate = u128::from(self.rate.max(self.raised));
        let most = (rate * (timeout + MARGIN).as_millis()).div_ceil(1000);
        let most = usize::try_from(most).unwrap_or(MAX_IN_FLIGHT).min(MAX_IN_FLIGHT);
        (most + self.connections).min(MAX_IN_FLIGHT)
    }
}

/// The plan of a sample, without an id.
pub(super) fn plan(
    scenario: &Scenario,
    calls: &Calls,
    flows: &[SampleFlow<'_>],
    options: DriverOptions,
) -> Result<DrivePlan, TrafficError> {
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    let requests = flows.iter().map(|flow| flow.requests).sum::<u64>() as f64;
    let flows = flows
        .iter()
        .map(|flow| {
            let population = scenario.population(flow.from);
            let population = population.ok_or_else(|| TrafficError::NoPopulation(flow.from.to_owned()))?;
            let call = calls.get(flow.path);
            let queries =
                population.sessions.iter().flat_map(|own| (0..own.count).filter_map(|index| own.query(index)));
            Ok(Flow {
                path: flow.path.to_owned(),
                method: population.variants.first().and_then(|variant| variant.method.clone()),
                requests: flow.requests,
                min_results: flow.least,
                message: call.map(|call| call.message.clone()).unwrap_or_default(),
                field: call.and_then(|call| Some(message_field(call.version.as_ref()?))),
                cookie: population.sessions.as_ref().and_then(|own| own.cookie().map(str::to_owned)),
                queries: queries.collect(),
                variants: population.variants.iter().map(|variant| variant.headers.clone()).collect(),
            })
        })
        .collect::<Result<_, TrafficError>>()?;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let paced = options.qps.and_then(|qps| Duration::try_from_secs_f64(requests / qps).ok()).unwrap_or_default();
    Ok(DrivePlan {
        id: 0,
        base: format!("{}://{}:{}", scenario.service.scheme, scenario.service.host, scenario.service.port),
        connect: None,
        tls: None,
        connections: options.connections,
        streams: options.streams,
        qps: options.qps,
        in_flight: None,
        busy_qps: None,
        keep_alive: options.keep_alive,
        timeout_ms: millis(options.timeout),
        limit_ms: millis(options.limit + paced),
        version: match &scenario.version {
            VersionRule::Body(regex) | VersionRule::Line(regex) => VersionSource::Body(regex.as_str().to_owned()),
            VersionRule::Header(name) => VersionSource::Header(name.clone()),
            VersionRule::Json(pointer) => VersionSource::Json(pointer.clone()),
            VersionRule::Field(_) => VersionSource::Field,
        },
        pod_header: scenario.pod_header.clone(),
        flows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_requests_may_be_in_flight_as_are_sent_within_a_timeout() {
        let watch = WatchOptions { rate: 50, raised: 400, busy: 50, connections: 4 };
        assert_eq!(watch.in_flight(Duration::from_secs(10)), 4404);
        assert_eq!(WatchOptions { raised: 50, ..watch }.in_flight(Duration::from_secs(10)), 554);
        assert_eq!(watch.in_flight(Duration::from_secs(1000)), MAX_IN_FLIGHT);
    }
}
