//! `ci/test` tells how long each part takes, and fails where a test binary takes more than a third longer than recorded, relative to a
//! calibration loop.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
#[case::a_faster_machine("1.0 calibration\n399.0 mesh\n")]
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
    "1.0 calibration\n420.0 mesh\n",
    "error: mesh took 420 s, 40 % longer than usual: 300 s were recorded, which is 300 s on this machine\n"
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

/// `ci/test` in a folder of its own, with everything replaced that takes time: engine and images, browser, compiler and calibration.
struct CiTest {
    folder: tempfile::TempDir,
}

impl CiTest {
    /// With a `cargo` that runs this.
    fn new(cargo: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ci", "bin"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        for name in ["test", "lib.sh", "times-check"] {
            fs::copy(Path::new(ROOT).join("ci").join(name), folder.path().join("ci").join(name)).unwrap();
        }
        let program = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        for name in ["ci/check", "ci/setup", "ci/browser", "ci/newcomer", "ci/faults"] {
            program(name, "");
        }
        program("bin/cargo", cargo);
        program("bin/sha256sum", "sleep 0.2");
        Self { folder }
    }

    fn run(&self, arguments: &[&str]) -> (String, String, Option<i32>) {
        let path = format!("{}:{}", self.folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(self.folder.path().join("ci/test"));
        command.args(arguments).env("PATH", path).env_remove("CARGO_TARGET_DIR");
        said(&command.output().unwrap())
    }

    fn times(&self) -> PathBuf {
        self.folder.path().join("ci/times")
    }
}

/// What the tests on the mesh tell of their times.
const TIMES: &str = r#"case "$*" in *"--test mesh"*) printf '3.0 one\n120.5 two\n' > "$SHIFTCHECK_TEST_TIMES";; esac"#;

#[test]
fn the_seconds_of_each_part_are_printed_also_where_one_fails() {
    let ci = CiTest::new(&format!("{TIMES}\ncase \"$*\" in *\"--test model\"*) exit 101;; esac"));
    let (_, errors, code) = ci.run(&[]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("\nfailed: model\n"), "{errors}");
    let (_, seconds) = errors.split_once("seconds of each part:\n").unwrap();
    for part in ["calibration", "formatting", "lints and build", "unit tests", "model", "mesh", "doc tests", "faults"] {
        assert!(seconds.lines().any(|line| line.ends_with(&format!("  {part}"))), "`{part}` is missing:\n{errors}");
    }
    assert!(seconds.contains("the slowest tests on the mesh:\n   120.5  two\n     3.0  one\n"), "{errors}");
}

#[rstest]
#[case::formatting("fmt*")]
#[case::lints("clippy*")]
#[case::build("*--no-run*")]
fn what_does_not_compile_is_not_tested(#[case] command: &str) {
    let ci = CiTest::new(&format!("case \"$*\" in {command}) exit 1;; esac"));
    let (_, errors, code) = ci.run(&[]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("seconds of each part:\n") && !errors.contains("unit tests"), "{errors}");
}

#[test]
fn times_are_recorded_and_then_compared() {
    let ci = CiTest::new(TIMES);
    let (_, errors, code) = ci.run(&[]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("error: there is no ") && errors.contains("`ci/test --record-times`"), "{errors}");
    fs::write(ci.times(), "1.0 calibration\n").unwrap();
    let (_, errors, code) = ci.run(&[]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("error: no time is recorded for mesh, which took 0 s\n"), "{errors}");
    // a part of the tests is not compared
    let (_, errors, code) = ci.run(&["some_test"]);
    assert_eq!(code, Some(0), "{errors}");
    let (_, errors, code) = ci.run(&["--record-times"]);
    assert_eq!(code, Some(0), "{errors}");
    let recorded = fs::read_to_string(ci.times()).unwrap();
    let names = recorded.lines().skip(1).map(|line| line.split_once(' ').unwrap().1);
    assert_eq!(names.collect::<Vec<_>>(), ["calibration", "unit tests", "model", "mesh", "doc tests"]);
    let (_, errors, code) = ci.run(&[]);
    assert_eq!(code, Some(0), "{errors}");
}
