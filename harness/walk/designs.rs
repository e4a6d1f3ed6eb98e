use super::WalkError;
use super::during::{bounds, refused};
use crate::routing::{Live, Mesh, pods_of};
use crate::scenario::Scenario;
use crate::verdict::{Design, Replicas, Totals, identify};
use crate::verify::naming;

/// How each claim of each stage is decided: known, and refused where it cannot be, before anything starts.
#[derive(Debug)]
pub(super) struct Designs {
    designs: Vec<Vec<Design>>,
    /// For each claim about what callers see during a change, how many bounds it states, and the chance with which each is wrong.
    watched: Vec<(u32, f64)>,
}

impl Designs {
    /// The designs of all claims.
    pub fn new(scenario: &Scenario) -> Result<Self, WalkError> {
        let mut live = Live::new(&scenario.namespace, &scenario.namespace);
        let naming = naming(scenario);
        let mut designs = Vec::new();
        for stage in &scenario.stages {
            live.step_through(stage);
            let claims: Vec<_> = stage.claims().collect();
            let mesh = Mesh::new(&live, pods_of(&live, &naming));
            let replicas = Replicas(mesh.replicas(&scenario.service.host, &scenario.namespace));
            for claim in &claims {
                identify(claim, &claims, &replicas)
                    .map_err(|source| WalkError::Unidentified { place: claim.origin.clone(), source })?;
            }
            let stage = claims.iter().map(|claim| {
                let variants = scenario.population(&claim.from).map_or(1, |population| population.variants.len());
                Design::new(claim)
                    .map(|design| design.of_variants(variants))
                    .map_err(|source| WalkError::Design { place: claim.origin.clone(), source })
            });
            designs.push(stage.collect::<Result<_, _>>()?);
        }
        if let Some((place, source)) = refused(scenario) {
            return Err(WalkError::Undecidable { place, source });
        }
        Ok(Self { designs, watched: bounds(scenario) })
    }

    /// Those of a stage, by its position from 1.
    pub fn of(&self, number: usize) -> &[Design] {
        self.designs.get(number.wrapping_sub(1)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The first that splits versions, with its stage's position from 1.
    pub fn first_split(&self) -> Option<(usize, &Design)> {
        let splits = |design: &&Design| design.claim.versions.values().any(|share| share.is_part());
        (1..).zip(&self.designs).find_map(|(number, stage)| stage.iter().find(splits).map(|design| (number, design)))
    }

    /// The summed errors of all claims.
    pub fn totals(&self) -> Totals {
        let mut totals: Totals = self.designs.iter().flatten().collect();
        for (bounds, miss) in &self.watched {
            totals.claims += 1;
            totals.miss += f64::from(*bounds) * miss;
            if *bounds > 0 {
                totals.worst_miss = totals.worst_miss.max(*miss);
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Expectation;
    use crate::verdict::{Answer, Trial};

    fn canary() -> Scenario {
        Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap()
    }

    #[test]
    fn the_errors_of_the_walkthrough_are_summed() {
        let totals = Designs::new(&canary()).unwrap().totals();
        assert_eq!(totals.claims, 24);
        assert!((totals.false_alarm - 2e-6).abs() < 1e-15, "{}", totals.false_alarm);
        assert!((totals.miss - 0.024).abs() < 1e-12, "{}", totals.miss);
        assert!((16_000.0..17_000.0).contains(&totals.requests), "{}", totals.requests);
    }

    #[test]
    fn bounds_of_watched_changes_are_part_of_the_errors() {
        let progressive = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/progressive");
        let mut scenario = Scenario::read(progressive).unwrap();
        let with = Designs::new(&scenario).unwrap().totals();
        for stage in &mut scenario.stages {
            stage.expect.retain(|expectation| !matches!(expectation, Expectation::During(_)));
        }
        let without = Designs::new(&scenario).unwrap().totals();
        assert_eq!(with.claims - without.claims, 5);
        assert!((with.miss - without.miss - 5e-3).abs() < 1e-12, "{} {}", with.miss, without.miss);
    }

    #[test]
    fn a_gap_that_no_watch_can_measure_is_refused_with_its_place() {
        let mut scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/progressive")).unwrap();
        let during = scenario.stages[1].expect.iter_mut().find_map(|expectation| match expectation {
            Expectation::During(during) => Some(during),
            _ => None,
        });
        during.unwrap().gap = Some(std::time::Duration::from_millis(2));
        let error = Designs::new(&scenario).unwrap_err();
        assert!(error.is_bad_input());
        let error = error.to_string();
        assert!(error.contains("/scenario.yaml:29:9: a gap of 2 ms is too short to be measured: the shortest limit for 1 population is 3.3 ms"), "{error}");
    }

    #[test]
    fn a_population_of_several_kinds_of_requests_is_judged_for_each() {
        let mut trial = Trial::new(Designs::new(&canary()).unwrap().of(1)[2].clone());
        assert_eq!(trial.design().claim.from, "near-miss");
        let kind = trial.kind(&Answer::Version { version: "v1".to_owned(), status: 200 });
        while trial.observe(kind).is_none() {}
        let reason = trial.verdict().reason;
        assert!(reason.contains("below 1.00 % in all, below 2.97 % in each of 3 kinds of requests"), "{reason}");
    }

    #[test]
    fn halves_without_a_control_are_refused_with_their_place() {
        let mut scenario = canary();
        scenario.stages[3]
            .expect
            .retain(|expectation| matches!(expectation, Expectation::Claim(claim) if claim.from == "testers"));
        let error = Designs::new(&scenario).unwrap_err();
        assert!(error.is_bad_input());
        let error = error.to_string();
        assert!(error.contains("fixtures/canary/scenario.yaml:48:9: testers would get v1 50 %, v2 50 % without any route, as there are 2 of v1 and 2 of v2: "), "{error}");
    }

    #[test]
    fn a_claim_that_costs_too_much_is_refused_with_its_place() {
        let mut scenario = canary();
        let Expectation::Claim(claim) = &mut scenario.stages[3].expect[1] else { panic!("the testers' claim") };
        claim.errors.deviation = 0.0001;
        let error = Designs::new(&scenario).unwrap_err();
        assert!(error.is_bad_input());
        assert!(
            error.to_string().contains("/scenario.yaml:48:9: 50 % of v2 with a deviation of 0.01 points"),
            "{error}"
        );
    }
}
