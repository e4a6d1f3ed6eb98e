//! A crate outside of this workspace, made as the guide says, runs rollouts as tests. It has to be compiled, which takes a minute: that is why
//! these tests are a binary of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test panics where its set-up fails")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;

/// The repository.
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A crate that is compiled.
struct UserCrate {
    folder: PathBuf,
    /// Locked until the end of this process: another one would compile the crate in the same folder.
    _lock: File,
    /// The program of the test target `stages`.
    stages: PathBuf,
}

/// What a program says on stdout and stderr, and its exit code.
fn said(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// The lines of the code blocks of the guide in a language.
fn guide(language: &str) -> String {
    let text = fs::read_to_string(Path::new(ROOT).join("docs/quick-start.md")).unwrap();
    let begin = format!("```{language}\n");
    let blocks = text.split(&begin).skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The development profile of this repository, with which its dependencies are compiled already.
fn profile() -> String {
    let text = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let (_, profile) = text.split_once("[profile.dev]\n").unwrap();
    format!("[profile.dev]\n{}", profile.split("[profile.release]").next().unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn cargo(folder: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg("test").current_dir(folder).env("CARGO_TARGET_DIR", program.ancestors().nth(3).unwrap());
    cargo.args(["--offline", "--quiet"]);
    // the cargo that runs this test sets them; a build script that reads one would run again, and what depends on it be compiled again
    let set = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(set)) {
        cargo.env_remove(name);
    }
    cargo
}

/// The crate, made and compiled by the first test that asks for it.
fn user_crate() -> &'static UserCrate {
    static CRATE: OnceLock<UserCrate> = OnceLock::new();
    CRATE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("user-crate");
        let lock = File::create(folder.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let _ = fs::remove_dir_all(&folder);
        let own = format!("shiftcheck = {{ path = {ROOT:?} }}");
        let lines = guide("toml");
        let lines = lines.lines().map(|line| if line.starts_with("shiftcheck = ") { own.as_str() } else { line });
        let manifest = [
            "[package]\nname = \"rollouts\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n[lib]\npath = \"lib.rs\"",
            &lines.collect::<Vec<_>>().join("\n"),
            &profile(),
        ];
        fs::create_dir_all(folder.join("tests")).unwrap();
        fs::write(folder.join("Cargo.toml"), manifest.join("\n")).unwrap();
        fs::write(folder.join("lib.rs"), "").unwrap();
        fs::copy(Path::new(ROOT).join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
        for name in ["rollout.rs", "stages.rs"] {
            fs::copy(Path::new(ROOT).join("examples").join(name), folder.join("tests").join(name)).unwrap();
        }
        for name in ["canary", "blue-green"] {
            copy(&Path::new(ROOT).join("fixtures").join(name), &folder.join("fixtures").join(name));
        }
        let output = cargo(&folder).args(["--no-run", "--message-format", "json"]).output().unwrap();
        let (printed, errors, code) = said(&output);
        assert_eq!(code, Some(0), "{errors}");
        let messages = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut programs = messages.filter(|message| message["target"]["name"] == "stages");
        let stages = programs.find_map(|message| message["executable"].as_str().map(PathBuf::from)).unwrap();
        UserCrate { folder, _lock: lock, stages }
    })
}

/// The program of the test target `stages`, as cargo-nextest starts it for one test.
fn as_nextest(folder: &Path, cache: &Path, run: &str, test: &str) -> (String, Option<i32>) {
    let mut command = Command::new(&user_crate().stages);
    command.args([test, "--exact", "--nocapture"]).current_dir(folder);
    command.env("NEXTEST_RUN_ID", run).env("SHIFTCHECK_CACHE", cache);
    let (printed, errors, code) = said(&command.output().unwrap());
    (printed + &errors, code)
}

#[test]
fn its_tests_are_the_rollouts_and_the_stages() {
    let (printed, errors, code) = said(&cargo(&user_crate().folder).args(["--", "--list"]).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    insta::assert_snapshot!(printed, @r"
    a_rollout_does_what_it_promises::case_1_canary: test
    a_rollout_does_what_it_promises::case_2_blue_green: test
    fixtures/canary::1 first release: test
    fixtures/canary::2 version label: test
    fixtures/canary::3 v2 deployed, unused: test
    fixtures/canary::4 testers' canary: test
    fixtures/canary::5 fault: test
    fixtures/canary::6 rollback: test
    fixtures/canary::7 promotion: test
    fixtures/canary::8 v1 removed: test
    fixtures/canary::9 clean-up: test
    fixtures/blue-green::1 blue: test
    fixtures/blue-green::2 green deployed, unused: test
    fixtures/blue-green::3 switch: test
    fixtures/blue-green::4 switch back: test
    ");
}

#[test]
fn its_tests_pass() {
    let (printed, errors, code) = said(&cargo(&user_crate().folder).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    let results = printed.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    let counts: Vec<&str> = results.filter_map(|result| result.split(" passed; 0 failed").next()).collect();
    // the library, the rollouts, the stages, the documentation
    assert_eq!(counts, ["0", "2", "13", "0"], "{printed}");
}

#[test]
fn processes_of_one_nextest_run_share_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = folder.path().join("fixtures");
    for name in ["canary", "blue-green"] {
        copy(&Path::new(ROOT).join("fixtures").join(name), &fixtures.join(name));
    }
    let cache = folder.path().join("cache");
    let stage = "fixtures/canary::4 testers' canary";
    let (printed, code) = as_nextest(folder.path(), &cache, "one", "fixtures/canary::1 first release");
    assert_eq!(code, Some(0), "{printed}");
    // whoever runs the scenario now sees that the claim fails
    let path = fixtures.join("canary/vs-hello-testers.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("exact: testers", "exact: staff")).unwrap();
    let (printed, code) = as_nextest(folder.path(), &cache, "one", stage);
    assert_eq!(code, Some(0), "{printed}");
    let (printed, code) = as_nextest(folder.path(), &cache, "two", stage);
    assert_eq!(code, Some(101), "{printed}");
    assert!(printed.contains("4 testers' canary: testers: v1 50 %, v2 50 % — "), "{printed}");
}
