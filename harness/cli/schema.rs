use std::io::{Write, stdout};

use super::args::SchemaOf;
use crate::report::{Comparison, Mutation, Report, Structured, UpgradeReport, Verification};
use crate::scenario::Scenario;

/// Prints a JSON schema.
pub(super) fn run(what: SchemaOf) {
    let schema = match what {
        SchemaOf::Scenario => Scenario::schema(),
        SchemaOf::Report => Report::schema(),
        SchemaOf::Upgrade => UpgradeReport::schema(),
        SchemaOf::Verify => Verification::schema(),
        SchemaOf::Mutants => Mutation::schema(),
        SchemaOf::Compare => Comparison::schema(),
    };
    // a closed pipe is not an error
    let _ = writeln!(stdout(), "{schema:#}");
}
