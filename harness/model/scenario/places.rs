/// A line and a column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub line: u64,
    pub column: u64,
}

/// What a value of a YAML document consists of, with the place of each key and each item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// No parts, or none that are written here.
    Scalar,
    Sequence(Vec<(At, Part)>),
    Mapping(Vec<(String, At, Part)>),
}

impl Part {
    /// Where the first of its parts is.
    pub fn first(&self) -> Option<At> {
        match self {
            Self::Scalar => None,
            Self::Sequence(items) => items.first().map(|(at, _)| *at),
            Self::Mapping(entries) => entries.first().map(|(_, at, _)| *at),
        }
    }

    /// The part under a key or an index.
    fn get(&self, name: &str) -> Option<(At, &Self)> {
        match self {
            Self::Scalar => None,
            Self::Sequence(items) => items.get(name.parse::<usize>().ok()?).map(|(at, part)| (*at, part)),
            Self::Mapping(entries) => entries.iter().find(|(key, ..)| key == name).map(|(_, at, part)| (*at, part)),
        }
    }
}

/// The places of the keys and list items of a YAML document, by JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places(Part);

impl Places {
    /// The places of a value's parts.
    pub const fn new(root: Part) -> Self {
        Self(root)
    }

    /// The document's own parts.
    pub const fn root(&self) -> &Part {
        &self.0
    }

    /// Where the value at a JSON pointer is written, or else the nearest one that contains it.
    pub fn of(&self, pointer: &str) -> Option<At> {
        let (mut found, mut part) = (None, &self.0);
        for name in pointer.split('/').skip(1) {
            let plain = if name.contains('~') {
                name.replace("~1", "/").replace("~0", "~").into()
            } else {
                std::borrow::Cow::from(name)
            };
            let Some((at, next)) = part.get(&plain) else { break };
            (found, part) = (Some(at), next);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use crate::scenario::document::read;

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

    fn place(text: &str, pointer: &str) -> Option<(u64, u64)> {
        read(text).unwrap()[0].places.of(pointer).map(|at| (at.line, at.column))
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
        assert_eq!(place(TEXT, pointer), Some(at));
    }

    #[test]
    fn a_pointer_to_nothing_leads_nowhere() {
        assert_eq!(place(TEXT, "/status/a"), None);
        assert_eq!(place(TEXT, "/spec/hosts/x"), Some((3, 3)));
    }
}
