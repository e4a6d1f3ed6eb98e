//! The cookies of sessions: whether callers get them, and what becomes of requests with them.

use crate::demo::DemoImage;
use crate::routing::{Action, Affinity, NotModelled, Outbound, Outcome, Request, Route, Scope};
use crate::scenario::Sessions;

/// The requests of a session after its first one.
pub(super) struct Later {
    /// A request with the cookie, if callers have one.
    pub request: Request,
    /// Why callers have none, as far as the rules say.
    pub lacks: Option<Affinity>,
    pub not_modelled: Vec<NotModelled>,
    /// What is not modelled of the pods and the shares of sessions alone.
    pub of_shares: Vec<NotModelled>,
}

impl Later {
    /// What follows a request; none for sessions whose keys the callers choose.
    pub fn than(first: &Request, sessions: &Sessions, outbound: &Outbound<'_>) -> Option<Self> {
        let name = sessions.cookie()?;
        let Ok(routes) = outbound.routes(first) else {
            let lacks = Some(Affinity::NoCookie { name: name.to_owned(), hash: None });
            return Some(Self { request: first.clone(), lacks, not_modelled: Vec::new(), of_shares: Vec::new() });
        };
        let decision = routes.decide(first);
        let note = |field: String| {
            let origin = decision.rule.map_or_else(|| sessions.origin.clone(), |rule| rule.origin.clone());
            NotModelled { scope: Scope::Rule(origin.clone()), origin, field, only_answers: true }
        };
        let lacks = outbound.lacks_cookie(name, first, &routes);
        let route = decision.route.and_then(|index| routes.table.routes.get(index));
        if route.is_some_and(changes_cookies) {
            let of_shares = vec![note("what the rule does to the cookies of responses".to_owned())];
            return Some(Self { request: first.clone(), lacks, not_modelled: Vec::new(), of_shares });
        }
        if lacks.is_some() {
            let outcomes = decision.distribution.iter().map(|(outcome, _)| outcome);
            let not_modelled = other_images(outcomes, name).map(note).collect();
            return Some(Self { request: first.clone(), lacks, not_modelled, of_shares: Vec::new() });
        }
        let request = with_cookie(first, name, &Sessions::key_of(0));
        let not_modelled = if routes.decide(&request).route == decision.route {
            Vec::new()
        } else {
            vec![note(format!("whether a rule matches the value of the cookie `{name}`"))]
        };
        Some(Self { request, lacks: None, not_modelled, of_shares: Vec::new() })
    }
}

/// A request with a cookie, after those that it has.
pub(super) fn with_cookie(request: &Request, name: &str, value: &str) -> Request {
    let cookie = format!("{name}={value}");
    let all = request.headers.get("cookie").map_or_else(|| cookie.clone(), |sent| format!("{sent}; {cookie}"));
    request.clone().with("cookie", &all)
}

/// Whether images that are not the demo's set a cookie, as fields that are not modelled.
pub(super) fn other_images<'o>(
    outcomes: impl Iterator<Item = &'o Outcome>,
    cookie: &str,
) -> impl Iterator<Item = String> {
    let images = outcomes.filter_map(|outcome| match outcome {
        Outcome::Served { image, .. } if DemoImage::find(image).is_none() => Some(image),
        _ => None,
    });
    images.map(move |image| format!("whether the image `{image}` sets the cookie `{cookie}`"))
}

/// Whether a route changes the cookies that responses set.
fn changes_cookies(route: &Route) -> bool {
    let of_clusters = match &route.action {
        Action::Forward(forward) => Some(forward.responses.values()),
        _ => None,
    };
    let mut changes = std::iter::once(&route.response).chain(of_clusters.into_iter().flatten());
    changes.any(|changes| changes.iter().any(|(name, _)| name == "set-cookie"))
}
