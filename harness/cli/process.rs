//! The process: the command line, the executable, and environment variables.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Stdout, Write, stdout};
use std::path::{Path, PathBuf};

use super::advice::{self, Failure};
use super::args::Format;
use crate::report::{Marks, Structured, Wrapped};
use crate::scenario::Sensitive;
use crate::session::Interrupt;

/// The environment variables that change what a run does.
const VARIABLES: [&str; 6] = [
    "SHIFTCHECK_CLUSTER",
    "SHIFTCHECK_ISTIO",
    "SHIFTCHECK_ISTIO_PROFILE",
    "SHIFTCHECK_ISTIOCTL",
    "SHIFTCHECK_NODE_IMAGE",
    "SHIFTCHECK_SNAPSHOTTER",
];

/// The command line of this process with the environment variables that matter, quoted for a shell.
pub(super) fn reproduce() -> String {
    let set = VARIABLES.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    command_line(set, std::env::args())
}

fn command_line<'a>(
    variables: impl Iterator<Item = (&'a str, String)>,
    mut words: impl Iterator<Item = String>,
) -> String {
    let program = words.next().unwrap_or_default();
    let program =
        Path::new(&program).file_name().map_or_else(|| program.clone(), |name| name.to_string_lossy().into_owned());
    let set = variables.map(|(name, value)| format!("{name}={}", quoted(value)));
    set.chain(std::iter::once(program)).chain(words.map(quoted)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: String) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// The path of this executable.
pub(super) fn own_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|error| Failure::environment(format!("cannot find the shiftcheck executable: {error}")))
}

/// Handles signals from now on. A signal more than a second after the first one ends the process at once; `sweep` then has to clean up.
pub(super) fn interrupt() -> Interrupt {
    Interrupt::listen(|signal| {
        let hint = Some("`shiftcheck sweep` removes the remaining objects".to_owned());
        let failure = Failure::environment("stopped before the clean-up finished".to_owned());
        advice::print(&Failure { hint, ..failure });
        signal.exit();
    })
}

/// The standard output: on a terminal coloured, and wrapped at its width.
pub(super) fn output() -> (Wrapped<Stdout>, Marks) {
    let terminal = stdout().is_terminal();
    (Wrapped::fitting(stdout()), Marks { colour: coloured(terminal) })
}

/// When the output of an execution is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// As it comes.
    AtOnce,
    /// At its end, in one piece: others are executed at the same time.
    AtTheEnd,
}

/// As [`output`], printed at this time.
pub(super) fn output_at(when: When) -> (Wrapped<Stream>, Marks) {
    let (out, marks) = output();
    let held = (when == When::AtTheEnd).then(Vec::new);
    (Wrapped::new(Stream(held), out.width()), marks)
}

/// The standard output. What is held back is written when the value is dropped.
#[derive(Debug)]
pub(super) struct Stream(Option<Vec<u8>>);

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Some(held) => held.write(bytes),
            None => stdout().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.0.is_some() { Ok(()) } else { stdout().flush() }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(held) = &self.0 {
            // a closed pipe is not an error
            let _ = stdout().lock().write_all(held);
        }
    }
}

/// Prints a result for programs or for pages, without sensitive values.
///
/// # Errors
/// The output is closed.
pub(super) fn print_structured(result: &impl Structured, format: Format, hidden: &Sensitive) -> io::Result<()> {
    let mut text = Vec::new();
    match format {
        Format::Json => result.json(&mut text)?,
        Format::Text | Format::Markdown => result.markdown(&mut text)?,
    }
    stdout().write_all(hidden.hidden_in(&String::from_utf8_lossy(&text)).as_bytes())
}

/// Whether output has colours: on a terminal, unless `NO_COLOR` is set.
pub(super) fn coloured(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the process runs in CI.
pub(super) fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty())
}

/// Whether the process runs in GitHub Actions.
pub(super) fn in_github() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// Adds Markdown to the summary of the job, where there is one.
pub(super) fn add_summary(markdown: &str) {
    let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else { return };
    let file = OpenOptions::new().create(true).append(true).open(&path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{markdown}")) {
        advice::print(&Failure::environment(format!("cannot write {}: {error}", path.display())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_repeats_the_variables_that_matter() {
        let variables = [("SHIFTCHECK_ISTIO", "1.22".to_owned()), ("SHIFTCHECK_NODE_IMAGE", "my image:1".to_owned())];
        let words = ["/usr/bin/shiftcheck", "run", "fixtures/canary", "--only", "testers' canary"];
        let line = command_line(variables.into_iter(), words.into_iter().map(str::to_owned));
        let expected = r"SHIFTCHECK_ISTIO=1.22 SHIFTCHECK_NODE_IMAGE='my image:1' shiftcheck run fixtures/canary --only 'testers'\'' canary'";
        assert_eq!(line, expected);
    }
}
