//! Objects in two namespaces and in the cluster are deleted by name and by file on a cluster.

use crate::common::left_objects::{OWN, scenario};
use crate::common::{said, shiftcheck};
use crate::harness::tests;

tests![everything_is_deleted_by_name_and_by_file()];

fn everything_is_deleted_by_name_and_by_file() {
    let folder = tempfile::tempdir().unwrap();
    // a namespace takes its objects along
    let rest = "clusterroles/shiftcheck-reader, namespace/other";
    scenario(folder.path(), &format!("{OWN}, {rest}"));
    let path = folder.path().to_str().unwrap();
    let (printed, errors, code) =
        said(&shiftcheck(&["run", path, "--cluster", "k3s", "--no-report"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
}
