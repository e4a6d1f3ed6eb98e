use std::io::{self, Write};

use super::words::plural;
use crate::cluster::ImageCache;

/// Verifies the cached images and writes the result for each set. Returns whether all sets are intact.
///
/// # Errors
/// The output is closed.
pub fn checked_images(out: &mut impl Write, cache: &ImageCache) -> io::Result<bool> {
    let mut intact = true;
    let versions = cache.istio_versions();
    for version in &versions {
        let problems = cache.check(version);
        intact &= problems.is_empty();
        match problems.first() {
            None => writeln!(out, "istio-{version:<5} ok")?,
            Some(problem) => writeln!(out, "istio-{version:<5} {problem}")?,
        }
    }
    for (name, problem) in [
        ("node", cache.node().err().map(|error| error.to_string())),
        ("gateway-api", cache.gateway_api().err().map(|error| error.to_string())),
    ] {
        intact &= problem.is_none();
        writeln!(out, "{name:<11} {}", problem.as_deref().unwrap_or("ok"))?;
    }
    for (name, set) in cache.controllers() {
        intact &= set.is_ok();
        writeln!(out, "{name} {}", set.map_or_else(|error| error.to_string(), |_| "ok".to_owned()))?;
    }
    if versions.is_empty() {
        writeln!(out, "istio       no version")?;
    }
    Ok(intact && !versions.is_empty())
}

/// Writes the sets of images in a cache with their sizes, and the missing files.
///
/// # Errors
/// The output is closed.
pub fn images(out: &mut impl Write, cache: &ImageCache) -> io::Result<()> {
    match cache.node() {
        Ok(node) => writeln!(out, "node        {}:{}", node.image, node.tag)?,
        Err(error) => writeln!(out, "node        {error}")?,
    }
    for version in cache.istio_versions() {
        match cache.istio(&version) {
            Ok(set) => {
                let sizes = set.archives.iter().filter_map(|archive| std::fs::metadata(archive).ok());
                let megabytes = sizes.map(|metadata| metadata.len()).sum::<u64>() / 1_000_000;
                let archives = plural(set.archives.len(), "archive");
                writeln!(out, "istio-{version:<5} {}, {archives}, {megabytes} MB", set.tag)?;
                set.digests.iter().try_for_each(|digest| writeln!(out, "            {digest}"))?;
            }
            Err(error) => writeln!(out, "istio-{version:<5} {error}")?,
        }
    }
    match cache.gateway_api() {
        Ok(_) => writeln!(out, "gateway-api CRDs")?,
        Err(error) => writeln!(out, "gateway-api {error}")?,
    }
    for (name, set) in cache.controllers() {
        writeln!(out, "{name} {}", set.map_or_else(|error| error.to_string(), |set| set.image))?;
    }
    if cache.istio_versions().is_empty() {
        writeln!(out, "istio       no version; `shiftcheck images --pull VERSION` pulls a release, such as 1.27.3")?;
    }
    Ok(())
}
