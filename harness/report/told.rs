//! The result of a run in a few lines, for an answer or a message of limited length.

use super::model::{Outcome, Report};
use super::words::short;

impl Report {
    /// The result in words, with each claim that does not hold and the failure that ended the run, in at most `longest` characters.
    pub fn told(&self, longest: usize) -> String {
        let open = self.stages.iter().flat_map(|stage| {
            let open = stage.claims.iter().filter(|claim| claim.result != Outcome::Passed);
            open.map(move |claim| format!("{}, {}: {} — {}", stage.name, claim.subject, claim.claim, claim.reason))
        });
        let failure = self.failure.iter().flat_map(|failure| {
            let hint = failure.hint.iter().map(|hint| format!("hint: {hint}"));
            [failure.message.clone()].into_iter().chain(hint)
        });
        let lines = [self.note.clone()].into_iter().chain(open).chain(failure);
        short(&lines.collect::<Vec<_>>().join("\n"), longest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Claim, Failure, Stage};
    use super::*;

    fn claim(subject: &str, result: Outcome) -> Claim {
        let (claim, reason) = ("v1 75 %, v2 25 %".to_owned(), "of 400 requests v2 answered 90 %".to_owned());
        Claim { subject: subject.to_owned(), claim, result, reason, ..Claim::default() }
    }

    #[test]
    fn what_does_not_hold_is_told_with_its_stage() {
        let claims = vec![claim("everyone", Outcome::Passed), claim("testers", Outcome::Failed)];
        let stages = vec![Stage { name: "25 %".to_owned(), claims, ..Stage::default() }];
        let note = "a claim of this stage fails".to_owned();
        let report = Report { note, stages, ..Report::default() };
        let told = "a claim of this stage fails\n25 %, testers: v1 75 %, v2 25 % — of 400 requests v2 answered 90 %";
        assert_eq!(report.told(900), told);
        assert_eq!(report.told(7), "a clai…");
    }

    #[test]
    fn what_ended_a_run_is_told_with_what_to_do() {
        let failure = Failure {
            link: "manifest".to_owned(),
            message: "judge.yaml:4:22: no stage".to_owned(),
            place: None,
            hint: Some("add a stage".to_owned()),
        };
        let report = Report { failure: Some(failure), note: "did not complete".to_owned(), ..Report::default() };
        assert_eq!(report.told(900), "did not complete\njudge.yaml:4:22: no stage\nhint: add a stage");
    }
}
