//! Names of services, as Istio resolves and compares them.

use std::collections::{BTreeSet, HashMap};

/// The domain of cluster-internal names.
pub(super) const DOMAIN: &str = "svc.cluster.local";

/// The full name for a host in a rule: a name without a dot is resolved in the rule's namespace, any other name stays as it is. Capitals
/// stay: a cluster or a `DestinationRule` is found by the exact name.
pub(super) fn resolved(host: &str, namespace: &str) -> String {
    if host.contains('.') || host == "*" || host.is_empty() { host.to_owned() } else { full_name(host, namespace) }
}

/// The full name of a service.
pub(super) fn full_name(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.{DOMAIN}")
}

/// The full name of the service that a client in a namespace reaches by an address: as its DNS search list and the virtual hosts of its
/// sidecar resolve it. The address may end in a dot.
pub fn addressed(host: &str, namespace: &str) -> String {
    let host = host.trim_end_matches('.').to_lowercase();
    match host.split('.').count() {
        1 => full_name(&host, namespace),
        2 => format!("{host}.{DOMAIN}"),
        3 if host.rsplit('.').next() == Some("svc") => format!("{host}.cluster.local"),
        _ => host,
    }
}

/// Whether the host of a rule is a wildcard.
pub(super) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether a wildcard matches a service's full name.
pub(super) fn falls_under(host: &str, wildcard: &str) -> bool {
    host.ends_with(wildcard.trim_start_matches('*'))
}

/// Values by the wildcard host of a rule, found by the names that the wildcards match.
#[derive(Debug, Default)]
pub(super) struct Wildcards<T> {
    by_suffix: HashMap<String, T>,
    /// The lengths of all suffixes: a name is looked up once for each of them, not compared with each wildcard.
    lengths: BTreeSet<usize>,
}

impl<T: Default> Wildcards<T> {
    /// The value of a wildcard.
    pub fn entry(&mut self, wildcard: &str) -> &mut T {
        let suffix = wildcard.trim_start_matches('*');
        self.lengths.insert(suffix.len());
        self.by_suffix.entry(suffix.to_owned()).or_default()
    }

    /// The wildcards that match a name, without their `*`, and their values. The most specific wildcard comes first.
    pub fn matching(&self, host: &str) -> impl Iterator<Item = (&str, &T)> {
        let suffixes = self.lengths.iter().rev().filter_map(|length| host.get(host.len().checked_sub(*length)?..));
        suffixes
            .filter_map(|suffix| self.by_suffix.get_key_value(suffix))
            .map(|(suffix, value)| (suffix.as_str(), value))
    }
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
    #[case::case("Svc-Hello", "Svc-Hello.canary.svc.cluster.local")]
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

    #[test]
    fn the_most_specific_wildcard_comes_first() {
        let mut wildcards: Wildcards<u8> = Wildcards::default();
        for (index, wildcard) in
            ["*", "*.local", "*.canary.svc.cluster.local", "*.other.svc.cluster.local"].iter().enumerate()
        {
            *wildcards.entry(wildcard) = u8::try_from(index).unwrap();
        }
        let matching = |host: &str| wildcards.matching(host).map(|(_, index)| *index).collect::<Vec<_>>();
        assert_eq!(matching("svc-hello.canary.svc.cluster.local"), [2, 1, 0]);
        assert_eq!(matching("local"), [0]);
        assert_eq!(matching("ä"), [0]);
    }
}
