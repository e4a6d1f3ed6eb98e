use std::time::Duration;

/// `1 stage`, `2 stages`.
#[must_use]
pub fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// `1.5 ms`.
pub(super) fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// A probability: `2e-6`, `0.023`.
pub(super) fn chance(chance: f64) -> String {
    if chance == 0.0 || chance >= 1e-3 {
        format!("{}", (chance * 1e6).round() / 1e6)
    } else {
        format!("{chance:.1e}").replace(".0e", "e")
    }
}

/// `2.5 s`.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
