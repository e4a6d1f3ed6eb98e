//! All claims of the example scenarios in `fixtures/` hold by the model and on the embedded mesh, and `mutants` finds no mutant that they miss.

use rstest::rstest;

use crate::common::{said, shiftcheck};

#[rstest]
fn all_claims_hold(
    #[values("progressive", "blue-green", "ab-test", "mirror", "gateway-api", "scale")] scenario: &str,
    #[values(&["verify"], &["run", "--cluster", "embedded"])] command: &[&str],
) {
    let fixture = format!("fixtures/{scenario}");
    let (printed, errors, code) = said(&shiftcheck(&[command, &[&fixture]].concat()).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
}

#[rstest]
fn every_mutant_is_killed(
    #[values("progressive", "blue-green", "ab-test", "mirror", "gateway-api", "scale")] scenario: &str,
) {
    let (printed, errors, code) = said(&shiftcheck(&["mutants", &format!("fixtures/{scenario}")]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    insta::assert_snapshot!(format!("mutants_of_{}", scenario.replace('-', "_")), printed);
}
