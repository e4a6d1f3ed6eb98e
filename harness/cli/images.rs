use std::io::{Write, stdout};

use super::advice::Failure;
use super::args::ImagesArgs;
use super::exit::ExitCode;
use crate::cluster::{ClusterError, Docker, ImageCache};
use crate::report::{checked_images, images};
use crate::scenario::IstioVersion;

/// Lists, verifies or pulls images.
pub(super) async fn run(args: &ImagesArgs, cache: &ImageCache) -> Result<ExitCode, Failure> {
    if let Some(version) = &args.pull {
        return pull(version, &args.hub, cache).await.map(|()| ExitCode::Pass);
    }
    // a closed pipe is not an error
    if args.check && !checked_images(&mut stdout(), cache).unwrap_or(true) {
        return Ok(ExitCode::Environment);
    }
    if !args.check {
        let _ = images(&mut stdout(), cache);
    }
    Ok(ExitCode::Pass)
}

/// Pulls a version of Istio into the cache if it is not there.
async fn pull(version: &IstioVersion, hub: &str, cache: &ImageCache) -> Result<(), Failure> {
    let failed = |error: ClusterError| Failure::of(&error.into());
    // a closed pipe is not an error
    if cache.istio(version).is_ok() {
        let _ = writeln!(stdout(), "istio-{version} is already in the cache");
        return Ok(());
    }
    let docker = Docker::connect().await.map_err(failed)?;
    let folder = docker
        .pull_istio(cache, version, hub, |state| {
            let _ = writeln!(stdout(), "{state}");
        })
        .await
        .map_err(failed)?;
    let _ = writeln!(stdout(), "istio-{version} is in the cache: {}", folder.display());
    Ok(())
}
