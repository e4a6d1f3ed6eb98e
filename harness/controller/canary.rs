use std::sync::atomic::{AtomicBool, Ordering};

use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::Value;

use super::status::{ChangeMark, ControllerStatus};
use crate::cluster::wait::{Failure, Progress};
use crate::scenario::{Canary, ControllerWait, Phase};

pub(super) fn read(object: &DynamicObject) -> ControllerStatus {
    let status = &object.data["status"];
    let condition = status["conditions"].as_array().and_then(|own| own.iter().find(|own| own["type"] == "Promoted"));
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    ControllerStatus {
        phase: text(status.get("phase")),
        message: text(condition.and_then(|condition| condition.get("message"))),
        step: None,
        steps: 0,
        weight: status["canaryWeight"].as_u64().and_then(|weight| u32::try_from(weight).ok()),
        pending: None,
        revision: text(status.get("lastAppliedSpec")),
        resource_version: object.resource_version().unwrap_or_default(),
    }
}

/// The weight of the new version in a `VirtualService`, in percent; none if no route leads to the new version.
pub(super) fn route_weight(canary: Canary<'_>, virtual_service: &Value) -> Option<u32> {
    let mut destinations = Canary::weighted_routes(virtual_service).flatten();
    let own = destinations.find(|own| canary.is_canary(own) == Some(true))?;
    // a weight of 0 is not written
    own["weight"].as_u64().unwrap_or(0).try_into().ok()
}

/// Whether a Canary has reached a state. It counts once Flagger has seen the change, which `has_seen` keeps.
pub(super) fn progress(
    status: ControllerStatus,
    route: Option<u32>,
    wait: &ControllerWait,
    after: &ChangeMark,
    has_seen: &AtomicBool,
) -> Progress<ControllerStatus> {
    let is_new = after.before.as_ref().is_none_or(|before| {
        // Flagger writes the revision of a failed Canary before it starts the next analysis
        let failed = Phase::Failed.to_string();
        let still_failed = before.phase == failed && status.phase == failed;
        before.phase != status.phase || before.revision != status.revision && !still_failed
    });
    has_seen.fetch_or(is_new, Ordering::Relaxed);
    if !has_seen.load(Ordering::Relaxed) {
        return Progress::NotYet(format!("{status}; the controller has not seen the change yet"));
    }
    let has_phase = wait.phase.is_none_or(|phase| phase.to_string() == status.phase);
    let in_route = wait.weight.is_none_or(|weight| route.is_some_and(|route| weight.is_percent(route)));
    // the route is written before the status, which has no weight in other phases
    let is_progressing = status.phase == Phase::Progressing.to_string();
    let in_status =
        !is_progressing || wait.weight.is_none_or(|own| status.weight.is_some_and(|found| own.is_percent(found)));
    if has_phase && in_route && in_status {
        Progress::Done(status)
    } else if status.phase == Phase::Failed.to_string() {
        Progress::Failed(Failure::Reported(status.to_string()))
    } else {
        let route = route.map(|route| format!("; weight {route} % in the route")).unwrap_or_default();
        Progress::NotYet(format!("{status}{route}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use assert_matches::assert_matches;
    use rstest::rstest;
    use serde_json::json;

    use super::super::status::Before;
    use super::*;
    use crate::scenario::Origin;

    fn status(phase: &str, weight: u32) -> ControllerStatus {
        let message = "New revision detected, progressing canary analysis.";
        let object = json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "metadata": {"name": "hello"},
            "status": {"phase": phase, "canaryWeight": weight, "conditions": [{"type": "Promoted", "message": message}]},
        });
        read(&serde_json::from_value(object).unwrap())
    }

    fn wait(phase: Option<Phase>, weight: Option<&str>) -> ControllerWait {
        let weight = weight.map(|weight| weight.parse().unwrap());
        let origin = Origin::new("scenario.yaml", 1, 1);
        ControllerWait { step: None, weight, phase, within: Duration::from_secs(1), follows: None, origin }
    }

    fn after(phase: &str) -> ChangeMark {
        ChangeMark {
            before: Some(Before { phase: phase.to_owned(), revision: "1".to_owned() }),
            ..ChangeMark::default()
        }
    }

    #[test]
    fn a_state_is_told_in_words() {
        let expected = "Progressing, weight 25 %: New revision detected, progressing canary analysis.";
        assert_eq!(status("Progressing", 25).to_string(), expected);
    }

    #[rstest]
    #[case::phase_and_weight(status("Progressing", 25), Some(25), wait(Some(Phase::Progressing), Some("25%")), true)]
    #[case::another_weight(status("Progressing", 0), Some(0), wait(Some(Phase::Progressing), Some("25%")), false)]
    #[case::not_in_the_status_yet(
        status("Progressing", 0),
        Some(25),
        wait(Some(Phase::Progressing), Some("25%")),
        false
    )]
    #[case::weight_alone(status("Progressing", 25), Some(25), wait(None, Some("25%")), true)]
    #[case::no_weight_in_the_status(status("WaitingPromotion", 0), Some(50), wait(None, Some("50%")), true)]
    #[case::another_phase(status("Progressing", 50), Some(50), wait(Some(Phase::WaitingPromotion), None), false)]
    #[case::failed(status("Failed", 0), Some(0), wait(Some(Phase::Failed), None), true)]
    fn a_state_has_a_phase_and_a_weight_in_the_route(
        #[case] status: ControllerStatus,
        #[case] route: Option<u32>,
        #[case] wait: ControllerWait,
        #[case] reached: bool,
    ) {
        let progress = progress(status, route, &wait, &ChangeMark::default(), &AtomicBool::new(false));
        assert_eq!(matches!(progress, Progress::Done(_)), reached, "{progress:?}");
    }

    #[rstest]
    #[case::the_same_phase("Succeeded", &[("Succeeded", "1"), ("Progressing", "2"), ("Succeeded", "2")], &[false, false, true])]
    #[case::a_restarted_analysis("Progressing", &[("Progressing", "1"), ("Progressing", "2")], &[false, false])]
    #[case::failed_before("Failed", &[("Failed", "1"), ("Failed", "2"), ("Progressing", "2"), ("Succeeded", "2")], &[false, false, false, true])]
    fn a_state_from_before_the_change_does_not_count(
        #[case] before: &str,
        #[case] states: &[(&str, &str)],
        #[case] reached: &[bool],
    ) {
        let (wanted, mark, has_seen) = (wait(Some(Phase::Succeeded), None), after(before), AtomicBool::new(false));
        let found = states.iter().map(|(phase, revision)| {
            let status = ControllerStatus { revision: (*revision).to_owned(), ..status(phase, 0) };
            matches!(progress(status, None, &wanted, &mark, &has_seen), Progress::Done(_))
        });
        assert_eq!(found.collect::<Vec<_>>(), reached);
    }

    #[test]
    fn a_failed_canary_ends_the_wait() {
        let wanted = wait(Some(Phase::Succeeded), None);
        let failed = progress(status("Failed", 0), None, &wanted, &after("Progressing"), &AtomicBool::new(false));
        assert_matches!(failed, Progress::Failed(why) if why.to_string().starts_with("Failed, weight 0 %: "));
    }

    #[test]
    fn the_weight_is_that_of_the_destination_of_the_new_version() {
        let data = json!({"spec": {"targetRef": {"name": "hello"}}});
        let destination = |host: &str, weight: u32| json!({"destination": {"host": host}, "weight": weight});
        let route =
            json!({"spec": {"http": [{"route": [destination("hello-primary", 75), destination("hello-canary", 25)]}]}});
        assert_eq!(route_weight(Canary::new(&data), &route), Some(25));
        assert_eq!(route_weight(Canary::new(&data), &json!({"spec": {"http": []}})), None);
        // as Flagger writes it for sessions
        let of_sessions = json!({"name": "sticky-route", "route": [destination("hello-primary", 0), destination("hello-canary", 100)]});
        let both = json!({"spec": {"http": [of_sessions, route["spec"]["http"][0]]}});
        assert_eq!(route_weight(Canary::new(&data), &both), Some(25));
    }
}
