//! The live page of a run.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::sync::Arc;

use tokio::sync::Notify;

use super::advice::Failure;
use crate::report::Live;
use crate::session::{Interrupt, Pause};

/// The option of commands that can be watched.
#[derive(Debug, Clone, clap::Args)]
pub struct PageArgs {
    /// Show the run in a browser while it runs: print the address of a page on this machine, at this port or a free one
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub live: Option<u16>,
}

/// The live page, and the Enter key.
pub(super) struct LivePage {
    pub live: Live,
    /// Notified when somebody presses Enter while no run waits.
    entered: Arc<Notify>,
}

impl LivePage {
    /// Starts the live page if it is requested, and prints its address. `pauses` says whether the run may wait for the Enter key.
    pub async fn start(args: &PageArgs, pauses: bool) -> Result<Option<Self>, Failure> {
        let Some(port) = args.live else { return Ok(None) };
        let pause = Pause::default();
        let live = Live::start(port, pause.clone()).await;
        let live = live.map_err(|error| Failure::environment(format!("cannot serve the live page: {error}")))?;
        // a closed pipe is not an error
        let _ = writeln!(stdout(), "live page: {}", live.url());
        let entered = Arc::new(Notify::new());
        if pauses || stdin().is_terminal() {
            let entered = Arc::clone(&entered);
            std::thread::spawn(move || {
                for _ in stdin().lines().map_while(Result::ok) {
                    if !pause.resume(false) {
                        entered.notify_one();
                    }
                }
            });
        }
        Ok(Some(Self { live, entered }))
    }

    /// Ends the live page. On a terminal it stays until somebody presses Enter: a run on the embedded mesh takes less time than opening a page.
    pub async fn close(self, interrupt: &Interrupt) {
        if stdin().is_terminal() && interrupt.signal().is_none() {
            let _ = writeln!(stdout(), "the live page stays open until you press Enter");
            tokio::select! {
                () = self.entered.notified() => {}
                _ = interrupt.clone().signalled() => {}
            }
        }
        self.live.close().await;
    }
}
