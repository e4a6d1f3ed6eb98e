use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::demo::DemoImage;
use crate::routing::{Chance, Distribution, NotModelled, Outbound, Outcome, Request, RuleRef};
use crate::scenario::{Population, Scheme, Service, StatusCode};

/// The response of one outcome, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The version that served the request; none if the mesh answered, or if there is no response.
    pub version: Option<String>,
    /// The status: of HTTP, or of gRPC for a service of gRPC; none if only the application knows it, or if there is no response.
    pub status: Option<u16>,
    /// What the mesh did, if it answered, took the version out of the response or did not connect.
    pub mesh: Option<String>,
}

impl Seen {
    /// What a client of HTTP sees of an outcome of its request for a path.
    fn by_http(outcome: &Outcome, path: &str) -> Self {
        let of_image = |image: &str| DemoImage::find(image).and_then(|image| image.status(path));
        match outcome {
            Outcome::Served { version, image, .. } => {
                Self { version: Some(version.clone()), status: of_image(image), mesh: None }
            }
            Outcome::WithoutVersion { image, .. } => {
                Self { version: None, status: of_image(image), mesh: Some(outcome.to_string()) }
            }
            other => Self { version: None, status: other.mesh_status(), mesh: Some(other.to_string()) },
        }
    }

    /// What a client of gRPC sees of an outcome of its call.
    fn by_grpc(outcome: &Outcome, method: &str) -> Self {
        let of_image = |image: &str| DemoImage::find(image).map(|_| DemoImage::grpc_status(method));
        match outcome {
            Outcome::Served { image, http2: false, .. } | Outcome::WithoutVersion { image, http2: false } => {
                // a demo server refuses the call with 505, others end the connection
                let status = StatusCode(if DemoImage::find(image).is_some() { 505 } else { 502 }).as_grpc();
                let mesh = format!("{status}, the pod gets HTTP/1.1, as the port declares, and gRPC needs HTTP/2");
                Self { version: None, status: Some(status.0), mesh: Some(mesh) }
            }
            Outcome::Served { version, image, .. } => {
                Self { version: Some(version.clone()), status: of_image(image), mesh: None }
            }
            Outcome::WithoutVersion { image, .. } => {
                Self { version: None, status: of_image(image), mesh: Some(outcome.to_string()) }
            }
            other => Self { version: None, status: other.grpc_status(), mesh: Some(other.to_string()) },
        }
    }
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
}

/// The requests of a population for a path, one for each of its variants.
pub(crate) fn requests<'a>(
    population: &'a Population,
    service: &'a Service,
    path: &'a str,
) -> impl Iterator<Item = Request> + use<'a> {
    population.variants.iter().map(move |variant| {
        let request = match (&population.through, variant.headers.get("host")) {
            (Some(through), Some(host)) => Request::entering(host, through.port, path),
            _ => Request::get(&service.host, service.port, path),
        };
        let request = match service.scheme {
            Scheme::Http | Scheme::H2c => variant.method.iter().fold(request, |request, method| request.by(method)),
            Scheme::Grpc => request.by("POST").with("content-type", "application/grpc").with("te", "trailers"),
        };
        variant.headers.iter().fold(request, |request, (name, value)| request.with(name, value))
    })
}

impl Given {
    /// The responses to a population's requests for a path, with equal shares of the population's variants.
    pub fn to(population: &Population, service: &Service, path: &str, outbound: &Outbound<'_>) -> Self {
        let mut given = Self::default();
        let share = Chance::of(1, population.variants.len() as u64);
        for request in requests(population, service, path) {
            let routes = outbound.routes(&request);
            for note in outbound.not_modelled(&request, routes.as_ref().ok()) {
                if !given.not_modelled.contains(&note) {
                    given.not_modelled.push(note);
                }
            }
            match routes {
                Ok(routes) => {
                    let decision = routes.decide(&request);
                    given.add(decision.distribution, &decision.path, share, request.is_grpc());
                    let route = decision.route.and_then(|index| routes.table.routes.get(index));
                    if let Some(delay) = route.and_then(|route| route.delay) {
                        let total = given.delays.entry(delay.duration).or_insert(Chance::NONE);
                        let part = Chance::of(u64::from(delay.per_million.min(1_000_000)), 1_000_000);
                        *total = total.or(part.and(share));
                    }
                    if let Some(rule) = decision.rule.filter(|rule| !given.rules.contains(rule)) {
                        given.rules.push(rule.clone());
                    }
                }
                Err(reason) => {
                    given.add(&Distribution::certain(Outcome::NoConnection(reason)), path, share, request.is_grpc());
                }
            }
        }
        given
    }

    fn add(&mut self, distribution: &Distribution, path: &str, share: Chance, is_grpc: bool) {
        for (outcome, chance) in distribution.iter() {
            let seen = if is_grpc { Seen::by_grpc(outcome, path) } else { Seen::by_http(outcome, path) };
            let total = self.seen.entry(seen).or_insert(Chance::NONE);
            *total = total.or(chance.and(share));
        }
    }

    /// The probabilities of delays above a limit, and of shorter ones or none.
    pub fn speeds(&self, limit: Duration) -> [Chance; 2] {
        let slow = self.delays.iter().filter(|(delay, _)| **delay > limit);
        let slow = slow.fold(Chance::NONE, |sum, (_, chance)| sum.or(*chance));
        [slow, slow.otherwise()]
    }

    /// The probability of all responses that meet a condition.
    pub fn chance(&self, of: impl Fn(&Seen) -> bool) -> Chance {
        self.seen.iter().filter(|(seen, _)| of(seen)).fold(Chance::NONE, |sum, (_, chance)| sum.or(*chance))
    }
}

impl fmt::Display for Given {
    /// `v1 50 %, v2 50 %`, with the status unless it is 200 or OK.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (seen, chance)) in self.seen.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { ", " })?;
            match (&seen.version, &seen.mesh) {
                (Some(version), _) => formatter.write_str(version)?,
                (None, Some(mesh)) => formatter.write_str(mesh)?,
                (None, None) => formatter.write_str("nothing")?,
            }
            if let (Some(_), Some(status)) = (&seen.version, seen.status.filter(|status| ![0, 200].contains(status))) {
                write!(formatter, " with {}", StatusCode(status))?;
            }
            if self.seen.len() > 1 {
                write!(formatter, " {chance}")?;
            }
        }
        for (delay, chance) in &self.delays {
            write!(formatter, ", {chance} delayed by {delay:?}")?;
        }
        Ok(())
    }
}
