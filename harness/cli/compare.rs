use std::io::stdout;
use std::path::Path;

use super::advice::Failure;
use super::args::Format;
use super::exit::ExitCode;
use super::process::output;
use crate::report::{Comparison, Report, Structured, compare, compared};

/// Compares two reports. Exit code 1 means that the second one is worse.
pub(super) fn run(before: &Path, after: &Path, format: Format) -> Result<ExitCode, Failure> {
    let read = |path: &Path| Report::read(path).map_err(|error| Failure::bad_input(error.to_string()));
    let differences = compare(&read(before)?, &read(after)?);
    let structured = Comparison { differences: &differences };
    // a closed pipe is not an error
    let (mut out, _) = output();
    let _ = match format {
        Format::Text => compared(&mut out, &differences),
        Format::Json => structured.json(&mut stdout()),
        Format::Markdown => structured.markdown(&mut stdout()),
    };
    let worse = differences.iter().any(|difference| difference.worse);
    Ok(if worse { ExitCode::Fail } else { ExitCode::Pass })
}
