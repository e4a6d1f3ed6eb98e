use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;

use regex::Regex;
use textwrap::{Options, WordSeparator, WordSplitter, core::display_width};

/// The additional indentation of a line that continues another one.
const HANGING: usize = 4;
/// A number with its unit, which stays on one line.
static UNIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(\d) (%|(?:ms|s)\b)").ok());

/// Wraps lines at the width of a terminal, between words only.
#[derive(Debug)]
pub struct Wrapped<W> {
    out: W,
    width: Option<usize>,
    /// The bytes after the last line feed.
    line: Vec<u8>,
}

impl<W: Write> Wrapped<W> {
    /// Wraps lines at `width` columns; none for output that is not on a terminal, where lines stay whole.
    pub const fn new(out: W, width: Option<usize>) -> Self {
        Self { out, width, line: Vec::new() }
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
        writeln!(self.out, "{line}")
    }
}

impl<W: Write> Write for Wrapped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(width) = self.width else { return self.out.write(bytes) };
        self.line.extend_from_slice(bytes);
        if let Some(end) = self.line.iter().rposition(|byte| *byte == b'\n') {
            let complete: Vec<u8> = self.line.drain(..=end).collect();
            for line in String::from_utf8_lossy(&complete).lines() {
                writeln!(self.out, "{}", wrapped(line, width))?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
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

    #[test]
    fn colours_take_no_columns_and_commands_stay_whole() {
        let text = "\x1b[32mok\x1b[0m twelve chars\n";
        assert_eq!(printed(text, Some(15)), text);
        let mut out = Vec::new();
        Wrapped::new(&mut out, Some(10)).verbatim("  kubectl get pods").unwrap();
        assert_eq!(out, b"  kubectl get pods\n");
    }
}
