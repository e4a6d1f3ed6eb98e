//! The distribution of outcomes of the requests that take a route.

use super::super::distribution::{Chance, Distribution, Outcome};
use super::super::response::ResponseHeaders;
use super::super::table::{Action, Cluster, Route};

/// The outcomes of the requests that take a route, given those of requests to each cluster, and the header in which a client reads the version.
pub(super) fn of_route(
    route: &Route,
    version_header: Option<&str>,
    mut of: impl FnMut(&Cluster) -> Distribution,
) -> Distribution {
    let mut distribution = Distribution::default();
    let mut rest = Chance::CERTAIN;
    if let Some(abort) = route.abort {
        let share = Chance::of(u64::from(abort.per_million.min(1_000_000)), 1_000_000);
        distribution.add(Outcome::Aborted(abort.status), share);
        rest = share.otherwise();
    }
    match &route.action {
        Action::Redirect(redirect) => distribution.add(Outcome::Redirected(redirect.clone()), rest),
        Action::Respond { status, body } => {
            distribution.add(Outcome::Responded { status: *status, body: body.clone() }, rest);
        }
        Action::Forward(forward) => {
            let total: u64 = forward.clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
            for (index, (cluster, weight)) in forward.clusters.iter().enumerate() {
                let part = rest.and(Chance::of(u64::from(*weight), total));
                let outcomes = of(cluster);
                if outcomes.iter().next().is_none() {
                    distribution.add(Outcome::NoCluster(forward.missing), part);
                }
                for (outcome, chance) in outcomes.iter() {
                    let outcome = read(outcome, version_header, [forward.responses.get(&index), Some(&route.response)]);
                    distribution.add(outcome, part.and(chance));
                }
            }
            if total == 0 {
                distribution.add(Outcome::NoCluster(forward.missing), rest);
            }
        }
    }
    distribution
}

/// The outcome as a client reads it after these changes of the response, in their order.
fn read(outcome: &Outcome, version_header: Option<&str>, changes: [Option<&ResponseHeaders>; 2]) -> Outcome {
    let (Outcome::Served { version, image, http2, workload, greets }, Some(header)) = (outcome, version_header) else {
        return outcome.clone();
    };
    let mut read = Some(version.as_str());
    for own in changes.into_iter().flatten() {
        read = own.read(header, read);
    }
    match read {
        Some(version) => {
            let (version, image, workload) = (version.to_owned(), image.clone(), workload.clone());
            Outcome::Served { version, image, http2: *http2, workload, greets: *greets }
        }
        None => Outcome::WithoutVersion { image: image.clone(), http2: *http2 },
    }
}
