//! Several client pods share the requests of the client.

use crate::common::{example, said, shiftcheck};

#[test]
fn several_clients_share_the_requests() {
    let run = ["run", "fixtures/canary", "--cluster", "embedded", "--no-report", "--clients", "3"];
    let (printed, errors, code) = said(&shiftcheck(&run).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains(", the first of 3 clients, httpbin, after "), "{printed}");
    assert!(printed.contains(", the last, httpbin-3, after "), "{printed}");
}

#[test]
fn what_is_wrong_is_found_by_several_clients_too() {
    let run = ["run", "fixtures/canary-pinned-selector", "--cluster", "embedded", "--no-report", "--clients", "2"];
    let (printed, errors, code) = said(&shiftcheck(&run).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    assert!(printed.contains("FAIL 1/1 testers' canary, selector pinned"), "{printed}");
}

#[test]
fn a_replica_needs_a_name_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = ("populations:\n", "clients: {httpbin-2: {}}\npopulations:\n  batch: {from-pod: httpbin-2}\n");
    let path = example(folder.path(), "canary", "scenario.yaml", from, to);
    let (printed, errors, code) =
        said(&shiftcheck(&["run", &path, "--cluster", "embedded", "--clients", "2"]).output().unwrap());
    assert_eq!(code, Some(2), "{printed}{errors}");
    let message = "the name of the replica `httpbin-2` of the client pod is used by ";
    assert!(errors.contains(message), "{errors}");
}
