use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::events::Latency;
use crate::scenario::{ErrorRates, Share};
use crate::verdict::{Answer, quantile_ranks};
use crate::workload::RequestResult;

/// The maximum latency in the histogram, in microseconds. Longer latencies are recorded as this one.
const MAX_LATENCY: u64 = 120_000_000;

/// A response, or a failed request. Times are since the start of the driver's clock.
#[derive(Debug, Clone, Copy)]
pub struct ObservedResponse<'a> {
    /// The index of its flow.
    pub flow: usize,
    /// The index of the kind of result among those of its sender. All of a kind have the same answer and the same pod.
    pub kind: usize,
    /// The answer.
    pub answer: &'a Answer,
    /// The pod, if the response names it.
    pub pod: Option<&'a str>,
    /// The index of its connection.
    pub connection: usize,
    /// When the request was due. In a closed loop: when it was sent.
    pub due: Duration,
    /// When the request was sent.
    pub sent: Duration,
    /// When the response arrived, or the request failed.
    pub at: Duration,
    /// When the driver's clock started.
    pub start: DriverStart,
}

/// Bounds on the start of the driver's clock, by the clock of this process. The driver may run on another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverStart {
    /// The lower bound: when the plan was sent.
    pub earliest: Instant,
    /// The upper bound: no result was received before it happened.
    pub latest: Instant,
}

impl DriverStart {
    /// The earliest and the latest time, by the driver's clock, of an event in this process.
    pub fn times(self, happened: Instant) -> (Duration, Duration) {
        (happened.saturating_duration_since(self.latest), happened.saturating_duration_since(self.earliest))
    }
}

/// What the driver does after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Goes on.
    Continue,
    /// Stops the flow of the response. Requests in flight are still reported.
    Stop,
    /// Stops all flows.
    StopAll,
    /// Goes on with so many requests per second of all flows together. Only with `Driver::watch`.
    Rate(u32),
}

/// A summary of a sample.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The number of requests.
    pub requests: u64,
    /// The number of responses per pod, if responses name the pod.
    pub pods: BTreeMap<String, u64>,
    /// How often each kind of answer occurred.
    pub tallies: Vec<Tally>,
    /// The time from the start to the last response, by the driver's clock.
    pub took: Duration,
    /// When the driver's clock started, by the clock of its machine: since 1970, in UTC.
    pub started: Duration,
    /// The number of connections of HTTP/2 that the server has ended with GOAWAY.
    pub goaways: u64,
    /// For each flow, the number of sessions that have the cookie of [`Flow::cookie`](crate::workload::Flow::cookie) in the end.
    pub cookies: Vec<u64>,
    /// From due to answered, in microseconds. Reported only: no claim is judged by it.
    latency: Histogram<u64>,
}

/// How often a kind of answer occurred in a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The index of the flow.
    pub flow: usize,
    /// The answer.
    pub answer: Answer,
    /// The pod, if the response names it.
    pub pod: Option<String>,
    /// The number of responses.
    pub count: u64,
}

impl Sample {
    pub(super) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, MAX_LATENCY, 3);
        let latency = latency.unwrap_or_else(|_| unreachable!("1 is below {MAX_LATENCY}"));
        Self {
            requests: 0,
            pods: BTreeMap::new(),
            tallies: Vec::new(),
            took: Duration::ZERO,
            started: Duration::ZERO,
            goaways: 0,
            cookies: Vec::new(),
            latency,
        }
    }

    /// The sample with the positions of its flows among those of several samples.
    pub(super) fn with_flows(mut self, positions: &[usize]) -> Self {
        for tally in &mut self.tallies {
            tally.flow = positions[tally.flow];
        }
        let mut cookies = vec![0; positions.iter().max().map_or(0, |last| last + 1)];
        for (kept, position) in self.cookies.into_iter().zip(positions) {
            cookies[*position] = kept;
        }
        self.cookies = cookies;
        self
    }

    /// Two samples that were taken at the same time, as one.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.requests += other.requests;
        for (pod, count) in other.pods {
            *self.pods.entry(pod).or_default() += count;
        }
        self.tallies.extend(other.tallies);
        self.took = self.took.max(other.took);
        self.started = self.started.min(other.started);
        self.goaways += other.goaways;
        self.cookies.resize(self.cookies.len().max(other.cookies.len()), 0);
        for (all, own) in self.cookies.iter_mut().zip(other.cookies) {
            *all += own;
        }
        // both have the same bounds
        let _ = self.latency.add(other.latency);
        self
    }

    /// Requests per second.
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The latencies.
    pub fn latency(&self) -> Latency {
        let at = |quantile: f64| Duration::from_micros(self.latency.value_at_quantile(quantile));
        let [median_interval, p99_interval] = [0.5, 0.99].map(|quantile| self.interval(quantile));
        Latency { median: at(0.5), p99: at(0.99), max: at(1.0), median_interval, p99_interval }
    }

    /// The confidence interval of a quantile of the latency, with the confidence of verdicts.
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    fn interval(&self, quantile: f64) -> [Duration; 2] {
        let (requests, confidence) = (self.latency.len(), ErrorRates::default().confidence());
        let share = Share::from_fraction(quantile).unwrap_or(Share::ALL);
        let (low, high) = quantile_ranks(requests, share, confidence);
        // half a rank before the value, so that rounding finds no other one
        let at = |rank: u64| self.latency.value_at_quantile((rank as f64 - 0.5) / requests.max(1) as f64);
        [low, high.min(requests)].map(|rank| Duration::from_micros(at(rank)))
    }

    pub(super) fn add(&mut self, result: RequestResult, pod: Option<&str>) {
        self.requests += 1;
        self.latency.saturating_record(result.late_us.saturating_add(result.took_us));
        if let Some(pod) = pod {
            if let Some(count) = self.pods.get_mut(pod) {
                *count += 1;
            } else {
                self.pods.insert(pod.to_owned(), 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_have_intervals() {
        let mut sample = Sample::new();
        for n in 0..10_000 {
            let result =
                RequestResult { n, flow: 0, kind: 0, connection: 0, due_us: n, late_us: 0, took_us: 1000 + n % 100 };
            sample.add(result, None);
        }
        let micros = Duration::from_micros;
        let Latency { median, median_interval: [low, high], p99_interval, .. } = sample.latency();
        assert_eq!(median, micros(1049));
        assert!(micros(1045) < low && low < median && median < high && high < micros(1055), "{low:?} {high:?}");
        assert!(micros(1097) <= p99_interval[0] && p99_interval[1] == micros(1099), "{p99_interval:?}");
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
