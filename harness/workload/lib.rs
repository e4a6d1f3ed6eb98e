//! The programs that `shiftcheck` runs in the cluster: the demo server, the traffic driver, and the servers that answer webhooks.
//!
//! The `shiftcheck` binary contains all and is packed into an image with one layer. No other image is pulled for them, and the harness and the
//! driver always have the same version of the protocol. This package is optimised in every profile: a slow driver would look like a slow mesh.

mod body;
mod certificate;
mod chain;
mod connection;
mod driver;
mod faults;
mod field;
mod gates;
mod greet;
mod idle;
mod output;
mod protocol;
mod reflection;
mod response;
mod schedule;
mod serve;
mod webhook;
mod websocket;
mod wire;

pub use body::{AnswerBody, GRPC_STATUS};
pub use certificate::{Certificate, CertificateError};
pub use chain::{Behind, NextHop, VERSIONS, is_propagated};
pub use driver::{DriveError, DriverFuture, drive_all};
pub use faults::{AnswerShare, Faults, SlowAnswers, delay_of, delayed, postpone};
pub use gates::{GATE_PORT, GateState, GatesFuture, gates};
pub use idle::terminated;
pub use output::{JsonLines, MessageSink};
pub use protocol::{
    DrivePlan, DriveTls, DriverCommand, DriverMessage, FailureKind, FieldValue, Flow, MessageField, ReflectPlan,
    Reflection, RequestFailure, RequestResult, ResultKind, VersionSource,
};
pub use serve::{DemoServer, ServeError, ServerFuture, is_grpc, message_of, serve};
pub use webhook::{WebhookAnswer, WebhookFuture, WebhookRequest, webhook};
pub use websocket::{Handshake, asks_for_websocket};
