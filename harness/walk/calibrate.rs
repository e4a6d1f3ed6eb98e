use std::time::{Duration, Instant};

use super::WalkError;
use super::event::Event;
use super::stage::Walk;
use crate::scenario::{Claim, Share};
use crate::traffic::{Next, Wanted};
use crate::verdict::{Answer, Design, Homogeneity, Ruling, RunsTest, Trial, randomised_p, uniform_chance};

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

/// The chance with which [`Calibration::independent`] is false although every request is routed on its own.
pub const CALIBRATION_ALARM: f64 = 1e-4;

/// What came of many samples of one route that should split as claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// The population.
    pub from: String,
    /// The version whose share was looked at, and the share.
    pub version: String,
    /// The claimed share.
    pub claimed: Share,
    /// The number of samples.
    pub samples: usize,
    /// The requests of each sample that were tested.
    pub requests: u64,
    /// All requests that were sent.
    pub sent: u64,
    /// The share of the tested requests that the version served.
    pub share: f64,
    /// The chance of counts as uneven, or as even, if requests are independent and the share is right.
    pub counts: f64,
    /// The chance of so many or so few runs in the order of sending if requests are independent.
    pub order: f64,
    /// By how many standard deviations there were too many runs (above 0) or too few.
    pub excess_runs: f64,
    /// The chance of connections as different if requests do not depend on their connection.
    pub connections: f64,
    /// How many samples a verdict with the claim's errors accepted.
    pub accepted: usize,
    /// How many it refused: false alarms, if the route is right.
    pub refused: usize,
    /// The mean number of requests that the verdicts took.
    pub mean: f64,
    /// The median time of traffic until a verdict stood.
    pub decided: Duration,
}

impl Calibration {
    /// Whether nothing speaks against requests that are each routed on their own, with the claimed share. Wrongly false with a chance
    /// of at most [`CALIBRATION_ALARM`], divided among the three tests.
    #[must_use]
    pub fn independent(&self) -> bool {
        [self.counts, self.order, self.connections].iter().all(|chance| *chance >= CALIBRATION_ALARM / 3.0)
    }
}

impl Walk<'_> {
    /// Walks to the stage of the claim without judging, then takes sample after sample of its population.
    pub async fn calibrate(
        &mut self,
        (number, design): (usize, &Design),
        options: CalibrateOptions,
    ) -> Result<Calibration, WalkError> {
        let start = Instant::now();
        for (position, stage) in (1..=number).zip(&self.scenario.stages) {
            self.events.tell(Event::Stage { number: position, name: stage.name.clone(), edits: Vec::new() });
            self.roll_out(stage).await?;
        }
        self.converged().await?;
        let claim = &design.claim;
        let (version, share) = claim
            .versions
            .iter()
            .rfind(|(_, share)| share.is_part())
            .map_or_else(|| unreachable!("the claim splits versions"), |(version, share)| (version.clone(), *share));
        let mut samples = Samples::new(&version, share, options.requests);
        for sample in 1..=options.samples {
            samples.add(&self.one(design, &version, options.requests).await?);
            self.events.tell(Event::Calibrating { sample, samples: options.samples });
        }
        let calibration = samples.calibration(claim);
        self.events.tell(Event::Calibrated { calibration: calibration.clone(), took: start.elapsed() });
        Ok(calibration)
    }

    async fn one(&mut self, design: &Design, version: &str, least: u64) -> Result<One, WalkError> {
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
        let wanted = [Wanted {
            from: &claim.from,
            path: &claim.path,
            requests: design.allowed.max(least),
            least: design.least().max(least),
        }];
        let sample = self
            .driver
            .sample(self.scenario, &wanted, |answered| {
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
    values: Vec<f64>,
    runs: RunsTest,
    connections: Homogeneity,
    hits: u64,
    tested: u64,
    sent: u64,
    took: u64,
    accepted: usize,
    refused: usize,
    decided: Vec<Duration>,
}

impl<'a> Samples<'a> {
    fn new(version: &'a str, share: Share, requests: u64) -> Self {
        Self {
            version,
            share,
            requests,
            values: Vec::new(),
            runs: RunsTest::default(),
            connections: Homogeneity::default(),
            hits: 0,
            tested: 0,
            sent: 0,
            took: 0,
            accepted: 0,
            refused: 0,
            decided: Vec::new(),
        }
    }

    fn add(&mut self, one: &One) {
        let hits = one.hits.iter().filter(|hit| **hit).count() as u64;
        let n = one.hits.len() as u64;
        self.values.push(randomised_p(n, hits, self.share.fraction(), self.values.len()));
        self.runs.add(&one.hits);
        self.connections.add(&one.connections);
        self.hits += hits;
        self.tested += n;
        self.sent += one.sent;
        self.took += one.took;
        self.accepted += usize::from(one.ruling == Ruling::Pass);
        self.refused += usize::from(one.ruling == Ruling::Fail);
        self.decided.extend(one.decided);
    }

    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    fn calibration(&self, claim: &Claim) -> Calibration {
        let samples = self.values.len();
        let mut decided = self.decided.clone();
        decided.sort();
        Calibration {
            from: claim.from.clone(),
            version: self.version.to_owned(),
            claimed: self.share,
            samples,
            requests: self.requests,
            sent: self.sent,
            share: self.hits as f64 / self.tested.max(1) as f64,
            counts: uniform_chance(&self.values),
            order: self.runs.chance(),
            excess_runs: self.runs.deviations(),
            connections: self.connections.chance(),
            accepted: self.accepted,
            refused: self.refused,
            mean: self.took as f64 / samples.max(1) as f64,
            decided: decided.get(decided.len() / 2).copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::designs::Designs;
    use super::*;
    use crate::scenario::Scenario;

    const HALF: f64 = 0.5;

    /// 40 samples of 400 requests over 8 connections, each answered as `answer` says from the connection and a random number.
    fn calibrated(mut answer: impl FnMut(usize, usize, &mut fastrand::Rng) -> bool) -> Calibration {
        let scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap();
        let designs = Designs::new(&scenario).unwrap();
        let (number, Design { claim, .. }) = designs.first_split().unwrap();
        assert_eq!((number, claim.from.as_str()), (4, "testers"));
        let mut random = fastrand::Rng::with_seed(11);
        let mut samples = Samples::new("v2", Share::from_fraction(HALF).unwrap(), 400);
        for sample in 0..40 {
            let mut connections = vec![(0, 0); 8];
            let hits: Vec<bool> = (0..400)
                .map(|_| {
                    let connection = random.usize(..8);
                    let hit = answer(sample, connection, &mut random);
                    connections[connection].0 += 1;
                    connections[connection].1 += u64::from(hit);
                    hit
                })
                .collect();
            samples.add(&One { hits, connections, ruling: Ruling::Pass, took: 400, decided: None, sent: 400 });
        }
        samples.calibration(claim)
    }

    #[test]
    fn requests_that_are_routed_one_by_one_are_independent() {
        let calibration = calibrated(|_, _, random| random.f64() < HALF);
        assert!(calibration.independent(), "{calibration:?}");
    }

    #[test]
    fn connections_that_keep_their_version_are_found_however_even_they_are() {
        let calibration = calibrated(|_, connection, _| connection % 2 == 0);
        assert!(!calibration.independent() && calibration.connections < 1e-12, "{calibration:?}");
    }

    #[test]
    fn samples_that_go_to_one_version_each_are_found() {
        let calibration = calibrated(|sample, _, _| sample % 2 == 0);
        assert!(!calibration.independent() && calibration.counts < 1e-6, "{calibration:?}");
    }

    #[test]
    fn versions_that_take_turns_are_found() {
        let mut last = false;
        let calibration = calibrated(|_, _, _| {
            last = !last;
            last
        });
        assert!(!calibration.independent() && calibration.order < 1e-12, "{calibration:?}");
    }

    #[test]
    fn a_share_that_is_off_is_found() {
        let calibration = calibrated(|_, _, random| random.f64() < 0.55);
        assert!(!calibration.independent() && calibration.counts < 1e-6, "{calibration:?}");
    }
}
