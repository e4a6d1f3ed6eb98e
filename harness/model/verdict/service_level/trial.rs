use std::time::Duration;

use super::design::{BadEvent, ServiceLevelDesign};
use super::latencies::Latencies;
use super::one_sided::OneSidedTest;
use super::quantile::RunningQuantile;
use crate::scenario::StatusCode;
use crate::verdict::answer::Answer;
use crate::verdict::ruling::{Ruling, Stop};
use crate::verdict::trial::{THINNING, Verdict};

/// When a request was sent and answered, since the start of the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerTimes {
    /// When the request was due.
    pub due: Duration,
    /// When the request was sent.
    pub sent: Duration,
    /// When the answer arrived.
    pub answered: Duration,
}

/// The decision of a claim about errors or latency: takes the answers one by one, in the order of sending.
///
/// Errors and failures without a version belong to nobody: no comparison fails by them. But a comparison passes only if it would also pass if
/// all of them were the canary's.
#[derive(Debug, Clone)]
pub struct ServiceLevelTrial {
    pub(super) design: ServiceLevelDesign,
    pub(super) parts: Vec<PartState>,
    pub(super) requests: u64,
    /// The number of errors and failures without a version.
    pub(super) unattributed: u64,
    /// In a comparison of slow answers, the latencies of the canary and of the baseline.
    pub(super) latencies: [Latencies; 2],
    ruling: Option<Ruling>,
}

/// The state of the test of one part.
#[derive(Debug, Clone, Default)]
pub(super) struct PartState {
    pub test: OneSidedTest,
    /// The test if all errors without a version were the canary's.
    pub worst: OneSidedTest,
    /// For slow answers, the running quantile of the baseline's latency.
    pub quantile: Option<RunningQuantile>,
    /// The answers of the canary and of the baseline.
    pub answers: [KnownAnswers; 2],
    /// Some points of the path: events and hits.
    pub points: Vec<(u64, u64)>,
}

/// The answers of a version that a part of a comparison takes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KnownAnswers {
    /// All of which it is known whether they are bad: of none, before there is a threshold.
    pub all: u64,
    /// The bad ones.
    pub bad: u64,
}

impl PartState {
    /// The ruling on the part, once there is one; inconclusive if errors without a version could turn it.
    pub fn ruling(&self) -> Option<Ruling> {
        match (self.test.ruling, self.worst.ruling) {
            (Some(Ruling::Pass), Some(Ruling::Fail)) => Some(Ruling::Inconclusive),
            (Some(Ruling::Pass), worst) => worst,
            (ruling, _) => ruling,
        }
    }
}

impl ServiceLevelTrial {
    /// A trial before its first request.
    pub fn new(design: ServiceLevelDesign) -> Self {
        let parts = design.tests.iter().map(|part| match part.bad {
            BadEvent::Slower(share) => {
                PartState { quantile: Some(RunningQuantile::new(share.fraction())), ..PartState::default() }
            }
            BadEvent::Error | BadEvent::Longer(_) => PartState::default(),
        });
        Self {
            parts: parts.collect(),
            design,
            requests: 0,
            unattributed: 0,
            latencies: Default::default(),
            ruling: None,
        }
    }

    /// The statistical design of the claim.
    pub const fn design(&self) -> &ServiceLevelDesign {
        &self.design
    }

    /// The number of requests so far, or until the ruling.
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Takes the next answer in the order of sending, unless there is a ruling. Returns the ruling, once there is one.
    #[inline]
    pub fn observe(&mut self, answer: &Answer, times: AnswerTimes) -> Option<Ruling> {
        if self.ruling.is_some() {
            return self.ruling;
        }
        self.requests += 1;
        match self.design.claim.versions() {
            Some([canary, baseline]) => match answer {
                Answer::Version { version, status } if version == canary => self.compare(true, *status, times),
                Answer::Version { version, status } if version == baseline => self.compare(false, *status, times),
                Answer::Version { .. } => {}
                Answer::Unknown { status, .. } if !StatusCode(*status).is_server_error() => {}
                Answer::Unknown { .. } | Answer::Nothing { .. } => {
                    self.unattributed += 1;
                    (0..self.parts.len()).for_each(|index| self.test(index, None));
                }
            },
            None => self.count(answer, times),
        }
        self.ruling
    }

    /// Takes an answer for limits. No answer at all is an error and is slow.
    fn count(&mut self, answer: &Answer, times: AnswerTimes) {
        let took = times.answered.saturating_sub(times.due);
        let is_error = match answer {
            Answer::Version { status, .. } | Answer::Unknown { status, .. } => StatusCode(*status).is_server_error(),
            Answer::Nothing { .. } => true,
        };
        for index in 0..self.parts.len() {
            let is_bad = match self.design.tests[index].bad {
                BadEvent::Longer(limit) => took > limit || matches!(answer, Answer::Nothing { .. }),
                _ => is_error,
            };
            self.test(index, Some(is_bad));
        }
    }

    /// Takes an answer of the canary or of the baseline.
    fn compare(&mut self, is_canary: bool, status: u16, times: AnswerTimes) {
        let (took, side) = (times.answered.saturating_sub(times.sent), usize::from(!is_canary));
        if self.parts.iter().any(|part| part.quantile.is_some()) {
            self.latencies[side].add(took);
        }
        for index in 0..self.parts.len() {
            let PartState { quantile, answers, .. } = &mut self.parts[index];
            let is_bad = match quantile {
                None => Some(StatusCode(status).is_server_error()),
                Some(quantile) => {
                    let is_slow = quantile.threshold(times.sent).map(|threshold| took > threshold);
                    if !is_canary {
                        quantile.add(times.sent, times.answered);
                    }
                    is_slow
                }
            };
            let Some(is_bad) = is_bad else { continue };
            answers[side].all += 1;
            answers[side].bad += u64::from(is_bad);
            if is_bad {
                self.test(index, Some(is_canary));
            }
        }
    }

    /// Takes an event for a test: whether it is a hit, if that is known.
    fn test(&mut self, index: usize, hit: Option<bool>) {
        let PartState { test, worst, points, .. } = &mut self.parts[index];
        let design = &self.design.tests[index].design;
        worst.observe(design, hit.unwrap_or(true));
        if let Some(hit) = hit {
            test.observe(design, hit);
            let last = points.last().map_or(0, |(events, _)| *events);
            if test.events > last + last / THINNING || test.ruling.is_some() && test.events > last {
                points.push((test.events, test.hits));
            }
        }
        if self.parts[index].ruling() == Some(Ruling::Fail) {
            self.ruling = Some(Ruling::Fail);
        } else {
            let rulings: Option<Vec<Ruling>> = self.parts.iter().map(PartState::ruling).collect();
            self.ruling = rulings.and_then(|rulings| rulings.into_iter().max());
        }
    }

    /// The ruling, once there is one.
    pub const fn ruling(&self) -> Option<Ruling> {
        self.ruling
    }

    /// The verdict on the answers so far.
    pub fn verdict(&self) -> Verdict {
        let ruling = self.ruling.unwrap_or(Ruling::Inconclusive);
        let stop = if ruling == Ruling::Inconclusive { Stop::Time } else { Stop::Boundary };
        let failed = self.failed().map(|(test, part)| part.design.chance(test.events, test.hits));
        Verdict {
            ruling,
            reason: self.reason(),
            requests: self.requests,
            allowed: self.design.allowed(),
            shares: Vec::new(),
            chance: failed,
            stop,
            paths: self.paths(),
        }
    }
}
