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
        return pull(version, args, cache).await.map(|()| ExitCode::Pass);
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
async fn pull(version: &IstioVersion, args: &ImagesArgs, cache: &ImageCache) -> Result<(), Failure> {
    let failed = |error: ClusterError| Failure::of(&error.into());
    let found = cache.istio(version).ok();
    // a set that was built is of no release
    if found.as_ref().is_some_and(|set| set.digests.is_empty() || set.addons.is_dir()) {
        // a closed pipe is not an error
        let _ = writeln!(stdout(), "istio-{version} is already in the cache");
        return Ok(());
    }
    let docker = Docker::connect().await.map_err(failed)?;
    if found.is_some() {
        add_addons(&docker, version, args, cache).await;
        let _ = writeln!(stdout(), "istio-{version} is already in the cache");
        return Ok(());
    }
    let folder = docker
        .pull_istio(cache, version, &args.hub, |state| {
            let _ = writeln!(stdout(), "{state}");
        })
        .await
        .map_err(failed)?;
    add_addons(&docker, version, args, cache).await;
    let _ = writeln!(stdout(), "istio-{version} is in the cache: {}", folder.display());
    Ok(())
}

/// Adds the manifests of the addons to a set. It can be used without them.
async fn add_addons(docker: &Docker, version: &IstioVersion, args: &ImagesArgs, cache: &ImageCache) {
    let _ = writeln!(stdout(), "reading the addons of the release");
    if let Err(error) = docker.pull_addons(&cache.set_folder(version), version, &args.releases).await {
        let _ = writeln!(stdout(), "istio-{version} has no addons: {error}");
    }
}
