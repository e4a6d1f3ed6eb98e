use std::path::Path;

use super::advice::Failure;
use super::args::Format;
use super::exit::ExitCode;
use super::process::{output, print_structured};
use crate::report::{Comparison, Report, compare, compared};
use crate::scenario::Sensitive;

/// Compares two reports. Exit code 1 means that the second one is worse.
pub(super) fn run(before: &Path, after: &Path, format: Format) -> Result<ExitCode, Failure> {
    let read = |path: &Path| Report::read(path).map_err(|error| Failure::bad_input(error.to_string()));
    let differences = compare(&read(before)?, &read(after)?);
    // a closed pipe is not an error
    let (mut out, _) = output();
    let _ = match format {
        Format::Text => compared(&mut out, &differences),
        // reports have no sensitive values
        format => print_structured(&Comparison { differences: &differences }, format, &Sensitive::default()),
    };
    let worse = differences.iter().any(|difference| difference.worse);
    Ok(if worse { ExitCode::Fail } else { ExitCode::Pass })
}
