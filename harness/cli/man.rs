use std::io::stdout;
use std::path::Path;

use clap::CommandFactory;

use super::advice::Failure;
use super::args::Args;

/// Prints the man page, or writes the pages of all commands into a folder.
pub(super) fn run(folder: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = folder else {
        // a closed pipe is not an error
        let _ = clap_mangen::Man::new(Args::command()).render(&mut stdout());
        return Ok(());
    };
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Args::command(), folder));
    written.map_err(|error| Failure::environment(format!("cannot write {}: {error}", folder.display())))
}
