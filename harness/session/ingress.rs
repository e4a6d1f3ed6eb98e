use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use super::SessionError;
use super::change::settling_time;
use super::stage::Session;
use crate::mesh::{Converged, MeshError, Polling, ReadTable, TableReading, converge};
use crate::plan::Snapshot;
use crate::routing::{Client, Request, RouteTable};
use crate::scenario::IngressGateway;
use crate::venue::{OpenVenue, ready_pods};

/// A host that populations call through a gateway.
type Entrance = (IngressGateway, String);

impl Session<'_> {
    /// The hosts that populations call through gateways.
    fn entrances(&self) -> BTreeSet<Entrance> {
        let populations = self.plan.scenario.populations.iter();
        let entering = populations.filter_map(|population| Some((population.through.clone()?, &population.variants)));
        let hosts = entering.flat_map(|(through, variants)| {
            let hosts = variants.iter().filter_map(|variant| variant.headers.get("host"));
            hosts.map(move |host| (through.clone(), host.clone()))
        });
        hosts.collect()
    }

    /// Waits until all gateway pods have the routes that the manifests ask for, and returns the routes of each entrance.
    pub async fn gateways_converged(&mut self, polling: Polling) -> Result<Vec<(String, Converged)>, SessionError> {
        let mut all = Vec::new();
        for (gateway, host) in self.entrances() {
            let known = self.venue.endpoints().is_some();
            let known = known.then(|| self.gateway_endpoints.entry(gateway.clone()).or_default().clone());
            let settles = |table: &RouteTable| settling_time(known.as_ref(), table);
            let reader = GatewayReader {
                request: Request::entering(&host, gateway.port, "/"),
                client: self.as_client(),
                snapshot: Arc::clone(&self.snapshot),
                gateway: &gateway,
                host: &host,
                venue: &mut *self.venue,
            };
            let converged = match converge(polling, settles, self.events.waiting(), reader).await {
                Err(MeshError::NotConverged { seconds, mismatch, .. }) => {
                    let who = format!("{gateway} for {host}");
                    return Err(MeshError::NotConverged { who, seconds, mismatch }.into());
                }
                other => other?,
            };
            let addresses = converged.table.addresses().map(ToOwned::to_owned);
            self.gateway_endpoints.entry(gateway.clone()).or_default().extend(addresses);
            all.push((format!("{gateway}, {host}"), converged));
        }
        Ok(all)
    }
}

/// Reads the routes of a gateway, and what the applied objects ask for.
struct GatewayReader<'a, 'plan> {
    venue: &'a mut dyn OpenVenue,
    snapshot: Arc<Snapshot<'plan>>,
    gateway: &'a IngressGateway,
    host: &'a str,
    client: Client,
    request: Request,
}

#[async_trait]
impl ReadTable for GatewayReader<'_, '_> {
    async fn read(&mut self) -> Result<TableReading, MeshError> {
        let tables = self.venue.gateway(self.gateway, self.host).await?;
        let mesh = self.snapshot.mesh_of(ready_pods(self.venue.pods()));
        let outbound = mesh.outbound(self.client.clone());
        let routes = outbound.routes(&self.request).ok();
        let uncompared = outbound.uncompared(&self.request, routes.as_ref());
        let expected = routes.map_or_else(RouteTable::of_closed_port, |routes| routes.table);
        // the pod that differs, if one does
        let differs = tables.iter().position(|table| !uncompared.are_same(table, &expected));
        let table = tables.into_iter().nth(differs.unwrap_or(0)).unwrap_or_default();
        Ok(TableReading { table, expected, uncompared })
    }
}
