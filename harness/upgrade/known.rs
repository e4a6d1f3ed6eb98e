use std::sync::LazyLock;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::aspect::AspectChange;
use super::path::Versions;
use crate::scenario::{ControllerKind, IstioVersion};

/// A documented change of behaviour between two versions of Istio or of a rollout controller.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownChange {
    /// A short name, such as `native sidecars`.
    pub id: String,
    /// The controller that changed, such as `argo-rollouts`; none for Istio.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// The version that introduced the change.
    #[schemars(with = "String")]
    pub since: IstioVersion,
    /// A description in one sentence.
    pub what: String,
    /// The feature flag of the control plane that controls the change, if there is one.
    pub flag: Option<String>,
    #[serde(skip_serializing)]
    #[schemars(skip)]
    matches: Vec<Match>,
}

/// A difference that the change explains.
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

/// All known changes, in the order of the versions that introduced them.
pub fn known_changes() -> &'static [KnownChange] {
    static KNOWN: LazyLock<Vec<KnownChange>> =
        LazyLock::new(|| serde_yaml::from_str(include_str!("known.yaml")).unwrap_or_default());
    &KNOWN
}

impl KnownChange {
    /// Whether the known change explains a difference between runs on these two versions.
    pub fn explains(&self, change: &AspectChange, Versions { controller, from, to }: Versions<'_>) -> bool {
        if self.controller.as_deref() != controller.map(ControllerKind::key) {
            return false;
        }
        let (before, after) = (change.before.as_str(), change.after.as_str());
        // a roll-back shows the same difference in the opposite direction
        let (before, after, from, to) = if from > to { (after, before, to, from) } else { (before, after, from, to) };
        let between = *from < self.since && self.since <= *to;
        let fits =
            |expression: &Option<Regex>, text: &str| expression.as_ref().is_none_or(|regex| regex.is_match(text));
        between
            && self.matches.iter().any(|known| {
                known.aspect == change.aspect.name()
                    && fits(&known.path, change.aspect.path())
                    && fits(&known.before, before)
                    && fits(&known.after, after)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upgrade::Aspect;

    #[test]
    fn the_list_can_be_read_and_names_aspects_that_there_are() {
        let names = [
            "attempts",
            "flags",
            "answers",
            "secured",
            "order",
            "injection",
            "configuration",
            "writes",
            "state",
            "failed",
        ];
        assert!(known_changes().len() >= 2);
        let aspects = known_changes().iter().flat_map(|known| &known.matches).map(|known| known.aspect.as_str());
        assert!(aspects.clone().all(|aspect| names.contains(&aspect)), "{:?}", aspects.collect::<Vec<_>>());
    }

    #[test]
    fn a_change_explains_what_lies_between_its_versions_in_both_directions() {
        let retries = &known_changes()[0];
        let explains = |before: &str, after: &str, from: &str, to: &str| {
            let change = AspectChange { aspect: Aspect::Attempts, before: before.to_owned(), after: after.to_owned() };
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let of = |controller| retries.explains(&change, Versions { controller, from: &from, to: &to });
            assert!(!of(Some(ControllerKind::ArgoRollouts)), "a change of Istio, not of a controller");
            of(None)
        };
        assert!(explains("3.0", "1.0", "1.22", "1.31"));
        assert!(explains("1.0", "3.0", "1.31", "1.22"));
        assert!(explains("3.0", "1.0", "1.23", "1.24"));
        assert!(!explains("3.0", "1.0", "1.24", "1.31"), "both versions have the change");
        assert!(!explains("1.0", "3.0", "1.22", "1.31"), "the opposite direction");
    }
}
