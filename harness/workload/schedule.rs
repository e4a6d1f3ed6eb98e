//! The order and the times of requests.

use std::time::Duration;

/// The order of requests: flows take turns, and a flow that is done or stopped is skipped.
pub(super) struct Schedule {
    left: Vec<u64>,
    sent: Vec<u64>,
    last: usize,
    next: u64,
}

/// The next request to send.
pub(super) struct ScheduledRequest {
    /// The number of the request.
    pub n: u64,
    /// The index of its flow.
    pub flow: usize,
    /// The number of earlier requests of the flow.
    pub earlier: u64,
}

impl Schedule {
    /// A schedule of so many requests per flow.
    pub fn new(requests: impl Iterator<Item = u64>) -> Self {
        let left: Vec<u64> = requests.collect();
        Self { sent: vec![0; left.len()], last: left.len().saturating_sub(1), left, next: 0 }
    }

    /// Schedules no more requests of a flow.
    pub fn stop(&mut self, flow: usize) {
        if let Some(left) = self.left.get_mut(flow) {
            *left = 0;
        }
    }
}

impl Iterator for Schedule {
    type Item = ScheduledRequest;

    fn next(&mut self) -> Option<ScheduledRequest> {
        let flows = self.left.len();
        let flow = (1..=flows).map(|step| (self.last + step) % flows).find(|flow| self.left[*flow] > 0)?;
        let request = ScheduledRequest { n: self.next, flow, earlier: self.sent[flow] };
        self.last = flow;
        self.left[flow] -= 1;
        self.sent[flow] += 1;
        self.next += 1;
        Some(request)
    }
}

/// The time from one request to the next at a rate in requests per second; none unless the rate is positive and finite.
pub(super) fn interval(qps: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(1.0 / qps).ok().filter(|interval| !interval.is_zero())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_request_is_sent_once_and_flows_take_turns(requests in prop::collection::vec(0_u64..40, 1..5)) {
            let mut seen = vec![0_u64; requests.len()];
            for (n, next) in (0..).zip(Schedule::new(requests.iter().copied())) {
                prop_assert_eq!((next.n, next.earlier), (n, seen[next.flow]));
                seen[next.flow] += 1;
                // until a flow is done, no flow is ahead of another by more than one request
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
            while let Some(next) = schedule.next() {
                seen[next.flow] += 1;
                turns += 1;
                if turns == stop {
                    schedule.stop(0);
                }
            }
            prop_assert_eq!(seen, [if stop == 0 { 20 } else { stop.div_ceil(2).min(20) }, 20]);
        }
    }
}
