//! The live page: the state of a run in a browser, while it runs. A server on the loopback interface sends the page, and then the state and every
//! change of it as server-sent events. A reader that is slow misses changes and gets the state instead: nothing queues, and the run never waits.

mod access;
mod server;

pub use server::Live;
