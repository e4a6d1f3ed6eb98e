//! The command line: arguments, one file per command, exit codes, and hints for errors.

mod advice;
mod args;
mod calibrate;
mod compare;
mod execute;
mod exit;
mod images;
mod init;
mod main;
mod man;
mod mutants;
mod options;
mod process;
mod reports;
mod run;
mod schema;
mod sweep;
mod upgrade;
mod verify;
mod watch;
mod workload;

pub use args::{Args, Command};
pub use exit::ExitCode;
pub use main::main;
