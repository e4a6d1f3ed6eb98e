use std::collections::BTreeMap;

use super::cause::{Cause, Probe, Regression, probe, single_flags, suspects, without_each};
use super::difference::differences;
use super::path::{Phase, Row, UpgradePath, Versions};
use super::path_record::StageRecord;
use super::record::UpgradeRecord;
use super::runner::{Runner, UpgradeRun};
use crate::cluster::IstioSet;
use crate::mesh::Planes;
use crate::scenario::IstioVersion;
use crate::session::SessionError;

/// A search for the cause of claims that hold on the old version and fail on the new one.
pub(super) struct CauseSearch<'a, 'b> {
    pub record: &'a UpgradeRecord,
    pub sets: &'a [IstioSet; 2],
    pub planes: Planes,
    pub runner: &'a mut Runner<'b>,
}

impl CauseSearch<'_, '_> {
    /// Searches for the cause: first in the settings that only the new version has, then in the flags of its compatibility mode, then in
    /// the configuration of its sidecar. Returns none if no claim broke or the search was interrupted.
    pub async fn run(mut self) -> Result<Option<Regression>, SessionError> {
        let Some((stage, claims)) = self.record.broken_claims() else { return Ok(None) };
        let cause = match self.in_settings(stage).await? {
            Some(cause) => cause,
            None => self.in_configuration(stage),
        };
        let suspects = suspects(&self.record.scenario, stage, self.sets.each_ref().map(|set| set.tag.as_str()));
        Ok((!self.runner.interrupted).then_some(Regression { stage, claims, cause, suspects }))
    }

    async fn in_settings(&mut self, stage: usize) -> Result<Option<Cause>, SessionError> {
        let to = &self.record.spec.to;
        if let Some(index) = self.first_that_holds(stage, &without_each(to)).await? {
            return Ok(Some(Cause::Setting(to.set[index].clone())));
        }
        let Some((compatible_with, now, then)) = self.compatible().await else { return Ok(None) };
        let all = Probe::with(to, format!("compatibilityVersion={compatible_with}"));
        if self.first_that_holds(stage, &[all]).await?.is_none() {
            return Ok(None);
        }
        let (probes, flags): (Vec<Probe>, Vec<_>) =
            single_flags(to, &now, &then).into_iter().map(|(probe, name, old)| (probe, (name, old))).unzip();
        let alone = self.first_that_holds(stage, &probes).await?;
        Ok(Some(Cause::of_flags(flags, alone, compatible_with)))
    }

    fn in_configuration(&self, stage: usize) -> Cause {
        let (Some(old), Some(new)) =
            (self.record.run(UpgradePath::FreshOnOld), self.record.run(UpgradePath::FreshOnNew))
        else {
            return Cause::Unknown;
        };
        let found = differences(old, new, self.record.spec.versions());
        let failed = new.stage(Row { stage, phase: Phase::Itself });
        failed.map_or(Cause::Unknown, |failed| Cause::of_configuration(failed, &found))
    }

    /// The oldest `compatibilityVersion` that the new version supports and that is not older than the old version, with the flags of the
    /// control plane without and with it.
    async fn compatible(&self) -> Option<(IstioVersion, BTreeMap<String, String>, BTreeMap<String, String>)> {
        let Versions { from, to, .. } = self.record.spec.versions();
        let now = self.planes.manifests(&self.record.spec.to).await.ok()?.flags();
        for minor in from.minor..to.minor {
            let version = IstioVersion::new(from.major, minor);
            let mut plane = self.record.spec.to.clone();
            plane.set.push(format!("compatibilityVersion={version}"));
            // istioctl refuses versions that are too old
            if let Ok(manifests) = self.planes.manifests(&plane).await {
                let then = manifests.flags();
                if then != now {
                    return Some((version, now, then));
                }
            }
        }
        None
    }

    /// The first of the probes with which the claims of a stage hold.
    async fn first_that_holds(&mut self, stage: usize, probes: &[Probe]) -> Result<Option<usize>, SessionError> {
        if probes.is_empty() || self.runner.interrupted {
            return Ok(None);
        }
        let tried = probe(&self.record.scenario, stage, &self.record.spec.to, probes);
        let rows = (0..probes.len()).map(|stage| Row { stage, phase: Phase::Itself }).collect();
        let runs = vec![(UpgradeRun::CauseSearch, rows)];
        let (records, outcome) = self.runner.run(vec![tried], vec![self.sets[1].clone()], runs).await;
        outcome?;
        let stages = records.first().map(|record| record.stages.as_slice()).unwrap_or_default();
        Ok(stages.iter().position(StageRecord::holds))
    }
}
