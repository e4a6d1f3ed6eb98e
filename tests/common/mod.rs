//! The program as a user starts it, and what is in the engine.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::expect_used, reason = "a test ends where its ground is not as it says")]

pub mod server;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_shiftcheck");
/// The repository.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The program with these arguments, in the repository. Its reports are in no other one's way.
pub fn shiftcheck(arguments: &[&str]) -> Command {
    static REPORTS: AtomicUsize = AtomicUsize::new(0);
    let number = REPORTS.fetch_add(1, Ordering::Relaxed);
    let report = format!("{}/{}-{number}", env!("CARGO_TARGET_TMPDIR"), env!("CARGO_CRATE_NAME"));
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(ROOT).env("NO_COLOR", "1").env("SHIFTCHECK_REPORT", report);
    command
}

/// What the program says on stdout and stderr, and its exit code.
pub fn said(output: &Output) -> (String, String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}

/// Sends a signal to a process.
pub fn signal(name: &str, child: &Child) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().expect("kill is there");
    assert!(sent.success());
}

/// Ends a process for which a test waits in vain, so that the test fails and does not hang. Held for as long as it counts.
#[must_use]
pub struct Deadline(
    #[expect(dead_code, reason = "its end tells the thread that the process need not be ended")] Sender<()>,
);

impl Deadline {
    pub fn of(child: &Child, limit: Duration) -> Self {
        let (held, gone) = channel();
        let id = child.id().to_string();
        std::thread::spawn(move || {
            if gone.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        Self(held)
    }
}

/// The ids of the containers that a run has made.
pub fn containers(run: &str) -> Vec<String> {
    docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("label=shiftcheck.dev/run={run}")])
}

/// The anonymous volumes of these containers.
pub fn volumes(containers: &[String]) -> Vec<String> {
    let template = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}}\n{{end}}{{end}}";
    containers.iter().flat_map(|id| docker(&["inspect", "--format", template, id])).collect()
}

/// Whether the engine still has a volume.
pub fn has_volume(name: &str) -> bool {
    docker(&["volume", "ls", "-q"]).iter().any(|volume| volume == name)
}

/// The lines that the engine's client prints.
pub fn docker(arguments: &[&str]) -> Vec<String> {
    let output = Command::new("docker").args(arguments).output().expect("docker is on the PATH");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}

/// The id of the run that printed this.
pub fn run_id(printed: &str) -> String {
    let (_, rest) = printed.split_once(", run ").expect("the first line names the run");
    rest.lines().next().unwrap_or_default().to_owned()
}

/// Copies the canary fixture to a folder, where a test may spoil it.
pub fn spoilt(folder: &Path, spoil: &[(&str, &str, &str)]) {
    for entry in std::fs::read_dir(Path::new(ROOT).join("fixtures/canary")).expect("the fixture is there").flatten() {
        std::fs::copy(entry.path(), folder.join(entry.file_name())).expect("the folder can be written");
    }
    for (file, from, to) in spoil {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).expect("the file is there");
        assert!(text.contains(from), "{file} does not hold `{from}`");
        std::fs::write(&path, text.replacen(from, to, 1)).expect("the file can be written");
    }
}

/// Only one test at a time has a cluster: two would share two cores.
pub static CLUSTER: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// A cluster that a run has left on purpose, removed at the end of the test.
pub struct Kept {
    pub run: String,
    pub kubeconfig: PathBuf,
}

impl Kept {
    /// Walks the smallest scenario there is and keeps its cluster.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        spoilt(folder.path(), &[]);
        let scenario = folder.path().join("smallest.yaml");
        let text = std::fs::read_to_string(folder.path().join("scenario.yaml")).expect("the file is there");
        let (head, _) = text.split_once("stages:").expect("it has stages");
        std::fs::write(&scenario, format!("{head}stages:\n  - name: nothing\n")).expect("the folder can be written");
        Self::by(&scenario.to_string_lossy()).0
    }

    /// Walks a scenario that has to hold, and keeps its cluster; with what was said.
    pub fn by(scenario: &str) -> (Self, String) {
        let output = shiftcheck(&["run", scenario, "--keep", "always"]).output().expect("it runs");
        let (printed, errors, code) = said(&output);
        assert_eq!(code, Some(0), "{printed}\n{errors}");
        let (_, rest) = printed.split_once("export KUBECONFIG=").expect("it tells how to look");
        let kubeconfig = PathBuf::from(rest.lines().next().unwrap_or_default());
        (Self { run: run_id(&printed), kubeconfig }, printed)
    }

    /// A command on it: `run`, with a scenario.
    pub fn on(&self, command: &str, scenario: &Path, more: &[&str]) -> (String, String, Option<i32>) {
        let (kubeconfig, scenario) = (self.kubeconfig.to_string_lossy(), scenario.to_string_lossy());
        let mut arguments = vec![command, &scenario, "--cluster", "kubeconfig", "--kubeconfig", &kubeconfig];
        arguments.extend(more);
        said(&shiftcheck(&arguments).output().expect("it runs"))
    }

    /// Has it removed.
    pub fn remove(self) {
        let run = self.run.clone();
        drop(self);
        assert_eq!(containers(&run), [""; 0], "something is left behind");
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = shiftcheck(&["sweep", "--run", &self.run]).status();
    }
}
