//! Claims and requests for the tests of judging and observing.

use std::time::Duration;

use super::during::Sighting;
use crate::scenario::{During, ErrorRates, Origin};

pub(crate) const MS: u64 = 1000;

pub(crate) fn place() -> Origin {
    Origin::new("scenario.yaml", 3, 9)
}

pub(crate) fn during(errors: Option<u64>, gap: Option<u64>, last_of: &[(&str, u64)]) -> During {
    During {
        errors,
        excludes: During::EXCLUDES,
        miss: ErrorRates::default().miss,
        false_alarm: ErrorRates::default().false_alarm,
        latency: Vec::new(),
        gap: gap.map(Duration::from_millis),
        last_of: last_of
            .iter()
            .map(|(version, millis)| ((*version).to_owned(), Duration::from_millis(*millis)))
            .collect(),
        origin: place(),
    }
}

/// A request of the first population that was due then, in milliseconds, and answered by v1 a millisecond later.
pub(crate) fn good(due: u64) -> Sighting {
    Sighting { population: 0, due: due * MS, sent: due * MS, at: (due + 1) * MS, good: true, version: Some(0) }
}

pub(crate) fn failed(due: u64) -> Sighting {
    Sighting { good: false, version: None, at: (due + 500) * MS, ..good(due) }
}

pub(crate) fn v2(due: u64) -> Sighting {
    Sighting { version: Some(1), ..good(due) }
}
