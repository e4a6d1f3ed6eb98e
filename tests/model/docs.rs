//! The documentation agrees with the program: links, commands, options, environment variables, scenario keys, files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use rstest::rstest;
use serde_json::Value;

use crate::common::schema::Schema;
use crate::common::{ROOT, example, said, shiftcheck};

/// A page of the documentation.
pub struct Page {
    /// Relative to the repository.
    path: PathBuf,
    pub text: String,
}

impl Page {
    pub fn read(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        let text = fs::read_to_string(Path::new(ROOT).join(&path)).unwrap();
        Self { path, text }
    }

    /// README.md, CHANGELOG.md, CONTRIBUTING.md and docs/*.md.
    fn all() -> Vec<Self> {
        let beside = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(PathBuf::from);
        let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
        let docs = docs.map(|name| Path::new("docs").join(name));
        let docs = docs.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
        beside.into_iter().chain(docs).map(Self::read).collect()
    }

    /// The lines of the code blocks in one of these languages, without comments.
    pub fn code(&self, languages: &[&str]) -> Vec<&str> {
        let mut language = None;
        let mut lines = Vec::new();
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), language) {
                (Some(name), None) => language = Some(name),
                (Some(_), Some(_)) => language = None,
                (None, Some(name)) if languages.contains(&name) => {
                    let code = line.split(" #").next().unwrap_or_default();
                    lines.push(if code.starts_with('#') { "" } else { code });
                }
                (None, _) => {}
            }
        }
        lines
    }

    /// The text without code blocks.
    fn prose(&self) -> String {
        Regex::new(r"(?ms)^ *```.*?^ *```").unwrap().replace_all(&self.text, "").into_owned()
    }

    /// The inline code.
    fn spans(&self) -> Vec<String> {
        let prose = self.prose();
        Regex::new("`([^`]+)`").unwrap().captures_iter(&prose).map(|found| found[1].to_owned()).collect()
    }

    /// The anchors of the headings, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        let anchor = |heading: &str| -> String {
            let title = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            title.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
        };
        headings.map(anchor).collect()
    }

    /// The rows of all tables whose first column has this title, each with the section's heading and the row's first cell.
    fn rows(&self, title: &str) -> Vec<(String, String)> {
        let (mut heading, mut is_wanted, mut rows) = (String::new(), false, Vec::new());
        for line in self.text.lines() {
            let Some(row) = line.strip_prefix('|') else {
                is_wanted = false;
                if let Some(name) = line.strip_prefix("## ") {
                    name.clone_into(&mut heading);
                }
                continue;
            };
            let first = row.split('|').next().unwrap_or_default().trim();
            if first == title {
                is_wanted = true;
            } else if is_wanted && !first.starts_with("---") {
                rows.push((heading.clone(), first.to_owned()));
            }
        }
        rows
    }
}

fn printed(arguments: &[&str]) -> String {
    let (printed, errors, code) = said(&shiftcheck(arguments).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    printed
}

/// The options of each command, as the program's help lists them.
pub fn commands() -> BTreeMap<String, BTreeSet<String>> {
    let help = printed(&["help"]);
    let option = Regex::new(r"(?m)^ +(?:-\w, )?(--[a-z-]+)").unwrap();
    let command = Regex::new(r"(?m)^  ([a-z]+) ").unwrap();
    let names = command.captures_iter(&help).map(|found| found[1].to_owned());
    names
        .filter(|name| name != "help")
        .map(|name| {
            let help = printed(&[&name, "--help"]);
            let options = option.captures_iter(&help).map(|found| found[1].to_owned()).collect();
            (name, options)
        })
        .collect()
}

/// What follows `shiftcheck`, or `cargo run --`, in a command line.
pub fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.replace("cargo run --", "shiftcheck").replace(['[', ']', '(', ')', ','], " ");
    let mut words = line.split_whitespace().map(str::to_owned);
    words.find(|word| word == "shiftcheck").map(|_| words.collect())
}

/// All files of folders in the repository.
pub fn files(folders: &[&str]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = folders.iter().map(|folder| Path::new(ROOT).join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn the_readme_has_at_most_150_lines() {
    let lines = Page::read("README.md").text.lines().count();
    assert!(lines <= 150, "README.md has {lines} lines");
}

#[test]
fn the_readme_links_every_page() {
    let readme = Page::read("README.md").text;
    let missing = Page::all().into_iter().filter(|page| page.path.starts_with("docs"));
    let missing = missing.map(|page| format!("({})", page.path.display())).filter(|link| !readme.contains(link));
    assert_none(&missing.collect::<Vec<_>>());
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut problems = Vec::new();
    for page in Page::all() {
        let prose = page.prose();
        for target in link.captures_iter(&prose).map(|found| found.get(1).unwrap().as_str()) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
            if !Path::new(ROOT).join(&file).exists() {
                problems.push(format!("{}: no file {target}", page.path.display()));
            } else if !anchor.is_empty() && !Page::read(&file).anchors().contains(anchor) {
                problems.push(format!("{}: no heading {target}", page.path.display()));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn every_command_and_option_in_the_documentation_exists() {
    let commands = commands();
    let mut problems = Vec::new();
    for page in Page::all() {
        let spans = page.spans();
        let inline = spans.iter().map(String::as_str).filter(|span| span.starts_with("shiftcheck "));
        for line in page.code(&["sh", "yaml"]).into_iter().chain(inline) {
            let Some(words) = arguments(line) else { continue };
            // a placeholder: COMMAND
            let Some(name) = words.first().filter(|name| name.chars().any(char::is_lowercase)) else { continue };
            let Some(options) = commands.get(name) else {
                problems.push(format!("{}: no command `{name}`: {line}", page.path.display()));
                continue;
            };
            let unknown = words.iter().filter(|word| word.starts_with("--") && !options.contains(*word));
            problems.extend(unknown.map(|word| format!("{}: {name} has no {word}: {line}", page.path.display())));
        }
    }
    assert_none(&problems);
}

#[test]
fn every_command_and_option_is_documented() {
    let page = Page::read("docs/commands.md");
    let spans = page.spans();
    let words: BTreeSet<&str> = spans.iter().flat_map(|span| span.split(['[', ']', ' '])).collect();
    let mut problems = Vec::new();
    for (name, options) in commands() {
        if !spans.iter().any(|span| span.starts_with(&format!("shiftcheck {name}"))) {
            problems.push(format!("the command {name} is missing"));
        }
        let missing = options.iter().filter(|option| *option != "--help" && !words.contains(option.as_str()));
        problems.extend(missing.map(|option| format!("{option} of {name} is missing")));
    }
    assert_none(&problems);
}

#[test]
fn every_environment_variable_in_the_documentation_is_read() {
    let variable = Regex::new(r"\bSHIFTCHECK_[A-Z_]+\b").unwrap();
    let documented: BTreeSet<String> =
        Page::read("docs/commands.md").rows("variable").into_iter().map(|(_, cell)| cell.replace('`', "")).collect();
    assert!(!documented.is_empty());
    let read: String =
        files(&["harness", "ci"]).iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    let mut problems = Vec::new();
    for page in Page::all() {
        let named = variable.find_iter(&page.text).map(|found| found.as_str());
        for name in named.filter(|name| !documented.contains(*name)) {
            problems.push(format!("{}: {name} is not in the table of docs/commands.md", page.path.display()));
        }
    }
    problems.extend(documented.iter().filter(|name| !read.contains(*name)).map(|name| format!("nothing reads {name}")));
    let quoted = Regex::new(r#""(SHIFTCHECK_[A-Z_]+)""#).unwrap();
    let missing = quoted.captures_iter(&read).map(|found| found[1].to_owned());
    let missing: BTreeSet<String> = missing.filter(|name| !documented.contains(name)).collect();
    problems.extend(missing.iter().map(|name| format!("{name} is not documented")));
    assert_none(&problems);
}

/// The keys of a scenario by the key that holds them, without deprecated ones.
fn keys(schema: &Value, node: &Value, holder: &str, found: &mut BTreeSet<(String, String)>) {
    if let Some(name) = node["$ref"].as_str() {
        let definition = schema.pointer(name.trim_start_matches('#')).unwrap();
        return keys(schema, definition, holder, found);
    }
    for (key, value) in node["properties"].as_object().into_iter().flatten() {
        if value["deprecated"] != true {
            found.insert((holder.to_owned(), key.clone()));
            keys(schema, value, key, found);
        }
    }
    let forms = ["anyOf", "oneOf"].into_iter().flat_map(|form| node[form].as_array().into_iter().flatten());
    let members = ["additionalProperties", "items"].into_iter().filter_map(|name| node.get(name));
    for part in forms.chain(members) {
        keys(schema, part, holder, found);
    }
}

#[test]
fn the_scenario_reference_has_exactly_the_keys_of_the_schema() {
    let schema: Value = serde_json::from_str(&printed(&["schema", "scenario"])).unwrap();
    let mut wanted = BTreeSet::new();
    keys(&schema, &schema, "", &mut wanted);
    // a section about one key has its name, in backticks, as heading
    let holder = |heading: &str| if heading.starts_with('`') { heading.replace('`', "") } else { String::new() };
    let rows = Page::read("docs/scenario.md").rows("key");
    let documented = rows.iter().map(|(heading, key)| (holder(heading), key.replace('`', ""))).collect();
    let missing = wanted.difference(&documented).map(|key| format!("not documented: {key:?}"));
    let unknown = documented.difference(&wanted).map(|key| format!("not in the schema: {key:?}"));
    assert_none(&missing.chain(unknown).collect::<Vec<_>>());
}

#[test]
fn the_example_of_the_scenario_reference_fits_the_schema() {
    let example = Page::read("docs/scenario.md").code(&["yaml"]).join("\n");
    let example: Value = serde_yaml::from_str(&example).unwrap();
    let schema = serde_json::from_str(&printed(&["schema", "scenario"])).unwrap();
    assert_eq!(Schema::of(schema).check(&example), Ok(()));
}

/// What an editor says of a claim about sessions is what the program says of it.
#[rstest]
#[case::stay("stay: 100%", true)]
#[case::stay_and_get("stay: 100%, get: {v1: 100%}", true)]
#[case::keep("keep: v2", true)]
#[case::keep_and_stay("keep: v2, stay: 100%", false)]
#[case::keep_and_get("keep: v2, get: {v1: 100%}", false)]
#[case::nothing("", false)]
fn the_schema_takes_the_claims_about_sessions_that_the_program_takes(#[case] claims: &str, #[case] fits: bool) {
    let (from, to) = ("sessions: {stay: 100%, get: {v1: 100%}}", format!("sessions: {{{claims}}}"));
    let folder = tempfile::tempdir().unwrap();
    let path = example(folder.path(), "sticky-cookie", "scenario.yaml", from, &to);
    let (_, errors, code) = said(&shiftcheck(&["verify", &path]).output().unwrap());
    assert_eq!(code != Some(2), fits, "{errors}");
    let scenario = fs::read_to_string(Path::new(&path).join("scenario.yaml")).unwrap();
    let scenario: Value = serde_yaml::from_str(&scenario).unwrap();
    let schema = serde_json::from_str(&printed(&["schema", "scenario"])).unwrap();
    let checked = Schema::of(schema).check(&scenario);
    assert_eq!(checked.is_ok(), fits, "{checked:?}");
}

#[test]
fn the_architecture_lists_every_room() {
    let page = Page::read("docs/architecture.md");
    let listed: BTreeSet<String> = page.rows("room").into_iter().map(|(_, cell)| cell.replace('`', "")).collect();
    let folders = ["harness", "harness/model"].into_iter().flat_map(|folder| {
        let entries = fs::read_dir(Path::new(ROOT).join(folder)).unwrap().map(Result::unwrap);
        entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap())
    });
    let packages = ["model", "workload"];
    let rooms: BTreeSet<String> = folders.filter(|name| !packages.contains(&name.as_str())).collect();
    assert_eq!(listed, rooms);
}

#[test]
fn every_file_that_the_documentation_names_exists() {
    let named = Regex::new(r"^(?:ci|docs|examples|fixtures|harness|schemas|tests)/[\w./-]+$").unwrap();
    let mut problems = Vec::new();
    for page in Page::all() {
        let spans = page.spans();
        let code = page.code(&["sh"]).into_iter().flat_map(str::split_whitespace);
        for name in spans.iter().map(String::as_str).chain(code).filter(|name| named.is_match(name)) {
            if !Path::new(ROOT).join(name).exists() {
                problems.push(format!("{}: no {name}", page.path.display()));
            }
        }
    }
    assert_none(&problems);
}

/// The fields that occur in public repositories.
const FIELDS_IN_THE_WILD: [&str; 31] = [
    "VirtualService",
    "destination.port",
    "subset",
    "weight",
    "match.uri",
    "match.headers",
    "rewrite",
    "retries",
    "timeout",
    "fault.delay",
    "fault.abort",
    "tls",
    "exportTo",
    "mirror",
    "tcp",
    "headers",
    "match.port",
    "match.gateways",
    "match.method",
    "match.sourceLabels",
    "match.ignoreUriCase",
    "corsPolicy",
    "subsets",
    "trafficPolicy.tls",
    "trafficPolicy.outlierDetection",
    "trafficPolicy.connectionPool",
    "trafficPolicy.loadBalancer",
    "subsets.trafficPolicy",
    "trafficPolicy.portLevelSettings",
    "trafficPolicy.loadBalancer.consistentHash",
    "HTTPRoute",
];

#[test]
fn every_field_in_the_wild_is_modelled_named_or_undecided() {
    let page = Page::read("docs/verify.md");
    let rows = page.text.lines().skip_while(|line| *line != "| field | `verify` |").skip(2);
    let code = Regex::new("`([^`]+)`").unwrap();
    let mut told = BTreeSet::new();
    for row in rows.take_while(|line| line.starts_with('|')) {
        let (fields, treatment) = row.trim_matches('|').split_once('|').unwrap();
        let treatment = treatment.trim();
        assert!(["modelled", "named", "undecided"].iter().any(|word| treatment.starts_with(word)), "{row}");
        told.extend(code.captures_iter(fields).map(|found| found[1].to_owned()));
    }
    assert_eq!(told, FIELDS_IN_THE_WILD.map(str::to_owned).into());
}
