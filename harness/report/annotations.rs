use super::model::{Outcome, Report};
use crate::scenario::Place;

/// Commands that make GitHub show each failure beside the line of the scenario that claims it.
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
            lines.push(annotation(claim.place.as_ref(), &title, &message));
        }
    }
    if let Some(failure) = &report.failure {
        lines.push(annotation(failure.place.as_ref(), &failure.link, &failure.message));
    }
    lines
}

fn annotation(place: Option<&Place>, title: &str, message: &str) -> String {
    let mut properties = Vec::new();
    if let Some(Place { path, line, column }) = place {
        properties.push(format!("file={}", property(&path.display().to_string())));
        properties.push(format!("line={line}"));
        properties.push(format!("col={column}"));
    }
    properties.push(format!("title={}", property(title)));
    format!("::error {}::{}", properties.join(","), escaped(message))
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}
