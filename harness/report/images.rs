use std::io::{self, Write};

use super::terminal::plural;
use crate::cluster::ImageCache;

/// Writes for each set of Istio in a cache whether its files are whole; with whether all are.
///
/// # Errors
/// The output is closed.
pub fn checked_images(out: &mut impl Write, cache: &ImageCache) -> io::Result<bool> {
    let mut whole = true;
    let versions = cache.istio_versions();
    for version in &versions {
        let problems = cache.check(version);
        whole &= problems.is_empty();
        match problems.first() {
            None => writeln!(out, "istio-{version:<5} ok")?,
            Some(problem) => writeln!(out, "istio-{version:<5} {problem}")?,
        }
    }
    for (name, problem) in [
        ("node", cache.node().err().map(|error| error.to_string())),
        ("gateway-api", cache.gateway_api().err().map(|error| error.to_string())),
    ] {
        whole &= problem.is_none();
        writeln!(out, "{name:<11} {}", problem.as_deref().unwrap_or("ok"))?;
    }
    if versions.is_empty() {
        writeln!(out, "istio       no version is there")?;
    }
    Ok(whole && !versions.is_empty())
}

/// Writes which sets of images a cache has, how large they are, and what is missing of them.
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
            }
            Err(error) => writeln!(out, "istio-{version:<5} {error}")?,
        }
    }
    match cache.gateway_api() {
        Ok(_) => writeln!(out, "gateway-api its kinds are there"),
        Err(error) => writeln!(out, "gateway-api {error}"),
    }
}
