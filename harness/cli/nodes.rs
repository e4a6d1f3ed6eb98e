use std::ops::RangeInclusive;

/// How many nodes a throwaway cluster may have.
const NODES: RangeInclusive<u8> = 1..=8;

/// Parses the number of nodes.
pub(super) fn nodes(text: &str) -> Result<u8, String> {
    let (least, most) = (NODES.start(), NODES.end());
    let number = text.parse().map_err(|_| format!("a cluster has from {least} to {most} nodes"))?;
    if NODES.contains(&number) {
        return Ok(number);
    }
    let reason = if number == 0 { "pods run on nodes" } else { "each is a container on this machine, with all images" };
    Err(format!("a cluster has from {least} to {most} nodes: {reason}"))
}
