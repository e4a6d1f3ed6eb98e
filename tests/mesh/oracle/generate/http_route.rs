//! Random objects of the Gateway API: `HTTPRoute`s whose parents are Services or a `Gateway`, and that `Gateway`.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::{Written, list, may, must, object, one_of, written};

fn http_match() -> BoxedStrategy<Value> {
    let test = |names: &'static [&'static str], value: &'static [&'static str]| {
        let test = object(vec![
            ("name", must(select(names).prop_map(|name| json!(name)))),
            ("type", may(0.3, one_of(json!(["Exact", "RegularExpression"])))),
            ("value", must(select(value).prop_map(|value| json!(value)))),
        ]);
        list(test, 1..2)
    };
    object(vec![
        (
            "path",
            may(
                0.6,
                prop_oneof![
                    select(&["/", "/api", "/api/", "/api/v1"][..])
                        .prop_map(|value| json!({"type": "PathPrefix", "value": value})),
                    select(&["/", "/api", "/api/v1"][..]).prop_map(|value| json!({"type": "Exact", "value": value})),
                    select(&["/.*", "/api/[a-z]+"][..])
                        .prop_map(|value| json!({"type": "RegularExpression", "value": value})),
                    select(&["/", "/api"][..]).prop_map(|value| json!({"value": value})),
                ],
            ),
        ),
        ("headers", may(0.3, test(&["end-user", "X-Beta"], &["testers", "t.*"]))),
        ("queryParams", may(0.2, test(&["q"], &["1", ".*"]))),
        ("method", may(0.2, one_of(json!(["GET", "POST"])))),
    ])
}

/// The name of the `Gateway`, which is in the namespace `here`.
pub const EDGE: &str = "edge";

/// A `Gateway` with a few listeners.
pub fn kubernetes_gateway() -> BoxedStrategy<Written> {
    let listener = |name: &'static str| {
        object(vec![
            ("name", must(Just(json!(name)))),
            ("port", must(one_of(json!([80, 80, 8080])))),
            ("protocol", must(Just(json!("HTTP")))),
            ("hostname", may(0.6, one_of(json!(["shop.acme.io", "*.acme.io", "*.io", "other.acme.io"])))),
            (
                "allowedRoutes",
                may(0.5, one_of(json!([{"namespaces": {"from": "All"}}, {"namespaces": {"from": "Same"}}]))),
            ),
        ])
    };
    let listeners = prop_oneof![
        listener("a").prop_map(|one| json!([one])),
        (listener("a"), listener("b")).prop_map(|(first, second)| json!([first, second])),
        (listener("b"), listener("a"), listener("c")).prop_map(|(first, second, third)| json!([first, second, third])),
    ];
    let spec = object(vec![("gatewayClassName", must(Just(json!("istio")))), ("listeners", must(listeners))]);
    written("Gateway", "gateway.networking.k8s.io/v1", &[EDGE], &["here"], spec)
}

/// An `HTTPRoute` whose parent is the `Gateway`, or a listener of it.
pub fn edge_route() -> BoxedStrategy<Written> {
    let parent = object(vec![
        ("name", must(Just(json!(EDGE)))),
        ("namespace", may(0.7, one_of(json!(["here", "there"])))),
        ("sectionName", may(0.4, one_of(json!(["a", "b", "c", "gone"])))),
        ("port", may(0.2, one_of(json!([80, 8080])))),
    ]);
    let hostname = one_of(json!(["shop.acme.io", "*.acme.io", "other.acme.io", "*.io", "a.b.acme.io", "acme.io"]));
    let spec = object(vec![
        ("parentRefs", must(list(parent, 1..2))),
        ("hostnames", may(0.7, list(hostname, 1..3))),
        ("rules", may(0.95, rules())),
    ]);
    written("HTTPRoute", "gateway.networking.k8s.io/v1", &["a", "b", "a-b"], &["here", "there"], spec)
}

/// An `HTTPRoute` whose parents are Services.
pub fn http_route() -> BoxedStrategy<Written> {
    let parent = object(vec![
        ("group", may(0.9, Just(json!("")))),
        ("kind", may(0.95, Just(json!("Service")))),
        ("name", must(one_of(json!(["hello", "next", "gone"])))),
        ("namespace", may(0.2, one_of(json!(["here", "there"])))),
        ("port", may(0.3, one_of(json!([8080, 80])))),
    ]);
    let spec = object(vec![("parentRefs", must(list(parent, 1..3))), ("rules", may(0.95, rules()))]);
    written("HTTPRoute", "gateway.networking.k8s.io/v1", &["a", "b", "a-b"], &["here", "there"], spec)
}

fn rules() -> BoxedStrategy<Value> {
    let backend = || {
        object(vec![
            ("name", must(one_of(json!(["hello", "next", "gone"])))),
            ("port", must(one_of(json!([8080, 80, 9090])))),
            ("weight", may(0.5, one_of(json!([1, 0, 3, 90])))),
        ])
    };
    let matches = http_match();
    let filters = prop_oneof![
        Just(json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "next", "port": 8080}}}])),
        Just(
            json!([{"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "hello", "port": 8080}, "percent": 20}}])
        ),
        Just(json!([{"type": "URLRewrite", "urlRewrite": {"hostname": "elsewhere.io"}}])),
        Just(
            json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [{"name": "X-A", "value": "1"}], "remove": ["x-b"]}}])
        ),
        Just(
            json!([{"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}}}])
        ),
    ];
    let redirect = one_of(json!([
        {"statusCode": 301}, {"hostname": "elsewhere.io"}, {"scheme": "https"}, {"port": 8443},
        {"path": {"type": "ReplaceFullPath", "replaceFullPath": "/new"}, "statusCode": 302},
    ]));
    let forwarding = object(vec![
        ("matches", may(0.6, list(matches.clone(), 1..3))),
        ("filters", may(0.2, filters)),
        ("backendRefs", may(0.9, list(backend(), 1..3))),
        (
            "timeouts",
            may(
                0.15,
                one_of(json!([
                    {"request": "5s"}, {"request": "0s"}, {"request": "5s", "backendRequest": "2s"}, {"backendRequest": "1s500ms"},
                ])),
            ),
        ),
    ]);
    let redirecting = object(vec![
        ("matches", may(0.6, list(matches, 1..3))),
        (
            "filters",
            must(redirect.prop_map(|redirect| json!([{"type": "RequestRedirect", "requestRedirect": redirect}]))),
        ),
    ]);
    list(prop_oneof![6 => forwarding, 1 => redirecting], 1..3)
}
