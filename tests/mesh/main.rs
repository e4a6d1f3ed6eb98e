//! The promises that only a real mesh, a container engine or a browser can keep; one module a promise.
//!
//! `cargo test` ignores the tests that need one of these unless `CI` is set. Where `CI` is set they run, and fail where what they need is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test panics where its set-up fails")]
#![allow(clippy::print_stderr, reason = "the harness tells which tests it ignores")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../differential/mod.rs"]
mod variants;

mod cluster;
mod harness;

mod addons;
mod bad_input;
mod browser;
mod calibrate;
mod callers;
mod canary;
mod chain;
mod clients;
mod command_line;
mod differential;
mod existing_cluster;
mod flagger;
mod gateways;
mod ignored;
mod images;
mod ingress;
mod init;
mod left_behind;
mod left_objects;
mod live;
mod mutants;
mod nodes;
mod oracle;
mod own_images;
mod rollouts;
mod scenarios;
mod shared;
mod suite;
mod turns;
mod upgrade;
mod watched;

use std::process::ExitCode;

use harness::{Module, Needs};

/// The modules of these names, whose tests need this.
macro_rules! modules {
    ($($name:ident: $needs:ident),* $(,)?) => {
        [$(Module { name: stringify!($name), needs: Needs::$needs, tests: $name::TESTS }),*]
    };
}

fn main() -> ExitCode {
    harness::main(&modules![
        ignored: Nothing,
        turns: Nothing,
        browser: Chromium,
        live: Chromium,
        oracle: Oracle,
        bad_input: Engine,
        command_line: Engine,
        images: Engine,
        // each with a cluster of its own
        flagger: Engine,
        rollouts: Engine,
        left_behind: Engine,
        left_objects: Engine,
        // most of these are paired, and follow one another so that each has a partner
        nodes: Engine,
        ingress: Engine,
        callers: Engine,
        chain: Engine,
        addons: Engine,
        mutants: Engine,
        watched: Engine,
        upgrade: Engine,
        // the first test of `canary` has a cluster of its own, too; the others are on the shared one, which is not up before
        canary: Engine,
        own_images: Engine,
        existing_cluster: Engine,
        calibrate: Engine,
        clients: Engine,
        init: Engine,
        scenarios: Engine,
        suite: Engine,
        differential: Engine,
        shared: Engine,
    ])
}
