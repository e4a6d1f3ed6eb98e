//! What the API refuses of an object: what its definition does not allow, and what istiod's webhook refuses of Istio's own objects. The
//! functions follow `pkg/config/validation` of Istio 1.31 in their order; where Istio 1.22 refuses less, they say so.

mod destination_rule;
mod http;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use regex::Regex;

use super::hosts::{falls_under, is_wildcard};
use super::live::Object;
use super::rule::Part;
use crate::admission::{Definitions, Problem, Severity, nanoseconds, validate};
use crate::scenario::{Origin, field};

impl Object {
    /// What the API refuses of the object, if the cluster has these definitions.
    pub fn refused(&self, definitions: Definitions) -> &[Problem] {
        self.refused[usize::from(definitions == Definitions::Newest)].get_or_init(|| {
            let mut found = validate(definitions, &self.manifest);
            let mut istiod = Istiod { definitions, problems: BTreeSet::new() };
            let spec = Part::root(&self.manifest).get("spec");
            match (self.manifest.group(), self.manifest.kind()) {
                ("networking.istio.io", "VirtualService") => istiod.virtual_service(&spec),
                ("networking.istio.io", "DestinationRule") => istiod.destination_rule(&spec),
                ("networking.istio.io", "Gateway") => istiod.gateway(&spec),
                _ => {}
            }
            // where the definition is violated, istiod says the same in other words
            let places: BTreeSet<Origin> = found.iter().map(|problem| problem.origin.clone()).collect();
            found.extend(istiod.problems.into_iter().filter(|problem| !places.contains(&problem.origin)));
            found
        })
    }
}

/// The labels of a host name, the first of which may be a wildcard.
static HOST: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let label = "[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?";
    Regex::new(&format!(r"^(\*|(\*-?)?{label})(\.{label})*\.?$")).ok()
});
/// A label of a host name.
static LABEL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new("^[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?$").ok());

/// The protocols of a server of a `Gateway`.
const PROTOCOLS: [&str; 10] = ["HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TLS", "TCP", "MONGO", "REDIS", "MYSQL"];

fn is_host(text: &str) -> bool {
    let ends_in_number = text.contains('.') && last_is_number(text);
    text.len() <= 255 && !ends_in_number && HOST.as_ref().is_none_or(|pattern| pattern.is_match(text))
}

/// Whether a text is an address, or one with the length of its prefix.
fn is_subnet(text: &str) -> bool {
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    address.parse::<IpAddr>().is_ok_and(|address| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        length.is_none_or(|length| length.parse::<u8>().is_ok_and(|length| length <= most))
    })
}

/// Whether the last label is a number, which Go's `strconv.Atoi` reads.
fn last_is_number(host: &str) -> bool {
    host.rsplit('.').next().is_some_and(|label| label.parse::<i64>().is_ok())
}

fn is_label(text: &str) -> bool {
    LABEL.as_ref().is_none_or(|pattern| pattern.is_match(text))
}

/// Whether a text is a name or a value of a label.
fn is_word(text: &str) -> bool {
    let ends = |end: Option<char>| end.is_some_and(|letter| letter.is_ascii_alphanumeric());
    text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        && ends(text.chars().next())
        && ends(text.chars().last())
}

/// The checks of istiod's webhook, of the version that the definitions belong to.
struct Istiod {
    definitions: Definitions,
    problems: BTreeSet<Problem>,
}

impl Istiod {
    fn refuse(&mut self, part: &Part<'_>, message: String) {
        self.problems.insert(Problem { origin: part.origin(), severity: Severity::Error, message });
    }

    /// Refuses a value with its field and what is wrong with it.
    fn refuse_value(&mut self, part: &Part<'_>, wrong: &str) {
        self.refuse(part, format!("{} is `{}`, {wrong}", field(&part.pointer), shown(part)));
    }

    /// Checks the servers of a `Gateway`: their hosts, the protocols and names of their ports, and whether there is TLS where it has to be. Of TLS,
    /// nothing else is looked at.
    fn gateway(&mut self, spec: &Part<'_>) {
        let servers = spec.get("servers");
        if servers.items().next().is_none() {
            self.refuse(&servers, "a Gateway needs at least one server".to_owned());
        }
        let mut names: Vec<&str> = Vec::new();
        for server in servers.items() {
            let (port, tls, hosts) = (server.get("port"), server.get("tls"), server.get("hosts"));
            let (protocol, name) = (port.get("protocol"), port.get("name"));
            let is_one_of = |names: &[&str]| {
                protocol.text().is_some_and(|own| names.iter().any(|name| name.eq_ignore_ascii_case(own)))
            };
            let has_terminating_tls =
                !matches!(tls.get("mode").text(), None | Some("PASSTHROUGH" | "AUTO_PASSTHROUGH"));
            if protocol.is_there() && !is_one_of(&PROTOCOLS) {
                self.refuse_value(&protocol, &format!("not one of {}", PROTOCOLS.join(", ")));
            } else if is_one_of(&["HTTPS", "TLS"]) && !tls.is_there() {
                self.refuse_value(&protocol, "which needs `tls`");
            } else if is_one_of(&["TCP", "MONGO", "REDIS", "MYSQL"]) && tls.is_there()
                || is_one_of(&["HTTP", "HTTP2", "GRPC", "GRPC-WEB"]) && has_terminating_tls
            {
                self.refuse_value(&protocol, "which has no `tls`");
            }
            let is_socket = server.get("bind").text().is_some_and(|bind| bind.starts_with("unix://"));
            self.port(&port.get("number"), i64::from(!is_socket));
            match name.text() {
                None | Some("") => self.refuse(&port, "the port of a server needs a name".to_owned()),
                Some(own) if names.contains(&own) => self.refuse_value(&name, "the name of two ports"),
                Some(own) => names.push(own),
            }
            if hosts.items().next().is_none() {
                self.refuse(&server, "a server needs at least one host".to_owned());
            }
            for part in hosts.items() {
                self.server_host(&part);
            }
        }
    }

    /// Checks a host of a server: a name with a dot, an address or `*`, after a namespace and a slash if there is one.
    fn server_host(&mut self, part: &Part<'_>) {
        let Some(text) = part.text() else { return };
        let (namespace, host) = text.split_once('/').unwrap_or((".", text));
        if namespace != "*" && namespace != "." && !is_label(namespace) {
            self.refuse_value(part, "which does not begin with a namespace");
        }
        if host != "*" && !host.contains('.') {
            self.refuse_value(part, "a short name; a gateway needs the whole name, such as `hello.example.com`");
        } else if host != "*" && !is_host(host) && host.parse::<IpAddr>().is_err() {
            self.refuse_value(part, "which is no host name");
        } else if host.contains('*') && host != "*" && !host.starts_with("*.") {
            self.refuse_value(part, "with a wildcard that is not a whole label, as in `*.example.com`");
        }
    }

    fn virtual_service(&mut self, spec: &Part<'_>) {
        let (hosts, gateways) = (spec.get("hosts"), spec.get("gateways").texts());
        let is_delegate = hosts.items().next().is_none();
        for key in ["gateways", "tls", "tcp"].iter().filter(|key| is_delegate && spec.get(key).items().next().is_some())
        {
            self.refuse(
                &spec.get(key),
                format!("a VirtualService without `hosts` is a delegate, which has no `{key}`"),
            );
        }
        self.gateways(&spec.get("gateways"));
        let in_mesh = gateways.is_empty() || gateways.iter().any(|gateway| gateway == "mesh");
        self.hosts(&hosts, in_mesh);
        if ["http", "tcp", "tls"].iter().all(|key| spec.get(key).items().next().is_none()) {
            self.refuse(spec, "a VirtualService needs one of `http`, `tcp` and `tls`".to_owned());
        }
        for rule in spec.get("http").items() {
            self.http(&rule, is_delegate);
        }
        for key in ["tls", "tcp"] {
            for rule in spec.get(key).items() {
                self.connection(&rule, key, &hosts);
            }
        }
        self.exports(&spec.get("exportTo"));
    }

    fn hosts(&mut self, hosts: &Part<'_>, in_mesh: bool) {
        let mut known: Vec<&str> = Vec::new();
        for part in hosts.items() {
            let Some(host) = part.text() else { continue };
            let is_address = host.parse::<IpAddr>().is_ok();
            if !is_host(host) && !is_address {
                self.refuse_value(&part, "which is no host name");
            } else if host == "*" && in_mesh {
                self.refuse(&part, "the host `*` is allowed for gateways only, not in the mesh".to_owned());
            }
            let same = |other: &&&str| {
                host == **other
                    || is_wildcard(other) && falls_under(host, other)
                    || is_wildcard(host) && falls_under(other, host)
            };
            if let Some(other) = known.iter().find(same) {
                self.refuse(&part, format!("the hosts `{other}` and `{host}` of one VirtualService are the same"));
            }
            known.push(host);
        }
    }

    /// A duration of whole milliseconds, at least one. Only the definitions since Istio 1.23 say the latter.
    fn duration(&mut self, part: &Part<'_>) {
        let Some(text) = part.text() else { return };
        match nanoseconds(text) {
            None => self.refuse_value(part, "not a duration such as 5s"),
            Some(duration) if duration < 1_000_000 || duration % 1_000_000 != 0 => {
                self.refuse_value(part, "not a duration of one or more whole milliseconds");
            }
            Some(_) => {}
        }
    }

    fn port(&mut self, part: &Part<'_>, least: i64) {
        if part.value.as_i64().is_some_and(|port| !(least..=65535).contains(&port)) {
            self.refuse_value(part, "not a port between 1 and 65535");
        }
    }

    fn routes(&mut self, route: &Part<'_>) {
        let mut total = 0;
        for entry in route.items() {
            if !entry.get("destination").is_there() {
                self.refuse(&entry, format!("{} has no `destination`", field(&entry.pointer)));
            }
            self.destination(&entry.get("destination"));
            self.headers(&entry.get("headers"));
            let weight = entry.get("weight");
            if weight.value.as_i64().is_some_and(|weight| weight < 0) {
                self.refuse_value(&weight, "less than 0");
            }
            total += weight.value.as_i64().unwrap_or(0);
        }
        if route.items().count() > 1 && total == 0 {
            self.refuse(route, "the weights sum to 0".to_owned());
        }
    }

    fn destination(&mut self, part: &Part<'_>) {
        let host = part.get("host");
        if part.is_there() && host.text().is_none_or(|host| host == "*" || !is_host(host)) {
            self.refuse_value(&host, "which is no host name");
        }
        let subset = part.get("subset");
        if subset.text().is_some_and(|name| !name.is_empty() && !is_label(name)) {
            self.refuse_value(&subset, "which is no name of a subset");
        }
        let selected = part.get("port");
        self.port(&selected.get("number"), 1);
        if selected.is_there() && !selected.get("number").is_there() {
            self.refuse(&selected, format!("{} has no `number`", field(&selected.pointer)));
        }
    }

    /// Checks a rule for connections of a `VirtualService` for these hosts.
    fn connection(&mut self, rule: &Part<'_>, key: &str, hosts: &Part<'_>) {
        if rule.get("route").items().next().is_none() {
            self.refuse(rule, format!("{} has no `route`", field(&rule.pointer)));
        }
        self.routes(&rule.get("route"));
        if key == "tls" && rule.get("match").items().next().is_none() {
            self.refuse(rule, format!("{} has no `match`", field(&rule.pointer)));
        }
        for one in rule.get("match").items() {
            if key == "tls" && one.get("sniHosts").items().next().is_none() {
                self.refuse(&one, format!("{} has no `sniHosts`", field(&one.pointer)));
            }
            for name in one.get("sniHosts").items() {
                self.server_name(&name, hosts);
            }
            for part in one.get("destinationSubnets").items() {
                if part.text().is_some_and(|text| !is_subnet(text)) {
                    self.refuse_value(&part, "neither an address nor a subnet such as 10.0.0.0/8");
                }
            }
            self.port(&one.get("port"), 0);
            self.labels(&one.get("sourceLabels"));
            self.gateways(&one.get("gateways"));
        }
    }

    /// Checks the name of a server in a TLS handshake: it has to be among the hosts of the `VirtualService`. Of addresses, istiod only warns.
    fn server_name(&mut self, part: &Part<'_>, hosts: &Part<'_>) {
        let Some(name) = part.text() else { return };
        if !is_host(name) {
            if name.parse::<IpAddr>().is_err() {
                self.refuse_value(part, "which is no host name");
            }
            return;
        }
        let covers = |host: &str| name == host || is_wildcard(host) && falls_under(name, host);
        if !hosts.texts().iter().any(|host| covers(host)) {
            self.refuse_value(part, "not among the hosts of the VirtualService");
        }
    }

    /// Names of gateways. Like istiod, it does not read on behind the first one without a namespace.
    fn gateways(&mut self, gateways: &Part<'_>) {
        for part in gateways.items() {
            let Some(name) = part.text() else { continue };
            let (is_name, is_last) = match name.split_once('/') {
                Some((namespace, name)) => (is_label(namespace) && is_label(name), false),
                None => (is_host(name) && !name.starts_with('*') && !last_is_number(name), true),
            };
            if !is_name {
                self.refuse_value(&part, "which is no name of a gateway");
            }
            if is_last {
                break;
            }
        }
    }

    /// Checks labels that pods are selected by.
    fn labels(&mut self, labels: &Part<'_>) {
        for (key, part) in labels.entries() {
            let name = key.rsplit('/').next().unwrap_or_default();
            if !is_word(name) || part.text().is_some_and(|value| !value.is_empty() && !is_word(value)) {
                self.refuse(&part, format!("`{key}: {}` is no label", shown(&part)));
            }
        }
    }

    fn exports(&mut self, exports: &Part<'_>) {
        let names = exports.texts();
        if names.len() > 1 && names.iter().any(|name| name == "*") {
            self.refuse(exports, "`*` in exportTo excludes other namespaces".to_owned());
        }
        let mut known = BTreeSet::new();
        for part in exports.items() {
            let Some(name) = part.text() else { continue };
            if !known.insert(name) {
                self.refuse(&part, format!("exportTo has `{name}` twice"));
            } else if ![".", "*"].contains(&name) && !is_label(name) {
                self.refuse_value(&part, "which is no namespace");
            }
        }
    }
}

/// A value in a message.
fn shown(part: &Part<'_>) -> String {
    part.owned().unwrap_or_else(|| part.value.to_string())
}
