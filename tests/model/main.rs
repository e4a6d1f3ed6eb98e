//! The promises that need no container engine, no cluster and no browser; one module a promise.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test panics where its set-up fails")]
#![allow(clippy::print_stderr, reason = "fuzz targets tell how much they have tried")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../differential/mod.rs"]
mod variants;

mod action;
mod addons;
mod against;
mod bad_input;
mod calibrate;
mod chain;
mod clients;
mod command_line;
mod differential;
mod docs;
mod driver_memory;
mod existing_cluster;
mod flagger;
mod from_nothing;
mod from_registry;
mod fuzz;
mod house;
mod init;
mod istio_versions;
mod judge;
mod left_behind;
mod left_objects;
mod live;
mod manifests;
mod messages;
mod packages;
mod processes;
mod prove;
mod redaction;
mod reports;
mod scenarios;
mod sessions;
mod snapshots;
mod stand_ins;
mod times;
mod undecided;
mod upgrade;
