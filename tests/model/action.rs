//! The GitHub action: its scripts are valid, name what exists, and do what `docs/ci.md` says. Steps that use other actions or the network
//! are not run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use regex::Regex;
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{BINARY, ROOT, said, spoilt};
use crate::docs::{Page, arguments, commands};

fn action() -> Value {
    serde_yaml::from_str(&text()).unwrap()
}

fn text() -> String {
    fs::read_to_string(Path::new(ROOT).join("action.yml")).unwrap()
}

fn steps() -> Vec<Value> {
    action()["runs"]["steps"].as_array().unwrap().clone()
}

/// The names and scripts of the steps that have a script.
fn scripts() -> Vec<(String, String)> {
    let owned = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = steps().into_iter().filter(|step| step.get("run").is_some());
    steps.map(|step| (owned(&step["name"]), owned(&step["run"]))).collect()
}

fn inputs() -> BTreeMap<String, Value> {
    serde_json::from_value(action()["inputs"].clone()).unwrap()
}

fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    Regex::new(pattern).unwrap().captures_iter(text).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_script_is_valid_bash() {
    let scripts = scripts();
    assert!(scripts.len() >= 5, "{scripts:?}");
    for (name, script) in scripts {
        let (_, errors, code) = said(&Command::new("bash").args(["-n", "-c", &script]).output().unwrap());
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{name}");
    }
}

#[test]
fn no_script_contains_an_expression_that_github_would_put_into_it() {
    for (name, script) in scripts() {
        assert!(!script.contains("${{"), "{name}: pass it in `env`");
    }
}

#[test]
fn every_script_says_its_shell() {
    for step in steps().iter().filter(|step| step.get("run").is_some()) {
        assert_eq!(step["shell"], "bash", "{step}");
    }
}

#[test]
fn the_inputs_that_are_used_are_those_that_are_declared() {
    let used = found(r"inputs\.([a-z-]+)", &text());
    assert_eq!(used, inputs().into_keys().collect());
}

#[test]
fn the_outputs_of_steps_that_are_used_exist() {
    let steps = steps();
    for output in found(r"steps\.([a-z]+\.outputs\.[a-z-]+)", &text()) {
        let (id, name) = output.split_once(".outputs.").unwrap();
        let step = steps.iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("no step {id}"));
        let exists = match step["run"].as_str() {
            Some(script) => script.contains(&format!("echo \"{name}=")),
            None => name == "cache-hit" && step["uses"].as_str().unwrap().starts_with("actions/cache@"),
        };
        assert!(exists, "the step {id} has no output {name}");
    }
}

#[test]
fn the_commands_and_options_of_the_scripts_exist() {
    let commands = commands();
    let mut seen = BTreeSet::new();
    for (name, script) in scripts() {
        let Some(words) = script.lines().find_map(arguments) else { continue };
        let options = commands.get(&words[0]).unwrap_or_else(|| panic!("{name}: no command {}", words[0]));
        for option in found(r"(--[a-z][a-z-]*)", &script) {
            assert!(options.contains(&option), "{name}: {} has no {option}", words[0]);
        }
        seen.insert(words[0].clone());
    }
    assert_eq!(seen, ["images", "run", "verify"].map(str::to_owned).into());
}

/// A job in which steps of the action run.
struct Job {
    folder: TempDir,
    inputs: BTreeMap<String, String>,
}

impl Job {
    /// A job with these inputs, and the defaults of the others.
    fn new(given: &[(&str, &str)]) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let defaults = inputs().into_iter().map(|(name, input)| (name, text(&input["default"])));
        let mut inputs: BTreeMap<String, String> = defaults.collect();
        for (name, value) in given {
            inputs.insert((*name).to_owned(), (*value).to_owned()).expect("the input is declared");
        }
        Self { folder: tempfile::tempdir().unwrap(), inputs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a program before the others that writes its arguments to the file `calls`.
    fn with_stub(self, name: &str) -> Self {
        let stub = self.path("bin").join(name);
        fs::create_dir_all(self.path("bin")).unwrap();
        let script = format!("#!/bin/sh\necho \"{name} $*\" >> '{}'\n", self.path("calls").display());
        fs::write(&stub, script).unwrap();
        fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap()
    }

    /// An expression of the action with its values.
    fn evaluated(&self, text: &str) -> String {
        let expression = Regex::new(r"\$\{\{ (?:inputs\.([a-z-]+)|steps\.caches\.outputs\.([a-z-]+)) \}\}").unwrap();
        let value = |found: &regex::Captures<'_>| match found.get(1) {
            Some(input) => self.inputs[input.as_str()].clone(),
            None => format!("/caches/{}", &found[2]),
        };
        let evaluated = expression.replace_all(text, value).into_owned();
        assert!(!evaluated.contains("${{"), "{evaluated}");
        evaluated
    }

    /// Runs the script of a step as GitHub does, from the action in a folder; what is printed, and the exit code.
    fn run_from(&self, action: &Path, name: &str) -> (String, Option<i32>) {
        let step = steps().into_iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}"));
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"].as_str().unwrap()]);
        for (name, value) in step["env"].as_object().into_iter().flatten() {
            command.env(name, self.evaluated(value.as_str().unwrap()));
        }
        let program = Path::new(BINARY).parent().unwrap().display();
        let path = format!("{}:{program}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("HOME", "/home/runner").env("NO_COLOR", "1").env("CI", "true");
        command.env_remove("SHIFTCHECK_CACHE").env_remove("XDG_CACHE_HOME").env("GITHUB_ACTION_PATH", action);
        command.env("GITHUB_OUTPUT", self.path("output")).env("GITHUB_PATH", self.path("path"));
        command.env("RUNNER_OS", "Linux").env("RUNNER_ARCH", "X64").current_dir(ROOT);
        let (printed, errors, code) = said(&command.output().unwrap());
        (printed + &errors, code)
    }

    fn run(&self, name: &str) -> (String, Option<i32>) {
        self.run_from(Path::new(ROOT), name)
    }
}

/// The outputs of the step that finds the caches, from an action with this source file.
fn caches(istio: &str, source: &str) -> (String, String) {
    let job = Job::new(&[("istio", istio)]);
    let action = job.path("action");
    fs::create_dir_all(action.join("harness")).unwrap();
    for name in ["Cargo.toml", "Cargo.lock", "harness/lib.rs"] {
        fs::write(action.join(name), source).unwrap();
    }
    let (printed, code) = job.run_from(&action, "Find the caches");
    assert_eq!((code, printed.as_str()), (Some(0), ""));
    let output = fs::read_to_string(job.path("output")).unwrap();
    (output, fs::read_to_string(job.path("path")).unwrap())
}

#[test]
fn the_caches_have_the_documented_folders_and_keys() {
    let (output, path) = caches("1.27.3", "one");
    let hash = Regex::new("[0-9a-f]{16}").unwrap();
    insta::assert_snapshot!(hash.replace(&output, "HASH"), @r"
    program=/home/runner/.local/share/shiftcheck
    program-key=shiftcheck-Linux-X64-HASH
    images=/home/runner/.cache/shiftcheck/images
    images-key=shiftcheck-images-X64-1.27.3
    ");
    assert_eq!(path, "/home/runner/.local/share/shiftcheck/bin\n");
    let page = Page::read("docs/ci.md").text;
    for part in [
        "`~/.cache/shiftcheck/images`",
        "`shiftcheck-images-ARCHITECTURE-ISTIO`",
        "`~/.local/share/shiftcheck`",
        "`shiftcheck-SYSTEM-ARCHITECTURE-HASH`",
    ] {
        assert!(page.contains(part), "docs/ci.md does not name {part}");
    }
}

#[test]
fn the_key_of_the_program_depends_on_its_sources() {
    assert_eq!(caches("1.27.3", "one"), caches("1.27.3", "one"));
    assert_ne!(caches("1.27.3", "one"), caches("1.27.3", "two"));
}

#[test]
fn the_program_is_installed_from_the_action_into_its_cache() {
    let job = Job::new(&[]).with_stub("cargo");
    let (printed, code) = job.run("Install the program");
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(job.calls(), format!("cargo install --locked --path {ROOT} --root /caches/program\n"));
}

#[test]
fn the_images_of_the_version_are_pulled() {
    let job = Job::new(&[("istio", "1.27.3")]).with_stub("shiftcheck");
    let (printed, code) = job.run("Pull the images");
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(job.calls(), "shiftcheck images --pull 1.27.3\n");
}

#[rstest]
#[case::holding("fixtures/canary", "false", 0)]
#[case::failing("fixtures/canary-pinned-selector", "false", 1)]
#[case::changed("fixtures/canary", "true", 1)]
fn the_manifests_are_checked(#[case] scenario: &str, #[case] fail_on_change: &str, #[case] expected: i32) {
    let other = tempfile::tempdir().unwrap();
    spoilt(other.path(), &[("vs-hello-testers.yaml", "weight: 50", "weight: 40")]);
    let against = other.path().to_str().unwrap();
    let job = Job::new(&[("scenario", scenario), ("against", against), ("fail-on-change", fail_on_change)]);
    let (printed, code) = job.run("Check the manifests");
    assert_eq!(code, Some(expected), "{printed}");
    assert!(printed.contains(&format!("compared with {against}: ")), "{printed}");
}

#[test]
fn the_manifests_are_checked_without_another_revision() {
    let (printed, code) = Job::new(&[("scenario", "fixtures/canary")]).run("Check the manifests");
    assert_eq!(code, Some(0), "{printed}");
    assert!(!printed.contains("compared with"), "{printed}");
}

#[test]
fn the_scenario_runs_and_leaves_the_reports_in_the_folder_that_is_uploaded() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("reports");
    let job =
        Job::new(&[("scenario", "fixtures/blue-green"), ("cluster", "embedded"), ("report", report.to_str().unwrap())]);
    let (printed, code) = job.run("Run the scenario");
    assert_eq!(code, Some(0), "{printed}");
    for name in ["report.html", "report.json", "junit.xml"] {
        assert!(report.join(name).is_file(), "{name}: {printed}");
    }
    let upload = steps().into_iter().find(|step| step["name"] == "Upload the reports").unwrap();
    assert_eq!(upload["with"]["path"], "${{ inputs.report }}");
    assert!(upload["if"].as_str().unwrap().starts_with("always()"), "{upload}");
}

#[rstest]
#[case::k3s(
    "k3s",
    "run s --cluster k3s --report shiftcheck-report --node-image rancher/k3s:v1.34.4-k3s1 --istio 1.27.3 --qps 100"
)]
#[case::embedded("embedded", "run s --cluster embedded --report shiftcheck-report --qps 100")]
fn the_inputs_become_options_of_the_run(#[case] cluster: &str, #[case] arguments: &str) {
    let inputs = [("scenario", "s"), ("cluster", cluster), ("istio", "1.27.3"), ("args", "--qps 100")];
    let job = Job::new(&inputs).with_stub("shiftcheck");
    let (printed, code) = job.run("Run the scenario");
    assert_eq!(code, Some(0), "{printed}");
    assert_eq!(job.calls(), format!("shiftcheck {arguments}\n"));
}

/// The first block of YAML in `docs/ci.md`: the workflow.
fn workflow() -> String {
    let text = Page::read("docs/ci.md").text;
    text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
}

#[test]
fn the_workflow_has_at_most_20_lines_and_uses_declared_inputs() {
    let workflow = workflow();
    assert!(workflow.lines().count() <= 20, "{workflow}");
    let workflow: Value = serde_yaml::from_str(&workflow).unwrap();
    let steps = workflow["jobs"]["rollout"]["steps"].as_array().unwrap().clone();
    assert_eq!(steps[0]["with"]["fetch-depth"], 0);
    let given: BTreeSet<String> = steps[1]["with"].as_object().unwrap().keys().cloned().collect();
    let declared: BTreeSet<String> = inputs().into_keys().collect();
    assert!(given.is_subset(&declared), "{given:?}");
}

#[test]
fn the_documentation_lists_the_inputs_with_their_defaults() {
    let text = Page::read("docs/ci.md").text;
    let row = Regex::new(r"(?m)^\| `([a-z-]+)` \| .* \| (.*) \|$").unwrap();
    let listed: BTreeMap<String, String> = row
        .captures_iter(&text)
        .map(|found| (found[1].to_owned(), found[2].replace('`', "").trim().to_owned()))
        .collect();
    let declared = inputs().into_iter().map(|(name, input)| {
        let default = match (name.as_str(), input["default"].as_str()) {
            (_, None) if input["required"] == true => "required",
            ("istio", Some("")) => "the newest in the cache",
            (_, None | Some("")) => "none",
            (_, Some(default)) => default,
        };
        (name, default.to_owned())
    });
    assert_eq!(listed, declared.collect());
}
