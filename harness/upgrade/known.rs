use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Deserializer};

use super::difference::Aspect;
use crate::mesh::newer;

/// A change of Istio that is known.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// What it is called.
    pub id: String,
    /// The version that made it.
    pub since: String,
    /// What it is, in a sentence.
    pub what: String,
    /// The flag of the control plane that it goes by, if it has one.
    pub flag: Option<String>,
    matches: Vec<Match>,
}

/// A difference that comes of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    aspect: String,
    #[serde(default, deserialize_with = "expression")]
    path: Option<Regex>,
    #[serde(default, deserialize_with = "expression")]
    before: Option<Regex>,
    #[serde(default, deserialize_with = "expression")]
    after: Option<Regex>,
}

fn expression<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Regex>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Regex::new(&text).map(Some).map_err(serde::de::Error::custom)
}

/// The changes that are known, the oldest first.
#[must_use]
pub fn known_changes() -> &'static [Known] {
    static KNOWN: LazyLock<Vec<Known>> =
        LazyLock::new(|| serde_yaml::from_str(include_str!("known.yaml")).unwrap_or_default());
    &KNOWN
}

impl Known {
    /// Whether it explains that something is another between two versions.
    #[must_use]
    pub fn explains(&self, aspect: &Aspect, before: &str, after: &str, from: &str, to: &str) -> bool {
        // the way back shows the same, the other way round
        let (before, after, from, to) =
            if newer(from, to).is_gt() { (after, before, to, from) } else { (before, after, from, to) };
        let between = newer(from, &self.since).is_lt() && newer(&self.since, to).is_le();
        let fits = |expression: &Option<Regex>, text: &str| expression.as_ref().is_none_or(|own| own.is_match(text));
        between
            && self.matches.iter().any(|own| {
                own.aspect == aspect.name()
                    && fits(&own.path, aspect.path())
                    && fits(&own.before, before)
                    && fits(&own.after, after)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_read_and_names_aspects_that_there_are() {
        let names = ["attempts", "flags", "answers", "secured", "order", "injection", "configuration"];
        assert!(known_changes().len() >= 2);
        let aspects = known_changes().iter().flat_map(|known| &known.matches).map(|own| own.aspect.as_str());
        assert!(aspects.clone().all(|aspect| names.contains(&aspect)), "{:?}", aspects.collect::<Vec<_>>());
    }

    #[test]
    fn a_change_explains_what_lies_between_its_versions_in_both_directions() {
        let retries = &known_changes()[0];
        let explains = |before: &str, after: &str, from: &str, to: &str| {
            retries.explains(&Aspect::Attempts, before, after, from, to)
        };
        assert!(explains("3.0", "1.0", "1.22", "1.31"));
        assert!(explains("1.0", "3.0", "1.31", "1.22"));
        assert!(explains("3.0", "1.0", "1.23", "1.24"));
        assert!(!explains("3.0", "1.0", "1.24", "1.31"), "both are beyond it");
        assert!(!explains("1.0", "3.0", "1.22", "1.31"), "the other way round");
    }
}
