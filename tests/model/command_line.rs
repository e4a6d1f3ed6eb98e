//! What the command line offers beside whole runs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;

use crate::common::server::{Engine, cache_with_images};
use crate::common::{self, Deadline, said, shiftcheck};

fn run(extra: &[&str]) -> (String, String, Option<i32>) {
    said(&shiftcheck(&[&["run", "fixtures/canary", "--cluster", "embedded"], extra].concat()).output().unwrap())
}

#[test]
fn one_stage_is_judged_alone_on_what_those_before_it_applied() {
    let (printed, errors, code) = run(&["--only", "testers' canary"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("4  testers' canary      pass  3 of 3 claims"), "{printed}");
    assert!(printed.contains("2  version label        --    not judged"), "{printed}");
    assert!(printed.contains("-- 2/4 version label (") && printed.contains(", not judged)\n"), "{printed}");
    assert!(!printed.contains("rollback"), "{printed}");
}

/// Without enough of them, requests fail as if the service did.
#[test]
fn too_few_files_that_may_be_open_are_an_error_of_the_environment() {
    let limited = "ulimit -n 64; exec \"$0\" run fixtures/canary --cluster embedded";
    let mut command = Command::new("bash");
    let output = command.current_dir(common::ROOT).args(["-c", limited]).arg(common::BINARY).output().unwrap();
    let (_, errors, code) = said(&output);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("this process may open 64 files and connections at once, and a run needs 256"), "{errors}");
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_of_the_environment() {
    let (_, errors, code) = run(&["--until", "1", "--report", "/dev/full/report"]);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("cannot write /dev/full/report"), "{errors}");
}

/// Opening a pipe that nobody writes to takes forever, and a device may have no end.
#[rstest]
#[case::verify(&["verify", "PIPE"])]
#[case::compare(&["compare", "PIPE", "PIPE"])]
#[case::an_archive(&["run", "fixtures/canary", "--cluster", "k3s", "--load-image", "PIPE"])]
fn a_pipe_is_no_input(#[case] arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.tar");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let arguments: Vec<&str> =
        arguments.iter().map(|word| if *word == "PIPE" { pipe.to_str().unwrap() } else { word }).collect();
    let child = shiftcheck(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(10));
    let (_, errors, code) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("not a regular file"), "{errors}");
}

#[test]
fn a_run_stops_where_it_is_told() {
    let (printed, _, code) = run(&["--until", "3"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("ok 3/3 v2 deployed, unused") && printed.contains("all stages passed"), "{printed}");
}

#[test]
fn a_stage_that_is_not_there_is_told_with_those_that_are() {
    let (_, errors, code) = run(&["--until", "rolback"]);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("has no stage `rolback`; did you mean `rollback`?; its stages: 1 first release, 2"),
        "{errors}"
    );
    let (_, errors, code) = run(&["--pause", "3"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("--pause needs a cluster"), "{errors}");
}

/// A save in one write, and one as editors do it: a new file is renamed.
#[derive(Debug, Clone, Copy)]
enum Save {
    Write,
    Rename,
}

#[rstest]
#[case::a_folder(Some("."), Save::Write)]
#[case::the_current_folder(None, Save::Rename)]
#[case::a_bare_file_name(Some("scenario.yaml"), Save::Rename)]
fn it_walks_again_when_something_is_saved(#[case] scenario: Option<&str>, #[case] save: Save) {
    let folder = tempfile::tempdir().unwrap();
    common::spoilt(folder.path(), &[]);
    let mut command = shiftcheck(&["run", "--cluster", "embedded", "--watch"]);
    command.args(scenario).current_dir(folder.path()).env("SHIFTCHECK_REPORT", ".");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(120));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("all stages passed")));
    assert!(lines.any(|line| line == "waiting for a change"));
    let file = folder.path().join("vs-hello-testers.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let changed = text.replacen("weight: 50", "weight: 90", 1).replacen("weight: 50", "weight: 10", 1);
    match save {
        Save::Write => fs::write(&file, changed).unwrap(),
        Save::Rename => {
            let new = folder.path().join(".vs-hello-testers.yaml.new");
            fs::write(&new, changed).unwrap();
            fs::rename(&new, &file).unwrap();
        }
    }
    assert!(lines.any(|line| line.starts_with("stage 4 of 9 failed")));
    assert!(lines.any(|line| line == "waiting for a change"));
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let (_, errors, code) = said(&shiftcheck(&["run", "fixtures/canary", "--watch"]).output().unwrap());
    assert_eq!(code, Some(2));
    assert!(errors.contains("--watch needs --cluster embedded"), "{errors}");
}

/// The program outside of the repository, in a folder.
fn installed(folder: &Path, arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut command = shiftcheck(arguments);
    said(&command.env_remove("SHIFTCHECK_REPORT").current_dir(folder).output().unwrap())
}

#[test]
fn without_a_scenario_it_names_the_commands_that_write_one() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["run", "verify", "mutants", "calibrate"] {
        let (printed, errors, code) = installed(folder.path(), &[command]);
        assert_eq!((printed.as_str(), code), ("", Some(2)), "{command}: {errors}");
        let hint = "`shiftcheck init` writes one from manifests, `shiftcheck init --example canary` a bundled one";
        assert_eq!(errors, format!("error: no scenario.yaml here or above\n\nhint: {hint}\n"), "{command}");
    }
    let (_, errors, code) = installed(folder.path(), &["verify", "."]);
    assert_eq!(code, Some(2));
    assert!(errors.ends_with("hint: `shiftcheck init .` writes one from manifests\n"), "{errors}");
}

#[test]
fn a_bundled_example_runs_outside_of_the_repository_and_is_found_from_its_subfolders() {
    let folder = tempfile::tempdir().unwrap();
    let (printed, errors, code) = installed(folder.path(), &["init", "--example", "blue-green"]);
    assert_eq!(code, Some(0), "{errors}");
    insta::assert_snapshot!(printed, @r"
    wrote blue-green/canary/hello-server-v1.yaml
    wrote blue-green/canary/hello-server-v2.yaml
    wrote blue-green/canary/httpbin.yaml
    wrote blue-green/canary/svc-hello-v1.yaml
    wrote blue-green/scenario.yaml
    wrote blue-green/svc-hello-green.yaml
    next: `shiftcheck verify blue-green`, `shiftcheck run blue-green --cluster embedded`
    ");
    let below = folder.path().join("blue-green/a/b");
    fs::create_dir_all(&below).unwrap();
    let (printed, errors, code) = installed(&below, &["run", "--cluster", "embedded", "--no-report"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.starts_with("blue-green: ") && printed.contains("all stages passed"), "{printed}");
    let (_, errors, code) = installed(folder.path(), &["init", "--example", "blue-green"]);
    assert_eq!(code, Some(2));
    assert!(errors.starts_with("error: blue-green/") && errors.contains(" already exists\n"), "{errors}");
    let (_, errors, code) = installed(folder.path(), &["init", "--example", "green-blue"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("[possible values: ab-test, autoscale, blue-green, callers, canary"), "{errors}");
}

#[test]
fn outside_of_a_checkout_no_hint_names_a_script() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path());
    installed(folder.path(), &["init", "--example", "canary"]);
    let mut command = shiftcheck(&["run", "canary", "--no-report"]);
    command.current_dir(folder.path()).env("SHIFTCHECK_CACHE", folder.path()).env("DOCKER_HOST", engine.address());
    let (_, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(3));
    let hint = "\nhint: `shiftcheck images --pull VERSION` pulls a release of Istio, such as 1.27.3\n";
    assert!(errors.ends_with(hint), "{errors}");
}

#[rstest]
#[case::stops_at_a_failure(&[], "1 of 3 scenarios passed\n  ok           a\n  FAIL         b\n  not run      c\n")]
#[case::continues(&["--no-fail-fast"], "2 of 3 scenarios passed\n  ok           a\n  FAIL         b\n  ok           c\n")]
fn several_scenarios_run_one_after_the_other(#[case] more: &[&str], #[case] end: &str) {
    let folder = tempfile::tempdir().unwrap();
    for (name, example) in [("a", "blue-green"), ("b", "canary-pinned-selector"), ("c", "mirror")] {
        let (_, errors, code) = installed(folder.path(), &["init", name, "--example", example]);
        assert_eq!(code, Some(0), "{errors}");
    }
    for command in [&["verify"][..], &["run", "--cluster", "embedded"]] {
        let (printed, errors, code) = installed(folder.path(), &[command, &["a", "b", "c"], more].concat());
        assert_eq!(code, Some(1), "{printed}{errors}");
        assert!(printed.ends_with(end), "{printed}");
    }
    let report = |name: &str| folder.path().join("shiftcheck-report").join(name).join("report.json").is_file();
    assert_eq!([report("a"), report("b"), report("c")], [true, true, !more.is_empty()]);
}

#[test]
fn several_scenarios_have_a_page_and_a_junit_file_together_and_no_earlier_result_stays() {
    let folder = tempfile::tempdir().unwrap();
    for (name, example) in [("a", "blue-green"), ("b", "canary-pinned-selector"), ("c", "mirror"), ("d", "progressive")]
    {
        installed(folder.path(), &["init", name, "--example", example]);
    }
    let run = |scenarios: &[&str]| installed(folder.path(), &[&["run", "--cluster", "embedded"], scenarios].concat());
    let (printed, errors, code) = run(&["a", "c"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert!(printed.contains("\nreport: shiftcheck-report/index.html\n"), "{printed}");
    let file = |name: &str| fs::read_to_string(folder.path().join("shiftcheck-report").join(name)).unwrap();
    assert!(file("c/report.json").contains("\"result\": \"passed\""));

    // b fails, so that c and d are not run
    assert_eq!(run(&["a", "b", "c", "d"]).2, Some(1));
    assert!(file("c/report.json").contains("\"result\": \"interrupted\""), "c has the result of an earlier run");
    let page = file("index.html");
    assert!(page.contains("<h1>1 of 4 scenarios passed</h1>") && !page.contains("<script"), "{page}");
    for part in ["href=\"a/report.html\"", "href=\"b/report.html\"", "interrupted", "<td>d</td><td>not run</td>"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let junit = file("junit.xml");
    let suites: Vec<&str> = junit.lines().filter(|line| line.contains("<testsuite ")).collect();
    assert_eq!(suites.len(), 3, "{junit}");
    for (suite, name) in suites.iter().zip(["blue-green", "canary-pinned-selector", "shiftcheck"]) {
        assert!(suite.contains(&format!("name=\"{name}\"")), "{suite}");
    }
}

#[rstest]
#[case::all(&[], Some("3 of 3 scenarios passed\n  ok           all/a\n  ok           all/b\n  ok           all/c/d\n"))]
#[case::some(&["--filter", "/b"], None)]
#[case::first_half(&["--shard", "1/2"], Some("2 of 2 scenarios passed\n  ok           all/a\n  ok           all/c/d\n"))]
#[case::second_half(&["--shard", "2/2"], None)]
fn a_folder_stands_for_the_scenarios_in_it(#[case] more: &[&str], #[case] end: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, example) in [("all/c/d", "mirror"), ("all/a", "blue-green"), ("all/b", "canary")] {
        let (_, errors, code) = installed(folder.path(), &["init", name, "--example", example]);
        assert_eq!(code, Some(0), "{errors}");
    }
    for command in [&["verify"][..], &["run", "--cluster", "embedded", "--no-report"]] {
        let (printed, errors, code) = installed(folder.path(), &[command, &["all"], more].concat());
        assert_eq!(code, Some(0), "{printed}{errors}");
        match end {
            Some(end) => assert!(printed.ends_with(end), "{printed}"),
            None => assert!(printed.starts_with("canary: ") && !printed.contains("scenarios passed"), "{printed}"),
        }
    }
}

#[rstest]
#[case::no_scenario(&["--filter", "canary"], "error: none of 1 scenarios has `canary` in its path\n")]
#[case::empty_part(&["--shard", "2/2"], "error: part 2/2 of 1 scenarios is empty\n")]
#[case::no_part(&["--shard", "3/2"], "error: invalid value '3/2' for '--shard <K/N>': expected a number and how many there are, such as 1/3\n")]
fn a_part_without_scenarios_is_refused(#[case] more: &[&str], #[case] expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    installed(folder.path(), &["init", "one", "--example", "blue-green"]);
    for command in ["verify", "run"] {
        let (printed, errors, code) = installed(folder.path(), &[&[command, "one"][..], more].concat());
        assert_eq!((printed.as_str(), code), ("", Some(2)), "{errors}");
        assert!(errors.starts_with(expected), "{errors}");
    }
}

#[rstest]
#[case::bash("bash", "complete -F _shiftcheck")]
#[case::zsh("zsh", "#compdef shiftcheck")]
#[case::fish("fish", "complete -c shiftcheck")]
fn shells_complete_it(#[case] shell: &str, #[case] part: &str) {
    let (printed, _, code) = said(&shiftcheck(&["completions", shell]).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(printed.contains(part) && printed.contains("--cluster"), "{printed}");
}

#[test]
fn it_has_a_man_page_and_tells_an_empty_cache() {
    let (printed, _, code) = said(&shiftcheck(&["man"]).output().unwrap());
    assert_eq!(code, Some(0));
    assert!(printed.contains(".TH shiftcheck 1") && printed.contains("Exit codes"), "{printed}");
    let folder = tempfile::tempdir().unwrap();
    let (_, errors, code) = said(&shiftcheck(&["man"]).arg(folder.path().join("man1")).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    for (page, part) in [("shiftcheck.1", "NO_COLOR"), ("shiftcheck-run.1", "until"), ("shiftcheck-sweep.1", "kept")] {
        let page = fs::read_to_string(folder.path().join("man1").join(page)).unwrap();
        assert!(page.contains(part), "{page}");
    }
    assert!(!folder.path().join("man1/shiftcheck-workload.1").exists(), "a command that is hidden");
    let empty = tempfile::tempdir().unwrap();
    let (printed, _, _) = said(&shiftcheck(&["images", "--cache", empty.path().to_str().unwrap()]).output().unwrap());
    assert!(printed.contains("the image cache has no set `node`"), "{printed}");
    let pull = "istio       no version; `shiftcheck images --pull VERSION` pulls a release, such as 1.27.3\n";
    assert!(printed.ends_with(pull), "{printed}");
    let arguments = ["images", "--check", "--cache", empty.path().to_str().unwrap()];
    let (printed, _, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(3));
    assert!(printed.contains("no version"), "{printed}");
}

#[test]
fn only_commands_that_use_the_cache_have_an_option_for_it() {
    let has = |command: &str| said(&shiftcheck(&[command, "--help"]).output().unwrap()).0.contains("--cache");
    for command in ["run", "upgrade", "mutants", "calibrate", "images", "sweep"] {
        assert!(has(command), "{command}");
    }
    for command in ["verify", "init", "compare", "schema", "man", "completions", "image"] {
        assert!(!has(command), "{command}");
    }
}

/// The names of the environment variables that the program reads, from its source.
fn environment_variables() -> BTreeSet<String> {
    let read = regex::Regex::new(r#"(?:var(?:_os)?\(|env = )"([A-Z_]+)""#).unwrap();
    let mut names = BTreeSet::new();
    let mut folders = vec![Path::new(common::ROOT).join("harness")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(entry).unwrap();
                names.extend(read.captures_iter(&text).map(|found| found[1].to_owned()));
            }
        }
    }
    names
}

#[test]
fn the_help_names_every_environment_variable() {
    let (help, _, _) = said(&shiftcheck(&["--help"]).output().unwrap());
    // the last nine are set by the pods of the workload
    let usual =
        ["HOME", "PATH", "VERSION", "MENDED", "HOSTNAME", "SLOW", "FAIL", "PROPAGATE", "TLS", "REFLECTION", "TCP"];
    let names = environment_variables();
    assert!(names.len() > 15, "{names:?}");
    let missing: Vec<_> =
        names.iter().filter(|name| !usual.contains(&name.as_str()) && !help.contains(&format!("  {name} "))).collect();
    assert!(missing.is_empty(), "{missing:?} in {help}");
}

#[test]
fn help_comes_at_once() {
    let best = (0..10).map(|_| {
        let start = Instant::now();
        assert!(shiftcheck(&["--help"]).output().unwrap().status.success());
        start.elapsed()
    });
    let best = best.min().unwrap();
    assert!(best.as_millis() < 20, "{best:?}");
}

#[rstest]
#[case::a_word("canary")]
#[case::a_path("/etc")]
#[case::nothing("")]
fn a_sweep_of_what_is_no_run_is_refused(#[case] run: &str) {
    let (_, errors, code) = said(&shiftcheck(&["sweep", "--run", run]).output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains(&format!("`{run}` is not the id of a run: eight hexadecimal digits")), "{errors}");
}

#[test]
fn a_sweep_of_an_unknown_run_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let mut sweep = shiftcheck(&["sweep", "--run", "0123abcd", "--cache"]);
    let (_, errors, code) = said(&sweep.arg(cache.path()).env("DOCKER_HOST", "").output().unwrap());
    assert_eq!(code, Some(2), "{errors}");
    let told = "there is no run `0123abcd`: no container and no record in the cache folder has this id";
    assert!(errors.contains(told), "{errors}");
    assert!(errors.contains("`shiftcheck sweep` lists what is left of runs"), "{errors}");
}

#[test]
fn an_engine_that_hangs_is_an_error_of_the_environment_within_seconds() {
    let cases: [(&[&str], Option<&str>); 4] = [
        (&["run", "fixtures/canary"], None),
        (&["run", "fixtures/canary"], Some("1")),
        (&["run", "fixtures/canary", "--cluster", "k3s"], None),
        (&["sweep"], None),
    ];
    // each waits for five seconds
    std::thread::scope(|scope| {
        for (arguments, ci) in cases {
            scope.spawn(move || an_engine_that_hangs_is_told(arguments, ci));
        }
    });
}

fn an_engine_that_hangs_is_told(arguments: &[&str], ci: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    cache_with_images(folder.path(), &["1.31"]);
    let engine = Engine::silent(folder.path());
    let mut command = shiftcheck(arguments);
    command.env("SHIFTCHECK_CACHE", folder.path());
    command.env("DOCKER_HOST", engine.address()).env_remove("CI").env_remove("SHIFTCHECK_CLUSTER");
    if let Some(ci) = ci {
        command.env("CI", ci);
    }
    let start = Instant::now();
    let (printed, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(3), "{printed}{errors}");
    assert!(
        errors.contains("the Docker engine at unix://") && errors.contains("did not answer within 5 s"),
        "{errors}"
    );
    assert!(!printed.contains("embedded"), "{printed}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn an_embedded_run_says_so_first_and_last() {
    let (printed, _, code) = run(&["--until", "1"]);
    assert_eq!(code, Some(0), "{printed}");
    let says_so = "the embedded mesh, which checks your manifests, not an Istio release";
    let first = printed.lines().next().unwrap();
    assert!(first.contains(says_so), "{first}");
    let last = printed.lines().rfind(|line| line.starts_with("all stages passed")).unwrap();
    assert!(last.contains(says_so), "{last}");
}

/// Starts a run that takes minutes, sends it these signals at once, and tells how it ended.
fn signalled(command: &mut Command, signals: &[&str]) -> (String, String, Option<i32>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(60));
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    for name in signals {
        common::signal(name, &child);
    }
    said(&child.wait_with_output().unwrap())
}

#[rstest]
#[case::a_terminal_that_is_closed(&["-HUP"], 143)]
#[case::gnu_timeout(&["-TERM", "-TERM"], 143)]
#[case::ctrl_c_twice_at_once(&["-INT", "-INT", "-INT"], 130)]
fn signals_that_follow_each_other_at_once_are_one_call(#[case] signals: &[&str], #[case] expected: i32) {
    let own = shiftcheck(&[]);
    // tests that are run under `nohup` would pass on that SIGHUP is ignored
    let mut command = Command::new("env");
    command.arg("--default-signal=HUP").arg(own.get_program());
    command.args(["run", "fixtures/canary", "--cluster", "embedded", "--qps", "5"]).current_dir(common::ROOT);
    for (name, value) in own.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let (printed, errors, code) = signalled(&mut command, signals);
    assert_eq!(code, Some(expected), "{printed}{errors}");
    assert!(
        printed.contains("interrupted") && !errors.contains("stopped before the clean-up finished"),
        "{printed}{errors}"
    );
}

#[test]
fn a_run_under_nohup_goes_on_without_its_terminal() {
    let own = shiftcheck(&[]);
    let mut command = Command::new("sh");
    let script = format!(
        "trap '' HUP; exec {} run fixtures/canary --cluster embedded --qps 5",
        own.get_program().to_string_lossy()
    );
    command
        .args(["-c", &script])
        .current_dir(common::ROOT)
        .env("SHIFTCHECK_REPORT", tempfile::tempdir().unwrap().path());
    let (printed, _, code) = signalled(&mut command, &["-HUP", "-INT"]);
    assert_eq!(code, Some(130), "SIGHUP was heard: {printed}");
}

#[test]
fn an_upgrade_whose_reports_cannot_be_written_ends_before_it_starts() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = shiftcheck(&["upgrade", "fixtures/canary", "--from", "1.22", "--to", "1.31", "--report"]);
    let (printed, errors, code) = said(&command.arg(file.path()).output().unwrap());
    assert_eq!((code, printed.as_str()), (Some(3), ""), "{errors}");
    assert!(errors.contains("error: cannot write ") && errors.contains("--no-report"), "{errors}");
}

#[test]
fn verify_annotates_claims_and_adds_a_table_to_the_summary_in_github_actions() {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.md");
    let verify = |actions: bool| {
        let mut command = shiftcheck(&["verify", "fixtures/canary-pinned-selector"]);
        command.env("GITHUB_STEP_SUMMARY", if actions { summary.as_os_str() } else { "".as_ref() });
        said(&command.env("GITHUB_ACTIONS", if actions { "true" } else { "" }).output().unwrap())
    };
    let (printed, errors, code) = verify(true);
    assert_eq!(code, Some(1), "{printed}{errors}");
    let annotations: Vec<&str> = printed.lines().filter(|line| line.starts_with("::")).collect();
    insta::assert_snapshot!("annotations_of_verify", annotations.join("\n"));
    insta::assert_snapshot!("summary_of_verify", fs::read_to_string(&summary).unwrap());
    let (printed, _, _) = verify(false);
    assert!(!printed.contains("::error"), "{printed}");
}

#[test]
fn a_run_adds_a_table_to_the_summary_in_github_actions() {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary.md");
    fs::write(&summary, "before\n").unwrap();
    let mut command = shiftcheck(&["run", "--cluster", "embedded", "fixtures/canary-pinned-selector"]);
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", &summary);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    let text = fs::read_to_string(&summary).unwrap();
    let start = "before\n### ✗ canary-pinned-selector: stage 1 of 1 failed on the embedded mesh";
    assert!(text.starts_with(start), "{text}");
    let row = "| 1 testers' canary, selector pinned | everyone: v1 | ✓ passed | all 688 from v1;";
    assert!(text.contains("| stage | claim | result | reason |\n|---|---|---|---|\n") && text.contains(row), "{text}");
    assert!(text.contains("| ✗ failed | ") && text.contains("<br>because subset v2 "), "{text}");
}
