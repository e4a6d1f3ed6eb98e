//! Calibration: sample after sample of one split.
//!
//! It applies the stages before the sample in a loop of its own: there are no claims to judge and no traffic to watch, so that applying objects is
//! all that the loop of [`Session::stages`] would do.

use std::time::{Duration, Instant};

use super::SessionError;
use super::progress::Progress;
use super::run::{Ending, Options, Outcome, Prepared};
use super::stage::{Mode, Session};
use crate::events::{Calibration, Event, Events};
use crate::scenario::{Scenario, Share};
use crate::traffic::{Driver, Next, ObservedResponse, SampleFlow};
use crate::verdict::{Answer, Design, Independence, Ruling, Trial, Verdict};

/// How the model behind the verdicts is put to the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CalibrateOptions {
    /// The number of samples.
    pub samples: usize,
    /// The requests of each that are tested for independence; a sample goes on until its verdict stands.
    pub requests: u64,
}

impl Default for CalibrateOptions {
    /// 40 samples of 400 requests.
    fn default() -> Self {
        Self { samples: 40, requests: 400 }
    }
}

/// Samples the first split of a scenario again and again, to test whether requests are routed independently.
///
/// # Errors
/// As those of [`run`](super::run()); no claim splits versions.
///
/// # Panics
/// A panic of the session is passed on after everything is removed.
pub async fn calibrate(
    scenario: Scenario,
    calibration: CalibrateOptions,
    options: Options,
    events: Events,
    cancelled: impl Future<Output = ()>,
) -> Result<Outcome, SessionError> {
    let prepared = Prepared::new(&scenario, &options, events)?;
    let Some(split) = prepared.designs.first_split() else {
        return Err(SessionError::NothingToCalibrate(scenario.path.clone()));
    };
    let body = async {
        let run = &prepared.run;
        prepared.tell_started(None);
        let mut venue = run.open().await?;
        let plan = prepared.plan_on(&*venue);
        let mut driver = venue.driver(options.driver).await?;
        let mut session = Session::new(&plan, &mut *venue, run.events.clone(), Mode::Judge);
        let independent = session.calibrate(split, calibration, &mut driver).await?.findings.independent();
        let ending = if independent { Ending::Passed } else { Ending::Failed };
        Ok(Outcome { ending, passed: 0, stages: plan.stages.len() })
    };
    let ended = prepared.ended(body, cancelled).await;
    prepared.close(ended).await
}

impl Session<'_> {
    /// Applies the stages up to that of the claim without judging them, then takes sample after sample of its population.
    async fn calibrate(
        &mut self,
        (number, design): (usize, &Design),
        options: CalibrateOptions,
        driver: &mut Driver,
    ) -> Result<Calibration, SessionError> {
        let start = Instant::now();
        self.apply_client().await?;
        for planned in self.plan.stages.iter().take(number) {
            let name = planned.stage.name.clone();
            self.events.tell(Event::Stage { number: planned.number, name, edits: Vec::new() });
            self.roll_out(planned).await?;
        }
        self.converged().await?;
        self.events.tell(Event::Deployed(self.deployed()));
        let claim = &design.claim;
        let (version, share) = claim
            .versions
            .iter()
            .rfind(|(_, share)| share.is_part())
            .map_or_else(|| unreachable!("the claim splits versions"), |(version, share)| (version.clone(), *share));
        let mut sums = Sums::new(Independence::new(share, claim.errors.false_alarm));
        let mut progress = Progress::new([(claim.from.clone(), claim.path.clone())]);
        for sample in 1..=options.samples {
            let tell = |sample, progress: &Progress| {
                self.events.tell(Event::Calibrating { sample, samples: options.samples, answers: progress.answers() });
            };
            self.add_sample(&mut sums, design, (&version, options.requests), driver, |answered| {
                if progress.see(answered) {
                    tell(sample - 1, &progress);
                }
            })
            .await?;
            tell(sample, &progress);
        }
        let calibration = sums.calibration(claim.from.clone(), (version, share), options);
        self.events.tell(Event::Calibrated { calibration: calibration.clone(), took: start.elapsed() });
        Ok(calibration)
    }

    /// Takes a sample until its verdict stands and `least` requests are tested for a version, and adds it to the sums. `seen` gets each answer.
    async fn add_sample(
        &self,
        sums: &mut Sums,
        design: &Design,
        (version, least): (&str, u64),
        driver: &mut Driver,
        mut seen: impl FnMut(&ObservedResponse<'_>),
    ) -> Result<(), SessionError> {
        let claim = &design.claim;
        let mut trial = Trial::new(design.clone());
        // whether the version served each request, and for each connection its requests and those that the version served
        let (mut hits, mut connections): (Vec<bool>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());
        let mut decided = None;
        let wanted = [SampleFlow {
            from: &claim.from,
            path: &claim.path,
            requests: design.allowed.max(least),
            least: design.least().max(least),
        }];
        let sample = driver
            .sample(self.plan.scenario, &wanted, |answered| {
                seen(&answered);
                let hit = matches!(answered.answer, Answer::Version { version: got, .. } if got == version);
                if (hits.len() as u64) < least {
                    hits.push(hit);
                    if connections.len() <= answered.connection {
                        connections.resize(answered.connection + 1, (0, 0));
                    }
                    let (n, hits) = &mut connections[answered.connection];
                    *n += 1;
                    *hits += u64::from(hit);
                }
                let kind = trial.kind(answered.answer);
                let ruling = trial.observe(kind);
                if ruling.is_some() {
                    decided.get_or_insert(answered.at);
                }
                if ruling.is_some() && hits.len() as u64 >= least { Next::Stop } else { Next::Continue }
            })
            .await?;
        sums.add(&hits, &connections, &trial.verdict());
        sums.sent += sample.requests;
        sums.decided.extend(decided);
        Ok(())
    }
}

/// The sums over all samples.
struct Sums {
    independence: Independence,
    sent: u64,
    /// The requests that the verdicts took.
    took: u64,
    accepted: usize,
    refused: usize,
    /// When each verdict stood.
    decided: Vec<Duration>,
}

impl Sums {
    const fn new(independence: Independence) -> Self {
        Self { independence, sent: 0, took: 0, accepted: 0, refused: 0, decided: Vec::new() }
    }

    fn add(&mut self, hits: &[bool], connections: &[(u64, u64)], verdict: &Verdict) {
        self.independence.add(hits, connections, verdict.ruling == Ruling::Fail);
        self.took += verdict.requests;
        self.accepted += usize::from(verdict.ruling == Ruling::Pass);
        self.refused += usize::from(verdict.ruling == Ruling::Fail);
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    fn calibration(
        mut self,
        from: String,
        (version, claimed): (String, Share),
        CalibrateOptions { requests, .. }: CalibrateOptions,
    ) -> Calibration {
        let samples = usize::try_from(self.independence.samples()).unwrap_or(usize::MAX);
        self.decided.sort();
        Calibration {
            from,
            version,
            claimed,
            samples,
            requests,
            sent: self.sent,
            share: self.independence.seen(),
            findings: self.independence.findings(),
            power: self.independence.power(),
            accepted: self.accepted,
            refused: self.refused,
            mean: self.took as f64 / samples.max(1) as f64,
            decided: self.decided.get(self.decided.len() / 2).copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Designs, Plan};

    #[test]
    fn samples_are_tested_and_counted() {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let designs = Designs::new(&Plan::new(&scenario)).unwrap();
        let (number, Design { claim, .. }) = designs.first_split().unwrap();
        assert_eq!((number, claim.from.as_str()), (4, "testers"));
        let mut random = fastrand::Rng::with_seed(11);
        let mut calibrated = |refused: usize| {
            let share = Share::from_fraction(0.5).unwrap();
            let mut sums = Sums::new(Independence::new(share, claim.errors.false_alarm));
            for sample in 0..40 {
                let hits: Vec<bool> = (0..400).map(|_| random.bool()).collect();
                let ruling = if sample < refused { Ruling::Fail } else { Ruling::Pass };
                sums.add(&hits, &[], &Verdict::counted(ruling, 420, String::new()));
                sums.sent += 450;
            }
            sums.calibration(claim.from.clone(), ("v2".to_owned(), share), CalibrateOptions::default())
        };
        let calibration = calibrated(0);
        assert!(calibration.findings.independent(), "{calibration:?}");
        assert_eq!((calibration.samples, calibration.accepted, calibration.refused), (40, 40, 0));
        assert_eq!(calibration.sent, 40 * 450);
        assert!((calibration.mean - 420.0).abs() < 1e-9 && (calibration.share - 0.5).abs() < 0.02);
        // a verdict that refuses a right share once in a million does not do so once in 40
        assert!(!calibrated(1).findings.independent());
    }
}
