use kube::Client;
use kube::discovery::{ApiGroup, Discovery, Scope as DiscoveredScope, verbs};

use super::ClusterError;
use crate::scenario::{ApiKind, Scope};

/// The scope of a discovered kind.
pub(super) fn scope(scope: &DiscoveredScope) -> Scope {
    match scope {
        DiscoveredScope::Cluster => Scope::Cluster,
        DiscoveredScope::Namespaced => Scope::Namespaced,
    }
}

/// The kinds whose objects can be deleted. kube's discovery has no short names: those of well-known kinds are added.
pub(super) fn kinds(discovery: &Discovery) -> Vec<ApiKind> {
    let all = discovery.groups().flat_map(ApiGroup::recommended_resources);
    let deletable = all.filter(|(_, capabilities)| capabilities.supports_operation(verbs::DELETE));
    let kinds = deletable.map(|(resource, capabilities)| ApiKind {
        short: ApiKind::find(&resource.group, &resource.kind).map(|known| known.short.clone()).unwrap_or_default(),
        group: resource.group,
        kind: resource.kind,
        plural: resource.plural,
        scope: scope(&capabilities.scope),
    });
    kinds.collect()
}

/// Discovers the kinds that the API server has now.
///
/// # Errors
/// The API server does not answer.
pub(crate) async fn discover(client: &Client) -> Result<Discovery, ClusterError> {
    Discovery::new(client.clone()).run_aggregated().await.map_err(ClusterError::api("discovering its kinds"))
}
