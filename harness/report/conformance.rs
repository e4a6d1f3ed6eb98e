use std::time::Duration;

use serde::Serialize;

use super::model::{Claim, Errors, Outcome, Report, Share, Tool};
use crate::events::{Environment, OptionalSeconds, SourceFile};

/// The conformance report: the scenario, the environment and the result of each claim.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Conformance<'a> {
    api_version: &'static str,
    kind: &'static str,
    date: &'a str,
    tool: &'a Tool,
    scenario: &'a str,
    place: &'a str,
    environment: &'a Environment,
    files: &'a [SourceFile],
    reproduce: &'a str,
    result: Outcome,
    note: &'a str,
    statistics: Statistics,
    stages: Vec<Stage<'a>>,
    not_run: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statistics {
    claims: usize,
    passed: usize,
    failed: usize,
    inconclusive: usize,
    false_alarm: Option<f64>,
    miss: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stage<'a> {
    name: &'a str,
    result: Option<Outcome>,
    #[serde(with = "OptionalSeconds")]
    convergence_seconds: Option<Duration>,
    claims: Vec<Judged<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Judged<'a> {
    subject: &'a str,
    claim: &'a str,
    result: Outcome,
    requests: u64,
    stop: &'a str,
    #[serde(skip_serializing_if = "<[Share]>::is_empty")]
    shares: &'a [Share],
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<ErrorProbabilities>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// The error probabilities of a verdict, in the case of this report.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorProbabilities {
    false_alarm: f64,
    miss: f64,
    deviation: f64,
    leak: f64,
}

impl From<Errors> for ErrorProbabilities {
    fn from(Errors { false_alarm, miss, deviation, leak }: Errors) -> Self {
        Self { false_alarm, miss, deviation, leak }
    }
}

/// The conformance report as YAML.
pub(super) fn conformance(report: &Report) -> String {
    let claims = || report.stages.iter().flat_map(|stage| &stage.claims);
    let count = |result| claims().filter(|claim| claim.result == result).count();
    let judged = |claim: &'_ Claim| (claim.result != Outcome::Passed).then_some(());
    let conformance = Conformance {
        api_version: "shiftcheck.dev/v1",
        kind: "ConformanceReport",
        date: &report.started,
        tool: &report.tool,
        scenario: &report.scenario.name,
        place: &report.place,
        environment: &report.environment,
        files: &report.scenario.files,
        reproduce: &report.reproduce,
        result: report.result,
        note: &report.note,
        statistics: Statistics {
            claims: claims().count(),
            passed: count(Outcome::Passed),
            failed: count(Outcome::Failed),
            inconclusive: count(Outcome::Inconclusive),
            false_alarm: report.errors.map(|errors| errors.false_alarm),
            miss: report.errors.map(|errors| errors.miss),
        },
        stages: report
            .stages
            .iter()
            .map(|stage| Stage {
                name: &stage.name,
                result: stage.result,
                convergence_seconds: stage.converged,
                claims: stage
                    .claims
                    .iter()
                    .map(|claim| Judged {
                        subject: &claim.subject,
                        claim: &claim.claim,
                        result: claim.result,
                        requests: claim.requests,
                        stop: &claim.stop,
                        shares: &claim.shares,
                        errors: claim.errors.map(Into::into),
                        reason: judged(claim).map(|()| claim.reason.as_str()),
                    })
                    .collect(),
            })
            .collect(),
        not_run: report.scenario.stages.iter().skip(report.stages.len()).map(String::as_str).collect(),
    };
    serde_yaml::to_string(&conformance).unwrap_or_else(|error| unreachable!("a report is plain data: {error}"))
}
