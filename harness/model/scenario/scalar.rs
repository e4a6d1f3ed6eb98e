use granit_parser::Tag;
use serde_json::{Number, Value};

/// A scalar value, interpreted as `kubectl` does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Integer(i64),
    /// Above the range of [`Scalar::Integer`].
    Unsigned(u64),
    Float(f64),
    Text(String),
}

/// Interprets a scalar: as a string, unless it is plain and looks like another type, or a tag names one.
///
/// # Errors
/// A tag has no equivalent in JSON, or does not fit the text.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&Tag>) -> Result<Scalar, String> {
    let Some(tag) = tag else {
        return if plain { implicit(text) } else { Ok(Scalar::Text(text.to_owned())) };
    };
    let scalar = match tag.core_suffix() {
        Some("str") => return Ok(Scalar::Text(text.to_owned())),
        Some("int" | "float" | "bool" | "null") => implicit(text)?,
        _ => return Err(format!("the tag `{}{}` has no counterpart in JSON", tag.original_handle(), tag.suffix())),
    };
    let fits = match tag.core_suffix() {
        Some("int") => matches!(scalar, Scalar::Integer(_) | Scalar::Unsigned(_)),
        Some("float") => matches!(scalar, Scalar::Integer(_) | Scalar::Float(_)),
        Some("bool") => matches!(scalar, Scalar::Bool(_)),
        _ => scalar == Scalar::Null,
    };
    if fits {
        Ok(scalar)
    } else {
        Err(format!("`{text}` does not fit the tag `{}{}`", tag.original_handle(), tag.suffix()))
    }
}

/// Interprets a plain scalar by YAML 1.1 in the dialect of `sigs.k8s.io/yaml`, which has neither sexagesimal numbers nor dates.
fn implicit(text: &str) -> Result<Scalar, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ if text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) => number(text)?,
        _ => Scalar::Text(text.to_owned()),
    })
}

fn number(text: &str) -> Result<Scalar, String> {
    let plain = text.replace('_', "");
    if text.starts_with('.') && text.contains('_') && is_float(&plain) {
        return Err(format!(
            "`{text}` is a number to some parsers and a text to others; write it without `_`, or in quotes"
        ));
    }
    let (negative, digits) = match plain.strip_prefix(['+', '-']) {
        Some(digits) => (plain.starts_with('-'), digits),
        None => (false, plain.as_str()),
    };
    match integer(digits) {
        Some(Ok(size)) => {
            let signed = if negative { 0_i64.checked_sub_unsigned(size) } else { i64::try_from(size).ok() };
            match signed {
                Some(signed) => return Ok(Scalar::Integer(signed)),
                None if !negative && plain == digits => return Ok(Scalar::Unsigned(size)),
                None if !is_float(digits) => return Err(too_large(text)),
                None => {}
            }
        }
        Some(Err(())) if !is_float(digits) => return Err(too_large(text)),
        _ => {}
    }
    let float = if is_float(digits) { plain.parse::<f64>().ok().filter(|float| float.is_finite()) } else { None };
    Ok(float.map_or_else(|| Scalar::Text(text.to_owned()), Scalar::Float))
}

fn too_large(text: &str) -> String {
    format!("`{text}` does not fit into 64 bits; write it in quotes, if it is a text")
}

/// An unsigned integer: `12`, `0x1f`, `0b11`, `0o17`, `017`. An error if it does not fit into 64 bits.
fn integer(digits: &str) -> Option<Result<u64, ()>> {
    let prefixed = |prefix: [&str; 2]| prefix.into_iter().find_map(|prefix| digits.strip_prefix(prefix));
    let (base, rest) = if let Some(rest) = prefixed(["0x", "0X"]) {
        (16, rest)
    } else if let Some(rest) = prefixed(["0b", "0B"]) {
        (2, rest)
    } else if let Some(rest) = prefixed(["0o", "0O"]) {
        (8, rest)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    let is_number = !rest.is_empty() && rest.chars().all(|digit| digit.is_digit(base));
    is_number.then(|| u64::from_str_radix(rest, base).map_err(|_| ()))
}

/// Whether a text is an unsigned decimal number with a point or an exponent: `1.5`, `.5`, `1e3`.
fn is_float(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (digits, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    all_digits(whole)
        && all_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && all_digits(exponent))
}

impl Scalar {
    /// The JSON value.
    ///
    /// # Errors
    /// JSON cannot represent the number.
    pub fn value(self) -> Result<Value, String> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Integer(value) => Value::from(value),
            Self::Unsigned(value) => Value::from(value),
            Self::Float(value) => Value::Number(
                whole(value)
                    .or_else(|| Number::from_f64(value))
                    .ok_or("JSON has numbers neither for infinity nor for what is no number")?,
            ),
            Self::Text(text) => Value::String(text),
        })
    }

    /// The JSON key: integers and booleans become strings.
    ///
    /// # Errors
    /// `kubectl` rejects the key, or writes it in another form.
    pub fn key(self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Integer(value) => Ok(value.to_string()),
            Self::Bool(value) => Ok(value.to_string()),
            Self::Null => Err("a key is missing here; write it in quotes, if it is a text".to_owned()),
            Self::Float(_) | Self::Unsigned(_) => Err("this key is a number; write it in quotes".to_owned()),
        }
    }
}

/// An integral float as an integer, which JSON writes without a point.
#[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
fn whole(value: f64) -> Option<Number> {
    (value.fract() == 0.0 && value.abs() < 9e18).then(|| Number::from(value as i64))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    /// The results of `sigs.k8s.io/yaml` 1.6.
    #[rstest]
    #[case("yes", json!(true))]
    #[case("on", json!(true))]
    #[case("y", json!(true))]
    #[case("No", json!(false))]
    #[case("OFF", json!(false))]
    #[case("~", json!(null))]
    #[case("", json!(null))]
    #[case("Null", json!(null))]
    #[case("yEs", json!("yEs"))]
    #[case("0o7", json!(7))]
    #[case("010", json!(8))]
    #[case("08", json!(8))]
    #[case("0o8", json!("0o8"))]
    #[case("0x1f", json!(31))]
    #[case("-0x10", json!(-16))]
    #[case("0b101", json!(5))]
    #[case("1_000", json!(1000))]
    #[case("0_8", json!(8))]
    #[case("+5", json!(5))]
    #[case("1:30", json!("1:30"))]
    #[case("2001-01-01", json!("2001-01-01"))]
    #[case("1.2.3", json!("1.2.3"))]
    #[case("12e", json!("12e"))]
    #[case("1e3", json!(1000))]
    #[case("1e+3", json!(1000))]
    #[case("1.0", json!(1))]
    #[case("1.", json!(1))]
    #[case("1.50", json!(1.5))]
    #[case(".5", json!(0.5))]
    #[case("-.5", json!(-0.5))]
    #[case("1e21", json!(1e21))]
    #[case("1e400", json!("1e400"))]
    #[case("123456789012345678", json!(123_456_789_012_345_678_i64))]
    #[case("9223372036854775807", json!(i64::MAX))]
    #[case("-9223372036854775808", json!(i64::MIN))]
    #[case("18446744073709551615", json!(u64::MAX))]
    #[case("99999999999999999999", json!(1e20))]
    #[case("=", json!("="))]
    #[case("<<", json!("<<"))]
    #[case("v1", json!("v1"))]
    #[case("-", json!("-"))]
    fn a_plain_value_is_what_kubectl_makes_of_it(#[case] text: &str, #[case] value: Value) {
        assert_eq!(resolve(text, true, None).and_then(Scalar::value), Ok(value));
        assert_eq!(resolve(text, false, None).and_then(Scalar::value), Ok(json!(text)), "in quotes");
    }

    #[rstest]
    #[case(".inf")]
    #[case("-.INF")]
    #[case(".nan")]
    #[case("0xfffffffffffffffff")]
    #[case(".5_0")]
    fn what_has_no_counterpart_is_refused(#[case] text: &str) {
        assert!(resolve(text, true, None).and_then(Scalar::value).is_err());
    }

    #[rstest]
    #[case("on", "true")]
    #[case("1", "1")]
    #[case("0o10", "8")]
    #[case("a", "a")]
    fn a_key_is_a_text(#[case] text: &str, #[case] key: &str) {
        assert_eq!(resolve(text, true, None).and_then(Scalar::key), Ok(key.to_owned()));
    }
}
