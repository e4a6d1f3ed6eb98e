use super::WalkError;
use crate::routing::{Live, Mesh, pods_of};
use crate::scenario::Scenario;
use crate::verdict::{Design, Replicas, Totals, identify};
use crate::verify::naming;

/// How each claim of each stage is decided: known, and refused where it cannot be, before anything starts.
#[derive(Debug)]
pub(super) struct Designs(Vec<Vec<Design>>);

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
                    .map_err(|source| WalkError::Unidentified { place: claim.place.clone(), source })?;
            }
            let stage = claims.iter().map(|claim| {
                Design::new(claim).map_err(|source| WalkError::Design { place: claim.place.clone(), source })
            });
            designs.push(stage.collect::<Result<_, _>>()?);
        }
        Ok(Self(designs))
    }

    /// Those of a stage, by its position from 1.
    pub fn of(&self, number: usize) -> &[Design] {
        self.0.get(number.wrapping_sub(1)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The first that splits versions, with its stage's position from 1.
    pub fn first_split(&self) -> Option<(usize, &Design)> {
        let splits = |design: &&Design| design.claim.versions.values().any(|share| share.is_part());
        (1..).zip(&self.0).find_map(|(number, stage)| stage.iter().find(splits).map(|design| (number, design)))
    }

    /// The summed errors of all claims.
    pub fn totals(&self) -> Totals {
        self.0.iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Expectation;

    fn canary() -> Scenario {
        Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/canary")).unwrap()
    }

    #[test]
    fn the_errors_of_the_walkthrough_are_summed() {
        let totals = Designs::new(&canary()).unwrap().totals();
        assert_eq!(totals.claims, 24);
        assert!((totals.false_alarm - 2e-6).abs() < 1e-15, "{}", totals.false_alarm);
        assert!((totals.miss - 0.024).abs() < 1e-12, "{}", totals.miss);
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
