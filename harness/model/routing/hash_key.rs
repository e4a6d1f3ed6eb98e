//! What a proxy hashes of a request, to send requests with the same key to the same endpoint.

use std::fmt;
use std::time::Duration;

use super::condition::Request;

/// The part of a request that a proxy hashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum HashKey {
    /// The value of a header, by lower-case name.
    Header(String),
    /// The value of a cookie.
    Cookie {
        /// The name.
        name: String,
        /// The path of the cookie that the proxy sets.
        path: String,
        /// The lifetime of the cookie that the proxy sets for requests without one; it sets none without a lifetime. A lifetime of 0 lasts as
        /// long as the session of a browser.
        ttl: Option<Duration>,
    },
    /// The address of the client.
    SourceIp,
    /// The value of a query parameter.
    Query(String),
}

/// How a proxy finds the endpoint of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashTable {
    /// On a ring of at least so many points, which are as good as random.
    Ring(u64),
    /// In a table of so many entries, of which all endpoints have equally many.
    Maglev(u64),
}

/// The key of a request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyOf {
    /// The value of a header, cookie or parameter.
    Value(String),
    /// The client: all of its requests have the same key.
    Client,
    /// The connection: the proxy sets a cookie with a value for each connection.
    Connection,
}

impl HashTable {
    /// The size of Envoy's ring, and that of Istio, where a rule names no other.
    pub const RING: Self = Self::Ring(1024);
    /// Envoy's table where a rule names no other size.
    pub const MAGLEV: Self = Self::Maglev(65_537);

    /// The number of points or entries.
    pub const fn size(self) -> u64 {
        match self {
            Self::Ring(size) | Self::Maglev(size) => size,
        }
    }
}

impl HashKey {
    /// The key of a request; none if the request has no such part.
    pub fn of(&self, request: &Request) -> Option<KeyOf> {
        match self {
            Self::Header(name) => request.headers.get(name).cloned().map(KeyOf::Value),
            Self::Cookie { name, ttl, .. } => {
                let cookies = request.headers.get("cookie").into_iter().flat_map(|cookies| cookies.split(';'));
                let mut values = cookies.filter_map(|cookie| cookie.trim().split_once('='));
                let value = values.find(|(own, _)| own == name).map(|(_, value)| value.trim_matches('"').to_owned());
                value.map(KeyOf::Value).or_else(|| ttl.map(|_| KeyOf::Connection))
            }
            Self::SourceIp => Some(KeyOf::Client),
            Self::Query(name) => {
                let (_, query) = request.path.split_once('?')?;
                let mut parameters = query.split('&').map(|one| one.split_once('=').unwrap_or((one, "")));
                parameters.find(|(own, _)| own == name).map(|(_, value)| KeyOf::Value(value.to_owned()))
            }
        }
    }

    /// The lower-case name of the header that the key is read from, if it is read from one.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Header(name) => Some(name),
            Self::Cookie { .. } => Some("cookie"),
            Self::SourceIp | Self::Query(_) => None,
        }
    }
}

impl fmt::Display for HashKey {
    /// `header x-user`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(formatter, "header {name}"),
            Self::Cookie { name, ttl: None, .. } => write!(formatter, "cookie {name}"),
            Self::Cookie { name, path, ttl: Some(ttl) } => {
                if ttl.is_zero() {
                    write!(formatter, "cookie {name}, which is set without a lifetime")?;
                } else {
                    write!(formatter, "cookie {name}, which is set for {ttl:?}")?;
                }
                if path.is_empty() { Ok(()) } else { write!(formatter, " and {path}") }
            }
            Self::SourceIp => formatter.write_str("address of the client"),
            Self::Query(name) => write!(formatter, "query parameter {name}"),
        }
    }
}

impl fmt::Display for HashTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ring(size) => write!(formatter, "a hash ring of {size} points"),
            Self::Maglev(size) => write!(formatter, "a Maglev table of {size} entries"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn cookie(ttl: Option<u64>) -> HashKey {
        HashKey::Cookie { name: "user".to_owned(), path: String::new(), ttl: ttl.map(Duration::from_secs) }
    }

    #[rstest]
    #[case::header(HashKey::Header("x-user".to_owned()), Some(KeyOf::Value("ann".to_owned())))]
    #[case::no_such_header(HashKey::Header("x-usr".to_owned()), None)]
    #[case::cookie(cookie(None), Some(KeyOf::Value("bob".to_owned())))]
    #[case::cookie_that_would_be_set(cookie(Some(0)), Some(KeyOf::Value("bob".to_owned())))]
    #[case::parameter(HashKey::Query("user".to_owned()), Some(KeyOf::Value("cid".to_owned())))]
    #[case::no_such_parameter(HashKey::Query("User".to_owned()), None)]
    #[case::address(HashKey::SourceIp, Some(KeyOf::Client))]
    fn the_key_is_read_from_the_request(#[case] key: HashKey, #[case] expected: Option<KeyOf>) {
        let request = Request::get("svc", 80, "/a?x=1&user=cid").with("x-user", "ann").with("cookie", "a=b; user=bob");
        assert_eq!(key.of(&request), expected);
    }

    #[test]
    fn without_the_cookie_it_is_set_for_each_connection_or_there_is_no_key() {
        let request = Request::get("svc", 80, "/").with("cookie", "username=bob");
        assert_eq!(cookie(None).of(&request), None);
        assert_eq!(cookie(Some(0)).of(&request), Some(KeyOf::Connection));
    }
}
