use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Suites, TestCase, TestCaseStatus, TestSuite};

use super::model::{Claim, Outcome, Report, Stage};

/// The unit of a test case in a `JUnit` report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Granularity {
    /// One test case per stage.
    Stage,
    /// One test case per claim.
    #[default]
    Claim,
}

/// The report as `JUnit` XML: one suite with a test case per stage or claim. Stages that were not run are skipped tests. The failure of a
/// run is an error.
pub(super) fn junit(report: &Report, granularity: Granularity) -> String {
    let name = if report.scenario.name.is_empty() { "shiftcheck" } else { &report.scenario.name };
    let mut suite = TestSuite::new(name);
    suite.set_time(duration(report.took));
    for stage in &report.stages {
        let class = format!("{name}.{} {}", stage.number, stage.name);
        match granularity {
            Granularity::Stage => {
                let failed = stage.claims.iter().find(|claim| claim.result != Outcome::Passed);
                let mut case = TestCase::new(format!("{} {}", stage.number, stage.name), status(failed));
                case.set_classname(name).set_time(duration(stage.took));
                suite.add_test_case(case);
            }
            Granularity::Claim => {
                suite.add_test_cases(cases(stage, &class));
            }
        }
    }
    if let Some(failure) = &report.failure {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_type(failure.link.clone()).set_message(failure.message.lines().next().unwrap_or_default());
        let hint = failure.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        status.set_description(format!("{}{hint}", failure.message));
        let place = report.stages.last().filter(|stage| stage.result.is_none());
        let place = place.map_or_else(|| "set-up".to_owned(), |stage| format!("{} {}", stage.number, stage.name));
        let mut case = TestCase::new(place, status);
        case.set_classname(name);
        suite.add_test_case(case);
    }
    for (index, missed) in report.scenario.stages.iter().enumerate().skip(report.stages.len()) {
        let mut status = TestCaseStatus::skipped();
        status.set_message("not run");
        let mut case = TestCase::new(format!("{} {missed}", index + 1), status);
        case.set_classname(name);
        suite.add_test_case(case);
    }
    let mut suites = Suites::new("shiftcheck");
    suites.set_time(duration(report.took));
    suites.add_test_suite(suite);
    suites.to_string().unwrap_or_else(|error| unreachable!("written to memory: {error}"))
}

fn cases<'a>(stage: &'a Stage, class: &'a str) -> impl Iterator<Item = TestCase> + use<'a> {
    stage.claims.iter().map(move |claim| {
        let status = status((claim.result != Outcome::Passed).then_some(claim));
        let mut case = TestCase::new(format!("{}: {}", claim.subject, claim.claim), status);
        case.set_classname(class).set_time(duration(stage.took / divisor(stage.claims.len())));
        case
    })
}

/// The claims of a stage are decided together. Each gets an equal part of the stage's duration, so that the sums are correct.
#[expect(clippy::cast_precision_loss, reason = "a handful of claims")]
const fn divisor(claims: usize) -> f64 {
    if claims == 0 { 1.0 } else { claims as f64 }
}

fn status(failed: Option<&Claim>) -> TestCaseStatus {
    let Some(claim) = failed else { return TestCaseStatus::success() };
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(claim.link.clone().unwrap_or_else(|| claim.result.words().to_owned()));
    status.set_message(format!("{}: {} — {}", claim.subject, claim.claim, claim.reason));
    let because = claim.hints.iter().map(|hint| format!("because {hint}"));
    let lines: Vec<String> = because.chain(claim.place.iter().map(|place| format!("claimed in {place}"))).collect();
    status.set_description(lines.join("\n"));
    status
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
