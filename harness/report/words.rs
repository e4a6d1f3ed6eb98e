use std::fmt::Display;
use std::time::Duration;

use crate::session::{Ending, Outcome};

/// `1 stage`, `2 stages`.
pub fn plural(count: impl Display, word: &str) -> String {
    let count = count.to_string();
    format!("{count} {word}{}", if count == "1" { "" } else { "s" })
}

/// The result of a run in words.
pub fn note(outcome: &Outcome) -> String {
    let Outcome { ending, passed, stages } = outcome;
    match ending {
        Ending::Passed => "all stages passed".to_owned(),
        Ending::Cancelled => "interrupted".to_owned(),
        Ending::Failed | Ending::Undecided => {
            let missed = stages - passed - 1;
            let rest = if missed == 0 { String::new() } else { format!("; {} not run", plural(missed, "stage")) };
            let failed = if *ending == Ending::Undecided { "is undecided" } else { "failed" };
            format!("stage {} of {stages} {failed}{rest}", passed + 1)
        }
    }
}

/// A text cut to a length.
pub(super) fn short(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    text.chars().take(longest - 1).chain(['…']).collect()
}

/// A number of requests as a float.
#[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
pub(super) const fn float(count: u64) -> f64 {
    count as f64
}

/// `1.5 ms`, `180 ms`.
pub(super) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 10.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
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
