use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::str::FromStr;

use displaydoc::Display;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The id of a run: eight hexadecimal digits. Every object that a run creates has a label with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Display)]
#[displaydoc("{0}")]
#[serde(try_from = "String")]
pub struct RunId(String);

/// A string is not the id of a run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not the id of a run: eight hexadecimal digits, such as 0123abcd")]
pub struct RunIdError(String);

impl RunId {
    /// A new random id.
    pub fn fresh() -> Self {
        // the standard library's hasher is seeded by the system
        let seed = RandomState::new().build_hasher().finish();
        Self(format!("{:08x}", seed >> 32))
    }

    /// The id that follows from a text: the same for the same text.
    pub fn of(text: &str) -> Self {
        Self(hex::encode(&Sha256::digest(text)[..4]))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;

    fn try_from(id: String) -> Result<Self, RunIdError> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() == 8 && id.bytes().all(is_digit) { Ok(Self(id)) } else { Err(RunIdError(id)) }
    }
}

impl FromStr for RunId {
    type Err = RunIdError;

    fn from_str(id: &str) -> Result<Self, RunIdError> {
        id.to_owned().try_into()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    #[rstest]
    #[case::absolute("/etc")]
    #[case::empty("")]
    #[case::parent("../../..")]
    #[case::dots("........")]
    #[case::short("0123abc")]
    #[case::long("0123abcde")]
    #[case::upper("0123ABCD")]
    #[case::not_hexadecimal("0123abcg")]
    #[case::eight_bytes_that_are_no_digits("äöüß")]
    fn an_id_is_eight_hexadecimal_digits(#[case] id: &str) {
        let error = id.parse::<RunId>().unwrap_err().to_string();
        assert_eq!(error, format!("`{id}` is not the id of a run: eight hexadecimal digits, such as 0123abcd"));
        assert!(serde_json::from_value::<RunId>(Value::String(id.to_owned())).is_err());
        assert_eq!("0123abcd".parse::<RunId>().unwrap().as_str(), "0123abcd");
        assert!(RunId::fresh().as_str().parse::<RunId>().is_ok());
    }
}
