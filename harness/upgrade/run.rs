use super::path::UpgradePath;
use super::path_record::PathRecord;
use super::record::UpgradeRecord;
use super::runner::{Runner, UpgradeObserver, UpgradeRun};
use super::search::CauseSearch;
use super::spec::{UpgradeSpec, Upgraded};
use crate::cluster::{ImageCache, IstioSet};
use crate::mesh::{IstioChoice, MeshError, Planes};
use crate::scenario::Scenario;
use crate::session::{ComparedRun, Options, SessionError};

/// Settings for both versions. The first two give sidecars more CPU than a control plane that starts on the same machine. The others add the
/// statistics of requests to services, which are compared.
const SETTINGS: [&str; 4] = [
    "values.pilot.resources.requests.cpu=50m",
    "values.global.proxy.resources.requests.cpu=100m",
    "meshConfig.defaultConfig.proxyStatsMatcher.inclusionPrefixes[0]=cluster.outbound",
    "meshConfig.defaultConfig.proxyStatsMatcher.inclusionPrefixes[1]=http.outbound",
];

/// An upgrade test: runs a scenario on two versions of Istio and during the upgrade, and compares the runs.
#[derive(Debug)]
pub struct Upgrade {
    spec: UpgradeSpec,
    scenario: Scenario,
    /// The images and `istioctl` of the old and of the new version.
    sets: [IstioSet; 2],
    options: Options,
}

impl Upgrade {
    /// Prepares a test. `istio` says how the old and the new version are installed.
    ///
    /// # Errors
    /// The image cache does not have a version, or an `istioctl` has another version.
    pub async fn prepare(
        spec: UpgradeSpec,
        scenario: Scenario,
        istio: [IstioChoice; 2],
        options: Options,
    ) -> Result<Self, MeshError> {
        let images = ImageCache::new(&options.cache);
        let [from, to] = istio.map(|choice| IstioChoice {
            set: SETTINGS.map(str::to_owned).into_iter().chain(choice.set).collect(),
            ..choice
        });
        let sets = [from.find(&images).await?, to.find(&images).await?];
        Ok(Self { spec, scenario, sets, options })
    }

    /// Executes the test: all runs, the repetition of runs whose differences must show twice, and the search for the cause of claims that
    /// the upgrade breaks. Clusters are removed in every case. When `cancelled` completes, the current run is cleaned up and the record
    /// ends there.
    ///
    /// # Errors
    /// A cluster or the mesh failed so early that a cluster has no results, or failed later in a repetition or in the search for the cause.
    /// Other failures are in [`UpgradeRecord::failure`].
    pub async fn run(
        &self,
        observer: &mut impl UpgradeObserver,
        cancelled: impl Future<Output = ()> + Send,
    ) -> Result<UpgradeRecord, SessionError> {
        let start = std::time::Instant::now();
        let mut record = UpgradeRecord::new(self.spec.clone(), self.scenario.clone());
        let is_istio = self.spec.upgraded == Upgraded::Istio;
        let mut runner = Runner::new(&self.options, observer, cancelled, !is_istio);
        for cluster in self.spec.plan(&self.scenario) {
            let (runs, outcome) = self.on_a_cluster(cluster, UpgradeRun::First, &mut runner).await;
            let has_results = runs.iter().any(|run| !run.stages.is_empty());
            record.add(runs);
            match outcome {
                Err(error) if !has_results => return Err(error),
                Err(error) => record.failure = record.failure.or(Some(error)),
                Ok(()) if runner.interrupted => break,
                Ok(()) => {}
            }
        }
        if !runner.interrupted && record.failure.is_none() {
            self.repeat(&mut record, &mut runner).await?;
        }
        // the settings and flags that are searched are those of Istio
        if is_istio && !runner.interrupted {
            let planes = Planes::new(vec![self.sets[1].clone()], &self.options.cache);
            let search = CauseSearch { record: &record, sets: &self.sets, planes, runner: &mut runner };
            record.regression = search.run().await?;
        }
        record.interrupted = runner.interrupted;
        record.took = start.elapsed();
        Ok(record)
    }

    /// Repeats the runs whose differences must show twice.
    async fn repeat(&self, record: &mut UpgradeRecord, runner: &mut Runner<'_>) -> Result<(), SessionError> {
        let wanted = record.to_repeat();
        for mut cluster in self.spec.plan(&self.scenario) {
            cluster.retain(|(path, _)| wanted.contains(path));
            if cluster.is_empty() || runner.interrupted {
                continue;
            }
            let (runs, outcome) = self.on_a_cluster(cluster, UpgradeRun::Repetition, runner).await;
            record.repeated.extend(runs);
            outcome?;
        }
        Ok(())
    }

    async fn on_a_cluster(
        &self,
        cluster: Vec<(UpgradePath, ComparedRun)>,
        purpose: fn(UpgradePath) -> UpgradeRun,
        runner: &mut Runner<'_>,
    ) -> (Vec<PathRecord>, Result<(), SessionError>) {
        let (paths, compared): (Vec<UpgradePath>, Vec<ComparedRun>) = cluster.into_iter().unzip();
        // a cluster imports only the images that its runs need
        let sets = match paths.as_slice() {
            [UpgradePath::FreshOnOld] => vec![self.sets[0].clone()],
            [UpgradePath::FreshOnNew] => vec![self.sets[1].clone()],
            _ => self.sets.to_vec(),
        };
        let rows = paths.into_iter().map(|path| (purpose(path), self.spec.rows(&self.scenario, path))).collect();
        runner.run(compared, sets, rows).await
    }
}
