//! The model follows a version of Istio where versions differ.

use crate::common::{said, shiftcheck, spoilt};

#[test]
fn verify_and_mutants_evaluate_for_a_version_of_istio() {
    let folder = tempfile::tempdir().unwrap();
    // sidecars of 1.22 do not find a rule for a host in capitals
    spoilt(folder.path(), &[("vs-hello-testers.yaml", "hosts: [svc-hello]", "hosts: [Svc-Hello]")]);
    let path = folder.path().to_str().unwrap();
    let verified = |arguments: &[&str]| {
        let (printed, errors, code) = said(&shiftcheck(&[&["verify", path], arguments].concat()).output().unwrap());
        (format!("{printed}{errors}"), code)
    };
    let (printed, code) = verified(&[]);
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(verified(&["--istio", "1.31"]), (printed, code));
    let (printed, code) = verified(&["--istio", "1.22"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("everyone: v1 — the manifests give v1 50 %, v2 50 %"), "{printed}");
    let mutants = |version: &str| {
        let output = shiftcheck(&["mutants", path, "--istio", version, "--quiet"]).output().unwrap();
        (said(&output).0, output.status.code())
    };
    assert_ne!(mutants("1.22"), mutants("1.31"));
}
