//! Sessions of populations, and claims about them.

use std::collections::BTreeMap;

use http::header::HeaderName;
use serde_saphyr::{Location, Spanned};

use super::{Context, Resolver};
use crate::demo::NextHop;
use crate::scenario::error::ScenarioError;
use crate::scenario::parse::{OfSessions, SessionClaims, raw};
use crate::scenario::population::Request;
use crate::scenario::sessions::{KeptVersion, SessionClaim, SessionKey, Sessions, Stay};

impl Resolver<'_> {
    /// The sessions of a population whose requests are alike apart from the key.
    pub(super) fn sessions(
        &self,
        raw: Spanned<raw::Sessions>,
        variants: &[Request],
    ) -> Result<Sessions, ScenarioError> {
        let origin = self.origin(raw.referenced);
        let raw::Sessions { header, cookie, query, count } = raw.value;
        let key = match (header, cookie, query) {
            (Some(header), None, None) => self.key_header(header, variants)?,
            (None, Some(cookie), None) => self.key_cookie(cookie, variants)?,
            (None, None, Some(query)) => self.key_query(query)?,
            (None, None, None) => {
                let message = "sessions need a key: `header` or `query`, which the callers send, or `cookie`, which the server sets";
                return self.error(raw.referenced, message);
            }
            (header, cookie, query) => {
                let written = [header, cookie, query].into_iter().flatten().map(|key| key.referenced);
                let second = written.max_by_key(|at| (at.line(), at.column())).unwrap_or(raw.referenced);
                return self.error(second, "sessions have only one of `header`, `cookie` and `query`");
            }
        };
        if !(2..=Sessions::MOST).contains(&count.value) {
            let message = format!("`count` must be from 2 to {}, not {}", Sessions::MOST, count.value);
            return self.error(count.referenced, message);
        }
        Ok(Sessions { key, count: count.value, origin })
    }

    /// A header with the key of a session.
    fn key_header(&self, header: Spanned<String>, variants: &[Request]) -> Result<SessionKey, ScenarioError> {
        let at = header.referenced;
        let header = self.header_name(header)?.to_lowercase();
        if header == "host" {
            return self.error(at, "the host is no key of a session");
        }
        let written = |request: &Request| request.headers.keys().any(|name| name.eq_ignore_ascii_case(&header));
        if variants.iter().any(written) {
            let message = format!("the header `{header}` is the key of the sessions; remove it from `headers`");
            return self.error(at, message);
        }
        Ok(SessionKey::Header(header))
    }

    /// A cookie with the key of a session.
    fn key_cookie(&self, cookie: Spanned<String>, variants: &[Request]) -> Result<SessionKey, ScenarioError> {
        // both are tokens of HTTP
        if HeaderName::from_bytes(cookie.value.as_bytes()).is_err() {
            let message = format!("{:?} is not the name of a cookie, such as user", cookie.value);
            return self.error(cookie.referenced, message);
        }
        let headers = variants.iter().flat_map(|request| &request.headers);
        let sent = headers.filter(|(name, _)| name.eq_ignore_ascii_case("cookie"));
        let mut sent = sent.flat_map(|(_, cookies)| cookies.split(';')).filter_map(|one| one.split_once('='));
        if sent.any(|(name, _)| name.trim() == cookie.value) {
            let message = format!(
                "the server sets the cookie `{}`, which is the key of the sessions; remove it from `headers`",
                cookie.value
            );
            return self.error(cookie.referenced, message);
        }
        Ok(SessionKey::Cookie(cookie.value))
    }

    /// A parameter of the query with the key of a session.
    fn key_query(&self, query: Spanned<String>) -> Result<SessionKey, ScenarioError> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-._~".contains(letter);
        if query.value.is_empty() || !query.value.chars().all(is_plain) {
            let message = format!(
                "{:?} is not the name of a parameter of sessions, which has letters, digits, `-`, `.`, `_` and `~`",
                query.value
            );
            return self.error(query.referenced, message);
        }
        Ok(SessionKey::Query(query.value))
    }

    /// A claim about sessions.
    pub(super) fn of_sessions(
        &self,
        raw: OfSessions,
        at: Location,
        context: &Context<'_>,
    ) -> Result<SessionClaim, ScenarioError> {
        self.known_population(&raw.from, context)?;
        let population = context.populations.iter().find(|own| own.name == raw.from.value);
        let Some(sessions) = population.and_then(|own| own.sessions.as_ref()) else {
            let message = format!(
                "`{}` has no sessions: add `sessions: {{header: x-user, count: 200}}` to the population",
                raw.from.value
            );
            return self.error(raw.from.referenced, message);
        };
        let place = raw.path.as_ref().map_or(at, |path| path.referenced);
        let path = self.path_of(raw.path, context)?;
        if NextHop::of(&path).is_some() {
            return self.error(place, "a claim about sessions is about one service, and not about services behind it");
        }
        if let SessionKey::Query(name) = &sessions.key {
            let query = path.split_once('?').map_or("", |(_, query)| query);
            if query.split('&').any(|one| one.split('=').next() == Some(name)) {
                let message = format!("the parameter `{name}` is the key of the sessions; remove it from the path");
                return self.error(place, message);
            }
        }
        let errors = self.error_rates(raw.error_rates.unwrap_or_default(), context.errors)?;
        let claims = raw.sessions.value;
        let keep = self.kept(&claims, &raw.from.value, sessions)?;
        self.claims_something(&claims, raw.sessions.referenced)?;
        let versions = match claims.get {
            Some(get) => {
                let named = get.value.iter().map(|(version, share)| (format!("`{version}`"), *share));
                self.shares(&named.collect::<Vec<_>>(), errors, get.referenced)?;
                get.value
            }
            None => BTreeMap::new(),
        };
        let names_stay = claims.stay.is_some();
        Ok(SessionClaim {
            from: raw.from.value,
            path,
            stay: if names_stay && context.names_pods { Stay::Pod } else { Stay::Version },
            names_stay,
            versions,
            keep,
            status: context.service.scheme.success(),
            cookie: sessions.cookie().map(str::to_owned),
            count: sessions.count,
            connects_each: context.sending.connects_each,
            errors,
            origin: self.origin(at),
        })
    }

    /// Refuses a claim that `stay` cannot make, and one that claims nothing.
    fn claims_something(&self, claims: &SessionClaims, at: Location) -> Result<(), ScenarioError> {
        if let Some(stay) = claims.stay.as_ref().filter(|stay| !stay.value.is_all()) {
            let message = format!(
                "`stay` can only be 100%, not {}: a session that moves once is not kept. For shares of versions, use `get`",
                stay.value
            );
            return self.error(stay.referenced, message);
        }
        if claims.keep.is_none() && claims.stay.is_none() && claims.get.as_ref().is_none_or(|get| get.value.is_empty())
        {
            return self.error(at, "`sessions` claims nothing: it needs `stay`, `get` or `keep`");
        }
        Ok(())
    }

    /// The version that sessions keep once it has answered them.
    fn kept(
        &self,
        claims: &SessionClaims,
        from: &str,
        sessions: &Sessions,
    ) -> Result<Option<KeptVersion>, ScenarioError> {
        let Some(keep) = &claims.keep else { return Ok(None) };
        let version = &keep.value;
        if let Some(key) =
            ["stay", "get"].into_iter().zip([claims.stay.is_some(), claims.get.is_some()]).find(|own| own.1)
        {
            let message = format!(
                "`keep` does not belong to `{}`: sessions may get other versions until {version} answers them. Claim it separately",
                key.0
            );
            return self.error(keep.referenced, message);
        }
        if sessions.cookie().is_none() {
            let message = format!(
                "`keep` is about sessions by cookie: by the cookie that it sets, {version} gets the later requests. Give `{from}` `sessions: {{cookie: NAME, count: {}}}`",
                sessions.count
            );
            return self.error(keep.referenced, message);
        }
        Ok(Some(KeptVersion { version: version.clone(), origin: self.origin(keep.referenced) }))
    }
}

/// The requests of sessions, one for each: with its key, unless the server sets that.
pub(super) fn keyed(sessions: &Sessions, request: &Request) -> Vec<Request> {
    let of = |index| {
        let mut own = request.clone();
        if let SessionKey::Header(name) = &sessions.key {
            own.headers.insert(name.clone(), Sessions::key_of(index));
        }
        own
    };
    (0..sessions.count).map(of).collect()
}
