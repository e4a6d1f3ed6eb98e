//! What happened, for people: readers of the event stream.

mod terminal;
mod verified;

pub use terminal::{Terminal, plural, swept};
pub use verified::{Marks, changed, killed, verified};
