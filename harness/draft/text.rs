//! The text of a drafted scenario.

use std::collections::BTreeMap;

use crate::plan::Given;
use crate::scenario::Population;

/// A population in `populations`.
pub(super) fn population(population: &Population) -> String {
    let headers = &population.variants[0].headers;
    let mut parts = Vec::new();
    if let Some(gateway) = &population.through {
        parts.push(format!("through: gateway/{}", plain(&gateway.name)));
        parts.extend((gateway.port != 80).then(|| format!("port: {}", gateway.port)));
        parts.extend(headers.get("host").map(|host| format!("host: {}", plain(host))));
    }
    let is_written = |name: &str| population.through.is_none() || name != "host";
    let headers: Vec<String> = headers
        .iter()
        .filter(|(name, _)| is_written(name))
        .map(|(name, value)| format!("{}: {}", plain(name), plain(value)))
        .collect();
    parts.extend((!headers.is_empty()).then(|| format!("headers: {{{}}}", headers.join(", "))));
    format!("  {}: {{{}}}", plain(&population.name), parts.join(", "))
}

/// A claim of the expected answers to requests for a path, unless it is the default one, or why they cannot be claimed.
pub(super) fn claim(from: &str, path: Option<&str>, given: &Given) -> Result<String, String> {
    let at = path.map(|path| format!(", path: {}", plain(path))).unwrap_or_default();
    let mut shares: BTreeMap<String, f64> = BTreeMap::new();
    for (seen, chance) in &given.seen {
        let Some(version) = &seen.version else {
            return Err(format!("{from} gets {given} at {}: is this intended?", path.unwrap_or("/")));
        };
        *shares.entry(version.clone()).or_default() += chance.fraction();
    }
    // the written shares sum to 100 % in spite of rounding
    let mut left = 1_000_000_i64;
    let last = shares.len().saturating_sub(1);
    let mut written = Vec::new();
    let mut smallest = 1.0_f64;
    for (index, (version, share)) in shares.iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "a share of a million")]
        let part = if index == last { left } else { (share * 1e6).round() as i64 };
        left -= part;
        smallest = smallest.min(share.min(1.0 - share).max(0.0));
        #[expect(clippy::cast_precision_loss, reason = "a share of a million")]
        let percent = part as f64 / 1e4;
        written.push(format!("{}: {percent}%", plain(version)));
    }
    let fine = if shares.len() > 1 && smallest < 0.1 {
        // in percent, with two decimals
        format!(", error-rates: {{deviation: {}%}}", (smallest * 8000.0).round().max(10.0) / 100.0)
    } else {
        String::new()
    };
    Ok(format!("{{from: {}{at}, get: {{{}}}{fine}}}", plain(from), written.join(", ")))
}

/// A text in a YAML flow mapping, quoted unless it is a plain word.
pub(super) fn plain(text: &str) -> String {
    let word = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    let looks_like_more = text.parse::<f64>().is_ok()
        || ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"].contains(&text.to_lowercase().as_str());
    let begins = text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '/');
    // of the words that begin with a digit, some are dates and octal numbers
    let is_number = text.starts_with(|letter: char| letter.is_ascii_digit());
    if begins && text.chars().all(word) && !looks_like_more && !is_number {
        text.to_owned()
    } else if text.chars().any(char::is_control) {
        // JSON is YAML
        serde_json::Value::from(text).to_string()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}
