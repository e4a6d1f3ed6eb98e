use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Suites, TestCase, TestCaseStatus, TestSuite};

use super::model::{Claim, Failure, Outcome, Report, Stage};
use crate::scenario::Origin;

/// The unit of a test case in a `JUnit` report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Granularity {
    /// One test case per stage.
    Stage,
    /// One test case per claim.
    #[default]
    Claim,
}

/// Reports as `JUnit` XML: a suite for each, with a test case per stage or claim, each with the file and line of its claim. Stages that were not
/// run or not judged are skipped tests. The failure or the interruption of a run is an error.
pub(super) fn junit(reports: &[&Report], granularity: Granularity) -> String {
    let mut suites = Suites::new("shiftcheck");
    suites.set_time(reports.iter().map(|report| report.took).sum::<Duration>());
    suites.add_test_suites(reports.iter().map(|report| suite(report, granularity)));
    suites.to_string().unwrap_or_else(|error| unreachable!("written to memory: {error}"))
}

fn suite(report: &Report, granularity: Granularity) -> TestSuite {
    let name = if report.scenario.name.is_empty() { "shiftcheck" } else { &report.scenario.name };
    let mut suite = TestSuite::new(name);
    suite.set_time(report.took);
    let case = |test: String, status: TestCaseStatus| {
        let mut case = TestCase::new(test, status);
        case.set_classname(name);
        case
    };
    for stage in &report.stages {
        let title = title(stage);
        if stage.result == Some(Outcome::NotJudged) {
            suite.add_test_case(case(title, skipped("not judged")));
        } else if granularity == Granularity::Claim {
            suite.add_test_cases(cases(stage, &format!("{name}.{title}")));
        } else if stage.result.is_some() {
            let failed = stage.claims.iter().find(|claim| claim.result != Outcome::Passed);
            let mut case = case(title, failed.map_or_else(TestCaseStatus::success, failure));
            case.set_time(stage.took);
            locate(&mut case, failed.or(stage.claims.first()).and_then(|claim| claim.place.as_ref()));
            suite.add_test_case(case);
        }
    }
    if let Some(broken) = broken(report) {
        let place = report.stages.last().filter(|stage| stage.result.is_none());
        let mut case = case(place.map_or_else(|| "set-up".to_owned(), title), error(&broken));
        locate(&mut case, broken.place.as_ref());
        suite.add_test_case(case);
    }
    for (index, missed) in report.scenario.stages.iter().enumerate().skip(report.stages.len()) {
        suite.add_test_case(case(format!("{} {missed}", index + 1), skipped("not run")));
    }
    suite
}

fn title(stage: &Stage) -> String {
    format!("{} {}", stage.number, stage.name)
}

fn cases<'a>(stage: &'a Stage, class: &'a str) -> impl Iterator<Item = TestCase> + use<'a> {
    // the claims of a stage are decided together: each gets an equal part of its duration, so that the sums are correct
    let part = stage.took / u32::try_from(stage.claims.len()).unwrap_or(u32::MAX).max(1);
    stage.claims.iter().map(move |claim| {
        let passed = claim.result == Outcome::Passed;
        let status = if passed { TestCaseStatus::success() } else { failure(claim) };
        let mut case = TestCase::new(format!("{}: {}", claim.subject, claim.claim), status);
        case.set_classname(class).set_time(part);
        locate(&mut case, claim.place.as_ref());
        case
    })
}

/// The failure that ended the run early. An interruption is one, too: claims were not decided.
fn broken(report: &Report) -> Option<Failure> {
    let interrupted =
        || Failure { link: report.result.words().to_owned(), message: report.note.clone(), place: None, hint: None };
    let is_interrupted = report.result == Outcome::Interrupted;
    report.failure.clone().or_else(|| is_interrupted.then(interrupted))
}

fn locate(case: &mut TestCase, place: Option<&Origin>) {
    if let Some(Origin { path, line, .. }) = place {
        case.extra.insert("file".into(), path.display().to_string().into());
        case.extra.insert("line".into(), line.to_string().into());
    }
}

fn skipped(why: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(why);
    status
}

fn failure(claim: &Claim) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(claim.link.clone().unwrap_or_else(|| claim.result.words().to_owned()));
    status.set_message(format!("{}: {} — {}", claim.subject, claim.claim, claim.reason));
    status.set_description(claim.explanation().join("\n"));
    status
}

fn error(failure: &Failure) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    status.set_type(failure.link.clone()).set_message(failure.message.lines().next().unwrap_or_default());
    let hint = failure.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    status.set_description(format!("{}{hint}", failure.message));
    status
}
