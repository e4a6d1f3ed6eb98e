//! All claims of three example scenarios in `fixtures/` hold on a real mesh.

use std::path::Path;

use crate::cluster::shared;
use crate::harness::tests;

// those that use features of Istio which the canary scenario does not use
tests![
    a_scenario_holds_on_a_real_mesh[gateway_api]("gateway-api"),
    a_scenario_holds_on_a_real_mesh[blue_green]("blue-green"),
    a_scenario_holds_on_a_real_mesh[mirror]("mirror"),
];

fn a_scenario_holds_on_a_real_mesh(name: &str) {
    let (printed, errors, code) = shared().on("run", &Path::new("fixtures").join(name), &["--namespace", name]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    // nothing is left behind
    shared().gone(name);
}
