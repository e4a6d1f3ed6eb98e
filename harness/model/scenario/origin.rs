use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A position in a file, written as `FILE:LINE:COLUMN`.
///
/// ```
/// use shiftcheck_model::scenario::Origin;
///
/// let origin: Origin = "fixtures/canary/scenario.yaml:48:9".parse()?;
/// assert_eq!((origin.line, origin.column), (48, 9));
/// assert_eq!(origin.to_string(), "fixtures/canary/scenario.yaml:48:9");
/// # Ok::<(), shiftcheck_model::scenario::InvalidOrigin>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin {
    /// The file, as the scenario names it.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
}

/// A text that is not `FILE:LINE:COLUMN`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a position such as scenario.yaml:27:9")]
pub struct InvalidOrigin(String);

impl Origin {
    /// A position in a file; line and column start at 1.
    pub fn new(path: impl Into<PathBuf>, line: u64, column: u64) -> Self {
        Self { path: path.into(), line, column }
    }

    /// The position of a parsed value.
    pub(super) fn of(path: &Path, location: serde_saphyr::Location) -> Self {
        // the parser reports an unknown location as line 0
        Self::new(path, location.line().max(1), location.column().max(1))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

impl std::str::FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // a file name may contain colons
        let mut parts = text.rsplitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let (column, line) = (number(), number());
        let (Some(path), Some(line), Some(column)) = (parts.next().filter(|path| !path.is_empty()), line, column)
        else {
            return Err(InvalidOrigin(text.to_owned()));
        };
        Ok(Self::new(path, line, column))
    }
}

impl TryFrom<String> for Origin {
    type Error = InvalidOrigin;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("scenario.yaml:27:9", Origin::new("scenario.yaml", 27, 9))]
    #[case("C:\\a:b.yaml:1:2", Origin::new("C:\\a:b.yaml", 1, 2))]
    fn an_origin_is_parsed_as_it_is_written(#[case] text: &str, #[case] origin: Origin) {
        assert_eq!(text.parse(), Ok(origin.clone()));
        assert_eq!(origin.to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("scenario.yaml")]
    #[case("scenario.yaml:3")]
    #[case(":3:9")]
    #[case("scenario.yaml:3:x")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert_eq!(text.parse::<Origin>(), Err(InvalidOrigin(text.to_owned())));
    }
}
