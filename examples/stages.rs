//! The stages of rollouts as tests: in a crate of your own, this file is `tests/stages.rs`, and `Cargo.toml` has
//! `[[test]]`, `name = "stages"`, `harness = false`.

use std::process::ExitCode;

use shiftcheck::prove::Prover;

fn main() -> ExitCode {
    // on a throwaway cluster: `Prover::throwaway()`
    Prover::embedded().test_stages(["fixtures/canary", "fixtures/blue-green"])
}
