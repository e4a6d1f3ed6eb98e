use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::buckets::{bucket, upper};

/// The number of answers beyond the quantile that a threshold needs.
const BEYOND: f64 = 20.0;

/// A running quantile of latencies that is known before each request: it contains only the answers that had arrived when the request was sent.
///
/// ```
/// use std::time::Duration;
/// use shiftcheck_model::verdict::RunningQuantile;
///
/// let mut quantile = RunningQuantile::new(0.9);
/// let millis = Duration::from_millis;
/// for n in 0..1000 {
///     let sent = millis(n);
///     quantile.add(sent, sent + millis(10 + n % 10));
/// }
/// assert_eq!(quantile.threshold(millis(5)), None); // nothing had arrived
/// let threshold = quantile.threshold(millis(2000)).unwrap();
/// assert!(millis(18) <= threshold && threshold < millis(19));
/// ```
#[derive(Debug, Clone)]
pub struct RunningQuantile {
    quantile: f64,
    /// The number of latencies in each bucket.
    counts: Vec<u64>,
    total: u64,
    /// The bucket of the quantile, and the number of latencies in the buckets before it.
    at: usize,
    before: u64,
    /// Latencies by the time of arrival that may not be known yet.
    pending: BinaryHeap<Reverse<(Duration, Duration)>>,
}

impl RunningQuantile {
    /// The quantile at a fraction, such as 0.95.
    pub const fn new(quantile: f64) -> Self {
        Self { quantile, counts: Vec::new(), total: 0, at: 0, before: 0, pending: BinaryHeap::new() }
    }

    /// Adds the latency of a request, by the times at which it was sent and answered.
    pub fn add(&mut self, sent: Duration, answered: Duration) {
        self.pending.push(Reverse((answered, answered.saturating_sub(sent))));
    }

    /// The latency above which an answer to a request that was sent at this time is slow; none before enough answers have arrived.
    pub fn threshold(&mut self, sent: Duration) -> Option<Duration> {
        while let Some(Reverse((answered, latency))) = self.pending.peek().copied()
            && answered <= sent
        {
            self.pending.pop();
            self.count(bucket(latency));
        }
        self.latest()
    }

    /// The threshold by the answers that have been counted.
    pub fn latest(&self) -> Option<Duration> {
        let beyond = (1.0 - self.quantile) * self.total as f64;
        (beyond >= BEYOND).then(|| upper(self.at))
    }

    fn count(&mut self, bucket: usize) {
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.before += u64::from(bucket < self.at);
        let wanted = self.quantile * self.total as f64;
        while self.before as f64 >= wanted && self.at > 0 {
            self.at -= 1;
            self.before -= self.counts[self.at];
        }
        while self.at + 1 < self.counts.len() && ((self.before + self.counts[self.at]) as f64) < wanted {
            self.before += self.counts[self.at];
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_threshold_is_the_quantile_up_to_the_width_of_a_bucket(
            mut micros in prop::collection::vec(1_u64..2_000_000, 400..900),
            percent in 50_u32..95,
        ) {
            let quantile = f64::from(percent) / 100.0;
            let mut running = RunningQuantile::new(quantile);
            for (n, micros) in (0..).zip(&micros) {
                let sent = Duration::from_secs(n);
                running.add(sent, sent + Duration::from_micros(*micros));
                running.threshold(Duration::from_secs(n + 3));
            }
            micros.sort_unstable();
            let found = running.latest().unwrap().as_micros() as f64;
            let below = micros.iter().filter(|micros| (**micros as f64) <= found).count() as f64;
            prop_assert!(below >= quantile * micros.len() as f64, "{below}");
            let below = micros.iter().filter(|micros| (**micros as f64) < found * 0.984 - 1.0).count() as f64;
            prop_assert!(below <= quantile * micros.len() as f64, "{below}");
        }
    }

    #[test]
    fn an_answer_counts_from_its_arrival_on() {
        let mut quantile = RunningQuantile::new(0.5);
        let millis = Duration::from_millis;
        (0..100).for_each(|n| quantile.add(millis(n), millis(n + 1000)));
        assert_eq!(quantile.threshold(millis(999)), None);
        assert_eq!(quantile.threshold(millis(1038)), None);
        // 40 answers, of which 20 are beyond the median
        assert!(quantile.threshold(millis(1039)).is_some());
    }
}
