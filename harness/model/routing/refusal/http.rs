use super::super::pattern::Pattern;
use super::super::rule::Part;
use super::{Istiod, is_label, shown};
use crate::admission::Definitions;
use crate::scenario::{GRPC_STATUSES, field, nearest};

/// The fields of a rule that decide where a request goes.
const ACTIONS: [&str; 4] = ["route", "redirect", "directResponse", "delegate"];

/// What `retryOn` may contain besides statuses.
#[rustfmt::skip]
const RETRY_ON: [&str; 16] = [
    "5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream",
    "retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure", "cancelled", "deadline-exceeded",
    "internal", "resource-exhausted", "unavailable",
];
const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

impl Istiod {
    pub(super) fn http(&mut self, rule: &Part<'_>, in_delegate: bool) {
        self.actions(rule, in_delegate);
        for one in rule.get("match").items() {
            self.matches(&one);
        }
        self.headers(&rule.get("headers"));
        self.cors(&rule.get("corsPolicy"));
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
        let is_newest = self.definitions == Definitions::Newest;
        for (name, header) in one.get("headers").entries() {
            self.header_name(&header, name);
            self.string(&header, true);
        }
        for (name, header) in one.get("withoutHeaders").entries() {
            self.header_name(&header, name);
            // `*` stands for a header that is absent
            if is_newest && header.get("regex").text() != Some("*") {
                self.string(&header, true);
            }
        }
        self.string(&one.get("uri"), false);
        for key in ["scheme", "method", "authority"] {
            self.string(&one.get(key), is_newest);
        }
        for (_, parameter) in one.get("queryParams").entries() {
            self.string(&parameter, is_newest);
        }
        self.port(&one.get("port"), 0);
        self.labels(&one.get("sourceLabels"));
        self.gateways(&one.get("gateways"));
        let namespace = one.get("sourceNamespace");
        if namespace.text().is_some_and(|text| !text.is_empty() && !is_label(text)) {
            self.refuse_value(&namespace, "which is no namespace");
        }
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

    pub(super) fn headers(&mut self, headers: &Part<'_>) {
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
        let grpc = abort.get("grpcStatus");
        if grpc.text().is_some_and(|status| !GRPC_STATUSES.contains(&status)) {
            self.refuse_value(&grpc, "which is no status of gRPC");
        }
        self.duration(&delay.get("fixedDelay"));
        for part in [abort.get("http2Error"), delay.get("exponentialDelay")].iter().filter(|part| part.is_there()) {
            self.refuse(part, format!("Istio does not support {}", field(&part.pointer)));
        }
    }

    pub(super) fn percent(&mut self, part: &Part<'_>) {
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

    fn redirect(&mut self, rule: &Part<'_>) {
        let redirect = rule.get("redirect");
        if !redirect.is_there() {
            return;
        }
        // an empty text is as good as none
        let there = |key: &&str| redirect.get(key).is_there() && redirect.get(key).text() != Some("");
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
        let policies = retries.get("retryOn");
        for policy in policies.text().into_iter().flat_map(|text| text.split(',')).filter(|policy| !policy.is_empty()) {
            let is_status = policy.parse::<u16>().is_ok_and(|status| (100..=599).contains(&status));
            if !is_status && !RETRY_ON.contains(&policy) {
                let hint = nearest(policy, RETRY_ON.into_iter());
                self.refuse(
                    &policies,
                    format!("`{policy}` in {} is no condition for retries{hint}", field(&policies.pointer)),
                );
            }
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

    fn cors(&mut self, policy: &Part<'_>) {
        for method in policy.get("allowMethods").items() {
            if method.text().is_some_and(|method| !METHODS.contains(&method)) {
                self.refuse_value(&method, "which is no method");
            }
        }
        for origin in policy.get("allowOrigins").items() {
            let texts = ["exact", "prefix", "regex"].map(|key| origin.get(key).text().unwrap_or_default());
            if texts.iter().all(|text| text.is_empty()) {
                self.refuse(&origin, format!("{} is empty", field(&origin.pointer)));
            }
            self.expression(&origin.get("regex"));
        }
        self.duration(&policy.get("maxAge"));
    }
}
