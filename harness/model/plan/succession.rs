//! What sessions get after a version has answered them: a rule sets a cookie in its responses, and another rule matches the cookie.

use std::collections::BTreeSet;
use std::fmt;

use super::cookies::{other_images, with_cookie};
use super::seen::Seen;
use crate::routing::{HeaderChange, NotModelled, Outbound, Outcome, Request, ResponseHeaders, RuleRef, Scope};

/// What follows in sessions by cookie after the answers of versions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Succession {
    /// Everything that sessions may get.
    pub seen: BTreeSet<Seen>,
    /// What another answer may follow, once for each pair of answers.
    pub moves: Vec<Move>,
    /// What the model does not cover and what can affect the sessions.
    pub not_modelled: Vec<NotModelled>,
}

/// An answer that may follow on that of a version in a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Move {
    /// The version.
    pub from: String,
    /// The answer that may follow: another version, or what the mesh does.
    pub to: String,
    /// The name of the cookie of the sessions.
    pub name: String,
    /// The value of the cookie that the session then has; none if it has no cookie.
    pub value: Option<String>,
    /// The rule that gives the later answer.
    pub rule: Option<RuleRef>,
}

/// A request of a session with one value of its cookie, or none.
struct State {
    value: Option<String>,
    rule: Option<RuleRef>,
    /// What it may get, each with the index of the state of the next request.
    next: Vec<(Seen, usize)>,
}

/// What a response does to the cookie of a session.
#[derive(Debug, PartialEq, Eq)]
enum SetCookie {
    To(String),
    Deleted,
}

impl Succession {
    /// What follows in the sessions that begin with a request, whose cookie has this name.
    pub(super) fn of(first: &Request, name: &str, outbound: &Outbound<'_>) -> Self {
        let Ok(routes) = outbound.routes(first) else { return Self::default() };
        let mut found = Self::default();
        let mut states: Vec<State> = vec![State { value: None, rule: None, next: Vec::new() }];
        let mut outcomes: Vec<Outcome> = Vec::new();
        for at in 0.. {
            let Some(value) = states.get(at).map(|state| state.value.clone()) else { break };
            let request = value.as_ref().map_or_else(|| first.clone(), |value| with_cookie(first, name, value));
            let decision = routes.decide(&request);
            // each request may come on a connection of its own, so that no hash keeps any of them together
            let notes = outbound.not_modelled(&request, Some(&routes)).into_iter();
            found.learn(notes.filter(|note| !matches!(note.scope, Scope::Hash(..))));
            for destination in outbound.at_destinations(&request, &routes) {
                let next = match set_cookie(&destination.responses, name, &request) {
                    None => at,
                    Some(SetCookie::Deleted) => 0,
                    Some(SetCookie::To(value)) => {
                        if value.contains('%') {
                            found.learn(decision.rule.map(|rule| made_up(name, rule)));
                        }
                        position(&mut states, value)
                    }
                };
                let seen = destination.outcomes().map(|outcome| Seen::by_request(outcome, &request, &decision.path));
                states[at].next.extend(seen.map(|seen| (seen, next)));
                outcomes.extend(destination.outcomes().cloned());
            }
            states[at].rule = decision.rule.cloned();
        }
        if let (1, Some(rule)) = (states.len(), &states[0].rule) {
            let images = other_images(outcomes.iter(), name);
            let note = |field| NotModelled {
                origin: rule.origin.clone(),
                field,
                scope: Scope::Rule(rule.origin.clone()),
                only_answers: true,
            };
            found.learn(images.map(note).collect::<Vec<_>>());
        }
        found.follow(&states, name);
        found
    }

    fn learn(&mut self, notes: impl IntoIterator<Item = NotModelled>) {
        for note in notes {
            if !self.not_modelled.contains(&note) {
                self.not_modelled.push(note);
            }
        }
    }

    /// Finds what may follow on what.
    fn follow(&mut self, states: &[State], name: &str) {
        for (seen, next) in states.iter().flat_map(|state| &state.next) {
            self.seen.insert(seen.clone());
            let Some(from) = &seen.version else { continue };
            for later in reachable(states, *next) {
                for (other, _) in &states[later].next {
                    let to = answer(other);
                    let is_known = |own: &Move| own.from == *from && own.to == to;
                    if to != *from && !self.moves.iter().any(is_known) {
                        let (value, rule) = (states[later].value.clone(), states[later].rule.clone());
                        self.moves.push(Move { from: from.clone(), to, name: name.to_owned(), value, rule });
                    }
                }
            }
        }
    }

    /// Adds what follows in other sessions.
    pub(super) fn add(&mut self, other: Self) {
        self.seen.extend(other.seen);
        for own in other.moves {
            if !self.moves.contains(&own) {
                self.moves.push(own);
            }
        }
        self.learn(other.not_modelled);
    }

    /// Whether sessions get a version, and keep it once it has answered them.
    pub fn keeps(&self, version: &str) -> bool {
        let is_seen = self.seen.iter().any(|seen| seen.version.as_deref() == Some(version));
        is_seen && self.moves.iter().all(|own| own.from != version)
    }

    /// The versions that sessions keep; none if they get one answer alone.
    pub(super) fn kept(&self) -> BTreeSet<&str> {
        let all: BTreeSet<String> = self.seen.iter().map(answer).collect();
        let versions = self.seen.iter().filter_map(|seen| seen.version.as_deref());
        versions.filter(|version| all.len() > 1 && self.keeps(version)).collect()
    }

    /// Why sessions of a population do not keep a version, one line for each reason.
    pub fn why_not(&self, version: &str, population: &str) -> Vec<String> {
        if self.seen.iter().all(|seen| seen.version.as_deref() != Some(version)) {
            return vec![format!("the manifests give {version} to no request of `{population}`")];
        }
        self.moves.iter().filter(|own| own.from == version).map(ToString::to_string).collect()
    }
}

impl fmt::Display for Move {
    /// Why it follows.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, name, value, rule } = self;
        match value {
            None => write!(formatter, "no response of {from} leaves a session with the cookie `{name}`")?,
            Some(value) => write!(formatter, "a session that {from} has answered has the cookie `{name}={value}`")?,
        }
        match rule {
            Some(RuleRef { object, origin }) => write!(formatter, ", and {object} ({origin}) gives it {to}"),
            None => write!(formatter, ", and it gets {to}"),
        }
    }
}

/// The version that answers, or what the mesh does.
fn answer(seen: &Seen) -> String {
    seen.version.clone().or_else(|| seen.mesh.clone()).unwrap_or_else(|| "no version".to_owned())
}

/// The index of the state with a cookie.
fn position(states: &mut Vec<State>, value: String) -> usize {
    states.iter().position(|state| state.value.as_ref() == Some(&value)).unwrap_or_else(|| {
        states.push(State { value: Some(value), rule: None, next: Vec::new() });
        states.len() - 1
    })
}

/// The states that requests may have from a state on, in the order in which they are reached.
fn reachable(states: &[State], from: usize) -> Vec<usize> {
    let mut found = vec![from];
    for at in 0.. {
        let Some(state) = found.get(at).copied() else { break };
        for (_, next) in &states[state].next {
            if !found.contains(next) {
                found.push(*next);
            }
        }
    }
    found
}

fn made_up(name: &str, rule: &RuleRef) -> NotModelled {
    let field = format!("the value of the cookie `{name}`, which the proxy makes up for each response,");
    let (origin, scope) = (rule.origin.clone(), Scope::Rule(rule.origin.clone()));
    NotModelled { origin, field, scope, only_answers: true }
}

/// What changes of the headers of responses do to a cookie, for requests like this one; none if nothing.
fn set_cookie(changes: &[ResponseHeaders], name: &str, request: &Request) -> Option<SetCookie> {
    let mut found = None;
    for (header, change) in changes.iter().flat_map(ResponseHeaders::iter) {
        match change {
            _ if header != "set-cookie" => {}
            HeaderChange::Remove => found = None,
            HeaderChange::Set(value) => found = read(value, name, request),
            HeaderChange::Add(value) => found = read(value, name, request).or(found),
        }
    }
    found
}

/// What a `Set-Cookie` header does to a cookie; none if it is about another cookie or other paths.
fn read(value: &str, name: &str, request: &Request) -> Option<SetCookie> {
    let (pair, attributes) = value.split_once(';').unwrap_or((value, ""));
    let (own, value) = pair.trim().split_once('=')?;
    if own.trim_end() != name {
        return None;
    }
    let attribute = |wanted: &str| {
        let mut all = attributes.split(';').filter_map(|own| own.trim().split_once('='));
        all.find(|(own, _)| own.trim_end().eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let path = request.path.split('?').next().unwrap_or_default();
    let is_within = |of_cookie: &str| {
        path.strip_prefix(of_cookie)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || of_cookie.ends_with('/'))
    };
    if attribute("path").is_some_and(|path| path.starts_with('/') && !is_within(path)) {
        return None;
    }
    let is_deleted = attribute("max-age").and_then(|age| age.parse::<i64>().ok()).is_some_and(|age| age <= 0);
    Some(if is_deleted { SetCookie::Deleted } else { SetCookie::To(value.trim().to_owned()) })
}
