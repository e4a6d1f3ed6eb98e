use std::fmt::Write as _;

/// The number of lines before the marked line, and after it.
const AROUND: usize = 2;

/// The lines around a position, with a mark below the column and a message, in the format of the parser's excerpts. Lines and columns start
/// at 1.
pub(super) fn excerpt(text: &str, line: u64, column: u64, message: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(index) =
        usize::try_from(line).ok().and_then(|line| line.checked_sub(1)).filter(|line| *line < lines.len())
    else {
        return String::new();
    };
    let (first, last) = (index.saturating_sub(AROUND), (index + AROUND).min(lines.len() - 1));
    let width = (last + 1).to_string().len();
    let mut out = format!("{:width$} |\n", "");
    for (number, line) in lines.iter().enumerate().take(last + 1).skip(first) {
        let _ = writeln!(out, "{:width$} | {line}", number + 1);
        if number == index {
            let before = usize::try_from(column).unwrap_or(1).saturating_sub(1);
            let _ = writeln!(out, "{:width$} | {:before$}^ {}", "", "", message.lines().next().unwrap_or_default());
        }
    }
    let _ = write!(out, "{:width$} |", "");
    out
}

/// The position of a tab in the indentation of a line or one of its neighbours.
pub(super) fn tab(text: &str, line: u64) -> Option<(u64, u64)> {
    let near = (1..).zip(text.lines()).filter(|(number, _)| line.abs_diff(*number) <= 1);
    let mut tabs = near.filter_map(|(number, content)| {
        let indent = &content[..content.len() - content.trim_start().len()];
        Some((number, indent.find('\t')? as u64 + 1))
    });
    tabs.next()
}

/// The message about a tab in the indentation.
pub(super) const TAB: &str = "not YAML: this line is indented with a tab, and YAML allows only spaces";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_marked_between_its_neighbours() {
        let text = "a: 1\nb: 2\nc: {d: 3}\ne: 4\nf: 5\n";
        let drawn = "  |\n1 | a: 1\n2 | b: 2\n3 | c: {d: 3}\n  |     ^ not this\n4 | e: 4\n5 | f: 5\n  |";
        assert_eq!(excerpt(text, 3, 5, "not this"), drawn);
        assert_eq!(excerpt(text, 9, 1, "nowhere"), "");
    }
}
