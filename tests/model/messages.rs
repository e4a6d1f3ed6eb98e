//! What a user reads where a scenario, its manifests and its service do not fit together.

use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{said, shiftcheck, spoilt};

/// What a command says of the canary scenario with changes, which is called `canary`.
fn told(command: &[&str], changes: &[(&str, &str, &str)]) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    spoilt(folder.path(), changes);
    told_of(command, folder.path())
}

fn told_of(command: &[&str], folder: &Path) -> (String, Option<i32>) {
    let path = folder.to_str().unwrap();
    let arguments = [&command[..1], &[path], &command[1..]].concat();
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    (format!("{printed}{errors}").replace(path, "canary"), code)
}

const RUN: [&str; 4] = ["run", "--cluster", "embedded", "--no-report"];
const TESTERS: &str = "vs-hello-testers.yaml";

/// The lines of the first failed claim.
fn failed(printed: &str) -> Vec<&str> {
    let lines = printed.lines().skip_while(|line| !line.starts_with("   ✗ ")).skip(1);
    lines.take_while(|line| line.starts_with("       ")).map(str::trim).collect()
}

#[test]
fn a_version_rule_that_does_not_match_is_named() {
    let (printed, code) = told(&RUN, &[("scenario.yaml", "'Hello server - (", "'Goodbye - (")]);
    assert_eq!(code, Some(1), "{printed}");
    let expected = [
        "the version cannot be read from the responses",
        "because it does not match `version: {body: 'Goodbye - (?<version>[^ ]+)'}`, canary/scenario.yaml:6:10",
    ];
    assert_eq!(failed(&printed)[..2], expected, "{printed}");
}

#[test]
fn an_expectation_that_differs_from_the_manifests_is_compared_with_them() {
    let change =
        ("scenario.yaml", "{from: testers, get: {v1: 50%, v2: 50%}}", "{from: testers, get: {v1: 80%, v2: 20%}}");
    let (printed, code) = told(&RUN, &[change]);
    assert_eq!(code, Some(1), "{printed}");
    let expected = [
        "the manifests give something else than the expectation says",
        "because the manifests give v1 50 %, v2 50 % by VirtualService vs-hello (canary/vs-hello-testers.yaml:8:7); \
         the expectation says v1 80 %, v2 20 %",
    ];
    assert_eq!(failed(&printed)[..2], expected, "{printed}");
}

#[test]
fn a_wrong_port_of_the_service_is_named_with_the_right_one() {
    let (printed, code) = told(&["verify"], &[("scenario.yaml", "http://svc-hello:8080", "http://svc-hello:80")]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(
        printed.contains("because Service svc-hello has port 8080, not 80 (canary/svc-hello.yaml:1:1)\n"),
        "{printed}"
    );
}

#[test]
fn weights_that_do_not_sum_to_100_are_named() {
    let (printed, _) = told(&["verify"], &[(TESTERS, "weight: 50", "weight: 60")]);
    let warning = "warning: canary/vs-hello-testers.yaml:11:7: the weights sum to 110, not 100; Istio takes them as proportions\n";
    assert!(printed.contains(warning), "{printed}");
}

#[rstest]
#[case::in_a_manifest((TESTERS, "  hosts: [svc-hello]", "\thosts: [svc-hello]"), "vs-hello-testers.yaml:6:1")]
#[case::in_the_scenario(("scenario.yaml", "  - name: first release", "\t- name: first release"), "scenario.yaml:21:1")]
fn a_tab_is_named(#[case] change: (&str, &str, &str), #[case] place: &str) {
    let (printed, code) = told(&["verify"], &[change]);
    assert_eq!(code, Some(2), "{printed}");
    let message = "not YAML: this line is indented with a tab, and YAML allows only spaces";
    assert!(printed.starts_with(&format!("error: canary/{place}: {message}\n")), "{printed}");
}

#[test]
fn everything_that_the_api_would_refuse_is_told_before_anything_starts() {
    let spoilt = [
        ("svc-hello.yaml", "metadata:\n", "metadata:\n  label: {app: hello}\n"),
        ("hello-server-v2.yaml", "replicas: ", "replica: "),
        (TESTERS, "route:", "timout: 5s\n      route:"),
        (TESTERS, "hosts: [svc-hello]", "hosts: ['*']"),
    ];
    let (printed, code) = told(&RUN, &spoilt);
    assert_eq!(code, Some(2), "{printed}");
    insta::assert_snapshot!(printed, @r"
    error: canary/hello-server-v2.yaml:7:3: unknown field `spec.replica`; did you mean `replicas`?
    canary/svc-hello.yaml:4:3: unknown field `metadata.label`; did you mean `labels`?
    canary/vs-hello-testers.yaml:6:11: the host `*` is allowed for gateways only, not in the mesh
    canary/vs-hello-testers.yaml:11:7: unknown field `spec.http[0].timout`; did you mean `timeout`?
    ");
}

#[test]
fn bad_input_has_no_summary() {
    // the selector of a Deployment cannot be changed
    let stage = "    delete: [deployment/hello-server-v1]\n    apply: [hello-server-v1.yaml";
    let (printed, code) = told(&RUN, &[("scenario.yaml", stage, "    apply: [hello-server-v1.yaml")]);
    assert_eq!(code, Some(2), "{printed}");
    assert!(printed.contains("was rejected: ") && !printed.contains("did not complete"), "{printed}");
}

#[test]
fn a_quiet_run_prints_failures_and_the_result() {
    let (printed, code) = told(&[&RUN[..], &["-q"]].concat(), &[]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.starts_with("all stages passed on the embedded mesh") && printed.lines().count() == 1, "{printed}");
    let (printed, code) = told(&["verify", "-q"], &[]);
    assert_eq!((printed.as_str(), code), ("every claim holds according to the manifests (26 claims)\n", Some(0)));
    let (printed, code) = told(&["verify", "-q"], &[("dr-hello.yaml", "version: v2", "version: v3")]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.starts_with("FAIL 4/9 testers' canary\n   ✗ testers: "), "{printed}");
    let (printed, code) = told(&["mutants", "-q"], &[]);
    assert_eq!((printed.lines().count(), code), (3, Some(0)), "{printed}");
}

#[rstest]
#[case::json("json")]
#[case::markdown("markdown")]
fn results_have_formats_for_programs_and_pages(#[case] format: &str) {
    let change = ("dr-hello.yaml", "version: v2", "version: v3");
    let against = format!("{}/fixtures/canary", crate::common::ROOT);
    let (verified, code) = told(&["verify", "--format", format, "--against", &against], &[change]);
    assert_eq!(code, Some(1), "{verified}");
    let claim = ("scenario.yaml", "      - {from: everyone, path: /error, get: {v2: 100%}}\n", "");
    let (mutated, code) = told(&["mutants", "--format", format], &[claim]);
    assert_eq!(code, Some(1), "{mutated}");
    if format == "json" {
        let verified: Value = serde_json::from_str(&verified).unwrap();
        let failed = verified["claims"].as_array().unwrap().iter().find(|claim| claim["result"] == "fails").unwrap();
        let rules = json!([{"object": "VirtualService vs-hello", "place": "canary/vs-hello-testers.yaml:8:7"}]);
        let given = "503, no healthy upstream 50 %, v1 50 %";
        assert_eq!(
            (&verified["scenario"], &verified["result"], &failed["claim"], &failed["place"], &failed["rules"]),
            (
                &json!("canary"),
                &json!("failed"),
                &json!("testers: v1 50 %, v2 50 %"),
                &json!("canary/scenario.yaml:48:9"),
                &rules
            )
        );
        assert_eq!((&failed["given"], &failed["reasons"][0]), (&json!(given), &json!("v2 0 % instead of 50 %")));
        let change = json!({
            "stage": 4, "stageName": "testers' canary", "population": "testers", "path": "/",
            "before": "v1 50 %, v2 50 %", "after": given, "rules": rules,
        });
        assert_eq!(verified["changes"][0], change);
        let mutated: Value = serde_json::from_str(&mutated).unwrap();
        let survived = json!([{
            "operator": "wrong image", "stage": 7, "stageName": "promotion",
            "what": "Deployment/hello-server-v2 (canary/hello-server-v2-fixed.yaml:17:11): image `hello-server:v2`",
            "claim": "{from: everyone, path: /error, get: {v2: 100%}}",
        }]);
        assert_eq!(mutated["survived"], survived);
    } else {
        let head = "## canary: verify failed\n\n| stage | claim | result | the manifests give |\n|---|---|---|---|\n\
                    | 1 first release | everyone: v1 | holds | v1 |\n";
        assert!(verified.starts_with(head), "{verified}");
        let change = "\n16 changes in behaviour\n\n| stage | population | before | after |\n|---|---|---|---|\n\
                      | 4 testers' canary | testers | v1 50 %, v2 50 % | 503, no healthy upstream 50 %, v1 50 % |\n";
        assert!(verified.contains(change), "{verified}");
        let lines: Vec<&str> = mutated.lines().filter(|line| !line.ends_with(" | 0 | 0 |")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        ## canary: 1 mutant survived

        | operator | mutants | equivalent | killed | survived | undecided |
        |---|---|---|---|---|---|
        | wrong image | 8 | 0 | 7 | 1 | 0 |

        - survived: wrong image: Deployment/hello-server-v2 (canary/hello-server-v2-fixed.yaml:17:11): image `hello-server:v2`; at stage 7 promotion, `{from: everyone, path: /error, get: {v2: 100%}}` would kill it
        ");
    }
}

#[test]
fn the_help_of_mutants_tells_its_default() {
    let (printed, _, code) = said(&shiftcheck(&["mutants", "--help"]).output().unwrap());
    assert_eq!(code, Some(0));
    let printed = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(printed.contains("[default: no cluster: the routing model alone]"), "{printed}");
}
