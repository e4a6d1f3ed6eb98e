//! Statistics: a claim and the answers that a population got, in the order of sending, give a verdict with its errors stated.
//!
//! A claimed share is decided by a truncated two-sided sequential test ([`ShareTest`]): it stops as soon as the answers
//! exclude the claim or exclude every share that is off by δ. A right route is refused with a chance of at most α, a route
//! that is wrong by δ is accepted with a chance of at most β, both exactly and at any share. A claim that one version answers
//! everything is decided with zero tolerance, and the verdict says which leak it excludes. There is one sample and no second
//! chance. What a claim may cost is known beforehand ([`Design`]); a claim that could not tell right from wrong is refused.

mod answer;
mod binomial;
mod design;
mod exclusion;
mod identify;
mod independence;
mod scores;
mod sequential;
mod tails;
mod trial;

pub use answer::{Answer, Kind};
pub use binomial::{Band, confidence_interval, leak_bound, requests_for_leak, two_sided_chance};
pub use design::{Design, DesignError, Totals};
pub use exclusion::{excluded_share, requests_to_exclude};
pub use identify::{Replicas, Unidentified, identify};
pub use independence::{CALIBRATION_ALARM, Dispersion, FOUND, Findings, Independence, Power, RunsTest};
pub use sequential::{Boundaries, Characteristics, Line, ShareDesign, ShareTest};
pub use trial::{DecisionPath, Ruling, Share as ServedShare, Stop, Trial, Verdict};
