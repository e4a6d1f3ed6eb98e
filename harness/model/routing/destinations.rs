//! What becomes of a request at each destination that its route chooses by weight.

use super::condition::Request;
use super::distribution::{Chance, Distribution, Outcome};
use super::outbound::{Outbound, Routes};
use super::response::ResponseHeaders;
use super::table::{Action, Forward, Route};

/// What becomes of a request at a destination of its route.
#[derive(Debug, Clone)]
pub struct AtDestination {
    /// The outcomes of the requests that the destination gets.
    pub distribution: Distribution,
    /// The changes of the headers of its responses, in their order.
    pub responses: Vec<ResponseHeaders>,
}

impl Outbound<'_> {
    /// The outcomes of a request at each destination that gets requests, given the routes of the request.
    pub fn at_destinations(&self, request: &Request, routes: &Routes) -> Vec<AtDestination> {
        let decision = routes.decide(request);
        let route = decision.route.and_then(|index| routes.table.routes.get(index));
        let (Some(route), Some(rule)) = (route, decision.rule) else {
            return vec![AtDestination { distribution: decision.distribution.clone(), responses: Vec::new() }];
        };
        let response = &route.response;
        let Action::Forward(forward) = &route.action else {
            let responses = vec![response.clone()];
            return vec![AtDestination { distribution: decision.distribution.clone(), responses }];
        };
        let gateway = request.entering.as_ref().map(|pods| self.mesh.at_gateway(pods));
        let outbound = gateway.as_ref().unwrap_or(self);
        let chosen = forward.clusters.iter().enumerate().filter(|(_, (_, weight))| *weight > 0);
        let at = chosen.map(|(index, (cluster, _))| {
            let own = forward.responses.get(&index).cloned();
            let responses = own.iter().map(|own| (0, own.clone())).collect();
            let only = Forward { clusters: vec![(cluster.clone(), 1)], responses, ..forward.clone() };
            let route = Route { action: Action::Forward(only), ..route.clone() };
            let routes = outbound.evaluate(routes.table.unit, vec![(route, rule.clone())]);
            let distribution = routes.decide(request).distribution.clone();
            AtDestination { distribution, responses: own.into_iter().chain([response.clone()]).collect() }
        });
        at.collect()
    }
}

impl AtDestination {
    /// The outcomes that are possible.
    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.distribution.iter().filter(|(_, chance)| *chance > Chance::NONE).map(|(outcome, _)| outcome)
    }
}
