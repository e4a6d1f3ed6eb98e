//! What the API refuses of an object: what its definition does not allow, and what istiod's webhook refuses of Istio's own objects. The
//! functions follow `pkg/config/validation` of Istio 1.31 in their order; older versions refuse less.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::hosts::{falls_under, is_wildcard};
use super::live::Object;
use super::pattern::Pattern;
use super::rule::Part;
use crate::admission::{Problem, Severity, validate};
use crate::scenario::{Origin, field};

impl Object {
    /// What the API refuses of the object.
    pub fn refused(&self) -> &[Problem] {
        self.refused.get_or_init(|| {
            let mut found = validate(&self.manifest);
            let mut istiod = Istiod::default();
            let spec = Part::root(&self.manifest).get("spec");
            match (self.manifest.group(), self.manifest.kind()) {
                ("networking.istio.io", "VirtualService") => istiod.virtual_service(&spec),
                ("networking.istio.io", "DestinationRule") => istiod.destination_rule(&spec),
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

fn is_host(text: &str) -> bool {
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|letter| letter.is_ascii_digit());
    let ends_in_number = text.contains('.') && text.rsplit('.').next().is_some_and(is_number);
    text.len() <= 255 && !ends_in_number && HOST.as_ref().is_none_or(|pattern| pattern.is_match(text))
}

fn is_label(text: &str) -> bool {
    LABEL.as_ref().is_none_or(|pattern| pattern.is_match(text))
}

/// The fields of a rule that decide where a request goes.
const ACTIONS: [&str; 4] = ["route", "redirect", "directResponse", "delegate"];

#[derive(Default)]
struct Istiod {
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
                self.connection(&rule, key);
            }
        }
        self.exports(&spec.get("exportTo"));
    }

    fn hosts(&mut self, hosts: &Part<'_>, in_mesh: bool) {
        let mut known: Vec<&str> = Vec::new();
        for part in hosts.items() {
            let Some(host) = part.text() else { continue };
            let is_address = host.parse::<std::net::IpAddr>().is_ok();
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

    fn http(&mut self, rule: &Part<'_>, in_delegate: bool) {
        self.actions(rule, in_delegate);
        for one in rule.get("match").items() {
            self.matches(&one);
        }
        self.headers(&rule.get("headers"));
        self.fault(&rule.get("fault"));
        self.percent(&rule.get("mirrorPercentage").get("value"));
        self.destination(&rule.get("mirror"));
        for mirror in rule.get("mirrors").items() {
            if !mirror.get("destination").is_there() {
                self.refuse(&mirror, format!("{} has no `destination`", field(&mirror.pointer)));
            }
            self.destination(&mirror.get("destination"));
            self.percent(&mirror.get("percentage").get("value"));
        }
        self.redirect(rule);
        self.status(&rule.get("directResponse").get("status"), rule.get("directResponse").is_there());
        self.retries(&rule.get("retries"));
        self.rewrite(rule);
        self.routes(&rule.get("route"));
        self.duration(&rule.get("timeout"));
    }

    /// Which of a rule's fields exclude each other.
    fn actions(&mut self, rule: &Part<'_>, in_delegate: bool) {
        let there = |key: &&str| rule.get(key).is_there();
        let both = |one: &str, other: &str| format!("a rule has `{one}` or `{other}`, not both");
        if there(&"delegate") && !in_delegate {
            for key in ["route", "redirect"].into_iter().filter(there) {
                self.refuse(&rule.get(key), both("delegate", key));
            }
        } else {
            if there(&"delegate") {
                self.refuse(&rule.get("delegate"), "a delegate does not delegate further".to_owned());
            }
            let first = ["redirect", "directResponse"].into_iter().find(there);
            let others = ["route", "fault", "rewrite", "directResponse"];
            match first {
                Some(first) => {
                    for key in others.into_iter().filter(|key| *key != first && there(key)) {
                        let excluded = key != "route" || rule.get(key).items().next().is_some();
                        if excluded {
                            self.refuse(&rule.get(key), both(first, key));
                        }
                    }
                }
                None if rule.get("route").items().next().is_none() => {
                    self.refuse(rule, format!("this rule has none of {}", ACTIONS.join(", ")));
                }
                None => {}
            }
        }
        if there(&"mirror") && rule.get("mirrors").items().next().is_some() {
            self.refuse(&rule.get("mirrors"), both("mirror", "mirrors"));
        }
    }

    fn matches(&mut self, one: &Part<'_>) {
        for (name, header) in one.get("headers").entries() {
            self.header_name(&header, name);
            self.string(&header, true);
        }
        for (name, header) in one.get("withoutHeaders").entries() {
            self.header_name(&header, name);
            // the header is absent
            if header.get("regex").text() != Some("*") {
                self.string(&header, true);
            }
        }
        self.string(&one.get("uri"), false);
        for key in ["scheme", "method", "authority"] {
            self.string(&one.get(key), true);
        }
        for (_, parameter) in one.get("queryParams").entries() {
            self.string(&parameter, true);
        }
        self.port(&one.get("port"), 0);
    }

    fn header_name(&mut self, part: &Part<'_>, name: &str) {
        let pseudo = [":method", ":scheme", ":authority", ":path", ":status"];
        let is_claim = name.starts_with("@request.auth.claims");
        let is_word = name.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(&letter));
        if name.is_empty() || !is_claim && !pseudo.contains(&name) && !is_word {
            self.refuse(part, format!("`{name}` is no name of a header"));
        }
    }

    /// Checks a match of a string.
    fn string(&mut self, part: &Part<'_>, needs_prefix: bool) {
        if needs_prefix && part.get("prefix").text() == Some("") {
            self.refuse(&part.get("prefix"), format!("{} is empty", field(&part.get("prefix").pointer)));
        }
        self.expression(&part.get("regex"));
    }

    fn expression(&mut self, part: &Part<'_>) {
        let Some(text) = part.text() else { return };
        let error = match text {
            "" => Some("it is empty".to_owned()),
            "*" => Some("`*` repeats nothing; a header that is there matches `.*`".to_owned()),
            _ if text.len() > 1024 => Some("it has more than 1,024 characters".to_owned()),
            _ => Pattern::error(text),
        };
        if let Some(error) = error {
            self.refuse(part, format!("`{text}` is not a regular expression: {error}"));
        }
    }

    fn headers(&mut self, headers: &Part<'_>) {
        for (side, may_set_host) in [("request", true), ("response", false)] {
            let of_side = headers.get(side);
            for key in ["add", "set"] {
                for (name, part) in of_side.get(key).entries() {
                    self.changed_header(&part, name, may_set_host);
                }
            }
            for part in of_side.get("remove").items() {
                self.changed_header(&part, part.text().unwrap_or_default(), false);
            }
        }
    }

    fn changed_header(&mut self, part: &Part<'_>, name: &str, may_set_host: bool) {
        let is_host = name.eq_ignore_ascii_case("host");
        let is_authority = is_host || name.eq_ignore_ascii_case(":authority");
        if name.is_empty() {
            self.refuse(part, format!("{} names no header", field(&part.pointer)));
        } else if !(may_set_host && is_authority) && (is_host || name.starts_with(':')) {
            self.refuse(part, format!("the header `{name}` cannot be changed here"));
        }
    }

    fn fault(&mut self, fault: &Part<'_>) {
        let (abort, delay) = (fault.get("abort"), fault.get("delay"));
        if fault.is_there() && !abort.is_there() && !delay.is_there() {
            self.refuse(fault, format!("{} has neither `abort` nor `delay`", field(&fault.pointer)));
        }
        for part in [&abort, &delay].map(|part| part.get("percentage").get("value")) {
            self.percent(&part);
            if part.value.as_f64().is_some_and(|percent| percent > 0.0 && percent < 0.0001) {
                self.refuse_value(&part, "less than 0.0001");
            }
        }
        self.status(&abort.get("httpStatus"), false);
        self.duration(&delay.get("fixedDelay"));
        for part in [abort.get("http2Error"), delay.get("exponentialDelay")].iter().filter(|part| part.is_there()) {
            self.refuse(part, format!("Istio does not support {}", field(&part.pointer)));
        }
    }

    fn percent(&mut self, part: &Part<'_>) {
        if part.value.as_f64().is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            self.refuse_value(part, "not between 0 and 100");
        }
    }

    fn status(&mut self, part: &Part<'_>, required: bool) {
        let status = part.value.as_i64().or(required.then_some(0));
        if status.is_some_and(|status| !(200..=600).contains(&status)) {
            let found = if part.is_there() { shown(part) } else { "missing".to_owned() };
            self.refuse(part, format!("{} is {found}, not a status between 200 and 599", field(&part.pointer)));
        }
    }

    /// A duration of whole milliseconds, at least one. Only the definitions since Istio 1.23 say the latter.
    fn duration(&mut self, part: &Part<'_>) {
        if part.text().is_some_and(|text| text.ends_with("us") || text.ends_with("ns")) {
            self.refuse_value(part, "not a duration in milliseconds or longer units");
        }
    }

    fn port(&mut self, part: &Part<'_>, least: i64) {
        if part.value.as_i64().is_some_and(|port| !(least..=65535).contains(&port)) {
            self.refuse_value(part, "not a port between 1 and 65535");
        }
    }

    fn redirect(&mut self, rule: &Part<'_>) {
        let redirect = rule.get("redirect");
        if !redirect.is_there() {
            return;
        }
        let there = |key: &&str| redirect.get(key).is_there();
        if ["uri", "prefixRewrite", "authority", "port", "derivePort", "scheme"].iter().all(|key| !there(key)) {
            self.refuse(
                &redirect,
                format!("{} has no target: add `uri`, `authority`, `scheme` or `port`", field(&redirect.pointer)),
            );
        }
        if there(&"uri") && there(&"prefixRewrite") {
            self.refuse(&redirect.get("prefixRewrite"), "a redirect has `uri` or `prefixRewrite`, not both".to_owned());
        }
        let code = redirect.get("redirectCode");
        if code.value.as_i64().is_some_and(|code| code != 0 && !(300..=399).contains(&code)) {
            self.refuse_value(&code, "not a status between 300 and 399");
        }
        let scheme = redirect.get("scheme");
        if scheme.text().is_some_and(|scheme| !["", "http", "https"].contains(&scheme)) {
            self.refuse_value(&scheme, "neither `http` nor `https`");
        }
        self.port(&redirect.get("port"), 0);
    }

    fn retries(&mut self, retries: &Part<'_>) {
        let attempts = retries.get("attempts");
        if attempts.value.as_i64().is_some_and(|attempts| attempts < 0) {
            self.refuse_value(&attempts, "less than 0");
        }
        let ignored = ["perTryTimeout", "retryOn", "retryRemoteLocalities"];
        let ignored = ignored.into_iter().find(|key| retries.get(key).is_there());
        if let Some(key) = ignored.filter(|_| attempts.value.as_i64().unwrap_or(0) == 0) {
            self.refuse(&retries.get(key), format!("`{key}` needs `attempts` of 1 or more"));
        }
        self.duration(&retries.get("perTryTimeout"));
        self.duration(&retries.get("backoff"));
    }

    fn rewrite(&mut self, rule: &Part<'_>) {
        let rewrite = rule.get("rewrite");
        let regex = rewrite.get("uriRegexRewrite");
        let text = |key: &str| rewrite.get(key).text().is_some_and(|text| !text.is_empty());
        if text("uri") && regex.is_there() {
            self.refuse(&regex, "a rewrite has `uri` or `uriRegexRewrite`, not both".to_owned());
        }
        if rewrite.is_there() && !text("uri") && !text("authority") && !regex.is_there() {
            self.refuse(&rewrite, format!("{} has none of uri, uriRegexRewrite, authority", field(&rewrite.pointer)));
        }
        for key in ["match", "rewrite"] {
            if regex.is_there() && regex.get(key).text().is_none_or(str::is_empty) {
                self.refuse(&regex, format!("{} has no `{key}`", field(&regex.pointer)));
            }
        }
        self.expression(&regex.get("match"));
        let set = rule.get("headers").get("request");
        let changes = ["set", "add"].map(|key| set.get(key));
        let named = changes.iter().flat_map(Part::entries);
        let authorities = named.filter(|(name, _)| ["host", ":authority"].contains(&name.to_lowercase().as_str()));
        if let Some((_, part)) = authorities.skip(usize::from(!text("authority"))).last() {
            self.refuse(&part, "the host of requests is set twice".to_owned());
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
        if part.get("port").is_there() {
            self.port(&part.get("port").get("number"), 1);
        }
    }

    /// Checks a rule for connections.
    fn connection(&mut self, rule: &Part<'_>, key: &str) {
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
            self.port(&one.get("port"), 0);
        }
    }

    fn exports(&mut self, exports: &Part<'_>) {
        let names = exports.texts();
        if names.len() > 1 && names.iter().any(|name| name == "*") {
            self.refuse(exports, "`*` in exportTo excludes other namespaces".to_owned());
        }
        for (index, part) in exports.items().enumerate() {
            let name = &names[index];
            if names[..index].contains(name) {
                self.refuse(&part, format!("exportTo has `{name}` twice"));
            } else if ![".", "*"].contains(&name.as_str()) && !is_label(name) {
                self.refuse_value(&part, "which is no namespace");
            }
        }
    }

    fn destination_rule(&mut self, spec: &Part<'_>) {
        let host = spec.get("host");
        if host.text().is_some_and(|host| !is_host(host)) {
            self.refuse_value(&host, "which is no host name");
        }
        self.policy(&spec.get("trafficPolicy"));
        let mut names = BTreeSet::new();
        for subset in spec.get("subsets").items() {
            let name = subset.get("name");
            let text = name.text().unwrap_or_default();
            if !names.insert(text) {
                self.refuse(&name, format!("there are two subsets `{text}`"));
            } else if !is_label(text) {
                self.refuse_value(&name, "which is no name of a subset");
            }
            self.policy(&subset.get("trafficPolicy"));
        }
        self.exports(&spec.get("exportTo"));
    }

    fn policy(&mut self, policy: &Part<'_>) {
        if policy.is_there() && policy.entries().all(|(_, part)| !part.is_there()) {
            self.refuse(policy, format!("{} is empty", field(&policy.pointer)));
        }
        let pool = policy.get("connectionPool");
        if pool.is_there() && !pool.get("http").is_there() && !pool.get("tcp").is_there() {
            self.refuse(&pool, format!("{} has neither `http` nor `tcp`", field(&pool.pointer)));
        }
        let tls = policy.get("tls");
        if tls.get("mode").text() == Some("MUTUAL") && tls.get("credentialName").text().is_none_or(str::is_empty) {
            for key in ["clientCertificate", "privateKey"] {
                if tls.get(key).text().is_none_or(str::is_empty) {
                    self.refuse(&tls, format!("{} has no `{key}`, which `MUTUAL` needs", field(&tls.pointer)));
                }
            }
        }
        for port in policy.get("portLevelSettings").items() {
            if !port.get("port").is_there() {
                self.refuse(&port, format!("{} has no `port`", field(&port.pointer)));
            }
        }
    }
}

/// A value in a message.
fn shown(part: &Part<'_>) -> String {
    part.owned().unwrap_or_else(|| part.value.to_string())
}
