use std::time::Duration;

use super::buckets::{bucket, upper};
use crate::scenario::{Confidence, Share};
use crate::verdict::binomial::confidence_interval;
use crate::verdict::compared::{LatencyQuantile, SlowerShare};
use crate::verdict::quantile_ranks::quantile_ranks;

/// Between two points of a distribution, the share of slower answers falls by at least this part: at most some 200 points for a million answers.
const STEP: f64 = 1.0 / 8.0;
/// So many buckets without a latency have points at both ends: those between a latency and 1.4 times as long a one.
const FAR: usize = 32;

/// The latencies of the answers of one version, in buckets.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies {
    /// The number of latencies in each bucket.
    counts: Vec<u64>,
    total: u64,
}

impl Latencies {
    pub fn add(&mut self, latency: Duration) {
        let bucket = bucket(latency);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// The quantile at a share, unless the latencies are too few to bound it on both sides.
    pub fn quantile(&self, share: Share, confidence: Confidence) -> Option<LatencyQuantile> {
        let (low, high) = quantile_ranks(self.total, share, confidence);
        if high > self.total {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank is positive and at most the total"
        )]
        let rank = (share.fraction() * self.total as f64).ceil() as u64;
        Some(LatencyQuantile { latency: self.at(rank.max(1)), interval: (self.at(low), self.at(high)) })
    }

    /// The largest latency of the bucket that has this rank, from 1.
    fn at(&self, rank: u64) -> Duration {
        let mut ranks = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        upper(ranks.position(|sum| sum >= rank).unwrap_or_default())
    }

    /// The distribution: the shares of slower answers at some latencies, from all answers down to none.
    pub fn slower(&self, confidence: Confidence) -> Vec<SlowerShare> {
        let counts = self.counts.iter().copied().enumerate();
        let filled: Vec<(usize, u64)> = counts.filter(|(_, count)| *count > 0).collect();
        let is_far = |from: Option<usize>, to: Option<usize>| from.zip(to).is_none_or(|(from, to)| to - from > FAR);
        let bucket_at = |index: usize| filled.get(index).map(|(bucket, _)| *bucket);
        let mut points: Vec<(usize, u64)> = Vec::new();
        let (mut slower, mut last) = (self.total, self.total);
        for (index, (bucket, count)) in filled.iter().copied().enumerate() {
            let before = slower;
            slower -= count;
            let is_step = slower as f64 <= last as f64 * (1.0 - STEP);
            // the bucket begins where the one before it ends
            let begin = bucket.saturating_sub(1);
            let starts = is_step || is_far(index.checked_sub(1).and_then(bucket_at), Some(bucket));
            if starts && points.last().is_none_or(|(end, _)| *end < begin) {
                points.push((begin, before));
            }
            if is_step || is_far(Some(bucket), bucket_at(index + 1)) {
                points.push((bucket, slower));
                last = slower;
            }
        }
        let point = |(bucket, count): (usize, u64)| {
            let (low, high) = confidence_interval(self.total, count, None, confidence);
            let share = rounded(count as f64 / self.total as f64);
            SlowerShare { latency: upper(bucket), share, interval: (rounded(low), rounded(high)) }
        };
        points.into_iter().map(point).collect()
    }
}

/// A fraction with as many digits as a picture can show.
fn rounded(share: f64) -> f64 {
    (share * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::scenario::ErrorRates;

    /// The latencies of a service: 6 % of the answers take 100 ms longer than the others.
    fn latencies(count: u64) -> Latencies {
        let (mut latencies, mut random) = (Latencies::default(), Rng::with_seed(3));
        for _ in 0..count {
            let slow = if random.f64() < 0.06 { 100_000 } else { 0 };
            latencies.add(Duration::from_micros(random.u64(800..3000) + slow));
        }
        latencies
    }

    #[test]
    fn a_distribution_has_few_points_and_keeps_its_ends_and_its_steps() {
        let latencies = latencies(300_000);
        let points = latencies.slower(ErrorRates::default().confidence());
        assert!((20..=200).contains(&points.len()), "{}", points.len());
        let (first, last) = (points[0], points[points.len() - 1]);
        assert!((first.share, last.share) == (1.0, 0.0), "{first:?} {last:?}");
        assert!(first.latency < Duration::from_micros(801) && last.latency > Duration::from_millis(102));
        assert!(points.is_sorted_by(|left, right| left.latency < right.latency && left.share >= right.share));
        // nothing takes from 3 to 100 ms: the share of the slow ones is at both ends of that
        let level: Vec<_> = points.iter().filter(|point| (point.share - 0.06).abs() < 0.003).collect();
        let (from, to) = (level[0].latency.as_micros(), level[level.len() - 1].latency.as_micros());
        assert!(from < 3100 && to > 95_000, "{from} {to}");
        for point in points {
            let (low, high) = point.interval;
            assert!(low <= point.share && point.share <= high && high - low < 0.01, "{point:?}");
        }
    }

    #[test]
    fn a_quantile_lies_within_its_interval_and_is_left_out_if_nothing_bounds_it() {
        let confidence = ErrorRates::default().confidence();
        let share: Share = "95%".parse().unwrap();
        let LatencyQuantile { latency, interval: (low, high) } = latencies(20_000).quantile(share, confidence).unwrap();
        assert!(low <= latency && latency <= high, "{low:?} {latency:?} {high:?}");
        assert!(low > Duration::from_millis(2) && high < Duration::from_millis(105), "{low:?} {high:?}");
        assert_eq!(latencies(30).quantile(share, confidence), None);
        assert_eq!(latencies(0).quantile(share, confidence), None);
        assert_eq!(latencies(0).slower(confidence), []);
    }
}
