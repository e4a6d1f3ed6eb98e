//! The command line: arguments, one file per command, exit codes, and hints for errors.

mod advice;
mod args;
mod calibrate;
mod compare;
mod discovery;
mod execute;
mod exit;
mod images;
mod init;
mod judge;
mod live;
mod main;
mod man;
mod mutants;
mod nearest;
mod nodes;
mod options;
mod process;
mod reports;
mod revision;
mod run;
mod schema;
mod several;
mod single;
mod suite;
mod sweep;
mod upgrade;
mod verify;
mod watch;
mod webhook;
mod workload;
mod workload_args;

pub use main::main;
