//! The command line: arguments, exit codes, and the advice that goes with an error.

mod advice;
mod args;
mod init;
mod main;
mod signals;
mod upgrade;
mod verify;

pub use args::{Args, Command};
pub use main::{ExitCode, main};
