use crate::scenario::{VersionField, VersionValue};
use crate::workload::{FieldValue, MessageField};

/// A field with the version, as the driver and stand-ins know it.
pub(crate) fn message_field(field: &VersionField) -> MessageField {
    let value = match &field.value {
        VersionValue::Text => FieldValue::Text,
        VersionValue::Signed => FieldValue::Signed,
        VersionValue::Unsigned => FieldValue::Unsigned,
        VersionValue::Enum(names) => FieldValue::Enum(names.clone()),
    };
    MessageField { numbers: field.numbers.clone(), value, default: field.default.clone() }
}
