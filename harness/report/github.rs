//! Output for GitHub Actions: annotations of files, and the table of a job's summary.

use std::fmt::Write;

use super::model::{Outcome, Report};
use super::page::sign;
use super::verified::{explanation, given};
use crate::routing::{Problem, Severity};
use crate::scenario::Origin;
use crate::verify::{Decided, VerifiedStage};

/// Workflow commands that annotate the line of each failed claim of a run.
pub(super) fn annotations(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for stage in &report.stages {
        for claim in stage.claims.iter().filter(|claim| claim.result != Outcome::Passed) {
            let title = format!("stage {} {}: {}", stage.number, stage.name, claim.subject);
            let mut message = format!("{} — {}", claim.claim, claim.reason);
            for hint in &claim.hints {
                message.push_str("\nbecause ");
                message.push_str(hint);
            }
            lines.push(annotation("error", claim.place.as_ref(), &title, &message));
        }
    }
    if let Some(failure) = &report.failure {
        lines.push(annotation("error", failure.place.as_ref(), &failure.link, &failure.message));
    }
    lines
}

/// Workflow commands that annotate each problem of the manifests and each claim that does not hold according to them.
pub fn verified_annotations(stages: &[VerifiedStage<'_>], problems: &[Problem]) -> Vec<String> {
    let problems = problems.iter().map(|problem| {
        let level = if problem.severity == Severity::Error { "error" } else { "warning" };
        annotation(level, Some(&problem.origin), "manifest", &problem.message)
    });
    let claims = stages.iter().flat_map(|stage| stage.claims.iter().map(move |claim| (stage, claim)));
    let claims = claims.filter_map(|(stage, claim)| {
        let level = match claim.decided {
            Decided::Holds => return None,
            Decided::Fails(_) => "error",
            Decided::Undecided(_) | Decided::Open(_) => "warning",
        };
        let title = format!("stage {} {}", stage.number, stage.name);
        let message = format!("{} — {}", claim.expectation, given(claim));
        let message = [message].into_iter().chain(explanation(claim)).collect::<Vec<_>>().join("\n");
        Some(annotation(level, Some(claim.expectation.origin()), &title, &message))
    });
    problems.chain(claims).collect()
}

/// The claims of a run as a Markdown table.
pub(super) fn summary(report: &Report) -> String {
    let title = format!("{} {}: {}", sign(Some(report.result)), report.scenario.name, report.note);
    let rows = report.stages.iter().flat_map(|stage| {
        stage.claims.iter().map(move |claim| {
            let result = format!("{} {}", sign(Some(claim.result)), claim.result.words());
            let reason = [claim.reason.clone()].into_iter().chain(claim.explanation()).collect::<Vec<_>>().join("\n");
            let claimed = format!("{}: {}", claim.subject, claim.claim);
            [format!("{} {}", stage.number, stage.name), claimed, result, reason]
        })
    });
    let failure = report.failure.iter().map(|failure| {
        let message = failure.message.clone();
        ["run".to_owned(), failure.link.clone(), sign(Some(report.result)).to_owned(), message]
    });
    table(&title, rows.chain(failure))
}

/// The claims of a scenario and what the manifests give, as a Markdown table.
pub fn verified_summary(name: &str, stages: &[VerifiedStage<'_>], problems: &[Problem]) -> String {
    let rows = stages.iter().flat_map(|stage| {
        stage.claims.iter().map(move |claim| {
            let result = match claim.decided {
                Decided::Holds => "✓ holds",
                Decided::Fails(_) => "✗ fails",
                Decided::Undecided(_) => "? undecided",
                Decided::Open(_) => "? for a run to decide",
            };
            let reason = [given(claim)].into_iter().chain(explanation(claim)).collect::<Vec<_>>().join("\n");
            let claimed = claim.expectation.to_string();
            [format!("{} {}", stage.number, stage.name), claimed, result.to_owned(), reason]
        })
    });
    let problems = problems.iter().map(|problem| {
        let level = if problem.severity == Severity::Error { "✗ error" } else { "? warning" };
        ["manifests".to_owned(), String::new(), level.to_owned(), problem.to_string()]
    });
    table(&format!("{name}: checked against the manifests"), problems.chain(rows))
}

fn table(title: &str, rows: impl Iterator<Item = [String; 4]>) -> String {
    let mut text = format!("### {}\n\n| stage | claim | result | reason |\n|---|---|---|---|\n", cell(title));
    for row in rows {
        // writing to memory does not fail
        let _ = writeln!(text, "| {} |", row.map(|value| cell(&value)).join(" | "));
    }
    text
}

/// The text of a cell, without markup of its own.
fn cell(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('|', "\\|").replace('\n', "<br>")
}

fn annotation(level: &str, place: Option<&Origin>, title: &str, message: &str) -> String {
    let mut properties = Vec::new();
    if let Some(Origin { path, line, column }) = place {
        properties.push(format!("file={}", property(&path.display().to_string())));
        properties.push(format!("line={line}"));
        properties.push(format!("col={column}"));
    }
    properties.push(format!("title={}", property(title)));
    format!("::{level} {}::{}", properties.join(","), escaped(message))
}

fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control() || matches!(c, '\r' | '\n' | '\t')).collect();
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::events::{Event, FailureLayer, Timed};
    use crate::report::Recorder;

    fn annotated(place: Option<Origin>) -> Vec<String> {
        let mut recorder = Recorder::new(String::new());
        let event = Event::Broke { layer: FailureLayer::Manifest, place, message: "a:1 was rejected".to_owned() };
        recorder.record(&Timed { at: Timestamp::UNIX_EPOCH, since_start: Duration::ZERO, event });
        annotations(&recorder.close(Outcome::BadInput, "did not complete", None))
    }

    #[test]
    fn an_annotation_is_one_command_whatever_it_says() {
        let annotation = annotation("error", None, "a\n::add-mask::b", "50 %\x1b[2J\r\n::add-mask::c");
        assert_eq!(annotation, "::error title=a%0A%3A%3Aadd-mask%3A%3Ab::50 %25[2J%0D%0A::add-mask::c");
    }

    #[test]
    fn a_failure_is_annotated_in_its_file_with_any_file_name() {
        let [line] = &annotated(Some(Origin::new("a:b,c.yaml", 3, 5)))[..] else { panic!("one annotation") };
        assert!(line.starts_with("::error file=a%3Ab%2Cc.yaml,line=3,col=5,title="), "{line}");
        let [line] = &annotated(None)[..] else { panic!("one annotation") };
        assert!(line.starts_with("::error title=") && line.ends_with("::a:1 was rejected"), "{line}");
    }
}
