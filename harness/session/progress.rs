use std::time::{Duration, Instant};

use crate::events::Tallied;
use crate::traffic::ObservedResponse;

/// The shortest time between two events about the progress of traffic.
const INTERVAL: Duration = Duration::from_millis(100);

/// The answers to flows so far, counted, for events about progress at a low rate.
pub(super) struct Progress {
    /// The population and the path of each flow.
    flows: Vec<(String, String)>,
    /// By flow and kind of result.
    counts: Vec<Vec<Option<Tallied>>>,
    told: Instant,
}

impl Progress {
    /// The progress of traffic that begins now.
    pub fn new(flows: impl IntoIterator<Item = (String, String)>) -> Self {
        let flows: Vec<(String, String)> = flows.into_iter().collect();
        Self { counts: vec![Vec::new(); flows.len()], flows, told: Instant::now() }
    }

    /// Counts an answer. Returns whether it is time for an event.
    pub fn see(&mut self, answered: &ObservedResponse<'_>) -> bool {
        let ObservedResponse { flow, kind, answer, pod, .. } = *answered;
        let Some(counts) = self.counts.get_mut(flow) else { return false };
        if counts.len() <= kind {
            counts.resize(kind + 1, None);
        }
        let tallied = counts[kind].get_or_insert_with(|| Tallied {
            from: self.flows[flow].0.clone(),
            path: self.flows[flow].1.clone(),
            answer: answer.clone(),
            pod: pod.map(ToOwned::to_owned),
            count: 0,
        });
        tallied.count += 1;
        let is_time = self.told.elapsed() > INTERVAL;
        if is_time {
            self.told = Instant::now();
        }
        is_time
    }

    /// The answers so far.
    pub fn answers(&self) -> Vec<Tallied> {
        self.counts.iter().flatten().flatten().cloned().collect()
    }
}
