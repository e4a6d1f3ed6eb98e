use std::collections::BTreeMap;

use crate::events::PickOrder;
use crate::traffic::ObservedResponse;

/// How many answers of a flow are looked at for the order of picks.
const LOOKED_AT: usize = 4096;
/// With fewer answers than this the order is not told.
const ENOUGH: usize = 40;
/// The number of changes from one server to another, of that expected of independent picks, below which picks stick and above which they
/// take turns. Strict turns of two come to 2, a server for good to 0; a least-request balancer lies around 1, and the further from it the more
/// its servers' speeds differ, so that no more than the extremes is told.
const STICKS_BELOW: f64 = 0.2;
const TURNS_ABOVE: f64 = 1.6;

/// The picks of each flow of a sample, in the order of sending.
#[derive(Debug, Default)]
pub(super) struct Picks(Vec<Flow>);

#[derive(Debug, Default)]
struct Flow {
    known: Vec<String>,
    picks: Vec<usize>,
}

impl Picks {
    pub fn see(&mut self, answered: &ObservedResponse<'_>) {
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
    pub fn order(&self, flow: usize) -> Option<PickOrder> {
        let picks = &self.0.get(flow)?.picks;
        // the first ones go where connections are there first
        let settled = &picks[picks.len() / 4..];
        let found = (settled.len() >= ENOUGH).then(|| order(settled))?;
        // with a second server among the first picks it is not known why it was not picked any more
        (found != PickOrder::One || order(picks) == PickOrder::One).then_some(found)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a few thousand picks")]
fn order(picks: &[usize]) -> PickOrder {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for pick in picks {
        *counts.entry(*pick).or_default() += 1;
    }
    if counts.len() < 2 {
        return PickOrder::One;
    }
    let total = picks.len() as f64;
    let changes = picks.windows(2).filter(|pair| pair[0] != pair[1]).count() as f64;
    // independent picks differ from the one before with this chance
    let differs = 1.0 - counts.values().map(|count| (*count as f64 / total).powi(2)).sum::<f64>();
    match changes / ((total - 1.0) * differs) {
        ratio if ratio < STICKS_BELOW => PickOrder::Sticks,
        ratio if ratio > TURNS_ABOVE => PickOrder::Turns,
        _ => PickOrder::Drawn,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::one(|_| 0, PickOrder::One)]
    #[case::turns(|index| index % 2, PickOrder::Turns)]
    #[case::sticks(|index| index / 10 % 2, PickOrder::Sticks)]
    // bits of a multiplicative sequence look drawn
    #[case::drawn(|index: usize| (index.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) & 1, PickOrder::Drawn)]
    fn the_order_of_picks_is_told(#[case] pick: fn(usize) -> usize, #[case] expected: PickOrder) {
        let picks: Vec<usize> = (0..400).map(pick).collect();
        assert_eq!(order(&picks), expected);
    }

    /// Picks of servers by these numbers.
    fn picked(picks: impl Iterator<Item = usize>) -> Option<PickOrder> {
        Picks(vec![Flow { known: Vec::new(), picks: picks.collect() }]).order(0)
    }

    #[test]
    fn a_server_that_is_slow_to_answer_at_first_is_not_taken_for_none() {
        // the second server gets four of the first eight requests and no later one
        assert_eq!(picked((0..688).map(|index| usize::from(index < 8 && index % 2 == 1))), None);
        assert_eq!(picked((0..688).map(|_| 0)), Some(PickOrder::One));
        assert_eq!(picked((0..688).map(|index| index % 2)), Some(PickOrder::Turns));
        assert_eq!(picked((0..40).map(|_| 0)), None);
    }
}
