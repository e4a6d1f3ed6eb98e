use super::advice::Failure;
use crate::scenario::{Nodes, Scenario};

/// Parses the number of nodes.
pub(super) fn nodes(text: &str) -> Result<u8, String> {
    let (least, most) = (Nodes::RANGE.start(), Nodes::RANGE.end());
    let number = text.parse().map_err(|_| format!("a cluster has from {least} to {most} nodes"))?;
    if Nodes::RANGE.contains(&number) {
        return Ok(number);
    }
    let reason = if number == 0 { "pods run on nodes" } else { "each is a container on this machine, with all images" };
    Err(format!("a cluster has from {least} to {most} nodes: {reason}"))
}

/// Refuses a number of nodes that is too low for a scenario.
pub(super) fn enough(asked: Option<u8>, scenario: &Scenario) -> Result<(), Failure> {
    match (asked, &scenario.nodes) {
        (Some(asked), Some(Nodes { number, origin })) if asked < *number => {
            Err(Failure::bad_input(format!("{origin}: the scenario needs {number} nodes, more than --nodes {asked}")))
        }
        _ => Ok(()),
    }
}
