use std::io::{self, Write};

use super::terminal::plural;
use crate::cluster::ImageCache;

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
