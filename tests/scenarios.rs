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

/// Those that stand on parts of a mesh that the canary scenario does not touch.
#[rstest]
#[case::blue_green("blue-green")]
#[case::mirror("mirror")]
#[case::gateway_api("gateway-api")]
fn a_scenario_holds_on_a_real_mesh(#[case] name: &str) {
    let _one = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let (printed, errors, code) = said(&shiftcheck(&["run", &format!("fixtures/{name}")]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert_eq!(containers(&run_id(&printed)), [""; 0], "something is left behind");
}
