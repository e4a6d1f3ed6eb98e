use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A place in a file. Written as `FILE:LINE:COLUMN`.
///
/// ```
/// use shiftcheck_model::scenario::Place;
///
/// let place: Place = "fixtures/canary/scenario.yaml:48:9".parse()?;
/// assert_eq!((place.line, place.column), (48, 9));
/// assert_eq!(place.to_string(), "fixtures/canary/scenario.yaml:48:9");
/// # Ok::<(), shiftcheck_model::scenario::InvalidPlace>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    /// The file, as the scenario names it.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
}

/// A text that is not a place.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a place such as scenario.yaml:27:9")]
pub struct InvalidPlace(String);

impl Place {
    /// A place in a file; line and column from 1.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, line: u64, column: u64) -> Self {
        Self { path: path.into(), line, column }
    }

    /// The place of a value that the parser has read.
    pub(super) fn of(path: &Path, location: serde_saphyr::Location) -> Self {
        // a location that the parser does not know is line 0
        Self::new(path, location.line().max(1), location.column().max(1))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

impl std::str::FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // a file name may contain colons
        let mut parts = text.rsplitn(3, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        let (column, line) = (number(), number());
        let (Some(path), Some(line), Some(column)) = (parts.next().filter(|path| !path.is_empty()), line, column)
        else {
            return Err(InvalidPlace(text.to_owned()));
        };
        Ok(Self::new(path, line, column))
    }
}

impl TryFrom<String> for Place {
    type Error = InvalidPlace;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("scenario.yaml:27:9", Place::new("scenario.yaml", 27, 9))]
    #[case("C:\\a:b.yaml:1:2", Place::new("C:\\a:b.yaml", 1, 2))]
    fn a_place_is_read_as_it_is_written(#[case] text: &str, #[case] place: Place) {
        assert_eq!(text.parse(), Ok(place.clone()));
        assert_eq!(place.to_string(), text);
    }

    #[rstest]
    #[case("")]
    #[case("scenario.yaml")]
    #[case("scenario.yaml:3")]
    #[case(":3:9")]
    #[case("scenario.yaml:3:x")]
    fn anything_else_is_refused(#[case] text: &str) {
        assert_eq!(text.parse::<Place>(), Err(InvalidPlace(text.to_owned())));
    }
}
