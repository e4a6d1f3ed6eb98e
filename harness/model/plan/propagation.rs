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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use crate::plan::Plan;
    use crate::scenario::Scenario;

    /// The chain's files in a folder, with a change of one of them.
    fn changed(folder: &Path, file: &str, from: &str, to: &str) -> Scenario {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        for name in ["chain", "canary"] {
            std::fs::create_dir(folder.join(name)).unwrap();
            for entry in std::fs::read_dir(fixtures.join(name)).unwrap().flatten() {
                std::fs::copy(entry.path(), folder.join(name).join(entry.file_name())).unwrap();
            }
        }
        let path = folder.join("chain").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} does not hold `{from}`");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        Scenario::read(folder.join("chain")).unwrap()
    }

    /// What testers are given at a stage.
    fn given(scenario: &Scenario, stage: usize, path: &str) -> String {
        let plan = Plan::new(scenario);
        let after = &plan.stages[stage - 1].after;
        let given = after.given(scenario.population("testers").unwrap(), path, &after.senders());
        given.not_modelled.first().map_or_else(|| given.to_string(), |note| format!("unknown: {}", note.field))
    }

    #[rstest]
    #[case::their_header("subset: v2", "subset: v2", "/via/svc-back", "front-v1 > back-v2")]
    #[case::a_path_of_the_service_behind(
        "subset: v2",
        "subset: v2",
        "/via/svc-back/error",
        "front-v1 > back-v2 with 502"
    )]
    #[case::two_hops("subset: v2", "subset: v2", "/via/svc-front/via/svc-back", "front-v1 > front-v1 > back-v2")]
    #[case::a_split(
        "route: [{destination: {host: svc-back, subset: v2}}]",
        "route: [{destination: {host: svc-back, subset: v1}, weight: 1}, {destination: {host: svc-back, subset: v2}, weight: 3}]",
        "/via/svc-back",
        "front-v1 > back-v1 25 %, front-v1 > back-v2 75 %"
    )]
    #[case::a_delay(
        "      route: [{destination: {host: svc-back, subset: v2}}]",
        "      fault: {delay: {fixedDelay: 1s, percentage: {value: 50}}}\n      route: [{destination: {host: svc-back, subset: v2}}]",
        "/via/svc-back",
        "front-v1 > back-v2, 50 % delayed by 1s"
    )]
    #[case::a_delay_in_each_of_two_hops(
        "      route: [{destination: {host: svc-back, subset: v2}}]",
        "      fault: {delay: {fixedDelay: 1s, percentage: {value: 50}}}\n      route: [{destination: {host: svc-back, subset: v2}}]",
        "/via/svc-back/via/svc-back",
        "front-v1 > back-v2 > back-v2, 50 % delayed by 1s, 25 % delayed by 2s"
    )]
    fn two_decisions_are_composed(#[case] from: &str, #[case] to: &str, #[case] path: &str, #[case] expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let scenario = changed(folder.path(), "vs-back-testers.yaml", from, to);
        assert_eq!(given(&scenario, 2, path), expected);
    }

    #[test]
    fn the_pod_in_between_is_the_client_of_the_service_behind() {
        let folder = tempfile::tempdir().unwrap();
        let labels = "sourceLabels: {app: front, version: v2}";
        let scenario =
            changed(folder.path(), "vs-back-sources.yaml", labels, "sourceLabels: {app: front, version: v1}");
        assert_eq!(given(&scenario, 4, "/via/svc-back"), "front-v2 > back-v1");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/chain");
        let scenario = Scenario::read(fixture).unwrap();
        assert_eq!(given(&scenario, 4, "/via/svc-back"), "front-v2 > back-v1 50 %, front-v2 > back-v2 50 %");
    }

    #[test]
    fn answers_as_without_headers_are_told_from_others() {
        let folder = tempfile::tempdir().unwrap();
        // nobody knows what such a server sends on
        let scenario = changed(folder.path(), "front-v1.yaml", "image: hello-server:v1", "image: shop/front:front-v1");
        assert_eq!(
            given(&scenario, 2, "/via/svc-back"),
            "unknown: what the image `shop/front:front-v1` sends on to other services"
        );
        let plan = Plan::new(&scenario);
        let (stage, after) = (plan.stages[1].stage, &plan.stages[1].after);
        let claim = stage.claims().find(|claim| claim.from == "testers").unwrap();
        let told = |answered: &str| after.headers_seem_lost(&after.senders(), claim, answered);
        let lost = "front-v1 > back-v1 is what the manifests give if a service on the way does not propagate the headers of requests";
        assert_eq!(told("front-v1 > back-v1").as_deref(), Some(lost));
        assert_eq!((told("front-v1 > back-v2"), told("front-v1 > back-v3")), (None, None));
        let everyone = stage.claims().find(|claim| claim.from == "everyone").unwrap();
        assert_eq!(after.headers_seem_lost(&after.senders(), everyone, "front-v1 > back-v1"), None);
    }
}
