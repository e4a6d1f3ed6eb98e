use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, MetricStatus, MetricValueStatus,
};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::scenario::Growth;

/// The timeout for listing autoscalers.
const LIMIT: Duration = Duration::from_secs(5);

/// What the autoscalers of Deployments that have not grown report; nothing if they cannot be listed.
pub(crate) async fn autoscalers(client: &Client, namespace: &str, growth: &Growth) -> Vec<String> {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    let listed = tokio::time::timeout(LIMIT, api.list(&ListParams::default())).await;
    let found = listed.ok().and_then(Result::ok).map(|listed| listed.items).unwrap_or_default();
    let is_of_one = |own: &&HorizontalPodAutoscaler| {
        let target = own.spec.as_ref().map(|spec| &spec.scale_target_ref);
        target.is_some_and(|target| target.kind == "Deployment" && growth.pods.contains_key(&target.name))
    };
    found.iter().filter(is_of_one).map(state).collect()
}

/// `HorizontalPodAutoscaler/hello asks for 1 pod at cpu 3m: the HPA was unable to …`.
fn state(autoscaler: &HorizontalPodAutoscaler) -> String {
    let name = format!("HorizontalPodAutoscaler/{}", autoscaler.name_any());
    let seen = autoscaler.status.as_ref().filter(|status| status.conditions.is_some());
    let Some(status) = seen else { return format!("{name} was not looked at by its controller") };
    let asked = status.desired_replicas;
    let mut state = format!("{name} asks for {asked} {}", if asked == 1 { "pod" } else { "pods" });
    let measured: Vec<String> = status.current_metrics.iter().flatten().filter_map(measured).collect();
    if !measured.is_empty() {
        state = format!("{state} at {}", measured.join(", "));
    }
    let broken = |own: &&HorizontalPodAutoscalerCondition| {
        own.status == "False" && matches!(own.type_.as_str(), "AbleToScale" | "ScalingActive")
    };
    let reason = status.conditions.iter().flatten().find(broken).and_then(|own| own.message.clone());
    reason.map_or(state.clone(), |reason| format!("{state}: {reason}"))
}

/// A metric with its current value: `cpu 3m`. None for metrics of objects outside of the pods.
fn measured(metric: &MetricStatus) -> Option<String> {
    let value = |own: &MetricValueStatus| {
        let average = own.average_value.as_ref().map(|quantity| quantity.0.clone());
        average.or_else(|| own.average_utilization.map(|percent| format!("{percent} %")))
    };
    let resource = metric.resource.as_ref().map(|own| (&own.name, &own.current));
    let (name, current) =
        resource.or_else(|| metric.container_resource.as_ref().map(|own| (&own.name, &own.current)))?;
    Some(format!("{name} {}", value(current)?))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::not_seen("", "HorizontalPodAutoscaler/hello was not looked at by its controller")]
    #[case::not_seen_yet(
        "status: {desiredReplicas: 0}",
        "HorizontalPodAutoscaler/hello was not looked at by its controller"
    )]
    #[case::idle(
        "status: {desiredReplicas: 1, conditions: [], currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageValue: 3m}}}]}",
        "HorizontalPodAutoscaler/hello asks for 1 pod at cpu 3m"
    )]
    #[case::of_a_container(
        "status: {desiredReplicas: 2, conditions: [], currentMetrics: [{type: ContainerResource, containerResource: {name: cpu, container: a, current: {averageUtilization: 7}}}]}",
        "HorizontalPodAutoscaler/hello asks for 2 pods at cpu 7 %"
    )]
    #[case::without_metrics(
        "status: {desiredReplicas: 0, conditions: [{type: AbleToScale, status: 'True', message: fine}, {type: ScalingActive, status: 'False', message: no metrics}]}",
        "HorizontalPodAutoscaler/hello asks for 0 pods: no metrics"
    )]
    fn the_state_of_an_autoscaler_is_told(#[case] status: &str, #[case] expected: &str) {
        let object = serde_yaml::from_str(&format!("metadata: {{name: hello}}\n{status}\n")).unwrap();
        assert_eq!(state(&object), expected);
    }
}
