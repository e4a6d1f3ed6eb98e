//! Secrets are in no output.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::common::{said, shiftcheck, spoilt};

#[test]
fn no_output_of_verify_and_mutants_shows_sensitive_values() {
    let fixture = tempfile::tempdir().unwrap();
    let gap = "get: {v1: 50%, v2: 50%}}\n";
    spoilt(
        fixture.path(),
        &[
            ("scenario.yaml", "headers: {end-user: testers}", "headers: {Authorization: Bearer planted}"),
            ("scenario.yaml", "headers: {end-user: Testers}", "headers: {Authorization: bearer planted}"),
            ("vs-hello-testers.yaml", "end-user: {exact: testers}", "authorization: {exact: Bearer planted}"),
            // a mutant that lets the near-miss in survives
            ("scenario.yaml", &format!("{gap}      - {{from: near-miss, get: {{v1: 100%}}}}\n"), gap),
        ],
    );
    let folder = fixture.path().to_str().unwrap();
    for command in ["verify", "mutants"] {
        for format in ["text", "json", "markdown"] {
            let output = shiftcheck(&[command, folder, "--format", format]).env("GITHUB_ACTIONS", "true").output();
            let (printed, errors, _) = said(&output.unwrap());
            assert!(!printed.contains("planted") && !errors.contains("planted"), "{command} as {format}: {printed}");
            // a mutant that survives is told with the value that it changes
            assert_eq!(
                printed.contains("(redacted)"),
                command == "mutants",
                "{command} as {format}: {printed}{errors}"
            );
        }
    }
}

#[test]
fn no_report_shows_the_certificate_and_the_key_of_a_gateway() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/ingress-tls");
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let mut written = Vec::new();
    for secret in ["secret.yaml", "secret-renewed.yaml"] {
        let text = std::fs::read_to_string(format!("{fixture}/{secret}")).unwrap();
        for value in text.lines().filter_map(|line| line.trim().strip_prefix("tls.")?.get(5..)) {
            let decoded = String::from_utf8(STANDARD.decode(value).unwrap()).unwrap();
            // the lines between BEGIN and END
            written.extend(decoded.lines().filter(|line| !line.starts_with("--")).map(str::to_owned));
            written.push(value.to_owned());
        }
    }
    assert!(written.len() > 20, "{written:?}");
    let arguments = ["run", fixture, "--cluster", "embedded", "--report", report.to_str().unwrap()];
    let (printed, errors, code) = said(&shiftcheck(&arguments).output().unwrap());
    assert_eq!(code, Some(0), "{printed}{errors}");
    let mut texts = vec![printed, errors];
    for entry in std::fs::read_dir(&report).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        texts.push(String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned());
    }
    assert!(texts.len() > 4 && texts.iter().any(|text| text.contains("hello-certificate")), "{}", texts.len());
    for value in written {
        assert!(!texts.iter().any(|text| text.contains(&value)), "{value}");
    }
}
