//! `objects: none` counts everything that the run has applied, in every namespace and in the cluster, and `delete:` deletes exactly what
//! is meant: in the model and on the embedded mesh.

use rstest::rstest;

use crate::common::left_objects::{OWN, everything_is_deleted_on, scenario};
use crate::common::{said, shiftcheck};

#[test]
fn what_is_left_elsewhere_is_named_with_group_and_namespace() {
    let folder = tempfile::tempdir().unwrap();
    scenario(folder.path(), OWN);
    let (printed, errors, code) = said(&shiftcheck(&["verify", folder.path().to_str().unwrap()]).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    for left in [
        "left: ClusterRole.rbac.authorization.k8s.io/shiftcheck-reader",
        "left: ConfigMap/settings in namespace other",
        "left: Namespace/other",
    ] {
        assert!(printed.contains(left), "{printed}");
    }
    assert!(!printed.contains("in namespace canary"), "{printed}");
}

#[test]
fn everything_is_deleted_by_name_and_by_file() {
    everything_is_deleted_on("embedded");
}

#[rstest]
#[case::model(&["verify"])]
#[case::embedded(&["run", "--cluster", "embedded", "--no-report"])]
fn an_ambiguous_kind_is_refused_with_its_candidates(#[case] command: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    scenario(folder.path(), "gateway/back");
    let path = folder.path().to_str().unwrap();
    let (printed, errors, code) = said(&shiftcheck(&[command, &[path]].concat()).output().unwrap());
    assert_eq!(code, Some(2), "{printed}{errors}");
    let said =
        "the kind `gateway` is ambiguous: it may be Gateway.gateway.networking.k8s.io or Gateway.networking.istio.io";
    assert!(printed.contains(said) || errors.contains(said), "{printed}{errors}");
}

#[test]
fn a_deletion_of_what_no_stage_has_applied_is_pointed_out() {
    let folder = tempfile::tempdir().unwrap();
    scenario(folder.path(), "svc/svc-helo");
    let (printed, errors, _) = said(&shiftcheck(&["verify", folder.path().to_str().unwrap()]).output().unwrap());
    let said = "no stage before has applied Service/svc-helo in namespace canary, which is deleted here";
    assert!(printed.contains(said), "{printed}{errors}");
}
