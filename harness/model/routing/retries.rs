//! When a sidecar sends a request again.

use std::fmt;
use std::time::Duration;

use super::version::RoutingVersion;

/// How an endpoint fails a request, as the client's sidecar sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection comes about.
    Unconnected,
    /// The response has the status 503.
    Unavailable,
    /// The response has the status 502.
    BadGateway,
}

/// When and how often a request is sent again that an endpoint has failed.
#[expect(clippy::struct_excessive_bools, reason = "each failure is followed or not, whatever is done after others")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Retries {
    /// How often at most.
    pub attempts: u32,
    /// Whether it goes to endpoints that were not tried, as long as there are such.
    pub to_others: bool,
    /// How long each attempt may take.
    pub per_try: Option<Duration>,
    after_unconnected: bool,
    after_unavailable: bool,
    after_bad_gateway: bool,
}

impl Retries {
    /// No retries.
    pub const NONE: Self = Self {
        attempts: 0,
        to_others: true,
        per_try: None,
        after_unconnected: false,
        after_unavailable: false,
        after_bad_gateway: false,
    };

    /// The retries of a rule that asks for none, in the newest version of Istio.
    pub(super) const DEFAULT: Self = Self::by_default(RoutingVersion::NEWEST);

    /// Retries after conditions of Envoy, and statuses.
    pub fn after<'a>(attempts: u32, conditions: impl Iterator<Item = &'a str>) -> Self {
        let mut retries = Self { attempts, ..Self::NONE };
        for condition in conditions {
            let of_server = ["5xx", "gateway-error"].contains(&condition);
            retries.after_bad_gateway |= of_server || condition == "502";
            retries.after_unavailable |= of_server || condition == "503";
            retries.after_unconnected |=
                of_server || ["connect-failure", "reset", "reset-before-request"].contains(&condition);
        }
        retries
    }

    /// The retries of a rule that asks for none.
    pub(super) const fn by_default(version: RoutingVersion) -> Self {
        Self { attempts: 2, after_unconnected: true, after_unavailable: version.retries_unavailable(), ..Self::NONE }
    }

    /// The retries of a rule that asks for none, whose requests a hash may send to an endpoint.
    pub(super) const fn of_rule_without(version: RoutingVersion, is_hashed: bool) -> Self {
        let to_others = !(is_hashed && version.is_after_1_22());
        Self { to_others, ..Self::by_default(version) }
    }

    /// Whether a request is sent again after such a failure.
    pub const fn follow(&self, failure: Failure) -> bool {
        match failure {
            Failure::Unconnected => self.after_unconnected,
            Failure::Unavailable => self.after_unavailable,
            Failure::BadGateway => self.after_bad_gateway,
        }
    }
}

impl fmt::Display for Retries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempts {
            0 => return formatter.write_str("no retries"),
            1 => formatter.write_str("1 retry after ")?,
            more => write!(formatter, "{more} retries after ")?,
        }
        formatter.write_str(match (self.after_unconnected, self.after_unavailable) {
            (true, true) => "failed connections and 503",
            (true, false) => "failed connections",
            (false, true) => "503",
            (false, false) => "other failures",
        })?;
        if !self.to_others {
            formatter.write_str(", also to the same endpoint")?;
        }
        self.per_try.map_or(Ok(()), |limit| write!(formatter, ", {limit:?} each"))
    }
}

/// The retries that a rule asks for.
#[derive(Debug, Clone)]
pub(super) struct RetryRule {
    pub attempts: u32,
    /// None if the rule does not say so.
    pub to_others: Option<bool>,
    pub per_try: Option<Duration>,
    /// The conditions, separated by commas; an empty text stands for the default.
    pub retry_on: String,
}

impl RetryRule {
    /// The retries in a version of Istio. By default, a request that a hash sends to an endpoint is sent there again.
    pub fn resolved(&self, version: RoutingVersion, is_hashed: bool) -> Retries {
        if self.attempts == 0 {
            return Retries::NONE;
        }
        let mut conditions = self.retry_on.split(',').map(str::trim).filter(|one| !one.is_empty()).peekable();
        let retries = match conditions.peek() {
            Some(_) => Retries::after(self.attempts, conditions),
            None => Retries { attempts: self.attempts, ..Retries::by_default(version) },
        };
        // up to 1.22, rules cannot choose
        let to_others = self.to_others.unwrap_or(!is_hashed) || !version.is_after_1_22();
        Retries { to_others, per_try: self.per_try, ..retries }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::super::fixture::client;
    use super::super::{Chance, Live, Mesh, Naming, Request, pods_of};
    use crate::scenario::parse_manifests;

    /// A Service with pods of these images, and a rule with these retries.
    fn outcome(version: &str, pods: &[&str], path: &str, retries: &str) -> String {
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: svc}\n\
                       spec: {selector: {app: a}, ports: [{name: http, port: 80, targetPort: 8080}]}\n---\n";
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\n\
             spec: {{hosts: [svc], http: [{{{retries} route: [{{destination: {{host: svc}}}}]}}]}}\n"
        );
        let pods = pods.iter().enumerate().map(|(index, pod)| {
            let (image, sidecar) = pod.split_once(' ').unwrap_or((pod, "false"));
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{index}, labels: {{app: a, sidecar.istio.io/inject: '{sidecar}'}}}}\n\
                 spec: {{containers: [{{name: a, image: '{image}'}}]}}\n---\n"
            )
        });
        let text = format!("{service}{}{rule}", pods.collect::<String>());
        let mut live = Live::new("here", "here");
        parse_manifests("a.yaml".as_ref(), &text).unwrap().iter().for_each(|manifest| live.apply(manifest));
        let mut pods = pods_of(&live, &Naming::default());
        // what has no name of its own listens elsewhere
        pods.iter_mut().filter(|pod| pod.image == "dead").for_each(|pod| pod.demo_port = Some(1));
        let mesh = Mesh::of(&version.parse().unwrap(), &live, pods);
        let given = mesh.outbound(client()).routes(&Request::get("svc", 80, path)).unwrap();
        let decision = given.decide(&Request::get("svc", 80, path));
        // alike whichever workload responds
        let mut outcomes: BTreeMap<String, Chance> = BTreeMap::new();
        for (outcome, chance) in decision.distribution.iter() {
            let total = outcomes.entry(outcome.to_string()).or_insert(Chance::NONE);
            *total = total.or(chance);
        }
        outcomes.into_iter().map(|(outcome, chance)| format!("{outcome} {chance}")).collect::<Vec<_>>().join(", ")
    }

    const DEAD: &str = "503, the pod does not listen on that port";

    #[rstest]
    #[case::status_503_up_to_1_23("1.23", "/error", "", "v2-fixed 100 %")]
    #[case::no_status_since_1_24("1.24", "/error", "", "v1 50 %, v2-fixed 50 %")]
    #[case::other_paths("1.23", "/", "", "v1 50 %, v2-fixed 50 %")]
    #[case::asked_for("1.31", "/error?x=1", "retries: {attempts: 1, retryOn: '5xx'},", "v2-fixed 100 %")]
    #[case::asked_for_by_the_status(
        "1.31",
        "/error",
        "retries: {attempts: 1, retryOn: 'reset, 503'},",
        "v2-fixed 100 %"
    )]
    #[case::for_another_reason("1.22", "/error", "retries: {attempts: 1, retryOn: reset},", "v1 50 %, v2-fixed 50 %")]
    #[case::none("1.22", "/error", "retries: {attempts: 0},", "v1 50 %, v2-fixed 50 %")]
    #[case::conditions_by_default("1.22", "/error", "retries: {attempts: 1},", "v2-fixed 100 %")]
    #[case::also_to_the_same_endpoint(
        "1.23",
        "/error",
        "retries: {attempts: 1, retryIgnorePreviousHosts: false},",
        "v1 25 %, v2-fixed 75 %"
    )]
    #[case::which_rules_cannot_choose_in_1_22(
        "1.22",
        "/error",
        "retries: {attempts: 1, retryIgnorePreviousHosts: false},",
        "v2-fixed 100 %"
    )]
    fn a_response_with_503(#[case] version: &str, #[case] path: &str, #[case] retries: &str, #[case] expected: &str) {
        assert_eq!(outcome(version, &["hello-server:v1", "hello-server:v2-fixed"], path, retries), expected);
    }

    #[rstest]
    #[case::without_a_sidecar("dead", "1.31", "", "v1 100 %".to_owned())]
    #[case::its_sidecar_responds_with_503("dead true", "1.31", "", format!("{DEAD} 50 %, v1 50 %"))]
    #[case::which_is_sent_again_up_to_1_23("dead true", "1.23", "", "v1 100 %".to_owned())]
    #[case::also_to_the_same_endpoint(
        "dead",
        "1.31",
        "retries: {attempts: 2, retryIgnorePreviousHosts: false},",
        format!("{DEAD} 12.5 %, v1 87.5 %")
    )]
    fn an_endpoint_that_does_not_listen(
        #[case] dead: &str,
        #[case] version: &str,
        #[case] retries: &str,
        #[case] expected: String,
    ) {
        assert_eq!(outcome(version, &["hello-server:v1", dead], "/", retries), expected);
    }

    #[test]
    fn shares_of_pods_whose_sidecars_respond_late_are_undecided() {
        let late = |selector: &str| {
            let pod = |name: &str, port: u16| {
                format!(
                    "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: a, own: {name}}}}}\nspec: {{containers: \
                     [{{name: a, image: 'hello-server:v1', ports: [{{name: web, containerPort: {port}}}]}}]}}\n---\n"
                )
            };
            let service = format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: svc}}\n\
                 spec: {{selector: {{{selector}}}, ports: [{{name: http, port: 80, targetPort: web}}]}}\n---\n"
            );
            let mesh = super::super::fixture::mesh(&format!("{service}{}{}", pod("p", 8080), pod("q", 9090)));
            let outbound = mesh.outbound(client());
            let request = Request::get("svc", 80, "/");
            let routes = outbound.routes(&request).unwrap();
            outbound.not_modelled(&request, Some(&routes)).into_iter().map(|note| note.field).collect::<Vec<_>>()
        };
        assert_eq!(late("app: a"), ["target port (on which not all pods with sidecars listen)"]);
        assert_eq!(late("own: p"), [""; 0]);
        assert_eq!(late("own: q"), [""; 0]);
    }

    #[test]
    fn where_all_endpoints_fail_the_last_one_responds() {
        let all = ["hello-server:v1", "hello-server:v1", "hello-server:v2"];
        assert_eq!(outcome("1.22", &all, "/error", ""), "v1 66.67 %, v2 33.33 %");
    }
}
