//! What happened, for people: readers of the event stream.

mod terminal;

pub use terminal::{Terminal, plural, swept};
