//! The parser of scenario files: from text to the structures in [`raw`].

mod acts;
mod expectation;
mod followed;
mod forms;
mod paths;
pub(super) mod raw;
mod service_levels;
mod sessions;
mod shapes;
mod values;

use std::path::Path;

pub(super) use acts::{Act, Acts};
pub(super) use expectation::{Claim, DeclaredWeights, During, Expectation, Keys, Left, Reports, ServedBy, Weights};
pub(super) use forms::BOTH_KEYS;
pub(super) use paths::Paths;
use serde_saphyr::Location;
pub(super) use service_levels::{Compared, LatencyLimits, Limit, Slow};
pub(super) use sessions::{OfSessions, SessionClaims};
pub(super) use values::{ErrorRates, Get, Status, Time};

use super::error::ScenarioError;
use super::excerpt::{TAB, tab};
use super::origin::Origin;
use super::suggest::nearest;

/// Parses the text of a scenario file.
///
/// # Errors
/// The text is not YAML, or a key or a value is not one of a scenario.
pub(super) fn parse(path: &Path, text: &str) -> Result<raw::Scenario, ScenarioError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let location = error.location().unwrap_or(Location::UNKNOWN);
        if let Some((line, column)) = tab(text, location.line()) {
            let origin = Origin::new(path, line, column);
            return ScenarioError::Malformed { origin, message: TAB.to_owned() }.with_excerpt(path, text);
        }
        if let Some((at, message)) = shapes::explain(text, location.line()) {
            let origin = Origin::new(path, at.line, at.column);
            return ScenarioError::Malformed { origin, message }.with_excerpt(path, text);
        }
        ScenarioError::at(path, location, with_suggestion(&without_location(&error.render())))
    })
}

/// The parser's message and excerpt, without the location, which precedes every message anyway.
fn without_location(rendered: &str) -> String {
    let mut lines = rendered.lines().filter(|line| !line.trim_start().starts_with("--> "));
    let first = lines.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let message = match message.split_once(": ") {
        Some((location, message)) if location.starts_with("line ") && location.contains(" column ") => message,
        _ => message,
    };
    let lines: Vec<&str> = std::iter::once(message).chain(lines).map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// Adds the most similar name to the message about an unknown key or an unknown value.
fn with_suggestion(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    let unknown = first.strip_prefix("unknown field `").or_else(|| first.strip_prefix("unknown variant `"));
    let suggestion = unknown.and_then(|unknown| {
        let (unknown, known) = unknown.split_once("`, expected one of ")?;
        Some(nearest(unknown, known.split(", ")))
    });
    message.replacen(first, &format!("{first}{}", suggestion.unwrap_or_default()), 1)
}
