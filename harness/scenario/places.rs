use std::collections::BTreeMap;

use granit_parser::{Event, Parser};

/// Where the values of a YAML document stand: the line and column of each key and each item of a list, from 1, by JSON pointer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places(BTreeMap<String, (usize, usize)>);

/// A key that a mapping has twice; one of the values would be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub key: String,
    pub line: usize,
    pub column: usize,
    pub first_line: usize,
}

/// A mapping or list that is being read.
enum Frame {
    /// With the pointer of the key whose value comes next.
    Mapping {
        pointer: String,
        key: Option<String>,
    },
    List {
        pointer: String,
        index: usize,
    },
}

impl Places {
    /// Reads a document that begins behind so many lines; what the parser refuses ends the reading, and is told by whoever reads the values.
    pub fn read(text: &str, lines_before: usize) -> Result<Self, Duplicate> {
        let mut places = Self::default();
        let mut frames: Vec<Frame> = Vec::new();
        for next in Parser::new_from_str(text) {
            let Ok((event, span)) = next else { break };
            let (line, column) = (span.start.line() + lines_before, span.start.col() + 1);
            match event {
                Event::Scalar(text, ..) => {
                    if let Some(Frame::Mapping { pointer, key: key @ None }) = frames.last_mut() {
                        let own = format!("{pointer}/{}", escaped(&text));
                        if let Some((first_line, _)) = places.0.insert(own.clone(), (line, column)) {
                            return Err(Duplicate { key: text.into_owned(), line, column, first_line });
                        }
                        *key = Some(own);
                    } else {
                        places.value(&mut frames, (line, column));
                    }
                }
                Event::Alias(_) => {
                    places.value(&mut frames, (line, column));
                }
                Event::MappingStart(..) => {
                    let pointer = places.value(&mut frames, (line, column));
                    frames.push(Frame::Mapping { pointer, key: None });
                }
                Event::SequenceStart(..) => {
                    let pointer = places.value(&mut frames, (line, column));
                    frames.push(Frame::List { pointer, index: 0 });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    frames.pop();
                }
                _ => {}
            }
        }
        Ok(places)
    }

    /// A value begins: its pointer.
    fn value(&mut self, frames: &mut [Frame], at: (usize, usize)) -> String {
        match frames.last_mut() {
            None => String::new(),
            Some(Frame::Mapping { key, pointer }) => key.take().unwrap_or_else(|| pointer.clone()),
            Some(Frame::List { pointer, index }) => {
                let own = format!("{pointer}/{index}");
                *index += 1;
                self.0.insert(own.clone(), at);
                own
            }
        }
    }

    /// Where the value of a pointer stands, or else the nearest that it lies in.
    pub fn of(&self, pointer: &str) -> Option<(usize, usize)> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.0.get(pointer) {
                return Some(*place);
            }
            pointer = &pointer[..pointer.rfind('/')?];
        }
    }
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

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
";

    #[rstest]
    #[case("/spec", (2, 1))]
    #[case("/spec/hosts/1", (3, 14))]
    #[case("/spec/http/0", (5, 7))]
    #[case("/spec/http/0/match/0/headers/end-user/exact", (6, 32))]
    #[case("/spec/http/0/route/0/weight", (9, 11))]
    #[case::nearest("/spec/http/0/route/0/destination/subset", (8, 11))]
    #[case::escaped("/spec/labels/a~1b", (10, 12))]
    fn a_pointer_leads_to_line_and_column(#[case] pointer: &str, #[case] place: (usize, usize)) {
        assert_eq!(Places::read(TEXT, 0).unwrap().of(pointer), Some(place));
    }

    #[test]
    fn a_pointer_to_nothing_leads_nowhere() {
        assert_eq!(Places::read(TEXT, 0).unwrap().of("/status/a"), None);
        assert_eq!(Places::read("[", 0).unwrap().of("/spec"), None);
    }

    #[test]
    fn a_key_that_is_there_twice_is_found() {
        let duplicate = Places::read("spec:\n  a: 1\n  b: {c: 1}\n  a: 2\n", 3).unwrap_err();
        assert_eq!(duplicate, Duplicate { key: "a".to_owned(), line: 7, column: 3, first_line: 5 });
    }
}
