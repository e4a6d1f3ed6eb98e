use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

/// A share of traffic, from 0 to 1. Written as a percentage: `50%`, `12.5%`.
///
/// ```
/// use shiftcheck_model::scenario::Share;
///
/// let half: Share = "50%".parse()?;
/// assert_eq!(half.fraction(), 0.5);
/// assert!("150%".parse::<Share>().is_err());
/// # Ok::<(), shiftcheck_model::scenario::InvalidShare>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, JsonSchema)]
#[schemars(
    description = "A share of traffic, from 0% to 100%.",
    extend("examples" = ["50%", "12.5%"], "pattern" = r"^\s*[0-9]+(\.[0-9]+)?\s*%\s*$"),
)]
pub struct Share(#[schemars(with = "String")] f64);

/// Why a text or a number is not a share.
#[derive(Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum InvalidShare {
    /// Not a number followed by `%`.
    #[error("`{0}` is not a percentage such as 50%")]
    NotAPercentage(String),
    /// Below 0 % or above 100 %.
    #[error("`{0}` is not between 0% and 100%")]
    OutOfRange(String),
}

impl Share {
    /// No traffic.
    pub const NONE: Self = Self(0.0);
    /// 1 %.
    pub const ONE_PERCENT: Self = Self(0.01);
    /// All traffic.
    pub const ALL: Self = Self(1.0);

    /// A share from a fraction.
    ///
    /// # Errors
    /// The fraction is not between 0 and 1.
    pub fn from_fraction(fraction: f64) -> Result<Self, InvalidShare> {
        if (0.0..=1.0).contains(&fraction) {
            Ok(Self(fraction))
        } else {
            Err(InvalidShare::OutOfRange(format!("{}%", fraction * 100.0)))
        }
    }

    /// The share of all others.
    #[must_use]
    pub fn rest(self) -> Self {
        Self(1.0 - self.0)
    }

    /// Whether it is this percentage.
    pub fn is_percent(self, percent: u32) -> bool {
        (self.0 - f64::from(percent) / 100.0).abs() < 1e-9
    }

    /// The share as a fraction of 1.
    pub const fn fraction(self) -> f64 {
        self.0
    }

    /// Whether the share is 100 %.
    pub fn is_all(self) -> bool {
        self.0 >= 1.0
    }

    /// Whether the share is between 0 % and 100 %, both excluded.
    pub fn is_part(self) -> bool {
        !self.is_none() && !self.is_all()
    }

    /// Whether the share is 0 %.
    pub fn is_none(self) -> bool {
        self.0 <= 0.0
    }
}

impl std::str::FromStr for Share {
    type Err = InvalidShare;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let percent: f64 = text
            .trim()
            .strip_suffix('%')
            .and_then(|number| number.trim().parse().ok())
            .ok_or_else(|| InvalidShare::NotAPercentage(text.to_owned()))?;
        Self::from_fraction(percent / 100.0).map_err(|_| InvalidShare::OutOfRange(text.to_owned()))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // rounded, so that 0.1 + 0.2 is 30 %
        write!(formatter, "{} %", (self.0 * 1e6).round() / 1e4)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0%", 0.0)]
    #[case("50%", 0.5)]
    #[case(" 12.5 % ", 0.125)]
    #[case("100%", 1.0)]
    fn percentages_are_read(#[case] text: &str, #[case] fraction: f64) {
        assert_eq!(text.parse::<Share>(), Ok(Share(fraction)));
    }

    #[rstest]
    #[case("50", InvalidShare::NotAPercentage("50".to_owned()))]
    #[case("half", InvalidShare::NotAPercentage("half".to_owned()))]
    #[case("-1%", InvalidShare::OutOfRange("-1%".to_owned()))]
    #[case("100.1%", InvalidShare::OutOfRange("100.1%".to_owned()))]
    #[case("NaN%", InvalidShare::OutOfRange("NaN%".to_owned()))]
    fn anything_else_is_refused(#[case] text: &str, #[case] error: InvalidShare) {
        assert_eq!(text.parse::<Share>(), Err(error));
    }

    #[test]
    fn shares_are_shown_without_binary_noise() {
        assert_eq!(Share(0.1 + 0.2).to_string(), "30 %");
    }
}
