use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Subcommand};

use crate::workload::{AnswerShare, GATE_PORT, SlowAnswers};

/// A part of the workload image.
#[derive(Debug, Subcommand)]
pub enum Workload {
    /// The demo server
    Serve {
        /// The version in answers
        #[arg(long, env = "VERSION", default_value = "v1")]
        version: String,
        /// Whether `/error` answers 200
        #[arg(long, env = "MENDED")]
        mended: bool,
        /// The name of the pod
        #[arg(long, env = "HOSTNAME", default_value = "")]
        pod: String,
        /// The answers below `/work` that are slow, such as `5% 40ms`
        #[arg(long, env = "SLOW")]
        slow: Option<SlowAnswers>,
        /// The share of the answers below `/work` that fail with 500, such as 1%
        #[arg(long, env = "FAIL")]
        fail: Option<AnswerShare>,
        /// Whether to speak HTTP/2 with prior knowledge and gRPC, besides HTTP/1.1
        #[arg(long, env = "HTTP2", default_value_t = true, action = ArgAction::Set)]
        http2: bool,
        /// Whether to greet every client with a line and close the connection, instead of speaking HTTP
        #[arg(long, env = "TCP", default_value_t = false, action = ArgAction::Set)]
        tcp: bool,
        /// Whether to describe the services of gRPC by reflection
        #[arg(long, env = "REFLECTION", default_value_t = true, action = ArgAction::Set)]
        reflection: bool,
        /// Whether requests that are sent on, `/via/HOST`, keep the headers that users propagate
        #[arg(long, env = "PROPAGATE", default_value_t = true, action = ArgAction::Set)]
        propagate: bool,
        /// The folder with the certificate, `tls.crt`, and the private key, `tls.key`, for clients that speak TLS
        #[arg(long, env = "TLS")]
        tls: Option<PathBuf>,
        /// The address to listen on
        #[arg(long, default_value = "0.0.0.0:8080")]
        listen: SocketAddr,
    },
    /// The idle client; with `--seconds`, a pause, for a `preStop` hook
    Idle {
        /// The seconds after which it ends
        #[arg(long)]
        seconds: Option<u16>,
    },
    /// The traffic driver: reads commands from stdin, one JSON object per line
    Drive,
    /// The answers to webhooks: reads commands from stdin, one JSON object per line
    Gates {
        /// The address to listen on
        #[arg(long, default_value_t = SocketAddr::from(([0, 0, 0, 0], GATE_PORT)))]
        listen: SocketAddr,
    },
    /// The list of files that this program loads
    Files,
}
