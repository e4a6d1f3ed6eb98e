use std::time::Duration;

/// A duration in the syntax of a scenario: `1m 30s`, `200ms`.
pub(super) fn shown(duration: Duration) -> String {
    jiff::SignedDuration::try_from(duration)
        .map_or_else(|_| format!("{duration:?}"), |duration| format!("{duration:#}"))
}
