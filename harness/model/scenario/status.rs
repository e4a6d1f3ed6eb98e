//! The statuses of HTTP and of gRPC. Their numbers do not overlap: those of gRPC are below 17.

use std::fmt;

/// The names of the statuses of gRPC, by number.
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A status of HTTP by its number, or one of gRPC by its name.
///
/// ```
/// use shiftcheck_model::scenario::StatusCode;
///
/// assert_eq!(StatusCode(503).to_string(), "503");
/// assert_eq!(StatusCode::grpc("UNAVAILABLE").unwrap().to_string(), "UNAVAILABLE");
/// assert_eq!(StatusCode(503).as_grpc().to_string(), "UNAVAILABLE");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatusCode(pub u16);

impl StatusCode {
    /// The status of gRPC with a name.
    pub fn grpc(name: &str) -> Option<Self> {
        let number = GRPC_STATUSES.iter().position(|known| *known == name)?;
        u16::try_from(number).ok().map(Self)
    }

    /// Whether it is a status of gRPC.
    pub const fn is_grpc(self) -> bool {
        (self.0 as usize) < GRPC_STATUSES.len()
    }

    /// The status of gRPC that Envoy gives a response of its own with this status of HTTP, and that clients take any other response for that
    /// has no status of gRPC.
    #[must_use]
    pub const fn as_grpc(self) -> Self {
        Self(match self.0 {
            code if Self(code).is_grpc() => code,
            400 => 13,
            401 => 16,
            403 => 7,
            404 => 12,
            429 | 502..=504 => 14,
            _ => 2,
        })
    }

    /// The status of HTTP of a response with this status.
    pub const fn as_http(self) -> u16 {
        if self.is_grpc() { 200 } else { self.0 }
    }

    /// Whether the server is to blame: from 500 on, and the statuses of gRPC that OpenTelemetry counts as errors of servers.
    pub const fn is_server_error(self) -> bool {
        matches!(self.0, 500..|2| 4 | 12..=15)
    }

    /// Whether it is an error of any kind.
    pub const fn is_error(self) -> bool {
        if self.is_grpc() { self.0 != 0 } else { self.0 >= 400 }
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match GRPC_STATUSES.get(usize::from(self.0)) {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "{}", self.0),
        }
    }
}
