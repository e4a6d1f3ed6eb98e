use std::collections::BTreeMap;

use thiserror::Error;

use super::comparisons::{NotComparable, weight};
use super::during::{Undecidable, bounds, refused};
use super::follow::{self, ShortStep};
use super::sessions::{self, NeverKept, NoCookie, Sticky};
use super::stages::{Plan, PlannedStage};
use crate::scenario::{Claim, ErrorRates, Objective, Origin, Population, Sender, Stage};
use crate::verdict::{Design, DesignError, ServiceLevelDesign, SessionDesign, Totals, Unidentified, identify};

/// A claim of a scenario that is refused before anything starts.
#[derive(Debug, Error)]
#[error("{place}: {source}")]
pub struct PlanError {
    /// Where it is claimed.
    pub place: Origin,
    /// Why it is refused.
    pub source: Refused,
}

/// Why a claim is refused before anything starts.
#[derive(Debug, Error)]
#[error(transparent)]
#[non_exhaustive]
pub enum Refused {
    /// No sample can decide it.
    Design(#[from] DesignError),
    /// It would hold without any route.
    Unidentified(#[from] Unidentified),
    /// It is about a share of requests that a hash keeps at pods.
    Sticky(#[from] Sticky),
    /// It is about sessions whose cookie is never set.
    NoCookie(#[from] Box<NoCookie>),
    /// It is that sessions keep a version that they never get.
    NeverKept(#[from] Box<NeverKept>),
    /// It compares versions that cannot be compared.
    NotComparable(#[from] NotComparable),
    /// It is about the time while a stage is applied, and no watch can decide it.
    Undecidable(#[from] Undecidable),
    /// It is about what a controller does by itself, and a step is too short for it.
    ShortStep(#[from] Box<ShortStep>),
}

impl PlanError {
    fn new(place: &Origin, source: impl Into<Refused>) -> Self {
        Self { place: place.clone(), source: source.into() }
    }
}

/// The sample designs of the claims of a stage about requests.
#[derive(Debug, Clone, Default)]
pub struct StageDesigns {
    /// The claims about shares.
    pub claims: Vec<Design>,
    /// The claims about errors and latency.
    pub levels: Vec<ServiceLevelDesign>,
    /// The claims about sessions.
    pub sessions: Vec<SessionDesign>,
}

impl StageDesigns {
    /// Whether the stage claims nothing about requests.
    pub const fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.levels.is_empty() && self.sessions.is_empty()
    }
}

/// The designs of a stage that does not exist.
static NONE: StageDesigns = StageDesigns { claims: Vec::new(), levels: Vec::new(), sessions: Vec::new() };

/// The sample designs of all claims of a plan.
#[derive(Debug)]
pub struct Designs {
    /// For each stage, the design of each claim about a sample.
    samples: Vec<StageDesigns>,
    /// For each `during` claim, how many bounds it states, and the error probability of each; and the same of its false alarms.
    watched: Vec<[(u32, f64); 2]>,
    /// For each claim about what a controller does by itself, the number of shares that it judges, and their error rates.
    declared: Vec<(u32, ErrorRates)>,
}

fn declared(plan: &Plan<'_>) -> Vec<(u32, ErrorRates)> {
    let parts = |stage: &Stage| stage.wait.as_ref().and_then(|wait| wait.follows.as_ref()).map_or(1, Vec::len);
    let stages = plan.stages.iter().map(|planned| planned.stage);
    let of_each = stages.flat_map(|stage| {
        let parts = u32::try_from(parts(stage).max(1)).unwrap_or(u32::MAX);
        stage.declared().map(move |claim| (parts, claim.errors))
    });
    of_each.collect()
}

impl Designs {
    /// The designs of the claims about shares, also of those that would hold without any route: for mutants, whose claims are to fail.
    ///
    /// # Errors
    /// The first claim that no sample can decide.
    pub fn unchecked(plan: &Plan<'_>) -> Result<Self, PlanError> {
        let of_stage = |planned: &PlannedStage<'_>| {
            Ok(StageDesigns { claims: planned.designs()?, levels: Vec::new(), sessions: planned.sessions()? })
        };
        let designs = plan.stages.iter().map(of_stage).collect::<Result<_, _>>()?;
        Ok(Self { samples: designs, watched: bounds(plan.scenario), declared: declared(plan) })
    }

    /// The designs of all claims.
    ///
    /// # Errors
    /// The first claim that cannot be decided.
    pub fn new(plan: &Plan<'_>) -> Result<Self, PlanError> {
        let scenario = plan.scenario;
        let mut designs = Vec::new();
        for planned in &plan.stages {
            if let Some((place, source)) = sessions::refused(planned) {
                return Err(PlanError::new(&place, source));
            }
            if let Some((place, source)) = sessions::without_cookie(planned) {
                return Err(PlanError::new(&place, Box::new(source)));
            }
            if let Some((place, source)) = sessions::never_kept(planned) {
                return Err(PlanError::new(&place, Box::new(source)));
            }
            let namespace = planned.after.live.namespace();
            let replicas = planned.after.mesh().replicas(&scenario.service.host, namespace);
            let along = |path: &str| planned.after.mesh().replicas_along(&scenario.service.host, namespace, path);
            let mut claims: BTreeMap<Sender<'_>, Vec<&Claim>> = BTreeMap::new();
            for claim in planned.stage.claims().filter(|claim| claim.slower_than.is_none()) {
                let sender = scenario.population(&claim.from).map_or(Sender::Client, Population::sender);
                claims.entry(sender).or_default().push(claim);
            }
            // a gateway sends nothing anywhere without routes, and a pod without a sidecar has none
            let is_routed = |sender: &Sender<'_>| match *sender {
                Sender::Client => true,
                Sender::Pod(name) => scenario.other_client(name).is_none_or(|own| own.sidecar),
                Sender::Outside(_) => false,
            };
            for claims in claims.iter().filter(|(sender, _)| is_routed(sender)).map(|(_, claims)| claims) {
                for claim in claims {
                    let balanced = if claim.is_along_a_path() { along(&claim.path) } else { replicas.clone() };
                    identify(claim, claims, &balanced).map_err(|source| PlanError::new(&claim.origin, source))?;
                }
            }
            let (claims, levels, sessions) = (planned.designs()?, planned.service_levels()?, planned.sessions()?);
            designs.push(StageDesigns { claims, levels, sessions });
            if let Some((place, source)) = follow::refused(planned) {
                return Err(PlanError::new(&place, Box::new(source)));
            }
        }
        if let Some((place, source)) = refused(scenario) {
            return Err(PlanError::new(place, source));
        }
        Ok(Self { samples: designs, watched: bounds(scenario), declared: declared(plan) })
    }

    /// The designs of a stage, by its position from 1.
    pub fn of(&self, number: usize) -> &StageDesigns {
        self.samples.get(number.wrapping_sub(1)).unwrap_or(&NONE)
    }

    /// The first design of a claim that splits versions, with its stage's position from 1.
    pub fn first_split(&self) -> Option<(usize, &Design)> {
        let splits = |design: &&Design| {
            design.claim.slower_than.is_none() && design.claim.versions.values().any(|share| share.is_part())
        };
        (1..)
            .zip(&self.samples)
            .find_map(|(number, stage)| stage.claims.iter().find(splits).map(|design| (number, design)))
    }

    /// The summed error probabilities of all claims.
    pub fn totals(&self) -> Totals {
        let mut totals: Totals = self.samples.iter().flat_map(|stage| &stage.claims).collect();
        for level in self.samples.iter().flat_map(|stage| &stage.levels) {
            let errors = level.claim.errors;
            totals.claims += 1;
            totals.false_alarm += errors.false_alarm.value();
            totals.miss += errors.miss.value();
            totals.worst_miss = totals.worst_miss.max(errors.miss.value());
        }
        for design in self.samples.iter().flat_map(|stage| &stage.sessions) {
            let errors = design.claim.errors;
            totals.claims += 1;
            totals.requests += design.mean();
            totals.false_alarm += if design.is_split() { errors.false_alarm.value() } else { 0.0 };
            totals.miss += errors.miss.value();
            totals.worst_miss = totals.worst_miss.max(errors.miss.value());
        }
        for [(bounds, miss), (tests, false_alarm)] in &self.watched {
            totals.claims += 1;
            totals.false_alarm += f64::from(*tests) * false_alarm;
            totals.miss += f64::from(*bounds) * miss;
            if *bounds > 0 {
                totals.worst_miss = totals.worst_miss.max(*miss);
            }
        }
        for (shares, errors) in &self.declared {
            totals.claims += 1;
            totals.false_alarm += errors.false_alarm.value();
            totals.miss += f64::from(*shares) * errors.miss.value();
            totals.worst_miss = totals.worst_miss.max(errors.miss.value());
        }
        totals
    }
}

impl PlannedStage<'_> {
    /// The sample designs of the stage's claims.
    ///
    /// # Errors
    /// The first claim that no sample can decide.
    pub fn designs(&self) -> Result<Vec<Design>, PlanError> {
        let designs = self.stage.claims().map(|claim| {
            Design::new(claim)
                .map(|design| design.of_variants(self.variants(&claim.from)))
                .map_err(|source| PlanError::new(&claim.origin, source))
        });
        designs.collect()
    }

    /// The sample designs of the stage's claims about sessions.
    ///
    /// # Errors
    /// The first claim that no sample can decide.
    fn sessions(&self) -> Result<Vec<SessionDesign>, PlanError> {
        sessions::session_designs(self).map_err(|(place, source)| PlanError::new(&place, source))
    }

    /// The sample designs of the stage's claims about errors and latency.
    ///
    /// # Errors
    /// The first claim that no sample can decide.
    fn service_levels(&self) -> Result<Vec<ServiceLevelDesign>, PlanError> {
        let designs = self.stage.service_levels().map(|level| {
            let design = match &level.objective {
                Objective::Compare(comparison) => {
                    let weight =
                        weight(self, level, comparison).map_err(|source| PlanError::new(&level.origin, source))?;
                    ServiceLevelDesign::of_comparison(level, comparison, weight)
                }
                Objective::Limit(limits) => ServiceLevelDesign::of_limits(level, limits),
            };
            design.map_err(|source| PlanError::new(&level.origin, source))
        });
        designs.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Expectation, Scenario};
    use crate::verdict::{Answer, Trial};

    fn designs(scenario: &Scenario) -> Result<Designs, PlanError> {
        Designs::new(&Plan::new(scenario))
    }

    fn canary() -> Scenario {
        Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/canary")).unwrap()
    }

    #[test]
    fn the_errors_of_the_walkthrough_are_summed() {
        let totals = designs(&canary()).unwrap().totals();
        assert_eq!(totals.claims, 24);
        assert!((totals.false_alarm - 2e-6).abs() < 1e-15, "{}", totals.false_alarm);
        assert!((totals.miss - 0.024).abs() < 1e-12, "{}", totals.miss);
        assert!((16_000.0..17_000.0).contains(&totals.requests), "{}", totals.requests);
    }

    #[test]
    fn bounds_of_watched_changes_are_part_of_the_errors() {
        let progressive = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/progressive");
        let mut scenario = Scenario::read(progressive).unwrap();
        let with = designs(&scenario).unwrap().totals();
        for stage in &mut scenario.stages {
            stage.expect.retain(|expectation| !matches!(expectation, Expectation::During(_)));
        }
        let without = designs(&scenario).unwrap().totals();
        assert_eq!(with.claims - without.claims, 5);
        assert!((with.miss - without.miss - 5e-3).abs() < 1e-12, "{} {}", with.miss, without.miss);
    }

    #[test]
    fn a_gap_that_no_watch_can_measure_is_refused_with_its_place() {
        let mut scenario = Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/progressive")).unwrap();
        let during = scenario.stages[1].expect.iter_mut().find_map(|expectation| match expectation {
            Expectation::During(during) => Some(during),
            _ => None,
        });
        during.unwrap().gap = Some(std::time::Duration::from_millis(2));
        let error = designs(&scenario).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("/scenario.yaml:29:9: a gap of 2 ms is too short to be measured: the shortest limit for 1 population is 3.3 ms"), "{error}");
    }

    #[test]
    fn a_population_of_several_kinds_of_requests_is_judged_for_each() {
        let mut trial = Trial::new(designs(&canary()).unwrap().of(1).claims[2].clone());
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
        let error = designs(&scenario).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("fixtures/canary/scenario.yaml:48:9: testers would get v1 50 %, v2 50 % without any route, as there are 2 of v1 and 2 of v2: "), "{error}");
    }

    #[test]
    fn a_claim_that_costs_too_much_is_refused_with_its_place() {
        let mut scenario = canary();
        let Expectation::Claim(claim) = &mut scenario.stages[3].expect[1] else { panic!("the testers' claim") };
        claim.errors.deviation = 0.0001;
        let error = designs(&scenario).unwrap_err();
        assert!(
            error.to_string().contains("/scenario.yaml:48:9: 50 % of v2 with a deviation of 0.01 points"),
            "{error}"
        );
    }
}
