use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::cluster::Injection;
use crate::mesh::{Configuration, Counters};
use crate::traffic::Answered;

/// How many answers of a flow are looked at for the order of picks.
const LOOKED_AT: usize = 4096;
/// With fewer answers than this the order is not told.
const ENOUGH: usize = 40;
/// The number of changes from one server to another, of that expected of independent picks, below which picks stick and above which they
/// take turns. Strict turns of two come to 2, a server for good to 0; a least-request balancer lies around 1, and the further from it the more
/// its servers' speeds differ, so that no more than the extremes is told.
const STICKS_BELOW: f64 = 0.2;
const TURNS_ABOVE: f64 = 1.6;

/// What a mesh did in a stage, beyond what is claimed of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fingerprint {
    /// The requests of the stage's sample.
    pub sent: u64,
    /// The requests that the servers counted meanwhile: more than were sent where some were tried again. None where they do not count.
    pub served: Option<u64>,
    /// What the client's sidecar counted meanwhile; none where it does not count.
    pub counters: Option<Counters>,
    /// Whether connections to servers are secured by TLS of the mesh; none where the sidecar does not count them.
    pub secured: Option<bool>,
    /// In which order servers were picked, for each population and path.
    pub order: BTreeMap<(String, String), Order>,
    /// How sidecars are put into pods.
    pub injection: BTreeSet<Injection>,
    /// The configuration of the client's sidecar that has to do with the service.
    pub configuration: Configuration,
}

/// In which order servers are picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// There is one.
    One,
    /// Each time anew.
    Drawn,
    /// One after the other.
    Turns,
    /// The same several times in a row.
    Sticks,
}

impl fmt::Display for Order {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::One => "one server",
            Self::Drawn => "drawn each time",
            Self::Turns => "in turns",
            Self::Sticks => "the same in a row",
        })
    }
}

impl Fingerprint {
    /// Requests to servers for each request of the client: 1 where none is tried again.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers of requests are far below 2^52")]
    pub fn attempts(&self) -> Option<f64> {
        let served = self.served?;
        (self.sent > 0).then(|| served as f64 / self.sent as f64)
    }
}

/// The picks of each flow of a sample, in the order of sending.
#[derive(Debug, Default)]
pub(super) struct Picks(Vec<Flow>);

#[derive(Debug, Default)]
struct Flow {
    known: Vec<String>,
    picks: Vec<usize>,
}

impl Picks {
    pub fn see(&mut self, answered: &Answered<'_>) {
        while self.0.len() <= answered.flow {
            self.0.push(Flow::default());
        }
        let flow = &mut self.0[answered.flow];
        if flow.picks.len() >= LOOKED_AT {
            return;
        }
        // where servers do not say who they are, what they answer has to do
        let own = answered.pod.map_or_else(|| answered.answer.to_string(), ToOwned::to_owned);
        let index = flow.known.iter().position(|known| *known == own).unwrap_or_else(|| {
            flow.known.push(own);
            flow.known.len() - 1
        });
        flow.picks.push(index);
    }

    /// The order of a flow; none where too little is known of it.
    pub fn order(&self, flow: usize) -> Option<Order> {
        let picks = &self.0.get(flow)?.picks;
        // the first ones go where connections are there first
        let settled = &picks[picks.len() / 4..];
        let found = (settled.len() >= ENOUGH).then(|| order(settled))?;
        // with a second server among the first picks it is not known why it was not picked any more
        (found != Order::One || order(picks) == Order::One).then_some(found)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a few thousand picks")]
fn order(picks: &[usize]) -> Order {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for pick in picks {
        *counts.entry(*pick).or_default() += 1;
    }
    if counts.len() < 2 {
        return Order::One;
    }
    let total = picks.len() as f64;
    let changes = picks.windows(2).filter(|pair| pair[0] != pair[1]).count() as f64;
    // independent picks differ from the one before with this chance
    let differs = 1.0 - counts.values().map(|count| (*count as f64 / total).powi(2)).sum::<f64>();
    match changes / ((total - 1.0) * differs) {
        ratio if ratio < STICKS_BELOW => Order::Sticks,
        ratio if ratio > TURNS_ABOVE => Order::Turns,
        _ => Order::Drawn,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::one(|_| 0, Order::One)]
    #[case::turns(|index| index % 2, Order::Turns)]
    #[case::sticks(|index| index / 10 % 2, Order::Sticks)]
    // bits of a multiplicative sequence look drawn
    #[case::drawn(|index: usize| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) & 1, Order::Drawn)]
    fn the_order_of_picks_is_told(#[case] pick: fn(usize) -> usize, #[case] expected: Order) {
        let picks: Vec<usize> = (0..400).map(pick).collect();
        assert_eq!(order(&picks), expected);
    }

    /// Picks of servers by these numbers.
    fn picked(picks: impl Iterator<Item = usize>) -> Option<Order> {
        Picks(vec![Flow { known: Vec::new(), picks: picks.collect() }]).order(0)
    }

    #[test]
    fn a_server_that_is_slow_to_answer_at_first_is_not_taken_for_none() {
        // the second server gets four of the first eight requests and no later one
        assert_eq!(picked((0..688).map(|index| usize::from(index < 8 && index % 2 == 1))), None);
        assert_eq!(picked((0..688).map(|_| 0)), Some(Order::One));
        assert_eq!(picked((0..688).map(|index| index % 2)), Some(Order::Turns));
        assert_eq!(picked((0..40).map(|_| 0)), None);
    }

    #[test]
    fn attempts_are_requests_served_for_each_one_sent() {
        let print = Fingerprint { sent: 200, served: Some(600), ..Fingerprint::default() };
        assert_eq!(print.attempts(), Some(3.0));
        assert_eq!(Fingerprint { sent: 200, ..Fingerprint::default() }.attempts(), None);
    }
}
