use std::io::Write;

use crate::cluster::{RunId, Swept};

/// Writes what a sweep removed. `engine` says whether there was a Docker engine to search for clusters.
pub fn swept(out: &mut impl Write, swept: &Swept, engine: bool) {
    let mut lines: Vec<String> = swept.clusters.iter().map(|run| format!("removed the cluster of run {run}")).collect();
    lines.extend(swept.namespaces.iter().map(|name| format!("removed the namespace {name}")));
    let any = !lines.is_empty();
    let kept =
        |(what, run): &(String, RunId)| format!("kept on purpose: {what}; `shiftcheck sweep --run {run}` removes it");
    lines.extend(swept.kept.iter().map(kept));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_runs_are_named_with_the_command_that_removes_them() {
        let run: RunId = "0123abcd".parse().unwrap();
        let result = Swept { kept: vec![("the cluster of run 0123abcd".to_owned(), run)], ..Swept::default() };
        let mut printed = Vec::new();
        swept(&mut printed, &result, true);
        insta::assert_snapshot!(String::from_utf8(printed).unwrap(), @r"
        kept on purpose: the cluster of run 0123abcd; `shiftcheck sweep --run 0123abcd` removes it
        killed runs left nothing behind
        ");
    }
}
