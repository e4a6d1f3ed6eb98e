//! The cause that a service on the way does not send on the headers of requests.

use super::given::Given;
use super::senders::Senders;
use super::stages::Snapshot;
use crate::routing::{Finding, Propagation};
use crate::scenario::Claim;

impl Snapshot<'_> {
    /// That services on the way lose headers, by their manifests, if that changes what the population of a claim is given. `holds` tells whether
    /// the claim holds of what is given.
    pub fn lost_headers(
        &self,
        senders: &Senders<'_>,
        claim: &Claim,
        holds: impl Fn(&Given) -> bool,
    ) -> Option<Finding> {
        let population = self.scenario.population(&claim.from)?;
        let given = |propagation| self.given_if(population, &claim.path, senders, propagation);
        let (declared, kept) = (given(Propagation::Declared), given(Propagation::Kept));
        if declared.losing.is_empty() || declared.seen == kept.seen {
            return None;
        }
        let losing = declared.losing.iter().map(|(workload, origin)| {
            let name = workload.rsplit('/').next().unwrap_or(workload);
            format!("{name} ({origin})")
        });
        let losing = losing.collect::<Vec<_>>().join(" and ");
        let as_claimed = if holds(&kept) { ", as claimed" } else { "" };
        let from = &claim.from;
        let message = format!(
            "the headers of requests are lost on the way: {losing} does not propagate them; if it did, {from} would get {kept}{as_claimed}"
        );
        Some(Finding { lacks_endpoints: false, message })
    }

    /// That answers of these versions come if services on the way lose headers which the manifests let them keep; none if that is no
    /// explanation.
    pub fn headers_seem_lost(&self, senders: &Senders<'_>, claim: &Claim, answered: &str) -> Option<String> {
        let population = self.scenario.population(&claim.from)?;
        let gives = |propagation| {
            let given = self.given_if(population, &claim.path, senders, propagation);
            given.seen.keys().any(|seen| seen.version.as_deref() == Some(answered))
        };
        let is_explained = claim.is_along_a_path() && !gives(Propagation::Declared) && gives(Propagation::Lost);
        is_explained.then(|| {
            format!("{answered} is what the manifests give if a service on the way does not propagate the headers of requests")
        })
    }
}
