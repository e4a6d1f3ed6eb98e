//! What the model does not cover and what can affect a claim leaves it undecided: no command calls such a claim given.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::common::schema::committed_schema;
use crate::common::{said, shiftcheck, spoilt};

const DENY: &str = "\
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-v2}
spec: {selector: {matchLabels: {version: v2}}}
";

/// The canary with a policy that denies every request to v2, from its fourth stage on.
fn denied() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    spoilt(folder.path(), &[]);
    let path = folder.path().join("vs-hello-testers.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}{DENY}")).unwrap();
    // the last stage claims that no object is left
    let path = folder.path().join("scenario.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &text[..text.find("  - name: clean-up").unwrap()]).unwrap();
    folder
}

/// What the program prints about a folder, named `FOLDER`, and its exit code.
fn about(folder: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let name = folder.to_str().unwrap();
    let arguments: Vec<&str> = arguments.iter().map(|word| if *word == "FOLDER" { name } else { word }).collect();
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    (format!("{printed}{errors}").replace(name, "FOLDER"), code)
}

#[test]
fn verify_calls_no_claim_given_that_a_policy_can_affect() {
    let folder = denied();
    let (printed, code) = about(folder.path(), &["verify", "FOLDER"]);
    assert_eq!(code, Some(4), "{printed}");
    insta::assert_snapshot!("verify_with_a_policy", printed);
}

#[test]
fn a_mutant_is_not_called_equivalent_or_survived_where_a_claim_is_undecided() {
    let folder = denied();
    let (printed, code) = about(folder.path(), &["mutants", "FOLDER"]);
    assert_eq!(code, Some(4), "{printed}");
    assert!(
        printed.contains("undecided 20 mutants: something that is not modelled can affect their claims"),
        "{printed}"
    );
}

#[test]
fn a_policy_that_was_added_is_a_change_in_behaviour() {
    let folder = denied();
    let (printed, code) = about(folder.path(), &["verify", "FOLDER", "--against", "fixtures/canary"]);
    assert_eq!(code, Some(4), "{printed}");
    let change = "testers: v1 50 %, v2 50 % → undecided (FOLDER/vs-hello-testers.yaml:19:1: AuthorizationPolicy/deny-v2 is not modelled)";
    assert!(printed.contains(change), "{printed}");
}

#[test]
fn programs_are_told_no_shares_where_a_claim_is_undecided() {
    let folder = denied();
    let arguments = ["verify", "FOLDER", "--against", "fixtures/canary", "--format", "json"];
    let (printed, code) = about(folder.path(), &arguments);
    assert_eq!(code, Some(4), "{printed}");
    let result: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(committed_schema("verify").check(&result), Ok(()));
    assert_eq!(result["result"], "undecided");
    let claims = result["claims"].as_array().unwrap().iter();
    let undecided: Vec<&Value> = claims.filter(|claim| claim["result"] == "undecided").collect();
    assert!(!undecided.is_empty() && undecided.iter().all(|claim| claim["given"].is_null()), "{undecided:#?}");
    let note = "FOLDER/vs-hello-testers.yaml:19:1";
    assert_eq!(undecided[0]["reasons"][0], format!("not modelled: AuthorizationPolicy/deny-v2 ({note})"));
    let after = format!("undecided ({note}: AuthorizationPolicy/deny-v2 is not modelled)");
    let changes = result["changes"].as_array().unwrap();
    assert!(!changes.is_empty() && changes.iter().all(|change| change["after"] == after), "{changes:#?}");
}

#[test]
fn the_embedded_mesh_calls_no_claim_proven_that_a_policy_can_affect() {
    let folder = denied();
    let (printed, code) = about(folder.path(), &["run", "FOLDER", "--cluster", "embedded", "--no-report"]);
    assert_eq!(code, Some(4), "{printed}");
    let verdict = "? testers: v1 50 %, v2 50 % — the embedded mesh does not model AuthorizationPolicy/deny-v2 \
                   (FOLDER/vs-hello-testers.yaml:19:1), which can affect these requests";
    assert!(printed.contains(verdict), "{printed}");
}

#[test]
fn no_claim_about_a_change_is_proven_that_a_policy_can_affect() {
    let folder = denied();
    let path = folder.path().join("scenario.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let claim = "      - {from: testers, get: {v1: 50%, v2: 50%}}\n";
    assert!(text.contains(claim), "{text}");
    std::fs::write(&path, text.replace(claim, &format!("{claim}      - {{during: {{errors: 0}}}}\n"))).unwrap();
    let (printed, code) = about(folder.path(), &["run", "FOLDER", "--cluster", "embedded", "--no-report"]);
    assert_eq!(code, Some(4), "{printed}");
    let why = "which answers are right is not known, because AuthorizationPolicy/deny-v2 (FOLDER/vs-hello-testers.yaml:19:1) \
               is not modelled";
    assert!(printed.contains(why), "{printed}");
}

#[test]
fn a_target_port_that_pods_do_not_declare_is_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let own = ("hello-server-v2.yaml", "image: hello-server:v2", "image: hello:v2");
    spoilt(folder.path(), &[own, ("hello-server-v2.yaml", "containerPort: 8080", "containerPort: 9090")]);
    let (printed, code) = about(folder.path(), &["verify", "FOLDER"]);
    assert_eq!(code, Some(4), "{printed}");
    let why = "FOLDER/svc-hello.yaml:8:7: target port 8080 (not declared by all pods) can affect these requests and is not modelled";
    assert!(printed.contains(why), "{printed}");
}
