//! The model behind the verdicts is true on a real mesh, and where it is not, `calibrate` says so.

use std::path::Path;

use crate::cluster::shared;
use crate::common::{ROOT, run_id};
use crate::harness::tests;

tests![a_mesh_is_told_from_one_that_balances_connections()];

fn a_mesh_is_told_from_one_that_balances_connections() {
    let calibrated = |scenario: &str, expected: i32, lines: &[&str]| {
        let (printed, errors, code) = shared().on("calibrate", &Path::new(ROOT).join(scenario), &[]);
        assert_eq!(code, Some(expected), "{printed}\n{errors}");
        shared().gone(&format!("canary-{}", run_id(&printed)));
        for line in lines {
            assert!(printed.contains(line), "`{line}` is missing in:\n{printed}\n{errors}");
        }
    };
    calibrated(
        "fixtures/canary",
        0,
        &[
            "40 samples of testers, 400 requests each",
            "ok mean of all samples",
            "ok variance of the samples",
            "ok variance of blocks of 2 to 100 answers",
            "ok order of sending",
            "ok connections",
            "ok verdicts: 40 accepted, 0 rejected (at most 0 allowed)",
            "a share that varies between samples with a standard deviation of ",
            "requests are routed independently",
        ],
    );
    calibrated(
        "fixtures/canary-tcp-port",
        1,
        &["FAIL connections all have the claimed share", "requests are not routed independently"],
    );
}
