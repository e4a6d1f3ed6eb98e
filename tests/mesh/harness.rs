//! Runs the tests of this binary, most of them one at a time, and ignores those that need more than `cargo test` can expect of a machine.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use shiftcheck::cluster::Docker;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{cache, remove_shared};
use crate::oracle::{VERSIONS, program};

/// What a test needs on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: the test always runs.
    Nothing,
    /// A container engine, and the image cache that `ci/images/build` fills.
    Engine,
    /// Chromium, which `ci/browser` installs.
    Chromium,
    /// istiod in process, which `ci/images/build oracle-1.31 oracle-1.22` builds.
    Oracle,
}

impl Needs {
    /// The kind of a test, as the list of tests shows it.
    const fn kind(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Engine => "needs a container engine",
            Self::Chromium => "needs Chromium",
            Self::Oracle => "needs the oracle",
        }
    }

    /// Fails where what the test needs is missing.
    fn check(self) -> Result<(), Failed> {
        match self {
            Self::Nothing | Self::Chromium => Ok(()),
            Self::Engine => engine().clone().map_err(Failed::from),
            Self::Oracle => oracle(),
        }
    }
}

/// Whether a container engine answers; asked once.
fn engine() -> &'static Result<(), String> {
    static ENGINE: OnceLock<Result<(), String>> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let answers = block_on(Docker::connect()).map(drop);
        answers.map_err(|error| format!("{error}\n\nhint: ci/engine starts a container engine"))
    })
}

/// Whether the oracle is there for each version of Istio.
fn oracle() -> Result<(), Failed> {
    match VERSIONS.iter().map(|version| program(version)).find(|program| !program.is_file()) {
        Some(program) => {
            Err(format!("no {}\n\nhint: ci/images/build oracle-1.31 oracle-1.22", program.display()).into())
        }
        None => Ok(()),
    }
}

/// Runs a future on a runtime that ends with it.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// Whether another test may run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairing {
    /// No: the test measures times, uses the shared cluster, or leaves a cluster that the start of any other run would sweep.
    Alone,
    /// Yes, another test of this kind: both raise clusters of their own, claim nothing about times, and send no traffic during changes of a mesh,
    /// which fills a core.
    Paired,
}

/// A test.
pub struct Test {
    pub name: &'static str,
    pub pairing: Pairing,
    pub run: fn(),
}

/// Tests of one file.
pub struct Module {
    pub name: &'static str,
    pub needs: Needs,
    pub tests: &'static [Test],
}

/// The table `TESTS` of a file: the name of each test function with its arguments, after the name of the case where there are several.
/// A function that is in no table is not used, and a table that [`main`] is not given is not used either: both are compiler warnings, which
/// `ci/test` denies.
macro_rules! tests {
    ($($name:ident $([$case:ident])? ($($argument:expr),* $(,)?) $(: $pairing:ident)?),* $(,)?) => {
        pub const TESTS: &[crate::harness::Test] = &[$(crate::harness::Test {
            name: concat!(stringify!($name) $(, "::", stringify!($case))?),
            pairing: {
                let pairings = [crate::harness::Pairing::Alone $(, crate::harness::Pairing::$pairing)?];
                pairings[pairings.len() - 1]
            },
            run: || $name($($argument),*),
        }),*];
    };
}
pub(crate) use tests;

/// How long each test took.
static TIMES: Mutex<Vec<(Duration, String)>> = Mutex::new(Vec::new());

/// The environment variable with the folder of the locks by which tests take turns [default: the cache folder].
pub const TURNS: &str = "SHIFTCHECK_TEST_TURNS";

/// Waits until a test may run, and keeps the other tests of this process and of other processes waiting until the locks are dropped. Tests
/// that run alone lock both files, paired tests lock one. The kernel unlocks the files of a process that was killed.
///
/// A test that needs nothing takes turns only in a folder that [`TURNS`] names.
fn turn(needs: Needs, pairing: Pairing) -> Vec<File> {
    let folder = match std::env::var_os(TURNS) {
        Some(folder) => PathBuf::from(folder),
        None if needs == Needs::Nothing => return Vec::new(),
        None => cache(),
    };
    std::fs::create_dir_all(&folder).unwrap();
    let mut locks: Vec<File> =
        ["tests-1.lock", "tests-2.lock"].map(|name| File::create(folder.join(name)).unwrap()).into();
    if pairing == Pairing::Alone {
        for lock in &locks {
            lock.lock().unwrap();
        }
        return locks;
    }
    let is_free = |lock: &File| match lock.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => panic!("cannot lock a file in {}: {error}", folder.display()),
    };
    loop {
        if let Some(free) = locks.iter().position(is_free) {
            return vec![locks.swap_remove(free)];
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs the tests that the arguments of the process ask for, two at a time where both are [`Pairing::Paired`], else one at a time.
///
/// Where `CI` is set every test runs, and fails where what it needs is missing. Elsewhere tests that need something are ignored, unless
/// `--include-ignored` or `--ignored` is given.
pub fn main(modules: &[Module]) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(2);
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    let mut trials = Vec::new();
    for module in modules {
        let needs = module.needs;
        for test in module.tests {
            let (name, run, pairing) = (format!("{}::{}", module.name, test.name), test.run, test.pairing);
            let timed = name.clone();
            let runner = move || {
                needs.check()?;
                let _turn = turn(needs, pairing);
                let start = Instant::now();
                let outcome = std::panic::catch_unwind(run);
                TIMES.lock().unwrap_or_else(PoisonError::into_inner).push((start.elapsed(), timed));
                outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                Ok(())
            };
            let ignored = needs != Needs::Nothing && !in_ci;
            trials.push(Trial::test(name, runner).with_kind(needs.kind()).with_ignored_flag(ignored));
        }
    }
    if !(in_ci || arguments.include_ignored || arguments.ignored || arguments.list) {
        eprintln!(
            "\nTests that need a container engine or Chromium are ignored; `ci/test` runs them, or, where both are installed, \
             `cargo test --test mesh -- --include-ignored`"
        );
    }
    remove_when_interrupted();
    let conclusion = libtest_mimic::run(&arguments, trials);
    while INTERRUPTED.load(Ordering::Relaxed) {
        // the thread that removes the cluster ends the process
        std::thread::park();
    }
    remove_shared();
    tell_times();
    conclusion.exit_code()
}

/// Whether a signal has asked for the end: the test that is under way loses its cluster then.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Removes the shared cluster and ends the process when a signal asks for the end.
fn remove_when_interrupted() {
    std::thread::spawn(|| {
        let code = block_on(async {
            let mut hangup = signal(SignalKind::hangup()).unwrap();
            let mut interrupt = signal(SignalKind::interrupt()).unwrap();
            let mut terminate = signal(SignalKind::terminate()).unwrap();
            tokio::select! {
                _ = hangup.recv() => 129,
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
        remove_shared();
        #[expect(clippy::exit, reason = "the test that runs on another thread cannot be told")]
        std::process::exit(code);
    });
}

/// Appends the seconds of each test to the file that `SHIFTCHECK_TEST_TIMES` names, where it is set.
fn tell_times() {
    let Some(path) = std::env::var_os("SHIFTCHECK_TEST_TIMES") else { return };
    let times = TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    let lines: Vec<String> = times.iter().map(|(took, name)| format!("{:.1} {name}\n", took.as_secs_f64())).collect();
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(lines.concat().as_bytes()));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
