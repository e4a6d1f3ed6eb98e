//! The live page in a real browser, through a run that passes and one that fails.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::browser::Browser;
use crate::common::report::json_of;
use crate::common::{Deadline, shiftcheck};
use crate::harness::tests;

tests![
    a_run_is_watched_in_a_browser[passes]("fixtures/canary", 0),
    a_run_is_watched_in_a_browser[fails]("fixtures/canary-pinned-selector", 1),
];

/// The claims that the page shows: the text and the result of each.
const CLAIMS: &str = "[...document.querySelectorAll('.claim')].map(own => [own.dataset.claim, own.dataset.result])";
/// Text that is too wide, covers other text or is too small to be read.
const LAYOUT: &str = "({
    wide: document.documentElement.scrollWidth - innerWidth,
    over: [...document.querySelectorAll('svg[role=img]')].flatMap(svg => {
        const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
        return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
            p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2).map(([b]) => a + ' / ' + b));
    }),
    beyond: [...document.querySelectorAll('#graph svg text')].filter(t => {
        const own = t.getBoundingClientRect(), all = t.ownerSVGElement.getBoundingClientRect();
        return own.left < all.left - 1 || own.right > all.right + 1 || own.bottom > all.bottom + 1;
    }).map(t => t.textContent),
    tiny: [...document.querySelectorAll('svg text')].filter(t =>
        t.getScreenCTM().a * parseFloat(getComputedStyle(t).fontSize) < 10.5).map(t => t.textContent),
    unnamed: [...document.querySelectorAll('svg[role=img]')].filter(s => s.getAttribute('aria-label').length < 20).length,
})";

fn a_run_is_watched_in_a_browser(scenario: &str, expected: i32) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().to_str().unwrap();
    let mut command =
        shiftcheck(&["run", scenario, "--cluster", "embedded", "--live", "--pause", "1", "--report", report]);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(120));
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let url = printed.next().unwrap();
    let mut browser = Browser::start();
    browser.set(360, 800, false, true);
    browser.open(url.strip_prefix("live page: ").unwrap());
    browser.wait_for("!document.getElementById('pause').hidden");
    assert_eq!(
        browser.value("[location.search, document.getElementById('paused').textContent]"),
        json!(["", "paused after stage 1"])
    );
    // a page that is loaded again has the cookie, and gets the state
    browser.call("Page.reload", &json!({}));
    browser.wait_for("document.getElementById('paused').textContent == 'paused after stage 1' && document.activeElement.id == 'continue'");
    if expected == 0 {
        browser.value("document.getElementById('step').click()");
        browser.wait_for("document.getElementById('paused').textContent == 'paused after stage 2'");
    }
    browser.value("document.getElementById('continue').click()");
    browser.wait_for("document.getElementById('connection').textContent == 'the run is over'");
    assert_eq!(child.wait().unwrap().code(), Some(expected));
    let report = json_of(folder.path(), "report.json");
    let title = browser.value("document.getElementById('title').textContent");
    assert!(title.as_str().unwrap().ends_with(report["note"].as_str().unwrap()), "{title}");
    for stage in report["stages"].as_array().unwrap() {
        shows(&mut browser, stage);
    }
    for (width, dark) in [(360, false), (360, true), (1200, false), (1200, true)] {
        browser.set(width, 900, dark, true);
        let seen = browser.value(LAYOUT);
        assert_eq!(seen, json!({"wide": 0, "over": [], "beyond": [], "tiny": [], "unnamed": 0}), "at {width} px");
    }
}

/// The page shows a stage as the report has it.
fn shows(browser: &mut Browser, stage: &Value) {
    let number = &stage["number"];
    browser.value(&format!("document.querySelector('[data-stage=\"{number}\"]').click()"));
    let name = stage["name"].as_str().unwrap();
    let head = browser.value("document.getElementById('stage').textContent");
    assert!(head.as_str().unwrap().starts_with(&format!("stage {number} {name} ")), "{head}");
    let claims = stage["claims"].as_array().unwrap().iter().map(|claim| {
        json!([
            format!("{}: {}", claim["subject"].as_str().unwrap(), claim["claim"].as_str().unwrap()),
            claim["result"]
        ])
    });
    assert_eq!(browser.value(CLAIMS), json!(claims.collect::<Vec<_>>()), "stage {number}");
    let graph = browser.value("document.querySelector('#graph svg')?.getAttribute('aria-label') ?? ''");
    let text = graph.as_str().unwrap();
    for workload in stage["workloads"].as_array().unwrap() {
        let named = format!("{} ({})", workload["name"].as_str().unwrap(), workload["version"].as_str().unwrap());
        assert!(text.contains(&named), "stage {number}: {named} is not in {text}");
    }
    for claim in stage["claims"].as_array().unwrap().iter().filter(|claim| claim["stop"] != "excluded") {
        for share in claim["shares"].as_array().unwrap() {
            let (count, requests) = (share["count"].as_f64().unwrap(), claim["requests"].as_f64().unwrap());
            let says = format!("{:.1} %", count / requests * 100.0);
            let shown = browser.value("document.getElementById('claims').textContent");
            assert!(shown.as_str().unwrap().contains(&says), "stage {number}: {says} is not in {shown}");
        }
    }
    let transition = &stage["transition"];
    if transition["timeline"].as_array().is_some_and(|timeline| !timeline.is_empty()) {
        let errors: u64 = transition["errors"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        let says = format!("{} requests, {errors} error", transition["requests"]);
        let shown = browser.value("document.getElementById('change-text').textContent");
        assert!(shown.as_str().unwrap().starts_with(&says), "stage {number}: {says} is not {shown}");
    }
}
