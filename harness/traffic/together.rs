//! Requests from several pods at the same time.

use std::collections::{BTreeMap, BTreeSet};

use super::error::TrafficError;
use super::merge::Merge;
use super::options::SampleFlow;
use super::sample::{Next, ObservedResponse};
use crate::scenario::{Scenario, Sender};

/// The requests of one sender.
pub(super) struct Part<'a> {
    pub sender: Sender<'a>,
    /// What it sends of which flows.
    pub portions: Vec<Portion>,
}

/// What one sender sends of a flow: one of `of` equal portions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Portion {
    /// The position of the flow among all.
    pub position: usize,
    index: u64,
    of: u64,
}

impl Portion {
    /// Its part of a number of requests. It sends one at least.
    pub fn part(self, requests: u64) -> u64 {
        (requests / self.of + u64::from(self.index < requests % self.of)).max(1)
    }
}

impl Part<'_> {
    /// The flows, with the sender's portion of their requests.
    pub fn flows<'f>(&self, all: &[SampleFlow<'f>]) -> Vec<SampleFlow<'f>> {
        let own = self.portions.iter().map(|portion| {
            let flow = all[portion.position];
            SampleFlow { requests: portion.part(flow.requests), least: flow.least.div_ceil(portion.of), ..flow }
        });
        own.collect()
    }

    /// The positions of its flows among all.
    pub fn positions(&self) -> Vec<usize> {
        self.portions.iter().map(|portion| portion.position).collect()
    }

    /// The sender's share of the rate of all flows together.
    #[expect(clippy::cast_precision_loss, reason = "there are few flows and senders")]
    pub fn share(&self, flows: usize) -> f64 {
        self.portions.iter().map(|portion| 1.0 / portion.of as f64).sum::<f64>() / flows.max(1) as f64
    }

    /// Whether other senders send the other portions of a flow.
    pub fn is_divided(&self) -> bool {
        self.portions.iter().any(|portion| portion.of > 1)
    }
}

/// The requests of each sender. Those of the client pod are divided among it and its replicas, except for those with sessions: the requests of
/// a session are told by their order.
///
/// # Errors
/// A flow names a population that the scenario does not have.
pub(super) fn parts<'a>(scenario: &'a Scenario, flows: &[SampleFlow<'_>]) -> Result<Vec<Part<'a>>, TrafficError> {
    let replicas = || scenario.client.replicas().map(|own| Sender::Pod(&own.name));
    let mut parts: BTreeMap<Sender<'_>, Vec<Portion>> = BTreeMap::new();
    for (position, flow) in flows.iter().enumerate() {
        let population = scenario.population(flow.from);
        let population = population.ok_or_else(|| TrafficError::NoPopulation(flow.from.to_owned()))?;
        let is_divided = population.sender() == Sender::Client && population.sessions.is_none();
        let also: Vec<Sender<'_>> = if is_divided { replicas().collect() } else { Vec::new() };
        let of = also.len() as u64 + 1;
        for (sender, index) in std::iter::once(population.sender()).chain(also).zip(0..) {
            parts.entry(sender).or_default().push(Portion { position, index, of });
        }
    }
    Ok(parts.into_iter().map(|(sender, portions)| Part { sender, portions }).collect())
}

/// What all senders have in common while they send.
pub(super) struct Shared<F> {
    observe: F,
    /// The responses that are not passed on yet; none where they are passed on as they arrive.
    merge: Option<Merge>,
    is_stopped: bool,
    /// The flows that were stopped.
    stopped: BTreeSet<usize>,
    /// The rate of all flows together that was set last.
    rate: Option<u32>,
}

impl<F: FnMut(ObservedResponse<'_>) -> Next> Shared<F> {
    /// Without senders, responses are passed on as they arrive; with so many of them, in the order of sending.
    pub fn new(observe: F, merged: Option<usize>) -> Self {
        Self { observe, merge: merged.map(Merge::of), is_stopped: false, stopped: BTreeSet::new(), rate: None }
    }

    /// Takes a response of a sender, and passes on what can be. What concerns all senders is returned to each of them with its next
    /// response. `raised` is the rate that the sender has.
    pub fn see(&mut self, sender: usize, answered: ObservedResponse<'_>, raised: &mut Option<u32>) -> Next {
        if let Some(merge) = &mut self.merge {
            merge.take(sender, &answered);
            self.pass_on();
        } else {
            let next = (self.observe)(answered);
            self.note(answered.flow, next);
        }
        if self.is_stopped {
            return Next::StopAll;
        }
        if self.stopped.contains(&answered.flow) {
            return Next::Stop;
        }
        match self.rate.filter(|_| *raised != self.rate) {
            Some(rate) => {
                *raised = Some(rate);
                Next::Rate(rate)
            }
            None => Next::Continue,
        }
    }

    /// No more responses come from a sender.
    pub fn end(&mut self, sender: usize) {
        if let Some(merge) = &mut self.merge {
            merge.end(sender);
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        while let Some(merge) = &mut self.merge {
            let Some((flow, next)) = merge.next(&mut self.observe) else { return };
            self.note(flow, next);
        }
    }

    fn note(&mut self, flow: usize, next: Next) {
        match next {
            Next::Continue => {}
            Next::Stop => {
                self.stopped.insert(flow);
            }
            Next::StopAll => self.is_stopped = true,
            Next::Rate(rate) => self.rate = Some(rate),
        }
    }
}

/// The rate of a share of all flows.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a rate is below the rate")]
pub(super) fn part_of(rate: u32, share: f64) -> u32 {
    ((f64::from(rate) * share) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::traffic::DriverStart;
    use crate::verdict::Answer;

    #[test]
    fn every_sender_stops_and_is_raised_when_one_answer_says_so() {
        let says = [Next::Continue, Next::Rate(400), Next::Continue, Next::Stop, Next::StopAll, Next::Continue];
        let mut says = says.into_iter();
        let mut shared = Shared::new(|_: ObservedResponse<'_>| says.next().unwrap(), None);
        let (answer, now) = (Answer::Version { version: "v1".to_owned(), status: 200 }, Instant::now());
        let start = DriverStart { earliest: now, latest: now };
        let zero = Duration::ZERO;
        let answered = ObservedResponse {
            flow: 0,
            kind: 0,
            answer: &answer,
            pod: None,
            connection: 0,
            due: zero,
            sent: zero,
            at: zero,
            start,
        };
        let (mut one, mut two) = (None, None);
        assert_eq!(shared.see(0, answered, &mut one), Next::Continue);
        assert_eq!(shared.see(0, answered, &mut one), Next::Rate(400));
        assert_eq!(shared.see(0, answered, &mut two), Next::Rate(400));
        assert_eq!(shared.see(0, answered, &mut two), Next::Stop);
        assert_eq!(shared.see(0, answered, &mut two), Next::StopAll);
        assert_eq!(shared.see(0, answered, &mut one), Next::StopAll);
    }

    #[test]
    fn the_rate_of_all_flows_is_divided() {
        assert_eq!((part_of(400, 0.25), part_of(400, 0.75), part_of(1, 0.25)), (100, 300, 1));
    }

    #[test]
    fn requests_are_divided_among_the_client_and_its_replicas() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let scenario = scenario.with_clients(3).unwrap();
        let flow = |from| SampleFlow { from, path: "/", requests: 11, least: 7 };
        let flows = [flow("everyone"), flow("testers")];
        let parts = parts(&scenario, &flows).unwrap();
        let requests =
            |part: &Part<'_>| part.flows(&flows).iter().map(|own| (own.requests, own.least)).collect::<Vec<_>>();
        assert_eq!(
            parts.iter().map(|part| part.sender.to_string()).collect::<Vec<_>>(),
            ["from the client pod", "from pod httpbin-2", "from pod httpbin-3"]
        );
        assert_eq!(parts.iter().map(requests).collect::<Vec<_>>(), [[(4, 3); 2], [(4, 3); 2], [(3, 3); 2]]);
        assert!(parts.iter().all(|part| part.is_divided() && (part.share(2) - 1.0 / 3.0).abs() < 1e-12));
    }
}
