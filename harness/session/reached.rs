use serde_json::{Value, json};

use crate::cluster::ClusterError;
use crate::controller::{ControlledObjects, ControllerStatus};
use crate::routing::Kind;

/// The state to which a controller has brought its object, and the rules that it has left.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub status: Option<ControllerStatus>,
    pub rules: Rules,
}

/// The specs of the objects by which requests are routed: kind and name of each.
pub(super) type Rules = Vec<(Kind, String, Value)>;

/// The rules as they are now.
pub(super) async fn live_rules(objects: &ControlledObjects) -> Result<Rules, ClusterError> {
    let known = objects.rules().await?.into_iter().filter_map(|(kind, name, data)| {
        let kind = match kind {
            "Service" => Kind::Service,
            "DestinationRule" => Kind::DestinationRule,
            "VirtualService" => Kind::VirtualService,
            _ => return None,
        };
        Some((kind, name, json!({"spec": data.get("spec")})))
    });
    Ok(known.collect())
}
