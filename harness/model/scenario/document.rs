use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};
use serde_json::{Map, Value};

use super::excerpt::{TAB, tab};
use super::positions::{Part, Position};
use super::scalar::{Scalar, resolve};

/// The largest number of values that aliases and merge keys may add to a file.
const MOST_COPIED: usize = 100_000;

/// A document of a YAML file, interpreted as `kubectl` does.
#[derive(Debug)]
pub(super) struct Document {
    /// The value.
    pub value: Value,
    /// The position of the value.
    pub start: Position,
    /// The positions of the parts of the value.
    pub part: Part,
}

/// Why a file cannot be parsed, with the position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub at: Position,
    pub message: String,
}

/// Parses the documents of a file. Empty documents are skipped.
///
/// Plain values and merge keys are interpreted as `kubectl` does, which is YAML 1.1 in the dialect of `sigs.k8s.io/yaml`: `yes` and `on` are
/// `true`, `010` and `0o10` are 8, `1:30` is a string. What `kubectl` would silently drop or overwrite is rejected.
///
/// # Errors
/// The text is not YAML, sets a key twice, or contains a value without an equivalent in JSON.
pub(super) fn read(text: &str) -> Result<Vec<Document>, Refused> {
    read_documents(text).map_err(|refused| match tab(text, refused.at.line) {
        Some((line, column)) if refused.message.starts_with("not YAML") => {
            Refused { at: Position { line, column }, message: TAB.to_owned() }
        }
        _ => refused,
    })
}

fn read_documents(text: &str) -> Result<Vec<Document>, Refused> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut reader =
        Reader { events: Parser::new_from_str_with_options(text, options), anchors: HashMap::new(), copied: 0 };
    let mut documents = Vec::new();
    while let Some((event, span)) = reader.next()? {
        match event {
            Event::DocumentStart(..) => reader.anchors.clear(),
            Event::StreamStart | Event::DocumentEnd => {}
            Event::StreamEnd => break,
            event => {
                let start = at(&span);
                let node = reader.node(event, &span)?;
                if !node.value.is_null() {
                    // the first key of a mapping, not a `{` before it
                    let start = node.part.first().unwrap_or(start);
                    documents.push(Document { value: node.value, start, part: node.part });
                }
            }
        }
    }
    Ok(documents)
}

/// A value with the positions of its parts.
#[derive(Debug, Clone)]
struct Node {
    value: Value,
    part: Part,
    /// The number of values, including this one.
    size: usize,
}

/// A mapping, while it is parsed.
#[derive(Default)]
struct Entries {
    values: Map<String, Value>,
    parts: Vec<(String, Position, Part)>,
    /// The keys from merge keys, which an explicit key overrides.
    merged: HashSet<String>,
}

impl Entries {
    /// The line of an explicit key. Looked for only where a key occurs twice.
    fn line_of(&self, key: &str) -> u64 {
        self.parts.iter().find(|(known, ..)| known == key).map_or(0, |(_, at, _)| at.line)
    }
}

struct Reader<E> {
    events: E,
    anchors: HashMap<usize, Node>,
    copied: usize,
}

impl<'i, E: Iterator<Item = Result<(Event<'i>, Span), ScanError>>> Reader<E> {
    fn next(&mut self) -> Result<Option<(Event<'i>, Span)>, Refused> {
        self.events.next().transpose().map_err(|error| {
            let mark = error.marker();
            let message = format!("not YAML: {}", error.info());
            Refused { at: Position { line: mark.line() as u64, column: mark.col() as u64 + 1 }, message }
        })
    }

    fn expected(&mut self, within: Position) -> Result<(Event<'i>, Span), Refused> {
        self.next()?.ok_or_else(|| Refused { at: within, message: "not YAML: the file ends within a value".to_owned() })
    }

    /// Parses the value that starts with an event.
    fn node(&mut self, event: Event<'i>, span: &Span) -> Result<Node, Refused> {
        let start = at(span);
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = resolve(&text, style == ScalarStyle::Plain, tag.as_deref())
                    .map_err(|message| Refused { at: start, message })?;
                let value = scalar.value().map_err(|message| Refused { at: start, message })?;
                (anchor, Node { value, part: Part::Scalar, size: 1 })
            }
            Event::SequenceStart(_, anchor, tag) => {
                only_tagged(tag.as_deref(), "seq", start)?;
                (anchor, self.sequence(start)?)
            }
            Event::MappingStart(_, anchor, tag) => {
                only_tagged(tag.as_deref(), "map", start)?;
                (anchor, self.mapping(start)?)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Refused { at: start, message: "this alias is part of what it stands for".to_owned() });
                };
                self.copied += node.size;
                if self.copied > MOST_COPIED {
                    let message = format!("aliases add more than {MOST_COPIED} values to this file");
                    return Err(Refused { at: start, message });
                }
                // the parts are written at the anchor
                (0, Node { part: Part::Scalar, ..node })
            }
            _ => return Err(Refused { at: start, message: "not YAML: a value is expected here".to_owned() }),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, start: Position) -> Result<Node, Refused> {
        let (mut items, mut parts, mut size) = (Vec::new(), Vec::new(), 1);
        loop {
            let (event, span) = self.expected(start)?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Node { value: Value::Array(items), part: Part::Sequence(parts), size });
            }
            let node = self.node(event, &span)?;
            parts.push((at(&span), node.part));
            items.push(node.value);
            size += node.size;
        }
    }

    fn mapping(&mut self, start: Position) -> Result<Node, Refused> {
        let (mut entries, mut size) = (Entries::default(), 1);
        let mut merged: Option<Position> = None;
        loop {
            let (event, span) = self.expected(start)?;
            let key_at = at(&span);
            let (text, plain, tag) = match event {
                Event::MappingEnd => {
                    return Ok(Node { value: Value::Object(entries.values), part: Part::Mapping(entries.parts), size });
                }
                Event::Scalar(text, style, anchor, tag) => {
                    if anchor != 0 {
                        let node = Node { value: Value::String(text.to_string()), part: Part::Scalar, size: 1 };
                        self.anchors.insert(anchor, node);
                    }
                    (text, style == ScalarStyle::Plain, tag)
                }
                _ => {
                    let message = "a key is a text here, not a mapping, a list or an alias".to_owned();
                    return Err(Refused { at: key_at, message });
                }
            };
            if plain && tag.is_none() && text == "<<" {
                if let Some(first) = merged.replace(key_at) {
                    let message =
                        format!("`<<` is already set in line {}; merge several mappings as `<<: [*a, *b]`", first.line);
                    return Err(Refused { at: key_at, message });
                }
                size += self.merge(key_at, &mut entries)?;
                continue;
            }
            let key = resolve(&text, plain, tag.as_deref())
                .and_then(Scalar::key)
                .map_err(|message| Refused { at: key_at, message })?;
            if entries.merged.remove(&key) {
                entries.parts.retain(|(merged, ..)| *merged != key);
            } else if entries.values.contains_key(&key) {
                let message = format!("the key `{key}` is already set in line {}", entries.line_of(&key));
                return Err(Refused { at: key_at, message });
            }
            let (event, span) = self.expected(key_at)?;
            let node = self.node(event, &span)?;
            size += node.size;
            entries.parts.push((key.clone(), key_at, node.part));
            entries.values.insert(key, node.value);
        }
    }

    /// Merges the keys of another mapping, or of several, of which earlier ones take precedence. Returns the number of merged values.
    fn merge(&mut self, merge_at: Position, entries: &mut Entries) -> Result<usize, Refused> {
        let refused = |message: String| Err(Refused { at: merge_at, message });
        let (event, span) = self.expected(merge_at)?;
        let node = self.node(event, &span)?;
        let sources = match node.value {
            Value::Array(items) => items,
            one => vec![one],
        };
        for source in sources {
            let Value::Object(source) = source else {
                return refused("`<<` merges a mapping or a list of mappings".to_owned());
            };
            for (key, value) in source {
                if entries.merged.contains(&key) {
                    continue;
                }
                if entries.values.contains_key(&key) {
                    return refused(format!(
                        "`<<` sets the key `{key}` again, which line {} sets, and `kubectl` takes the later one; write `<<` first",
                        entries.line_of(&key)
                    ));
                }
                entries.parts.push((key.clone(), merge_at, Part::Scalar));
                entries.merged.insert(key.clone());
                entries.values.insert(key, value);
            }
        }
        Ok(node.size)
    }
}

fn at(span: &Span) -> Position {
    Position { line: span.start.line() as u64, column: span.start.col() as u64 + 1 }
}

/// Accepts a tag only if it names the actual kind of the collection.
fn only_tagged(tag: Option<&Tag>, suffix: &str, start: Position) -> Result<(), Refused> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema_tag(suffix) => {
            let message = format!("the tag `{}{}` has no counterpart in JSON", tag.original_handle(), tag.suffix());
            Err(Refused { at: start, message })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn values(text: &str) -> Result<Vec<Value>, (u64, u64, String)> {
        let documents = read(text).map_err(|refused| (refused.at.line, refused.at.column, refused.message))?;
        Ok(documents.into_iter().map(|document| document.value).collect())
    }

    #[rstest]
    #[case::on_the_line_of_the_separator("a: 1\n--- {a: 2}\n--- # words\na: 3\n", json!([{"a": 1}, {"a": 2}, {"a": 3}]))]
    #[case::empty_ones("---\n---\n# words\n---\na: 1\n...\n---\n", json!([{"a": 1}]))]
    #[case::windows("---\r\na: 1\r\n---\r\na: 2\r\n", json!([{"a": 1}, {"a": 2}]))]
    #[case::dashes_in_a_text("a: |\n  x\n  ---\n  y\n", json!([{"a": "x\n---\ny\n"}]))]
    #[case::alias("a: &k {b: [1, yes]}\nc: *k\n", json!([{"a": {"b": [1, true]}, "c": {"b": [1, true]}}]))]
    #[case::alias_of_a_key("{&k a: 1, b: *k}", json!([{"a": 1, "b": "a"}]))]
    #[case::merge("{a: &x {b: 1}, c: {<<: *x, d: 2}}", json!([{"a": {"b": 1}, "c": {"b": 1, "d": 2}}]))]
    #[case::merge_overridden("{a: &x {b: 1}, c: {<<: *x, b: 2}}", json!([{"a": {"b": 1}, "c": {"b": 2}}]))]
    #[case::merge_of_several("{a: &x {b: 1}, e: &z {b: 2, c: 3}, c: {<<: [*x, *z]}}", json!([{"a": {"b": 1}, "e": {"b": 2, "c": 3}, "c": {"b": 1, "c": 3}}]))]
    #[case::merge_key_in_quotes("{'<<': 1}", json!([{"<<": 1}]))]
    #[case::tags("{a: !!str yes, b: !!int '3', c: !!float 1, d: !!map {}, e: !!seq []}", json!([{"a": "yes", "b": 3, "c": 1, "d": {}, "e": []}]))]
    #[case::keys("{on: 1, 0o10: 2}", json!([{"true": 1, "8": 2}]))]
    fn documents_are_read_as_kubectl_reads_them(#[case] text: &str, #[case] expected: Value) {
        assert_eq!(values(text).map(Value::from), Ok(expected));
    }

    #[rstest]
    #[case::key_twice("a: 1\nb: 2\na: 3\n", (3, 1), "the key `a` is already set in line 1")]
    #[case::same_key("on: 1\n'true': 2\n", (2, 1), "the key `true` is already set in line 1")]
    #[case::merge_after_the_key("{a: &x {b: 1}, c: {b: 2, <<: *x}}", (1, 26), "`<<` sets the key `b` again")]
    #[case::merge_twice("{a: &x {b: 1}, c: {<<: *x, <<: *x}}", (1, 28), "`<<` is already set in line 1")]
    #[case::merge_of_a_text("{<<: a}", (1, 2), "`<<` merges a mapping")]
    #[case::tag("a: !!binary aGk=", (1, 13), "the tag `!!binary` has no counterpart in JSON")]
    #[case::tag_that_does_not_fit("a: !!int x", (1, 10), "`x` does not fit the tag `!!int`")]
    #[case::infinity("a: .inf", (1, 4), "JSON has numbers neither")]
    #[case::no_key("~: a", (1, 1), "a key is missing here")]
    #[case::mapping_as_key("{{a: 1}: 2}", (1, 2), "a key is a text here")]
    #[case::syntax("a: 1\nb: [\n", (2, 4), "not YAML: ")]
    fn what_kubectl_would_drop_or_refuse_is_refused_with_its_place(
        #[case] text: &str,
        #[case] at: (u64, u64),
        #[case] message: &str,
    ) {
        let (line, column, found) = values(text).unwrap_err();
        assert!(found.starts_with(message), "{found}");
        assert_eq!((line, column), at, "{found}");
    }

    #[test]
    fn aliases_of_aliases_do_not_fill_the_memory() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            let _ = writeln!(text, "a{level}: &a{level} [{below}]");
        }
        let (_, _, message) = values(&text).unwrap_err();
        assert_eq!(message, "aliases add more than 100000 values to this file");
    }

    /// As `draft` writes the objects of a cluster.
    #[test]
    fn texts_that_are_written_are_read_as_they_were() {
        let texts = [
            "on",
            "y",
            "No",
            "OFF",
            "010",
            "08",
            "0o7",
            "0b1",
            "1_000",
            "1:30",
            "~",
            "",
            "<<",
            ".5",
            "-.5",
            "2001-01-01",
            "a: b",
            "- x",
            "# x",
            "two\nlines\n",
            " x ",
            "true",
            "1e3",
            "0x1f",
            ".inf",
            "=",
            "!x",
            "&a",
            "*a",
            "%",
            "null",
            "{",
            "'",
            "\"",
            "1.",
            "+1",
        ];
        for text in texts {
            let value = json!({"a": text, "b": [text], "c": {text: 1}});
            let written = serde_saphyr::to_string(&value).unwrap();
            assert_eq!(values(&written), Ok(vec![value]), "{text:?} is written as\n{written}");
        }
    }

    const TEXT: &str = "\
# a rule
spec:
  hosts: [a, b]
  http:
    - match:
        - headers: {end-user: {exact: testers}}
      route:
        - destination: {host: svc}
          weight: 50
  labels: {a/b: c}
common: &common
  app: x
metadata:
  labels: *common
";

    fn position(text: &str, pointer: &str) -> Option<(u64, u64)> {
        read(text).unwrap()[0].part.position_of(pointer).map(|at| (at.line, at.column))
    }

    #[rstest]
    #[case("/spec", (2, 1))]
    #[case("/spec/hosts/1", (3, 14))]
    #[case("/spec/http/0", (5, 7))]
    #[case("/spec/http/0/match/0/headers/end-user/exact", (6, 32))]
    #[case("/spec/http/0/route/0/weight", (9, 11))]
    #[case::nearest("/spec/http/0/route/0/destination/subset", (8, 11))]
    #[case::escaped("/spec/labels/a~1b", (10, 12))]
    #[case::key_of_an_alias("/metadata/labels/app", (14, 3))]
    fn a_pointer_leads_to_line_and_column(#[case] pointer: &str, #[case] at: (u64, u64)) {
        assert_eq!(position(TEXT, pointer), Some(at));
    }

    #[test]
    fn a_pointer_to_nothing_leads_nowhere() {
        assert_eq!(position(TEXT, "/status/a"), None);
        assert_eq!(position(TEXT, "/spec/hosts/x"), Some((3, 3)));
    }
}
