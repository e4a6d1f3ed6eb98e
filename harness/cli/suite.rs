//! Several scenarios in one `run`: those that can share a throwaway cluster do, each in a namespace of its own.

use std::cell::Cell;
use std::io::{Write, stdout};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;

use super::advice::{self, Failure};
use super::args::{ClusterKind, RunArgs};
use super::discovery;
use super::execute::Place;
use super::exit::ExitCode;
use super::nodes;
use super::options::{cluster_of, throwaway_of};
use super::process::{When, reproduce};
use super::single;
use crate::report::{Live, Report};
use crate::scenario::Scenario;
use crate::session::{Interrupt, SessionError};
use crate::venue::SharedCluster;

/// The scenarios of a suite and their results so far.
struct Suite<'a> {
    args: &'a RunArgs,
    scenarios: &'a [PathBuf],
    /// The names of the folders of their reports.
    names: Vec<String>,
    live: Option<&'a Live>,
    interrupt: Interrupt,
    /// The exit code of each; none for a scenario that was not run.
    codes: Vec<Cell<Option<ExitCode>>>,
}

/// Runs scenarios and prints a line of each at the end.
pub(super) async fn run(args: &RunArgs, scenarios: &[PathBuf], live: Option<&Live>, interrupt: &Interrupt) -> ExitCode {
    let suite = Suite {
        args,
        scenarios,
        names: discovery::names(scenarios),
        live,
        interrupt: interrupt.clone(),
        codes: vec![Cell::new(None); scenarios.len()],
    };
    let (cluster, sharing) = match suite.shared() {
        Ok(shared) => shared,
        Err(failure) => {
            advice::print(&failure);
            return failure.code;
        }
    };
    if let Err(failure) = suite.begin() {
        advice::print(&failure);
        return failure.code;
    }
    let (together, alone): (Vec<usize>, Vec<usize>) = (0..scenarios.len()).partition(|number| sharing[*number]);
    let mut worst = ExitCode::Pass;
    if let Some(cluster) = cluster {
        let place = Place::Shared(&args.walk, &cluster);
        // the live page shows one at a time
        let jobs = args.jobs.map_or_else(|| if live.is_some() { 1 } else { cores() }, usize::from);
        let when = if jobs > 1 { When::AtTheEnd } else { When::AtOnce };
        let runs = together.iter().map(|number| suite.one(*number, place, when));
        stream::iter(runs).buffer_unordered(jobs).collect::<Vec<()>>().await;
        worst = end(&cluster).await;
    }
    for number in alone {
        suite.one(number, Place::Of(&args.walk), When::AtOnce).await;
    }
    let codes: Vec<Option<ExitCode>> = suite.codes.iter().map(Cell::get).collect();
    if let Err(failure) = suite.publish() {
        advice::print(&failure);
        worst = worst.worst(failure.code);
    }
    discovery::summarize(scenarios, &codes);
    codes.into_iter().flatten().fold(worst, ExitCode::worst)
}

/// The number of cores, within the bounds of `--jobs`.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).min(16)
}

/// Removes the cluster that scenarios have shared.
async fn end(cluster: &SharedCluster) -> ExitCode {
    match cluster.end().await {
        Ok(false) => ExitCode::Pass,
        Ok(true) => {
            // a closed pipe is not an error
            let _ = writeln!(
                stdout(),
                "\nthe shared cluster is kept; `shiftcheck sweep --run {}` removes it",
                cluster.id()
            );
            ExitCode::Pass
        }
        Err(left) => {
            advice::print(&Failure::of(&SessionError::LeftBehind { left, after: None }));
            ExitCode::Environment
        }
    }
}

impl Suite<'_> {
    /// Marks the reports of all scenarios as unfinished: the report of an earlier run must not be taken for that of a scenario that is not run.
    fn begin(&self) -> Result<(), Failure> {
        let Some(folder) = single::folder(self.args) else { return Ok(()) };
        let mut earlier = self.names.iter().map(|name| folder.join(name)).filter(|folder| Report::is_in(folder));
        let begin = |folder: PathBuf| Report::begin(&folder, self.args.junit, reproduce());
        earlier.try_for_each(begin).map_err(|error| Failure::unwritable(&error))
    }

    /// Writes the page and the `JUnit` file of all scenarios.
    fn publish(&self) -> Result<(), Failure> {
        let Some(folder) = single::folder(self.args) else { return Ok(()) };
        Report::write_suite(&folder, &self.names, self.args.junit).map_err(|error| Failure::unwritable(&error))?;
        // a closed pipe is not an error
        let _ = writeln!(stdout(), "\nreport: {}", folder.join("index.html").display());
        Ok(())
    }

    /// The cluster that scenarios share, if there is one, and which of them share it.
    fn shared(&self) -> Result<(Option<Arc<SharedCluster>>, Vec<bool>), Failure> {
        let none = vec![false; self.scenarios.len()];
        if cluster_of(&self.args.walk) != ClusterKind::K3s {
            return Ok((None, none));
        }
        // what cannot be read is told when its turn comes
        let read: Vec<Option<Scenario>> = self.scenarios.iter().map(|path| Scenario::read(path).ok()).collect();
        let readable: Vec<&Scenario> = read.iter().flatten().collect();
        let asked = self.args.walk.throwaway.nodes;
        readable.iter().try_for_each(|scenario| nodes::enough(asked, scenario))?;
        let throwaway = throwaway_of(&self.args.walk)?;
        Ok(match SharedCluster::of(throwaway, &readable, &self.args.walk.cache.folder) {
            Some((cluster, sharing)) => {
                let mut sharing = sharing.into_iter();
                let shares = |own: &Option<Scenario>| own.is_some() && sharing.next().unwrap_or(false);
                (Some(Arc::new(cluster)), read.iter().map(shares).collect())
            }
            None => (None, none),
        })
    }

    /// Runs a scenario, unless the suite has ended.
    async fn one(&self, number: usize, place: Place<'_>, when: When) {
        if !discovery::continues(self.codes.iter().filter_map(Cell::get), self.args.several.no_fail_fast) {
            return;
        }
        let scenario = (Some(self.scenarios[number].as_path()), Some(self.names[number].as_str()));
        let code = Box::pin(single::run(self.args, scenario, place, when, self.live, self.interrupt.clone())).await;
        self.codes[number].set(Some(code));
    }
}
