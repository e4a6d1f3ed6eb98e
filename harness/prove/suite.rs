//! Scenarios of one test program that share a throwaway cluster.

use std::collections::BTreeSet;
use std::fs::{File, create_dir_all};
use std::io;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use super::stages::NEXTEST_RUN;
use super::{Prover, cache, program};
use crate::cluster::{Owner, RunId, RunRecords};
use crate::scenario::Scenario;
use crate::venue::{SharedCluster, Throwaway};

/// A throwaway cluster, and the scenarios that share it.
#[derive(Debug)]
pub(super) struct Suite {
    pub cluster: Arc<SharedCluster>,
    /// The scenario files.
    sharing: BTreeSet<PathBuf>,
    /// The process with whose end the cluster is removed.
    owner: Owner,
}

/// One scenario of a program runs at a time. The next may begin when this is dropped.
pub(super) struct Turn {
    _file: File,
}

impl Prover {
    /// Uses one throwaway cluster for all of these scenarios, each in a namespace of its own, one at a time. Needs what
    /// [`throwaway`](Self::throwaway) needs.
    ///
    /// The first run starts the cluster. It is removed when this process has ended, also where it is killed; under cargo-nextest, which starts a
    /// process for each test, all processes share the cluster, and it is removed when nextest has ended. A scenario whose objects have effects
    /// outside of its namespace gets a cluster to itself, and so does a scenario that is not among these. [`reports`](Self::reports) writes a
    /// folder for each scenario, with the name of the scenario's folder.
    ///
    /// ```no_run
    /// use std::sync::LazyLock;
    /// use shiftcheck::prove::Prover;
    ///
    /// static PROVER: LazyLock<Prover> = LazyLock::new(|| Prover::suite(["rollouts/web", "rollouts/checkout"]));
    ///
    /// # async fn test() -> Result<(), shiftcheck::prove::ProveError> {
    /// // in one test of the program; another proves `rollouts/checkout`
    /// PROVER.prove("rollouts/web").await?.assert_passed();
    /// # Ok(())
    /// # }
    /// ```
    pub fn suite<P: AsRef<Path>>(scenarios: impl IntoIterator<Item = P>) -> Self {
        let (throwaway, cache) = (Throwaway::new(program()), cache());
        // what cannot be read is told when it is run
        let read = |path: P| Some((file_of(path.as_ref()), Scenario::read(path.as_ref()).ok()?));
        let read: Vec<(PathBuf, Scenario)> = scenarios.into_iter().filter_map(read).collect();
        let scenarios: Vec<&Scenario> = read.iter().map(|(_, scenario)| scenario).collect();
        let shared = SharedCluster::of(throwaway.clone(), &scenarios, &cache);
        let suite = shared.map(|(cluster, sharing)| {
            let (key, owner) = owner(&cache);
            let files = read.iter().zip(sharing).filter(|(_, shares)| *shares);
            Suite {
                cluster: Arc::new(cluster.known_as(RunId::of(&key), owner.clone())),
                sharing: files.map(|((file, _), _)| file.clone()).collect(),
                owner,
            }
        });
        Self { suite: suite.map(Arc::new), ..Self::on(throwaway) }
    }
}

impl Suite {
    /// Whether a scenario, given by its file or folder, shares the cluster.
    pub fn shares(&self, scenario: &Path) -> bool {
        self.sharing.contains(&file_of(scenario))
    }

    /// Waits until no other scenario of this program runs. Before the cluster is there, starts the process that removes it at the end.
    pub async fn turn(&self) -> io::Result<Turn> {
        let (locked, turn) = oneshot::channel();
        let path = cache().join("tests").join(name_of_program()).with_extension("suite");
        // the lock blocks, and the caller's runtime may have this thread alone
        thread::spawn(move || {
            // nobody waits any more: the lock ends here
            let _ = locked.send(lock(&path));
        });
        let file =
            turn.await.unwrap_or_else(|_| Err(io::Error::other("the thread that waits for a lock has ended")))?;
        if !RunRecords::new(&cache()).has(self.cluster.id()) {
            self.remove_at_the_end()?;
        }
        Ok(Turn { _file: file })
    }

    /// Starts a process that removes the cluster when its owner has ended. It belongs to no terminal's foreground, so that Ctrl-C leaves it alone.
    fn remove_at_the_end(&self) -> io::Result<()> {
        let mut sweep = Command::new(program());
        sweep.args(["sweep", "--run", self.cluster.id().as_str(), "--after", &self.owner.pid.to_string(), "--cache"]);
        sweep.arg(cache()).process_group(0);
        sweep.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        sweep.spawn().map(drop)
    }
}

/// The process that the cluster is for, and what its id follows from: this process, or cargo-nextest, which starts a process for each test.
fn owner(cache: &Path) -> (String, Owner) {
    let (run, pid) = match std::env::var(NEXTEST_RUN) {
        Ok(run) => (run, parent_id()),
        Err(_) => (String::new(), std::process::id()),
    };
    let owner = Owner::of(pid, cache);
    (format!("{} {run} {pid} {}", name_of_program(), owner.started), owner)
}

/// The name of this program's file.
fn name_of_program() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The file of a scenario that is given by its file or its folder.
fn file_of(scenario: &Path) -> PathBuf {
    let file = if scenario.is_dir() { scenario.join("scenario.yaml") } else { scenario.to_owned() };
    file.canonicalize().unwrap_or(file)
}

fn lock(path: &Path) -> io::Result<File> {
    create_dir_all(path.parent().unwrap_or(path))?;
    let file = File::create(path)?;
    // unlocked when the file is closed, or by the kernel if the process ends
    file.lock()?;
    Ok(file)
}
