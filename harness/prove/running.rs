//! A run that cleans up even if the future that waits for it is dropped, or a signal ends the process.

use std::future::pending;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::runtime;
use tokio::sync::oneshot;

use crate::events::Events;
use crate::report::Recorder;
use crate::scenario::Scenario;
use crate::session::{Interrupt, Options, Outcome, SessionError, run};

/// A run on a thread with its own runtime, so that the clean-up continues if the caller's runtime ends or stops polling.
pub(super) struct Running {
    cancel: Option<oneshot::Sender<()>>,
    done: oneshot::Receiver<(Result<Outcome, SessionError>, Recorder)>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a run.
    ///
    /// # Errors
    /// The thread or the runtime cannot be created.
    pub fn start(scenario: Scenario, options: Options, mut recorder: Recorder) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
        let signals = Signals::listen()?;
        let (cancel, cancelled) = oneshot::channel();
        let (finished, done) = oneshot::channel();
        let thread = thread::Builder::new().name("shiftcheck".to_owned()).spawn(move || {
            let active = signals.begin();
            let interrupt = signals.interrupt.clone();
            let off = async move {
                tokio::select! {
                    // completes also when the sender is dropped
                    _ = cancelled => {}
                    _ = interrupt.signalled() => {}
                }
            };
            let done = runtime.block_on(async {
                let (events, mut stream) = Events::channel();
                // ends with the run, which owns the sender
                let recording = async {
                    while let Some(event) = stream.recv().await {
                        recorder.record(&event);
                    }
                };
                tokio::join!(Box::pin(run(scenario, options, events, off)), recording).0
            });
            runtime.shutdown_background();
            // after a signal, the process ends here
            drop(active);
            // the receiver may be dropped
            let _ = finished.send((done, recorder));
        })?;
        Ok(Self { cancel: Some(cancel), done, thread: Some(thread) })
    }

    /// Waits for the end of the run.
    ///
    /// # Panics
    /// Resumes a panic of the run.
    pub async fn finished(mut self) -> (Result<Outcome, SessionError>, Recorder) {
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
    /// Cancels the run, and waits for the clean-up.
    fn drop(&mut self) {
        drop(self.cancel.take());
        if let Some(thread) = self.thread.take() {
            // a panic was already resumed, or nobody waits for it
            let _ = thread.join();
        }
    }
}

/// The signal that ends the process after all active runs have cleaned up.
struct Signals {
    interrupt: Interrupt,
    active: Mutex<usize>,
}

/// Counts a run as active until it is dropped.
struct Active(&'static Signals);

impl Signals {
    /// The handlers of this process, installed by the first run.
    fn listen() -> io::Result<&'static Self> {
        static SIGNALS: OnceLock<Signals> = OnceLock::new();
        static START: Mutex<()> = Mutex::new(());
        let _one = START.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signals) = SIGNALS.get() {
            return Ok(signals);
        }
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let interrupt = {
            let _context = runtime.enter();
            Interrupt::listen(|signal| signal.exit())
        };
        let signals = SIGNALS.get_or_init(|| Self { interrupt, active: Mutex::new(0) });
        thread::Builder::new().name("shiftcheck-signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let signal = signals.interrupt.clone().signalled().await;
                if *signals.active.lock().unwrap_or_else(PoisonError::into_inner) == 0 {
                    signal.exit();
                }
                // a later signal ends the process
                pending::<()>().await;
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
        if let (0, Some(signal)) = (*active, self.0.interrupt.signal()) {
            signal.exit();
        }
    }
}
