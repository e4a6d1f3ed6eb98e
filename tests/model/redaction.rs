//! Secrets are in no output.

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
