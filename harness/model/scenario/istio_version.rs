use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A version of Istio: a minor version such as `1.31`, a release such as `1.31.2`, or a build such as `1.31.0-dev.eed52`. Builds come before
/// their release, as in semantic versioning.
///
/// ```
/// use shiftcheck_model::scenario::IstioVersion;
///
/// let (old, new): (IstioVersion, IstioVersion) = ("1.9".parse()?, "1.31.2".parse()?);
/// assert!(old < new && new.minor == 31);
/// assert_eq!("latest".parse::<IstioVersion>().unwrap_err().to_string(), "`latest` is not a version, such as 1.31");
/// # Ok::<(), shiftcheck_model::scenario::InvalidVersion>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IstioVersion {
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
    patch: Option<u32>,
    build: Build,
}

/// The part after the numbers. The order of the variants is the order of versions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Build {
    Suffix(String),
    Release,
}

/// A text that is not a version of Istio.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a version, such as 1.31")]
pub struct InvalidVersion(String);

impl IstioVersion {
    /// A minor version.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: None, build: Build::Release }
    }

    /// Whether a release or build such as `1.31.0-dev.eed52` belongs to this version: `1.31` or `1.31.0`.
    pub fn includes(&self, other: &Self) -> bool {
        let (other, version) = (other.to_string(), self.to_string());
        other.strip_prefix(&version).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
    }
}

impl FromStr for IstioVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (numbers, build) = match text.split_once('-') {
            Some((numbers, suffix)) => (numbers, Build::Suffix(suffix.to_owned())),
            None => (text, Build::Release),
        };
        let version = match numbers.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>().as_deref() {
            Ok(&[major, minor]) => Some(Self { major, minor, patch: None, build }),
            Ok(&[major, minor, patch]) => Some(Self { major, minor, patch: Some(patch), build }),
            _ => None,
        };
        // the parser of numbers also takes signs and leading zeros
        version.filter(|version| version.to_string() == text).ok_or_else(|| InvalidVersion(text.to_owned()))
    }
}

impl TryFrom<String> for IstioVersion {
    type Error = InvalidVersion;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<IstioVersion> for String {
    fn from(version: IstioVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for IstioVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patch = self.patch.map(|patch| format!(".{patch}")).unwrap_or_default();
        let suffix = match &self.build {
            Build::Suffix(suffix) => format!("-{suffix}"),
            Build::Release => String::new(),
        };
        formatter.pad(&format!("{}.{}{patch}{suffix}", self.major, self.minor))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn version(text: &str) -> IstioVersion {
        text.parse().unwrap()
    }

    #[test]
    fn a_build_belongs_to_the_version_that_it_starts_with() {
        let includes = |asked: &str, build: &str| version(asked).includes(&version(build));
        assert!(includes("1.31", "1.31.0-dev.eed52ebb66ad"));
        assert!(includes("1.27.3", "1.27.3"));
        assert!(!includes("1.31", "1.310.0"));
        assert!(!includes("1.31", "1.22.0"));
    }

    #[test]
    fn versions_are_ordered_by_their_numbers_and_builds_come_before_their_release() {
        let sorted = ["1.9", "1.31-alpha.eed52", "1.31", "1.31.0-dev.55", "1.31.0", "1.31.1", "1.31.2", "2.0"];
        let mut versions = sorted.map(version);
        versions.reverse();
        versions.sort();
        assert_eq!(versions.map(|version| version.to_string()), sorted);
        assert_eq!(format!("{:<5}|", version("1.9")), "1.9  |");
    }

    #[rstest]
    #[case("latest")]
    #[case("")]
    #[case("1")]
    #[case("1.31.0.1")]
    #[case("1.x")]
    #[case("+1.31")]
    #[case("1.031")]
    #[case("v1.31")]
    fn an_invalid_version_is_quoted(#[case] text: &str) {
        let error = text.parse::<IstioVersion>().unwrap_err().to_string();
        assert_eq!(error, format!("`{text}` is not a version, such as 1.31"));
    }
}
