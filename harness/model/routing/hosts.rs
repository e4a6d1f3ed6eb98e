//! Names of services, as Istio compares them.

/// The domain of cluster-internal names.
pub(super) const DOMAIN: &str = "svc.cluster.local";

/// A host as it is written in a rule, in full: a name without a dot is one of the rule's own namespace; any other is taken as it is.
pub(super) fn resolved(host: &str, namespace: &str) -> String {
    let host = host.to_lowercase();
    if host.contains('.') || host == "*" || host.is_empty() { host } else { format!("{host}.{namespace}.{DOMAIN}") }
}

/// The full name of a service.
pub(super) fn full_name(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.{DOMAIN}")
}

/// The service that an address means for a client in a namespace, in full: what its DNS search list makes of it, and what the virtual hosts
/// of its sidecar are called. An address may end in a dot.
#[must_use]
pub fn addressed(host: &str, namespace: &str) -> String {
    let host = host.trim_end_matches('.').to_lowercase();
    match host.split('.').count() {
        1 => full_name(&host, namespace),
        2 => format!("{host}.{DOMAIN}"),
        3 if host.rsplit('.').next() == Some("svc") => format!("{host}.cluster.local"),
        _ => host,
    }
}

/// Whether a host of a rule is a wildcard.
pub(super) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether a service's full name falls under a wildcard.
pub(super) fn falls_under(host: &str, wildcard: &str) -> bool {
    host.ends_with(wildcard.trim_start_matches('*'))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::short("svc-hello", "svc-hello.canary.svc.cluster.local")]
    #[case::namespaced_is_taken_as_it_is("svc-hello.canary", "svc-hello.canary")]
    #[case::full("svc-hello.other.svc.cluster.local", "svc-hello.other.svc.cluster.local")]
    #[case::wildcard("*.canary.svc.cluster.local", "*.canary.svc.cluster.local")]
    #[case::everything("*", "*")]
    #[case::case("Svc-Hello", "svc-hello.canary.svc.cluster.local")]
    fn hosts_of_rules_are_resolved_in_their_namespace(#[case] host: &str, #[case] full: &str) {
        assert_eq!(resolved(host, "canary"), full);
    }

    #[rstest]
    #[case("svc-hello")]
    #[case("svc-hello.canary")]
    #[case("svc-hello.canary.svc")]
    #[case("svc-hello.canary.svc.cluster.local")]
    #[case("svc-hello.canary.svc.cluster.local.")]
    #[case("SVC-hello")]
    fn addresses_are_searched_as_dns_does(#[case] host: &str) {
        assert_eq!(addressed(host, "canary"), "svc-hello.canary.svc.cluster.local");
    }

    #[rstest]
    #[case("*", true)]
    #[case("*.canary.svc.cluster.local", true)]
    #[case("*.svc.cluster.local", true)]
    #[case("*.other.svc.cluster.local", false)]
    fn wildcards_are_suffixes(#[case] wildcard: &str, #[case] falls: bool) {
        assert_eq!(falls_under("svc-hello.canary.svc.cluster.local", wildcard), falls);
    }
}
