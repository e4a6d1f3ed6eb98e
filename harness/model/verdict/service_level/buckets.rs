//! Buckets of latencies.

use std::time::Duration;

/// The number of bits of a latency that tell buckets apart: a bucket is at most 1.6 % wide.
const BITS: u32 = 6;

/// The bucket of a latency: its highest bits.
#[expect(clippy::cast_possible_truncation, reason = "there are at most 4,000 buckets")]
pub(super) fn bucket(latency: Duration) -> usize {
    // `as_micros` has 128 bits, which takes longer
    let whole = latency.as_secs().saturating_mul(1_000_000);
    let micros = whole.saturating_add(u64::from(latency.subsec_micros())).max(1);
    let shift = micros.ilog2().saturating_sub(BITS);
    ((u64::from(shift) << BITS) + (micros >> shift)) as usize
}

/// The largest latency of a bucket.
pub(super) fn upper(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let shift = (bucket >> BITS).saturating_sub(1);
    let highest = bucket - (shift << BITS);
    Duration::from_micros(((highest + 1) << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_the_order_of_latencies_and_not_wide() {
        let mut last = 0;
        for micros in (1..5000).chain((1..200).map(|n| n * 600_000)) {
            let latency = Duration::from_micros(micros);
            let own = bucket(latency);
            assert!(own >= last, "{micros}");
            last = own;
            let widest = upper(own).as_micros() as f64 / micros as f64;
            assert!((1.0..1.016).contains(&widest), "{micros}: {widest}");
        }
    }
}
