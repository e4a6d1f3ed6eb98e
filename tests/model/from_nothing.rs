//! The scripts that make a machine ready: what is missing is said up front, and a build that is stopped goes on from what it has done.
//! Recipes, engine and compiler are replaced, so no Docker is needed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;

use crate::common::{Deadline, ROOT, said, signal};

const LIMIT: Duration = Duration::from_secs(60);
const SETS: [&str; 4] = ["node", "istio-1.31", "istio-1.22", "gateway-api"];
/// What every Debian system has.
const BASE: [&str; 23] = [
    "awk",
    "bash",
    "cat",
    "cut",
    "date",
    "df",
    "dirname",
    "env",
    "find",
    "getconf",
    "grep",
    "gzip",
    "head",
    "id",
    "paste",
    "readlink",
    "sed",
    "sha256sum",
    "sort",
    "tail",
    "timeout",
    "uname",
    "xargs",
];

/// A machine: programs on its PATH, a cache and recipes.
pub struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin", "cache", "recipes"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    /// A machine that has nothing but `BASE`.
    fn bare() -> Self {
        let machine = Self::new();
        for name in BASE {
            let path = std::env::var_os("PATH").unwrap();
            let program = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
            let program = program.unwrap_or_else(|| panic!("{name} is not on the PATH"));
            symlink(program, machine.path("bin").join(name)).unwrap();
        }
        machine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn program(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, format!("#!/bin/bash\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// An engine that answers and has every image.
    fn engine(&self) {
        self.program("docker", "exit 0");
        self.program("jq", "echo ready");
    }

    pub fn recipe(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path("recipes").join(name)).unwrap();
        fs::write(self.path("recipes").join(name).join("recipe"), text).unwrap();
    }

    /// A script of `ci`, with the recipes of this machine; `only` its own programs, or those of the real one as well.
    pub fn script(&self, script: &str, arguments: &[&str], only: bool) -> Command {
        let mut path = vec![self.path("bin")];
        if !only {
            path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap()));
        }
        // a shell cannot handle a signal that it was started to ignore, as in the background of another shell
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,TERM").arg(Path::new(ROOT).join("ci").join(script));
        command.args(arguments).env("PATH", std::env::join_paths(path).unwrap());
        command.env("SHIFTCHECK_CACHE", self.path("cache")).env("SHIFTCHECK_RECIPES", self.path("recipes"));
        command.env("LOG", self.path("log")).env("HOME", self.folder.path());
        for name in ["DOCKER_HOST", "SHIFTCHECK_IMAGES", "SHIFTCHECK_REGISTRY", "CARGO_TARGET_DIR", "GOFLAGS"] {
            command.env_remove(name);
        }
        command
    }

    fn check(&self, arguments: &[&str], recipes: bool) -> (String, Option<i32>) {
        let mut command = self.script("check", arguments, true);
        if !recipes {
            command.env_remove("SHIFTCHECK_RECIPES");
        }
        let (printed, errors, code) = said(&command.output().unwrap());
        assert_eq!(printed, "");
        (errors, code)
    }

    /// The names in the cache's folder of parts.
    pub fn parts(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("cache/parts")).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What was made, sorted.
    pub fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    }
}

fn listed(errors: &str) -> Vec<&str> {
    errors.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' ')).collect()
}

#[test]
fn everything_that_is_missing_is_listed_at_once_with_what_installs_it() {
    let machine = Machine::bare();
    machine.program("id", "echo 1000");
    machine.program("df", "echo Filesystem Avail; echo /dev/small 900M");
    machine.program("getconf", "case $1 in PAGE_SIZE) echo 4096 ;; *) echo 262144 ;; esac");
    machine.program("uname", "case $1 in -m) echo riscv64 ;; *) echo 0.0 ;; esac");
    let arguments = [&["--compile", "--browser", "--from", "source"], SETS.as_slice()].concat();
    let (errors, code) = machine.check(&arguments, false);
    assert_eq!(code, Some(3), "{errors}");
    let lines = listed(&errors);
    let wanted = [
        "Rust 1.90 or newer, with cargo: not on the PATH",
        "a C compiler: `cc` is not on the PATH",
        "a Docker engine: none is installed, and this is not a Debian system",
        "Go 1.26.",
        "Python 3 with pip: it downloads Envoy",
        "an x86_64 machine: this is riscv64",
        "jq debootstrap chromium: not on the PATH, and this is not a Debian system",
        "root, or sudo without a password: ",
        "memory: 1024 MB of 6000 MB",
        "disk: 900 MB are free of the ",
    ];
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.starts_with(wanted), "{line}\n{wanted}\n{errors}");
    }
    assert_eq!(lines.len(), wanted.len(), "{errors}");
    assert!(errors.starts_with("error: this machine lacks 10 things"), "{errors}");
    let commands = errors.lines().filter(|line| line.starts_with("      ")).count();
    assert_eq!(commands, wanted.len(), "each says what installs it: {errors}");

    // a Debian system: what apt-get can install is installed when it is needed, which takes root
    machine.program("apt-get", "exit 1");
    let (errors, code) = machine.check(&arguments, false);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("sudo apt-get install -y python3 python3-pip"), "{errors}");
    let root = "  root, or sudo without a password: starting a Docker engine, installing jq debootstrap chromium, building the node image";
    assert!(errors.lines().any(|line| line == root), "{errors}");
    assert!(!errors.contains("not a Debian system"), "{errors}");
}

/// The kernel's options are some 200 KB, more than a pipe holds: a check that stops reading at the first match must not take the broken pipe
/// of what it reads from for a missing option.
#[test]
fn a_kernel_with_iptables_is_seen_wherever_the_option_stands() {
    let options = Path::new("/proc/config.gz").exists()
        || fs::read_dir("/boot").is_ok_and(|mut entries| {
            entries.any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("config-"))
        });
    assert!(options || std::env::var_os("CI").is_none(), "no file of the kernel's options, so that nothing is checked");
    let machine = Machine::bare();
    machine.program("apt-get", "exit 1");
    machine.program("id", "echo 0");
    machine.program("df", "echo Filesystem Avail; echo /dev/large 900000M");
    machine.recipe("node", "title=node\ntakes=\"1 s\"\nmake() { :; }\n");
    let lacking = |kernel: &str| {
        let long = format!("{kernel}; for ((line = 0; line < 20000; line++)); do echo CONFIG_OPTION_$line=y; done");
        machine.program("gzip", &long);
        let (errors, _) = machine.check(&["--from", "source", "node"], true);
        listed(&errors).contains(&"a kernel with iptables")
    };
    assert!(!lacking("echo CONFIG_NF_TABLES=y"));
    assert!(!lacking("echo CONFIG_IP_NF_IPTABLES=m"));
    assert_eq!(lacking("echo '# CONFIG_NF_TABLES is not set'"), options);
}

/// `a | grep -q b` fails with pipefail where `a` still writes after the match: a matter of chance.
#[test]
fn no_script_stops_reading_from_a_pipe_at_the_first_match() {
    let mut folders = vec![Path::new(ROOT).join("ci")];
    let mut scripts = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            if !text.contains("pipefail") && !text.contains("shell=bash") {
                continue;
            }
            scripts += 1;
            for line in text.lines() {
                // a program of its own in a container has no pipefail
                let line = line.split("sh -c '").next().unwrap().replace("||", "or");
                let quiet = line.split('|').skip(1).map(str::trim_start).any(|command| {
                    let mut words = command.split(' ');
                    words.next() == Some("grep")
                        && words.next().is_some_and(|flags| flags.starts_with('-') && flags.contains('q'))
                });
                assert!(!quiet, "{}: {line}", path.display());
            }
        }
    }
    assert!(scripts > 10, "only {scripts} scripts were read");
}

#[test]
fn tools_that_are_too_old_are_missing() {
    let machine = Machine::bare();
    machine.engine();
    for (name, body) in [
        ("cc", ""),
        ("cargo", ""),
        ("rustc", "echo 'rustc 1.89.0 (29483883e 2025-08-04)'"),
        ("go", "case $2 in GOVERSION) echo go1.9.7 ;; *) echo / ;; esac"),
        ("python3", "echo No module named pip >&2; exit 1"),
        ("apt-get", "exit 1"),
        ("sudo", "exit 0"),
        ("debootstrap", ""),
    ] {
        machine.program(name, body);
    }
    machine.program("df", "echo Filesystem Avail; echo /dev/large 900000M");
    machine.program("getconf", "case $1 in PAGE_SIZE) echo 4096 ;; *) echo 8388608 ;; esac");
    let (errors, code) = machine.check(&["--compile", "--from", "source", "node", "istio-1.31"], false);
    assert_eq!(code, Some(3), "{errors}");
    let lines = listed(&errors);
    assert_eq!(lines.len(), 3, "{errors}");
    assert_eq!(lines[0], "Rust 1.90 or newer: rustc is 1.89.0");
    assert!(errors.contains("      rustup update stable\n"), "{errors}");
    assert!(lines[1].starts_with("Go 1.26.") && lines[1].contains("(found: 1.9.7)"), "{errors}");
    assert_eq!(lines[2], "pip for Python 3: it downloads Envoy");
}

#[test]
fn what_is_in_the_cache_needs_no_compiler() {
    let machine = Machine::bare();
    machine.engine();
    machine.recipe("node", "title=node\ntakes=\"1 s\"\nmake() { :; }\n");
    fs::write(machine.path("recipes/node/go.mod"), "module node\n\ngo 1.26.3\n").unwrap();
    let arguments = ["--from", "source", "node"];
    let (errors, code) = machine.check(&arguments, true);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("  Go 1.26.3 or newer: it compiles node\n"), "{errors}");

    let of_part = ". ci/lib.sh; . ci/images/recipes.sh; part_dir node";
    let mut command = Command::new("bash");
    command.args(["-c", of_part]).current_dir(ROOT);
    command.env("SHIFTCHECK_CACHE", machine.path("cache")).env("SHIFTCHECK_RECIPES", machine.path("recipes"));
    let (folder, errors, _) = said(&command.output().unwrap());
    assert!(folder.contains("/parts/node-"), "{folder}{errors}");
    fs::create_dir_all(folder.trim()).unwrap();
    let (errors, code) = machine.check(&arguments, true);
    assert_eq!((errors.as_str(), code), ("", Some(0)));

    // another recipe is another part
    fs::write(machine.path("recipes/node/main.go"), "package main\n").unwrap();
    assert_eq!(machine.check(&arguments, true).1, Some(3));
}

/// Starts a build of the set `node`, which needs `first` and `second`; and `second` waits for a file.
fn started(machine: &Machine, arguments: &[&str]) -> (Child, impl Iterator<Item = String> + use<>) {
    let arguments = [&["--from", "source"], arguments, &["node"]].concat();
    let mut command = machine.script("images/build", &arguments, false);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

fn three_parts() -> Machine {
    let machine = Machine::new();
    machine.engine();
    machine
        .recipe("first", "title='the first'\ntakes='1 s'\nmake() { echo first >> \"$LOG\"; touch \"$out/file\"; }\n");
    let second = "title='the second'\ntakes='2 min'\nmake() {\n  touch \"$out/half\"\n  echo second >> \"$LOG\"\n  sleep 300 & echo $! > \"$LOG.sleeper\"\n  \
                  while [ ! -e \"$LOG.go\" ]; do sleep 0.1; done\n  kill $!\n}\n";
    machine.recipe("second", second);
    let node = "title='the node'\ntakes='10 s'\nparts='first second'\nmake() {\n  echo node >> \"$LOG\"\n  \
                ls \"$(part_dir first)\" \"$(part_dir second)\"\n  echo '{\"source\":\"built\",\"tag\":\"t\",\"image\":\"i\"}' > \"$out/set.json\"\n}\n";
    machine.recipe("node", node);
    machine
}

fn is_alive(process: &str) -> bool {
    // a zombie has ended
    let status = fs::read_to_string(format!("/proc/{}/stat", process.trim())).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

/// A build of which the first part is done and the second is begun.
fn half_built(machine: &Machine) -> Child {
    let (child, mut lines) = started(machine, &[]);
    assert!(lines.any(|line| line.contains("build: the first: done in ")), "no line says that the first part is done");
    let start = Instant::now();
    while !machine.path("log.sleeper").exists() {
        assert!(start.elapsed() < LIMIT, "the second part does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::spawn(move || lines.count());
    child
}

fn built_on(machine: &Machine) -> Vec<String> {
    fs::write(machine.path("log.go"), "").unwrap();
    let (mut child, lines) = started(machine, &[]);
    let _deadline = Deadline::of(&child, LIMIT);
    let lines: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{lines:#?}");
    assert!(machine.path("cache/images/node/set.json").is_file());
    lines
}

#[test]
fn a_build_that_is_interrupted_goes_on_from_the_parts_that_are_done() {
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let machine = three_parts();
        let mut child = half_built(&machine);
        let _deadline = Deadline::of(&child, LIMIT);
        let start = Instant::now();
        signal(name, &child);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(start.elapsed() < Duration::from_secs(8), "it ends at once");
        assert!(matches!(machine.parts().as_slice(), [first] if first.starts_with("first-")), "{:?}", machine.parts());
        assert!(!machine.path("cache/images/node").exists());
        let sleeper = fs::read_to_string(machine.path("log.sleeper")).unwrap();
        assert!(!is_alive(&sleeper), "a process of the build is left");

        built_on(&machine);
        assert_eq!(machine.log(), ["first", "node", "second", "second"], "{name}");
        assert_eq!(machine.parts().len(), 3);
        built_on(&machine);
        assert_eq!(machine.log().len(), 4, "nothing is built twice");
    }
}

#[test]
fn what_a_killed_build_has_left_is_not_taken_and_is_removed() {
    let machine = three_parts();
    let mut child = half_built(&machine);
    signal("-KILL", &child);
    child.wait().unwrap();
    assert!(machine.parts().iter().any(|name| name.starts_with(".second.")), "{:?}", machine.parts());
    // a power cut would have ended the job as well
    let sleeper = fs::read_to_string(machine.path("log.sleeper")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", sleeper.trim())).unwrap();
    let group = stat.rsplit(") ").next().unwrap().split(' ').nth(2).unwrap().to_owned();
    let killed = Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).status().unwrap();
    assert!(killed.success());
    let lines = built_on(&machine);
    assert_eq!(machine.parts().len(), 3, "{:?} {lines:#?}", machine.parts());
    assert_eq!(machine.log(), ["first", "node", "second", "second"]);
}

#[test]
fn progress_says_what_is_built_how_long_it_took_and_what_is_left() {
    let machine = three_parts();
    machine.program("cargo", "echo cargo >> \"$LOG\"; sleep 1");
    fs::write(machine.path("log.go"), "").unwrap();
    let (mut child, lines) = started(&machine, &["--compile"]);
    let _deadline = Deadline::of(&child, LIMIT);
    let lines: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{lines:#?}");
    let after = |part: &str, word: &str| {
        let start = format!("build: {part}: {word}");
        let found =
            lines.iter().filter_map(|line| line.split_once(&start)).map(|(_, rest)| rest.trim()).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{start} {lines:#?}");
        found[0].to_owned()
    };
    for (part, takes) in [
        ("the first", "about 1 s"),
        ("the second", "about 2 min"),
        ("the node", "about 10 s"),
        ("shiftcheck itself", "about 3 min"),
    ] {
        assert_eq!(after(part, "started,"), format!("takes {takes} alone"));
        assert!(after(part, "done in").contains(" of 4 parts"), "{lines:#?}");
    }
    assert_eq!(lines.iter().filter(|line| line.ends_with("4 of 4 parts")).count(), 1, "{lines:#?}");
    assert!(after("the first", "done in").contains(" left"), "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains('\r') && !line.contains('\u{1b}')), "plain text: {lines:#?}");
    assert!(machine.log().contains(&"cargo".to_owned()));
}

#[test]
fn a_part_that_cannot_be_built_ends_the_build_with_the_end_of_its_log() {
    let machine = three_parts();
    machine.recipe(
        "first",
        "title='the first'\ntakes='1 s'\nmake() { echo no such module >&2; false; touch \"$out/file\"; }\n",
    );
    let mut command = machine.script("images/build", &["--from", "source", "node"], false);
    let (_, errors, code) = said(&command.output().unwrap());
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("no such module\nerror: could not build first\n"), "{errors}");
    assert_eq!(machine.parts(), [""; 0]);
}

/// Parts that share packages are compiled in sequence, so that the shared packages are compiled once.
#[rstest]
#[case::follows("follows='first'\n", true)]
#[case::does_not_follow("", false)]
#[case::follows_a_part_that_is_not_built("follows='other'\n", false)]
fn a_part_is_built_after_the_one_that_it_follows(#[case] follows: &str, #[case] after: bool) {
    let machine = three_parts();
    machine.recipe("first", "title='the first'\ntakes='1 s'\nmake() { sleep 1; touch \"$out/file\"; }\n");
    machine
        .recipe("second", &format!("title='the second'\ntakes='2 min'\n{follows}make() {{ touch \"$out/file\"; }}\n"));
    machine.recipe("other", "title='another'\ntakes='1 s'\nmake() { touch \"$out/file\"; }\n");
    let lines = built_on(&machine);
    let place = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap();
    let (first, second) = (place("build: the first: done in "), place("build: the second: started"));
    assert_eq!(first < second, after, "{lines:#?}");
}

#[test]
fn a_part_is_made_anew_where_what_its_recipe_calls_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(Path::new(ROOT).join("ci")).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    let hash = || {
        let script = ". ci/lib.sh; . ci/images/recipes.sh; recipe_hash istio-1.31";
        let (printed, errors, _) =
            said(&Command::new("bash").current_dir(folder.path()).args(["-c", script]).output().unwrap());
        assert_eq!(printed.trim().len(), 16, "{errors}");
        printed
    };
    let before = hash();
    assert_eq!(hash(), before);
    let called = folder.path().join("ci/images/make.sh");
    let text = fs::read_to_string(&called).unwrap();
    fs::write(&called, text.replace("-trimpath", "-race")).unwrap();
    assert_ne!(hash(), before);
}

#[test]
fn whoever_starts_the_engine_by_sudo_can_use_its_socket() {
    let machine = Machine::new();
    machine.program("id", "case $1 in -u) echo 1000 ;; -gn) echo builders ;; esac");
    machine.program("sudo", "shift; exec \"$@\"");
    for name in ["mkdir", "tee"] {
        machine.program(name, "exit 0");
    }
    machine.program("dpkg-query", "echo 'install ok installed'");
    machine.program("dockerd", "echo \"$@\" > \"$LOG\"");
    machine.program("docker", "[ -e \"$LOG\" ]");
    machine.program("jq", "echo '{}'");
    machine.program("sh", "exec bash \"$1\" \"$(printf %s \"$2\" | sed 's|/var/lib/[^ ]*dockerd.log|/dev/null|')\"");
    let (_, errors, code) = said(&machine.script("engine", &[], false).output().unwrap());
    assert_eq!(code, Some(0), "{errors}");
    let log = machine.log().concat();
    assert!(log.contains("--group builders"), "{log}");
}
