//! Does anything add up? Walks a scenario again and again in one process, and compares memory and open files at the end with those after the
//! first tenth. Exits with 1 where a walk does not pass, or where something grows: `ci/soak`.
//!
//! Arguments: `embedded|throwaway WALKS`.

#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs, reason = "a benchmark prints and ends")]

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use shiftcheck::cluster::{Keep, default_cache};
use shiftcheck::events::Events;
use shiftcheck::scenario::Scenario;
use shiftcheck::session::{Ending, Options, Pause, run};
use shiftcheck::traffic::DriverOptions;
use shiftcheck::venue::{Embedded, Throwaway, Venue};

const CANARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary");
/// How much memory may grow from the first tenth of the walks on: allocators keep some of it.
const MOST_GROWTH: f64 = 1.2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [venue, walks] = arguments.as_slice() else {
        println!("usage: embedded|throwaway WALKS");
        return ExitCode::from(2);
    };
    let walks: u32 = walks.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (start, mut failed, mut early) = (Instant::now(), 0, None);
    for walk in 1..=walks {
        let ending = runtime.block_on(walked(venue));
        if ending != Some(Ending::Passed) {
            failed += 1;
            println!("walk {walk} did not pass: {ending:?}");
        }
        if walk == (walks / 10).max(1) {
            early = Some(resources());
        }
    }
    let ((memory, files), (last_memory, last_files)) = (early.unwrap_or_default(), resources());
    println!(
        "{walks} walks, {failed} failed, {:.0} s; memory {memory} to {last_memory} kB, open files {files} to {last_files}",
        start.elapsed().as_secs_f64()
    );
    let grows = f64::from(last_memory) > MOST_GROWTH * f64::from(memory) || last_files > files;
    ExitCode::from(u8::from(failed > 0 || grows))
}

async fn walked(venue: &str) -> Option<Ending> {
    let venue: Arc<dyn Venue> = match venue {
        "embedded" => Arc::new(Embedded),
        _ => Arc::new(Throwaway::new(std::path::PathBuf::from(std::env::var_os("SHIFTCHECK_BINARY").unwrap()))),
    };
    let options = Options {
        venue,
        keep: Keep::Never,
        cache: default_cache(),
        driver: DriverOptions::default(),
        state: None,
        pause: Pause::default(),
    };
    let (events, mut stream) = Events::channel();
    let reader = tokio::spawn(async move { while stream.recv().await.is_some() {} });
    let outcome = Box::pin(run(Scenario::read(CANARY).unwrap(), options, events, std::future::pending())).await;
    reader.await.unwrap();
    outcome.ok().map(|outcome| outcome.ending)
}

/// The resident memory in kB, and the number of open files.
fn resources() -> (u32, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = memory.split_whitespace().next().unwrap().parse().unwrap();
    (memory, std::fs::read_dir("/proc/self/fd").unwrap().count())
}
