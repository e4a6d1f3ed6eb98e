//! The live page in a real browser, through a run that passes and one that fails.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::browser::Browser;
use crate::common::report::{json_of, walked};
use crate::common::{Deadline, shiftcheck};
use crate::harness::tests;

tests![
    a_run_is_watched_in_a_browser[passes]("fixtures/canary", 0),
    a_run_is_watched_in_a_browser[fails]("fixtures/canary-pinned-selector", 1),
    a_report_plays_the_run_again[passes]("fixtures/canary", 0),
    a_report_plays_the_run_again[fails]("fixtures/canary-pinned-selector", 1),
];

/// The claims that the page shows: the text and the result of each. The view is below its `root`, the page or a part of it.
const CLAIMS: &str = "[...root.querySelectorAll('.claim')].map(own => [own.dataset.claim, own.dataset.result])";
/// Text that is too wide, covers other text or is too small to be read.
const LAYOUT: &str = "({
    wide: document.documentElement.scrollWidth - innerWidth,
    over: [...root.querySelectorAll('svg[role=img]')].flatMap(svg => {
        const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
        return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
            p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2).map(([b]) => a + ' / ' + b));
    }),
    beyond: [...root.querySelectorAll('#graph svg text')].filter(t => {
        const own = t.getBoundingClientRect(), all = t.ownerSVGElement.getBoundingClientRect();
        return own.left < all.left - 1 || own.right > all.right + 1 || own.bottom > all.bottom + 1;
    }).map(t => t.textContent),
    tiny: [...root.querySelectorAll('svg text')].filter(t =>
        t.getScreenCTM().a * parseFloat(getComputedStyle(t).fontSize) < 10.5).map(t => t.textContent),
    unnamed: [...root.querySelectorAll('svg[role=img]')].filter(s => s.getAttribute('aria-label').length < 20).length,
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

/// The recording in a report shows what the report says of each stage, from the keyboard or played, on one page of less than 700 kB.
fn a_report_plays_the_run_again(scenario: &str, expected: i32) {
    let (code, printed, folder) = walked(scenario, &[]);
    assert_eq!(code, Some(expected), "{printed}");
    let page = folder.path().join("report.html");
    let size = std::fs::metadata(&page).unwrap().len();
    assert!(size < 700_000, "{size} bytes");
    let mut browser = Browser::start();
    browser.set(360, 800, false, true);
    browser.open(&format!("file://{}", page.display()));
    browser.wait_for("document.getElementById('player').shadowRoot.querySelector('.claim')");
    browser.value("document.querySelectorAll('#play details').forEach(own => { own.open = true; })");
    let report = json_of(folder.path(), "report.json");
    let stages = report["stages"].as_array().unwrap();
    for stage in stages {
        shows(&mut browser, stage);
    }
    // back to the beginning, where no stage is complete, and forward by the keys of a slider
    let slide =
        "(to => { const at = root.getElementById('at'); at.value = to(at); at.dispatchEvent(new Event('input')); })";
    browser.value(&format!("{slide}(() => 0)"));
    browser.wait_for("root.querySelectorAll('.strip .passed, .strip .failed').length == 0");
    browser.value(&format!("{slide}(at => at.max)"));
    let last = stages.last().unwrap();
    browser.wait_for(&format!(
        "root.getElementById('stage').textContent.startsWith('stage {} ') && root.querySelectorAll('.claim').length == {}",
        last["number"],
        last["claims"].as_array().unwrap().len()
    ));
    shows(&mut browser, &stages[0]);
    // played from the beginning, stages are seen in their order
    let pressed = browser.value(
        "globalThis.seen = []; new MutationObserver(() => {
            const text = root.getElementById('stage').textContent.match(/^stage (\\d+) /);
            if (text && seen.at(-1) != text[1]) seen.push(text[1]);
         }).observe(root.getElementById('stage'), {childList: true, subtree: true, characterData: true});
         root.getElementById('speed').value = '1'; root.getElementById('run').click(); root.getElementById('run').textContent",
    );
    assert_eq!(pressed, json!("pause"));
    browser.wait_for("root.getElementById('run').textContent == 'play'");
    browser.wait_for(&format!("seen.at(-1) == '{}'", last["number"]));
    let seen = browser.value("[...seen]");
    let seen: Vec<u64> = seen.as_array().unwrap().iter().map(|own| own.as_str().unwrap().parse().unwrap()).collect();
    assert!(seen.is_sorted() && seen.len() >= stages.len().min(2), "{seen:?}");
    for (width, dark) in [(360, false), (1200, true)] {
        browser.set(width, 900, dark, true);
        let layout = browser.value(LAYOUT);
        assert_eq!(layout, json!({"wide": 0, "over": [], "beyond": [], "tiny": [], "unnamed": 0}), "at {width} px");
    }
}

/// The page shows a stage as the report has it.
fn shows(browser: &mut Browser, stage: &Value) {
    let number = &stage["number"];
    browser.value(&format!("root.querySelector('[data-stage=\"{number}\"]').click()"));
    let name = stage["name"].as_str().unwrap();
    let head = browser.value("root.getElementById('stage').textContent");
    assert!(head.as_str().unwrap().starts_with(&format!("stage {number} {name} ")), "{head}");
    let claims = stage["claims"].as_array().unwrap().iter().map(|claim| {
        json!([
            format!("{}: {}", claim["subject"].as_str().unwrap(), claim["claim"].as_str().unwrap()),
            claim["result"]
        ])
    });
    assert_eq!(browser.value(CLAIMS), json!(claims.collect::<Vec<_>>()), "stage {number}");
    let graph = browser.value("root.querySelector('#graph svg')?.getAttribute('aria-label') ?? ''");
    let text = graph.as_str().unwrap();
    for workload in stage["workloads"].as_array().unwrap() {
        let named = format!("{} ({})", workload["name"].as_str().unwrap(), workload["version"].as_str().unwrap());
        assert!(text.contains(&named), "stage {number}: {named} is not in {text}");
    }
    for claim in stage["claims"].as_array().unwrap().iter().filter(|claim| claim["stop"] != "excluded") {
        for share in claim["shares"].as_array().unwrap() {
            let (count, requests) = (share["count"].as_f64().unwrap(), claim["requests"].as_f64().unwrap());
            let says = format!("{:.1} %", count / requests * 100.0);
            let shown = browser.value("root.getElementById('claims').textContent");
            assert!(shown.as_str().unwrap().contains(&says), "stage {number}: {says} is not in {shown}");
        }
    }
    let transition = &stage["transition"];
    if transition["timeline"].as_array().is_some_and(|timeline| !timeline.is_empty()) {
        let errors: u64 = transition["errors"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        let says = format!("{} requests, {errors} error", transition["requests"]);
        let shown = browser.value("root.getElementById('change-text').textContent");
        assert!(shown.as_str().unwrap().starts_with(&says), "stage {number}: {says} is not {shown}");
    }
}
