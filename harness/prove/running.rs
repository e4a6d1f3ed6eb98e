//! A run that cleans up whatever becomes of the future that waits for it, and of the process.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::events::Events;
use crate::report::Recorder;
use crate::scenario::Scenario;
use crate::walk::{Options, Outcome, WalkError, run};

/// A signal that comes so soon after the first is the same call.
const ONE_CALL: Duration = Duration::from_secs(1);

/// A run on a thread with a runtime of its own: the clean-up goes on where the runtime of the caller ends, or never polls again.
pub(super) struct Running {
    cancel: Option<oneshot::Sender<()>>,
    done: oneshot::Receiver<(Result<Outcome, WalkError>, Recorder)>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a run.
    ///
    /// # Errors
    /// The system gives no thread or no runtime.
    pub fn start(scenario: Scenario, options: Options, mut recorder: Recorder) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        let signals = Signals::listen()?;
        let (cancel, cancelled) = oneshot::channel();
        let (finished, done) = oneshot::channel();
        let thread = thread::Builder::new().name("shiftcheck".to_owned()).spawn(move || {
            let active = signals.begin();
            let mut called = signals.called.subscribe();
            let off = async move {
                tokio::select! {
                    // also where the other end is dropped
                    _ = cancelled => {}
                    _ = called.wait_for(Option::is_some) => {}
                }
            };
            let done = runtime.block_on(async {
                let (events, mut stream) = Events::channel();
                // ends with the run, which owns the other end
                let recording = async {
                    while let Some(event) = stream.recv().await {
                        recorder.record(&event);
                    }
                };
                tokio::join!(Box::pin(run(scenario, options, events, off)), recording).0
            });
            runtime.shutdown_background();
            // where a signal has called it off, the process ends here
            drop(active);
            // nobody may wait any more
            let _ = finished.send((done, recorder));
        })?;
        Ok(Self { cancel: Some(cancel), done, thread: Some(thread) })
    }

    /// Waits for the end of the run.
    ///
    /// # Panics
    /// A panic of the run is passed on.
    pub async fn finished(mut self) -> (Result<Outcome, WalkError>, Recorder) {
        match (&mut self.done).await {
            Ok(done) => done,
            Err(_) => match self.thread.take().map(JoinHandle::join) {
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                _ => unreachable!("the thread of a run ends with its result or with a panic"),
            },
        }
    }
}

impl Drop for Running {
    /// Calls the run off, and waits until everything is removed.
    fn drop(&mut self) {
        drop(self.cancel.take());
        if let Some(thread) = self.thread.take() {
            // a panic of the run has been passed on, or nobody waits for it
            let _ = thread.join();
        }
    }
}

/// SIGINT and SIGTERM while runs are active. Without a handler either would end the process at once; with one, it ends the process when all
/// runs have cleaned up.
struct Signals {
    called: watch::Sender<Option<i32>>,
    active: Mutex<usize>,
}

/// Counts a run as active for as long as it is held.
struct Active(&'static Signals);

impl Signals {
    /// The handlers of this process, which are installed with its first run.
    fn listen() -> io::Result<&'static Self> {
        static SIGNALS: OnceLock<Signals> = OnceLock::new();
        static START: Mutex<()> = Mutex::new(());
        let _one = START.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signals) = SIGNALS.get() {
            return Ok(signals);
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            let _context = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        let signals = SIGNALS.get_or_init(|| Self { called: watch::Sender::new(None), active: Mutex::new(0) });
        thread::Builder::new().name("shiftcheck-signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let mut first: Option<Instant> = None;
                loop {
                    let code = tokio::select! {
                        _ = interrupt.recv() => 130,
                        _ = terminate.recv() => 143,
                    };
                    if *signals.active.lock().unwrap_or_else(PoisonError::into_inner) == 0 {
                        end(code);
                    }
                    match first {
                        None => {
                            first = Some(Instant::now());
                            signals.called.send_replace(Some(code));
                        }
                        Some(first) if first.elapsed() > ONE_CALL => end(code),
                        Some(_) => {}
                    }
                }
            });
        })?;
        Ok(signals)
    }

    fn begin(&'static self) -> Active {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Active(self)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        *active -= 1;
        let called = *self.0.called.borrow();
        if let (0, Some(code)) = (*active, called) {
            end(code);
        }
    }
}

/// Ends the process as the signal would have without a handler.
#[expect(clippy::exit, reason = "the signal asks for the end of the process")]
fn end(code: i32) -> ! {
    std::process::exit(code)
}
