//! The cookies of sessions: each session begins without the cookie, and sends what the server has set from then on.

use hyper::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};
use tokio::sync::watch;

use crate::connection::ClientRequest;
use crate::protocol::Flow;

/// The sessions of a flow, which take turns, each with its cookie.
pub(super) struct CookieJar {
    name: String,
    /// The path of the requests, without the query.
    path: String,
    sessions: Vec<watch::Sender<Session>>,
}

#[derive(Debug, Default)]
struct Session {
    /// The number of requests that were answered or have failed.
    answered: u64,
    /// `NAME=VALUE`, as the server has set it.
    cookie: Option<String>,
}

/// What a response does with the cookie of a session.
#[derive(Debug, PartialEq, Eq)]
enum SetCookie {
    /// `NAME=VALUE`.
    To(String),
    Deleted,
}

impl CookieJar {
    /// The jar of a flow whose sessions are told apart by a cookie.
    pub fn new(flow: &Flow) -> Option<Self> {
        let name = flow.cookie.clone()?;
        let path = flow.path.split('?').next().unwrap_or_default().to_owned();
        let sessions = flow.variants.iter().map(|_| watch::Sender::default());
        Some(Self { name, path, sessions: sessions.collect() })
    }

    /// The session of a request, by the number of earlier requests of the flow, and how many requests it has sent before.
    fn session(&self, earlier: u64) -> Option<(&watch::Sender<Session>, u64)> {
        let count = self.sessions.len() as u64;
        let index = usize::try_from(earlier.checked_rem(count)?).ok()?;
        Some((self.sessions.get(index)?, earlier / count))
    }

    /// Waits until all earlier requests of the session were answered or have failed. Returns its cookie, if the server has set one.
    pub async fn turn(&self, earlier: u64) -> Option<String> {
        let (session, before) = self.session(earlier)?;
        let mut session = session.subscribe();
        let session = session.wait_for(|session| session.answered >= before).await.ok()?;
        session.cookie.clone()
    }

    /// Takes the headers of the response, if there is one, and lets the next request of the session go.
    pub fn answered(&self, earlier: u64, headers: Option<&HeaderMap>) {
        let Some((session, _)) = self.session(earlier) else { return };
        let set = headers.into_iter().flat_map(|headers| headers.get_all(SET_COOKIE));
        let set = set.filter_map(|value| self.read(value.to_str().ok()?)).next_back();
        session.send_modify(|session| {
            session.answered += 1;
            if let Some(cookie) = set {
                session.cookie = match cookie {
                    SetCookie::To(cookie) => Some(cookie),
                    SetCookie::Deleted => None,
                };
            }
        });
    }

    /// The number of sessions that have a cookie.
    pub fn kept(&self) -> u64 {
        self.sessions.iter().filter(|session| session.borrow().cookie.is_some()).count() as u64
    }

    /// What a header does with the cookie; none if it is about another cookie or other paths.
    fn read(&self, set: &str) -> Option<SetCookie> {
        let (pair, attributes) = set.split_once(';').unwrap_or((set, ""));
        let (name, value) = pair.trim().split_once('=')?;
        if name.trim_end() != self.name {
            return None;
        }
        let attribute = |wanted: &str| {
            let mut all = attributes.split(';').filter_map(|own| own.trim().split_once('='));
            all.find(|(name, _)| name.trim_end().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
        };
        if attribute("path").is_some_and(|path| path.starts_with('/') && !is_within(&self.path, path)) {
            return None;
        }
        let is_deleted = attribute("max-age").and_then(|age| age.parse::<i64>().ok()).is_some_and(|age| age <= 0);
        let cookie = || format!("{}={}", self.name, value.trim());
        Some(if is_deleted { SetCookie::Deleted } else { SetCookie::To(cookie()) })
    }
}

/// Whether a client sends a cookie for a path with requests for another, as RFC 6265 says in 5.1.4.
fn is_within(path: &str, of_cookie: &str) -> bool {
    path.strip_prefix(of_cookie)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || of_cookie.ends_with('/'))
}

/// A request with a cookie, after those that it has.
pub(super) fn with_cookie(request: &ClientRequest, cookie: &str) -> ClientRequest {
    let mut request = request.clone();
    let before = request.headers().get(COOKIE).and_then(|value| value.to_str().ok());
    let all = before.map_or_else(|| cookie.to_owned(), |before| format!("{before}; {cookie}"));
    if let Ok(value) = HeaderValue::from_str(&all) {
        request.headers_mut().insert(COOKIE, value);
    }
    request
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;

    fn jar(path: &str, sessions: usize) -> CookieJar {
        let flow = Flow {
            path: path.to_owned(),
            method: None,
            requests: 10,
            min_results: 0,
            message: Vec::new(),
            field: None,
            cookie: Some("user".to_owned()),
            queries: Vec::new(),
            variants: vec![BTreeMap::new(); sessions],
        };
        CookieJar::new(&flow).unwrap()
    }

    #[rstest]
    #[case::plain("user=ann", Some("user=ann"))]
    #[case::of_envoy("user=\"a1\"; Max-Age=60; Path=/; HttpOnly", Some("user=\"a1\""))]
    #[case::another_name("usr=ann", None)]
    #[case::a_longer_name("user-id=ann", None)]
    #[case::a_path_above("user=ann; path=/shop", Some("user=ann"))]
    #[case::the_same_path("user=ann; Path=/shop/cart", Some("user=ann"))]
    #[case::another_path("user=ann; Path=/shop/car", None)]
    #[case::deleted("user=; Max-Age=0", Some(""))]
    #[case::as_flagger_sets_it("user=LpsIaLdoNZ; Max-Age=21600", Some("user=LpsIaLdoNZ"))]
    #[case::as_flagger_deletes_it("user=LpsIaLdoNZ; Max-Age=-1", Some(""))]
    fn the_cookie_of_a_session_is_read(#[case] set: &str, #[case] expected: Option<&str>) {
        let expected = expected.map(|cookie| match cookie {
            "" => SetCookie::Deleted,
            cookie => SetCookie::To(cookie.to_owned()),
        });
        assert_eq!(jar("/shop/cart?x=1", 1).read(set), expected);
    }

    #[tokio::test]
    async fn a_request_waits_for_the_answer_to_the_one_before_of_its_session_alone() {
        let jar = jar("/", 2);
        assert_eq!((jar.turn(0).await, jar.turn(1).await), (None, None));
        let second = jar.turn(2);
        tokio::pin!(second);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), &mut second).await;
        assert!(waited.is_err(), "{waited:?}");
        jar.answered(1, None);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), &mut second).await;
        assert!(waited.is_err(), "{waited:?}");
        let set = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static("user=ann"))]);
        jar.answered(0, Some(&set));
        assert_eq!(second.await.as_deref(), Some("user=ann"));
        assert_eq!((jar.turn(3).await, jar.kept()), (None, 1));
        // a response that deletes the cookie
        let deleted = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static("user=ann; Max-Age=-1"))]);
        jar.answered(2, Some(&deleted));
        assert_eq!((jar.turn(4).await, jar.kept()), (None, 0));
    }
}
