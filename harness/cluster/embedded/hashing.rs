//! Endpoints that a hash chooses, and the cookies that a proxy sets for it.

use std::hash::{DefaultHasher, Hash, Hasher};

use hyper::Response;
use hyper::header::{HeaderValue, SET_COOKIE};

use crate::routing::{Forward, HashKey, KeyOf, Request};
use crate::workload::AnswerBody;

/// What a proxy hashes of a request.
#[derive(Debug, Default)]
pub(super) struct Hashed {
    /// The hash; none if the request has no key.
    pub key: Option<u64>,
    /// The cookies that the proxy sets.
    cookies: Vec<String>,
}

impl Hashed {
    /// What a proxy hashes of a request that it got on a connection. A cookie that it sets has one value for each connection.
    pub fn of(forward: &Forward, request: &Request, connection: u64) -> Self {
        let mut cookies = Vec::new();
        let keys = forward.hashes.iter().filter_map(|hash| match (hash.of(request)?, hash) {
            (KeyOf::Connection, HashKey::Cookie { name, path, ttl: Some(ttl) }) => {
                let value = format!("{connection:016x}");
                let lifetime = match ttl.as_secs() {
                    0 => String::new(),
                    seconds => format!("; Max-Age={seconds}"),
                };
                let path = if path.is_empty() { String::new() } else { format!("; Path={path}") };
                cookies.push(format!("{name}=\"{value}\"{lifetime}{path}; HttpOnly"));
                Some(KeyOf::Value(value))
            }
            (key, _) => Some(key),
        });
        let keys: Vec<KeyOf> = keys.collect();
        let key = (!keys.is_empty()).then(|| {
            let mut hasher = DefaultHasher::new();
            keys.hash(&mut hasher);
            hasher.finish()
        });
        Self { key, cookies }
    }

    /// Adds the cookies to the response of a server.
    pub fn set_cookies(&self, response: &mut Response<AnswerBody>) {
        for cookie in &self.cookies {
            if let Ok(value) = HeaderValue::from_str(cookie) {
                response.headers_mut().append(SET_COOKIE, value);
            }
        }
    }
}

/// The position of the pod for a key: the one with the greatest hash of both, so that each pod has its share of the keys, and keys stay where
/// they are when other pods come and go.
pub(super) fn position_of<'a>(pods: impl Iterator<Item = &'a str>, key: u64) -> usize {
    let weight = |pod: &str| {
        let mut hasher = DefaultHasher::new();
        (key, pod).hash(&mut hasher);
        hasher.finish()
    };
    let weights = pods.enumerate().map(|(position, pod)| (weight(pod), position));
    weights.max().map_or(0, |(_, position)| position)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rstest::rstest;

    use super::*;

    fn forward(path: &str, ttl: Option<u64>) -> Forward {
        let ttl = ttl.map(Duration::from_secs);
        let cookie = HashKey::Cookie { name: "user".to_owned(), path: path.to_owned(), ttl };
        Forward { hashes: vec![cookie], ..Forward::new(Vec::new()) }
    }

    #[rstest]
    #[case::for_a_while("/", Some(60), &["user=\"000000000000002a\"; Max-Age=60; Path=/; HttpOnly"])]
    #[case::for_a_session_of_a_browser("", Some(0), &["user=\"000000000000002a\"; HttpOnly"])]
    #[case::never("/", None, &[])]
    fn a_request_with_the_cookie_that_was_set_goes_where_the_first_one_went(
        #[case] path: &str,
        #[case] ttl: Option<u64>,
        #[case] expected: &[&str],
    ) {
        let (forward, request) = (forward(path, ttl), Request::get("svc", 80, "/"));
        let first = Hashed::of(&forward, &request, 42);
        let mut response = Response::new(AnswerBody::default());
        first.set_cookies(&mut response);
        let set: Vec<&str> =
            response.headers().get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(set, expected);
        let Some(cookie) = set.first().and_then(|set| set.split(';').next()) else {
            assert_eq!(first.key, None);
            return;
        };
        let later = Hashed::of(&forward, &request.clone().with("cookie", cookie), 7);
        assert_eq!((later.key, later.cookies.len()), (first.key, 0));
        assert_ne!(Hashed::of(&forward, &request, 7).key, first.key);
    }
}
