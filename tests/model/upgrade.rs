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
#[case::no_version(&["--from", "1.22", "--to", "newest"], "`newest` is not a version of Istio, such as 1.31")]
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
