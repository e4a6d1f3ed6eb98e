use std::io::{Write, stdin, stdout};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use super::advice::{self, Failure};
use super::workload_args::Workload;
use crate::cluster::print_files;
use crate::workload::{self, Certificate, DemoServer, Faults, GateState, JsonLines};

/// Runs a part of the workload image.
pub(super) async fn run(part: Workload) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::environment(error.to_string());
    match part {
        Workload::Serve { version, mended, pod, slow, fail, http2, tcp, reflection, propagate, tls, listen } => {
            let certificate = tls.map(|folder| Certificate::read(&folder)).transpose();
            let certificate = certificate.map_err(|error| failed(&error))?;
            let server = DemoServer::new(&version, &pod, !mended).with(Faults { slow, fail });
            let server = server
                .speaking_http2(http2)
                .greeting(tcp)
                .reflecting(reflection)
                .propagating(propagate)
                .showing(certificate);
            workload::serve(listen, server).await.map_err(|error| failed(&error))
        }
        Workload::Idle { seconds } => {
            match seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds.into())).await,
                None => workload::terminated().await,
            }
            Ok(())
        }
        Workload::Drive => {
            workload::drive_all(commands(), JsonLines::new(stdout())).await.map_err(|error| failed(&error))
        }
        Workload::Gates { listen } => {
            let tell = |state: GateState| {
                let line = serde_json::to_string(&state).unwrap_or_default();
                let mut out = stdout().lock();
                // a reader that is gone ends the program by its commands
                let _ = writeln!(out, "{line}").and_then(|()| out.flush());
            };
            workload::gates(listen, commands(), tell).await.map_err(|error| failed(&error))
        }
        Workload::Files => print_files(stdout()).map_err(|error| failed(&error)),
    }
}

/// The commands on stdin, one JSON line each.
fn commands<T: DeserializeOwned + Send + 'static>() -> mpsc::Receiver<T> {
    let (sender, receiver) = mpsc::channel(16);
    // a thread, because a read of stdin cannot be cancelled
    std::thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(command) => {
                    if sender.blocking_send(command).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    advice::print(&Failure::bad_input(format!("`{line}` is not a command: {error}")));
                    return;
                }
            }
        }
    });
    receiver
}
