use std::collections::BTreeMap;
use std::fmt;

use crate::demo::DemoImage;
use crate::routing::{Chance, Distribution, NotModelled, Outbound, Outcome, Request, RuleRef};
use crate::scenario::{Population, Service};

/// The response of one outcome, as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The version that served the request; none if the mesh answered, or if there is no response.
    pub version: Option<String>,
    /// The HTTP status; none if only the application knows it, or if there is no response.
    pub status: Option<u16>,
    /// What the mesh did, if it answered, took the version out of the response or did not connect.
    pub mesh: Option<String>,
}

/// What a population is given on a path: the distribution of responses, and the rules that decide it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Given {
    /// The exact probability of each response.
    pub seen: BTreeMap<Seen, Chance>,
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
        let request = variant.method.iter().fold(request, |request, method| request.by(method));
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
                    given.add(decision.distribution, &decision.path, share);
                    if let Some(rule) = decision.rule.filter(|rule| !given.rules.contains(rule)) {
                        given.rules.push(rule.clone());
                    }
                }
                Err(reason) => given.add(&Distribution::certain(Outcome::NoConnection(reason)), path, share),
            }
        }
        given
    }

    fn add(&mut self, distribution: &Distribution, path: &str, share: Chance) {
        for (outcome, chance) in distribution.iter() {
            let seen = match outcome {
                Outcome::Served { version, image, .. } => Seen {
                    version: Some(version.clone()),
                    status: DemoImage::find(image).and_then(|image| image.status(path)),
                    mesh: None,
                },
                Outcome::WithoutVersion { image } => Seen {
                    version: None,
                    status: DemoImage::find(image).and_then(|image| image.status(path)),
                    mesh: Some(outcome.to_string()),
                },
                other => Seen { version: None, status: other.mesh_status(), mesh: Some(other.to_string()) },
            };
            let total = self.seen.entry(seen).or_insert(Chance::NONE);
            *total = total.or(chance.and(share));
        }
    }

    /// The probability of all responses that meet a condition.
    pub fn chance(&self, of: impl Fn(&Seen) -> bool) -> Chance {
        self.seen.iter().filter(|(seen, _)| of(seen)).fold(Chance::NONE, |sum, (_, chance)| sum.or(*chance))
    }
}

impl fmt::Display for Given {
    /// `v1 50 %, v2 50 %`, with the status unless it is 200.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (seen, chance)) in self.seen.iter().enumerate() {
            formatter.write_str(if index == 0 { "" } else { ", " })?;
            match (&seen.version, &seen.mesh) {
                (Some(version), _) => formatter.write_str(version)?,
                (None, Some(mesh)) => formatter.write_str(mesh)?,
                (None, None) => formatter.write_str("nothing")?,
            }
            if let (Some(_), Some(status)) = (&seen.version, seen.status.filter(|status| *status != 200)) {
                write!(formatter, " with {status}")?;
            }
            if self.seen.len() > 1 {
                write!(formatter, " {chance}")?;
            }
        }
        Ok(())
    }
}
