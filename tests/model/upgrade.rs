//! What is no upgrade is told before anything starts.

use std::os::unix::fs::PermissionsExt;

use rstest::rstest;

use crate::common::server::{Engine, cache_with_images};
use crate::common::{said, shiftcheck};

/// Runs a command with an image cache that holds Istio 1.22 and 1.31, and an engine that holds nothing.
fn with_images(arguments: &[&str]) -> (String, String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.22", "1.31"]);
    let engine = Engine::start(folder.path());
    let mut command = shiftcheck(arguments);
    command.env("SHIFTCHECK_CACHE", folder.path()).env("DOCKER_HOST", engine.address());
    said(&command.output().unwrap())
}

fn upgrade(arguments: &[&str]) -> (String, String, Option<i32>) {
    // runs at the same time do not write into the same folder
    let reports = tempfile::tempdir().unwrap();
    with_images(&[&["upgrade", "--report", reports.path().to_str().unwrap()], arguments].concat())
}

#[rstest]
#[case::unknown_version(&["--from", "1.22", "--to", "1.99"], "the image cache has no set `istio-1.99` (")]
#[case::no_version(&["--from", "1.22", "--to", "newest"], "`newest` is not a version, such as 1.31")]
#[case::same(&["--from", "1.31", "--to", "1.31"], "both versions are 1.31")]
#[case::downgrade(
    &["--from", "1.31", "--to", "1.22"],
    "from 1.31 to 1.22 is a downgrade; to test it, use the mode roll-back of the upgrade from 1.22 to 1.31"
)]
#[case::skew(
    &["--from", "1.22", "--to", "1.31", "--mode", "in-place"],
    "in-place combines control plane 1.31 with sidecars 1.22 (9 minor versions older), which Istio does not support: a control plane may be \
     one minor version newer than its sidecars, never older\n\nhint: --allow-skew runs it anyway"
)]
#[case::stage(&["--from", "1.22", "--to", "1.31", "--at", "fualt"], "has no stage `fualt`; did you mean `fault`?")]
#[case::setting(&["--from", "1.22", "--to", "1.31", "--to-set", "nothing"], "a setting is written KEY=VALUE")]
#[case::mode(&["--from", "1.22", "--to", "1.31", "--mode", "sideways"], "invalid value 'sideways' for '--mode <MODE>'")]
fn what_is_no_upgrade_is_told_before_anything_starts(#[case] arguments: &[&str], #[case] message: &str) {
    let (printed, errors, code) = upgrade(&[&["fixtures/canary"], arguments].concat());
    assert_eq!((code, printed.as_str()), (Some(2), ""), "{errors}");
    assert!(errors.contains(message), "{errors}");
}

/// As [`with_images`], with these sets of controllers in the cache, too.
fn of_controllers(sets: &[&str], arguments: &[&str]) -> (String, String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.31"]);
    for set in sets {
        let own = folder.path().join("images").join(set);
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("objects.yaml"), "").unwrap();
        let text = r#"{"image": "i:t", "archives": [], "objects": "objects.yaml"}"#;
        std::fs::write(own.join("set.json"), text).unwrap();
    }
    let engine = Engine::start(folder.path());
    let mut command = shiftcheck(&[&["upgrade", "--no-report"], arguments].concat());
    command.env("SHIFTCHECK_CACHE", folder.path()).env("DOCKER_HOST", engine.address());
    said(&command.output().unwrap())
}

const ARGO_ROLLOUTS: [&str; 3] = ["fixtures/rollouts-subset", "--controller", "argo-rollouts"];

#[rstest]
#[case::unknown_version(
    &["--from", "1.10", "--to", "1.11"],
    "the image cache has no set `argo-rollouts-1.11` (",
    "hint: choose a version that the cache has\n"
)]
#[case::a_version_that_can_be_built(
    &["--from", "1.8", "--to", "1.10"],
    "; it has argo-rollouts-1.10, argo-rollouts-1.20, gateway-api, istio-1.31, node",
    "ci/images/build argo-rollouts-1.8` to build it"
)]
#[case::a_number_for_a_version(
    &["--from", "1.2", "--to", "1.10"],
    "the image cache has no set `argo-rollouts-1.2` (",
    "hint: did you mean 1.20? YAML reads 1.20 without quotes as 1.2\n"
)]
#[case::same(&["--from", "1.10", "--to", "1.10"], "both versions are 1.10", "--allow-same runs the version twice")]
#[case::downgrade(&["--from", "1.10", "--to", "1.8"], "from 1.10 to 1.8 is a downgrade; compare them from 1.8 to 1.10", "")]
#[case::no_version(&["--from", "1.8", "--to", "latest"], "`latest` is not a version, such as 1.31", "")]
#[case::unknown_istio(&["--from", "1.10", "--to", "1.20", "--istio", "1.99"], "the image cache has no set `istio-1.99` (", "")]
#[case::mode(
    &["--from", "1.8", "--to", "1.10", "--mode", "in-place"],
    "the argument '--controller <NAME>' cannot be used with '--mode <MODE>'",
    ""
)]
fn versions_of_a_controller_that_cannot_be_compared_are_told_before_anything_starts(
    #[case] arguments: &[&str],
    #[case] message: &str,
    #[case] hint: &str,
) {
    let sets = ["argo-rollouts-1.10", "argo-rollouts-1.20"];
    let (printed, errors, code) = of_controllers(&sets, &[&ARGO_ROLLOUTS, arguments].concat());
    assert_eq!((code, printed.as_str()), (Some(2), ""), "{errors}");
    assert!(errors.contains(message) && errors.contains(hint), "{errors}");
}

#[rstest]
#[case::no_controller(
    "fixtures/canary",
    "argo-rollouts",
    "scenario.yaml: the scenario does not install Argo Rollouts, "
)]
#[case::another("fixtures/rollouts-subset", "flagger", "scenario.yaml: the scenario does not install Flagger, ")]
#[case::unknown("fixtures/rollouts-subset", "argo", "tip: a similar value exists: 'argo-rollouts'")]
fn a_controller_that_the_scenario_does_not_use_is_refused(
    #[case] scenario: &str,
    #[case] controller: &str,
    #[case] message: &str,
) {
    let arguments = [scenario, "--controller", controller, "--from", "1.8", "--to", "1.10"];
    let (printed, errors, code) = of_controllers(&[], &arguments);
    assert_eq!((code, printed.as_str()), (Some(2), ""), "{errors}");
    assert!(errors.contains(message), "{errors}");
}

#[test]
fn an_istioctl_of_another_version_is_told_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let istioctl = folder.path().join("istioctl");
    std::fs::write(&istioctl, "#!/bin/sh\necho client version: 1.30.1\n").unwrap();
    std::fs::set_permissions(&istioctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let istioctl = istioctl.to_str().unwrap();
    let (_, errors, code) = upgrade(&["fixtures/canary", "--from", "1.22", "--to", "1.31", "--to-istioctl", istioctl]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("istioctl has version 1.30.1, but 1.31 was requested"), "{errors}");
    let (_, errors, code) = with_images(&["run", "fixtures/canary", "--istio", "1.31", "--istioctl", istioctl]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("istioctl has version 1.30.1, but 1.31 was requested"), "{errors}");
}
