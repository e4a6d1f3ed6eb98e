use std::time::{Duration, Instant};

use super::SessionError;
use super::run::{Ending, Options, Outcome, Prepared};
use super::stage::{Mode, Session};
use crate::events::{Calibration, Event, Events};
use crate::scenario::{Claim, Scenario, Share};
use crate::traffic::{Driver, Next, SampleFlow};
use crate::verdict::{Answer, Design, Independence, Ruling, Trial};

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
        let Prepared { run, plan, .. } = &prepared;
        prepared.tell_started(None);
        let mut venue = run.open().await?;
        let mut driver = venue.driver(options.driver);
        let mut session = Session::new(plan, &mut *venue, run.events.clone(), Mode::Judge);
        let independent = session.calibrate(split, calibration, &mut driver).await?.independent();
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
        let claim = &design.claim;
        let (version, share) = claim
            .versions
            .iter()
            .rfind(|(_, share)| share.is_part())
            .map_or_else(|| unreachable!("the claim splits versions"), |(version, share)| (version.clone(), *share));
        let mut samples = Samples::new(&version, share, claim, options.requests);
        for sample in 1..=options.samples {
            samples.add(&self.one(design, &version, options.requests, driver).await?);
            self.events.tell(Event::Calibrating { sample, samples: options.samples });
        }
        let calibration = samples.calibration(claim);
        self.events.tell(Event::Calibrated { calibration: calibration.clone(), took: start.elapsed() });
        Ok(calibration)
    }

    async fn one(&self, design: &Design, version: &str, least: u64, driver: &mut Driver) -> Result<One, SessionError> {
        let claim = &design.claim;
        let mut trial = Trial::new(design.clone());
        let mut one = One {
            hits: Vec::new(),
            connections: Vec::new(),
            ruling: Ruling::Inconclusive,
            took: 0,
            decided: None,
            sent: 0,
        };
        let wanted = [SampleFlow {
            from: &claim.from,
            path: &claim.path,
            requests: design.allowed.max(least),
            least: design.least().max(least),
        }];
        let sample = driver
            .sample(self.plan.scenario, &wanted, |answered| {
                let hit = matches!(answered.answer, Answer::Version { version: got, .. } if got == version);
                if (one.hits.len() as u64) < least {
                    one.hits.push(hit);
                    if one.connections.len() <= answered.connection {
                        one.connections.resize(answered.connection + 1, (0, 0));
                    }
                    let (n, hits) = &mut one.connections[answered.connection];
                    *n += 1;
                    *hits += u64::from(hit);
                }
                let kind = trial.kind(answered.answer);
                let ruling = trial.observe(kind);
                if ruling.is_some() {
                    one.decided.get_or_insert(answered.at);
                }
                if ruling.is_some() && one.hits.len() as u64 >= least { Next::Stop } else { Next::Continue }
            })
            .await?;
        let verdict = trial.verdict();
        (one.ruling, one.took, one.sent) = (verdict.ruling, verdict.requests, sample.requests);
        Ok(one)
    }
}

/// One sample: what each request got, in the order of sending.
struct One {
    hits: Vec<bool>,
    /// For each connection its requests and those that the version served.
    connections: Vec<(u64, u64)>,
    ruling: Ruling,
    /// The requests that the ruling took.
    took: u64,
    /// When it stood.
    decided: Option<Duration>,
    sent: u64,
}

/// What all samples together tell.
struct Samples<'a> {
    version: &'a str,
    share: Share,
    requests: u64,
    independence: Independence,
    sent: u64,
    took: u64,
    accepted: usize,
    refused: usize,
    decided: Vec<Duration>,
}

impl<'a> Samples<'a> {
    fn new(version: &'a str, share: Share, claim: &Claim, requests: u64) -> Self {
        Self {
            version,
            share,
            requests,
            independence: Independence::new(share, claim.errors.false_alarm),
            sent: 0,
            took: 0,
            accepted: 0,
            refused: 0,
            decided: Vec::new(),
        }
    }

    fn add(&mut self, one: &One) {
        self.independence.add(&one.hits, &one.connections, one.ruling == Ruling::Fail);
        self.sent += one.sent;
        self.took += one.took;
        self.accepted += usize::from(one.ruling == Ruling::Pass);
        self.refused += usize::from(one.ruling == Ruling::Fail);
        self.decided.extend(one.decided);
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    fn calibration(&self, claim: &Claim) -> Calibration {
        let samples = usize::try_from(self.independence.samples()).unwrap_or(usize::MAX);
        let mut decided = self.decided.clone();
        decided.sort();
        Calibration {
            from: claim.from.clone(),
            version: self.version.to_owned(),
            claimed: self.share,
            samples,
            requests: self.requests,
            sent: self.sent,
            share: self.independence.seen(),
            findings: self.independence.findings(),
            power: self.independence.power(),
            accepted: self.accepted,
            refused: self.refused,
            mean: self.took as f64 / samples.max(1) as f64,
            decided: decided.get(decided.len() / 2).copied().unwrap_or_default(),
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
            let mut samples = Samples::new("v2", Share::from_fraction(0.5).unwrap(), claim, 400);
            for sample in 0..40 {
                let hits: Vec<bool> = (0..400).map(|_| random.bool()).collect();
                let ruling = if sample < refused { Ruling::Fail } else { Ruling::Pass };
                samples.add(&One { hits, connections: Vec::new(), ruling, took: 420, decided: None, sent: 450 });
            }
            samples.calibration(claim)
        };
        let calibration = calibrated(0);
        assert!(calibration.independent(), "{calibration:?}");
        assert_eq!((calibration.samples, calibration.accepted, calibration.refused), (40, 40, 0));
        assert_eq!(calibration.sent, 40 * 450);
        assert!((calibration.mean - 420.0).abs() < 1e-9 && (calibration.share - 0.5).abs() < 0.02);
        // a verdict that refuses a right share once in a million does not do so once in 40
        assert!(!calibrated(1).independent());
    }
}
