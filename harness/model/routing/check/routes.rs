//! Routes of the Gateway API that are attached to nothing.

use std::collections::BTreeSet;

use super::Checker;
use crate::routing::listener::{Detached, GatewayListener, attached, hostnames_of};
use crate::routing::live::{Kind, Live, Object};
use crate::routing::rule::Part;
use crate::scenario::nearest;

impl Checker {
    /// Warns of references to gateways that attach a route to no listener. Where the scenario has no gateways, those of the cluster are not
    /// known.
    pub fn routes(&mut self, live: &Live, listeners: &[GatewayListener]) {
        for object in live.of(Kind::HttpRoute).chain(live.of(Kind::GrpcRoute)) {
            let spec = Part::root(&object.manifest).get("spec");
            let hostnames = hostnames_of(&spec);
            for parent in spec.get("parentRefs").items().filter(|parent| parent.get("kind").text() != Some("Service")) {
                if let Err(why) = attached(&parent, object, &hostnames, listeners) {
                    self.detached(object, &parent, why, listeners);
                }
            }
        }
    }

    fn detached(&mut self, object: &Object, parent: &Part<'_>, why: Detached, listeners: &[GatewayListener]) {
        let namespace = parent.get("namespace").text().unwrap_or(&object.namespace);
        let (name, section) = (parent.get("name"), parent.get("sectionName"));
        let gateway = format!("{namespace}/{}", name.text().unwrap_or_default());
        let own = || listeners.iter().filter(|own| format!("{}/{}", own.parent.0, own.parent.1) == gateway);
        let listed = |texts: BTreeSet<String>| texts.into_iter().collect::<Vec<_>>().join(", ");
        let (part, message, hint) = match why {
            Detached::NoGateway => {
                let known: BTreeSet<&str> =
                    listeners.iter().filter(|own| own.parent.0 == namespace).map(|own| own.parent.1.as_str()).collect();
                if known.is_empty() {
                    return;
                }
                let hint = nearest(name.text().unwrap_or_default(), known.into_iter());
                (name, format!("no Gateway is called `{gateway}`"), hint)
            }
            Detached::NoSection => {
                let hint = nearest(section.text().unwrap_or_default(), own().map(|own| own.section.as_str()));
                let named = section.text().unwrap_or_default().to_owned();
                (section, format!("no listener of Gateway {gateway} is called `{named}`"), hint)
            }
            Detached::NoPort => {
                let ports = listed(own().map(|own| own.port.to_string()).collect());
                let port = parent.get("port");
                let number = port.value.to_string();
                (
                    port,
                    format!("no listener of Gateway {gateway} has the port {number}; ports of its listeners: {ports}"),
                    String::new(),
                )
            }
            Detached::NoHost => {
                let hosts = own().map(|own| own.hostname.clone().unwrap_or_else(|| "*".to_owned()));
                let hosts = listed(hosts.collect());
                let hostnames = Part::root(&object.manifest).get("spec").get("hostnames");
                let message = format!(
                    "the listeners of Gateway {gateway} have none of these hosts; hosts of its listeners: {hosts}"
                );
                (hostnames, message, String::new())
            }
            Detached::OtherNamespace => {
                let message = format!(
                    "the listeners of Gateway {gateway} take no routes of the namespace {}: see their `allowedRoutes`",
                    object.namespace
                );
                (name, message, String::new())
            }
        };
        self.warn(&part, format!("{message}, so the route has no effect there{hint}"));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::admission::{Definitions, Severity};
    use crate::routing::check;
    use crate::routing::fixture::{SERVICE, live};

    #[rstest]
    #[case::attached("{name: gw, sectionName: http, port: 80}", "[a.example.com]", "")]
    #[case::unknown_elsewhere("{name: gw, namespace: there}", "[a.example.com]", "")]
    #[case::gateway(
        "{name: gv}",
        "[a.example.com]",
        "no Gateway is called `here/gv`, so the route has no effect there; did you mean `gw`?"
    )]
    #[case::section(
        "{name: gw, sectionName: htpp}",
        "[a.example.com]",
        "no listener of Gateway here/gw is called `htpp`, so the route has no effect there; did you mean `http`?"
    )]
    #[case::port(
        "{name: gw, port: 8080}",
        "[a.example.com]",
        "no listener of Gateway here/gw has the port 8080; ports of its listeners: 80, so the route has no effect there"
    )]
    #[case::host(
        "{name: gw}",
        "[a.example.org]",
        "the listeners of Gateway here/gw have none of these hosts; hosts of its listeners: *.example.com, so the route has no \
         effect there"
    )]
    fn routes_that_are_attached_to_nothing_are_told(
        #[case] parent: &str,
        #[case] hostnames: &str,
        #[case] expected: &str,
    ) {
        let text = format!(
            "{SERVICE}apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  gatewayClassName: istio\n  \
             listeners: [{{name: http, port: 80, protocol: HTTP, hostname: '*.example.com'}}]\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\n\
             spec: {{parentRefs: [{parent}], hostnames: {hostnames}, rules: [{{backendRefs: [{{name: svc, port: 80}}]}}]}}\n"
        );
        let problems = check(&live(&text), Definitions::of(None)).into_iter();
        let warnings = problems.filter(|problem| problem.severity == Severity::Warning);
        assert_eq!(warnings.map(|problem| problem.message).collect::<Vec<_>>().join("\n"), expected);
    }
}
