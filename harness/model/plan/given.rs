use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::cookies::Later;
use super::seen::{BAD_GATEWAY, Seen, WAITS_FOR_REQUEST};
use super::succession::Succession;
use crate::demo::{DemoImage, NextHop};
use crate::routing::{
    Action, Affinity, Chance, Decision, Delay, HashTable, KeyOf, NotModelled, Outbound, Outcome, Propagation, Request,
    Routes, RoutingUnit, RuleRef, Scope,
};
use crate::scenario::{Origin, Population, Scheme, Service, Sessions, StatusCode};

/// The largest number of services that a request is followed through.
const HOPS: usize = 16;

/// How requests that servers send on are followed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Along {
    pub propagation: Propagation,
    /// Whether a claim names the versions along the way.
    pub is_claimed: bool,
    /// Whether the requests are connections of TCP, whose servers speak first.
    pub connects: bool,
}

/// What a population is given on a path: the distribution of responses, and the rules that decide it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// The exact probability of each response.
    pub seen: BTreeMap<Seen, Chance>,
    /// The probability of each delay that the mesh injects.
    pub delays: BTreeMap<Duration, Chance>,
    /// The rules that decide, in the order of the population's variants.
    pub rules: Vec<RuleRef>,
    /// What the model does not cover and what can affect these responses. If there is any, the probabilities are not known.
    pub not_modelled: Vec<NotModelled>,
    /// The workloads that send these requests on without headers that they had, `shop/front`, each with the place in its manifest that says so.
    pub losing: BTreeSet<(String, Origin)>,
    /// How the pods are chosen that answer, where a population has sessions or a hash chooses the pods.
    pub affinities: BTreeSet<Affinity>,
    /// Where the pods of hashes are found.
    pub tables: Vec<HashTable>,
    /// What follows after the answers of versions, where a population has sessions by cookie and no hash sets the cookie.
    pub succession: Option<Succession>,
    /// What the model does not cover of the pods and the shares of sessions alone.
    pub unknown_shares: Vec<NotModelled>,
}

/// The requests of a population for a path, one for each of its variants.
pub fn requests<'a>(
    population: &'a Population,
    service: &'a Service,
    path: &'a str,
) -> impl Iterator<Item = Request> + use<'a> {
    population.variants.iter().zip(0..).map(move |(variant, index)| {
        let path = match &population.sessions {
            Some(sessions) => Cow::Owned(sessions.path(index, path)),
            None => Cow::Borrowed(path),
        };
        let path = path.as_ref();
        let request = match (&population.through, variant.headers.get("host")) {
            (Some(through), Some(host)) => Request::through(through, host, path),
            _ => Request::get(&service.host, service.port, path),
        };
        let request = match service.scheme {
            Scheme::Http | Scheme::H2c => variant.method.iter().fold(request, |request, method| request.by(method)),
            Scheme::Tcp => request,
            Scheme::Ws => request.asking_for_websocket(),
            Scheme::Grpc => request.by("POST").with("content-type", "application/grpc").with("te", "trailers"),
        };
        variant.headers.iter().fold(request, |request, (name, value)| request.with(name, value))
    })
}

impl Given {
    /// Whether the same responses come with the same probabilities and delays, and from pods that are chosen in the same way, as far as the
    /// model knows both.
    pub fn is_known_to_answer_as(&self, other: &Self) -> bool {
        let known = [self, other].iter().all(|own| own.not_modelled.is_empty() && own.unknown_shares.is_empty());
        known && self.seen == other.seen && self.delays == other.delays && self.affinities == other.affinities
    }

    /// The responses to a population's requests for a path, with equal shares of the population's variants.
    pub fn to(population: &Population, service: &Service, path: &str, outbound: &Outbound<'_>) -> Self {
        Self::along(population, service, path, outbound, Along::default())
    }

    /// The same, where services that requests are sent on to answer as well.
    pub(super) fn along(
        population: &Population,
        service: &Service,
        path: &str,
        outbound: &Outbound<'_>,
        along: Along,
    ) -> Self {
        let along = Along { connects: service.scheme == Scheme::Tcp, ..along };
        let mut given = Self::default();
        let all = population.variants.len() as u64;
        let requests = requests(population, service, path);
        let kinds: Vec<(Request, u64)> = match population.sessions {
            Some(_) => alike(requests, outbound),
            None => requests.map(|request| (request, 1)).collect(),
        };
        for (request, count) in kinds {
            let own = match &population.sessions {
                Some(sessions) => Self::to_sessions(sessions, &request, outbound, along),
                None => answers(outbound, &request, along, HOPS),
            };
            given.add(own, Chance::of(count, all));
        }
        given
    }

    /// The responses to sessions whose first requests are like this one.
    fn to_sessions(sessions: &Sessions, first: &Request, outbound: &Outbound<'_>, along: Along) -> Self {
        let Some(later) = Later::than(first, sessions, outbound) else {
            let mut given = answers(outbound, first, along, HOPS);
            given.balance_sessions(outbound, first);
            return given;
        };
        let Later { request, lacks, not_modelled, of_shares } = later;
        let mut given = answers(outbound, &request, along, HOPS);
        given.unknown_shares = of_shares;
        match lacks {
            Some(lacks) => {
                given.succession = sessions.cookie().map(|name| Succession::of(first, name, outbound));
                // each request comes on a connection of its own, so that no hash keeps any of them together
                given.not_modelled.retain(|note| !matches!(note.scope, Scope::Hash(..)));
                given.affinities = BTreeSet::from([lacks]);
            }
            None => given.balance_sessions(outbound, &request),
        }
        given.not_modelled.extend(not_modelled);
        given
    }

    /// Adds the answers to a share of the requests.
    fn add(&mut self, answers: Self, share: Chance) {
        for (seen, chance) in answers.seen {
            add_to(&mut self.seen, seen, chance.and(share));
        }
        for (delay, chance) in answers.delays {
            add_to(&mut self.delays, delay, chance.and(share));
        }
        self.affinities.extend(answers.affinities);
        self.tables.extend(answers.tables);
        self.unknown_shares.extend(answers.unknown_shares);
        match (&mut self.succession, answers.succession) {
            (Some(own), Some(other)) => own.add(other),
            (own @ None, other) => *own = other,
            (Some(_), None) => {}
        }
        self.learn(answers.rules, answers.not_modelled, answers.losing);
    }

    /// Takes the shares for those of sessions, which a hash of their keys spreads over the pods.
    fn balance_sessions(&mut self, outbound: &Outbound<'_>, request: &Request) {
        if let Ok(routes) = outbound.routes(request) {
            self.affinities.insert(outbound.affinity(request, &routes));
        }
        let is_spread = |affinity: &Affinity| match affinity {
            Affinity::ByKey { keys, .. } => keys.iter().any(|key| matches!(key, KeyOf::Value(_))),
            _ => false,
        };
        if self.affinities.iter().all(is_spread) {
            self.not_modelled.retain(|note| !matches!(note.scope, Scope::Hash(..)));
        }
    }

    /// Adds what decides answers.
    fn learn(&mut self, rules: Vec<RuleRef>, notes: Vec<NotModelled>, losing: BTreeSet<(String, Origin)>) {
        for rule in rules {
            if !self.rules.contains(&rule) {
                self.rules.push(rule);
            }
        }
        for note in notes {
            if !self.not_modelled.contains(&note) {
                self.not_modelled.push(note);
            }
        }
        self.losing.extend(losing);
    }

    /// Adds a delay of all requests, in addition to those behind the server, which are independent of it.
    fn delay(&mut self, Delay { per_million, duration }: Delay) {
        let part = Chance::of(u64::from(per_million.min(1_000_000)), 1_000_000);
        let behind = std::mem::take(&mut self.delays);
        let without = behind.values().fold(Chance::NONE, |sum, chance| sum.or(*chance)).otherwise();
        add_to(&mut self.delays, duration, part.and(without));
        for (later, chance) in behind {
            add_to(&mut self.delays, later, chance.and(part.otherwise()));
            add_to(&mut self.delays, later + duration, chance.and(part));
        }
    }

    /// Adds the answers of a server that sends a share of the requests on, given those of the service behind it.
    fn pass_on(&mut self, own: &Seen, behind: Self, chance: Chance) {
        for (seen, part) in behind.seen {
            add_to(&mut self.seen, own.after(&seen), part.and(chance));
        }
        for (delay, part) in behind.delays {
            add_to(&mut self.delays, delay, part.and(chance));
        }
        self.learn(behind.rules, behind.not_modelled, behind.losing);
    }

    /// The probabilities of delays above a limit, and of shorter ones or none.
    pub fn speeds(&self, limit: Duration) -> [Chance; 2] {
        let slow = self.delays.iter().filter(|(delay, _)| **delay > limit);
        let slow = slow.fold(Chance::NONE, |sum, (_, chance)| sum.or(*chance));
        [slow, slow.otherwise()]
    }

    /// Whether requests with the same key go to the same pod; none if a hash chooses no pod, and there are no sessions.
    pub fn sessions_stay(&self) -> Option<bool> {
        (!self.affinities.is_empty()).then(|| self.affinities.iter().all(Affinity::keeps_pod))
    }

    /// Whether callers get something else.
    pub fn differs_from(&self, other: &Self) -> bool {
        self.seen != other.seen
            || self.delays != other.delays
            || self.sessions_stay() != other.sessions_stay()
            || self.kept() != other.kept()
    }

    /// The versions that sessions by cookie keep once they have answered them, if sessions get several.
    pub fn kept(&self) -> BTreeSet<&str> {
        self.succession.as_ref().map(Succession::kept).unwrap_or_default()
    }

    /// The probability of all responses that meet a condition.
    pub fn chance(&self, of: impl Fn(&Seen) -> bool) -> Chance {
        self.seen.iter().filter(|(seen, _)| of(seen)).fold(Chance::NONE, |sum, (_, chance)| sum.or(*chance))
    }
}

fn add_to<K: Ord>(totals: &mut BTreeMap<K, Chance>, key: K, chance: Chance) {
    let total = totals.entry(key).or_insert(Chance::NONE);
    *total = total.or(chance);
}

/// The requests of sessions, one for each of the routes that they take, with their numbers: they differ in their keys.
fn alike(requests: impl Iterator<Item = Request>, outbound: &Outbound<'_>) -> Vec<(Request, u64)> {
    let mut kinds: Vec<(Option<usize>, Request, u64)> = Vec::new();
    let mut routes = None;
    for request in requests {
        let routes = routes.get_or_insert_with(|| outbound.routes(&request).ok());
        let route = routes.as_ref().and_then(|routes| routes.decide(&request).route);
        match kinds.iter_mut().find(|(known, ..)| *known == route) {
            Some((.., count)) => *count += 1,
            None => kinds.push((route, request, 1)),
        }
    }
    kinds.into_iter().map(|(_, request, count)| (request, count)).collect()
}

/// What is not known of requests that servers send on: what servers of other images do, and retries of what they fail.
fn unknown_on_the_way(given: &Given, routes: &Routes, decision: &Decision<'_>, along: Along) -> Vec<NotModelled> {
    let Some(RuleRef { origin, .. }) = decision.rule else { return Vec::new() };
    let note = |field| {
        let (scope, origin) = (Scope::Rule(origin.clone()), origin.clone());
        NotModelled { origin, field, scope, only_answers: true }
    };
    let mut notes = Vec::new();
    if along.is_claimed || NextHop::of(&decision.path).is_some() {
        let images = decision.distribution.iter().filter_map(|(outcome, _)| match outcome {
            Outcome::Served { image, .. } if DemoImage::find(image).is_none() => Some(image),
            _ => None,
        });
        notes.extend(images.map(|image| note(format!("what the image `{image}` sends on to other services"))));
    }
    let failing = given.chance(|seen| seen.status == Some(BAD_GATEWAY));
    if ![Chance::NONE, Chance::CERTAIN].contains(&failing) && routes.repeats_bad_gateways(decision) {
        notes.push(note("retries after 502, with which a server answers if the service behind it fails".to_owned()));
    }
    notes
}

/// What is not known of WebSocket handshakes that take a route.
fn unknown_of_websocket(routes: &Routes, decision: &Decision<'_>) -> Vec<NotModelled> {
    let route = decision.route.and_then(|index| routes.table.routes.get(index));
    let (Some(RuleRef { origin, .. }), Some(Action::Forward(forward))) =
        (decision.rule, route.map(|route| &route.action))
    else {
        return Vec::new();
    };
    let is_http2 = |cluster| routes.table.upstreams.get(cluster).is_some_and(|own| own.is_http2);
    let fields = [
        (forward.clusters.iter().any(|(cluster, _)| is_http2(cluster)), "WebSocket over HTTP/2, as the port declares"),
        (!forward.mirrors.is_empty(), "mirrored WebSocket connections"),
    ];
    let note = |field: &str| {
        let (field, scope, origin) = (field.to_owned(), Scope::Rule(origin.clone()), origin.clone());
        NotModelled { origin, field, scope, only_answers: true }
    };
    fields.into_iter().filter(|(is_there, _)| *is_there).map(|(_, field)| note(field)).collect()
}

/// The answers to one request.
fn answers(outbound: &Outbound<'_>, request: &Request, along: Along, hops: usize) -> Given {
    let mut given = Given::default();
    let routes = outbound.routes(request);
    given.not_modelled = outbound.not_modelled(request, routes.as_ref().ok());
    let (is_grpc, is_websocket) = (request.is_grpc(), request.asks_for_websocket());
    let seen = |outcome: &Outcome, path: &str| {
        if along.connects { Seen::by_connection(outcome) } else { Seen::by_request(outcome, request, path) }
    };
    let routes = match routes {
        Ok(routes) => routes,
        Err(reason) => {
            add_to(&mut given.seen, seen(&Outcome::NoConnection(reason), &request.path), Chance::CERTAIN);
            return given;
        }
    };
    if along.connects && routes.table.unit == RoutingUnit::Request {
        add_to(&mut given.seen, Seen::nothing(WAITS_FOR_REQUEST), Chance::CERTAIN);
        return given;
    }
    let decision = routes.decide(request);
    for (outcome, chance) in decision.distribution.iter() {
        let own = seen(outcome, &decision.path);
        match outcome {
            Outcome::Served { workload, .. } if !is_grpc && !is_websocket && !along.connects && hops > 0 => {
                let (mesh, propagation) = (outbound.mesh(), along.propagation);
                match mesh.sent_on(workload, request, &decision.path, propagation) {
                    Some(sent_on) => {
                        let lost = sent_on.lost(request).map(|origin| (workload.clone(), origin.clone()));
                        given.losing.extend(lost);
                        let behind = answers(&mesh.outbound(sent_on.client), &sent_on.request, along, hops - 1);
                        given.pass_on(&own, behind, chance);
                    }
                    None => add_to(&mut given.seen, own, chance),
                }
            }
            _ => add_to(&mut given.seen, own, chance),
        }
    }
    let unknown = unknown_on_the_way(&given, &routes, &decision, along);
    given.not_modelled.extend(unknown);
    if is_websocket {
        given.not_modelled.extend(unknown_of_websocket(&routes, &decision));
    }
    if let Some(table) = outbound.hash_table(request, &routes) {
        let affinity = outbound.affinity(request, &routes);
        given.affinities.extend([affinity].into_iter().filter(|own| matches!(own, Affinity::ByKey { .. })));
        given.tables.push(table);
    }
    let route = decision.route.and_then(|index| routes.table.routes.get(index));
    if let Some(delay) = route.and_then(|route| route.delay) {
        given.delay(delay);
    }
    given.rules.splice(0..0, decision.rule.cloned());
    given
}

impl fmt::Display for Given {
    /// `v1 50 %, v2 50 %`, with the status unless it is that of success.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (seen, chance)) in self.seen.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { ", " })?;
            match (&seen.version, &seen.mesh) {
                (Some(version), _) => formatter.write_str(version)?,
                (None, Some(mesh)) => formatter.write_str(mesh)?,
                (None, None) => formatter.write_str("nothing")?,
            }
            if let (Some(_), Some(status)) =
                (&seen.version, seen.status.filter(|status| ![0, 101, 200].contains(status)))
            {
                write!(formatter, " with {}", StatusCode(status))?;
            }
            if let (Some(_), Some(behind)) = (&seen.version, &seen.mesh) {
                write!(formatter, " (behind it: {behind})")?;
            }
            if self.seen.len() > 1 {
                write!(formatter, " {chance}")?;
            }
        }
        for (delay, chance) in &self.delays {
            write!(formatter, ", {chance} delayed by {delay:?}")?;
        }
        let kept = self.kept();
        if !kept.is_empty() {
            return write!(formatter, ", and sessions keep {}", kept.into_iter().collect::<Vec<_>>().join(" and "));
        }
        if self.affinities.iter().any(|affinity| *affinity != Affinity::Single) {
            let stay = if self.sessions_stay() == Some(true) { "stay" } else { "do not stay" };
            write!(formatter, ", and sessions {stay} at their pod")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::routing::Scope;

    /// What a split by weight gives.
    fn split(of_v2: u64) -> Given {
        let seen = |version: &str| Seen { version: Some(version.to_owned()), status: None, mesh: None };
        Given {
            seen: [(seen("v1"), Chance::of(100 - of_v2, 100)), (seen("v2"), Chance::of(of_v2, 100))].into(),
            ..Given::default()
        }
    }

    fn with_an_unknown_field() -> Given {
        let (field, origin) = ("spec.http[0].mirrors".to_owned(), Origin::new("vs.yaml", 1, 1));
        let note = NotModelled { field, origin, scope: Scope::default(), only_answers: false };
        Given { not_modelled: vec![note], ..split(20) }
    }

    #[rstest]
    #[case::the_same(split(20), true)]
    #[case::another_share(split(50), false)]
    #[case::a_delay(Given { delays: [(Duration::from_secs(1), Chance::of(1, 2))].into(), ..split(20) }, false)]
    #[case::something_unknown(with_an_unknown_field(), false)]
    fn what_is_given_is_known_to_be_the_same(#[case] other: Given, #[case] expected: bool) {
        assert_eq!(split(20).is_known_to_answer_as(&other), expected);
        assert_eq!(other.is_known_to_answer_as(&split(20)), expected);
    }

    #[test]
    fn two_unknowns_are_not_known_to_be_the_same() {
        assert!(!with_an_unknown_field().is_known_to_answer_as(&with_an_unknown_field()));
    }
}
