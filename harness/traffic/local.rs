use std::collections::VecDeque;

use tokio::sync::mpsc;

use super::TrafficError;
use crate::workload::{DriveError, DriverCommand, DriverMessage, MessageSink, drive_all};

/// The maximum number of messages in a batch.
const MAX_BATCH: usize = 1024;

type Batch = Vec<DriverMessage>;

/// The driver in a thread of this process.
pub(super) struct LocalDriver {
    commands: mpsc::Sender<DriverCommand>,
    batches: mpsc::UnboundedReceiver<Result<Batch, DriveError>>,
    received: VecDeque<DriverMessage>,
}

impl LocalDriver {
    /// Starts the thread.
    pub fn start() -> Result<Self, TrafficError> {
        let (commands, received) = mpsc::channel(16);
        let (sender, batches) = mpsc::unbounded_channel();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(TrafficError::Start)?;
        let work = move || {
            let sink = BatchSink { sender: sender.clone(), batch: Vec::new() };
            if let Err(error) = runtime.block_on(drive_all(received, sink)) {
                // the receiver may be gone
                let _ = sender.send(Err(error));
            }
        };
        std::thread::Builder::new().name("driver".to_owned()).spawn(work).map_err(TrafficError::Start)?;
        Ok(Self { commands, batches, received: VecDeque::new() })
    }

    /// Sends a command. An error of the driver is returned by [`receive`](Self::receive).
    pub async fn send(&self, command: DriverCommand) {
        let _ = self.commands.send(command).await;
    }

    /// The next message.
    pub async fn receive(&mut self) -> Result<DriverMessage, TrafficError> {
        loop {
            if let Some(message) = self.received.pop_front() {
                return Ok(message);
            }
            self.received = self.batches.recv().await.ok_or(TrafficError::Ended)??.into();
        }
    }
}

/// Sends messages to this process in batches.
struct BatchSink {
    sender: mpsc::UnboundedSender<Result<Batch, DriveError>>,
    batch: Batch,
}

impl MessageSink for BatchSink {
    fn send(&mut self, message: DriverMessage) -> std::io::Result<()> {
        self.batch.push(message);
        if self.batch.len() < MAX_BATCH { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(MAX_BATCH));
        self.sender.send(Ok(batch)).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    fn has_buffered(&self) -> bool {
        !self.batch.is_empty()
    }
}
