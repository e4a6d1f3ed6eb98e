//! What the model says of wrong manifests is what a real mesh does with them.

use crate::common::{said, shiftcheck};
use crate::harness::tests;

tests![
    a_sample_of_mutants_fails_on_a_real_mesh_where_the_model_says(): Paired,
    mutants_fail_for_callers_outside_where_the_model_says(): Paired,
];

fn a_sample_of_mutants_fails_on_a_real_mesh_where_the_model_says() {
    let (printed, errors, code) =
        said(&shiftcheck(&["mutants", "fixtures/canary", "--cluster", "k3s", "--sample", "12"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("\nthe mesh agrees with the routing model on all 12 mutants"), "{printed}");
    assert_eq!(printed.matches("a claim fails; the model: killed by").count(), 9, "{printed}");
    assert_eq!(printed.matches("all claims hold; the model: equivalent").count(), 3, "{printed}");
}

fn mutants_fail_for_callers_outside_where_the_model_says() {
    let (printed, errors, code) =
        said(&shiftcheck(&["mutants", "fixtures/ingress", "--cluster", "k3s", "--sample", "6"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("\nthe mesh agrees with the routing model on all 6 mutants"), "{printed}");
    assert_eq!(printed.matches("a claim fails; the model: killed by").count(), 5, "{printed}");
}
