use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use thiserror::Error;

use crate::cluster::{ClusterError, Session};
use crate::scenario::{Claim, Scenario, VersionRule};
use crate::verdict::{Answer, Tally};
use crate::workload::{DrivePlan, FailureKind, Flow, Outcome, VersionSource};

/// Where the driver is in the client's container.
pub const DRIVER: &str = "/shiftcheck";

/// How the driver sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverOptions {
    /// The number of connections; each has one request in flight.
    pub connections: usize,
    /// Whether a connection carries more than one request.
    pub keep_alive: bool,
    /// The longest that one request may take.
    pub timeout: Duration,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self { connections: 8, keep_alive: true, timeout: Duration::from_secs(10) }
    }
}

/// What came back for a whole sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// The answers to each claim's requests, in the order of the claims.
    pub tallies: Vec<Tally>,
    /// How many requests each pod answered, where the service tells its pod.
    pub pods: BTreeMap<String, u64>,
    /// From the first request to the last answer, by the driver's clock.
    pub took: Duration,
}

impl Sample {
    /// The number of requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.tallies.iter().map(Tally::total).sum()
    }

    /// Requests a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a number of requests is far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.requests() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// What keeps a sample from being taken.
#[derive(Debug, Error)]
pub enum TrafficError {
    /// A claim names a population that the scenario does not have.
    #[error("there is no population `{0}`")]
    NoPopulation(String),
    /// The driver could not be started or failed.
    #[error(transparent)]
    Driver(#[from] ClusterError),
}

/// The traffic driver in the client pod: one program for all samples of a walk, started with the first.
#[derive(Debug)]
pub struct Driver {
    pods: Api<Pod>,
    options: DriverOptions,
    session: Option<Session>,
}

impl Driver {
    /// The driver of the client pod among these.
    #[must_use]
    pub const fn new(pods: Api<Pod>, options: DriverOptions) -> Self {
        Self { pods, options, session: None }
    }

    /// Sends the requests of all these claims and counts the answers; `progress` is told how many have come.
    ///
    /// # Errors
    /// The driver cannot be started in the client pod, fails, or says something that is not understood.
    pub async fn sample(
        &mut self,
        scenario: &Scenario,
        claims: &[(&Claim, u64)],
        mut progress: impl FnMut(u64),
    ) -> Result<Sample, TrafficError> {
        let plan = plan(scenario, claims, self.options)?;
        let plan = serde_json::to_string(&plan).unwrap_or_else(|error| unreachable!("a plan is plain data: {error}"));
        let client = &scenario.client;
        let session = match &mut self.session {
            Some(session) => session,
            none => {
                let command = [DRIVER, "workload", "drive"];
                none.insert(Session::open(&self.pods, &client.pod, &client.container, &command).await?)
            }
        };
        session.send(&plan).await?;
        let mut sample = Sample { tallies: vec![Tally::default(); claims.len()], ..Sample::default() };
        let total: u64 = claims.iter().map(|(_, requests)| requests).sum();
        for done in 1..=total {
            let line = session.line().await?;
            let added =
                serde_json::from_str(&line).map_err(|error| error.to_string()).and_then(|outcome| sample.add(outcome));
            added.map_err(|reason| ClusterError::Exec {
                command: DRIVER.to_owned(),
                pod: client.pod.clone(),
                reason: format!("not a driver's line: `{line}`: {reason}"),
            })?;
            progress(done);
        }
        Ok(sample)
    }
}

impl Sample {
    fn add(&mut self, outcome: Outcome) -> Result<(), String> {
        let tally = self.tallies.get_mut(outcome.flow).ok_or_else(|| format!("there is no flow {}", outcome.flow))?;
        self.took = self.took.max(Duration::from_micros(outcome.sent_us + outcome.took_us));
        if let Some(pod) = outcome.pod {
            *self.pods.entry(pod).or_default() += 1;
        }
        tally.add(match (outcome.status, outcome.version, outcome.failure) {
            (Some(status), Some(version), _) => Answer::Version { version, status },
            (Some(status), None, _) => Answer::Unknown { status, excerpt: outcome.excerpt.unwrap_or_default() },
            (None, _, Some(failure)) => Answer::Nothing {
                reason: match failure.kind {
                    FailureKind::Connect => format!("no connection ({})", failure.message),
                    FailureKind::Timeout => "no answer in time".to_owned(),
                    FailureKind::Broken => format!("the connection broke off ({})", failure.message),
                },
            },
            (None, _, None) => return Err(format!("request {} has neither status nor failure", outcome.n)),
        });
        Ok(())
    }
}

fn plan(scenario: &Scenario, claims: &[(&Claim, u64)], options: DriverOptions) -> Result<DrivePlan, TrafficError> {
    let flows = claims
        .iter()
        .map(|(claim, requests)| {
            let population =
                scenario.population(&claim.from).ok_or_else(|| TrafficError::NoPopulation(claim.from.clone()))?;
            Ok(Flow {
                path: claim.path.clone(),
                requests: *requests,
                variants: population.variants.iter().map(|variant| variant.headers.clone()).collect(),
            })
        })
        .collect::<Result<_, TrafficError>>()?;
    Ok(DrivePlan {
        base: format!("http://{}:{}", scenario.service.host, scenario.service.port),
        connections: options.connections,
        keep_alive: options.keep_alive,
        timeout_ms: u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX),
        version: match &scenario.version {
            VersionRule::Body(regex) => VersionSource::Body(regex.as_str().to_owned()),
            VersionRule::Header(name) => VersionSource::Header(name.clone()),
        },
        pod_header: scenario.pod_header.clone(),
        flows,
    })
}
