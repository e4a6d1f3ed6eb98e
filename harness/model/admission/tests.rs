use std::path::Path;
use std::sync::Arc;

use rstest::{Context, rstest};

use super::{Definitions, validate, with_defaults};
use crate::scenario::parse_manifests;

const VIRTUAL_SERVICE: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: vs}
spec:
  hosts: [svc]
  http:
  - match: [{headers: {end-user: {exact: testers}}}]
    timeout: 5s
    fault: {abort: {httpStatus: 503, percentage: {value: 50}}}
    route: [{destination: {host: svc, subset: v2}, weight: 100}]
";

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, labels: {app: hello}}
spec:
  replicas: 2
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      containers:
      - name: server
        image: 'hello:v1'
        ports: [{containerPort: 8080}]
";

const DESTINATION_RULE: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: dr}
spec:
  host: svc
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {http: {idleTimeout: 5s}}}
  subsets: [{name: v1, labels: {version: v1}}]
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: svc}
spec:
  selector: {app: a}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

const HTTP_ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route}
spec:
  parentRefs: [{group: '', kind: Service, name: svc}]
  rules:
  - matches: [{path: {value: /api}}]
    backendRefs: [{name: svc, port: 80}]
";

fn problems(text: &str) -> String {
    let manifests = parse_manifests(Path::new("a.yaml"), text).unwrap();
    let problems = manifests
        .into_iter()
        .flat_map(|manifest| validate(Definitions::Newest, &Arc::new(manifest)))
        .map(|problem| problem.to_string());
    problems.collect::<Vec<_>>().join("\n")
}

#[rstest]
#[case(VIRTUAL_SERVICE)]
#[case(DEPLOYMENT)]
#[case(DESTINATION_RULE)]
#[case(SERVICE)]
#[case(HTTP_ROUTE)]
fn a_valid_object_has_no_problems(#[case] object: &str) {
    assert_eq!(problems(object), "");
}

#[rstest]
#[case::misspelt_field(VIRTUAL_SERVICE, "timeout: 5s", "timout: 5s")]
#[case::misspelt_field_of_a_deployment(DEPLOYMENT, "replicas: 2", "replica: 2")]
#[case::misspelt_field_of_a_container(DEPLOYMENT, "containerPort: 8080", "containerport: 8080")]
#[case::misspelt_field_of_metadata(DEPLOYMENT, "labels: {app: hello}}\nspec", "label: {app: hello}}\nspec")]
#[case::unknown_field_without_a_similar_one(DEPLOYMENT, "replicas: 2", "strategyOfUpdates: fast")]
#[case::misspelt_subset(VIRTUAL_SERVICE, "subset: v2", "subSet: v2")]
#[case::unknown_version(VIRTUAL_SERVICE, "networking.istio.io/v1", "networking.istio.io/v1gamma1")]
#[case::unknown_version_of_a_deployment(DEPLOYMENT, "apps/v1", "apps/v1beta1")]
#[case::plural_kind(DESTINATION_RULE, "kind: DestinationRule", "kind: DestinationRules")]
#[case::misspelt_group(DESTINATION_RULE, "networking.istio.io", "networking.istio.oi")]
#[case::wrong_group(DEPLOYMENT, "apiVersion: apps/v1", "apiVersion: v1")]
#[case::boolean_for_a_string(VIRTUAL_SERVICE, "exact: testers", "exact: true")]
#[case::number_for_a_label(DESTINATION_RULE, "{version: v1}", "{version: 1}")]
#[case::string_for_a_list(VIRTUAL_SERVICE, "hosts: [svc]", "hosts: svc")]
#[case::number_for_an_object(VIRTUAL_SERVICE, "percentage: {value: 50}", "percentage: 50")]
#[case::string_for_a_number(DEPLOYMENT, "replicas: 2", "replicas: '2'")]
#[case::negative(DEPLOYMENT, "replicas: 2", "replicas: -1")]
#[case::unknown_value(DESTINATION_RULE, "ROUND_ROBIN", "ROUNDROBIN")]
#[case::two_of_one(VIRTUAL_SERVICE, "exact: testers", "exact: testers, prefix: t")]
#[case::missing_host(VIRTUAL_SERVICE, "host: svc, ", "")]
#[case::missing_selector(DEPLOYMENT, "  selector: {matchLabels: {app: hello}}\n", "")]
#[case::selector_of_other_pods(DEPLOYMENT, "matchLabels: {app: hello}", "matchLabels: {app: hallo}")]
#[case::missing_port(SERVICE, ", port: 80", "")]
#[case::port_too_high(SERVICE, "port: 80,", "port: 80000,")]
#[case::port_in_quotes(SERVICE, "targetPort: 8080", "targetPort: '8080'")]
#[case::port_without_a_name(SERVICE, "ports: [{", "ports: [{port: 90}, {")]
#[case::port_twice(SERVICE, "ports: [{", "ports: [{name: other, port: 80}, {")]
#[case::name_with_capitals(SERVICE, "name: svc", "name: Svc")]
#[case::label_with_a_space(DEPLOYMENT, "labels: {app: hello}}\nspec", "labels: {app: 'hello world'}}\nspec")]
#[case::timeout_without_unit(DESTINATION_RULE, "idleTimeout: 5s", "idleTimeout: '5'")]
#[case::timeout_of_nothing(DESTINATION_RULE, "idleTimeout: 5s", "idleTimeout: 0s")]
#[case::backend_without_port(HTTP_ROUTE, ", port: 80", "")]
#[case::path_without_slash(HTTP_ROUTE, "value: /api", "value: api")]
#[case::redirect_with_backend(
    HTTP_ROUTE,
    "    backendRefs",
    "    filters: [{type: RequestRedirect, requestRedirect: {port: 80}}]\n    backendRefs"
)]
#[case::filter_of_another_type(
    HTTP_ROUTE,
    "    backendRefs",
    "    filters: [{type: RequestRedirect, urlRewrite: {hostname: a}}]\n    backendRefs"
)]
#[case::two_parents_alike(HTTP_ROUTE, "[{group: '', kind: Service, name: svc}]", "[{name: a}, {name: a}]")]
fn what_the_api_refuses_is_told_with_its_place(
    #[context] context: Context,
    #[case] object: &str,
    #[case] part: &str,
    #[case] instead: &str,
) {
    assert!(object.contains(part));
    let found = problems(&object.replacen(part, instead, 1));
    assert!(!found.is_empty());
    insta::assert_snapshot!(context.description.unwrap(), found);
}

#[test]
fn all_problems_of_an_object_are_told() {
    let object = VIRTUAL_SERVICE.replace("timeout: 5s", "timout: 5s").replace("weight: 100", "weight: all");
    insta::assert_snapshot!(problems(&object), @r"
    a.yaml:8:5: unknown field `spec.http[0].timout`; did you mean `timeout`?
    a.yaml:10:52: spec.http[0].route[0].weight is the string `all`, not an integer
    ");
}

#[rstest]
#[case::custom_kind("{apiVersion: acme.io/v1, kind: Canary, metadata: {name: x}, spec: {any: thing}}")]
#[case::knative_service(
    "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: x}, spec: {template: {}}}"
)]
#[case::kruise("{apiVersion: apps.kruise.io/v1, kind: StatefulSet, metadata: {name: x}, spec: {any: thing}}")]
#[case::config_map("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {any: thing}}")]
#[case::float_quantity(
    "{apiVersion: v1, kind: Pod, metadata: {name: x}, \
      spec: {containers: [{name: a, image: a, resources: {limits: {cpu: 0.5, memory: 1Gi}}}]}}"
)]
#[case::autoscaler(
    "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: x}, \
      spec: {maxReplicas: 3, scaleTargetRef: {kind: Deployment, name: a, apiVersion: apps/v1}}}"
)]
#[case::filter(
    "{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: x}, \
      spec: {configPatches: [{applyTo: CLUSTER, patch: {operation: MERGE, value: {any: {thing: 1}}}}]}}"
)]
#[case::role("{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: 'system:x'}, rules: []}")]
fn what_the_api_accepts_has_no_problems(#[case] object: &str) {
    assert_eq!(problems(object), "");
}

#[test]
fn the_defaults_of_a_definition_are_filled_in() {
    let route = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: x}, \
                  spec: {parentRefs: [{name: a}], rules: [{backendRefs: [{name: b, port: 1}]}, {matches: []}]}}";
    let manifest = parse_manifests(Path::new("a.yaml"), route).unwrap().remove(0);
    let filled = with_defaults(&Arc::new(manifest));
    let at = |pointer: &str| filled.at(pointer).unwrap().to_string();
    assert_eq!(at("/spec/parentRefs/0"), r#"{"group":"gateway.networking.k8s.io","kind":"Gateway","name":"a"}"#);
    assert_eq!(at("/spec/rules/0/matches"), r#"[{"path":{"type":"PathPrefix","value":"/"}}]"#);
    assert_eq!(at("/spec/rules/0/backendRefs/0"), r#"{"group":"","kind":"Service","name":"b","port":1,"weight":1}"#);
    assert_eq!(at("/spec/rules/1/matches"), "[]");
}
