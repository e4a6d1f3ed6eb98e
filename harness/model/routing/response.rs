//! Changes of the headers of responses, and what a client then reads in them.

use std::collections::BTreeMap;
use std::fmt;

/// Changes of the headers of responses, by lower-case name, in the order in which they are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHeaders(BTreeMap<String, Vec<HeaderChange>>);

/// A change of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// The header is removed. It comes before all other changes of a header.
    Remove,
    /// The header gets this value in place of all others.
    Set(String),
    /// The header gets this value beside others.
    Add(String),
}

/// A change with the value that is written.
type Change = fn(String) -> HeaderChange;

impl HeaderChange {
    /// The changes that have a value, by their names in objects, in the order in which they are made.
    pub(super) const KINDS: [(&'static str, Change); 2] = [("set", Self::Set), ("add", Self::Add)];
}

impl ResponseHeaders {
    /// Adds a change of a header. Names of HTTP/2 and the host are no headers that Istio changes.
    pub fn add(&mut self, name: &str, change: HeaderChange) {
        if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
            return;
        }
        let changes = self.0.entry(name.to_lowercase()).or_default();
        match change {
            HeaderChange::Remove if changes.contains(&change) => {}
            HeaderChange::Remove => changes.insert(0, change),
            _ => changes.push(change),
        }
    }

    /// These changes and others as one: what is removed is removed first.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        for (name, change) in others.iter() {
            self.add(name, change.clone());
        }
        self
    }

    /// The changes with the names of their headers.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &HeaderChange)> {
        self.0.iter().flat_map(|(name, changes)| changes.iter().map(|change| (name.as_str(), change)))
    }

    /// The first value of a header after the changes, given its value before.
    pub fn read<'a>(&'a self, name: &str, before: Option<&'a str>) -> Option<&'a str> {
        let changes = self.0.get(&name.to_lowercase()).into_iter().flatten();
        changes.fold(before, |first, change| match change {
            HeaderChange::Remove => None,
            HeaderChange::Set(value) => Some(value),
            HeaderChange::Add(value) => first.or(Some(value)),
        })
    }

    /// Whether a header is changed.
    pub fn change(&self, name: &str) -> bool {
        self.0.contains_key(&name.to_lowercase())
    }

    /// Whether a header gets a value that Envoy makes up for each response.
    pub fn make_up(&self, name: &str) -> bool {
        let changes = self.0.get(&name.to_lowercase()).into_iter().flatten();
        changes.into_iter().any(|change| match change {
            HeaderChange::Set(value) | HeaderChange::Add(value) => value.contains('%'),
            HeaderChange::Remove => false,
        })
    }
}

impl fmt::Display for ResponseHeaders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, change) in self.iter() {
            match change {
                HeaderChange::Remove => write!(formatter, ", without the response header `{name}`")?,
                HeaderChange::Set(value) => write!(formatter, ", with the response header `{name}: {value}`")?,
                HeaderChange::Add(value) => write!(formatter, ", with another response header `{name}: {value}`")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::Request;
    use super::super::fixture::{RULES, SERVICE, client, mesh};

    /// What a client reads in the header `X-Version` of the responses to requests that take this rule.
    fn outcome(rule: &str) -> String {
        let rules = RULES.replacen("  - route: [{destination: {host: svc, subset: v1}}]", &format!("  - {rule}"), 1);
        let mesh = mesh(&format!("{SERVICE}{rules}")).read_in(Some("X-Version"), Some("x-pod"));
        let outbound = mesh.outbound(client());
        let request = Request::get("svc", 8080, "/");
        let routes = outbound.routes(&request).unwrap();
        let notes = outbound.not_modelled(&request, Some(&routes));
        if let Some(note) = notes.first() {
            return format!("{}: {}", note.origin, note.field);
        }
        let decision = routes.decide(&request);
        let outcomes = decision.distribution.iter().map(|(outcome, chance)| format!("{outcome} {chance}"));
        outcomes.collect::<Vec<_>>().join(", ")
    }

    const NONE: &str = "a response without a version, which the route removes 100 %";

    #[rstest]
    #[case::of_another_header("{set: {x-other: v9}}", "v1 100 %")]
    #[case::set("{set: {x-version: v9}}", "v9 100 %")]
    #[case::the_first_of_two_is_read("{add: {x-version: v9}}", "v1 100 %")]
    #[case::removed("{remove: [x-Version]}", NONE)]
    #[case::removed_before_it_is_added("{add: {x-version: v9}, remove: [x-version]}", "v9 100 %")]
    #[case::made_up(
        "{set: {x-version: '%UPSTREAM_HOST%'}}",
        "a.yaml:31:5: headers.response of this rule, which change `X-Version`"
    )]
    #[case::pod("{set: {x-pod: a}}", "a.yaml:31:5: headers.response of this rule, which change `x-pod`")]
    fn headers_of_a_rule(#[case] changes: &str, #[case] expected: &str) {
        assert_eq!(
            outcome(&format!(
                "{{headers: {{response: {changes}}}, route: [{{destination: {{host: svc, subset: v1}}}}]}}"
            )),
            expected
        );
    }

    #[rstest]
    #[case::of_the_only_destination(
        "{}",
        "[{destination: {host: svc, subset: v1}, headers: {response: {set: {x-version: v9}}}}]",
        "v9 100 %"
    )]
    #[case::of_the_only_destination_after_those_of_the_rule(
        "{set: {x-version: v8}}",
        "[{destination: {host: svc, subset: v1}, headers: {response: {set: {x-version: v9}}}}]",
        "v9 100 %"
    )]
    #[case::of_one_destination(
        "{}",
        "[{destination: {host: svc, subset: v1}, weight: 0}, {destination: {host: svc, subset: v1}, weight: 25}, \
          {destination: {host: svc, subset: v2}, weight: 75, headers: {response: {remove: [x-version]}}}]",
        "v1 25 %, a response without a version, which the route removes 75 %"
    )]
    #[case::of_one_destination_before_those_of_the_rule(
        "{set: {x-version: v8}}",
        "[{destination: {host: svc, subset: v1}, weight: 1}, \
          {destination: {host: svc, subset: v2}, weight: 1, headers: {response: {set: {x-version: v9}}}}]",
        // two images
        "v8 50 %, v8 50 %"
    )]
    fn headers_of_destinations(#[case] of_rule: &str, #[case] route: &str, #[case] expected: &str) {
        assert_eq!(outcome(&format!("{{headers: {{response: {of_rule}}}, route: {route}}}")), expected);
    }

    #[test]
    fn what_the_mesh_responds_itself_with_a_version_is_not_modelled() {
        let rule =
            |name: &str| format!("{{headers: {{response: {{set: {{{name}: v9}}}}}}, directResponse: {{status: 418}}}}");
        assert_eq!(outcome(&rule("x-version")), "a.yaml:31:5: headers.response of this rule, which change `X-Version`");
        assert_eq!(outcome(&rule("x-other")), "418 by the route itself 100 %");
    }

    #[test]
    fn headers_of_an_http_route() {
        let route = |changes: &str| {
            let filter = format!("{{type: ResponseHeaderModifier, responseHeaderModifier: {changes}}}");
            let route = format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: a}}\nspec: {{parentRefs: [{{group: '', \
                 kind: Service, name: svc}}], rules: [{{filters: [{filter}], backendRefs: [{{name: svc, port: 8080}}]}}]}}"
            );
            let mesh = mesh(&format!("{SERVICE}{route}")).read_in(Some("x-version"), None);
            assert_eq!(mesh.not_modelled, []);
            let distribution = mesh.outbound(client()).distribution(&Request::get("svc", 8080, "/"));
            distribution.iter().map(|(outcome, chance)| format!("{outcome} {chance}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(route("{set: [{name: X-Version, value: v9}]}"), "v9 50 %, v9 50 %");
        assert_eq!(
            route("{remove: [X-Version]}"),
            NONE.replacen("100 %", "50 %", 1) + ", " + &NONE.replacen("100 %", "50 %", 1)
        );
    }
}
