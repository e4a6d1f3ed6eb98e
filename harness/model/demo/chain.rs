//! Chains of services: what demo servers send on to other services before they answer.

use std::collections::BTreeMap;

use super::DemoImage;

/// What stands between two versions along the way of a request.
pub const ARROW: &str = " > ";

/// The environment variable that switches the propagation of headers off, with `false`.
pub const PROPAGATE: &str = "PROPAGATE";

/// Where a demo server sends a request for `/via/HOST[:PORT][/REST]` on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop<'p> {
    /// The host: the name of a Service in the namespace of the server, or a full name.
    pub host: &'p str,
    /// The port; by default 80.
    pub port: u16,
    /// The path, with the query: `/REST`, or `/`.
    pub path: String,
}

impl<'p> NextHop<'p> {
    /// Where a request for a path is sent on; none if the server answers alone.
    pub fn of(path: &'p str) -> Option<Self> {
        let rest = path.strip_prefix("/via/")?;
        let (server, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match server.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)?),
            None => (server, 80),
        };
        let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        is_service(host).then_some(Self { host, port, path })
    }

    /// How many times a request for a path is forwarded: once for each service behind the first.
    pub fn count(path: &str) -> usize {
        NextHop::of(path).map_or(0, |hop| 1 + Self::count(&hop.path))
    }
}

impl DemoImage {
    /// Whether a demo server in an environment sends on the headers of the requests that it gets.
    pub fn propagates(env: &BTreeMap<String, String>) -> bool {
        env.get(PROPAGATE).is_none_or(|value| value != "false")
    }
}

/// Whether a demo server that propagates headers sends on a header with this name in lower case.
pub fn is_propagated(name: &str) -> bool {
    let is_of_proxies = ["x-forwarded-", "x-envoy-"].iter().any(|prefix| name.starts_with(prefix));
    (name.starts_with("x-") && !is_of_proxies)
        || ["traceparent", "tracestate", "b3", "baggage", "end-user"].contains(&name)
}

/// Whether a host is the name of a Service; demo servers send nothing on to other names.
fn is_service(host: &str) -> bool {
    let full = host.strip_suffix(".svc.cluster.local");
    let labels: Vec<&str> = full.map_or_else(|| vec![host], |own| own.split('.').collect());
    let is_label = |label: &&str| {
        label.len() <= 63
            && label.starts_with(|first: char| first.is_ascii_lowercase())
            && label.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    labels.len() == if full.is_some() { 2 } else { 1 } && labels.iter().all(is_label) && host != "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_counted() {
        let count =
            ["/", "/via/a", "/via/a/", "/via/a:8080/via/b/x", "/via/a/x/via/b", "/via/10.0.0.1"].map(NextHop::count);
        assert_eq!(count, [0, 1, 1, 2, 1, 0]);
    }
}
