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
    /// What the steps up to the current one have set; none where that is not known: the stage does not say which step is reached, or the
    /// strategy is not modelled.
    set: Option<Set>,
}

/// What the steps of a Rollout set.
#[derive(Debug, Clone, Default, PartialEq)]
struct Set {
    /// The weight of the current version in percent.
    weight: u64,
    /// The number of pods of the current version, or the percentage of all replicas, where it does not follow from the weight.
    scale: Option<Scale>,
    /// The managed header routes, each with its matches in a `VirtualService`.
    header_routes: Vec<(String, Value)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Scale {
    Replicas(u64),
    Percent(u64),
}

impl Set {
    /// What these steps set one after another; none if one of them is not modelled.
    fn by(steps: &[Value]) -> Option<Self> {
        let mut set = Self::default();
        for step in steps.iter().filter_map(Value::as_object) {
            for (kind, value) in step {
                match kind.as_str() {
                    "setWeight" => set.weight = value.as_u64()?,
                    "setCanaryScale" => set.scale = scale(value),
                    "setHeaderRoute" => set.header_route(value)?,
                    "pause" | "analysis" => {}
                    _ => return None,
                }
            }
        }
        Some(set)
    }

    /// A header route without matches removes the one of that name.
    fn header_route(&mut self, route: &Value) -> Option<()> {
        let name = route["name"].as_str()?;
        self.header_routes.retain(|(own, _)| own != name);
        let written = route["match"].as_array().into_iter().flatten();
        let matches: Vec<Value> = written
            .map(|own| json!({"headers": {own["headerName"].as_str().unwrap_or_default(): own["headerValue"]}}))
            .collect();
        if !matches.is_empty() {
            self.header_routes.push((name.to_owned(), Value::Array(matches)));
        }
        Some(())
    }

    fn replicas(&self, all: u64) -> u64 {
        match self.scale {
            Some(Scale::Replicas(own)) => own,
            Some(Scale::Percent(share)) => (all * share).div_ceil(100),
            None => (all * self.weight).div_ceil(100),
        }
    }
}

fn scale(value: &Value) -> Option<Scale> {
    let number = |key: &str| value.get(key).and_then(Value::as_u64);
    number("replicas").map(Scale::Replicas).or_else(|| number("weight").map(Scale::Percent))
}

impl RolloutState {
    /// The state after a stage, whose objects are `live`; none if there is no Rollout.
    pub fn after(before: Option<&Self>, controlled: &Controlled, stage: &Stage, live: &Live) -> Option<Self> {
        let current = live.all().map(|object| &object.manifest).find(|manifest| controlled.is(manifest))?;
        let fresh = Self { stable: None, current: Manifest::clone(current), step: 0, set: Some(Set::default()) };
        let mut rollout = before.cloned().unwrap_or_else(|| fresh.clone());
        if template(&rollout.current) != template(&fresh.current) {
            (rollout.step, rollout.set) = (0, None);
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
                (rollout.step, rollout.set) = (steps.len(), Some(Set::default()));
            }
            (Some(Phase::Degraded), _) if acted == Some(Action::Abort) => {
                (rollout.step, rollout.set) = (0, Some(Set::default()));
            }
            (_, Some(step)) => rollout.reach(usize::try_from(step).unwrap_or(usize::MAX), &steps),
            (Some(Phase::Paused), None) => {
                // a promotion leaves the pause that it was at
                let from = rollout.step + usize::from(matches!(acted, Some(Action::Promote)));
                let pause = steps.iter().enumerate().skip(from).find(|(_, step)| step.get("pause").is_some());
                match pause {
                    Some((step, _)) => rollout.reach(step, &steps),
                    None => rollout.set = None,
                }
            }
            _ => rollout.set = None,
        }
        if !rollout.is_modelled() {
            rollout.set = None;
        }
        Some(rollout)
    }

    fn reach(&mut self, step: usize, steps: &[Value]) {
        (self.step, self.set) = (step, Set::by(&steps[..steps.len().min(step.saturating_add(1))]));
    }

    /// Whether the model covers the strategy.
    fn is_modelled(&self) -> bool {
        let canary = "/spec/strategy/canary";
        self.current.at(canary).is_some()
            && self.current.at(&format!("{canary}/trafficRouting/maxTrafficWeight")).is_none()
    }

    fn steps(&self) -> Vec<Value> {
        let steps = self.current.at("/spec/strategy/canary/steps").and_then(Value::as_array);
        steps.cloned().unwrap_or_default()
    }

    /// The objects as the controller leaves them. Where the stage does not say which step is reached, the Rollout stays, which the model
    /// does not cover.
    pub fn apply_to(&self, live: &Live) -> Live {
        let mut live = live.clone();
        let Some(set) = &self.set else { return live };
        let stable = self.stable.as_ref().unwrap_or(&self.current);
        let replicas = self.current.at("/spec/replicas").and_then(Value::as_u64).unwrap_or(1);
        live.remove(&self.current);
        live.apply(&replica_set(stable, replicas));
        if template(stable) != template(&self.current) {
            live.apply(&replica_set(&self.current, set.replicas(replicas)));
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
                let mut canary = None;
                for destination in split_routes(object, routes).flatten() {
                    let Some(is_canary) = routing.is_canary(destination) else { continue };
                    destination["weight"] = json!(if is_canary { set.weight } else { 100 - set.weight });
                    canary = canary.or_else(|| is_canary.then(|| destination["destination"].clone()));
                }
                if let (Some(canary), Some(http)) = (canary, object.pointer_mut("/spec/http").and_then(Value::as_array_mut)) {
                    let routes = routing.managed(&set.header_routes).map(|(name, matches)| {
                        json!({"name": name, "match": matches, "route": [{"destination": canary.clone(), "weight": 100}]})
                    });
                    let routes: Vec<Value> = routes.collect();
                    http.splice(0..0, routes);
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
    /// The destinations of neither version, such as those of an experiment.
    #[must_use]
    pub fn others(self) -> Chance {
        self.canary.or(self.stable).otherwise()
    }

    /// The weights of the destinations of one route, which may have others, such as those of an experiment; none if a version has no destination.
    pub(super) fn of(destinations: &[Value], is_canary: impl Fn(&Value) -> Option<bool>) -> Option<Self> {
        let sum = |weights: &[u64]| weights.iter().sum::<u64>();
        let weights = |own: &Value| own["weight"].as_u64().unwrap_or(0);
        let weight = |canary: bool| {
            let own = destinations.iter().filter(|own| is_canary(own) == Some(canary));
            let weights: Vec<u64> = own.map(weights).collect();
            (!weights.is_empty()).then(|| sum(&weights))
        };
        let (canary, stable) = (weight(true)?, weight(false)?);
        let all = sum(&destinations.iter().map(weights).collect::<Vec<_>>());
        let share = |weight| Chance::of(weight, all);
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
    /// The names of the routes that steps may add, the first of which take precedence.
    managed_routes: Vec<&'a str>,
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
        let managed = rollout.at("/spec/strategy/canary/trafficRouting/managedRoutes").and_then(Value::as_array);
        Self {
            managed_routes: managed.into_iter().flatten().filter_map(|own| own["name"].as_str()).collect(),
            canary_service: text("canaryService"),
            stable_service: text("stableService"),
            destination_rule: text("trafficRouting/istio/destinationRule/name"),
            canary_subset: text("trafficRouting/istio/destinationRule/canarySubsetName"),
            stable_subset: text("trafficRouting/istio/destinationRule/stableSubsetName"),
            virtual_services: virtual_services.collect(),
        }
    }

    /// The header routes with a managed name, in the order of these names. Argo Rollouts refuses others.
    fn managed<'r>(&self, routes: &'r [(String, Value)]) -> impl Iterator<Item = &'r (String, Value)> {
        self.managed_routes.iter().filter_map(|name| routes.iter().find(|(own, _)| own == name))
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
        fixture("rollouts-subset")
    }

    fn fixture(name: &str) -> Scenario {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        Scenario::read(fixtures.join(name)).unwrap()
    }

    fn wait(step: Option<u32>, phase: Option<Phase>) -> ControllerWait {
        let within = std::time::Duration::from_secs(60);
        ControllerWait { step, weight: None, phase, within, follows: None, origin: Origin::new("scenario.yaml", 1, 1) }
    }

    /// The answers of each stage: to the only population of the scenario.
    fn given(scenario: &Scenario) -> Vec<String> {
        let plan = Plan::new(scenario);
        let of_stage = |number: usize| {
            let after = &plan.stages[number].after;
            let given = after.given(&scenario.populations[0], "/", &after.senders());
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

    /// The answers to testers at each stage.
    fn given_to_testers(scenario: &Scenario) -> Vec<String> {
        let mut scenario = scenario.clone();
        scenario.populations.retain(|own| own.name == "testers");
        given(&scenario)
    }

    #[test]
    fn a_header_route_lasts_until_the_abort() {
        let scenario = fixture("rollouts-header");
        assert_eq!(given(&scenario), ["v1", "v1", "v1 80 %, v2 20 %", "v1"]);
        assert_eq!(given_to_testers(&scenario), ["v1", "v2", "v2", "v1"]);
    }

    /// A scenario whose Rollouts have other data.
    fn with(name: &str, change: impl Fn(&mut Value)) -> Scenario {
        let mut scenario = fixture(name);
        for step in scenario.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
            let Step::Apply(manifest) = step else { continue };
            if manifest.kind() == "Rollout" {
                change(&mut std::sync::Arc::make_mut(manifest).object.data["spec"]["strategy"]);
            }
        }
        scenario
    }

    #[test]
    fn a_header_route_needs_a_managed_name_and_a_step_may_remove_it() {
        let not_managed =
            with("rollouts-header", |strategy| strategy["canary"]["trafficRouting"]["managedRoutes"] = json!([]));
        assert_eq!(given_to_testers(&not_managed)[1], "v1");
        let removed = with("rollouts-header", |strategy| {
            strategy["canary"]["steps"][3] = json!({"setHeaderRoute": {"name": "testers"}});
        });
        assert_eq!(given_to_testers(&removed)[1..3], ["v2", "v1"]);
    }

    #[rstest]
    #[case::mirror(|own: &mut Value| own["canary"]["steps"][0] = json!({"setMirrorRoute": {"name": "mirror"}}))]
    #[case::most(|own: &mut Value| own["canary"]["trafficRouting"]["maxTrafficWeight"] = json!(1000))]
    #[case::blue_green(|own: &mut Value| *own = json!({"blueGreen": {"activeService": "hello"}}))]
    fn what_is_not_modelled_leaves_answers_unknown(#[case] change: fn(&mut Value)) {
        assert_eq!(given(&with("rollouts-subset", change))[1], "unknown: Rollout/hello");
    }

    #[rstest]
    #[case::replicas(json!({"replicas": 3}), 3)]
    #[case::percent(json!({"weight": 50}), 5)]
    #[case::as_the_weight(json!({"matchTrafficWeight": true}), 2)]
    fn the_canary_has_as_many_pods_as_its_scale_says(#[case] written: Value, #[case] expected: u64) {
        let set = Set::by(&[
            json!({"setCanaryScale": {"replicas": 7}}),
            json!({"setCanaryScale": written}),
            json!({"setWeight": 20}),
        ]);
        assert_eq!(set.unwrap().replicas(10), expected);
    }

    #[test]
    fn without_a_controller_a_rollout_is_not_modelled() {
        let mut scenario = scenario();
        scenario.controller = None;
        assert_eq!(given(&scenario)[1], "unknown: Rollout/hello");
    }
}
