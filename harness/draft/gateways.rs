//! Gateways in the manifests of a draft: shiftcheck sends requests inside the mesh, so rules that apply at gateways only are not tested.

use serde_json::Value;

use crate::scenario::Manifest;

/// Notes about gateways, and about rules that are bound to gateways.
pub(super) fn gateways<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> Vec<String> {
    let (mut names, mut bound) = (Vec::new(), Vec::new());
    for manifest in manifests {
        match (manifest.kind(), manifest.group()) {
            ("Gateway", _) => names.push(manifest.name().to_owned()),
            ("VirtualService", "networking.istio.io") => {
                let gateways = texts(manifest.at("/spec/gateways"), Value::as_str);
                if !gateways.is_empty() && !gateways.contains(&"mesh") {
                    bound.push((manifest.id(), gateways.join(", "), "add `mesh` to its gateways to test it"));
                }
            }
            ("HTTPRoute" | "GRPCRoute", _) => {
                // the default kind of a parent is a gateway
                let gateway = |parent: &'a Value| {
                    (parent["kind"].as_str().unwrap_or("Gateway") == "Gateway").then(|| parent["name"].as_str())?
                };
                let gateways = texts(manifest.at("/spec/parentRefs"), gateway);
                if !gateways.is_empty() {
                    bound.push((manifest.id(), gateways.join(", "), "add the Service as a parent to test it"));
                }
            }
            _ => {}
        }
    }
    let mut notes = Vec::new();
    if !names.is_empty() {
        notes.push(format!(
            "the gateways {}: requests come from a pod in the mesh, not through a gateway",
            names.join(", ")
        ));
    }
    notes.extend(bound.into_iter().map(|(rule, gateways, advice)| {
        format!("{rule} applies at the gateway {gateways} only, not to requests in the mesh: {advice}")
    }));
    notes
}

fn texts<'a>(list: Option<&'a Value>, text: impl Fn(&'a Value) -> Option<&'a str>) -> Vec<&'a str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(text).collect()
}
