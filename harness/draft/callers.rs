//! Who calls the service of a draft: populations and paths.

use crate::plan::requests;
use crate::routing::{Outbound, Polarity, Subject, Test};
use crate::scenario::{Population, Request as Variant, Service};

/// The populations and the paths of requests: everyone in the mesh, those from `outside`, and of each a population for each header value in a
/// route. What they cannot express is noted in `open`.
pub(super) fn callers(
    outbound: &Outbound<'_>,
    service: &Service,
    outside: Vec<Population>,
    open: &mut Vec<String>,
) -> (Vec<Population>, Vec<String>) {
    let everyone = Population {
        name: "everyone".to_owned(),
        through: None,
        from_pod: None,
        variants: vec![Variant::default()],
        sessions: None,
    };
    let (mut all, mut paths) = (Vec::new(), vec![service.path.clone()]);
    for base in std::iter::once(everyone).chain(outside) {
        let mut populations = vec![base];
        vary(&mut populations, outbound, service, &mut paths, open);
        all.extend(populations);
    }
    (all, paths)
}

/// Adds to a population those whose requests differ from its in what its routes depend on.
fn vary(
    populations: &mut Vec<Population>,
    outbound: &Outbound<'_>,
    service: &Service,
    paths: &mut Vec<String>,
    open: &mut Vec<String>,
) {
    let routes =
        requests(&populations[0], service, &service.path).next().and_then(|request| outbound.routes(&request).ok());
    let routes = routes.map(|routes| routes.table.routes).unwrap_or_default();
    for condition in routes.iter().flat_map(|route| &route.conditions) {
        let value = match &condition.test {
            Test::Exact(text) | Test::ExactInAnyCase(text) | Test::Prefix(text) | Test::PrefixInAnyCase(text) => {
                text.clone()
            }
            Test::PathPrefix(text) => text.clone(),
            Test::Present => "anything".to_owned(),
            Test::Regex(pattern) => {
                let pattern = pattern.as_str();
                note(open, format!("the expression `{pattern}`: add a population that matches it"));
                continue;
            }
        };
        match &condition.subject {
            Subject::Path => {
                if service.scheme.takes(&value) {
                    if !paths.contains(&value) {
                        paths.push(value);
                    }
                } else {
                    note(
                        open,
                        format!(
                            "a route matches {value}, which is no method of gRPC: add claims about the methods that it matches"
                        ),
                    );
                }
            }
            Subject::Header(header) if condition.polarity == Polarity::Positive => {
                add(populations, header, &value, value.clone());
                // a value that almost matches tests that the match is exact
                if matches!(condition.test, Test::Exact(_)) {
                    add(populations, header, &format!("not-{value}"), format!("{value}2"));
                }
            }
            other => {
                note(
                    open,
                    format!("a route matches {other}: requests of populations differ in headers and paths only"),
                );
            }
        }
    }
}

fn note(open: &mut Vec<String>, text: String) {
    if !open.contains(&text) {
        open.push(text);
    }
}

/// Adds a population with one header more than the first, unless there is one. Its name occurs once.
fn add(populations: &mut Vec<Population>, header: &str, name: &str, value: String) {
    let word: String = name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let base = populations[0].clone();
    let mut headers = base.variants[0].headers.clone();
    headers.insert(header.to_owned(), value);
    if populations.iter().any(|known| known.variants[0].headers == headers) {
        return;
    }
    let of = if base.through.is_some() { format!("{}-", base.name) } else { String::new() };
    let first = format!("{of}{header}-{word}");
    let mut name = first.clone();
    for number in 2.. {
        if !populations.iter().any(|known| known.name == name) {
            break;
        }
        name = format!("{first}-{number}");
    }
    populations.push(Population { name, variants: vec![Variant { method: None, headers }], ..base });
}
