use std::path::PathBuf;

use super::advice;
use super::args::RunArgs;
use super::execute::Place;
use super::exit::ExitCode;
use super::process::When;
use super::{discovery, single, suite};
use crate::cluster::Keep;
use crate::session::Interrupt;

/// Runs scenarios and decides every claim.
pub(super) async fn run(args: &RunArgs, interrupt: &Interrupt) -> ExitCode {
    let mut args = args.clone();
    if args.pause.is_some() {
        args.walk.keep = Keep::Always;
    }
    match discovery::selected(&args.several) {
        Ok(several) if several.len() > 1 => suite::run(&args, &several, interrupt).await,
        Ok(alone) => {
            let (scenario, place) = (alone.first().map(PathBuf::as_path), Place::Of(&args.walk));
            Box::pin(single::run(&args, (scenario, None), place, When::AtOnce, interrupt.clone())).await
        }
        Err(failure) => {
            advice::print(&failure);
            failure.code
        }
    }
}
