use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use regex::Regex;
use textwrap::{Options, WordSeparator, WordSplitter, core::display_width};

use crate::scenario::Sensitive;

/// The additional indentation of a line that continues another one.
const HANGING: usize = 4;
/// A number with its unit, which stays on one line.
static UNIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(\d) (%|(?:ms|s)\b)").ok());

/// The escape sequences of [`Marks`](super::Marks).
static COLOUR: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\x1b\[[0-9;]*m").ok());

/// Wraps lines at the width of a terminal, between words only. Control characters and commands to a CI system, which may come from a response
/// or a manifest, are written in a form that nothing obeys.
#[derive(Debug)]
pub struct Wrapped<W> {
    out: W,
    width: Option<usize>,
    /// The bytes after the last line feed.
    line: Vec<u8>,
    hidden: Sensitive,
}

impl<W: Write> Wrapped<W> {
    /// Wraps lines at `width` columns; none for output that is not on a terminal, where lines stay whole.
    pub fn new(out: W, width: Option<usize>) -> Self {
        Self { out, width, line: Vec::new(), hidden: Sensitive::default() }
    }

    /// Shows `(redacted)` in place of these values from now on.
    pub fn hide(&mut self, sensitive: Sensitive) {
        self.hidden = sensitive;
    }

    /// Wraps lines at the width of the terminal, if `out` is on one.
    pub fn fitting(out: W) -> Self
    where
        W: IsTerminal,
    {
        let width = out.is_terminal().then(textwrap::termwidth);
        Self::new(out, width)
    }

    /// The width at which lines are wrapped.
    pub const fn width(&self) -> Option<usize> {
        self.width
    }

    /// Writes a line that stays whole, such as a command that is copied.
    ///
    /// # Errors
    /// The output is closed.
    pub fn verbatim(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}", harmless(&self.hidden.hidden_in(line)))
    }

    /// Writes an annotation, which is a command to the CI system. Its texts are escaped.
    ///
    /// # Errors
    /// The output is closed.
    pub fn annotation(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{}", self.hidden.hidden_in(line))
    }
}

impl<W: Write> Write for Wrapped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|byte| *byte == b'\n') {
            let complete: Vec<u8> = self.line.drain(..=end).collect();
            for line in String::from_utf8_lossy(&complete).lines() {
                let line = harmless(&self.hidden.hidden_in(line));
                match self.width {
                    Some(width) => writeln!(self.out, "{}", wrapped(&line, width))?,
                    None => writeln!(self.out, "{line}")?,
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.line);
        self.out.write_all(harmless(&self.hidden.hidden_in(&String::from_utf8_lossy(&rest))).as_bytes())?;
        self.out.flush()
    }
}

/// A line without control characters, except colours, and without commands to a CI system: those of GitHub begin a line with `::`, or are
/// `##[` anywhere.
fn harmless(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(next) = rest.chars().next() {
        if let Some(colour) = COLOUR.as_ref().and_then(|colour| colour.find(rest)) {
            text.push_str(colour.as_str());
            rest = &rest[colour.end()..];
            continue;
        }
        if next.is_control() && next != '\t' || matches!(next, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            text.extend(next.escape_default());
        } else {
            text.push(next);
        }
        rest = &rest[next.len_utf8()..];
    }
    let text = text.replace("##[", r"#\#[");
    match text.trim_start().strip_prefix("::") {
        Some(command) => format!(r"\::{command}"),
        None => text,
    }
}

/// A line in lines of at most `width` columns, unless a word is longer.
fn wrapped(line: &str, width: usize) -> String {
    if display_width(line) <= width {
        return line.to_owned();
    }
    let text = line.trim_start();
    let indent = " ".repeat(line.len() - text.len());
    let hanging = format!("{indent}{}", " ".repeat(HANGING));
    let options = Options::new(width)
        .initial_indent(&indent)
        .subsequent_indent(&hanging)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    let kept = UNIT.as_ref().map_or(text.into(), |unit| unit.replace_all(text, "$1\u{a0}$2"));
    textwrap::fill(&kept, options).replace('\u{a0}', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str, width: Option<usize>) -> String {
        let mut out = Vec::new();
        write!(Wrapped::new(&mut out, width), "{text}").unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_wrapped_between_words_and_numbers_keep_their_units() {
        let text = "   ✗ testers at /error: v1 50 %, v2 50 % — v1 served 100.0 %\nshort\n";
        assert_eq!(
            printed(text, Some(30)),
            "   ✗ testers at /error: v1\n       50 %, v2 50 % — v1\n       served 100.0 %\nshort\n"
        );
        assert_eq!(printed(text, None), text);
    }

    #[test]
    fn a_word_that_is_longer_than_the_line_stays_whole() {
        let path = "claimed in fixtures/canary-pinned-selector/scenario.yaml:27:9\n";
        assert_eq!(printed(path, Some(20)), "claimed in\n    fixtures/canary-pinned-selector/scenario.yaml:27:9\n");
    }

    #[rstest::rstest]
    #[case::clears_the_screen("v1\x1b[2J\n", "v1\\u{1b}[2J\n")]
    #[case::sets_the_title("\x1b]0;x\x07\n", "\\u{1b}]0;x\\u{7}\n")]
    #[case::overwrites_the_line("FAIL\rok\n", "FAIL\\rok\n")]
    #[case::reverses_the_text("a\u{202e}b\n", "a\\u{202e}b\n")]
    #[case::a_command_of_github("a\n  ::add-mask::b\n", "a\n\\::add-mask::b\n")]
    #[case::an_old_command_of_github("a ##[error]b\n", "a #\\#[error]b\n")]
    #[case::colours_stay("\x1b[1;31mFAIL\x1b[0m at a::b\n", "\x1b[1;31mFAIL\x1b[0m at a::b\n")]
    fn nothing_that_is_printed_is_obeyed(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(printed(text, None), expected);
        assert_eq!(printed(text, Some(60)), expected);
    }

    #[test]
    fn colours_take_no_columns_and_commands_stay_whole() {
        let text = "\x1b[32mok\x1b[0m twelve chars\n";
        assert_eq!(printed(text, Some(15)), text);
        let mut out = Vec::new();
        Wrapped::new(&mut out, Some(10)).verbatim("  kubectl get pods").unwrap();
        assert_eq!(out, b"  kubectl get pods\n");
    }
}
