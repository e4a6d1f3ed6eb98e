//! Checks of manifests without a cluster: claims, changes in behaviour, and mutants.

use std::path::Path;
use std::time::Instant;

use rstest::{Context, rstest};
use tempfile::TempDir;

use crate::common::server::cache_with_images;
use crate::common::{said, shiftcheck, spoilt};

/// The canary scenario with changes, in a folder of its own.
fn canary(changes: &[(&str, &str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    spoilt(folder.path(), changes);
    folder
}

/// What a command says of a folder, with the folder called so.
fn told(command: &[&str], folder: &Path) -> (String, Option<i32>) {
    let mut arguments = command.to_vec();
    let path = folder.display().to_string();
    arguments.insert(1, &path);
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    (format!("{printed}{errors}").replace(&path, "canary"), code)
}

const DR: &str = "dr-hello.yaml";
const TESTERS: &str = "vs-hello-testers.yaml";

#[test]
fn every_claim_of_the_canary_is_given_and_says_by_which_rule() {
    let (printed, _, code) = said(&shiftcheck(&["verify", "fixtures/canary"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains(
        "the manifests give v1 50 %, v2 50 % by VirtualService vs-hello (fixtures/canary/vs-hello-testers.yaml:8:7)"
    ));
    assert!(
        printed.contains("the manifests give v1 by Service svc-hello (fixtures/canary/svc-hello.yaml:1:1)"),
        "{printed}"
    );
    assert!(printed.ends_with("every claim holds according to the manifests (26 claims)\n"), "{printed}");
}

#[test]
fn a_claim_that_is_not_given_is_told_with_what_is_off_and_why() {
    let folder = canary(&[(DR, "version: v2", "version: v3")]);
    let (printed, code) = told(&["verify"], folder.path());
    assert_eq!(code, Some(1));
    let stage: Vec<&str> = printed.lines().skip_while(|line| !line.contains("testers' canary")).take(6).collect();
    insta::assert_snapshot!("a_claim_that_is_not_given", stage.join("\n"));
}

#[rstest]
#[case::not_yaml(&[(TESTERS, "hosts: [svc-hello]", "hosts: [svc-hello")])]
#[case::key_twice(&[(TESTERS, "  hosts: [svc-hello]", "  hosts: [svc-hello]\n  hosts: [svc-hello]")])]
#[case::weight_no_number(&[(TESTERS, "weight: 50", "weight: half")])]
#[case::weight_in_quotes(&[(TESTERS, "weight: 50", "weight: \"50\"")])]
#[case::no_expression(&[(TESTERS, "exact: testers", "regex: 'test(ers'")])]
#[case::undefined_subset(&[(TESTERS, "subset: v2", "subset: v22")])]
#[case::unknown_host(&[(TESTERS, "hosts: [svc-hello]", "hosts: [svc-helo]")])]
#[case::host_with_namespace(&[(TESTERS, "hosts: [svc-hello]", "hosts: [svc-hello.canary]")])]
#[case::two_objects_with_one_name(&[(DR, "apiVersion: networking.istio.io/v1beta1", "apiVersion: networking.istio.io/v1beta1\nkind: DestinationRule\nmetadata: {name: dr-hello}\nspec: {host: svc-hello}\n---\napiVersion: networking.istio.io/v1beta1")])]
fn a_fault_in_a_manifest_is_reported_with_its_origin(
    #[context] context: Context,
    #[case] changes: &[(&str, &str, &str)],
) {
    let folder = canary(changes);
    let (printed, code) = told(&["verify"], folder.path());
    let found: Vec<&str> = printed
        .lines()
        .filter(|line| ["error: ", "warning: "].iter().any(|word| line.trim_start().starts_with(word)))
        .collect();
    insta::assert_snapshot!(context.description.unwrap(), format!("{}\nexit code {}", found.join("\n"), code.unwrap()));
}

#[rstest]
#[case::weight_in_octal(&[(TESTERS, "weight: 50", "weight: 062")])]
#[case::weight_yes(&[(TESTERS, "weight: 50", "weight: yes")])]
#[case::version_label_no_text(&[("hello-server-v2.yaml", "kind: Deployment\nmetadata:", "kind: Deployment\nmetadata:\n  labels: {version: 2}")])]
#[case::merge_after_the_key(&[(TESTERS, "spec:", "x-own: &own {gateways: [a]}\nspec:\n  gateways: [b]\n  <<: *own")])]
#[case::tag(&[(TESTERS, "weight: 50", "weight: !!binary NTA=")])]
fn a_value_means_what_kubectl_makes_of_it(#[context] context: Context, #[case] changes: &[(&str, &str, &str)]) {
    let folder = canary(changes);
    let (printed, code) = told(&["verify"], folder.path());
    let seen: Vec<&str> = printed
        .lines()
        .filter(|line| ["error: ", "warning: ", "mismatch: "].iter().any(|word| line.trim_start().starts_with(word)))
        .collect();
    insta::assert_snapshot!(context.description.unwrap(), format!("{}\nexit code {}", seen.join("\n"), code.unwrap()));
}

#[test]
fn the_canary_kills_every_mutant_that_is_not_equivalent() {
    let (printed, _, code) = said(&shiftcheck(&["mutants", "fixtures/canary"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}");
    insta::assert_snapshot!(printed);
}

#[test]
fn a_mutant_that_survives_is_reported_with_the_claim_that_would_kill_it() {
    let folder = canary(&[("scenario.yaml", "      - {from: everyone, path: /error, get: {v2: 100%}}\n", "")]);
    let (printed, code) = told(&["mutants"], folder.path());
    assert_eq!(code, Some(1));
    assert!(
        printed.contains(
            "at stage 7 promotion, this claim would kill it: {from: everyone, path: /error, get: {v2: 100%}}"
        ),
        "{printed}"
    );
}

#[test]
fn without_an_engine_the_embedded_mesh_walks_in_a_moment() {
    let start = Instant::now();
    let mut command = shiftcheck(&["run", "fixtures/canary", "--cluster", "embedded"]);
    command.env("DOCKER_HOST", "unix:///nonexistent").env_remove("CI").env_remove("SHIFTCHECK_CLUSTER");
    let (printed, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(
        printed.starts_with(
            "canary: 9 stages, 26 claims on the embedded mesh, which checks your manifests, not an Istio release"
        ),
        "{printed}"
    );
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[rstest]
#[case::in_ci("true")]
#[case::elsewhere("")]
fn an_engine_that_is_named_and_missing_is_an_error(#[case] ci: &str) {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.31"]);
    let mut command = shiftcheck(&["run", "fixtures/canary"]);
    command.env("DOCKER_HOST", "unix:///nonexistent").env("CI", ci).env_remove("SHIFTCHECK_CLUSTER");
    command.env("SHIFTCHECK_CACHE", folder.path());
    let (_, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.starts_with("error: no Docker engine answers"), "{errors}");
}

#[rstest]
#[case::selector_is_immutable(
    &[("scenario.yaml", "    delete: [deployment/hello-server-v1]\n    apply: [hello-server-v1.yaml", "    apply: [hello-server-v1.yaml")],
    "hello-server-v1.yaml:8:3: Deployment/hello-server-v1 was rejected: Deployment.apps \"hello-server-v1\" is invalid: spec.selector: Invalid value: field is immutable"
)]
#[case::unknown_field(
    &[("svc-hello.yaml", "selector: {app: hello}", "selectors: {app: hello}")],
    "svc-hello.yaml:6:3: unknown field `spec.selectors`; did you mean `selector`?"
)]
#[case::unknown_field_of_a_rule(
    &[(TESTERS, "    - match:", "    - matches:")],
    "vs-hello-testers.yaml:8:7: unknown field `spec.http[0].matches`; did you mean `match`?"
)]
#[case::unknown_field_of_a_destination(
    &[(TESTERS, "{host: svc-hello, subset: v2}", "{host: svc-hello, subsets: v2}")],
    "unknown field `spec.http[0].route[1].destination.subsets`; did you mean `subset`?"
)]
#[case::unknown_field_of_the_metadata(
    &[("svc-hello.yaml", "metadata:\n", "metadata:\n  label: {app: hello}\n")],
    "svc-hello.yaml:4:3: unknown field `metadata.label`; did you mean `labels`?"
)]
#[case::wrong_type_in_the_metadata(
    &[("svc-hello.yaml", "metadata:\n", "metadata:\n  finalizers: none\n")],
    "svc-hello.yaml:4:3: metadata.finalizers is the string `none`, not a list; did you mean `[none]`?"
)]
#[case::another_image(
    &[("hello-server-v2.yaml", "hello-server:v2", "nginx:1")],
    "scenario.yaml:54:9: the manifests route these requests to stand-ins, which answer with status 200 only; the claim needs 503"
)]
#[case::nothing_to_delete(
    &[("scenario.yaml", "delete: [deployment/hello-server-v2]", "delete: [deployment/hello-server-v3]")],
    "the deletion of deployment/hello-server-v3 was rejected: deployments.apps \"hello-server-v3\" not found"
)]
fn the_embedded_cluster_says_what_the_api_would(#[case] changes: &[(&str, &str, &str)], #[case] message: &str) {
    let folder = canary(changes);
    let (printed, code) = told(&["run", "--cluster", "embedded"], folder.path());
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains(message), "{printed}");
}

#[test]
fn errors_during_a_change_can_be_claimed() {
    let rollback = "    apply: [vs-hello-rollback.yaml]\n    expect:\n";
    let claimed = format!("{rollback}      - {{during: {{errors: 0}}}}\n");
    let folder = canary(&[("scenario.yaml", rollback, &claimed)]);
    let (printed, code) = told(&["run", "--cluster", "embedded"], folder.path());
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("     during the change: at most 0 errors — 0 of "), "{printed}");
    let bound = printed.lines().find(|line| line.contains("during the change: at most 0 errors")).unwrap();
    // as many requests as exclude an error share of 1 %, and the bound that they give
    let requests: u64 = bound.split(" of ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(requests >= 688, "{bound}");
    assert!(bound.contains(" requests failed while the stage was applied; an error share above "), "{bound}");
    assert!(bound.ends_with(" % is excluded with 99.9 % confidence"), "{bound}");
}

const PROMOTION: &str = "    apply: [hello-server-v2-fixed.yaml, vs-hello-promotion.yaml]\n    expect:\n";

#[test]
fn a_gap_and_the_last_answer_of_a_version_can_be_claimed() {
    let claimed = format!("{PROMOTION}      - {{during: {{gap: 900ms, last-of: {{v1: 300ms}}}}}}\n");
    let folder = canary(&[("scenario.yaml", PROMOTION, &claimed)]);
    let (printed, code) = told(&["run", "--cluster", "embedded"], folder.path());
    assert_eq!(code, Some(0), "{printed}");
    let claim = printed.lines().find(|line| line.contains("during the change: at most")).unwrap();
    for part in [
        "the longest time without a right answer was ",
        " after the watch began; a request was due every 1.5 ms)",
        "v1 answered 0 of ",
        " requests due later than 300 ms after the change was applied (",
        "; a share of v1 above ",
        " % is excluded with 99.9 % confidence",
    ] {
        assert!(claim.contains(part), "`{part}` is not in {claim}");
    }
}

#[test]
fn a_version_that_goes_on_answering_fails_the_claim_that_it_ends() {
    let claimed = format!("{PROMOTION}      - {{during: {{last-of: {{v2: 200ms}}}}}}\n");
    let folder = canary(&[("scenario.yaml", PROMOTION, &claimed)]);
    let (printed, code) = told(&["run", "--cluster", "embedded"], folder.path());
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("requests due later than 200 ms after the change was applied were answered by v2"),
        "{printed}"
    );
}

#[rstest]
#[case::gap("gap: 2ms", "a gap of 2 ms is too short to be measured: the shortest limit for 3 populations is 10 ms")]
#[case::share(
    "errors: 0, excludes: 0.001%",
    "excluding a share above 0.001 % with 0 errors takes more than 100000 requests"
)]
fn what_no_watch_can_decide_is_bad_input(#[case] claim: &str, #[case] why: &str) {
    let claimed = format!("{PROMOTION}      - {{during: {{{claim}}}}}\n");
    let folder = canary(&[("scenario.yaml", PROMOTION, &claimed)]);
    let (printed, code) = told(&["run", "--cluster", "embedded"], folder.path());
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("/scenario.yaml:") && printed.contains(why), "{printed}");
}

#[rstest]
#[case::served("hello-server-v2: 0", "hello-server-v2: some", "scenario.yaml:42:19")]
#[case::objects("vs-hello-promotion.yaml, dr-hello.yaml,", "vs-hello-promotion.yaml,", "scenario.yaml:82:9")]
fn every_failed_expectation_has_file_line_and_column(#[case] from: &str, #[case] to: &str, #[case] place: &str) {
    let folder = canary(&[("scenario.yaml", from, to)]);
    let reports = folder.path().join("reports");
    for command in [&["verify"][..], &["run", "--cluster", "embedded", "--report", reports.to_str().unwrap()]] {
        let (printed, code) = told(command, folder.path());
        assert_eq!(code, Some(1), "{printed}");
        assert!(printed.contains(&format!("claimed in canary/{place}\n")), "{command:?}: {printed}");
    }
    let report = std::fs::read_to_string(reports.join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let claims = report["stages"].as_array().unwrap().iter().flat_map(|stage| stage["claims"].as_array().unwrap());
    let failed: Vec<&serde_json::Value> = claims.filter(|claim| claim["result"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    let place = folder.path().join(place);
    assert_eq!(failed[0]["place"], place.to_str().unwrap());
}

#[test]
fn a_folder_without_a_scenario_is_nothing_to_compare_with() {
    let (folder, empty) = (canary(&[]), tempfile::tempdir().unwrap());
    let against = empty.path().to_str().unwrap();
    let (printed, code) = told(&["verify", "--against", against], folder.path());
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains(&format!("error: {against}/scenario.yaml does not exist\n")), "{printed}");
    let own = folder.path().to_str().unwrap();
    let (printed, code) = told(&["verify", "--against", own], folder.path());
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("error: canary is the scenario itself"), "{printed}");
}

#[rstest]
#[case::begins_on_the_line_of_the_separator(
    &[(TESTERS, "apiVersion: networking.istio.io/v1beta1", "--- {apiVersion: v1, kind: ConfigMap, metadata: {name: first}}\n---\napiVersion: networking.istio.io/v1beta1"),
      ("scenario.yaml", "vs-hello-promotion.yaml, dr-hello.yaml,", "dr-hello.yaml,")],
    "ConfigMap/first"
)]
fn a_document_is_never_dropped(#[case] changes: &[(&str, &str, &str)], #[case] seen: &str) {
    let folder = canary(changes);
    let (printed, code) = told(&["verify"], folder.path());
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains(seen), "{printed}");
}
