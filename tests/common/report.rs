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
