//! `ci/times-check` fails where a test binary takes more than a third longer than recorded, relative to a calibration loop.

use std::process::Command;

use rstest::rstest;

use crate::common::{ROOT, said};

/// Compares measured seconds with recorded ones; what is printed, and the exit code.
fn compared(recorded: &str, measured: &str) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let [recorded, measured] = [("recorded", recorded), ("measured", measured)].map(|(name, text)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    });
    let mut command = Command::new(format!("{ROOT}/ci/times-check"));
    let (printed, errors, code) = said(&command.arg(recorded).arg(measured).output().unwrap());
    assert_eq!(errors, "");
    (printed, code)
}

const RECORDED: &str = "# recorded somewhere\n2.0 calibration\n300.0 mesh\n12.0 unit tests\n";

#[rstest]
#[case::as_recorded("2.0 calibration\n300.0 mesh\n12.0 unit tests\n")]
#[case::a_third_longer("2.0 calibration\n399.0 mesh\n")]
#[case::a_slower_machine("3.0 calibration\n590.0 mesh\n")]
#[case::a_short_part_that_varies("2.0 calibration\n26.0 unit tests\n")]
fn a_part_may_take_a_third_longer_than_recorded(#[case] measured: &str) {
    assert_eq!(compared(RECORDED, measured), (String::new(), Some(0)));
}

#[rstest]
#[case::more_than_a_third_longer(
    "2.0 calibration\n405.0 mesh\n",
    "error: mesh took 405 s, 35 % longer than usual: 300 s were recorded, which is 300 s on this machine\n"
)]
#[case::a_slower_machine(
    "3.0 calibration\n610.0 mesh\n",
    "error: mesh took 610 s, 36 % longer than usual: 300 s were recorded, which is 450 s on this machine\n"
)]
#[case::a_faster_machine(
    "1.0 calibration\n210.0 mesh\n",
    "error: mesh took 210 s, 40 % longer than usual: 300 s were recorded, which is 150 s on this machine\n"
)]
#[case::a_short_part_that_became_long(
    "2.0 calibration\n28.0 unit tests\n",
    "error: unit tests took 28 s, 40 % longer than usual: 12 s were recorded, which is 20 s on this machine\n"
)]
#[case::a_part_that_was_not_recorded(
    "2.0 calibration\n28.0 doc tests\n",
    "error: no time is recorded for doc tests, which took 28 s\n"
)]
fn a_part_that_takes_longer_is_told_with_what_to_do(#[case] measured: &str, #[case] message: &str) {
    let (printed, code) = compared(RECORDED, measured);
    let hint = "\nhint: find out what became slower; `ci/test --record-times` records new times in ci/times\n";
    assert_eq!((printed, code), (format!("{message}{hint}"), Some(1)));
}

#[test]
fn without_the_calibration_nothing_can_be_compared() {
    let (printed, code) = compared(RECORDED, "300.0 mesh\n");
    assert_eq!((printed.as_str(), code), ("error: no seconds of the part `calibration`\n", Some(1)));
}
