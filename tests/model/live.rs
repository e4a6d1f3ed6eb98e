//! The live page: who may read it, what it sends, and that a reader never slows a run.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::Value;
use shiftcheck::events::{Event, Events};
use shiftcheck::report::{Live, Recorder};
use shiftcheck::session::Pause;

use crate::common::page::{address, answered, apply, followed, opened, sent, shows, status};
use crate::common::report::json_of;
use crate::common::{Deadline, said, shiftcheck, signal};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_browser_that_opened_the_address_gets_the_page() {
    let live = Live::start(0, Pause::default()).await.unwrap();
    let (port, token) = address(&live.url());
    tokio::task::spawn_blocking(move || {
        let own = format!("127.0.0.1:{port}");
        let host = ("Host", own.as_str());
        let refused = |request: &str, headers: &[(&str, &str)], why: &str| {
            let response = answered(port, request, headers);
            assert!(status(&response) == "403" && response.ends_with(why), "{request} {headers:?}: {response}");
        };
        let (once, other) =
            ("open the address that shiftcheck has printed; it can be opened once", "this server has another name");
        refused("GET /", &[host], once);
        refused("GET /?token=0123456789abcdef0123456789abcdef", &[host], once);
        refused("GET /events", &[host], once);
        refused("POST /continue", &[host, ("Content-Length", "0")], once);
        refused(&format!("GET /?token={token}"), &[("Host", "rebound.example")], other);
        refused(&format!("GET /?token={token}"), &[("Host", &format!("rebound.example:{port}"))], other);
        refused(&format!("GET /?token={token}"), &[], other);
        let (cookie, page) = opened(port, &token);
        let policy = page.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe") && !page.contains("NONCE") && !page.contains("/*STYLE*/"), "{policy}");
        for part in ["/*VIEW*/", "<!--VIEW-->", "/*SCRIPT*/"] {
            assert!(!page.contains(part), "{part}");
        }
        // the token is used; the cookie is not
        refused(&format!("GET /?token={token}"), &[host], once);
        let cookie = ("Cookie", cookie.as_str());
        assert_eq!(status(&answered(port, "GET /", &[host, cookie])), "200");
        let foreign = ("Origin", "http://127.0.0.1:1");
        refused("GET /events", &[host, cookie, foreign], "another page sent this request");
        refused("POST /continue", &[host, cookie, foreign, ("Content-Length", "0")], "another page sent this request");
        let origin = format!("http://{own}");
        let same = [host, cookie, ("Origin", origin.as_str()), ("Content-Length", "0")];
        assert_eq!(status(&answered(port, "POST /continue", &same)), "409", "nothing waits");
    })
    .await
    .unwrap();
    live.close().await;
}

#[test]
fn the_page_makes_no_markup_of_text() {
    let page = [
        include_str!("../../harness/report/live/page.html"),
        include_str!("../../harness/report/live/live.js"),
        include_str!("../../harness/report/view/view.html"),
        include_str!("../../harness/report/view/view.js"),
        include_str!("../../harness/report/view/view.css"),
        include_str!("../../harness/report/page/player.html"),
        include_str!("../../harness/report/page/player.js"),
        include_str!("../../harness/report/page/player.css"),
    ]
    .concat();
    for way in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "Function(", "srcdoc"]
    {
        assert!(!page.contains(way), "{way}");
    }
    for elsewhere in ["https:", "src=", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_gets_the_state_and_slows_nobody() {
    const LINES: usize = 20_000;
    let live = Live::start(0, Pause::default()).await.unwrap();
    let (port, token) = address(&live.url());
    let (cookie, slow) = tokio::task::spawn_blocking(move || {
        let (cookie, _) = opened(port, &token);
        let host = format!("127.0.0.1:{port}");
        let mut slow = BufReader::new(sent(port, "GET /events", &[("Host", &host), ("Cookie", &cookie)]));
        // it reads the first change, and then nothing
        let mut first = String::new();
        while !first.starts_with("data: ") {
            first.clear();
            assert!(slow.read_line(&mut first).unwrap() > 0);
        }
        (cookie, slow)
    })
    .await
    .unwrap();
    let (events, mut stream) = Events::channel();
    let mut recorder = Recorder::new("shiftcheck run".to_owned());
    let start = Instant::now();
    for number in 0..LINES {
        events.tell(Event::Ready(format!("part {number} {}", "x".repeat(1000))));
    }
    drop(events);
    while let Some(event) = stream.recv().await {
        // the state of the report grows with each part that is ready, so that only some are recorded
        if recorder.report().setup.len() < 10 {
            recorder.record(&event);
        }
        live.show(&event, &recorder);
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(10), "{LINES} events took {took:?}");
    let last = format!("part {} ", LINES - 1);
    let is_last = move |change: &Value| {
        change["log"]
            .as_array()
            .is_some_and(|log| log.iter().any(|line| line["text"].as_str().unwrap().starts_with(&last)))
    };
    let (changes, again) = tokio::task::spawn_blocking(move || {
        let mut changes = Vec::new();
        for line in slow.lines().map_while(Result::ok) {
            let Some(data) = line.strip_prefix("data: ") else { continue };
            changes.push(serde_json::from_str::<Value>(data).unwrap());
            if is_last(changes.last().unwrap()) {
                break;
            }
        }
        (changes, followed(port, &cookie, |_| true))
    })
    .await
    .unwrap();
    // most changes were lost, and the state instead of them was sent
    assert!(changes.len() < LINES / 2, "{} changes", changes.len());
    assert!(changes.iter().any(|change| change["reset"] == true), "no state");
    assert_eq!(
        (again.len(), &again[0]["reset"], again[0]["log"].as_array().unwrap().len()),
        (1, &Value::Bool(true), 300)
    );
    live.close().await;
}

#[rstest]
#[case::passes("fixtures/canary", 0)]
#[case::fails("fixtures/canary-pinned-selector", 1)]
fn a_run_is_followed_through_a_pause_and_a_reconnect(#[case] scenario: &str, #[case] expected: i32) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().to_str().unwrap();
    let mut command =
        shiftcheck(&["run", scenario, "--cluster", "embedded", "--live", "--pause", "1", "--report", report]);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(60));
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (port, token) = address(printed.next().unwrap().strip_prefix("live page: ").unwrap());
    let (cookie, _) = opened(port, &token);
    let host = format!("127.0.0.1:{port}");
    let resumed = |step: bool| {
        let headers = [("Host", host.as_str()), ("Cookie", cookie.as_str()), ("Content-Length", "0")];
        status(&answered(port, &format!("POST /continue?step={step}"), &headers)).to_owned()
    };
    let first = followed(port, &cookie, |change| change["paused"] == 1);
    assert_eq!(first[0]["reset"], true);
    let mut state = Value::Null;
    if expected == 0 {
        assert!(
            printed.any(|line| line.starts_with("paused after stage 1: press Enter, or continue on the live page"))
        );
        // the next stage only, from the page; then the rest, by the Enter key
        assert_eq!(resumed(true), "204");
        assert_eq!(followed(port, &cookie, |change| change["paused"] == 2).last().unwrap()["paused"], 2);
        let reader = std::thread::spawn({
            let cookie = cookie.clone();
            move || followed(port, &cookie, |change| change["done"] == true)
        });
        std::thread::sleep(Duration::from_millis(300));
        child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        reader.join().unwrap().iter().for_each(|change| apply(&mut state, change));
    } else {
        // a reader that comes again gets the state
        let reader = std::thread::spawn({
            let cookie = cookie.clone();
            move || followed(port, &cookie, |change| change["done"] == true)
        });
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(resumed(false), "204");
        reader.join().unwrap().iter().for_each(|change| apply(&mut state, change));
    }
    assert_eq!(child.wait().unwrap().code(), Some(expected));
    let report = json_of(folder.path(), "report.json");
    shows(&report, &state);
}

#[test]
fn what_the_page_cannot_do_is_said_before_anything_runs() {
    let run = |arguments: &[&str]| said(&shiftcheck(arguments).output().unwrap());
    let several = ["run", "fixtures/canary", "fixtures/mirror", "--cluster", "embedded", "--no-report"];
    let (printed, errors, code) = run(&[&several[..], &["--live", "--jobs", "2"]].concat());
    assert_eq!(
        (errors.as_str(), code),
        ("error: --live shows one scenario at a time: leave out --jobs\n", Some(2)),
        "{printed}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("--live={}", taken.local_addr().unwrap().port());
    let (_, errors, code) = run(&["run", "fixtures/canary", "--cluster", "embedded", "--no-report", &port]);
    let expected = "error: cannot serve the live page: Address already in use (os error 98)\n";
    assert_eq!((errors.as_str(), code), (expected, Some(3)));
    let (_, errors, code) = run(&["calibrate", "fixtures/canary", "--cluster", "embedded", "--live", "--pause", "1"]);
    let expected = "error: calibrate judges no stage after which it could wait: use run --live --pause\n";
    assert_eq!((errors.as_str(), code), (expected, Some(2)));
    let versions = ["upgrade", "fixtures/canary", "--from", "1.22", "--to", "1.31", "--allow-skew", "--no-report"];
    let (_, errors, code) = run(&[&versions[..], &["--pause", "4"]].concat());
    let expected = "error: --pause needs --live here, since the clusters of an upgrade are not kept\n";
    assert_eq!((errors.as_str(), code), (expected, Some(2)));
    let (_, errors, code) = run(&[&versions[..], &["--live", "--mode", "in-place", "--pause", "1"]].concat());
    assert_eq!(code, Some(2));
    insta::assert_snapshot!(errors);
}

#[test]
fn a_page_shows_one_scenario_after_the_other() {
    let scenarios = ["run", "fixtures/mirror", "fixtures/canary", "--cluster", "embedded", "--no-report"];
    let mut command = shiftcheck(&[&scenarios[..], &["--live", "--pause", "1"]].concat());
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(60));
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (port, token) = address(printed.next().unwrap().strip_prefix("live page: ").unwrap());
    let (cookie, _) = opened(port, &token);
    let mut input = child.stdin.take().unwrap();
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut name = None;
        followed(port, &cookie, |change| {
            let run = change["head"]["scenario"]["name"].as_str();
            name = run.map(ToOwned::to_owned).or(name.take());
            // a page that is opened between two runs sees the end of the first
            change["paused"] == 1
        });
        runs.extend(name);
        input.write_all(b"\n").unwrap();
        // the pause is over before the next one is looked for
        followed(port, &cookie, |change| {
            change["paused"].is_null() && (change["now"] == "continued" || change["reset"] == true)
        });
    }
    drop(printed);
    let _ = child.wait();
    assert_eq!(runs, ["mirror", "canary"]);
}

#[test]
fn a_calibration_is_followed() {
    let calibrate = ["calibrate", "fixtures/canary", "--cluster", "embedded", "--live", "--samples", "10"];
    let mut child = shiftcheck(&calibrate).args(["--qps", "2000"]).stdout(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(60));
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (port, token) = address(printed.next().unwrap().strip_prefix("live page: ").unwrap());
    let (cookie, _) = opened(port, &token);
    let changes = followed(port, &cookie, |change| change["done"] == true);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut state = Value::Null;
    for change in &changes {
        apply(&mut state, change);
    }
    // each line of the result is on the page
    let printed: Vec<String> = printed.collect();
    let from = printed.iter().position(|line| line.starts_with("10 samples of testers, ")).unwrap();
    let result = &printed[from..=from + 6];
    let log: Vec<&str> = state["log"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert!(log.windows(7).any(|lines| lines == result), "{result:?} is not in {log:?}");
    let note = state["head"]["note"].as_str().unwrap();
    assert!(note.starts_with("requests are routed independently on the embedded mesh"), "{note}");
    let mut said = changes.iter().filter_map(|change| change["now"].as_str());
    assert_eq!(said.rfind(|now| now.starts_with("sample ")), Some("sample 10 of 10"));
    let answered = |name: &str| {
        let nodes = state["graph"]["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["name"] == name).and_then(|node| node["requests"].as_u64()).unwrap()
    };
    assert!(answered("hello-server-v1") > 0 && answered("hello-server-v2") > 0, "{}", state["graph"]);
}

#[test]
fn shares_and_the_graph_are_followed_while_a_sample_is_taken() {
    let mut command =
        shiftcheck(&["run", "fixtures/canary", "--cluster", "embedded", "--no-report", "--live", "--pause", "3"]);
    // so slow that even a sample that is decided early is reported several times
    let mut child = command.args(["--qps", "300"]).stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(60));
    let mut printed = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (port, token) = address(printed.next().unwrap().strip_prefix("live page: ").unwrap());
    let (cookie, _) = opened(port, &token);
    let mut input = child.stdin.take().unwrap();
    let changes = followed(port, &cookie, |change| {
        if change["paused"] == 3 {
            input.write_all(b"\n").unwrap();
        }
        change["stage"][0] == 3 && change["stage"][1]["result"] == "passed"
    });
    signal("-TERM", &child);
    drop(printed);
    child.wait().unwrap();
    let of_testers = |change: &Value| {
        let claims = change["progress"].as_array()?;
        claims.iter().find(|claim| claim["from"] == "testers").cloned()
    };
    let from = changes.iter().rposition(|change| change["paused"] == 3).unwrap();
    let sampled: Vec<Value> = changes[from..].iter().filter_map(of_testers).collect();
    let width = |claim: &Value| {
        claim["shares"][0]["interval"][1].as_f64().unwrap() - claim["shares"][0]["interval"][0].as_f64().unwrap()
    };
    let (first, last) = (sampled.first().unwrap(), sampled.last().unwrap());
    assert!(sampled.len() >= 5 && width(last) < width(first) / 2.0, "{} times, {first} to {last}", sampled.len());
    assert!(
        last["requests"].as_u64() > first["requests"].as_u64() && last["trail"].as_array().unwrap().len() >= 5,
        "{last}"
    );
    let graphs = changes[from..].iter().map(|change| &change["graph"]).filter(|graph| graph["within"] == "last second");
    let rates: Vec<u64> = graphs.map(|graph| graph["requests"].as_u64().unwrap()).collect();
    assert!(rates.iter().any(|rate| (200..=400).contains(rate)), "requests of the last second: {rates:?}");
}
