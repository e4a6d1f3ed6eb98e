use std::path::PathBuf;

use super::advice::{self, Failure};
use super::args::RunArgs;
use super::execute::Place;
use super::exit::ExitCode;
use super::live::LivePage;
use super::process::When;
use super::{discovery, single, suite};
use crate::cluster::Keep;
use crate::report::Live;
use crate::session::Interrupt;

/// Runs scenarios and decides every claim, with a live page if one is requested.
pub(super) async fn run(args: &RunArgs, interrupt: &Interrupt) -> Result<ExitCode, Failure> {
    let page = LivePage::start(&args.page, args.pause.is_some()).await?;
    let code = Box::pin(scenarios(args, page.as_ref().map(|page| &page.live), interrupt)).await;
    if let Some(page) = page {
        page.close(interrupt).await;
    }
    Ok(code)
}

/// Runs scenarios and decides every claim.
pub(super) async fn scenarios(args: &RunArgs, live: Option<&Live>, interrupt: &Interrupt) -> ExitCode {
    let mut args = args.clone();
    if args.pause.is_some() && live.is_none() {
        args.walk.keep = Keep::Always;
    }
    match discovery::selected(&args.several) {
        Ok(several) if several.len() > 1 && live.is_some() && args.jobs.is_some_and(|jobs| jobs > 1) => {
            advice::print(&Failure::bad_input("--live shows one scenario at a time: leave out --jobs".to_owned()));
            ExitCode::BadInput
        }
        Ok(several) if several.len() > 1 => suite::run(&args, &several, live, interrupt).await,
        Ok(alone) => {
            let (scenario, place) = (alone.first().map(PathBuf::as_path), Place::Of(&args.walk));
            Box::pin(single::run(&args, (scenario, None), place, When::AtOnce, live, interrupt.clone())).await
        }
        Err(failure) => {
            advice::print(&failure);
            failure.code
        }
    }
}
