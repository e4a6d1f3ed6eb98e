//! The numbers of pods that a stage waits for.

use std::time::Duration;

use serde_json::Value;
use serde_saphyr::{Location, Spanned};

use super::Resolver;
use super::acts::deployments;
use crate::scenario::error::ScenarioError;
use crate::scenario::growth::Growth;
use crate::scenario::manifest::Manifest;
use crate::scenario::model::Step;
use crate::scenario::parse::raw::PodsOf;
use crate::scenario::suggest::nearest;

impl Resolver<'_> {
    /// What a stage waits for after these steps: its place, its timeout, and whether requests are judged all the time.
    pub(super) fn growth(
        &self,
        pods: PodsOf,
        (at, within, is_followed): (Location, Duration, bool),
        before: &[&Step],
    ) -> Result<Growth, ScenarioError> {
        if pods.is_empty() {
            return self.error(at, "`pods` names no Deployment; write one such as {deployment/hello: 3}");
        }
        let mut growth = Growth { pods: [].into(), within, is_followed, origin: self.origin(at) };
        let mut written: Vec<_> = pods.into_iter().collect();
        written.sort_by_key(|(target, _)| (target.referenced.line(), target.referenced.column()));
        for (target, pods) in written {
            let name = self.grown(&target, before)?;
            let wanted = pods.value.0.or_else(|message| self.error(pods.referenced, message))?;
            if wanted == 0 {
                return self.error(pods.referenced, "every Deployment has at least 0 pods; wait for 1 or more");
            }
            self.can_have(wanted, name, (pods.referenced, before))?;
            growth.pods.insert(name.to_owned(), wanted);
        }
        Ok(growth)
    }

    /// The name of a Deployment that these steps leave.
    fn grown<'a>(&self, target: &'a Spanned<String>, before: &[&Step]) -> Result<&'a str, ScenarioError> {
        let name = self.deployment_name(target)?;
        let known = deployments(before.iter().copied());
        if known.contains_key(name) {
            return Ok(name);
        }
        let meant = nearest(name, known.into_keys());
        self.error(target.referenced, format!("no Deployment `{name}` is there after the changes of this stage{meant}"))
    }

    /// Rejects a number of pods above that which an autoscaler allows.
    fn can_have(&self, wanted: i32, name: &str, (at, before): (Location, &[&Step])) -> Result<(), ScenarioError> {
        let scales = |manifest: &&Manifest| {
            let target = |field: &str| manifest.at(&format!("/spec/scaleTargetRef/{field}")).and_then(Value::as_str);
            (manifest.group(), manifest.kind()) == ("autoscaling", "HorizontalPodAutoscaler")
                && (target("kind"), target("name")) == (Some("Deployment"), Some(name))
        };
        let mut applied =
            before.iter().filter_map(|step| if let Step::Apply(own) = step { Some(&**own) } else { None });
        let Some(autoscaler) = applied.rfind(scales) else { return Ok(()) };
        let most = autoscaler.at("/spec/maxReplicas").and_then(Value::as_i64);
        match most.filter(|most| *most < i64::from(wanted)) {
            None => Ok(()),
            Some(most) => self.error(
                at,
                format!(
                    "{} ({}) gives {name} at most {most} pods",
                    autoscaler.id(),
                    autoscaler.origin_of("/spec/maxReplicas")
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use rstest::rstest;

    use crate::scenario::{Component, Scenario};

    const FOLLOW: &str = "follow: {pods: {deployment/hello-server-v2: 3}, within: 2m}";
    const DECLARED: &str = "      - {from: everyone, get: as-declared}\n";

    /// The autoscaled scenario, with another text in the place of `follow`, and without the claim that needs it.
    fn waiting(wait: &str) -> Result<Scenario, String> {
        changed(&[(FOLLOW, wait), (DECLARED, "")])
    }

    fn changed(changes: &[(&str, &str)]) -> Result<Scenario, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/autoscale/scenario.yaml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replacen(from, to, 1);
        }
        Scenario::parse(&path, &text).map_err(|error| {
            let text = error.to_string().lines().next().unwrap_or_default().to_owned();
            let folders = [path.parent().unwrap().to_owned(), path.parent().unwrap().canonicalize().unwrap()];
            folders.iter().fold(text, |text, folder| text.replace(&format!("{}/", folder.display()), ""))
        })
    }

    #[test]
    fn a_stage_waits_for_pods_or_follows_them() {
        let scenario = changed(&[]).unwrap();
        assert_eq!(scenario.install[0].component, Component::MetricsServer);
        let growth = scenario.stages[1].growth.as_ref().unwrap();
        assert_eq!(
            (growth.to_string().as_str(), growth.within),
            ("3 pods of hello-server-v2", Duration::from_secs(120))
        );
        assert!(growth.is_followed && scenario.stages[1].followed().is_some());
        let scenario = waiting("wait: {pods: {deploy/hello-server-v2: 1}, within: 9s}").unwrap();
        let growth = scenario.stages[1].growth.as_ref().unwrap();
        assert_eq!(growth.to_string(), "1 pod of hello-server-v2");
        assert!(!growth.is_followed && scenario.stages[1].followed().is_none());
    }

    #[rstest]
    #[case::nothing("{}", "scenario.yaml:26:11: `pods` names no Deployment; write one such as {deployment/hello: 3}")]
    #[case::misspelt(
        "{deployment/hello-serverv2: 3}",
        "scenario.yaml:26:19: no Deployment `hello-serverv2` is there after the changes of this stage; did you mean `hello-server-v2`?"
    )]
    #[case::of_another_kind(
        "{service/svc-hello: 3}",
        "scenario.yaml:26:19: `service/svc-hello` is not a Deployment, such as deployment/hello"
    )]
    #[case::none(
        "{deployment/hello-server-v2: 0}",
        "scenario.yaml:26:47: every Deployment has at least 0 pods; wait for 1 or more"
    )]
    #[case::a_word(
        "{deployment/hello-server-v2: many}",
        "scenario.yaml:26:47: `many` is not a number of pods, such as 3"
    )]
    #[case::more_than_the_autoscaler_gives(
        "{deployment/hello-server-v2: 4}",
        "scenario.yaml:26:47: HorizontalPodAutoscaler/hello-server-v2 (hpa-hello-server-v2.yaml:9:3) gives hello-server-v2 at most 3 pods"
    )]
    fn pods_that_never_come_are_refused(#[case] pods: &str, #[case] expected: &str) {
        assert_eq!(waiting(&format!("wait: {{pods: {pods}, within: 60s}}")).unwrap_err(), expected);
    }

    #[rstest]
    #[case::with_a_phase(
        "wait: {pods: {deployment/hello-server-v2: 3}, phase: Healthy, within: 60s}",
        "scenario.yaml:26:11: `pods` is not a state of the controlled object; use a stage for each"
    )]
    #[case::with_until(
        "follow: {pods: {deployment/hello-server-v2: 3}, until: Healthy, within: 60s}",
        "scenario.yaml:26:13: `follow` needs one of `until` and `pods`"
    )]
    #[case::with_weights(
        "follow: {pods: {deployment/hello-server-v2: 3}, weights: [50%], within: 60s}",
        "scenario.yaml:26:13: `weights` are those of a controller; `follow: {pods: …}` does not take them"
    )]
    #[case::follow_without_an_end(
        "follow: {within: 60s}",
        "scenario.yaml:26:13: `follow` needs one of `until` and `pods`"
    )]
    #[case::a_phase_without_a_controller(
        "follow: {until: Healthy, within: 60s}",
        "scenario.yaml:26:13: `follow` is about the object that a controller moves traffic with: add `controller: {rollout: NAME}` or `controller: {canary: NAME}` at the top level"
    )]
    fn a_wait_that_means_nothing_is_refused(#[case] wait: &str, #[case] expected: &str) {
        assert_eq!(waiting(wait).unwrap_err(), expected);
    }

    #[test]
    fn what_is_declared_is_judged_where_pods_are_followed_only() {
        let expected = "scenario.yaml:28:9: `as-declared` is about what a controller does by itself: add `follow: {until: Healthy, within: 5m}` to this stage";
        let wait = FOLLOW.replace("follow", "wait");
        assert_eq!(changed(&[(FOLLOW, &wait)]).unwrap_err(), expected);
    }
}
