//! The paths of the tests, and what they saw of both versions.

use super::design::{BadEvent, Claimed, PartDesign};
use super::quantile::RunningQuantile;
use super::trial::{PartState, ServiceLevelTrial};
use crate::verdict::binomial::confidence_interval;
use crate::verdict::compared::{ComparedPart, ComparedVersion};
use crate::verdict::sequential::{Boundaries, Line};
use crate::verdict::trial::DecisionPath;

impl ServiceLevelTrial {
    /// The path of the test of each part.
    pub(super) fn paths(&self) -> Vec<DecisionPath> {
        let parts = self.parts.iter().zip(&self.design.tests);
        let path = |(state, part): (&PartState, &PartDesign)| {
            let [fails_above, passes_below] = part.design.lines();
            let (name, of) = match self.design.claim.versions() {
                Some([canary, _]) => (canary.clone(), part.bad.to_string()),
                None => (part.bad.to_string(), "requests".to_owned()),
            };
            let mut points = state.points.clone();
            let end = (state.test.events, state.test.hits);
            if end.0 > 0 && points.last() != Some(&end) {
                points.push(end);
            }
            DecisionPath {
                part: name,
                of,
                claimed: part.design.share(),
                cap: self.design.allowed(),
                boundaries: Boundaries { fails_above, passes_below, passes_above: ALWAYS, fails_below: NEVER },
                gross_faults: Vec::new(),
                points,
                compared: self.compared(state, part),
            }
        };
        parts.map(path).collect()
    }

    /// What a part of a comparison saw of both versions.
    fn compared(&self, state: &PartState, part: &PartDesign) -> Option<ComparedPart> {
        let (Some([canary, baseline]), Claimed::Below(factor)) = (self.design.claim.versions(), part.claimed) else {
            return None;
        };
        let confidence = self.design.claim.errors.confidence();
        let share = if let BadEvent::Slower(share) = part.bad { Some(share) } else { None };
        let version = |side: usize, version: &String| {
            let (answers, latencies) = (state.answers[side], &self.latencies[side]);
            ComparedVersion {
                version: version.clone(),
                answers: answers.all,
                bad: answers.bad,
                interval: confidence_interval(answers.all, answers.bad, None, confidence),
                quantile: share.and_then(|share| latencies.quantile(share, confidence)),
                slower: share.map(|_| latencies.slower(confidence)).unwrap_or_default(),
            }
        };
        Some(ComparedPart {
            factor,
            share,
            threshold: state.quantile.as_ref().and_then(RunningQuantile::latest),
            confidence,
            versions: [version(0, canary), version(1, baseline)],
        })
    }
}

/// A line that every count of hits reaches, since a one-sided test excludes no small share.
const ALWAYS: Line = Line { start: 0.0, slope: 0.0 };
/// A line below which no count of hits is.
const NEVER: Line = Line { start: -1.0, slope: 0.0 };
