//! The reasons of rulings, as text.

use super::design::{BadEvent, PartDesign};
use super::one_sided::OneSidedTest;
use super::quantile::RunningQuantile;
use super::trial::{PartState, ServiceLevelTrial};
use crate::verdict::ruling::Ruling;

impl ServiceLevelTrial {
    /// The part that failed.
    pub(super) fn failed(&self) -> Option<(&OneSidedTest, &PartDesign)> {
        let tests = self.parts.iter().map(|state| &state.test).zip(&self.design.tests);
        tests.into_iter().find(|(test, _)| test.ruling == Some(Ruling::Fail))
    }

    /// What was seen of each part that decides, and what is missing for a verdict.
    pub(super) fn reason(&self) -> String {
        let mut reasons = Vec::new();
        for (state, part) in self.parts.iter().zip(&self.design.tests) {
            let (test, mut seen) = (&state.test, self.seen(state, part));
            match (self.ruling(), state.ruling()) {
                (Some(Ruling::Fail), Some(Ruling::Fail)) => {
                    let chance = part.design.chance(test.events, test.hits);
                    seen = format!(
                        "{seen}; {} was claimed; a chance of this or worse under the claim: at most {chance:.0e}",
                        part.claimed
                    );
                }
                (Some(Ruling::Fail), _) => continue,
                (_, Some(Ruling::Inconclusive)) => {
                    let canary = self.design.claim.versions().map_or("", |[canary, _]| canary);
                    seen = format!("{seen}; if the errors without a version were {canary}'s, the claim would fail");
                }
                (None, None) => {
                    let open = if test.ruling.is_none() { test } else { &state.worst };
                    seen = format!("{seen}, {}", self.missing(open, part));
                }
                _ => {}
            }
            reasons.push(seen);
        }
        reasons.push(format!("{} requests", self.requests));
        if self.unattributed > 0 {
            reasons.push(format!("{} errors without a version are not attributed", self.unattributed));
        }
        reasons.join("; ")
    }

    fn seen(&self, state: &PartState, part: &PartDesign) -> String {
        let OneSidedTest { hits, events, .. } = state.test;
        let (low, high) = part.design.interval(events, hits, state.test.ruling == Some(Ruling::Pass));
        let Some([canary, baseline]) = self.design.claim.versions() else {
            let share = 100.0 * hits as f64 / events.max(1) as f64;
            let (low, high) = (low * 100.0, high * 100.0);
            return format!("{hits} {} of {events}, {share:.2} % ({low:.2} to {high:.2})", part.bad);
        };
        let latest = state.quantile.as_ref().and_then(RunningQuantile::latest);
        let latest = latest.map(|latest| format!(" ({:.1} ms)", latest.as_secs_f64() * 1e3)).unwrap_or_default();
        let what = match part.bad {
            BadEvent::Slower(_) => format!("{} of {baseline}'s{latest}", part.bad),
            _ => part.bad.to_string(),
        };
        let from = format!("{hits} of {events} {what} came from {canary}");
        if events == 0 {
            return from;
        }
        let weight = part.design.share();
        let risk = |share: f64| shown(share * (1.0 - weight) / ((1.0 - share) * weight));
        let seen = risk(hits as f64 / events as f64);
        format!("{from}: {seen} times the share of {baseline} ({} to {})", risk(low), risk(high))
    }

    /// The events and the requests that are missing for a pass, if the claim is right.
    fn missing(&self, test: &OneSidedTest, part: &PartDesign) -> String {
        let more = part.design.remaining(test.events, test.hits);
        let few = format!("too few for a verdict: about {more:.0} more are needed");
        if self.design.claim.versions().is_none() || test.events == 0 {
            return few;
        }
        let requests = (more * self.requests as f64 / test.events as f64).ceil();
        format!("{few}, some {requests:.0} requests at this rate")
    }
}

/// A factor with three significant digits.
fn shown(factor: f64) -> String {
    match factor {
        factor if !factor.is_finite() || factor >= 1e4 => "many".to_owned(),
        factor if factor >= 100.0 => format!("{factor:.0}"),
        factor if factor >= 10.0 => format!("{factor:.1}"),
        factor => format!("{factor:.2}"),
    }
}
