use super::model::{Outcome, Report};
use crate::scenario::Origin;

/// GitHub workflow commands that annotate the line of each failed claim.
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

fn annotation(place: Option<&Origin>, title: &str, message: &str) -> String {
    let mut properties = Vec::new();
    if let Some(Origin { path, line, column }) = place {
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
    fn a_failure_is_annotated_in_its_file_with_any_file_name() {
        let [line] = &annotated(Some(Origin::new("a:b,c.yaml", 3, 5)))[..] else { panic!("one annotation") };
        assert!(line.starts_with("::error file=a%3Ab%2Cc.yaml,line=3,col=5,title="), "{line}");
        let [line] = &annotated(None)[..] else { panic!("one annotation") };
        assert!(line.starts_with("::error title=") && line.ends_with("::a:1 was rejected"), "{line}");
    }
}
