//! Every run writes the same results in all report formats.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::{Value, json};
use shiftcheck::report::{Granularity, Report};

use crate::common::report::{hostile, json_of, passed, read, walked};
use crate::common::schema::committed_schema;
use crate::common::{self, Deadline, ROOT, said, shiftcheck, spoilt};

#[test]
fn a_run_that_passes_is_told_in_every_form() {
    let (folder, printed) = passed();
    assert!(printed.contains(&format!("report: {}/report.html", folder.display())), "{printed}");
    let report = Report::read(folder).unwrap();
    assert_eq!((report.claims(), report.stages.len()), ((26, 26), 9));
    assert!(report.scenario.files.iter().all(|file| file.sha256.len() == 64));
    assert_eq!(report.scenario.files[0].path, "fixtures/canary/scenario.yaml");
    // a split was decided by a test whose way is told, and it ended where the verdict says
    let split = &report.stages[3].claims[1];
    let path = &split.paths[0];
    assert_eq!((split.stop.as_str(), path.points.last().unwrap()[0]), ("boundary", split.requests));
    let seen = split.shares.iter().find(|share| share.part == path.part).unwrap();
    assert_eq!(path.points.last().unwrap()[1], seen.count);
    // every answer of the sample is told
    let traffic = report.stages[3].traffic.as_ref().unwrap();
    assert_eq!(traffic.answers.iter().map(|answers| answers.count).sum::<u64>(), traffic.requests);

    let yaml: Value = serde_yaml::from_str(&read(folder, "conformance.yaml")).unwrap();
    assert_eq!((&yaml["result"], &yaml["statistics"]["passed"]), (&json!("passed"), &json!(26)));
    let keys = regex::Regex::new(r"(?m)^[ -]*([A-Za-z_]+):").unwrap();
    let text = read(folder, "conformance.yaml");
    let snake: Vec<_> =
        keys.captures_iter(&text).map(|found| found[1].to_owned()).filter(|key| key.contains('_')).collect();
    assert!(snake.is_empty() && text.contains("falseAlarm:"), "keys in two styles: {snake:?}");
    let claim = &yaml["stages"][3]["claims"][1];
    assert_eq!((&claim["stop"], &claim["errors"]["deviation"]), (&json!("boundary"), &json!(0.1)));
    let junit = read(folder, "junit.xml");
    assert!(junit.contains(r#"tests="26" skipped="0" failures="0" errors="0""#), "{junit}");
    assert_eq!(junit.matches(r#"file="fixtures/canary/scenario.yaml" line=""#).count(), 26, "{junit}");
    // one number of claims
    assert!(printed.starts_with("canary: 9 stages, 26 claims on "), "{printed}");
    assert_eq!(report.errors.unwrap().claims, 26);
    assert!(read(folder, "report.html").contains("26 of 26 claims hold"));
}

#[test]
fn no_report_shows_values_of_secrets_variables_and_sensitive_headers() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {key: cGxhbnRlZC1pbi1zZWNyZXQ=}\n---\n";
    let image = "          imagePullPolicy: IfNotPresent\n";
    let changes = [
        ("svc-hello.yaml", "apiVersion", &format!("{secret}apiVersion") as &str),
        (
            "hello-server-v2.yaml",
            image,
            &format!("{image}          env: [{{name: FEATURE, value: planted-in-variable}}]\n"),
        ),
        (
            "scenario.yaml",
            "headers: {end-user: testers}",
            "headers: {end-user: testers, Authorization: Bearer planted-token}",
        ),
        (
            "vs-hello-testers.yaml",
            "{exact: testers}\n",
            "{exact: testers}\n            authorization: {exact: Bearer planted-token}\n",
        ),
    ];
    let fixture = tempfile::tempdir().unwrap();
    spoilt(fixture.path(), &changes);
    let (code, printed, folder) = walked(fixture.path().to_str().unwrap(), &["--until", "4"]);
    assert_eq!(code, Some(0), "{printed}");
    let mut texts = vec![("the terminal".to_owned(), printed)];
    for name in ["report.json", "report.html", "conformance.yaml", "junit.xml"] {
        texts.push((name.to_owned(), read(folder.path(), name)));
    }
    for (place, text) in &texts {
        for planted in ["planted", "cGxhbnRlZC1pbi1zZWNyZXQ"] {
            assert!(!text.contains(planted), "`{planted}` is in {place}");
        }
    }
    // the change of an object is told without the value
    assert!(texts[1].1.contains("(redacted value 1)") && texts[1].1.contains("authorization"), "{}", texts[1].1);
}

#[test]
fn what_was_watched_during_a_change_is_told_in_every_form() {
    let promotion = "    apply: [hello-server-v2-fixed.yaml, vs-hello-promotion.yaml]\n    expect:\n";
    let claimed = format!("{promotion}      - {{during: {{errors: 0, gap: 900ms, last-of: {{v1: 300ms}}}}}}\n");
    let fixture = tempfile::tempdir().unwrap();
    spoilt(fixture.path(), &[("scenario.yaml", promotion, &claimed)]);
    let (code, printed, folder) = walked(fixture.path().to_str().unwrap(), &[]);
    // the stage deletes v2 before it applies v2 again, which testers may see
    assert!(matches!(code, Some(0 | 1)), "{printed}");
    let report = Report::read(folder.path()).unwrap();
    let stage = &report.stages[6];
    let claim = stage.claims.iter().find(|claim| claim.subject == "during the change").unwrap();
    let watched = stage.transition.as_ref().unwrap();
    assert_eq!(claim.requests, watched.requests);
    let gap = watched.gap.as_ref().unwrap();
    assert!(gap.lasted > Duration::ZERO && gap.lasted < watched.took && !gap.from.is_empty(), "{gap:?}");
    assert!(
        watched.resolution == Duration::from_micros(1500) && watched.applied.unwrap() < watched.took,
        "{watched:?}"
    );
    let last = watched.bounds.iter().find(|bound| bound.of == "v1 later than 300 ms after the change").unwrap();
    assert!(
        last.requests >= 688 && last.count == 0 && last.excluded <= 0.01 && (last.confidence - 0.999).abs() < 1e-12,
        "{last:?}"
    );
    let page = read(folder.path(), "report.html");
    assert!(
        page.contains("longest time without a correct answer")
            && page.contains("v1 later than 300 ms after the change")
    );
    assert!(printed.contains("the longest time without a right answer was "), "{printed}");
}

#[test]
fn the_graph_is_in_the_form_of_kiali() {
    let (folder, _) = passed();
    let unused = json_of(folder, "graph/3.json");
    let node = |graph: &Value, version: &str| {
        let nodes = graph["elements"]["nodes"].as_array().unwrap().iter();
        nodes.map(|node| node["data"].clone()).find(|data| data["version"] == version).unwrap()
    };
    assert_eq!((&node(&unused, "v1")["isIdle"], &node(&unused, "v2")["isIdle"]), (&json!(false), &json!(true)));
    let split = json_of(folder, "graph/4.json");
    let edges = split["elements"]["edges"].as_array().unwrap();
    let percent = |target: &str| -> f64 {
        let edge = edges.iter().find(|edge| edge["data"]["target"] == target).unwrap();
        edge["data"]["traffic"]["rates"]["httpPercentReq"].as_str().unwrap().parse().unwrap()
    };
    let [old, new] = ["v1", "v2"].map(|version| percent(node(&split, version)["id"].as_str().unwrap()));
    // how many requests the claim about testers takes, and so the share of v2 in all requests, is up to chance
    let report = Report::read(folder).unwrap();
    let answers = &report.stages[3].traffic.as_ref().unwrap().answers;
    let count = |version: Option<&str>| -> u64 {
        let own = answers.iter().filter(|own| version.is_none() || own.version.as_deref() == version);
        own.map(|own| own.count).sum()
    };
    #[expect(clippy::cast_precision_loss, reason = "some thousand requests")]
    let expected = count(Some("v2")) as f64 / count(None) as f64 * 100.0;
    assert!((old + new - 100.0).abs() < 0.2 && (new - expected).abs() < 0.2, "{old} and {new}, not {expected}");
    assert_eq!(split["elements"]["nodes"][1]["data"]["hasTrafficShifting"], true);
    let fault = json_of(folder, "graph/5.json");
    assert_eq!(fault["elements"]["edges"][0]["data"]["healthStatus"], "Failure");
}

#[test]
fn a_failure_names_the_link_that_broke_and_every_form_says_so() {
    let (code, printed, folder) = walked("fixtures/canary-pinned-selector", &["--junit", "stage"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("there are no endpoints\n       because subset v2"), "{printed}");
    let report = Report::read(folder.path()).unwrap();
    let failed = report.stages[0].claims.iter().find(|claim| claim.result != shiftcheck::report::Outcome::Passed);
    assert_eq!(failed.unwrap().link.as_deref(), Some("there are no endpoints"));
    let junit = read(folder.path(), "junit.xml");
    assert!(junit.contains(r#"type="there are no endpoints""#) && junit.contains("tests=\"1\""), "{junit}");
    let place = r#"file="fixtures/canary-pinned-selector/scenario.yaml" line="25""#;
    assert!(junit.contains(place), "{junit}");
    let annotations = report.annotations();
    assert_eq!(annotations.len(), 1);
    let start = "::error file=fixtures/canary-pinned-selector/scenario.yaml,line=";
    assert!(annotations[0].starts_with(start) && annotations[0].contains("%0Abecause subset v2"), "{annotations:?}");
    assert!(read(folder.path(), "report.html").contains("there are no endpoints"));
}

#[test]
fn reports_are_written_when_nothing_could_be_proven() {
    // the scenario is wrong
    let (code, _, folder) = walked("fixtures/nowhere", &[]);
    assert_eq!(code, Some(2));
    let report = Report::read(folder.path()).unwrap();
    assert_eq!(report.result, shiftcheck::report::Outcome::BadInput);
    assert!(read(folder.path(), "junit.xml").contains(r#"errors="1""#));
    // a stage cannot be applied
    let fixture = tempfile::tempdir().unwrap();
    let stage = "    delete: [deployment/hello-server-v1]\n    apply: [hello-server-v1.yaml";
    spoilt(fixture.path(), &[("scenario.yaml", stage, "    apply: [hello-server-v1.yaml")]);
    let (code, printed, folder) = walked(fixture.path().to_str().unwrap(), &[]);
    assert_eq!(code, Some(2), "{printed}");
    let report = Report::read(folder.path()).unwrap();
    assert_eq!(report.failure.as_ref().unwrap().link, "a manifest was rejected");
    assert_eq!((report.stages.len(), report.stages[1].result), (2, None));
    let junit = read(folder.path(), "junit.xml");
    assert!(junit.contains(r#"<testcase name="4 testers&apos; canary""#) && junit.contains("not run"), "{junit}");
    // the environment fails: there is no such cluster
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["run", "fixtures/canary", "--cluster", "kubeconfig", "--kubeconfig", "nowhere", "--report"];
    let output = shiftcheck(&arguments).arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let report = Report::read(folder.path()).unwrap();
    assert_eq!(report.result, shiftcheck::report::Outcome::EnvironmentFailed);
    assert!(read(folder.path(), "report.html").contains("environment failed"));
}

#[test]
fn what_an_earlier_run_left_goes_and_what_others_left_stays() {
    let folder = tempfile::tempdir().unwrap();
    let mine = folder.path().join("state");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("notes"), "mine").unwrap();
    let run = |more: &[&str]| {
        let report = folder.path().to_str().unwrap();
        let arguments = [&["run", "fixtures/canary", "--cluster", "embedded", "--report", report], more].concat();
        assert_eq!(shiftcheck(&arguments).output().unwrap().status.code(), Some(0));
    };
    // nothing of shiftcheck was in this folder: nothing in it is shiftcheck's to remove
    run(&[]);
    assert_eq!(fs::read_to_string(mine.join("notes")).unwrap(), "mine");
    assert!(folder.path().join("graph/8.json").exists());
    run(&["--until", "2"]);
    assert_eq!(fs::read_to_string(mine.join("notes")).unwrap(), "mine");
    assert!(folder.path().join("graph/2.json").exists() && !folder.path().join("graph/8.json").exists());
}

#[test]
fn a_folder_that_cannot_be_written_ends_the_run_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    fs::write(&file, "").unwrap();
    let output =
        shiftcheck(&["run", "fixtures/canary", "--cluster", "embedded", "--report"]).arg(&file).output().unwrap();
    let (printed, errors, code) = said(&output);
    assert_eq!((code, printed.as_str()), (Some(3), ""), "{errors}");
    assert!(errors.contains("error: cannot write ") && errors.contains("--no-report"), "{errors}");
}

/// Starts a run on the embedded mesh that takes minutes, and waits for its first stage.
fn slow_run(report: &Path) -> (Child, Deadline) {
    let mut command = shiftcheck(&["run", "fixtures/canary", "--cluster", "embedded", "--qps", "5", "--report"]);
    let mut child = command.arg(report).stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Deadline::of(&child, Duration::from_secs(60));
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("canary: 9 stages"), "{first}");
    (child, deadline)
}

#[test]
fn no_report_of_an_earlier_run_outlives_a_run_that_is_killed() {
    let (code, _, folder) = walked("fixtures/canary", &[]);
    assert_eq!(code, Some(0));
    assert!(read(folder.path(), "junit.xml").contains(r#"errors="0""#));
    let (mut child, _deadline) = slow_run(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let report = Report::read(folder.path()).unwrap();
    assert_eq!((report.result, report.claims()), (shiftcheck::report::Outcome::Interrupted, (0, 0)));
    assert!(read(folder.path(), "junit.xml").contains(r#"errors="1""#));
    for name in ["conformance.yaml", "report.html"] {
        assert!(!read(folder.path(), name).contains("all stages passed"), "{name} is of the earlier run");
    }
    // a run that a signal ends says so
    let (child, _deadline) = slow_run(folder.path());
    std::thread::sleep(Duration::from_millis(500));
    common::signal("-TERM", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    assert_eq!(
        Report::read(folder.path()).unwrap().note,
        "interrupted on the embedded mesh, which checks your manifests, not an Istio release"
    );
    // claims that were not decided did not hold
    let junit = read(folder.path(), "junit.xml");
    assert!(junit.contains(r#"tests="9" skipped="8" failures="0" errors="1""#), "{junit}");
    assert!(junit.contains(r#"<testcase name="1 first release" classname="canary">"#), "{junit}");
    assert!(junit.contains(r#"type="interrupted""#) && junit.contains(r#"name="9 clean-up""#), "{junit}");
}

#[test]
fn reports_that_cannot_be_written_at_the_end_are_an_error_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let mut command =
        shiftcheck(&["run", "fixtures/canary", "--cluster", "embedded", "--until", "1", "--qps", "1000", "--report"]);
    let mut child = command.arg(&report).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(60));
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    fs::remove_dir_all(&report).unwrap();
    fs::write(&report, "in the way").unwrap();
    let (printed, errors, code) = said(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(3), "{printed}{errors}");
    assert!(errors.contains("error: cannot write "), "{errors}");
}

#[test]
fn no_report_of_an_earlier_run_outlives_a_scenario_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = |scenario: &str| {
        let mut command = shiftcheck(&["run", "--cluster", "embedded", "--until", "2", scenario]);
        command.env_remove("SHIFTCHECK_REPORT").current_dir(folder.path()).output().unwrap().status.code()
    };
    let report = folder.path().join("shiftcheck-report");
    // without a report there is none to be replaced
    assert_eq!(run("nowhere"), Some(2));
    assert!(!report.exists());
    assert_eq!(run(&format!("{ROOT}/fixtures/canary")), Some(0));
    assert_eq!(Report::read(&report).unwrap().result, shiftcheck::report::Outcome::Passed);
    assert_eq!(run("nowhere"), Some(2));
    assert_eq!(Report::read(&report).unwrap().result, shiftcheck::report::Outcome::BadInput);
}

#[rstest]
#[case::scenario("scenario")]
#[case::report("report")]
#[case::upgrade("upgrade")]
#[case::verify("verify")]
#[case::mutants("mutants")]
#[case::compare("compare")]
fn the_schema_is_the_committed_one(#[case] what: &str) {
    let (printed, _, code) = said(&shiftcheck(&["schema", what]).output().unwrap());
    assert_eq!(code, Some(0));
    let committed = fs::read_to_string(format!("{ROOT}/schemas/{what}.json")).unwrap_or_default();
    let fresh = format!("write it anew: cargo run -- schema {what} > schemas/{what}.json");
    assert!(committed == printed, "schemas/{what}.json is not what the code says; {fresh}");
}

#[rstest]
#[case::scenario("scenario")]
#[case::report("report")]
fn what_is_written_fits_its_schema(#[case] what: &str) {
    let schema = committed_schema(what);
    let mut instances: Vec<(PathBuf, Value)> = Vec::new();
    if what == "report" {
        let (_, _, failed) = walked("fixtures/canary-pinned-selector", &[]);
        for folder in [passed().0.as_path(), failed.path()] {
            instances.push((folder.into(), json_of(folder, "report.json")));
        }
    } else {
        for entry in fs::read_dir(format!("{ROOT}/fixtures")).unwrap().flatten() {
            let path = entry.path().join("scenario.yaml");
            let text = fs::read_to_string(&path).unwrap();
            instances.push((path, serde_yaml::from_str(&text).unwrap()));
        }
        let wrong = json!({"name": "x", "populaces": {}});
        assert!(schema.check(&wrong).is_err(), "a schema that allows everything is none");
    }
    for (path, instance) in instances {
        let fits = schema.check(&instance);
        assert!(fits.is_ok(), "{}: {}", path.display(), fits.unwrap_err());
    }
}

#[rstest]
#[case::verify("verify", &["verify", "fixtures/canary"], 0)]
#[case::verify_with_a_failure("verify", &["verify", "fixtures/canary-pinned-selector", "--against", "fixtures/canary"], 1)]
#[case::mutants("mutants", &["mutants", "fixtures/blue-green"], 0)]
#[case::compare("compare", &["compare", "PASSED", "FAILED"], 1)]
fn what_is_printed_as_json_fits_its_schema(#[case] what: &str, #[case] command: &[&str], #[case] expected: i32) {
    let (_, _, failed) = walked("fixtures/canary-pinned-selector", &[]);
    let paths = [("PASSED", passed().0.as_path()), ("FAILED", failed.path())];
    let of = |word: &&str| paths.iter().find(|(name, _)| name == word).map(|(_, path)| path.to_str().unwrap());
    let command: Vec<&str> = command.iter().map(|word| of(word).unwrap_or(word)).chain(["--format", "json"]).collect();
    let (printed, errors, code) = said(&shiftcheck(&command).output().unwrap());
    assert_eq!(code, Some(expected), "{printed}{errors}");
    let schema = committed_schema(what);
    assert_eq!(schema.check(&serde_json::from_str(&printed).unwrap()), Ok(()));
    assert!(schema.check(&json!({})).is_err(), "a schema that allows everything is none");
}

#[test]
fn what_came_from_elsewhere_stays_in_its_place() {
    let page = hostile().html();
    assert!(!page.contains("<img") && !page.contains("<script"), "something was not escaped");
    assert!(page.contains("&lt;script&gt;"));
}

#[test]
fn a_page_is_small_and_written_at_once() {
    let report = Report::read(&passed().0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // the best of a few: other tests take their share of the machine
    let best = (0..10).map(|_| {
        let start = Instant::now();
        report.write(folder.path(), Granularity::Claim).unwrap();
        start.elapsed()
    });
    let took = best.min().unwrap();
    let size = fs::metadata(folder.path().join("report.html")).unwrap().len();
    assert!(size < 500_000, "{size} bytes");
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[test]
fn two_reports_are_compared() {
    let good = passed().0.as_path();
    let fixture = tempfile::tempdir().unwrap();
    spoilt(
        fixture.path(),
        &[("vs-hello-testers.yaml", "weight: 50", "weight: 80"), ("vs-hello-testers.yaml", "weight: 50", "weight: 20")],
    );
    let (code, _, bad) = walked(fixture.path().to_str().unwrap(), &[]);
    assert_eq!(code, Some(1));
    let compared = |before: &Path, after: &Path| {
        let output = shiftcheck(&["compare"]).arg(before).arg(after).output().unwrap();
        said(&output)
    };
    let (printed, _, code) = compared(good, good);
    assert_eq!((printed.as_str(), code), ("no significant differences\n", Some(0)));
    let (printed, _, code) = compared(good, bad.path());
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("✗ 4 testers' canary, testers: passed → failed (v1 served "), "{printed}");
    assert!(printed.contains("✗ fault, stage: passed → not run"), "{printed}");
    // the way back is no loss
    let (printed, _, code) = compared(bad.path(), good);
    assert_eq!(code, Some(0), "{printed}");
    let (_, errors, code) = compared(good, Path::new("nowhere.json"));
    assert_eq!(code, Some(2));
    assert!(errors.contains("cannot read nowhere.json"), "{errors}");
    let broken = fixture.path().join("broken.json");
    fs::write(&broken, "{\"schema_version\": 1,\n \"tool\": 3}").unwrap();
    let (_, errors, code) = compared(good, &broken);
    assert_eq!(code, Some(2));
    assert!(errors.contains("broken.json:2:") && errors.contains("not a report"), "{errors}");
}

#[test]
fn the_page_begins_with_the_first_failure_and_folds_what_passed() {
    let (_, _, folder) = walked("fixtures/canary-pinned-selector", &[]);
    let page = read(folder.path(), "report.html");
    let header = page.split("</header>").next().unwrap();
    let failure =
        r##"<a href="#stage-1">stage 1 testers' canary, selector pinned</a>: <strong>testers: v1 50 %, v2 50 %"##;
    assert!(header.contains(failure) && header.contains("there are no endpoints"), "{header}");
    let closed = |page: &str| -> Vec<bool> {
        let sections = page.split("<section id=\"stage-").skip(1);
        sections.map(|section| section.split_once("><").unwrap().1.starts_with("details>")).collect()
    };
    assert_eq!(closed(&page), [false]);
    assert_eq!(closed(&read(&passed().0, "report.html")), [true; 9]);
}

#[test]
fn the_graph_shows_the_shares_of_the_claims_and_is_red_where_one_failed() {
    let (folder, _) = passed();
    let split = &Report::read(folder).unwrap().stages[3];
    let claim = split.claims.iter().find(|claim| claim.subject == "testers").unwrap();
    let page = read(folder, "report.html");
    let section = page.split("<section id=\"stage-4\"").nth(1).unwrap().split("</section>").next().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "some hundred requests")]
    for share in &claim.shares {
        let shown = format!(">testers {:.1} %<", share.count as f64 / claim.requests as f64 * 100.0);
        assert!(section.contains(&shown), "{shown}");
    }
    assert!(!section.contains("class=\"edge Failure\""), "a stage that passed is not red");
    // no request fails, and yet the claim does
    let fixture = tempfile::tempdir().unwrap();
    spoilt(
        fixture.path(),
        &[("vs-hello-testers.yaml", "weight: 50", "weight: 80"), ("vs-hello-testers.yaml", "weight: 50", "weight: 20")],
    );
    let (code, printed, folder) = walked(fixture.path().to_str().unwrap(), &[]);
    assert_eq!(code, Some(1), "{printed}");
    let page = read(folder.path(), "report.html");
    let section = page.split("<section id=\"stage-4\"").nth(1).unwrap().split("</section>").next().unwrap();
    let graph = section.split("now: stage 4").next().unwrap().rsplit("<figure>").next().unwrap();
    assert!(graph.contains("class=\"edge Failure\"") && graph.contains("class=\"node Failure\""), "{graph}");
    let red = graph.matches("class=\"small Failure\"").count();
    assert!(red == 2 && graph.contains(" % ✗<"), "{graph}");
}
