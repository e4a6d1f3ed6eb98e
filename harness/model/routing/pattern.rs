use std::fmt;
use std::sync::OnceLock;

use regex::Regex;

/// A regular expression in the syntax of RE2, which Envoy uses, compiled on first use. Two are equal if their texts are.
#[derive(Clone)]
pub struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// An expression, which may be invalid: an invalid one matches nothing.
    pub fn new(text: &str) -> Self {
        Self { text: text.to_owned(), compiled: OnceLock::new() }
    }

    /// The text of the expression.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Why the expression is invalid; none if it is valid.
    pub fn error(text: &str) -> Option<String> {
        let error = Regex::new(&translated(text)).err()?;
        // the last line of the regex crate's message is the reason; the lines before it show the position
        Some(error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| Regex::new(&format!("^(?:{})$", translated(&self.text))).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }

    /// Replaces every match in a text; `\1` in the substitution refers to a group.
    pub(super) fn replace_all(&self, text: &str, substitution: &str) -> String {
        let Ok(regex) = Regex::new(&translated(&self.text)) else { return text.to_owned() };
        let mut template = String::new();
        let mut characters = substitution.chars();
        while let Some(character) = characters.next() {
            match character {
                '$' => template.push_str("$$"),
                '\\' => match characters.next() {
                    Some(digit) if digit.is_ascii_digit() => {
                        template.push_str("${");
                        template.push(digit);
                        template.push('}');
                    }
                    Some(other) => template.push(other),
                    None => {}
                },
                other => template.push(other),
            }
        }
        regex.replace_all(text, template).into_owned()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, formatter)
    }
}

/// An expression in RE2's syntax, in the syntax of the crate `regex`. The two differ in quotation (`\Q…\E`), in braces that are no
/// repetition, in `\<` and `\>`, in the operators within a class, and in the classes `\d`, `\s` and `\w`, which RE2 limits to ASCII.
fn translated(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_class = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (read, written) = if first == '\\' { escape(rest, in_class) } else { symbol(rest, &mut in_class) };
        out.push_str(&written);
        rest = &rest[read..];
    }
    out
}

/// The length of the escape sequence at the start of a text, and its translation.
fn escape(text: &str, in_class: bool) -> (usize, String) {
    let Some(escaped) = text[1..].chars().next() else { return (1, text.to_owned()) };
    let read = 1 + escaped.len_utf8();
    let written = match escaped {
        'Q' if !in_class => {
            let quoted = text[2..].split("\\E").next().unwrap_or_default();
            let end = if text[2..].len() > quoted.len() { 2 } else { 0 };
            return (read + quoted.len() + end, regex::escape(quoted));
        }
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => r"[\t\n\f\r ]",
        'S' => r"[^\t\n\f\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'b' if !in_class => r"(?-u:\b)",
        '<' | '>' => &text[1..read],
        _ => &text[..read],
    };
    (read, written.to_owned())
}

/// The length of the symbol at the start of a text, and its translation.
fn symbol(text: &str, in_class: &mut bool) -> (usize, String) {
    let first = &text[..text.chars().next().map_or(0, char::len_utf8)];
    let read = match (first, *in_class) {
        ("[", false) => {
            *in_class = true;
            // a bracket that comes first is a member of the class
            let start = if text.starts_with("[^") { 2 } else { 1 };
            let bracket = text[start..].starts_with(']');
            let written = format!("{}{}", &text[..start], if bracket { r"\]" } else { "" });
            return (start + usize::from(bracket), written);
        }
        ("[", true) => text.strip_prefix("[:").and_then(|name| name.find(":]")).map(|length| length + 4),
        ("]", true) => {
            *in_class = false;
            Some(1)
        }
        ("-", true) if text.starts_with("--") => return (2, r"-\-".to_owned()),
        ("&" | "~", true) | ("}", false) => None,
        ("{", false) => repetition(text),
        _ => Some(first.len()),
    };
    read.map_or_else(|| (first.len(), format!(r"\{first}")), |read| (read, text[..read].to_owned()))
}

/// The length of the repetition at the start of a text: `{2}`, `{2,}` or `{2,3}`; none if the brace stands for itself.
fn repetition(text: &str) -> Option<usize> {
    let end = text.find('}')?;
    let (least, most) = text[1..end].split_once(',').unwrap_or((&text[1..end], ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && is_number(least) && is_number(most)).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::braces_that_are_no_repetition("/users/{id}", "/users/{id}", true)]
    #[case::a_repetition("/v[0-9]{1,2}", "/v12", true)]
    #[case::a_repetition_without_a_minimum_is_literal("a{,2}", "aa", false)]
    #[case::braces_in_a_class("[{}]+", "{}", true)]
    #[case::quoted(r"\Q/a.b\E.*", "/a.b/c", true)]
    #[case::quoted_to_the_end(r"\Q/a.b", "/axb", false)]
    #[case::angle_brackets(r"\<id\>", "<id>", true)]
    #[case::a_bracket_within_a_class("[[a]+", "[a[", true)]
    #[case::a_bracket_that_comes_first("[]a]+", "a]", true)]
    #[case::a_bracket_that_comes_first_in_a_complement("[^]a]", "]", false)]
    #[case::no_intersection("[a&&b]+", "a&b", true)]
    #[case::no_difference("[+--]+", ",", true)]
    #[case::no_symmetric_difference("[a~~b]+", "~", true)]
    #[case::a_posix_class("[[:alpha:]]+", "abc", true)]
    #[case::digits_are_ascii(r"\d", "٣", false)]
    #[case::words_are_ascii(r"[\w-]+", "a-1", true)]
    #[case::words_are_ascii_too(r"\w", "é", false)]
    #[case::boundaries(r".*\bv2\b.*", "a v2 b", true)]
    fn expressions_have_the_meaning_that_re2_gives_them(#[case] pattern: &str, #[case] text: &str, #[case] met: bool) {
        assert_eq!(Pattern::error(pattern), None);
        assert_eq!(Pattern::new(pattern).matches(text), met);
    }

    #[test]
    fn replacements_name_groups_with_a_backslash() {
        assert_eq!(Pattern::new("^/api/(v[0-9])/").replace_all("/api/v1/x", r"/\1/$"), "/v1/$x");
    }

    #[test]
    fn a_wrong_expression_is_explained() {
        assert_eq!(Pattern::error("a(b").as_deref(), Some("unclosed group"));
        assert_eq!(Pattern::error("a|b"), None);
    }
}
