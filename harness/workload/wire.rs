//! The wire format of protocol buffers, as far as versions and the demo server need it.

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireValue<'a> {
    Varint(u64),
    /// A text, bytes, or a message.
    Bytes(&'a [u8]),
    /// Four or eight bytes.
    Fixed,
}

/// The fields of a message with their numbers, in the order in which they are encoded. Ends early where the message is malformed.
#[derive(Debug)]
pub(super) struct WireFields<'a>(pub &'a [u8]);

impl<'a> WireFields<'a> {
    /// The value of a field; the last one counts.
    pub fn last(self, number: u32) -> Option<WireValue<'a>> {
        self.filter_map(|(found, value)| (found == number).then_some(value)).last()
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, WireValue<'a>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok()?;
        let value = match key & 7 {
            0 => WireValue::Varint(self.varint()?),
            1 => self.take(8).map(|_| WireValue::Fixed)?,
            2 => {
                let length = self.varint()?;
                WireValue::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| WireValue::Fixed)?,
            // groups, which no current message has
            _ => return None,
        };
        Some((number, value))
    }
}

impl<'a> Iterator for WireFields<'a> {
    type Item = (u32, WireValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        field
    }
}

/// A message with one field: a number.
pub(super) fn varint_field(number: u32, value: u64) -> Vec<u8> {
    let mut message = varint(u64::from(number) << 3);
    message.extend(varint(value));
    message
}

/// A message with one field: a text, bytes, or a message.
pub(super) fn bytes_field(number: u32, value: &[u8]) -> Vec<u8> {
    let mut message = varint(u64::from(number) << 3 | 2);
    message.extend(varint(value.len() as u64));
    message.extend(value);
    message
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    bytes.push(value.to_le_bytes()[0]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_are_written() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(WireFields(&varint_field(3, value)).last(3), Some(WireValue::Varint(value)));
        }
        let long = vec![7; 1000];
        // after a field of four bytes and one of eight
        let mut message = vec![5 << 3 | 5, 0, 0, 0, 0, 6 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0];
        message.extend(bytes_field(70_000, &long));
        message.extend(bytes_field(70_000, b"last"));
        assert_eq!(WireFields(&message).last(70_000), Some(WireValue::Bytes(b"last")));
        assert_eq!(WireFields(&message).count(), 4);
    }

    #[rstest::rstest]
    #[case::no_message(b"Hello server - v1")]
    #[case::cut_off(&[10, 5, b'v'])]
    #[case::endless_number(&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255])]
    #[case::group(&[11, 12])]
    fn a_malformed_message_has_no_field(#[case] message: &[u8]) {
        assert_eq!(WireFields(message).last(1), None);
    }
}
