//! What Flagger makes of a Canary is checked without a cluster, and what is wrong in a scenario with a Canary is told with its place.

use std::path::Path;

use rstest::{Context, rstest};

use crate::common::{ROOT, example, said, shiftcheck};

#[rstest]
fn the_steps_of_a_canary_are_checked_without_a_cluster(
    #[values("canary", "canary-drained", "rollback", "judge", "ab", "mirror", "affinity")] name: &str,
) {
    let scenario = format!("fixtures/flagger-{name}");
    let (printed, errors, code) = said(&shiftcheck(&["verify", &scenario]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    insta::assert_snapshot!(format!("verify_of_flagger_{}", name.replace('-', "_")), printed);
}

#[rstest]
fn every_mutant_of_a_canary_is_killed(#[values("canary", "ab", "mirror", "affinity")] name: &str) {
    let scenario = format!("fixtures/flagger-{name}");
    let (printed, errors, code) = said(&shiftcheck(&["mutants", &scenario]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    insta::assert_snapshot!(format!("mutants_of_flagger_{name}"), printed);
}

/// A Canary that never has the weight of the stage leaves its claims undecided; of the objects that judge the Canary, no claim tells.
#[test]
fn a_changed_weight_of_a_judged_canary_is_undecided() {
    let (printed, errors, code) = said(&shiftcheck(&["mutants", "fixtures/flagger-judge"]).output().unwrap());
    assert_eq!(code, Some(4), "{printed}{errors}");
    insta::assert_snapshot!("mutants_of_flagger_judge", printed);
}

/// What `verify` says of a spoilt copy of `fixtures/flagger-canary`, without the folder's name.
fn spoilt(file: &str, from: &str, to: &str) -> (String, String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(ROOT).join("fixtures");
    let own = folder.path().join("flagger-canary");
    std::fs::create_dir(&own).unwrap();
    std::fs::create_dir(folder.path().join("canary")).unwrap();
    std::fs::copy(fixtures.join("canary/httpbin.yaml"), folder.path().join("canary/httpbin.yaml")).unwrap();
    for entry in std::fs::read_dir(fixtures.join("flagger-canary")).unwrap().flatten() {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let text = if entry.file_name() == file {
            assert!(text.contains(from), "{file} does not hold `{from}`");
            text.replacen(from, to, 1)
        } else {
            text
        };
        std::fs::write(own.join(entry.file_name()), text).unwrap();
    }
    let (printed, errors, code) = said(&shiftcheck(&["verify", own.to_str().unwrap()]).output().unwrap());
    let shown = |text: String| text.replace(folder.path().to_str().unwrap(), "FOLDER");
    (shown(printed), shown(errors), code)
}

const WAIT: &str = "wait: {phase: WaitingPromotion, within: 60s}";

#[rstest]
#[case::canary_without_its_deployment("canary.yaml", "kind: Deployment, name: hello", "kind: Deployment, name: helo")]
#[case::unknown_gate("scenario.yaml", "do: {open: promotion}", "do: {open: promotoin}")]
#[case::action_of_another_controller("scenario.yaml", "do: {open: promotion}", "do: promote")]
#[case::unknown_answer("scenario.yaml", "do: {open: promotion}", "do: {opne: promotion}")]
#[case::do_as_a_number("scenario.yaml", "do: {open: promotion}", "do: 1")]
#[case::phase_of_another_controller("scenario.yaml", WAIT, "wait: {phase: Healthy, within: 60s}")]
#[case::step_of_another_controller("scenario.yaml", WAIT, "wait: {step: 1, within: 60s}")]
#[case::weight_that_is_never_reached("scenario.yaml", WAIT, "wait: {weight: 40%, within: 60s}")]
#[case::target_changed_without_a_wait(
    "scenario.yaml",
    "    wait: {phase: Progressing, weight: 25%, within: 60s}\n",
    ""
)]
#[case::two_controlled_objects("scenario.yaml", "{canary: hello}", "{canary: hello, rollout: hello}")]
#[case::canary_that_no_stage_applies("scenario.yaml", "{canary: hello}", "{canary: helo}")]
fn a_spoilt_canary_is_told_with_its_place(
    #[context] context: Context,
    #[case] file: &str,
    #[case] from: &str,
    #[case] to: &str,
) {
    let (_, errors, code) = spoilt(file, from, to);
    assert_eq!(code, Some(2), "{errors}");
    insta::assert_snapshot!(context.description.unwrap(), errors);
}

#[rstest]
#[case::without_the_affinity(
    "    sessionAffinity: {cookieName: flagger-cookie, maxAge: 21600}\n",
    "",
    "no response of v2 leaves a session with the cookie `flagger-cookie`"
)]
#[case::with_another_cookie(
    "cookieName: flagger-cookie",
    "cookieName: canary",
    "no response of v2 leaves a session with the cookie `flagger-cookie`"
)]
fn sessions_that_flagger_does_not_keep_are_told_with_the_rule(#[case] from: &str, #[case] to: &str, #[case] why: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "flagger-affinity", "canary.yaml", from, to);
    let (printed, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    let words = printed.replace(folder.path().to_str().unwrap(), "FOLDER");
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let cause =
        format!("because {why}, and VirtualService hello (FOLDER/flagger-affinity/canary.yaml:5:1) gives it v1");
    assert!(words.contains("✗ users: sessions keep v2 — ") && words.contains(&cause), "{printed}");
}

#[rstest]
#[case::affinity_and_headers(
    "  service: {port: 8080}\n  analysis:\n",
    "  service: {port: 8080, headers: {response: {add: {a: b}}}}\n  analysis:\n    sessionAffinity: {cookieName: canary}\n"
)]
#[case::gateways("service: {port: 8080}", "service: {port: 8080, gateways: [front]}")]
fn claims_about_settings_that_the_model_does_not_cover_are_undecided(#[case] from: &str, #[case] to: &str) {
    let (printed, errors, code) = spoilt("canary.yaml", from, to);
    assert_eq!(code, Some(4), "{printed}{errors}");
    assert!(printed.contains("Canary/hello"), "{printed}");
}
