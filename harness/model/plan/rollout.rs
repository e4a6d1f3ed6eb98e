//! What Argo Rollouts makes of a Rollout: its `ReplicaSets`, the weights of its route, and the labels by which its pods are told apart.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use crate::routing::{Chance, Kind, Live};
use crate::scenario::{Action, Controlled, Manifest, Phase, Stage, Step};

/// The label that Argo Rollouts adds to the pods of each version.
const HASH: &str = "rollouts-pod-template-hash";

/// The state of a Rollout after a stage.
#[derive(Debug, Clone)]
pub(super) struct RolloutState {
    /// The Rollout with the template of the version that was promoted last; none before the first one.
    stable: Option<Manifest>,
    /// The Rollout as applied last.
    current: Manifest,
    /// The index of the current step.
    step: usize,
    /// The weight of the current version; none where the stage does not say which step is reached.
    weight: Option<u32>,
}

impl RolloutState {
    /// The state after a stage, whose objects are `live`; none if there is no Rollout.
    pub fn after(before: Option<&Self>, controlled: &Controlled, stage: &Stage, live: &Live) -> Option<Self> {
        let current = live.all().map(|object| &object.manifest).find(|manifest| controlled.is(manifest))?;
        let fresh = Self { stable: None, current: Manifest::clone(current), step: 0, weight: Some(0) };
        let mut rollout = before.cloned().unwrap_or_else(|| fresh.clone());
        if template(&rollout.current) != template(&fresh.current) {
            (rollout.step, rollout.weight) = (0, None);
        }
        rollout.current = fresh.current;
        let acted = stage.steps.iter().rev().find_map(|step| match step {
            Step::Act(action) => Some(*action),
            _ => None,
        });
        let Some(wait) = &stage.wait else { return Some(rollout) };
        let steps = rollout.steps();
        match (wait.phase, wait.step) {
            (Some(Phase::Healthy), _) => {
                rollout.stable = Some(rollout.current.clone());
                (rollout.step, rollout.weight) = (steps.len(), Some(0));
            }
            (Some(Phase::Degraded), _) if acted == Some(Action::Abort) => {
                (rollout.step, rollout.weight) = (0, Some(0));
            }
            (_, Some(step)) => rollout.reach(usize::try_from(step).unwrap_or(usize::MAX), &steps),
            (Some(Phase::Paused), None) => {
                // a promotion leaves the pause that it was at
                let from = rollout.step + usize::from(matches!(acted, Some(Action::Promote)));
                let pause = steps.iter().enumerate().skip(from).find(|(_, step)| step.get("pause").is_some());
                match pause {
                    Some((step, _)) => rollout.reach(step, &steps),
                    None => rollout.weight = None,
                }
            }
            _ => rollout.weight = None,
        }
        Some(rollout)
    }

    /// The state at a step: the weight is that of the last `setWeight` up to the step.
    fn reach(&mut self, step: usize, steps: &[Value]) {
        let weights = steps.iter().take(step.saturating_add(1));
        let mut weights = weights.rev().filter_map(|step| step.get("setWeight")?.as_u64());
        (self.step, self.weight) = (step, weights.next().map_or(Some(0), |weight| u32::try_from(weight).ok()));
    }

    fn steps(&self) -> Vec<Value> {
        let steps = self.current.at("/spec/strategy/canary/steps").and_then(Value::as_array);
        steps.cloned().unwrap_or_default()
    }

    /// The objects as the controller leaves them. Where the stage does not say which step is reached, the Rollout stays, which the model
    /// does not cover.
    pub fn apply_to(&self, live: &Live) -> Live {
        let mut live = live.clone();
        let Some(weight) = self.weight else { return live };
        let stable = self.stable.as_ref().unwrap_or(&self.current);
        let replicas = self.current.at("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        let canary_replicas = (replicas * u64::from(weight)).div_ceil(100);
        live.remove(&self.current);
        live.apply(&replica_set(stable, replicas));
        if template(stable) != template(&self.current) {
            live.apply(&replica_set(&self.current, canary_replicas));
        }
        let routing = Routing::of(&self.current);
        for (name, is_canary) in routing.services() {
            let hash = hash(if is_canary { &self.current } else { stable });
            live.edit(Kind::Service, name, |object| object["spec"]["selector"][HASH] = json!(hash));
        }
        if let Some(rule) = routing.destination_rule {
            live.edit(Kind::DestinationRule, rule, |object| {
                for subset in object["spec"]["subsets"].as_array_mut().into_iter().flatten() {
                    let Some(is_canary) = routing.is_canary_subset(subset["name"].as_str()) else { continue };
                    subset["labels"][HASH] = json!(hash(if is_canary { &self.current } else { stable }));
                }
            });
        }
        for (name, routes) in &routing.virtual_services {
            live.edit(Kind::VirtualService, name, |object| {
                for destination in split_routes(object, routes).flatten() {
                    let Some(is_canary) = routing.is_canary(destination) else { continue };
                    destination["weight"] = json!(if is_canary { weight } else { 100 - weight });
                }
            });
        }
        live
    }
}

/// The weights in the route of a controlled object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteWeights {
    /// The new version.
    pub canary: Chance,
    /// The old version.
    pub stable: Chance,
}

impl fmt::Display for RouteWeights {
    /// `canary 20 %, stable 80 %`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "canary {}, stable {}", self.canary, self.stable)
    }
}

impl RouteWeights {
    /// The weights of the destinations of one route; none if a version has no destination.
    pub(super) fn of(destinations: &[Value], is_canary: impl Fn(&Value) -> Option<bool>) -> Option<Self> {
        let weight = |canary: bool| {
            let own = destinations.iter().filter(|own| is_canary(own) == Some(canary));
            let weights: Vec<u64> = own.map(|own| own["weight"].as_u64().unwrap_or(0)).collect();
            (!weights.is_empty()).then(|| weights.iter().sum::<u64>())
        };
        let (canary, stable) = (weight(true)?, weight(false)?);
        let share = |weight| Chance::of(weight, canary + stable);
        Some(Self { canary: share(canary), stable: share(stable) })
    }
}

/// The weights in the route of a Rollout; none if there is no route to both versions.
pub(super) fn route_weights(rollout: &Manifest, live: &Live) -> Option<RouteWeights> {
    let routing = Routing::of(rollout);
    routing.virtual_services.iter().find_map(|(name, routes)| {
        let mut object = live.get(Kind::VirtualService, name)?.manifest.object.data.clone();
        let mut routes = split_routes(&mut object, routes);
        routes.find_map(|destinations| RouteWeights::of(destinations, |own| routing.is_canary(own)))
    })
}

/// How a Rollout routes: the fields of `spec.strategy.canary`.
struct Routing<'a> {
    canary_service: Option<&'a str>,
    stable_service: Option<&'a str>,
    destination_rule: Option<&'a str>,
    canary_subset: Option<&'a str>,
    stable_subset: Option<&'a str>,
    /// Each with the names of its routes; no names stand for its only route.
    virtual_services: Vec<(&'a str, Vec<&'a str>)>,
}

impl<'a> Routing<'a> {
    fn of(rollout: &'a Manifest) -> Self {
        let text = |pointer: &str| rollout.at(&format!("/spec/strategy/canary/{pointer}")).and_then(Value::as_str);
        let one = rollout.at("/spec/strategy/canary/trafficRouting/istio/virtualService");
        let several = rollout.at("/spec/strategy/canary/trafficRouting/istio/virtualServices");
        let virtual_services = one.into_iter().chain(several.and_then(Value::as_array).into_iter().flatten());
        let virtual_services = virtual_services.filter_map(|service| {
            let routes = service.get("routes").and_then(Value::as_array).into_iter().flatten();
            Some((service.get("name")?.as_str()?, routes.filter_map(Value::as_str).collect()))
        });
        Self {
            canary_service: text("canaryService"),
            stable_service: text("stableService"),
            destination_rule: text("trafficRouting/istio/destinationRule/name"),
            canary_subset: text("trafficRouting/istio/destinationRule/canarySubsetName"),
            stable_subset: text("trafficRouting/istio/destinationRule/stableSubsetName"),
            virtual_services: virtual_services.collect(),
        }
    }

    /// The services of the two versions, each with whether it is that of the current one.
    fn services(&self) -> impl Iterator<Item = (&'a str, bool)> {
        let canary = self.canary_service.map(|name| (name, true));
        canary.into_iter().chain(self.stable_service.map(|name| (name, false)))
    }

    /// Whether a subset is that of the current version; none if it is of neither.
    fn is_canary_subset(&self, name: Option<&str>) -> Option<bool> {
        let name = name?;
        if self.canary_subset == Some(name) { Some(true) } else { (self.stable_subset == Some(name)).then_some(false) }
    }

    /// Whether a destination of a route is that of the current version; none if it is of neither.
    fn is_canary(&self, destination: &Value) -> Option<bool> {
        let destination = &destination["destination"];
        if let Some(subset) = destination["subset"].as_str() {
            return self.is_canary_subset(Some(subset));
        }
        let host = destination["host"].as_str()?;
        let name = host.split('.').next().unwrap_or(host);
        self.services().find(|(service, _)| *service == name).map(|(_, is_canary)| is_canary)
    }
}

/// The destinations of the routes of a `VirtualService` that a Rollout names.
fn split_routes<'v>(object: &'v mut Value, names: &[&str]) -> impl Iterator<Item = &'v mut Vec<Value>> + use<'v> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let http = object.pointer_mut("/spec/http").and_then(Value::as_array_mut);
    http.into_iter().flatten().filter_map(move |route| {
        let is_named = |name: &str| names.iter().any(|own| own == name);
        let wanted = names.is_empty() || route["name"].as_str().is_some_and(is_named);
        if wanted { route["route"].as_array_mut() } else { None }
    })
}

fn template(rollout: &Manifest) -> Option<&Value> {
    rollout.at("/spec/template")
}

/// A value for the label: any that differs from version to version.
fn hash(rollout: &Manifest) -> String {
    let mut hasher = DefaultHasher::new();
    template(rollout).map(Value::to_string).hash(&mut hasher);
    format!("{:08x}", hasher.finish() & 0xffff_ffff)
}

/// The `ReplicaSet` of a version.
fn replica_set(rollout: &Manifest, replicas: u64) -> Manifest {
    let (mut set, hash) = (rollout.clone(), hash(rollout));
    "apps/v1".clone_into(&mut set.object.api_version);
    "ReplicaSet".clone_into(&mut set.object.kind);
    set.object.metadata.name = format!("{}-{hash}", rollout.name());
    set.object.data["spec"]["replicas"] = json!(replicas);
    set.object.data["spec"]["template"]["metadata"]["labels"][HASH] = json!(hash);
    set
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::plan::Plan;
    use crate::scenario::{ControllerWait, Origin, Scenario};

    fn scenario() -> Scenario {
        Scenario::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/rollouts-subset")).unwrap()
    }

    fn wait(step: Option<u32>, phase: Option<Phase>) -> ControllerWait {
        let within = std::time::Duration::from_secs(60);
        ControllerWait { step, weight: None, phase, within, origin: Origin::new("scenario.yaml", 1, 1) }
    }

    /// The answers of each stage: to the only population of the scenario.
    fn given(scenario: &Scenario) -> Vec<String> {
        let plan = Plan::new(scenario);
        let of_stage = |number: usize| {
            let after = &plan.stages[number].after;
            let given = after.given(&scenario.populations[0], "/", &after.outbound());
            given.not_modelled.first().map_or_else(|| given.to_string(), |note| format!("unknown: {}", note.field))
        };
        (0..plan.stages.len()).map(of_stage).collect()
    }

    #[test]
    fn each_stage_has_the_weights_of_its_step() {
        let scenario = scenario();
        assert_eq!(given(&scenario), ["v1", "v1 80 %, v2 20 %", "v1", "v1 80 %, v2 20 %", "v2"]);
        let plan = Plan::new(&scenario);
        let weights = plan.stages.iter().map(|planned| planned.after.weights().unwrap().canary.to_string());
        assert_eq!(weights.collect::<Vec<_>>(), ["0 %", "20 %", "0 %", "20 %", "0 %"]);
    }

    #[rstest]
    #[case::the_first_pause(wait(None, Some(Phase::Paused)), "v1 80 %, v2 20 %")]
    #[case::the_step_of_a_weight(wait(Some(2), None), "v1 50 %, v2 50 %")]
    #[case::the_second_pause(wait(Some(3), Some(Phase::Paused)), "v1 50 %, v2 50 %")]
    #[case::the_end(wait(None, Some(Phase::Healthy)), "v2")]
    #[case::no_step(wait(None, Some(Phase::Progressing)), "unknown: Rollout/hello")]
    fn a_stage_reaches_the_step_that_it_waits_for(#[case] wait: ControllerWait, #[case] expected: &str) {
        let mut scenario = scenario();
        scenario.stages.truncate(2);
        scenario.stages[1].wait = Some(wait);
        assert_eq!(given(&scenario)[1], expected);
    }

    #[test]
    fn a_promotion_leads_to_the_next_pause() {
        let mut scenario = scenario();
        scenario.stages.truncate(3);
        scenario.stages[2].steps = vec![Step::Act(Action::Promote)];
        scenario.stages[2].wait = Some(wait(None, Some(Phase::Paused)));
        assert_eq!(given(&scenario)[2], "v1 50 %, v2 50 %");
    }

    #[test]
    fn without_a_controller_a_rollout_is_not_modelled() {
        let mut scenario = scenario();
        scenario.controller = None;
        assert_eq!(given(&scenario)[1], "unknown: Rollout/hello");
    }
}
