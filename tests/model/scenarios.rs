//! All claims of the example scenarios in `fixtures/` hold by the model and on the embedded mesh, and `mutants` finds no mutant that they miss.

use rstest::rstest;

use crate::common::{said, shiftcheck};

#[rstest]
#[case::progressive("progressive")]
#[case::blue_green("blue-green")]
#[case::ab_test("ab-test")]
#[case::mirror("mirror")]
#[case::gateway_api("gateway-api")]
#[case::scale("scale")]
fn a_scenario_holds_and_kills_every_mutant(#[case] name: &str) {
    let fixture = format!("fixtures/{name}");
    let (printed, errors, code) = said(&shiftcheck(&["verify", &fixture]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    let (printed, errors, code) = said(&shiftcheck(&["run", &fixture, "--cluster", "embedded"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    let (printed, errors, code) = said(&shiftcheck(&["mutants", &fixture]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    insta::assert_snapshot!(format!("mutants_of_{}", name.replace('-', "_")), printed);
}
