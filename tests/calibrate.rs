//! The model behind the verdicts is true on a real mesh, and where it is not, `calibrate` says so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its ground is not as it says")]

mod common;

use std::path::Path;
use std::sync::PoisonError;

use common::{CLUSTER, Kept, ROOT, said, shiftcheck};

#[test]
fn a_mesh_is_told_from_one_that_balances_connections() {
    let _one = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = Kept::new();
    let calibrated = |scenario: &str, expected: i32, lines: &[&str]| {
        let (printed, errors, code) = kept.on("calibrate", &Path::new(ROOT).join(scenario), &[]);
        assert_eq!(code, Some(expected), "{printed}\n{errors}");
        for line in lines {
            assert!(printed.contains(line), "`{line}` is missing in:\n{printed}\n{errors}");
        }
    };
    calibrated(
        "fixtures/canary",
        0,
        &[
            "40 samples of testers, 50 % to v2 claimed, 400 requests of each tested",
            "ok mean of all samples",
            "ok counts of the samples",
            "ok blocks of 2 to 100 answers",
            "ok order of sending",
            "ok connections",
            "ok verdicts: 40 accepted, 0 refused, where at most 0 may be",
            "a share that moves between samples with a standard deviation of ",
            "requests are routed independently",
        ],
    );
    calibrated(
        "fixtures/canary-tcp-port",
        1,
        &["NO connections: each sees the claimed share", "the verdicts' model does not hold"],
    );
    kept.remove();
}

#[test]
fn a_scenario_that_splits_nothing_has_nothing_to_calibrate() {
    let folder = tempfile::tempdir().unwrap();
    let halves = ("scenario.yaml", "get: {v1: 50%, v2: 50%}", "get: {v1: 100%}");
    common::spoilt(folder.path(), &[halves, halves]);
    let (_, errors, code) = said(&shiftcheck(&["calibrate", folder.path().to_str().unwrap()]).output().unwrap());
    let errors = errors.replace(folder.path().to_str().unwrap(), "FOLDER");
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(errors, @"error: FOLDER/scenario.yaml: no claim splits versions, so that there is nothing to calibrate");
}
