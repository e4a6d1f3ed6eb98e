use std::collections::BTreeMap;

use thiserror::Error;

use crate::scenario::Claim;

/// A claim that would pass even if Istio ignored its routes.
#[derive(Debug, Clone, PartialEq, Error)]
#[error(
    "{from} would get {shown} without any route, as there are {replicas}: the claim proves nothing; claim in the same stage what another population gets, or run other numbers of replicas"
)]
pub struct Unidentified {
    /// The population.
    pub from: String,
    /// The claimed shares.
    pub shown: String,
    /// The replicas.
    pub replicas: String,
}

/// Refuses a split that load balancing over all pods would give as well, unless another claim of the stage on the same path distinguishes the
/// two: one that would fail under load balancing alone. `replicas` are the numbers of pods by version, or by another name of the workload: the
/// distribution of answers without any route.
///
/// # Errors
/// The claim proves nothing about its routes.
pub fn identify(claim: &Claim, beside: &[&Claim], replicas: &BTreeMap<String, u64>) -> Result<(), Unidentified> {
    let same_path = |other: &&&Claim| other.path == claim.path && !std::ptr::eq(**other, claim);
    if !balancing_gives(claim, replicas)
        || beside
            .iter()
            .filter(same_path)
            .any(|control| !control.versions.is_empty() && !balancing_gives(control, replicas))
    {
        return Ok(());
    }
    let shown = claim.versions.iter().map(|(version, share)| format!("{version} {share}"));
    let counted = replicas.iter().map(|(version, count)| format!("{count} of {version}"));
    Err(Unidentified {
        from: claim.from.clone(),
        shown: shown.collect::<Vec<_>>().join(", "),
        replicas: counted.collect::<Vec<_>>().join(" and "),
    })
}

/// Whether load balancing over all pods gives each version its share, within the deviation of the claim.
fn balancing_gives(claim: &Claim, replicas: &BTreeMap<String, u64>) -> bool {
    let total: u64 = replicas.values().sum();
    let claimed: BTreeMap<_, _> =
        claim.versions.iter().filter(|(_, share)| !share.is_none()).map(|(v, share)| (v, share.fraction())).collect();
    if total == 0 || claimed.len() < 2 || claimed.len() != replicas.values().filter(|count| **count > 0).count() {
        return false;
    }
    let part = |count: u64| count as f64 / total as f64;
    let close = |left: f64, right: f64| (left - right).abs() < claim.errors.deviation;
    if claimed.keys().all(|version| replicas.contains_key(*version)) {
        return claimed.iter().all(|(version, share)| close(*share, part(replicas[*version])));
    }
    // the versions of the workloads are unknown: the closest assignment counts
    let mut shares: Vec<f64> = claimed.into_values().collect();
    let mut parts: Vec<f64> = replicas.values().filter(|count| **count > 0).map(|count| part(*count)).collect();
    shares.sort_by(f64::total_cmp);
    parts.sort_by(f64::total_cmp);
    shares.iter().zip(&parts).all(|(share, part)| close(*share, *part))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::design::tests::claim;
    use super::*;

    fn replicas(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[rstest]
    #[case::equal(&[("v1", 0.5), ("v2", 0.5)], &[("v1", 2), ("v2", 2)], false)]
    #[case::nearly_equal(&[("v1", 0.5), ("v2", 0.5)], &[("v1", 5), ("v2", 4)], false)]
    #[case::unequal(&[("v1", 0.5), ("v2", 0.5)], &[("v1", 3), ("v2", 1)], true)]
    #[case::the_other_way_round(&[("v1", 0.75), ("v2", 0.25)], &[("v1", 1), ("v2", 3)], true)]
    #[case::as_the_replicas(&[("v1", 0.75), ("v2", 0.25)], &[("v1", 3), ("v2", 1)], false)]
    #[case::workloads_without_version(&[("v1", 0.75), ("v2", 0.25)], &[("old", 1), ("new", 3)], false)]
    #[case::one_workload(&[("v1", 0.5), ("v2", 0.5)], &[("v1", 4)], true)]
    #[case::no_pods(&[("v1", 0.5), ("v2", 0.5)], &[], true)]
    #[case::all_to_one(&[("v1", 1.0)], &[("v1", 2)], true)]
    fn a_split_that_replicas_alone_give_proves_nothing(
        #[case] versions: &[(&str, f64)],
        #[case] pods: &[(&str, u64)],
        #[case] accepted: bool,
    ) {
        let claim = claim(versions, &[]);
        assert_eq!(identify(&claim, &[&claim], &replicas(pods)).is_ok(), accepted);
    }

    #[test]
    fn a_control_population_on_the_same_path_identifies_the_split() {
        let pods = replicas(&[("v1", 2), ("v2", 2)]);
        let halves = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
        let control = claim(&[("v1", 1.0)], &[]);
        assert_eq!(identify(&halves, &[&halves, &control], &pods), Ok(()));
        let mut elsewhere = control.clone();
        elsewhere.path = "/error".to_owned();
        assert!(identify(&halves, &[&halves, &elsewhere], &pods).is_err());
        let twin = halves.clone();
        assert!(identify(&halves, &[&halves, &twin], &pods).is_err());
    }

    #[test]
    fn the_reason_names_shares_and_replicas() {
        let halves = claim(&[("v1", 0.5), ("v2", 0.5)], &[]);
        let error = identify(&halves, &[], &replicas(&[("v1", 2), ("v2", 2)])).unwrap_err();
        insta::assert_snapshot!(error, @"testers would get v1 50 %, v2 50 % without any route, as there are 2 of v1 and 2 of v2: the claim proves nothing; claim in the same stage what another population gets, or run other numbers of replicas");
    }
}
