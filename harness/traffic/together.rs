//! Requests from several pods at the same time.

use std::collections::BTreeMap;

use super::error::TrafficError;
use super::options::SampleFlow;
use super::sample::{Next, ObservedResponse};
use crate::scenario::{Scenario, Sender};

/// The flows of one sender.
pub(super) struct Part<'a> {
    pub sender: Sender<'a>,
    /// The positions of the flows among all.
    pub positions: Vec<usize>,
}

/// The flows of each sender.
///
/// # Errors
/// A flow names a population that the scenario does not have.
pub(super) fn parts<'a>(scenario: &'a Scenario, flows: &[SampleFlow<'_>]) -> Result<Vec<Part<'a>>, TrafficError> {
    let mut parts: BTreeMap<Sender<'_>, Vec<usize>> = BTreeMap::new();
    for (position, flow) in flows.iter().enumerate() {
        let population = scenario.population(flow.from);
        let population = population.ok_or_else(|| TrafficError::NoPopulation(flow.from.to_owned()))?;
        parts.entry(population.sender()).or_default().push(position);
    }
    Ok(parts.into_iter().map(|(sender, positions)| Part { sender, positions }).collect())
}

/// What all senders have in common while they send.
pub(super) struct Shared<F> {
    observe: F,
    is_stopped: bool,
    /// The rate of all flows together that was set last.
    rate: Option<u32>,
}

impl<F: FnMut(ObservedResponse<'_>) -> Next> Shared<F> {
    pub const fn new(observe: F) -> Self {
        Self { observe, is_stopped: false, rate: None }
    }

    /// Passes a response on. What concerns all senders is returned to each of them with its next response. `raised` is the rate that the sender
    /// has.
    pub fn see(&mut self, answered: ObservedResponse<'_>, raised: &mut Option<u32>) -> Next {
        match (self.observe)(answered) {
            Next::Continue => {}
            Next::Stop => return Next::Stop,
            Next::StopAll => self.is_stopped = true,
            Next::Rate(rate) => self.rate = Some(rate),
        }
        if self.is_stopped {
            return Next::StopAll;
        }
        match self.rate.filter(|_| *raised != self.rate) {
            Some(rate) => {
                *raised = Some(rate);
                Next::Rate(rate)
            }
            None => Next::Continue,
        }
    }
}

/// The rate of so many flows of all.
pub(super) fn part_of(rate: u32, own: usize, all: usize) -> u32 {
    let share = u64::from(rate) * own as u64 / all.max(1) as u64;
    u32::try_from(share).unwrap_or(u32::MAX).max(1)
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
        let mut shared = Shared::new(|_: ObservedResponse<'_>| says.next().unwrap());
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
        assert_eq!(shared.see(answered, &mut one), Next::Continue);
        assert_eq!(shared.see(answered, &mut one), Next::Rate(400));
        assert_eq!(shared.see(answered, &mut two), Next::Rate(400));
        assert_eq!(shared.see(answered, &mut two), Next::Stop);
        assert_eq!(shared.see(answered, &mut two), Next::StopAll);
        assert_eq!(shared.see(answered, &mut one), Next::StopAll);
    }

    #[test]
    fn the_rate_of_all_flows_is_divided() {
        assert_eq!((part_of(400, 1, 4), part_of(400, 3, 4), part_of(1, 1, 4)), (100, 300, 1));
    }
}
