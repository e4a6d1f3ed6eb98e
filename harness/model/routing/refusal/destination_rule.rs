use std::collections::BTreeSet;

use super::super::rule::Part;
use super::{Istiod, is_host, is_label};
use crate::admission::{Definitions, nanoseconds};
use crate::scenario::field;

impl Istiod {
    pub(super) fn destination_rule(&mut self, spec: &Part<'_>) {
        let host = spec.get("host");
        if host.text().is_some_and(|host| !is_host(host)) {
            self.refuse_value(&host, "which is no host name");
        }
        self.policy(&spec.get("trafficPolicy"));
        let mut names = BTreeSet::new();
        for subset in spec.get("subsets").items() {
            let name = subset.get("name");
            let text = name.text().unwrap_or_default();
            if !names.insert(text) && self.definitions == Definitions::Newest {
                self.refuse(&name, format!("there are two subsets `{text}`"));
            } else if !is_label(text) {
                self.refuse_value(&name, "which is no name of a subset");
            }
            self.labels(&subset.get("labels"));
            self.policy(&subset.get("trafficPolicy"));
        }
        self.exports(&spec.get("exportTo"));
    }

    fn policy(&mut self, policy: &Part<'_>) {
        if policy.is_there() && policy.entries().all(|(_, part)| !part.is_there()) {
            self.refuse(policy, format!("{} is empty", field(&policy.pointer)));
        }
        self.settings(policy);
        for port in policy.get("portLevelSettings").items() {
            if !port.get("port").is_there() {
                self.refuse(&port, format!("{} has no `port`", field(&port.pointer)));
            }
            let settings = ["outlierDetection", "connectionPool", "loadBalancer", "tls"];
            if settings.iter().all(|key| !port.get(key).is_there()) {
                self.refuse(&port, format!("{} has none of {}", field(&port.pointer), settings.join(", ")));
            }
            self.settings(&port);
        }
    }

    fn hash(&mut self, hash: &Part<'_>) {
        let cookie = hash.get("httpCookie");
        if cookie.is_there() && cookie.get("name").text().is_none_or(str::is_empty) {
            self.refuse(&cookie, format!("{} has no `name`", field(&cookie.pointer)));
        }
        let ttl = cookie.get("ttl");
        if ttl.text().is_some_and(|ttl| nanoseconds(ttl).is_none()) {
            self.refuse_value(&ttl, "not a duration such as 5s");
        }
        let size = hash.get("minimumRingSize");
        let tables = ["ringHash", "maglev"].map(|key| hash.get(key).is_there());
        if size.value.as_u64().is_some_and(|size| size > 0) && tables.contains(&true) {
            self.refuse(&size, format!("{} is set beside `ringHash` or `maglev`", field(&size.pointer)));
        }
    }

    /// Checks what a policy sets for all ports, or for one.
    fn settings(&mut self, policy: &Part<'_>) {
        let pool = policy.get("connectionPool");
        if pool.is_there() && !pool.get("http").is_there() && !pool.get("tcp").is_there() {
            self.refuse(&pool, format!("{} has neither `http` nor `tcp`", field(&pool.pointer)));
        }
        let outliers = policy.get("outlierDetection");
        for key in ["maxEjectionPercent", "minHealthPercent"] {
            self.percent(&outliers.get(key));
        }
        for key in ["interval", "baseEjectionTime"] {
            self.duration(&outliers.get(key));
        }
        self.hash(&policy.get("loadBalancer").get("consistentHash"));
        let tls = policy.get("tls");
        if tls.get("mode").text() == Some("MUTUAL") && tls.get("credentialName").text().is_none_or(str::is_empty) {
            for key in ["clientCertificate", "privateKey"] {
                if tls.get(key).text().is_none_or(str::is_empty) {
                    self.refuse(&tls, format!("{} has no `{key}`, which `MUTUAL` needs", field(&tls.pointer)));
                }
            }
        }
    }
}
