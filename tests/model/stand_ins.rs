//! The embedded mesh runs scenarios whose images it cannot run, with stand-ins, and says so first and last.

use std::fs;

use rstest::rstest;

use crate::common::own_images::scenario;
use crate::common::{said, shiftcheck};

fn run(folder: &tempfile::TempDir) -> (String, String, Option<i32>) {
    let path = folder.path().to_str().unwrap();
    let (verified, errors, code) = said(&shiftcheck(&["verify", path]).output().unwrap());
    assert_eq!(code, Some(0), "{verified}{errors}");
    let (printed, errors, code) = said(&shiftcheck(&["run", path, "--cluster", "embedded"]).output().unwrap());
    (printed, errors.replace(path, "FOLDER"), code)
}

const CAVEAT: &str = "on the embedded mesh, which checks your manifests, not an Istio release; answers come from stand-ins for \
                      registry.acme.io/checkout:1.4, registry.acme.io/checkout:1.5";

#[rstest]
#[case::body("{body: 'checkout (?<version>[^ ]+), up since'}")]
#[case::header("{header: x-app-version}")]
#[case::json("{json: /build/version}")]
fn own_images_have_stand_ins_that_state_the_version(#[case] version: &str) {
    let (printed, errors, code) = run(&scenario(version, &[]));
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.starts_with(&format!("checkout: 1 stage, 3 claims {CAVEAT}, run ")), "{printed}");
    assert!(printed.contains(&format!("\nall stages passed {CAVEAT} (")), "{printed}");
    assert!(printed.contains("testers at /cart: v2 — all 688 from v2"), "{printed}");
}

#[test]
fn stand_ins_are_named_in_the_report() {
    let folder = scenario("{header: x-app-version}", &[]);
    let reports = folder.path().join("reports");
    let arguments =
        ["run", folder.path().to_str().unwrap(), "--cluster", "embedded", "--report", reports.to_str().unwrap()];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    for file in ["report.json", "report.html", "conformance.yaml"] {
        let text = fs::read_to_string(reports.join(file)).unwrap();
        assert!(text.contains("stand-ins for registry.acme.io/checkout:1.4, registry.acme.io/checkout:1.5"), "{file}");
    }
}

/// A wrong weight fails with stand-ins as it does with the images.
#[test]
fn a_claim_that_does_not_hold_fails_on_stand_ins() {
    let folder = scenario("{header: x-app-version}", &[("weight: 75", "weight: 35")]);
    let arguments = ["run", folder.path().to_str().unwrap(), "--cluster", "embedded"];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains(&format!("\nstage 1 of 1 failed {CAVEAT} (")), "{printed}");
}

/// The message for a scenario that the embedded mesh refuses.
fn refused(version: &str, changes: &[(&str, &str)]) -> String {
    let (printed, errors, code) = run(&scenario(version, changes));
    assert_eq!(code, Some(2), "{printed}{errors}");
    errors
}

#[test]
fn a_version_that_no_body_states_is_refused_with_the_claim() {
    insta::assert_snapshot!(refused("{body: 'release (?<version>[0-9]+)'}", &[]), @r"
    error: FOLDER/scenario.yaml:13:9: a stand-in for registry.acme.io/checkout:1.4 cannot state the version `v1`: no response was found in which `version: {body: 'release (?<version>[0-9]+)'}` reads it

    hint: run it on a cluster, with --cluster k3s or --cluster kubeconfig
    ");
}

#[test]
fn a_status_of_the_application_is_refused_with_the_claim() {
    let change = ("/cart, get: {v2: 100%}", "/cart, get: {v2: 100%}, status: 404");
    insta::assert_snapshot!(refused("{header: x-app-version}", &[change]), @r"
    error: FOLDER/scenario.yaml:14:9: the manifests route these requests to stand-ins, which answer with status 200 only; the claim needs 404

    hint: run it on a cluster, with --cluster k3s or --cluster kubeconfig
    ");
}
