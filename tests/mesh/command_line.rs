//! The images in the cache are listed and checked.

use crate::common::{said, shiftcheck};
use crate::harness::tests;

tests![images_are_listed(), images_are_checked()];

fn images_are_listed() {
    let (printed, _, code) = said(&shiftcheck(&["images"]).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(printed.starts_with("node "), "{printed}");
}

fn images_are_checked() {
    let (printed, _, code) = said(&shiftcheck(&["images", "--check"]).output().unwrap());
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("istio-1.31  ok\n") && printed.contains("node        ok\n"), "{printed}");
}
