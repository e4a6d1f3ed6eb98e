use std::future::pending;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Signals within this time count as one: GNU `timeout` sends two at once, to the process and to its group.
const ONE_CALL: Duration = Duration::from_secs(1);

/// A signal that ends runs; its value is the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Signal {
    /// SIGINT.
    Interrupt = 130,
    /// SIGTERM or SIGHUP.
    Terminate = 143,
}

impl Signal {
    /// Ends the process at once.
    pub fn exit(self) -> ! {
        std::process::exit(self as i32)
    }
}

/// The first signal that ended the process. It is remembered if it arrives while nobody waits.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<Option<Signal>>);

impl Interrupt {
    /// Handles SIGINT, SIGTERM and SIGHUP from now on, on the current runtime. Calls `abandon` at a signal more than a second after the first
    /// one. SIGHUP stays ignored in a process started by `nohup`.
    pub fn listen(abandon: impl FnOnce(Signal) + Send + 'static) -> Self {
        let (first_signal, signalled) = watch::channel(None);
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let mut hang_up = if ignores_hang_up(&status) { None } else { signal(SignalKind::hangup()).ok() };
            let (signals, received) = mpsc::unbounded_channel();
            tokio::spawn(async move {
                loop {
                    let closed = async {
                        match &mut hang_up {
                            Some(hang_up) => hang_up.recv().await,
                            None => pending().await,
                        }
                    };
                    let signal = tokio::select! {
                        _ = interrupt.recv() => Signal::Interrupt,
                        _ = terminate.recv() => Signal::Terminate,
                        _ = closed => Signal::Terminate,
                    };
                    if signals.send(signal).is_err() {
                        return;
                    }
                }
            });
            tokio::spawn(attend(received, first_signal, abandon));
        }
        Self(signalled)
    }

    /// Waits for the first signal.
    pub async fn signalled(mut self) -> Signal {
        if let Ok(signal) = self.0.wait_for(Option::is_some).await
            && let Some(signal) = *signal
        {
            return signal;
        }
        // without handlers, a signal ends the process
        pending().await
    }

    /// The first signal, if there was one.
    pub fn signal(&self) -> Option<Signal> {
        *self.0.borrow()
    }
}

/// Sends the first signal to `first_signal`. Calls `abandon` at a signal more than a second later.
async fn attend(
    mut signals: mpsc::UnboundedReceiver<Signal>,
    first_signal: watch::Sender<Option<Signal>>,
    abandon: impl FnOnce(Signal),
) {
    let Some(signal) = signals.recv().await else { return };
    first_signal.send_replace(Some(signal));
    let first = Instant::now();
    while let Some(signal) = signals.recv().await {
        if first.elapsed() > ONE_CALL {
            abandon(signal);
            return;
        }
    }
}

/// Whether a process ignores SIGHUP, from the text of its `/proc/PID/status`.
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
    async fn a_signal_is_remembered_until_somebody_waits() {
        // in a process of its own, since other tests have handlers that end the process
        const ALONE: &str = "ALONE_IN_A_PROCESS";
        if std::env::var_os(ALONE).is_none() {
            let test = concat!(module_path!(), "::a_signal_is_remembered_until_somebody_waits");
            let (_, test) = test.split_once("::").unwrap();
            let mut alone = Command::new(std::env::current_exe().unwrap());
            let output = alone.args(["--exact", test]).env(ALONE, "1").output().unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
            return;
        }
        let interrupt = Interrupt::listen(|_| {});
        let pid = std::process::id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert_eq!(interrupt.clone().signalled().await, Signal::Terminate);
        assert_eq!(interrupt.signalled().await, Signal::Terminate);
    }

    /// The signal if a second signal, this many milliseconds after the first, abandons the clean-up.
    #[rstest]
    #[case::of_timeout(0, None)]
    #[case::still_the_same_call(900, None)]
    #[case::an_impatient_user(1100, Some(Signal::Terminate))]
    #[tokio::test(start_paused = true)]
    async fn only_a_later_signal_abandons_the_clean_up(#[case] after: u64, #[case] expected: Option<Signal>) {
        let (signals, codes) = mpsc::unbounded_channel();
        let (called, mut interrupt) = watch::channel(None);
        let (abandoned, seen) = oneshot::channel();
        let attending = tokio::spawn(attend(codes, called, |code| abandoned.send(code).unwrap()));
        signals.send(Signal::Interrupt).unwrap();
        interrupt.wait_for(|code| *code == Some(Signal::Interrupt)).await.unwrap();
        sleep(Duration::from_millis(after)).await;
        signals.send(Signal::Terminate).unwrap();
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
