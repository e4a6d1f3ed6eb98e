/// Halves an interval this many times, so that a predicate stays false at the first end and true at the other. 60 times are enough for double
/// precision.
pub(super) fn bisect(from: f64, to: f64, times: u32, holds: impl Fn(f64) -> bool) -> (f64, f64) {
    let (mut fails, mut holding) = (from, to);
    for _ in 0..times {
        let middle = f64::midpoint(fails, holding);
        if holds(middle) { holding = middle } else { fails = middle }
    }
    (fails, holding)
}

/// The largest value up to `limit` for which a predicate is true, if it is true up to some value and false beyond.
pub(super) fn largest(limit: u64, holds: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, limit);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if holds(middle) { low = middle } else { high = middle - 1 }
    }
    low
}
