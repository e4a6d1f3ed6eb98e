use std::path::Path;

use super::advice::Failure;
use super::exit::ExitCode;
use super::process::output;
use crate::report::{Report, compare, compared};

/// Compares two reports. Exit code 1 means that the second one is worse.
pub(super) fn run(before: &Path, after: &Path) -> Result<ExitCode, Failure> {
    let read = |path: &Path| Report::read(path).map_err(|error| Failure::bad_input(error.to_string()));
    let differences = compare(&read(before)?, &read(after)?);
    // a closed pipe is not an error
    let _ = compared(&mut output().0, &differences);
    let worse = differences.iter().any(|difference| difference.worse);
    Ok(if worse { ExitCode::Fail } else { ExitCode::Pass })
}
