use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{Event, Timed};

/// Where events are sent. Nobody has to listen.
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::UnboundedSender<Timed>,
    start: Instant,
}

impl Events {
    /// A stream that begins now, and the end at which its events are received.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Timed>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self { sender, start: Instant::now() }, receiver)
    }

    /// Sends an event that happens now.
    pub fn tell(&self, event: Event) {
        tracing::debug!(?event);
        let timed = Timed { at: Timestamp::now(), since_start: self.start.elapsed(), event };
        // a reader that has gone away does not matter
        let _ = self.sender.send(timed);
    }

    /// A function that sends each state that a wait has seen.
    pub fn waiting(&self) -> impl FnMut(&str) + use<> {
        let events = self.clone();
        move |state| events.tell(Event::Waiting(state.to_owned()))
    }
}
