//! Texts that a regular expression matches.

use regex::Regex;
use regex_syntax::hir::{Class, Hir, HirKind};

/// The group whose text is given.
const GROUP: &str = "version";

/// A text from which the group `version` of an expression reads `version`; none if none was found.
pub(super) fn text_with(expression: &Regex, version: &str) -> Option<String> {
    let hir = regex_syntax::parse(expression.as_str()).ok()?;
    let reads = |text: &String| {
        let found = expression.captures(text).and_then(|found| found.name(GROUP));
        found.is_some_and(|found| found.as_str() == version)
    };
    // a letter in front of the version may belong to it, and so may a space
    ["x0 ", "0x ", " x0"].iter().find_map(|preferred| {
        let mut text = String::new();
        write(&hir, version, preferred, &mut text)?;
        Some(text).filter(reads)
    })
}

/// Appends the shortest text that `hir` matches, with `version` in the group; none if a class of characters is empty.
fn write(hir: &Hir, version: &str, preferred: &str, text: &mut String) -> Option<()> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => text.push(member(class, preferred)?),
        HirKind::Repetition(repeated) => {
            for _ in 0..repeated.min.max(u32::from(has_group(&repeated.sub))) {
                write(&repeated.sub, version, preferred, text)?;
            }
        }
        HirKind::Capture(capture) if capture.name.as_deref() == Some(GROUP) => text.push_str(version),
        HirKind::Capture(capture) => write(&capture.sub, version, preferred, text)?,
        HirKind::Concat(parts) => {
            for part in parts {
                write(part, version, preferred, text)?;
            }
        }
        HirKind::Alternation(branches) => {
            let branch = branches.iter().find(|branch| has_group(branch)).or_else(|| branches.first())?;
            write(branch, version, preferred, text)?;
        }
    }
    Some(())
}

fn has_group(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Capture(capture) => capture.name.as_deref() == Some(GROUP) || has_group(&capture.sub),
        HirKind::Repetition(repeated) => has_group(&repeated.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().any(has_group),
        HirKind::Empty | HirKind::Look(_) | HirKind::Literal(_) | HirKind::Class(_) => false,
    }
}

/// A character of a class: a preferred one if it has one.
fn member(class: &Class, preferred: &str) -> Option<char> {
    let ranges: Vec<(char, char)> = match class {
        Class::Unicode(class) => class.iter().map(|range| (range.start(), range.end())).collect(),
        Class::Bytes(class) => class.iter().map(|range| (char::from(range.start()), char::from(range.end()))).collect(),
    };
    let has = |letter: &char| ranges.iter().any(|(start, end)| (start..=end).contains(&letter));
    preferred.chars().find(has).or_else(|| ranges.first().map(|(start, _)| *start))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::words("Hello server - (?<version>[^ ]+)", "v2", Some("Hello server - v2"))]
    #[case::json(r#""version":\s*"(?<version>[^"]+)""#, "1.4", Some(r#""version":"1.4""#))]
    #[case::all("(?<version>.+)", "1.4-rc.1", Some("1.4-rc.1"))]
    #[case::anchored(r"^build (?P<version>\S+)$", "1.4", Some("build 1.4"))]
    #[case::in_any_case("(?i)version (?<version>v[0-9]+)", "v12", Some("VERSION v12"))]
    #[case::class_before(r"[a-z]+(?<version>\d+)", "14", Some("x14"))]
    #[case::letters_before(r"\w+\s(?<version>v\d)", "v1", Some("x v1"))]
    #[case::word_boundary(r"\b(?<version>v\d)\b", "v1", Some("v1"))]
    #[case::optional_group("ok( (?<version>v[0-9]))?", "v1", Some("ok v1"))]
    #[case::second_branch("none|version (?<version>v[0-9])", "v1", Some("version v1"))]
    #[case::digits_only(r"(?<version>\d+)", "v1", None)]
    #[case::ended_by_what_the_version_has("(?<version>[a-z0-9]+)-", "v1-fixed", None)]
    fn a_text_states_the_version(#[case] expression: &str, #[case] version: &str, #[case] expected: Option<&str>) {
        assert_eq!(text_with(&Regex::new(expression).unwrap(), version).as_deref(), expected);
    }
}
