//! The addons of Istio that a scenario names.

use serde_saphyr::Spanned;

use super::Resolver;
use crate::scenario::addon::{Addon, WantedAddon};
use crate::scenario::error::ScenarioError;
use crate::scenario::suggest::nearest;

impl Resolver<'_> {
    pub(super) fn addons(&self, raw: Vec<Spanned<String>>) -> Result<Vec<WantedAddon>, ScenarioError> {
        let mut wanted: Vec<WantedAddon> = Vec::new();
        for name in raw {
            let (at, name) = (name.referenced, name.value);
            let Some(addon) = Addon::ALL.into_iter().find(|addon| addon.key() == name) else {
                let known = Addon::ALL.map(Addon::key);
                let meant = nearest(&name, known.into_iter());
                let known = known.map(|key| format!("`{key}`")).join(" and ");
                return self.error(at, format!("`{name}` is not an addon; the addons are {known}{meant}"));
            };
            if wanted.iter().any(|other| other.addon == addon) {
                return self.error(at, format!("`{name}` is named twice; remove one of them"));
            }
            wanted.push(WantedAddon { addon, origin: self.origin(at) });
        }
        let has = |addon: Addon| wanted.iter().find(|other| other.addon == addon);
        match (has(Addon::Kiali), has(Addon::Prometheus)) {
            (Some(kiali), None) => Err(ScenarioError::Malformed {
                origin: kiali.origin.clone(),
                message: "Kiali reads its metrics from Prometheus: write `addons: [prometheus, kiali]`".to_owned(),
            }),
            _ => Ok(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;

    use crate::scenario::{Addon, Scenario};

    /// The canary scenario with these addons, which are in line 3 of the file.
    fn read(addons: &str) -> Result<Vec<Addon>, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary/scenario.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().position(|line| line.starts_with("namespace:")).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        let addons = format!("addons: {addons}");
        lines.insert(line, &addons);
        let scenario = Scenario::parse(&path, &lines.join("\n"));
        scenario.map(|scenario| scenario.addons.into_iter().map(|own| own.addon).collect()).map_err(|error| {
            let at = error.origin().unwrap();
            let (row, column) = (at.line - u64::try_from(line).unwrap(), at.column);
            let message = error.to_string().lines().next().unwrap().to_owned();
            format!("{row}:{column}: {}", message.split_once(&format!("{at}: ")).unwrap().1)
        })
    }

    #[rstest]
    #[case::none("[]", &[])]
    #[case::one("[prometheus]", &[Addon::Prometheus])]
    #[case::both("[kiali, prometheus]", &[Addon::Kiali, Addon::Prometheus])]
    fn addons_are_read_in_their_order(#[case] addons: &str, #[case] expected: &[Addon]) {
        assert_eq!(read(addons).unwrap(), expected);
    }

    #[rstest]
    #[case::unknown("[grafana]", "1:10: `grafana` is not an addon; the addons are `kiali` and `prometheus`")]
    #[case::misspelt(
        "[prometheus, kialy]",
        "1:22: `kialy` is not an addon; the addons are `kiali` and `prometheus`; did you mean `kiali`?"
    )]
    #[case::twice("[prometheus, prometheus]", "1:22: `prometheus` is named twice; remove one of them")]
    #[case::without_metrics(
        "[kiali]",
        "1:10: Kiali reads its metrics from Prometheus: write `addons: [prometheus, kiali]`"
    )]
    #[case::no_list(
        "prometheus",
        "1:1: `addons`: expected a list of addons of Istio, such as [prometheus, kiali]; found a single value"
    )]
    #[case::mapping("[{kiali: '2'}]", "1:10: expected the name of an addon, such as prometheus; found a mapping")]
    fn bad_addons_are_refused_with_their_place(#[case] addons: &str, #[case] expected: &str) {
        assert_eq!(read(addons).unwrap_err(), expected);
    }
}
