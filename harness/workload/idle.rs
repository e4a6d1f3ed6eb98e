use tokio::signal::unix::{SignalKind, signal};

/// Waits for the end: what the client pod does while no traffic is driven.
pub async fn idle() {
    terminated().await;
}

/// Completes when the process is asked to end, by SIGTERM or SIGINT.
pub async fn terminated() {
    let (Ok(mut term), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        // without handlers the default action ends the process
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}
