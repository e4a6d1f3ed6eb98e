use serde_json::Value;

/// The labels by which Flagger selects pods, in its order of preference.
const SELECTOR_LABELS: [&str; 3] = ["app", "name", "app.kubernetes.io/name"];

/// The fields of a Flagger Canary that determine how traffic moves.
#[derive(Debug, Clone, Copy)]
pub struct Canary<'a> {
    spec: &'a Value,
}

/// A webhook of a Canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Webhook<'a> {
    /// The name.
    pub name: &'a str,
    /// The type, such as `confirm-promotion`; `rollout` by default.
    pub kind: &'a str,
}

impl Webhook<'_> {
    /// Whether the webhook is asked for a permission that a controller waits for, or for a rollback.
    pub fn is_request(self) -> bool {
        self.kind == "rollback" || self.kind.starts_with("confirm-")
    }
}

impl<'a> Canary<'a> {
    /// The Canary whose object has this data.
    pub fn new(data: &'a Value) -> Self {
        Self { spec: &data["spec"] }
    }

    fn text(self, pointer: &str) -> Option<&'a str> {
        self.spec.pointer(pointer).and_then(Value::as_str)
    }

    /// The analysis, also under its older name.
    pub fn analysis(self) -> &'a Value {
        self.spec.get("analysis").unwrap_or(&self.spec["canaryAnalysis"])
    }

    fn number(self, key: &str) -> u32 {
        self.analysis()[key].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
    }

    fn list(self, key: &str) -> &'a [Value] {
        self.analysis()[key].as_array().map_or(&[], Vec::as_slice)
    }

    /// The settings of the Services and routes.
    pub fn service(self) -> &'a Value {
        &self.spec["service"]
    }

    /// The name of the workload; Flagger adds `-primary` for its copy.
    pub fn target(self) -> &'a str {
        self.text("/targetRef/name").unwrap_or_default()
    }

    /// The kind of the workload.
    pub fn target_kind(self) -> &'a str {
        self.text("/targetRef/kind").unwrap_or("Deployment")
    }

    /// The name of the Service that clients call; Flagger adds `-primary` and `-canary` for the Services of the versions.
    pub fn apex(self) -> &'a str {
        self.text("/service/name").unwrap_or(self.target())
    }

    /// Whether a destination of a route is that of the new version; none if it is of neither version.
    pub fn is_canary(self, destination: &Value) -> Option<bool> {
        let host = destination["destination"]["host"].as_str()?;
        let name = host.split('.').next().unwrap_or(host);
        match name.strip_prefix(self.apex())? {
            "-canary" => Some(true),
            "-primary" => Some(false),
            _ => None,
        }
    }

    /// The name of the rule of a `VirtualService` that Flagger writes for sessions that the new version has answered.
    pub const ROUTE_OF_SESSIONS: &'static str = "sticky-route";

    /// The destinations of each HTTP rule of a `VirtualService`, apart from the rule of sessions, which has no weights of the rollout.
    pub fn weighted_routes(virtual_service: &Value) -> impl Iterator<Item = &[Value]> {
        let http = virtual_service.pointer("/spec/http").and_then(Value::as_array).into_iter().flatten();
        http.filter(|rule| rule["name"] != Self::ROUTE_OF_SESSIONS)
            .filter_map(|rule| rule["route"].as_array().map(Vec::as_slice))
    }

    /// The cookie that sends sessions to the new version once it has answered them: its name, and its lifetime in seconds.
    pub fn session_cookie(self) -> Option<(&'a str, i64)> {
        let affinity = self.analysis().get("sessionAffinity")?;
        // the lifetime of a day is Flagger's own
        let max_age = affinity["maxAge"].as_i64().filter(|seconds| *seconds != 0).unwrap_or(86_400);
        Some((affinity["cookieName"].as_str()?, max_age))
    }

    /// The webhooks.
    pub fn webhooks(self) -> impl Iterator<Item = Webhook<'a>> + use<'a> {
        self.list("webhooks").iter().filter_map(|webhook| {
            let kind = webhook["type"].as_str().filter(|kind| !kind.is_empty()).unwrap_or("rollout");
            Some(Webhook { name: webhook["name"].as_str()?, kind })
        })
    }

    /// The matches of an A/B test; empty for other strategies.
    pub fn matches(self) -> &'a [Value] {
        self.list("match")
    }

    /// The number of iterations of an A/B test or a blue/green rollout; 0 for a rollout by weights.
    pub fn iterations(self) -> u32 {
        self.number("iterations")
    }

    /// Whether requests are mirrored to the new version before it gets any.
    pub fn mirrors(self) -> bool {
        self.analysis()["mirror"] == true
    }

    /// The weights of the new version during the analysis, in percent and in order; empty if weights do not move.
    pub fn weights(self) -> Vec<u32> {
        if self.iterations() > 0 {
            return Vec::new();
        }
        let step = self.number("stepWeight");
        let listed = self.list("stepWeights").iter().filter_map(Value::as_u64);
        let listed: Vec<u32> = listed.filter_map(|weight| u32::try_from(weight).ok()).map(|own| own.min(100)).collect();
        if step == 0 {
            return listed;
        }
        let max = listed.last().copied().or(Some(self.number("maxWeight")).filter(|max| *max > 0)).unwrap_or(100);
        let mut weights = vec![step.min(100)];
        while let Some(last) = weights.last().filter(|last| **last < max.min(100)) {
            weights.push((last + step).min(100));
        }
        weights
    }

    /// All weights that the route gives the new version, in percent: those of the analysis, and those while traffic returns to the primary.
    pub fn all_weights(self) -> Vec<u32> {
        let mut weights = self.weights();
        if self.iterations() > 0 {
            weights.push(100);
        }
        let back = self.number("stepWeightPromotion");
        let mut last = weights.last().copied().unwrap_or(0);
        while back > 0 && last > 0 {
            last = last.saturating_sub(back);
            weights.push(last);
        }
        weights.push(0);
        weights.sort_unstable();
        weights.dedup();
        weights
    }

    /// The label by which Flagger selects the pods of a workload, with its value.
    pub fn selector_label(workload: &Value) -> Option<(&'static str, &str)> {
        let labels = workload.pointer("/spec/selector/matchLabels")?;
        SELECTOR_LABELS.iter().find_map(|label| Some((*label, labels[*label].as_str()?)))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::steps(json!({"stepWeight": 25, "maxWeight": 50}), &[25, 50], &[0, 25, 50])]
    #[case::the_last_step_passes_the_maximum(json!({"stepWeight": 20, "maxWeight": 50}), &[20, 40, 60], &[0, 20, 40, 60])]
    #[case::no_maximum(json!({"stepWeight": 40}), &[40, 80, 100], &[0, 40, 80, 100])]
    #[case::listed(json!({"stepWeights": [1, 10, 80]}), &[1, 10, 80], &[0, 1, 10, 80])]
    #[case::back_in_steps(json!({"stepWeight": 50, "maxWeight": 50, "stepWeightPromotion": 20}), &[50], &[0, 10, 30, 50])]
    #[case::iterations(json!({"iterations": 3}), &[], &[0, 100])]
    fn a_canary_has_the_weights_of_its_steps(#[case] analysis: Value, #[case] up: &[u32], #[case] all: &[u32]) {
        let data = json!({"spec": {"analysis": analysis}});
        assert_eq!(Canary::new(&data).weights(), up);
        assert_eq!(Canary::new(&data).all_weights(), all);
    }

    #[test]
    fn a_destination_belongs_to_a_version_by_its_host() {
        let data = json!({"spec": {"targetRef": {"name": "hello"}}});
        let of = |host: &str| Canary::new(&data).is_canary(&json!({"destination": {"host": host}}));
        assert_eq!((of("hello-canary"), of("hello-primary.canary")), (Some(true), Some(false)));
        assert_eq!((of("hello"), of("other-canary")), (None, None));
    }
}
