//! Callers that send many requests each, and claims about them.

use std::collections::BTreeMap;
use std::fmt;

use super::error_rates::ErrorRates;
use super::origin::Origin;
use super::share::Share;

/// The sessions of a population: so many callers, each with a key of its own. They send requests in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sessions {
    /// Where requests have the key.
    pub key: SessionKey,
    /// The number of sessions.
    pub count: u64,
    /// The position of the key `sessions`.
    pub origin: Origin,
}

/// Where the requests of a session have its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionKey {
    /// In a header, by lower-case name. The callers choose the keys.
    Header(String),
    /// In a cookie, by name. The server sets it in its response to the first request of a session.
    Cookie(String),
    /// In a parameter of the query, by name. The callers choose the keys.
    Query(String),
}

impl Sessions {
    /// The largest number of sessions.
    pub const MOST: u64 = 10_000;

    /// The key of a session, by its position from 0.
    pub fn key_of(index: u64) -> String {
        format!("session-{}", index + 1)
    }

    /// The cookie with the keys; none if the callers choose the keys.
    pub fn cookie(&self) -> Option<&str> {
        match &self.key {
            SessionKey::Header(_) | SessionKey::Query(_) => None,
            SessionKey::Cookie(name) => Some(name),
        }
    }

    /// What the requests of a session, by its position from 0, have in their query: `user=session-1`; nothing if the key is elsewhere.
    pub fn query(&self, index: u64) -> Option<String> {
        match &self.key {
            SessionKey::Header(_) | SessionKey::Cookie(_) => None,
            SessionKey::Query(name) => Some(format!("{name}={}", Self::key_of(index))),
        }
    }

    /// The path of the requests of a session, by its position from 0, given that of a claim.
    pub fn path(&self, index: u64, path: &str) -> String {
        let Some(query) = self.query(index) else { return path.to_owned() };
        let separator = if path.contains('?') { '&' } else { '?' };
        format!("{path}{separator}{query}")
    }
}

/// What all requests of a session have in common, if the session stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// The pod that answers.
    Pod,
    /// The version that answers.
    Version,
}

impl fmt::Display for Stay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pod => "pod",
            Self::Version => "version",
        })
    }
}

/// A claim about the sessions of a population.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionClaim {
    /// The population.
    pub from: String,
    /// The request path.
    pub path: String,
    /// What all sessions stay at. A claim about shares is also one that all sessions stay at their version.
    pub stay: Stay,
    /// Whether the claim names what sessions stay at.
    pub names_stay: bool,
    /// The share of the sessions that each version gets; empty if none is claimed.
    pub versions: BTreeMap<String, Share>,
    /// The version that sessions keep once it has answered them. Nothing else is claimed then.
    pub keep: Option<KeptVersion>,
    /// The status of all responses.
    pub status: u16,
    /// The cookie with the keys of the sessions, which the server sets; none if the callers choose the keys.
    pub cookie: Option<String>,
    /// The number of sessions.
    pub count: u64,
    /// Whether each request has a connection of its own.
    pub connects_each: bool,
    /// The error rates of the verdict.
    pub errors: ErrorRates,
    /// The position of the claim.
    pub origin: Origin,
}

/// A version that sessions keep once it has answered them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptVersion {
    /// The version.
    pub version: String,
    /// Where it is claimed.
    pub origin: Origin,
}

impl fmt::Display for SessionClaim {
    /// `sessions stay at their pod; of the sessions v1 66.7 %, v2 33.3 %`, or `sessions keep v2`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(keep) = &self.keep {
            return write!(formatter, "sessions keep {}", keep.version);
        }
        if self.names_stay {
            write!(formatter, "sessions stay at their {}", self.stay)?;
        }
        for (index, (version, share)) in self.versions.iter().enumerate() {
            formatter.write_str(match (index, self.names_stay) {
                (0, true) => "; of the sessions ",
                (0, false) => "of the sessions ",
                _ => ", ",
            })?;
            write!(formatter, "{version} {share}")?;
        }
        Ok(())
    }
}
