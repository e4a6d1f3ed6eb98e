//! The HTML report looks right in a real browser.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::report::{hostile, walked};
use crate::harness::tests;

tests![
    a_page_fits_its_window_in_a_browser[phone](360),
    a_page_fits_its_window_in_a_browser[desk](1200),
    a_page_works_from_the_keyboard_and_in_the_dark(),
    nothing_of_a_hostile_report_runs_in_a_browser(),
];

/// Opens a page in Chromium at a width, within a page of the test that looks at it with this script, which sets `seen`.
fn looked_at(page: &Path, width: u32, dark: bool, script: &str) -> Value {
    let folder = page.parent().unwrap();
    let outer = format!(
        "<!doctype html><title>waiting</title><iframe id=page src=report.html style='border:0;width:{width}px;height:900px'></iframe><script>
         onload = () => {{
           const view = document.getElementById('page').contentWindow, page = view.document;
           const seen = (() => {{ {script} }})();
           document.body.innerHTML = '<pre id=seen></pre>';
           document.getElementById('seen').textContent = JSON.stringify(seen);
         }};</script>"
    );
    fs::write(folder.join("outer.html"), outer).unwrap();
    let profile = tempfile::tempdir().unwrap();
    let mut chromium = Command::new("chromium");
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--allow-file-access-from-files",
        "--dump-dom",
        "--window-size=1300,1000",
    ]);
    if dark {
        chromium.arg("--force-dark-mode").arg("--blink-settings=preferredColorScheme=0");
    }
    chromium.arg(format!("--user-data-dir={}", profile.path().display()));
    let output = chromium.arg(format!("file://{}", folder.join("outer.html").display())).output();
    let output = output.expect("Chromium is there; ci/browser installs it");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let seen = dom.split_once("<pre id=\"seen\">").and_then(|(_, rest)| rest.split_once("</pre>"));
    let Some((seen, _)) = seen else { panic!("the page was not seen: {dom}") };
    let text = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&text).unwrap()
}

fn a_page_fits_its_window_in_a_browser(width: u32) {
    let (_, _, folder) = walked("fixtures/canary", &[]);
    let script = "
    page.querySelectorAll('details').forEach(d => { d.open = true; });
    return {
        wide: page.documentElement.scrollWidth,
        beyond: [...page.querySelectorAll('svg text')].filter(t => {
            const own = t.getBoundingClientRect(), all = t.ownerSVGElement.getBoundingClientRect();
            return own.left < all.left - 1 || own.right > all.right + 1 || own.bottom > all.bottom + 1;
        }).map(t => t.textContent),
        over: [...page.querySelectorAll('svg[role=img]')].flatMap(svg => {
            const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
            return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([, q]) =>
                p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2).map(([b]) => a + ' / ' + b));
        }),
        aside: [...page.querySelectorAll('.claims')].filter(t => t.scrollWidth > t.parentElement.clientWidth + 1).length,
        graphs: page.querySelectorAll('figure').length,
        tiny: [...page.querySelectorAll('svg text')].filter(t =>
            t.getScreenCTM().a * parseFloat(view.getComputedStyle(t).fontSize) < 10.5).map(t => t.textContent),
    };";
    let seen = looked_at(&folder.path().join("report.html"), width, false, script);
    assert!(seen["wide"].as_u64().unwrap() <= u64::from(width), "the page scrolls sideways: {seen}");
    assert_eq!(seen["beyond"], json!([]), "text beyond its picture");
    assert_eq!(seen["over"], json!([]), "text over text");
    assert_eq!(seen["tiny"], json!([]), "text too small to be read");
    assert_eq!(seen["aside"], 0, "claims that are read sideways");
    assert!(seen["graphs"].as_u64().unwrap() > 10);
}

fn a_page_works_from_the_keyboard_and_in_the_dark() {
    let (_, _, folder) = walked("fixtures/canary-pinned-selector", &[]);
    let page = folder.path().join("report.html");
    let script = "
        const reach = [...page.querySelectorAll('a[href], summary, [tabindex]')];
        page.querySelectorAll('details').forEach(d => { d.open = true; });
        const missed = reach.filter(e => { e.focus(); return page.activeElement !== e; }).map(e => e.outerHTML.slice(0, 80));
        const details = page.querySelector('section details'), summary = details.querySelector('summary');
        const was = details.open; summary.click(); const is = details.open;
        const ids = [...page.querySelectorAll('nav a')].map(a => !!page.querySelector(a.getAttribute('href')));
        return {count: reach.length, missed, toggles: was !== is, leads: ids.every(Boolean), first: reach[0].textContent,
            names: [...page.querySelectorAll('svg[role=img]')].every(s => s.getAttribute('aria-label').length > 20)};";
    let seen = looked_at(&page, 1000, false, script);
    assert_eq!((&seen["missed"], &seen["toggles"], &seen["leads"]), (&json!([]), &json!(true), &json!(true)), "{seen}");
    assert_eq!((&seen["first"], &seen["names"]), (&json!("skip to the stages"), &json!(true)), "{seen}");
    // ink and ground are far apart in light and dark (WCAG's ratio of contrast)
    let script = "
        const light = c => { const [r, g, b] = c.match(/[0-9.]+/g).map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
        const ground = view.getComputedStyle(page.body).backgroundColor;
        const ink = s => view.getComputedStyle(page.querySelector(s)).color;
        return {ground: light(ground), ratios: ['body', '.dim', '.passed', '.failed', 'svg text'].map(s => [s, ratio(ink(s), ground)])};";
    for dark in [false, true] {
        let seen = looked_at(&page, 1000, dark, script);
        assert_eq!(seen["ground"].as_f64().unwrap() < 0.5, dark, "{seen}");
        for pair in seen["ratios"].as_array().unwrap() {
            assert!(pair[1].as_f64().unwrap() >= 4.5, "{pair}");
        }
    }
}

fn nothing_of_a_hostile_report_runs_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    fs::write(&page, hostile().html()).unwrap();
    let script = "return {title: page.title.startsWith('canary'), scripts: page.scripts.length, images: page.images.length,
        handlers: [...page.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('on'))).length};";
    let seen = looked_at(&page, 1000, false, script);
    assert_eq!(seen, json!({"title": true, "scripts": 0, "images": 0, "handlers": 0}));
}
