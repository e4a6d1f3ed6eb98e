//! The scenarios that come along hold by the model, on the embedded mesh and on a real one, and no slip in their manifests survives.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use std::sync::PoisonError;

use common::{CLUSTER, containers, run_id, said, shiftcheck};
use rstest::rstest;

#[rstest]
#[case::progressive("progressive")]
#[case::blue_green("blue-green")]
#[case::ab_test("ab-test")]
#[case::mirror("mirror")]
#[case::gateway_api("gateway-api")]
#[case::scale("scale")]
fn a_scenario_holds_and_catches_every_slip(#[case] name: &str) {
    let fixture = format!("fixtures/{name}");
    let (printed, errors, code) = said(&shiftcheck(&["verify", &fixture]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    let (printed, errors, code) = said(&shiftcheck(&["run", &fixture, "--cluster", "embedded"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    let (printed, errors, code) = said(&shiftcheck(&["mutants", &fixture]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    insta::assert_snapshot!(format!("slips_of_{}", name.replace('-', "_")), printed);
}

/// Those that stand on parts of a mesh that the canary scenario does not touch, on one cluster.
#[test]
fn they_hold_on_a_real_mesh() {
    let _one = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let (printed, errors, code) =
        said(&shiftcheck(&["run", "fixtures/gateway-api", "--keep", "always"]).output().unwrap());
    let kept = run_id(&printed);
    let kubeconfig = printed.split_once("export KUBECONFIG=").map(|(_, rest)| rest.lines().next().unwrap().to_owned());
    let more = kubeconfig.map(|kubeconfig| {
        ["fixtures/blue-green", "fixtures/mirror"].map(|fixture| {
            let arguments = ["run", fixture, "--cluster", "kubeconfig", "--kubeconfig", &kubeconfig];
            said(&shiftcheck(&arguments).output().unwrap())
        })
    });
    let swept = shiftcheck(&["sweep", "--run", &kept]).output().unwrap();
    assert_eq!(code, Some(0), "{printed}{errors}");
    for (printed, errors, code) in more.unwrap() {
        assert_eq!(code, Some(0), "{printed}{errors}");
    }
    assert!(swept.status.success());
    assert_eq!(containers(&kept), [""; 0], "something is left behind");
}
