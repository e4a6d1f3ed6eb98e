//! Verdicts on the claims of a stage, from what was sent, answered and counted. Nothing here does any I/O.

mod claim;
mod controlled;
mod declared;
mod during;
#[cfg(test)]
pub(crate) mod fixtures;
mod followed;
mod served;
mod written;

pub(crate) use claim::{
    causes, ended_at_once, judge_during, judge_objects, judge_sample, judge_service_level, judge_sessions,
    leave_undecided, not_converged, not_judged,
};
pub(crate) use controlled::judge_controlled;
pub(crate) use declared::{Declaration, Mover, judge_declared};
pub(crate) use during::{Sighting, Watched, longest_silence, micros, tells_version};
pub(crate) use followed::judge_followed;
pub(crate) use served::ServedRequests;
