//! `shiftcheck judge` runs in a pod, and prints the manifests with which a rollout has itself judged.

use crate::common::{ROOT, said, shiftcheck};

/// The objects of the example are those that the command prints, below a comment.
#[test]
fn the_objects_of_the_example_are_up_to_date() {
    let (printed, errors, code) =
        said(&shiftcheck(&["judge", "fixtures/rollouts-judge/judge.yaml", "--manifests"]).output().unwrap());
    assert_eq!((errors.as_str(), code), ("", Some(0)));
    let written = std::fs::read_to_string(format!("{ROOT}/fixtures/rollouts-judge/judge-objects.yaml")).unwrap();
    let written: String = written.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(written, printed);
}

#[test]
fn outside_of_a_cluster_it_says_how_it_is_run_in_one() {
    let (_, errors, code) = said(&shiftcheck(&["judge", "fixtures/rollouts-judge/judge.yaml"]).output().unwrap());
    assert_eq!(code, Some(3));
    assert!(errors.starts_with("error: this process runs in no pod: "), "{errors}");
    assert!(
        errors.contains("hint: `shiftcheck judge --manifests` prints what runs it as a Job in the cluster"),
        "{errors}"
    );
}

#[test]
fn a_scenario_without_a_controller_has_no_stage_to_judge() {
    let (_, errors, code) = said(&shiftcheck(&["judge", "fixtures/canary", "--manifests"]).output().unwrap());
    assert_eq!(code, Some(2));
    let message = "error: fixtures/canary/scenario.yaml: no controller moves the traffic of this scenario\n\nhint: \
                   add `controller: {rollout: NAME}` and what each stage waits for\n";
    assert_eq!(errors, message);
}
