//! `shiftcheck judge` runs in a pod, and prints the manifests with which a rollout has itself judged.

use rstest::rstest;

use crate::common::{ROOT, said, shiftcheck};

/// The objects of the examples are those that the command prints, below a comment.
#[rstest]
fn the_objects_of_the_examples_are_up_to_date(#[values("rollouts-judge", "flagger-judge")] name: &str) {
    let folder = format!("fixtures/{name}");
    let (printed, errors, code) =
        said(&shiftcheck(&["judge", &format!("{folder}/judge.yaml"), "--manifests"]).output().unwrap());
    assert_eq!((errors.as_str(), code), ("", Some(0)));
    let written = std::fs::read_to_string(format!("{ROOT}/{folder}/judge-objects.yaml")).unwrap();
    let written: String = written.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(written, printed);
}

/// What a refused command says.
fn refused(arguments: &[&str]) -> (String, Option<i32>) {
    let (printed, errors, code) = said(&shiftcheck(&[&["judge"], arguments].concat()).output().unwrap());
    assert_eq!(printed, "");
    (errors, code)
}

#[rstest]
#[case::as_a_job(&["fixtures/rollouts-judge/judge.yaml"])]
#[case::behind_a_webhook(&["fixtures/flagger-judge/judge.yaml", "--webhook", "8080"])]
fn outside_of_a_cluster_it_says_how_it_is_run_in_one(#[case] arguments: &[&str]) {
    let (errors, code) = refused(arguments);
    assert_eq!(code, Some(3));
    assert!(errors.starts_with("error: this process runs in no pod: "), "{errors}");
    assert!(errors.contains("hint: `shiftcheck judge --manifests` prints what runs it in the cluster"), "{errors}");
}

#[rstest]
#[case::to_print("--manifests")]
#[case::to_answer("--webhook=8080")]
fn a_scenario_without_a_controller_has_no_stage_to_judge(#[case] option: &str) {
    let (errors, code) = refused(&["fixtures/canary", option]);
    assert_eq!(code, Some(2));
    let message = "error: fixtures/canary/scenario.yaml: no controller moves the traffic of this scenario\n\nhint: \
                   add `controller: {rollout: NAME}` or `controller: {canary: NAME}`, and what each stage waits for\n";
    assert_eq!(errors, message);
}

#[test]
fn a_rollout_asks_no_webhook() {
    let (errors, code) = refused(&["fixtures/rollouts-judge/judge.yaml", "--webhook", "8080"]);
    assert_eq!(code, Some(2));
    let message = "error: fixtures/rollouts-judge/judge.yaml:4:23: Rollout/hello asks no webhooks\n\nhint: omit --webhook: \
                   an analysis of Argo Rollouts runs this command as a Job\n";
    assert_eq!(errors, message);
}

#[rstest]
#[case::no_port(&["--webhook", "0"], "0 is not in 1..=65535")]
#[case::both(&["--webhook", "8080", "--manifests"], "the argument '--webhook <PORT>' cannot be used with '--manifests'")]
fn options_that_make_no_sense_are_refused(#[case] options: &[&str], #[case] message: &str) {
    let (errors, code) = refused(&[&["fixtures/flagger-judge/judge.yaml"], options].concat());
    assert_eq!(code, Some(2));
    assert!(errors.contains(message), "{errors}");
}
