use std::future::pending;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::ExitCode;
use super::advice::{self, Failure};

/// Signals that follow each other so soon are one call: GNU `timeout` sends two at once, to the process and to its group.
const ONE_CALL: Duration = Duration::from_secs(1);

/// Whether the user has called off what runs. A signal stays known when it comes while nobody waits for one.
#[derive(Debug, Clone)]
pub struct Calls(watch::Receiver<Option<ExitCode>>);

impl Calls {
    /// Listens from now on for SIGINT, SIGTERM and SIGHUP, which counts as SIGTERM. A signal that comes more than a second after the first
    /// ends the process at once: the clean-up is then left to `sweep`. SIGHUP stays ignored where `nohup` has started the process.
    pub fn listen() -> Self {
        let (sender, receiver) = watch::channel(None);
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let mut hang_up = if ignores_hang_up(&status) { None } else { signal(SignalKind::hangup()).ok() };
            let (signals, codes) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                loop {
                    let closed = async {
                        match &mut hang_up {
                            Some(hang_up) => hang_up.recv().await,
                            None => pending().await,
                        }
                    };
                    let code = tokio::select! {
                        _ = interrupt.recv() => ExitCode::Interrupted,
                        _ = terminate.recv() => ExitCode::Terminated,
                        _ = closed => ExitCode::Terminated,
                    };
                    if signals.send(code).is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(attend(codes, sender, |code| {
                advice::tell(&Failure::abandoned());
                std::process::exit(code as i32);
            }));
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

/// Passes the first signal on, and abandons the clean-up at one that comes more than a second later.
async fn attend(
    mut codes: mpsc::UnboundedReceiver<ExitCode>,
    called: watch::Sender<Option<ExitCode>>,
    abandon: impl FnOnce(ExitCode),
) {
    let Some(code) = codes.recv().await else { return };
    called.send_replace(Some(code));
    let first = Instant::now();
    while let Some(code) = codes.recv().await {
        if first.elapsed() > ONE_CALL {
            abandon(code);
            return;
        }
    }
}

/// Whether a process ignores SIGHUP, by its `/proc/PID/status`.
fn ignores_hang_up(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // bit 0 stands for signal 1, which is SIGHUP
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rstest::rstest;
    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_signal_that_comes_while_nobody_waits_is_kept() {
        let calls = Calls::listen();
        let own = std::process::id().to_string();
        assert!(Command::new("kill").args(["-TERM", &own]).status().unwrap().success());
        assert_eq!(calls.clone().off().await, ExitCode::Terminated);
        assert_eq!(calls.off().await, ExitCode::Terminated);
    }

    /// Whether the clean-up is abandoned when a second signal comes so many milliseconds after the first.
    #[rstest]
    #[case::of_timeout(0, None)]
    #[case::still_the_same_call(900, None)]
    #[case::an_impatient_user(1100, Some(ExitCode::Terminated))]
    #[tokio::test(start_paused = true)]
    async fn only_a_later_signal_abandons_the_clean_up(#[case] after: u64, #[case] expected: Option<ExitCode>) {
        let (signals, codes) = mpsc::unbounded_channel();
        let (called, mut calls) = watch::channel(None);
        let (abandoned, seen) = oneshot::channel();
        let attending = tokio::spawn(attend(codes, called, |code| abandoned.send(code).unwrap()));
        signals.send(ExitCode::Interrupted).unwrap();
        calls.wait_for(|code| *code == Some(ExitCode::Interrupted)).await.unwrap();
        sleep(Duration::from_millis(after)).await;
        signals.send(ExitCode::Terminated).unwrap();
        drop(signals);
        attending.await.unwrap();
        assert_eq!(seen.await.ok(), expected);
    }

    #[rstest]
    #[case::of_nohup("Name:\tx\nSigIgn:\t0000000000001001\n", true)]
    #[case::usual("SigIgn:\t0000000000001000\n", false)]
    #[case::unknown("", false)]
    fn a_process_under_nohup_ignores_sighup(#[case] status: &str, #[case] expected: bool) {
        assert_eq!(ignores_hang_up(status), expected);
    }
}
