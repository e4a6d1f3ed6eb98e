//! Users reach a service through another one, and get the versions along the way that the rules and the front service's headers say.

use crate::common::{example, said, shiftcheck};
use crate::harness::tests;

tests![versions_along_the_way_are_as_the_rules_say_and_lost_headers_are_named(): Paired];

/// The fixture, and a copy in which the front service loses headers from the beginning, on one cluster.
fn versions_along_the_way_are_as_the_rules_say_and_lost_headers_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let (env, lost) = ("value: front-v1}]", "value: front-v1}, {name: PROPAGATE, value: 'false'}]");
    let spoilt = example(folder.path(), "chain", "front-v1.yaml", env, lost);
    let copy = folder.path().join("lost");
    std::fs::rename(spoilt, &copy).unwrap();
    let file = copy.join("scenario.yaml");
    let text = std::fs::read_to_string(&file).unwrap().replacen("name: chain\n", "name: lost\n", 1);
    std::fs::write(&file, text).unwrap();
    let (copy, reports) = (copy.to_str().unwrap(), folder.path().join("reports"));
    let reported = reports.to_str().unwrap();
    let arguments =
        ["run", "fixtures/chain", copy, "--cluster", "k3s", "--no-fail-fast", "--jobs", "1", "--report", reported];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(1), "{printed}{errors}");
    let (own, lost) = printed.split_once("\nlost: ").unwrap_or_else(|| panic!("{printed}"));
    for line in [
        "testers at /via/svc-back: front-v1 > back-v2 — all ",
        "testers at /via/svc-back: front-v1 > back-v1 — all ",
        "testers at /via/svc-back: front-v2 > back-v1 50 %, front-v2 > back-v2 50 % — ",
        "all stages passed",
    ] {
        assert!(own.contains(line), "{line}\n{printed}");
    }
    let failed = "✗ testers at /via/svc-back: front-v1 > back-v2 — ";
    assert!(lost.contains(failed) && lost.contains("FAIL 2/5 testers' canary behind the front service"), "{printed}");
    // wherever the lines are broken
    let words = lost.split_whitespace().collect::<Vec<_>>().join(" ");
    for cause in [
        "a service on the way does not propagate the headers of requests",
        "front-v1.yaml:20:51) does not propagate them; if it did, testers would get front-v1 > back-v2, as claimed",
    ] {
        assert!(words.contains(cause), "{cause}\n{printed}");
    }
    // the sidecars of the front service's pods were waited for
    let report = std::fs::read_to_string(reports.join("chain/report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let lines = report["stages"][1]["routing"]["lines"].as_array().unwrap();
    let route = ", svc-back: route 1: end-user is `testers` to subset v2 of svc-back.chain-";
    let is_of_front = |line: &str| line.starts_with("pod front-v1-") && line.contains(route);
    assert!(lines.iter().filter_map(|line| line.as_str()).any(is_of_front), "{lines:?}");
}
