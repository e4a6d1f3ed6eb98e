//! A node image that cannot be pulled is told with the image.

use crate::cluster::containers;
use crate::common::{run_id, said, shiftcheck};
use crate::harness::tests;

tests![a_registry_that_cannot_be_reached_is_told_with_the_image()];

fn a_registry_that_cannot_be_reached_is_told_with_the_image() {
    let output = shiftcheck(&["run", "fixtures/canary", "--node-image", "registry.invalid/node:1"]).output().unwrap();
    let (printed, errors, code) = said(&output);
    assert_eq!(code, Some(3), "{printed}");
    assert!(errors.starts_with("error: the node image registry.invalid/node:1 is not available: "), "{errors}");
    assert_eq!(containers(&run_id(&printed)), [""; 0]);
}
