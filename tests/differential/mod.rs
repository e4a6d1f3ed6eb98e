//! The table of variants, and how the answers to its requests are compared with what the model gives.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod answers;
mod table;

pub use answers::{CLIENT, Entrance, by_host, naming, plan, send, send_by};
pub use table::{HOST, PORT, Table, Variant, shown};
