use std::borrow::Cow;

/// A position in a text: line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub line: u64,
    pub column: u64,
}

/// The structure of a YAML value, with the position of each key and item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// A scalar, or the value of an alias, whose parts are written elsewhere.
    Scalar,
    Sequence(Vec<(Position, Part)>),
    Mapping(Vec<(String, Position, Part)>),
}

impl Part {
    /// The position of the first part.
    pub fn first(&self) -> Option<Position> {
        match self {
            Self::Scalar => None,
            Self::Sequence(items) => items.first().map(|(at, _)| *at),
            Self::Mapping(entries) => entries.first().map(|(_, at, _)| *at),
        }
    }

    /// The part under a key or an index.
    fn get(&self, name: &str) -> Option<(Position, &Self)> {
        match self {
            Self::Scalar => None,
            Self::Sequence(items) => items.get(name.parse::<usize>().ok()?).map(|(at, part)| (*at, part)),
            Self::Mapping(entries) => entries.iter().find(|(key, ..)| key == name).map(|(_, at, part)| (*at, part)),
        }
    }

    /// The position of the value at a JSON pointer; if it does not exist, that of the innermost value that would contain it.
    pub fn position_of(&self, pointer: &str) -> Option<Position> {
        let (mut found, mut part) = (None, self);
        for name in pointer.split('/').skip(1) {
            let Some((at, next)) = part.get(&unescaped(name)) else { break };
            (found, part) = (Some(at), next);
        }
        found
    }
}

/// A key as a part of a JSON pointer.
pub(crate) fn escaped(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) { key.replace('~', "~0").replace('/', "~1").into() } else { key.into() }
}

/// The key that a part of a JSON pointer stands for.
fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// A JSON pointer in the notation of `kubectl explain`: `spec.http[0].corsPolicy`.
pub(crate) fn field(pointer: &str) -> String {
    let mut field = String::new();
    for part in pointer.split('/').skip(1) {
        let part = unescaped(part);
        if part.parse::<usize>().is_ok() {
            field = format!("{field}[{part}]");
        } else if field.is_empty() {
            field = part;
        } else {
            field = format!("{field}.{part}");
        }
    }
    field
}
