use super::model::{Outcome, Report};

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
            lines.push(annotation(&claim.place, &title, &message));
        }
    }
    if let Some(failure) = &report.failure {
        lines.push(annotation(&failure.message, &failure.link, &failure.message));
    }
    lines
}

/// `place` begins with `FILE:LINE:COLUMN` where there is one.
fn annotation(place: &str, title: &str, message: &str) -> String {
    let mut parts = place.splitn(4, ':');
    let number = |part: Option<&str>| part.and_then(|part| part.trim().parse::<u64>().ok());
    let (file, line, column) = (parts.next().unwrap_or_default(), number(parts.next()), number(parts.next()));
    let mut properties = Vec::new();
    if let Some(line) = line {
        properties.push(format!("file={}", property(file)));
        properties.push(format!("line={line}"));
        properties.extend(column.map(|column| format!("col={column}")));
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
