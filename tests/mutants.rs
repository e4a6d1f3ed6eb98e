//! What the model says of wrong manifests is what a real mesh does with them.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod common;

use common::{CLUSTER, said, shiftcheck};

#[test]
fn a_sample_of_mutants_fails_on_a_real_mesh_where_the_model_says() {
    let _alone = CLUSTER.lock();
    let (printed, errors, code) =
        said(&shiftcheck(&["mutants", "--cluster", "k3s", "--sample", "12"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("\nthe mesh does what the model says of all 12 mutants"), "{printed}");
    assert_eq!(printed.matches("a claim fails; the model: caught by").count(), 9, "{printed}");
    assert_eq!(printed.matches("all claims hold; the model: harmless").count(), 3, "{printed}");
}
