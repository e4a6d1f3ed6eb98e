//! The test of a rollout in a crate of one's own: `cargo add shiftcheck --dev`, and from here on this under `tests/`.
#![allow(clippy::unwrap_used, missing_docs, unused_imports, reason = "a test")]

use rstest::rstest;
use shiftcheck::prove::Prover;

#[rstest]
#[case::canary("fixtures/canary")]
#[case::blue_green("fixtures/blue-green")]
#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_does_what_it_promises(#[case] scenario: &str) {
    // on a throwaway cluster: `Prover::throwaway()`
    let report = Prover::embedded().prove(scenario).await.unwrap();
    report.assert_passed();
}

#[allow(dead_code, reason = "an example needs one; a test does not")]
fn main() {}
