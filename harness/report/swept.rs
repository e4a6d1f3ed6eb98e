use std::io::Write;

use crate::cluster::Swept;

/// Writes what a sweep removed. `engine` says whether there was a Docker engine to search for clusters.
pub fn swept(out: &mut impl Write, swept: &Swept, engine: bool) {
    let mut lines: Vec<String> = swept.clusters.iter().map(|run| format!("removed the cluster of run {run}")).collect();
    lines.extend(swept.namespaces.iter().map(|name| format!("removed the namespace {name}")));
    let any = !lines.is_empty();
    lines.extend(swept.left.iter().map(ToString::to_string));
    if !engine {
        lines.push("no Docker engine on this machine: throwaway clusters were not checked".to_owned());
    }
    if !any && engine && swept.failures.is_empty() {
        lines.push("killed runs left nothing behind".to_owned());
    }
    for line in lines {
        let _ = writeln!(out, "{line}");
    }
}
