//! Versions in fields of messages.

use super::protocol::{FieldValue, MessageField};
use super::wire::{WireFields, WireValue, bytes_field, varint_field};

impl MessageField {
    /// The version in a message; none if it states none.
    pub(super) fn read(&self, message: &[u8]) -> Option<String> {
        let (last, around) = self.numbers.split_last()?;
        let mut message = message;
        for number in around {
            let Some(WireValue::Bytes(inner)) = WireFields(message).last(*number) else { return None };
            message = inner;
        }
        match (WireFields(message).last(*last), &self.value) {
            (None, _) => self.default.clone(),
            (Some(WireValue::Bytes(text)), FieldValue::Text) => {
                std::str::from_utf8(text).ok().filter(|text| !text.is_empty()).map(ToOwned::to_owned)
            }
            (Some(WireValue::Varint(number)), FieldValue::Unsigned) => Some(number.to_string()),
            (Some(WireValue::Varint(number)), FieldValue::Signed) => Some(number.cast_signed().to_string()),
            (Some(WireValue::Varint(number)), FieldValue::Enum(names)) => {
                let number = i32::try_from(number.cast_signed()).ok()?;
                Some(names.get(&number).cloned().unwrap_or_else(|| number.to_string()))
            }
            _ => None,
        }
    }

    /// A message that states a version and nothing else; none if the field cannot have this value.
    pub fn message(&self, version: &str) -> Option<Vec<u8>> {
        let (last, around) = self.numbers.split_last()?;
        let number = match &self.value {
            FieldValue::Text => None,
            FieldValue::Signed => Some(version.parse::<i64>().ok()?.cast_unsigned()),
            FieldValue::Unsigned => Some(version.parse::<u64>().ok()?),
            FieldValue::Enum(names) => {
                let (number, _) = names.iter().find(|(_, name)| *name == version)?;
                Some(i64::from(*number).cast_unsigned())
            }
        };
        let inner = number.map_or_else(|| bytes_field(*last, version.as_bytes()), |number| varint_field(*last, number));
        Some(around.iter().rev().fold(inner, |inner, number| bytes_field(*number, &inner)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;

    use super::*;

    fn tracks() -> FieldValue {
        FieldValue::Enum(BTreeMap::from([(0, "UNKNOWN".to_owned()), (2, "CANARY".to_owned()), (-1, "OLD".to_owned())]))
    }

    #[rstest]
    #[case::text(FieldValue::Text, "v1")]
    #[case::long_text(FieldValue::Text, &"v".repeat(300))]
    #[case::negative(FieldValue::Signed, "-12")]
    #[case::large(FieldValue::Unsigned, "18446744073709551615")]
    #[case::name(tracks(), "CANARY")]
    #[case::name_of_a_negative_number(tracks(), "OLD")]
    fn a_version_is_read_as_it_is_stated(
        #[case] value: FieldValue,
        #[case] version: &str,
        #[values(vec![1], vec![20, 3, 1])] numbers: Vec<u32>,
    ) {
        let field = MessageField { numbers, value, default: None };
        assert_eq!(field.read(&field.message(version).unwrap()).as_deref(), Some(version));
        // after other fields
        let message = [bytes_field(9, b"other"), varint_field(11, 5), field.message(version).unwrap()].concat();
        assert_eq!(field.read(&message).as_deref(), Some(version));
    }

    #[test]
    fn a_field_that_is_left_out_has_its_default_inside_of_its_message() {
        let field = MessageField { numbers: vec![2, 1], value: FieldValue::Signed, default: Some("0".to_owned()) };
        assert_eq!(field.read(&bytes_field(2, b"")).as_deref(), Some("0"));
        assert_eq!(field.read(b""), None);
        assert_eq!(field.read(&varint_field(2, 1)), None);
        assert_eq!(field.message("v1"), None);
    }

    #[test]
    fn a_number_without_a_name_is_the_version_itself() {
        let field = MessageField { numbers: vec![1], value: tracks(), default: None };
        assert_eq!(field.read(&varint_field(1, 7)).as_deref(), Some("7"));
        assert_eq!(field.message("CANARIES"), None);
    }

    #[test]
    fn an_empty_text_is_no_version() {
        let field = MessageField { numbers: vec![1], value: FieldValue::Text, default: None };
        assert_eq!((field.read(&bytes_field(1, b"")), field.read(&bytes_field(1, &[255]))), (None, None));
    }
}
