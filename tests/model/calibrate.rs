//! `calibrate` refuses what it cannot measure.

use crate::common::{said, shiftcheck, spoilt};

#[test]
fn a_scenario_that_splits_nothing_has_nothing_to_calibrate() {
    let folder = tempfile::tempdir().unwrap();
    let halves = ("scenario.yaml", "get: {v1: 50%, v2: 50%}", "get: {v1: 100%}");
    spoilt(folder.path(), &[halves, halves]);
    let (_, errors, code) = said(&shiftcheck(&["calibrate", folder.path().to_str().unwrap()]).output().unwrap());
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(errors, @"error: FOLDER/scenario.yaml: no claim splits versions, so that there is nothing to calibrate");
}
