use rstest::rstest;

use super::super::Request;
use super::super::fixture::{RULES, SERVICE, client, mesh};

const EVERYONE: &str = "everyone";
const TESTERS: &str = "testers";

/// The populations whose requests something unmodelled can affect, and the names of all that is not modelled.
fn affected(text: &str) -> (Vec<&'static str>, Vec<String>) {
    let mesh = mesh(text);
    let outbound = mesh.outbound(client());
    let request = Request::get("svc", 8080, "/");
    let mut populations = vec![(EVERYONE, request.clone()), (TESTERS, request.with("end-user", "testers"))];
    populations.retain(|(_, request)| {
        let routes = outbound.routes(request).ok();
        !outbound.not_modelled(request, routes.as_ref()).is_empty()
    });
    let named = mesh.not_modelled.iter().map(|note| note.field.clone()).collect();
    (populations.into_iter().map(|(name, _)| name).collect(), named)
}

fn base() -> String {
    format!("{SERVICE}{RULES}")
}

const BOTH: &[&str] = &[EVERYONE, TESTERS];

#[rstest]
#[case::deny_all("{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x}}", BOTH)]
#[case::denied_in_another_namespace(
    "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x, namespace: other}}", &[])]
#[case::denied_in_the_root_namespace(
    "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x, namespace: istio-system}}",
    BOTH
)]
#[case::denied_for_one_version(
    "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: x}, \
      spec: {selector: {matchLabels: {version: v2}}}}", &[TESTERS])]
#[case::mutual_tls_is_required(
    "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: x}, spec: {mtls: {mode: STRICT}}}",
    BOTH
)]
#[case::mutual_tls_is_optional(
    "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: x}, spec: {mtls: {mode: PERMISSIVE}}}", &[])]
#[case::filter_of_the_client(
    "{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: x}, \
      spec: {workloadSelector: {labels: {app: client}}}}",
    BOTH
)]
#[case::filter_of_another_pod(
    "{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {name: x}, \
      spec: {workloadSelector: {labels: {app: other}}}}", &[])]
#[case::gateway_of_pods_that_are_not_known(
    "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: x}, spec: {selector: {istio: own}}}", &[])]
#[case::ingress("{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: x}}", &[])]
#[case::service_entry_of_another_host(
    "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x}, spec: {hosts: [example.com]}}", &[])]
#[case::service_entry_of_this_host(
    "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: x}, \
      spec: {hosts: [svc.here.svc.cluster.local]}}",
    BOTH
)]
#[case::rollout_with_the_selected_labels(
    "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: x}, \
      spec: {template: {metadata: {labels: {app: a, version: v2}}}}}", &[TESTERS])]
#[case::rollout_of_another_service(
    "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: x}, \
      spec: {template: {metadata: {labels: {app: b}}}}}", &[])]
#[case::autoscaler_of_a_subset_of_its_own(
    "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: x}, spec: {scaleTargetRef: {name: v2}}}", &[])]
#[case::unknown_kind("{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: x}}", BOTH)]
#[case::unknown_kind_elsewhere("{apiVersion: flagger.app/v1beta1, kind: Canary, metadata: {name: x, namespace: other}}", &[])]
#[case::endpoint_slice(
    "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, \
      metadata: {name: x, labels: {kubernetes.io/service-name: svc}}}",
    BOTH
)]
#[case::network_policy("{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: x}}", BOTH)]
fn an_object_of_an_unmodelled_kind_affects(#[case] object: &str, #[case] populations: &[&str]) {
    let (affected, named) = affected(&format!("{}{object}", base()));
    assert_eq!(affected, populations);
    assert_eq!(named.len(), 1, "{named:?}");
}

/// Kinds that make, replace or route to pods, and misspelt ones: each is named.
#[rstest]
#[case::daemon_set("apps/v1", "DaemonSet", "metadata: {name: x}, spec: {template: {metadata: {labels: {app: a, version: v2}}}}", &[TESTERS])]
#[case::daemon_set_of_another_service("apps/v1", "DaemonSet", "metadata: {name: x}, spec: {template: {metadata: {labels: {app: b}}}}", &[])]
#[case::job("batch/v1", "Job", "metadata: {name: x}, spec: {template: {metadata: {labels: {app: a, version: v1}}}}", &[EVERYONE])]
#[case::job_of_another_service("batch/v1", "Job", "metadata: {name: x}, spec: {template: {metadata: {labels: {app: b}}}}", &[])]
#[case::cron_job(
    "batch/v1", "CronJob", "metadata: {name: x}, spec: {jobTemplate: {spec: {template: {metadata: {labels: {app: b}}}}}}", &[])]
#[case::rollout_of_a_deployment(
    "argoproj.io/v1alpha1",
    "Rollout",
    "metadata: {name: x}, spec: {workloadRef: {name: v1}}",
    BOTH
)]
#[case::canary("flagger.app/v1beta1", "Canary", "metadata: {name: x}, spec: {targetRef: {name: v1}}", BOTH)]
#[case::autoscaler_of_one_of_two(
    "autoscaling/v2", "HorizontalPodAutoscaler", "metadata: {name: x}, spec: {scaleTargetRef: {name: v1}}", &[])]
#[case::endpoints("v1", "Endpoints", "metadata: {name: svc}", BOTH)]
#[case::endpoints_of_another_service("v1", "Endpoints", "metadata: {name: other}", &[])]
#[case::endpoint_slice_of_another_service(
    "discovery.k8s.io/v1", "EndpointSlice", "metadata: {name: svc-x, labels: {kubernetes.io/service-name: other}}", &[])]
#[case::endpoint_slice_without_a_service("discovery.k8s.io/v1", "EndpointSlice", "metadata: {name: svc-x}", BOTH)]
#[case::backend_tls(
    "gateway.networking.k8s.io/v1",
    "BackendTLSPolicy",
    "metadata: {name: x}, spec: {targetRefs: [{group: '', kind: Service, name: svc}]}",
    BOTH
)]
#[case::backend_tls_of_another_service(
    "gateway.networking.k8s.io/v1", "BackendTLSPolicy", "metadata: {name: x}, spec: {targetRefs: [{group: '', kind: Service, name: b}]}", &[])]
#[case::tcp_route(
    "gateway.networking.k8s.io/v1alpha2",
    "TCPRoute",
    "metadata: {name: x}, spec: {parentRefs: [{kind: Service, name: svc}]}",
    BOTH
)]
#[case::workload_entry("networking.istio.io/v1", "WorkloadEntry", "metadata: {name: x}, spec: {labels: {app: a, version: v2}}", &[TESTERS])]
#[case::webhook("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "metadata: {name: x}", BOTH)]
#[case::quota("v1", "ResourceQuota", "metadata: {name: x}", BOTH)]
#[case::misspelt_kind("apps/v1", "Deploymnt", "metadata: {name: x}, spec: {template: {metadata: {labels: {app: b}}}}", &[])]
#[case::kind_in_plural("networking.istio.io/v1", "DestinationRules", "metadata: {name: x}, spec: {host: svc}", BOTH)]
#[case::kind_of_another_group("networking.istio.io/v1", "HTTPRoute", "metadata: {name: x}", BOTH)]
fn a_kind_is_named(#[case] version: &str, #[case] kind: &str, #[case] rest: &str, #[case] populations: &[&str]) {
    let (affected, named) = affected(&format!("{}{{apiVersion: {version}, kind: {kind}, {rest}}}", base()));
    assert_eq!(affected, populations);
    assert!(matches!(named.as_slice(), [one] if one.starts_with(&format!("{kind}/"))), "{named:?}");
}

#[rstest]
#[case::replica_set("apps/v1", "ReplicaSet")]
#[case::stateful_set("apps/v1", "StatefulSet")]
#[case::replication_controller("v1", "ReplicationController")]
fn pods_of_a_workload_of_known_size_are_endpoints(#[case] version: &str, #[case] kind: &str) {
    let workload = SERVICE.replace(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: v2}",
        &format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: v2}}"),
    );
    let text = workload.replace("{name: v2}\nspec: {", "{name: v2}\nspec: {replicas: 3, ");
    let mesh = mesh(&text);
    assert_eq!(mesh.not_modelled, []);
    let given = mesh.outbound(client()).distribution(&Request::get("svc", 8080, "/"));
    assert_eq!(given.chance(|outcome| outcome.version() == Some("v2")).to_string(), "75 %");
}

#[test]
fn a_daemon_set_alone_behind_a_subset_is_decided() {
    let daemon_set = base().replace("Deployment\nmetadata: {name: v2}", "DaemonSet\nmetadata: {name: v2}");
    assert_eq!(affected(&daemon_set), (vec![], vec!["DaemonSet/v2".to_owned()]));
    let mesh = mesh(&daemon_set);
    let given = mesh.outbound(client()).distribution(&Request::get("svc", 8080, "/").with("end-user", "testers"));
    assert_eq!(given.chance(|outcome| outcome.version() == Some("v2")).to_string(), "100 %");
}

#[rstest]
#[case::config_map("v1, kind: ConfigMap")]
#[case::service_monitor("monitoring.coreos.com/v1, kind: ServiceMonitor")]
#[case::reference_grant("gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant")]
fn a_harmless_kind_is_not_named(#[case] kind: &str) {
    assert_eq!(affected(&format!("{}{{apiVersion: {kind}, metadata: {{name: x}}}}", base())), (vec![], vec![]));
}

#[rstest]
#[case::in_the_rule_of_the_testers(
    "  - match: [{headers: {end-user: {exact: testers}}}]", "  - headers: {reply: {set: {x: y}}}\n    match: [{headers: {end-user: {exact: testers}}}]",
    &[TESTERS])]
#[case::in_the_rule_of_everyone(
    "  - route: [{destination: {host: svc, subset: v1}}]", "  - headers: {reply: {set: {x: y}}}\n    route: [{destination: {host: svc, subset: v1}}]",
    &[EVERYONE])]
#[case::answers_to_preflight_requests("  - route:", "  - corsPolicy: {allowOrigins: [{exact: 'https://acme.io'}]}\n    route:", &[])]
#[case::in_a_match("{exact: testers}}}]", "{exact: testers}}, statPrefix: a, unknown: 1}]", BOTH)]
#[case::timeouts_and_retries("  - route:", "  - timeout: 5s\n    retries: {attempts: 3}\n    route:", &[])]
#[case::delay("  - route:", "  - fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}\n    route:", &[])]
#[case::request_header("  - route:", "  - headers: {request: {set: {x-a: b}}}\n    route:", &[])]
#[case::host_header("  - route:", "  - headers: {request: {set: {Host: b}}}\n    route:", &[])]
#[case::response_header("  - route:", "  - headers: {response: {remove: [x-version]}}\n    route:", &[])]
#[case::unknown_headers("  - route:", "  - headers: {reply: {remove: [x-version]}}\n    route:", &[EVERYONE])]
#[case::tcp_routes("  hosts: [svc]", "  hosts: [svc]\n  tcp: [{}]", &[])]
#[case::mutual_tls("  host: svc\n", "  host: svc\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n", &[])]
#[case::tls("  host: svc\n", "  host: svc\n  trafficPolicy: {tls: {mode: SIMPLE}}\n", BOTH)]
#[case::least_request("  host: svc\n", "  host: svc\n  trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}\n", &[])]
#[case::outlier_detection("  host: svc\n", "  host: svc\n  trafficPolicy: {outlierDetection: {}, connectionPool: {}}\n", &[])]
#[case::consistent_hash(
    "  host: svc\n",
    "  host: svc\n  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}\n",
    &[]
)]
#[case::consistent_hash_over_several_versions(
    "  host: svc\n  subsets: [{name: v1, labels: {version: v1}}",
    "  host: svc\n  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}\n  subsets: [{name: v1, labels: {app: a}}",
    &[EVERYONE]
)]
#[case::unknown_hash(
    "  host: svc\n",
    "  host: svc\n  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x, unknown: 1}}}\n",
    BOTH
)]
#[case::passthrough("  host: svc\n", "  host: svc\n  trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}\n", BOTH)]
#[case::upgrade_to_http2(
    "  host: svc\n",
    "  host: svc\n  trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}\n",
    BOTH
)]
#[case::policy_of_a_port(
    "  host: svc\n", "  host: svc\n  trafficPolicy: {portLevelSettings: [{port: {number: 8080}, tls: {mode: ISTIO_MUTUAL}}]}\n", &[])]
#[case::a_target_port_that_v2_does_not_declare(
    "{image: 'a:v2'}", "{image: 'a:v2', ports: [{containerPort: 9090}]}", &[TESTERS])]
#[case::of_one_subset(
    "labels: {version: v2}}]", "labels: {app: a}, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}}]",
    &[TESTERS])]
#[case::of_another_host("  host: svc\n", "  host: other\n  trafficPolicy: {tls: {mode: SIMPLE}}\n", &[])]
#[case::excluded_port_of_a_server(
    "{labels: {app: a, version: v2}}", "{labels: {app: a, version: v2}, \
      annotations: {traffic.sidecar.istio.io/excludeInboundPorts: '80'}}", &[TESTERS])]
#[case::rule_of_another_revision("metadata: {name: vs}", "metadata: {name: vs, labels: {istio.io/rev: canary}}", BOTH)]
#[case::waypoint("metadata: {name: svc}", "metadata: {name: svc, labels: {istio.io/use-waypoint: w}}", BOTH)]
#[case::included_port_of_a_server(
    "{labels: {app: a, version: v2}}", "{labels: {app: a, version: v2}, \
      annotations: {traffic.sidecar.istio.io/includeInboundPorts: '80'}}", &[TESTERS])]
#[case::interception_of_a_server(
    "{labels: {app: a, version: v2}}", "{labels: {app: a, version: v2}, \
      annotations: {sidecar.istio.io/interceptionMode: NONE}}", &[TESTERS])]
#[case::waypoint_of_pods(
    "{labels: {app: a, version: v2}}", "{labels: {app: a, version: v2, istio.io/use-waypoint: w}}", &[TESTERS])]
#[case::resources_of_a_sidecar(
    "{labels: {app: a, version: v2}}", "{labels: {app: a, version: v2}, annotations: {sidecar.istio.io/proxyCPU: 100m}}", &[])]
#[case::subsets_of_another_revision(
    "metadata: {name: dr}",
    "metadata: {name: dr, labels: {istio.io/rev: canary}}",
    BOTH
)]
#[case::traffic_distribution(
    "metadata: {name: svc}",
    "metadata: {name: svc, annotations: {networking.istio.io/traffic-distribution: PreferClose}}",
    BOTH
)]
#[case::traffic_distribution_of_the_service("ports: [{name", "trafficDistribution: PreferClose, ports: [{name", BOTH)]
#[case::cluster_wide_traffic_policy("ports: [{name", "internalTrafficPolicy: Cluster, ports: [{name", &[])]
#[case::session_affinity("ports: [{name", "sessionAffinity: ClientIP, ports: [{name", BOTH)]
#[case::headless("ports: [{name", "clusterIP: None, ports: [{name", BOTH)]
#[case::port_named_after_udp("{name: http, port: 8080}", "{name: udp-x, port: 8080}", BOTH)]
#[case::udp_beside_tcp("{name: http, port: 8080}", "{name: http, port: 8080}, {name: udp-x, port: 8080, protocol: UDP}", &[])]
#[case::internal_traffic_policy("ports: [{name", "internalTrafficPolicy: Local, ports: [{name", BOTH)]
fn a_field_affects(#[case] part: &str, #[case] instead: &str, #[case] populations: &[&str]) {
    let base = base();
    assert!(base.contains(part));
    assert_eq!(affected(&base.replacen(part, instead, 1)).0, populations);
}

#[test]
fn a_rule_for_gateways_alone_affects_no_client_of_the_mesh() {
    let rule = "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: x}, \
                 spec: {hosts: [svc], gateways: [g], http: [{headers: {reply: {}}}]}}";
    assert_eq!(affected(&format!("{}{rule}", base())), (vec![], vec!["spec.http[0].headers.reply".to_owned()]));
}

#[test]
fn mutual_tls_affects_only_pods_without_a_sidecar() {
    let tls = base().replacen("  host: svc\n", "  host: svc\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n", 1);
    let tls = tls.replace("{app: a, version: v2}", "{app: a, version: v2, sidecar.istio.io/inject: 'false'}");
    assert_eq!(affected(&tls).0, [TESTERS]);
}

#[rstest]
#[case::excluded_port("annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: '8080'}", BOTH)]
#[case::included_ranges("annotations: {traffic.sidecar.istio.io/includeOutboundIPRanges: 10.0.0.0/8}", BOTH)]
#[case::interception("annotations: {sidecar.istio.io/interceptionMode: NONE}", BOTH)]
#[case::log_level("annotations: {sidecar.istio.io/logLevel: debug}", &[])]
#[case::another_pod("annotations: {traffic.sidecar.istio.io/excludeOutboundPorts: '8080'}, namespace: other", &[])]
fn the_metadata_of_a_client_affects(#[case] metadata: &str, #[case] populations: &[&str]) {
    let pod = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: x, labels: {{app: client}}, {metadata}}}}}");
    assert_eq!(affected(&format!("{}{pod}", base())).0, populations);
}

#[rstest]
#[case::waypoint("labels: {istio.io/use-waypoint: w}", BOTH)]
#[case::ambient("labels: {istio.io/dataplane-mode: ambient}", BOTH)]
#[case::traffic_distribution("annotations: {networking.istio.io/traffic-distribution: PreferClose}", BOTH)]
#[case::team("labels: {team: a}", &[])]
fn the_metadata_of_a_namespace_affects(#[case] metadata: &str, #[case] populations: &[&str]) {
    let namespace = |name: &str| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, {metadata}}}}}");
    assert_eq!(affected(&format!("{}{}", base(), namespace("here"))).0, populations);
    assert_eq!(affected(&format!("{}{}", base(), namespace("other"))).0, [""; 0]);
}
