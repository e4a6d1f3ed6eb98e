//! Reports of runs on the embedded mesh.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use shiftcheck::report::Report;

use super::{said, scratch, shiftcheck};

/// Walks a scenario on the embedded mesh; its exit code, and the folder of its reports.
pub fn walked(scenario: &str, extra: &[&str]) -> (Option<i32>, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().to_str().unwrap();
    let output = shiftcheck(&[&["run", scenario, "--cluster", "embedded", "--report", report], extra].concat());
    let (printed, errors, code) = said(&{ output }.output().unwrap());
    (code, printed + &errors, folder)
}

/// The folder of the reports of one run of the canary that has passed, which tests share; and what the run printed.
pub fn passed() -> &'static (PathBuf, String) {
    static PASSED: OnceLock<(PathBuf, String)> = OnceLock::new();
    PASSED.get_or_init(|| {
        let folder = scratch("passed");
        let report = folder.to_str().unwrap();
        let command = &["run", "fixtures/canary", "--cluster", "embedded", "--report", report];
        let (printed, errors, code) = said(&shiftcheck(command).output().unwrap());
        assert_eq!(code, Some(0), "{printed}{errors}");
        (folder, printed + &errors)
    })
}

pub fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn json_of(folder: &Path, name: &str) -> Value {
    serde_json::from_str(&read(folder, name)).unwrap()
}

const EVIL: &str = "\"'><img src=x onerror=alert(1)><script>document.title='broken'</script>&amp;";

fn spoil(value: &mut Value) {
    match value {
        Value::String(text) if !["passed", "failed", "created", "changed"].contains(&text.as_str()) => {
            text.push_str(EVIL);
        }
        Value::Array(values) => values.iter_mut().for_each(spoil),
        Value::Object(values) => values.values_mut().for_each(spoil),
        _ => {}
    }
}

/// A report in which everything that comes from elsewhere tries to break out of its place.
pub fn hostile() -> Report {
    let (_, _, folder) = walked("fixtures/canary-pinned-selector", &[]);
    let mut value = json_of(folder.path(), "report.json");
    spoil(&mut value);
    serde_json::from_value(value).unwrap()
}

/// The paths of comparisons in a `report.html`: the height at which each rejects, and at which it ends; a larger one is further down.
pub fn paths_of_comparisons(page: &str) -> Vec<[f64; 2]> {
    let level = regex::Regex::new(r#"class="fails" x1="42" x2="294" y1="([0-9.]+)""#).unwrap();
    let way = regex::Regex::new(r#"class="path" points="[^"]*,([0-9.]+)""#).unwrap();
    let plots = page.split("aria-label=\"path of the sequential test").skip(1);
    let plots = plots.map(|plot| plot.split("</svg>").next().unwrap());
    plots.map(|plot| [&level, &way].map(|found| found.captures(plot).unwrap()[1].parse().unwrap())).collect()
}
