//! Objects in two namespaces and in the cluster are deleted by name and by file on a cluster.

use crate::common::left_objects::everything_is_deleted_on;
use crate::harness::tests;

tests![everything_is_deleted_by_name_and_by_file()];

fn everything_is_deleted_by_name_and_by_file() {
    everything_is_deleted_on("k3s");
}
