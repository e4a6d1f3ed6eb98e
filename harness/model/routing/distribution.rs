use std::fmt;

use num_rational::Ratio;

use super::secret::{CertificateFault, SecretFault};
use super::table::Redirect;
use crate::scenario::StatusCode;

/// An exact probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(Ratio<u128>);

impl Chance {
    /// Probability 1.
    pub const CERTAIN: Self = Self(Ratio::new_raw(1, 1));
    /// Probability 0.
    pub const NONE: Self = Self(Ratio::new_raw(0, 1));

    /// The ratio of `part` to `whole`; 0 if `whole` is 0.
    pub fn of(part: u64, whole: u64) -> Self {
        if whole == 0 { Self::NONE } else { Self(Ratio::new(u128::from(part), u128::from(whole))) }
    }

    /// The probability of two independent events together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }

    /// The probability of either of two mutually exclusive events.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The probability of the complement.
    #[must_use]
    pub fn otherwise(self) -> Self {
        if self >= Self::CERTAIN { Self::NONE } else { Self(Ratio::new_raw(1, 1) - self.0) }
    }

    /// The nearest floating-point number.
    #[expect(clippy::cast_precision_loss, reason = "a rounded number is asked for")]
    pub fn fraction(self) -> f64 {
        *self.0.numer() as f64 / *self.0.denom() as f64
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // at most two decimals: a third is 33.33 %
        write!(formatter, "{} %", (self.fraction() * 1e4).round() / 1e2)
    }
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A pod serves the request.
    Served {
        /// The pod's version.
        version: String,
        /// The pod's image.
        image: String,
        /// Whether the pod gets HTTP/2 if the client speaks it.
        http2: bool,
        /// The namespace of the pod and its workload, `shop/hello`.
        workload: String,
        /// Whether the pod greets clients of TCP instead of speaking HTTP; none if that is not known, as of images other than the demo's.
        greets: Option<bool>,
    },
    /// A pod serves the request, and the route removes the header that states the version.
    WithoutVersion {
        /// The pod's image.
        image: String,
        /// Whether the pod gets HTTP/2 if the client speaks it.
        http2: bool,
    },
    /// An injected fault, with this status of HTTP or gRPC.
    Aborted(StatusCode),
    /// The proxy redirects the client.
    Redirected(Redirect),
    /// The proxy responds directly.
    Responded {
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
    /// No route matches: 404.
    NoRoute,
    /// The route leads to a cluster without a ready endpoint: 503.
    NoEndpoint,
    /// The route leads to a cluster that does not exist: 503, or 500 for an `HTTPRoute`.
    NoCluster(u16),
    /// The pod does not listen on the port: 503.
    NotListening,
    /// The port is declared as HTTP/2, which the pod does not speak: 503.
    NotHttp2,
    /// A `DestinationRule` asks for TLS, which the pod does not speak: 503.
    NotTls,
    /// There is no connection, hence no response.
    NoConnection(Unconnected),
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unconnected {
    /// The name of the service is unknown.
    UnknownName,
    /// The service has no such port.
    UnknownPort,
    /// The connection is refused.
    Refused,
    /// The client sends HTTP, and the port of the gateway takes HTTPS.
    NeedsTls,
    /// The client sends HTTPS, and the port of the gateway takes HTTP.
    NoTls,
    /// No server of the gateway at the port has the name in the handshake.
    UnknownServerName,
    /// The gateway has no certificate to show.
    NoCertificate(SecretFault),
    /// The client does not take the certificate of the gateway, or of the server to which the gateway passes the connection through.
    Untrusted(CertificateFault),
    /// The gateway passes the connection through to a server that does not speak TLS.
    ServerWithoutTls,
}

impl fmt::Display for Unconnected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName => formatter.write_str("no connection, unknown host"),
            Self::UnknownPort => formatter.write_str("no connection, no such port"),
            Self::Refused => formatter.write_str("no connection, refused"),
            Self::NeedsTls => formatter.write_str("no connection, the port of the gateway takes HTTPS alone"),
            Self::NoTls => formatter.write_str("no TLS handshake, the port of the gateway takes HTTP alone"),
            Self::UnknownServerName => {
                formatter.write_str("no TLS handshake, no server of the gateway at this port has the name")
            }
            Self::NoCertificate(fault) => write!(formatter, "no TLS handshake, {fault}"),
            Self::ServerWithoutTls => {
                formatter.write_str("no TLS handshake, the server behind the gateway does not speak TLS")
            }
            Self::Untrusted(fault) => write!(formatter, "no TLS handshake, {fault}"),
        }
    }
}

impl Outcome {
    /// The HTTP status of the mesh's response; none if a pod responds, or if there is no connection.
    pub const fn mesh_status(&self) -> Option<u16> {
        match self {
            Self::Served { .. } | Self::WithoutVersion { .. } | Self::NoConnection(_) => None,
            Self::Aborted(status) => Some(status.as_http()),
            Self::Responded { status, .. } | Self::NoCluster(status) => Some(*status),
            Self::Redirected(redirect) => Some(redirect.status),
            Self::NoRoute => Some(404),
            Self::NoEndpoint | Self::NotListening | Self::NotHttp2 | Self::NotTls => Some(503),
        }
    }

    /// The status that a client of gRPC sees in the mesh's response; none if a pod responds, or if there is no connection.
    pub fn grpc_status(&self) -> Option<u16> {
        match self {
            Self::Aborted(status) => Some(status.as_grpc().0),
            other => other.mesh_status().map(|status| StatusCode(status).as_grpc().0),
        }
    }

    /// Whether a pod responds.
    pub const fn is_of_server(&self) -> bool {
        matches!(self, Self::Served { .. } | Self::WithoutVersion { .. })
    }

    /// The version that serves the request.
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::Served { version, .. } => Some(version),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served { version, .. } => formatter.write_str(version),
            Self::WithoutVersion { .. } => formatter.write_str("a response without a version, which the route removes"),
            Self::Aborted(status) if status.is_grpc() => {
                write!(formatter, "{status} (HTTP {}) by an injected fault", status.as_http())
            }
            Self::Aborted(status) => write!(formatter, "{status} by an injected fault"),
            Self::Redirected(redirect) => write!(formatter, "{} by a redirect", redirect.status),
            Self::Responded { status, .. } => write!(formatter, "{status} by the route itself"),
            Self::NoRoute => formatter.write_str("404, no route"),
            Self::NoEndpoint => formatter.write_str("503, no healthy upstream"),
            Self::NoCluster(status) => write!(formatter, "{status}, unknown cluster"),
            Self::NotListening => formatter.write_str("503, the pod does not listen on that port"),
            Self::NotHttp2 => formatter.write_str("503, the pod does not speak HTTP/2, as the port declares"),
            Self::NotTls => formatter.write_str("503, the pod does not speak TLS, as a DestinationRule asks for"),
            Self::NoConnection(reason) => reason.fmt(formatter),
        }
    }
}

/// The outcomes of requests that are alike, with their probabilities, which sum to 1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution(Vec<(Outcome, Chance)>);

impl Distribution {
    /// A single certain outcome.
    pub fn certain(outcome: Outcome) -> Self {
        Self(vec![(outcome, Chance::CERTAIN)])
    }

    /// Adds to the probability of an outcome.
    pub fn add(&mut self, outcome: Outcome, chance: Chance) {
        if chance == Chance::NONE {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, total)) => *total = total.or(chance),
            None => self.0.push((outcome, chance)),
        }
    }

    /// The outcomes with their probabilities.
    pub fn iter(&self) -> impl Iterator<Item = (&Outcome, Chance)> {
        self.0.iter().map(|(outcome, chance)| (outcome, *chance))
    }

    /// The probability of all outcomes that meet a condition.
    pub fn chance(&self, of: impl Fn(&Outcome) -> bool) -> Chance {
        self.iter().filter(|(outcome, _)| of(outcome)).fold(Chance::NONE, |sum, (_, chance)| sum.or(chance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_exact() {
        let third = Chance::of(1, 3);
        assert_eq!(third.or(third).or(third), Chance::CERTAIN);
        assert_eq!(third.and(Chance::of(3, 4)), Chance::of(1, 4));
        assert_eq!(third.otherwise(), Chance::of(2, 3));
        assert_eq!(third.to_string(), "33.33 %");
        assert_eq!(Chance::of(0, 0), Chance::NONE);
    }

    #[test]
    fn chances_of_one_outcome_are_summed() {
        let mut distribution = Distribution::default();
        distribution.add(Outcome::NoRoute, Chance::of(1, 4));
        distribution.add(Outcome::NoEndpoint, Chance::of(1, 2));
        distribution.add(Outcome::NoRoute, Chance::of(1, 4));
        distribution.add(Outcome::NoCluster(503), Chance::NONE);
        assert_eq!(distribution.iter().count(), 2);
        assert_eq!(distribution.chance(|outcome| *outcome == Outcome::NoRoute), Chance::of(1, 2));
    }
}
