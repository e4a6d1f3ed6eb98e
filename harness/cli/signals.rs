use std::future::pending;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::ExitCode;
use super::advice::{self, Failure};

/// Whether the user has called off what runs. A signal stays known when it comes while nobody waits for one.
#[derive(Debug, Clone)]
pub struct Calls(watch::Receiver<Option<ExitCode>>);

impl Calls {
    /// Listens from now on for SIGINT and SIGTERM. A second one ends the process at once: the clean-up is then left to
    /// `sweep`.
    pub fn listen() -> Self {
        let (sender, receiver) = watch::channel(None);
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::spawn(async move {
                let mut next = async || {
                    tokio::select! {
                        _ = interrupt.recv() => ExitCode::Interrupted,
                        _ = terminate.recv() => ExitCode::Terminated,
                    }
                };
                sender.send_replace(Some(next().await));
                let code = next().await;
                advice::tell(&Failure::abandoned());
                std::process::exit(code as i32);
            });
        }
        Self(receiver)
    }

    /// Completes when the first signal has come, with what the process ends with.
    pub async fn off(mut self) -> ExitCode {
        if let Ok(code) = self.0.wait_for(Option::is_some).await
            && let Some(code) = *code
        {
            return code;
        }
        // without handlers a signal ends the process by itself
        pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_signal_that_comes_while_nobody_waits_is_kept() {
        let calls = Calls::listen();
        let own = std::process::id().to_string();
        assert!(Command::new("kill").args(["-TERM", &own]).status().unwrap().success());
        assert_eq!(calls.clone().off().await, ExitCode::Terminated);
        assert_eq!(calls.off().await, ExitCode::Terminated);
    }
}
