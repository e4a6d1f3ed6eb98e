//! The program as a user starts it.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::expect_used, reason = "a test ends where its ground is not as it says")]

pub mod browser;
pub mod left_objects;
pub mod own_images;
pub mod page;
pub mod report;
pub mod schema;
pub mod server;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// The program.
pub const BINARY: &str = env!("CARGO_BIN_EXE_shiftcheck");
/// The repository.
pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A path for files of this process. Other processes with tests that run at the same time have other paths.
pub fn scratch(name: &str) -> PathBuf {
    static PROCESS: OnceLock<(usize, File)> = OnceLock::new();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let own = |number: usize| {
        let name = format!("{}-{number}.lock", env!("CARGO_CRATE_NAME"));
        let lock = File::create(folder.join(name)).expect("the folder can be written");
        lock.try_lock().is_ok().then_some((number, lock))
    };
    let (number, _) = PROCESS.get_or_init(|| (0..).find_map(own).expect("one of all numbers is free"));
    folder.join(format!("{}-{number}-{name}", env!("CARGO_CRATE_NAME")))
}

/// The program with these arguments, in the repository. Its reports are in no other one's way.
pub fn shiftcheck(arguments: &[&str]) -> Command {
    static REPORTS: AtomicUsize = AtomicUsize::new(0);
    let number = REPORTS.fetch_add(1, Ordering::Relaxed);
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(ROOT).env("NO_COLOR", "1");
    command.env("SHIFTCHECK_REPORT", scratch(&number.to_string()));
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

/// The longest time for which a test waits for a process. The process is killed after this time, and terminated if the test panics before. The
/// limit applies until this value is dropped.
#[must_use]
pub struct Deadline {
    id: String,
    /// Its end tells the thread that the process need not be ended.
    _held: Sender<()>,
}

impl Deadline {
    pub fn of(child: &Child, limit: Duration) -> Self {
        let (held, gone) = channel();
        let id = child.id().to_string();
        let process = id.clone();
        std::thread::spawn(move || {
            if gone.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &process]).status();
            }
        });
        Self { id, _held: held }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // on this signal a run removes its cluster
            let _ = Command::new("kill").args(["-TERM", &self.id]).status();
        }
    }
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
        replace(folder, file, from, to);
    }
}

/// Writes a bundled example into a folder and replaces a text in one of its files. Returns the path of the example.
pub fn example(folder: &Path, name: &str, file: &str, from: &str, to: &str) -> String {
    let path = folder.join(name);
    let path = path.to_str().expect("the path is text");
    let (_, errors, code) = said(&shiftcheck(&["init", "--example", name, path]).output().expect("it runs"));
    assert_eq!(code, Some(0), "{errors}");
    replace(Path::new(path), file, from, to);
    path.to_owned()
}

fn replace(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).expect("the file is there");
    assert!(text.contains(from), "{file} does not hold `{from}`");
    std::fs::write(&path, text.replacen(from, to, 1)).expect("the file can be written");
}
