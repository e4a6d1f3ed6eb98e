use std::time::Duration;

use super::advice::Failure;
use super::args::SweepArgs;
use super::process::output;
use crate::cluster::{ClusterError, Docker, Owner, RunRecords, Wanted, sweep};
use crate::report::swept;

/// How often a process is looked at that has to end first.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Removes what killed runs left behind.
pub(super) async fn run(args: &SweepArgs) -> Result<(), Failure> {
    let failed = |error: ClusterError| Failure::of(&error.into());
    if let Some(pid) = args.after {
        let process = Owner::of(pid, &args.cache.folder);
        while process.is_running() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    // an engine that does not respond is an error, since its clusters would be missed
    let docker = if Docker::is_configured() { Some(Docker::connect().await.map_err(failed)?) } else { None };
    let wanted = Wanted { kept: args.kept, only: args.run.as_ref() };
    let result = sweep(docker.as_ref(), &RunRecords::new(&args.cache.folder), wanted).await.map_err(failed)?;
    swept(&mut output().0, &result, docker.is_some());
    match result.failures.first() {
        None => Ok(()),
        Some(_) => Err(Failure::environment(result.failures.join("\n"))),
    }
}
