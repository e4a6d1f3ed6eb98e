//! Sessions of populations, and claims about them.

use std::collections::BTreeMap;

use serde_saphyr::{Location, Spanned};

use super::{Context, Resolver};
use crate::demo::NextHop;
use crate::scenario::error::ScenarioError;
use crate::scenario::parse::{OfSessions, raw};
use crate::scenario::population::Request;
use crate::scenario::sessions::{SessionClaim, Sessions, Stay};

impl Resolver<'_> {
    /// The sessions of a population whose requests are alike apart from the key.
    pub(super) fn sessions(
        &self,
        raw: Spanned<raw::Sessions>,
        variants: &[Request],
    ) -> Result<Sessions, ScenarioError> {
        let origin = self.origin(raw.referenced);
        let raw::Sessions { header, count } = raw.value;
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
        if !(2..=Sessions::MOST).contains(&count.value) {
            let message = format!("`count` must be from 2 to {}, not {}", Sessions::MOST, count.value);
            return self.error(count.referenced, message);
        }
        Ok(Sessions { header, count: count.value, origin })
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
        let errors = self.error_rates(raw.error_rates.unwrap_or_default(), context.errors)?;
        let claims = raw.sessions.value;
        if let Some(stay) = claims.stay.as_ref().filter(|stay| !stay.value.is_all()) {
            let message = format!(
                "`stay` can only be 100%, not {}: a session that moves once is not kept. For shares of versions, use `get`",
                stay.value
            );
            return self.error(stay.referenced, message);
        }
        if claims.stay.is_none() && claims.get.as_ref().is_none_or(|get| get.value.is_empty()) {
            return self.error(raw.sessions.referenced, "`sessions` claims nothing: it needs `stay` or `get`");
        }
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
            status: context.service.scheme.success(),
            count: sessions.count,
            connects_each: context.sending.connects_each,
            errors,
            origin: self.origin(at),
        })
    }
}

/// The requests of sessions: one for each.
pub(super) fn keyed(sessions: &Sessions, request: &Request) -> Vec<Request> {
    let of = |index| {
        let mut own = request.clone();
        own.headers.insert(sessions.header.clone(), Sessions::key(index));
        own
    };
    (0..sessions.count).map(of).collect()
}
