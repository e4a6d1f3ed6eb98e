//! Responses of several senders in one order: that of sending.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::sample::{DriverStart, Next, ObservedResponse};
use crate::verdict::Answer;

/// The responses of several senders that are not passed on yet.
///
/// Each sender reports in its order of sending. A response is passed on once every sender that still sends has reported a request that was
/// due later, so that the order does not depend on how fast requests were answered: a sequential test of it would be biased towards the
/// version that answers faster.
#[derive(Debug)]
pub struct Merge {
    senders: Vec<Waiting>,
    /// The next response of each sender that has one: when it was due, and the sender.
    next: BTreeSet<(Instant, usize)>,
    /// How many senders still send and have no response waiting.
    silent: usize,
}

/// The responses of a sender that wait.
#[derive(Debug, Default)]
struct Waiting {
    responses: VecDeque<Held>,
    /// The kinds of its results.
    kinds: BTreeMap<usize, (Answer, Option<String>)>,
    has_ended: bool,
}

/// A response without its answer and its pod, which are those of its kind.
#[derive(Debug, Clone, Copy)]
struct Held {
    flow: usize,
    kind: usize,
    connection: usize,
    due: Duration,
    sent: Duration,
    at: Duration,
    start: DriverStart,
}

impl Held {
    /// When the request was due, by a clock that is off by the same time for all requests of a sender.
    fn order(&self) -> Instant {
        self.start.earliest + self.due
    }
}

impl Merge {
    /// Of so many senders.
    pub fn of(senders: usize) -> Self {
        Self { senders: (0..senders).map(|_| Waiting::default()).collect(), next: BTreeSet::new(), silent: senders }
    }

    /// Takes the next response of a sender.
    pub fn take(&mut self, sender: usize, answered: &ObservedResponse<'_>) {
        let ObservedResponse { flow, kind, answer, pod, connection, due, sent, at, start } = *answered;
        let held = Held { flow, kind, connection, due, sent, at, start };
        let own = &mut self.senders[sender];
        own.kinds.entry(kind).or_insert_with(|| (answer.clone(), pod.map(ToOwned::to_owned)));
        if own.responses.is_empty() {
            self.silent -= usize::from(!own.has_ended);
            self.next.insert((held.order(), sender));
        }
        own.responses.push_back(held);
    }

    /// No more responses come from a sender.
    pub fn end(&mut self, sender: usize) {
        let own = &mut self.senders[sender];
        if !std::mem::replace(&mut own.has_ended, true) && own.responses.is_empty() {
            self.silent -= 1;
        }
    }

    /// Passes the next response on, if it is known which one it is. Kinds and connections of different senders get different numbers.
    pub fn next(&mut self, observe: impl FnOnce(ObservedResponse<'_>) -> Next) -> Option<(usize, Next)> {
        if self.silent > 0 {
            return None;
        }
        let ((_, sender), all) = (self.next.pop_first()?, self.senders.len());
        let own = &mut self.senders[sender];
        let held = own.responses.pop_front()?;
        match own.responses.front() {
            Some(following) => {
                self.next.insert((following.order(), sender));
            }
            None => self.silent += usize::from(!own.has_ended),
        }
        let Held { flow, kind, connection, due, sent, at, start } = held;
        let (answer, pod) = own.kinds.get(&kind)?;
        let number = |own: usize| own * all + sender;
        let passed = ObservedResponse {
            flow,
            kind: number(kind),
            answer,
            pod: pod.as_deref(),
            connection: number(connection),
            due,
            sent,
            at,
            start,
        };
        Some((flow, observe(passed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is passed on after each event: a response of a sender that was due after so many milliseconds, or its end.
    fn passed(senders: usize, events: &[(usize, Option<u64>)]) -> Vec<Vec<(usize, u64)>> {
        let now = Instant::now();
        let start = DriverStart { earliest: now, latest: now };
        let mut merge = Merge::of(senders);
        let mut all = Vec::new();
        for (sender, due) in events {
            match due {
                Some(due) => {
                    let answer = Answer::Version { version: format!("v{sender}"), status: 200 };
                    let due = Duration::from_millis(*due);
                    let (flow, kind, connection) = (0, 3, 1);
                    merge.take(
                        *sender,
                        &ObservedResponse {
                            flow,
                            kind,
                            answer: &answer,
                            pod: None,
                            connection,
                            due,
                            sent: due,
                            at: due,
                            start,
                        },
                    );
                }
                None => merge.end(*sender),
            }
            let mut now = Vec::new();
            let mut see = |answered: ObservedResponse<'_>| {
                assert_eq!(answered.answer.to_string(), format!("v{} with 200", answered.kind % senders));
                assert_eq!((answered.kind / senders, answered.connection / senders), (3, 1));
                now.push((answered.connection % senders, u64::try_from(answered.due.as_millis()).unwrap()));
                Next::Continue
            };
            while merge.next(&mut see).is_some() {}
            all.push(now);
        }
        all
    }

    #[test]
    fn responses_are_passed_on_in_the_order_of_sending() {
        let events =
            [(0, Some(1)), (0, Some(4)), (1, Some(2)), (1, Some(3)), (1, Some(9)), (1, None), (0, Some(5)), (0, None)];
        let expected =
            [vec![], vec![], vec![(0, 1), (1, 2)], vec![(1, 3)], vec![(0, 4)], vec![], vec![(0, 5)], vec![(1, 9)]];
        assert_eq!(passed(2, &events), expected);
    }

    #[test]
    fn a_sender_that_sends_nothing_more_keeps_nobody_waiting() {
        let events = [(0, Some(1)), (1, None), (0, Some(2)), (0, None), (0, None)];
        assert_eq!(passed(2, &events), [vec![], vec![(0, 1)], vec![(0, 2)], vec![], vec![]]);
    }
}
