//! The serialised form of a position in a file: `FILE:LINE:COLUMN`, or an empty text for none.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scenario::Origin;

/// Writes a position.
#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
pub(super) fn serialize<S: Serializer>(place: &Option<Origin>, serializer: S) -> Result<S::Ok, S::Error> {
    place.as_ref().map(ToString::to_string).unwrap_or_default().serialize(serializer)
}

/// Reads a position. Reports of older versions contain other texts, which are read as none.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Origin>, D::Error> {
    String::deserialize(deserializer).map(|text| text.parse().ok())
}
