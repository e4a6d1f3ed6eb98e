//! The shape of the house: rooms depend downwards, files inside a room as well, and no file is long.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

use crate::common::ROOT;

/// The rooms, each of which may use those before it.
const ROOMS: [&str; 20] = [
    "demo",
    "scenario",
    "admission",
    "routing",
    "verdict",
    "plan",
    "verify",
    "events",
    "workload",
    "cluster",
    "mesh",
    "controller",
    "traffic",
    "venue",
    "session",
    "upgrade",
    "report",
    "draft",
    "prove",
    "cli",
];
const MOST_LINES: usize = 500;

/// A Rust file without comments and without its tests.
struct Source {
    path: PathBuf,
    lines: usize,
    code: String,
}

fn sources() -> Vec<Source> {
    let mut folders = vec![Path::new(ROOT).join("harness")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = if path.file_name().unwrap() == "tests.rs" {
                    ""
                } else {
                    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap()
                };
                let code =
                    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
                let path = path.strip_prefix(ROOT).unwrap().to_owned();
                sources.push(Source { path, lines: text.lines().count(), code });
            }
        }
    }
    assert!(sources.len() > 100, "only {} files", sources.len());
    sources
}

/// The modules that lead to a file from the root of its package: `[routing, table]`.
fn modules(path: &Path) -> Vec<String> {
    let path = path.strip_prefix("harness").unwrap();
    let path = path.strip_prefix("model").unwrap_or(path);
    let mut modules: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if ["mod", "lib", "main"].contains(&modules.last().unwrap().as_str()) && (modules.len() != 2 || modules[0] != "cli")
    {
        modules.pop();
    }
    modules
}

/// The paths that `use` and expressions name from `start` on, such as `crate::`, with groups taken apart.
fn named_from(code: &str, start: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let names = Regex::new(&format!(r"\b{start}((?:[a-zA-Z_]\w*(?:::)?)*)(\{{)?")).unwrap();
    for capture in names.captures_iter(code) {
        let stem: Vec<String> = capture[1].split("::").filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect();
        let Some(brace) = capture.get(2).filter(|_| capture[1].is_empty() || capture[1].ends_with("::")) else {
            found.push(stem);
            continue;
        };
        // the heads of a group: what stands right behind its brace and behind its own commas
        let (mut depth, mut head) = (0, true);
        let mut word = String::new();
        for letter in code[brace.start()..].chars() {
            if depth == 1 && head && (letter.is_alphanumeric() || letter == '_') {
                word.push(letter);
                continue;
            }
            if !word.is_empty() {
                found.push(stem.iter().cloned().chain([std::mem::take(&mut word)]).collect());
                head = false;
            }
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => head = true,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

#[test]
fn the_paths_of_a_group_are_taken_apart() {
    let code = "use crate::routing::{self, Live, table::{Route, Rule}, Mesh as M};\nlet x = crate::demo::BODY;";
    let told: Vec<String> = named_from(code, "crate::").iter().map(|path| path.join("::")).collect();
    assert_eq!(told, ["routing::self", "routing::Live", "routing::table", "routing::Mesh", "demo::BODY"]);
}

#[test]
fn rooms_use_only_rooms_below() {
    let mut wrong = Vec::new();
    for source in sources() {
        let modules = modules(&source.path);
        let Some(own) = modules.first().and_then(|room| ROOMS.iter().position(|known| known == room)) else {
            assert!(modules.is_empty(), "{}: the room {} is not in the list", source.path.display(), modules[0]);
            continue;
        };
        for path in named_from(&source.code, "crate::") {
            let used = path.first().and_then(|room| ROOMS.iter().position(|known| known == room));
            if used.is_some_and(|used| used > own) {
                wrong.push(format!("{} uses {}", source.path.display(), path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The files of each folder, and which of them each uses: by its name, or by what the folder's `mod.rs` takes from it.
fn uses_inside_rooms() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let sources = sources();
    // of each folder: the modules in it, and from which of them each exported name comes
    let mut parts: BTreeMap<Vec<String>, BTreeSet<String>> = BTreeMap::new();
    let mut exports: BTreeMap<Vec<String>, BTreeMap<String, String>> = BTreeMap::new();
    let words = Regex::new(r"\w+").unwrap();
    for source in &sources {
        let own = modules(&source.path);
        if let Some((last, folder)) = own.split_last() {
            parts.entry(folder.to_vec()).or_default().insert(last.clone());
        }
        if source.path.ends_with("mod.rs") {
            for statement in source.code.split(';').filter(|statement| statement.contains("use ")) {
                let Some((_, path)) = statement.split_once("use ") else { continue };
                let Some((module, names)) = path.split_once("::") else { continue };
                let module = module.trim().trim_start_matches("self::").to_owned();
                let names = words.find_iter(names).map(|name| (name.as_str().to_owned(), module.clone()));
                exports.entry(own.clone()).or_default().extend(names);
            }
        }
    }
    let mut uses_of: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in &sources {
        let own = modules(&source.path);
        // what a file of a folder below uses is used by that folder
        for depth in 1..own.len() {
            let (folder, name) = (&own[..depth], &own[depth]);
            let start = "super::".repeat(own.len() - depth);
            let mut paths: Vec<Vec<String>> = named_from(&source.code, &start);
            paths.extend(
                named_from(&source.code, "crate::").into_iter().filter_map(|path| {
                    (path.len() > depth && path[..depth] == *folder).then(|| path[depth..].to_vec())
                }),
            );
            for first in paths.into_iter().filter_map(|path| path.into_iter().next()) {
                let exported = exports.get(folder).and_then(|names| names.get(&first)).cloned();
                let used = if parts[folder].contains(&first) { Some(first) } else { exported };
                if let Some(used) = used.filter(|used| used != name && parts[folder].contains(used)) {
                    uses_of.entry(folder.join("/")).or_default().entry(name.clone()).or_default().insert(used);
                }
            }
        }
    }
    uses_of
}

#[test]
fn files_of_a_room_use_each_other_in_one_direction() {
    let mut circles = Vec::new();
    let rooms = uses_inside_rooms();
    assert!(rooms.values().flat_map(BTreeMap::values).map(BTreeSet::len).sum::<usize>() > 100, "too few: {rooms:?}");
    for (folder, mut users) in rooms {
        // files that use no file that is left are taken away: what stays is part of a circle, or leads to one
        loop {
            let left: BTreeSet<String> = users.keys().cloned().collect();
            let before = users.len();
            users.retain(|_, used| used.iter().any(|name| left.contains(name)));
            if users.len() == before {
                break;
            }
        }
        // and files that no file that is left uses
        loop {
            let used: BTreeSet<String> = users.values().flatten().cloned().collect();
            let before = users.len();
            users.retain(|name, _| used.contains(name));
            if users.len() == before {
                break;
            }
        }
        if !users.is_empty() {
            circles.push(format!("{folder}: {users:?}"));
        }
    }
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn no_file_is_long() {
    let long = sources().into_iter().filter(|source| source.lines > MOST_LINES);
    let long: Vec<String> = long.map(|source| format!("{}: {} lines", source.path.display(), source.lines)).collect();
    assert!(long.is_empty(), "more than {MOST_LINES} lines: {long:#?}");
}
