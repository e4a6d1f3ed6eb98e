use std::io::{stdin, stdout};

use tokio::sync::mpsc;

use super::advice::{self, Failure};
use super::args::Workload;
use crate::cluster::print_files;
use crate::workload::{self, DriverCommand, JsonLines};

/// Runs a part of the workload image.
pub(super) async fn run(part: Workload) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::environment(error.to_string());
    match part {
        Workload::Serve { version, mended, pod, listen } => {
            workload::serve(listen, version, pod, !mended).await.map_err(|error| failed(&error))
        }
        Workload::Idle => {
            workload::terminated().await;
            Ok(())
        }
        Workload::Drive => {
            workload::drive_all(driver_commands(), JsonLines::new(stdout())).await.map_err(|error| failed(&error))
        }
        Workload::Files => print_files(stdout()).map_err(|error| failed(&error)),
    }
}

/// The commands for the driver on stdin, one JSON line each.
fn driver_commands() -> mpsc::Receiver<DriverCommand> {
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
                    advice::print(&Failure::bad_input(format!("`{line}` is not a command for the driver: {error}")));
                    return;
                }
            }
        }
    });
    receiver
}
