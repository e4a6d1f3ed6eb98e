//! Waiting for termination.

use tokio::signal::unix::{SignalKind, signal};

/// Completes on SIGTERM or SIGINT. The main process of the client pod does nothing else.
pub async fn terminated() {
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // without a handler the signal ends the process
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}
