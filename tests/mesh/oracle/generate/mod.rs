//! Random manifests: Services, Deployments and rules of every kind that the model covers, in two namespaces and the root namespace.

mod http_route;

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

pub use http_route::EDGE;
use http_route::{edge_route, http_route, kubernetes_gateway};

/// How many moments there are at which objects are created.
pub const MOMENTS: u64 = 3;

/// A generated object.
#[derive(Debug, Clone)]
pub struct Written {
    pub created: u64,
    pub manifest: Value,
}

type Part = BoxedStrategy<Option<Value>>;

/// The objects of a case. The Service `hello` with two versions is always there.
pub fn objects() -> impl Strategy<Value = Vec<Written>> {
    let fixed = (service("hello", "here"), replicas("v1", "here"), replicas("v2", "here"));
    let more = (
        weighted(0.5, service("next", "here")),
        weighted(0.5, service("hello", "there")),
        weighted(0.3, service("other", "there")),
        weighted(0.7, replicas("v1", "there")),
    );
    let rules =
        vec(prop_oneof![3 => destination_rule(), 4 => virtual_service(), 1 => delegate(), 2 => http_route()], 0..5);
    let of_kubernetes = (kubernetes_gateway(), vec(edge_route(), 0..4)).prop_map(|(gateway, mut routes)| {
        routes.insert(0, gateway);
        routes
    });
    let of_istio = (vec(gateway(), 1..3), vec(passed_through(), 0..3)).prop_map(|(mut gateways, rules)| {
        gateways.extend(rules);
        gateways
    });
    let gateways = weighted(0.35, prop_oneof![3 => of_istio.boxed(), 2 => of_kubernetes.boxed()]);
    (fixed, more, rules, gateways).prop_map(|((hello, v1, v2), (next, far, other, there), rules, gateways)| {
        let mut objects = vec![Some(hello), Some(v1), Some(v2), next, far, other, there];
        objects.extend(rules.into_iter().chain(gateways.into_iter().flatten()).map(Some));
        objects.into_iter().flatten().collect()
    })
}

fn object(fields: Vec<(&'static str, Part)>) -> BoxedStrategy<Value> {
    let (keys, parts): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let with_keys = move |values: Vec<Option<Value>>| {
        let fields = keys.iter().zip(values).filter_map(|(key, value)| Some(((*key).to_owned(), value?)));
        Value::Object(fields.collect::<Map<_, _>>())
    };
    parts.prop_map(with_keys).boxed()
}

fn must(strategy: impl Strategy<Value = Value> + 'static) -> Part {
    strategy.prop_map(Some).boxed()
}

fn may(chance: f64, strategy: impl Strategy<Value = Value> + 'static) -> Part {
    weighted(chance, strategy).boxed()
}

/// One of these values; the first is the simplest.
fn one_of(values: Value) -> BoxedStrategy<Value> {
    let Value::Array(values) = values else { unreachable!("a list") };
    select(values).boxed()
}

fn list(strategy: impl Strategy<Value = Value> + 'static, sizes: std::ops::Range<usize>) -> BoxedStrategy<Value> {
    vec(strategy, sizes).prop_map(Value::Array).boxed()
}

fn written(
    kind: &'static str,
    api_version: &'static str,
    names: &'static [&'static str],
    namespaces: &'static [&'static str],
    spec: BoxedStrategy<Value>,
) -> BoxedStrategy<Written> {
    let at = (select(names), select(namespaces), 0..MOMENTS, spec);
    let object = move |(name, namespace, created, spec): (&'static str, &'static str, u64, Value)| Written {
        created,
        manifest: json!({
            "apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        }),
    };
    at.prop_map(object).boxed()
}

const NAMESPACES: &[&str] = &["here", "there", "istio-system"];

fn hosts() -> BoxedStrategy<Value> {
    one_of(json!([
        "hello",
        "next",
        "other",
        "hello.here.svc.cluster.local",
        "hello.there.svc.cluster.local",
        "other.there.svc.cluster.local",
        "*.here.svc.cluster.local",
        "*.svc.cluster.local",
        "*.there.svc.cluster.local",
        "*.local",
        "hello.here",
        "shop.acme.io",
        "*.acme.io",
        "gone",
        "Hello",
        "HELLO.here.svc.cluster.local",
        "Shop.acme.io",
        "*",
    ]))
}

/// A Gateway with one server or two.
fn gateway() -> BoxedStrategy<Written> {
    let hosts = || {
        one_of(json!([
            "*",
            "shop.acme.io",
            "*.acme.io",
            "*.here.svc.cluster.local",
            "./shop.acme.io",
            "there/*",
            "here/*.acme.io",
            "*/shop.acme.io",
            "Shop.acme.io",
            "*.io",
        ]))
    };
    let server = |name: &'static str| {
        let port = select(vec![80, 80, 8080])
            .prop_map(move |number| json!({"number": number, "name": name, "protocol": "HTTP"}));
        object(vec![
            ("port", must(port)),
            ("hosts", must(list(hosts(), 1..3))),
            ("tls", may(0.1, one_of(json!([{"httpsRedirect": true}])))),
        ])
    };
    let with_tls = |name: &'static str| {
        let kinds = one_of(json!([
            ["TLS", {"mode": "PASSTHROUGH"}],
            ["HTTPS", {"mode": "PASSTHROUGH"}],
            ["HTTPS", {"mode": "SIMPLE", "credentialName": "cert"}],
        ]));
        (kinds, list(hosts(), 1..3), select(vec![443, 443, 443, 80])).prop_map(move |(kind, hosts, number)| {
            let port = json!({"number": number, "name": name, "protocol": kind[0]});
            json!({"port": port, "hosts": hosts, "tls": kind[1]})
        })
    };
    let servers = prop_oneof![
        server("http").prop_map(|one| json!([one])),
        (server("http"), server("http-b")).prop_map(|(first, second)| json!([first, second])),
        (with_tls("tls"), with_tls("tls-b")).prop_map(|(first, second)| json!([first, second])),
        (server("http"), with_tls("tls"), with_tls("tls-b")).prop_map(|(one, two, three)| json!([one, two, three])),
    ];
    let spec = object(vec![("selector", must(Just(json!({"istio": "ingressgateway"})))), ("servers", must(servers))]);
    written("Gateway", "networking.istio.io/v1", &["front", "back"], &["here", "there"], spec)
}

/// Rules for connections that gateways pass through.
fn passed_through() -> BoxedStrategy<Written> {
    let hosts = select(vec!["*.acme.io", "shop.acme.io", "*", "Shop.acme.io"]);
    let spec = hosts.prop_flat_map(|host| {
        let names = match host {
            "*.acme.io" => json!([["*.acme.io"], ["shop.acme.io"], ["shop.acme.io", "a.acme.io"]]),
            "*" => json!([["*"], ["*.io"], ["shop.acme.io"]]),
            host => json!([[host]]),
        };
        let one = object(vec![
            ("sniHosts", must(one_of(names))),
            ("port", may(0.1, one_of(json!([443, 80])))),
            ("sourceLabels", may(0.1, one_of(json!([{"tier": "back"}])))),
            ("gateways", may(0.2, one_of(json!([["front"], ["back"], ["there/front"]])))),
        ]);
        let rule = object(vec![("match", must(list(one, 1..3))), ("route", must(routes(false)))]);
        object(vec![
            ("hosts", must(Just(json!([host])))),
            ("gateways", must(one_of(json!([["front"], ["back"], ["here/front", "there/front"], ["here/back"]])))),
            ("exportTo", exported()),
            ("tls", must(list(rule, 1..3))),
        ])
    });
    written("VirtualService", "networking.istio.io/v1", &["p", "q"], &["here", "there"], spec.boxed())
}

fn exported() -> Part {
    may(0.3, one_of(json!([["*"], ["."], ["here"], ["there"], ["here", "there"], [".", "there"]])))
}

fn service(name: &'static str, namespace: &'static str) -> BoxedStrategy<Written> {
    let port = |number: u64| {
        let named =
            select(vec!["http", "web", "tcp", "grpc", "https", "http2", "grpc-web", "mysql", "HTTP", "udp", "tls"]);
        let named = prop_oneof![6 => Just("http"), 2 => Just("tcp"), 4 => named];
        object(vec![
            ("name", must(named.prop_map(move |name| json!(format!("{name}-{number}"))))),
            ("port", must(Just(json!(number)))),
            ("targetPort", must(one_of(json!([8080, "web", 9090])))),
            ("protocol", may(0.05, one_of(json!(["UDP", "TCP"])))),
            (
                "appProtocol",
                may(0.1, one_of(json!(["http", "tcp", "https", "kubernetes.io/h2c", "HTTP", "acme.io/x"]))),
            ),
        ])
    };
    let ports = prop_oneof![
        3 => port(8080).prop_map(|one| json!([one])),
        1 => Just(json!([{"port": 8080}])),
        2 => (port(8080), port(80)).prop_map(|(first, second)| json!([first, second])),
        1 => (port(80), port(9090)).prop_map(|(first, second)| json!([first, second])),
    ];
    let spec = object(vec![
        ("selector", may(0.95, one_of(json!([{"app": "hello"}, {"app": "hello", "version": "v1"}, {"app": "none"}])))),
        ("ports", must(ports)),
        ("clusterIP", may(if name == "next" { 0.1 } else { 0.02 }, one_of(json!(["None"])))),
    ]);
    let service = move |spec| Written {
        created: 0,
        manifest: json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        }),
    };
    spec.prop_map(service).boxed()
}

fn replicas(version: &'static str, namespace: &'static str) -> BoxedStrategy<Written> {
    let deployment = move |replicas: u64| Written {
        created: 0,
        manifest: json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": format!("hello-{version}"), "namespace": namespace},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": {"app": "hello", "version": version}},
                "template": {
                    "metadata": {"labels": {"app": "hello", "version": version}},
                    "spec": {"containers": [
                        {"name": "hello", "image": format!("hello:{version}"), "ports": [{"name": "web", "containerPort": 8080}]},
                    ]},
                },
            },
        }),
    };
    prop_oneof![4 => Just(1), 1 => Just(2), 1 => Just(0)].prop_map(deployment).boxed()
}

fn destination_rule() -> BoxedStrategy<Written> {
    let labels =
        one_of(json!([{"version": "v1"}, {"version": "v2"}, {}, {"app": "other"}, {"version": "v1", "app": "hello"}]));
    let subset = move |name: &'static str| {
        let labels = labels.clone().prop_filter_map("none", |labels| (labels != json!({})).then_some(labels));
        object(vec![
            ("name", must(Just(json!(name)))),
            ("labels", may(0.8, labels)),
            ("trafficPolicy", may(0.2, policy(true))),
        ])
    };
    let subsets = (subset("v1"), subset("v2"), subset("v3"));
    let subsets = (subsets, subsequence(vec![0_usize, 1, 2], 0..=3)).prop_map(|((v1, v2, v3), chosen)| {
        Value::Array(chosen.into_iter().map(|index| [&v1, &v2, &v3][index].clone()).collect())
    });
    let spec = object(vec![
        ("host", must(hosts())),
        ("subsets", must(subsets)),
        ("exportTo", exported()),
        ("trafficPolicy", may(0.4, policy(true))),
    ]);
    written("DestinationRule", "networking.istio.io/v1", &["a", "b", "a-b"], NAMESPACES, spec)
}

/// Settings of load balancing.
fn balancers() -> Value {
    let hash = |hash: Value| json!({"consistentHash": hash});
    json!([
        {"simple": "ROUND_ROBIN"},
        {"simple": "RANDOM"},
        hash(json!({"httpHeaderName": "X-User"})),
        hash(json!({"httpHeaderName": "x-user", "minimumRingSize": 64})),
        hash(json!({"httpCookie": {"name": "user"}, "ringHash": {"minimumRingSize": 2048}})),
        hash(json!({"httpCookie": {"name": "user", "ttl": "0s", "path": "/a"}, "ringHash": {}})),
        hash(json!({"httpCookie": {"name": "user", "ttl": "90s"}, "maglev": {}})),
        hash(json!({"useSourceIp": true, "maglev": {"tableSize": 101}})),
        hash(json!({"useSourceIp": false})),
        hash(json!({"httpQueryParameterName": "user"})),
    ])
}

/// A traffic policy, or that of a port.
fn policy(with_ports: bool) -> BoxedStrategy<Value> {
    let tls = one_of(json!([
        {"mode": "ISTIO_MUTUAL"},
        {"mode": "DISABLE"},
        {"mode": "SIMPLE"},
        {"mode": "SIMPLE", "credentialName": "cert"},
        {"mode": "MUTUAL", "clientCertificate": "/a", "privateKey": "/b"},
    ]));
    let mut fields = vec![
        ("tls", may(0.8, tls)),
        ("loadBalancer", may(0.3, one_of(balancers()))),
        ("connectionPool", may(0.2, Just(json!({"tcp": {"maxConnections": 10}})))),
        ("outlierDetection", may(0.2, Just(json!({"consecutive5xxErrors": 3})))),
    ];
    if with_ports {
        let port = one_of(json!([{"number": 8080}, {"number": 80}, {"number": 9090}]));
        let own = (port, policy(false)).prop_map(|(port, mut policy)| {
            policy["port"] = port;
            json!([policy])
        });
        fields.push(("portLevelSettings", may(0.3, own)));
    }
    // which the API refuses
    object(fields).prop_filter("empty", |policy| policy.as_object().is_some_and(|policy| !policy.is_empty())).boxed()
}

fn virtual_service() -> BoxedStrategy<Written> {
    let spec = object(vec![
        (
            "hosts",
            must(vec(hosts(), 1..3).prop_map(|mut hosts| {
                hosts.sort_by_key(ToString::to_string);
                hosts.dedup();
                Value::Array(hosts)
            })),
        ),
        ("gateways", may(0.15, one_of(json!([["mesh"], ["front"], ["front", "mesh"], ["there/front"]])))),
        ("exportTo", exported()),
        ("http", may(0.9, list(rule(true), 1..4))),
        ("tcp", may(0.3, list(connection_rule(false), 1..3))),
        ("tls", may(0.1, list(connection_rule(true), 1..3))),
    ]);
    let spec = spec.prop_filter("no rules", |spec| ["http", "tcp", "tls"].iter().any(|key| spec.get(key).is_some()));
    let spec = spec.prop_map(|mut spec| {
        accepted(&mut spec);
        spec
    });
    written("VirtualService", "networking.istio.io/v1", &["a", "b", "a-b"], NAMESPACES, spec.boxed())
}

/// Changes what the API would refuse most often: the host `*` in the mesh, and names of servers that are not among the hosts. That such objects
/// are refused is tested with spoilt ones.
fn accepted(spec: &mut Value) {
    let hosts = spec["hosts"].clone();
    if hosts.as_array().unwrap().contains(&json!("*")) {
        spec["gateways"] = json!(["front"]);
    }
    for rule in spec.get_mut("tls").and_then(Value::as_array_mut).into_iter().flatten() {
        for one in rule["match"].as_array_mut().into_iter().flatten() {
            one["sniHosts"] = json!([hosts[0]]);
        }
    }
}

fn delegate() -> BoxedStrategy<Written> {
    let spec = object(vec![("exportTo", exported()), ("http", must(list(rule(false), 1..3)))]);
    written("VirtualService", "networking.istio.io/v1", &["d", "e"], &["here", "there"], spec)
}

fn text(value: &'static [&'static str]) -> BoxedStrategy<Value> {
    let pair = (select(&["exact", "prefix", "regex"][..]), select(value));
    pair.prop_map(|(key, value)| json!({(key): value})).boxed()
}

fn matched() -> BoxedStrategy<Value> {
    let headers = || {
        let test = prop_oneof![3 => text(&["testers", "t", ".*"]), 1 => Just(json!({}))];
        (select(&["end-user", "X-Beta"][..]), test).prop_map(|(name, test)| json!({(name): test}))
    };
    let query = prop_oneof![2 => text(&["1", ".*"]), 1 => Just(json!({"exact": ""}))];
    let fields = vec![
        ("name", may(0.05, one_of(json!(["first"])))),
        ("uri", may(0.4, text(&["/", "/api", "/api/v1", "/API", ".*", "/.*", "/[a-z]+"]))),
        ("ignoreUriCase", may(0.1, one_of(json!([true, false])))),
        ("headers", may(0.3, headers())),
        ("withoutHeaders", may(0.1, headers())),
        ("queryParams", may(0.1, query.prop_map(|test| json!({"q": test})))),
        ("method", may(0.1, text(&["GET", "POST"]))),
        ("authority", may(0.1, text(&["hello", "hello:8080"]))),
        ("scheme", may(0.05, text(&["http", "https"]))),
        ("port", may(0.1, one_of(json!([8080, 80, 9090])))),
        ("sourceLabels", may(0.1, one_of(json!([{"app": "client"}, {"tier": "back"}])))),
        ("sourceNamespace", may(0.1, one_of(json!(["here", "there"])))),
        ("gateways", may(0.1, one_of(json!([["mesh"], ["front"], ["front", "mesh"]])))),
    ];
    object(fields)
}

fn destination() -> BoxedStrategy<Value> {
    let fields = vec![
        (
            "host",
            must(one_of(json!([
                "hello",
                "next",
                "hello.here.svc.cluster.local",
                "hello.there.svc.cluster.local",
                "other.there.svc.cluster.local",
                "gone",
                "Hello",
                "hello.here",
                "shop.acme.io",
            ]))),
        ),
        ("subset", may(0.6, one_of(json!(["v1", "v2", "v3", "v4"])))),
        ("port", may(0.3, one_of(json!([{"number": 8080}, {"number": 80}, {"number": 9090}])))),
    ];
    object(fields)
}

fn percentage() -> BoxedStrategy<Value> {
    one_of(json!([{"value": 100}, {"value": 50}, {"value": 0.1}, {"value": 0}, {}, {"value": 12.345_678}]))
}

/// A rule of a VirtualService.
fn rule(may_delegate: bool) -> BoxedStrategy<Value> {
    let redirect = object(vec![
        ("uri", may(0.5, one_of(json!(["/new", "/"])))),
        ("authority", must(one_of(json!(["elsewhere", "hello:81"])))),
        ("redirectCode", may(0.4, one_of(json!([301, 302, 307, 308])))),
        ("scheme", may(0.3, one_of(json!(["https", "http"])))),
        ("port", may(0.2, one_of(json!([8443, 80])))),
    ]);
    let respond = one_of(json!([{"status": 418}, {"status": 503, "body": {"string": "later"}}, {"status": 200}]));
    let delegate = one_of(json!([
        {"name": "d"}, {"name": "e"}, {"name": "d", "namespace": "there"}, {"name": "e", "namespace": "here"},
    ]));
    let matching = |chance| ("match", may(chance, list(matched(), 1..3)));
    let redirecting = object(vec![matching(0.6), ("redirect", must(redirect))]);
    let responding = object(vec![matching(0.6), ("directResponse", must(respond))]);
    let delegating = object(vec![matching(0.8), ("delegate", must(delegate))]);
    let others = prop_oneof![8 => forwarding(), 1 => redirecting, 1 => responding];
    if may_delegate { prop_oneof![5 => others, 1 => delegating].boxed() } else { others.boxed() }
}

fn headers() -> BoxedStrategy<Value> {
    let values = || one_of(json!([{"x-version": "v9"}, {"X-Version": "v8", "x-b": "1"}, {"x-a": "2"}]));
    let response = object(vec![
        ("set", may(0.5, values())),
        ("add", may(0.5, values())),
        ("remove", may(0.5, one_of(json!([["x-version"], ["X-Version", "x-b"]])))),
    ]);
    object(vec![("response", must(response))])
}

/// The destinations of a rule for requests, or for connections.
fn routes(of_requests: bool) -> BoxedStrategy<Value> {
    let weighed = object(vec![
        ("destination", must(destination())),
        ("weight", may(0.8, one_of(json!([50, 1, 100, 0, 7])))),
        ("headers", if of_requests { may(0.1, headers()) } else { Just(None).boxed() }),
    ]);
    let routes = prop_oneof![
        2 => destination().prop_map(|one| json!([{"destination": one}])),
        2 => list(weighed, 1..4),
    ];
    let routes = routes.prop_filter("weights sum to 0", |routes| {
        let all = routes.as_array().unwrap();
        all.len() == 1 || all.iter().any(|one| one["weight"].as_u64().unwrap_or(0) > 0)
    });
    routes.boxed()
}

/// A `tcp` or `tls` route.
fn connection_rule(is_tls: bool) -> BoxedStrategy<Value> {
    let names = one_of(json!([
        ["hello.here.svc.cluster.local"],
        ["*.here.svc.cluster.local"],
        ["hello"],
        ["shop.acme.io"],
        ["*.local"],
    ]));
    let one = object(vec![
        ("sniHosts", if is_tls { must(names) } else { Just(None).boxed() }),
        ("port", may(0.2, one_of(json!([8080, 80, 9090])))),
        ("sourceLabels", may(0.2, one_of(json!([{"app": "client"}, {"tier": "back"}])))),
        ("sourceNamespace", may(0.1, one_of(json!(["here", "there"])))),
        ("gateways", may(0.2, one_of(json!([["mesh"], ["front"], ["front", "mesh"]])))),
        ("destinationSubnets", may(0.02, one_of(json!([["10.0.0.0/8"], ["192.168.0.0/16"]])))),
    ]);
    let matches = list(one, 1..3);
    let matches = if is_tls { must(matches) } else { may(0.6, matches) };
    object(vec![("match", matches), ("route", must(routes(false)))])
}

fn forwarding() -> BoxedStrategy<Value> {
    let routes = routes(true);
    let rewrite = one_of(json!([
        {"uri": "/new"}, {"uri": "/"}, {"authority": "elsewhere"}, {"uri": "/x", "authority": "elsewhere"},
        {"uriRegexRewrite": {"match": "^/(.*)$", "rewrite": r"/x/\1"}},
    ]));
    let mirror = object(vec![("destination", must(destination())), ("percentage", may(0.5, percentage()))]);
    let abort = object(vec![("httpStatus", must(one_of(json!([500, 418])))), ("percentage", may(0.9, percentage()))]);
    let delay = object(vec![
        ("fixedDelay", must(one_of(json!(["5s", "0.5s", "1m30s", "100ms"])))),
        ("percentage", may(0.8, percentage())),
    ]);
    let fault = prop_oneof![
        2 => abort.clone().prop_map(|abort| json!({"abort": abort})),
        1 => delay.clone().prop_map(|delay| json!({"delay": delay})),
        1 => (abort, delay).prop_map(|(abort, delay)| json!({"abort": abort, "delay": delay})),
    ];
    let retries = prop_oneof![
        1 => Just(json!({"attempts": 0})),
        4 => object(vec![
            ("attempts", must(one_of(json!([1, 2, 5])))),
            (
                "retryOn",
                may(0.6, one_of(json!(["5xx", "connect-failure,503", "reset,502", "gateway-error", "retriable-4xx"]))),
            ),
            ("perTryTimeout", may(0.3, one_of(json!(["2s", "0.25s"])))),
            ("retryIgnorePreviousHosts", may(0.2, one_of(json!([true, false])))),
        ]),
    ];
    object(vec![
        ("match", may(0.6, list(matched(), 1..3))),
        ("route", must(routes)),
        ("headers", may(0.1, headers())),
        ("rewrite", may(0.2, rewrite)),
        ("mirror", may(0.15, destination())),
        ("mirrorPercentage", may(0.1, percentage())),
        ("mirrors", may(0.05, list(mirror, 1..3))),
        ("fault", may(0.2, fault)),
        ("retries", may(0.25, retries)),
        ("timeout", may(0.15, one_of(json!(["5s", "1h2m", "1.5s"])))),
    ])
}
