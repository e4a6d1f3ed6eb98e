use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use regex::Regex;
use serde_saphyr::{Location, Spanned};

use super::kinds::{ApiKind, KindRef};
use super::manifest::{self, Manifest};
use super::model::{
    Claim, Client, DRIVER, During, Expectation, Population, Request, Scenario, Served, Service, Stage, Statuses, Step,
    Target, Traffic, VersionRule,
};
use super::rates::{Errors, Rate};
use super::suggest::nearest;
use super::{Place, ScenarioError, Share, raw, shapes};

impl Scenario {
    /// Reads a scenario file and the manifests that it names.
    ///
    /// # Errors
    /// A file cannot be read or is not YAML, a key is unknown or of the wrong type, a name leads nowhere, shares do not
    /// sum to 100 %: each with file, line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join("scenario.yaml") } else { path.to_owned() };
        Self::parse(&path, &manifest::text(&path)?)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        let raw: raw::Scenario = serde_saphyr::from_str(text).map_err(|error| {
            let location = error.location().unwrap_or(Location::UNKNOWN);
            if let Some((at, message)) = shapes::slip(text, location.line()) {
                let place = Place::new(path, at.line, at.column);
                return ScenarioError::Malformed { place, message }.with_excerpt(path, text);
            }
            ScenarioError::at(path, location, with_nearest(&without_place(&error.render())))
        })?;
        let reader = Reader { path, folder: path.parent().unwrap_or(Path::new("")) };
        reader.scenario(raw).map_err(|error| error.with_excerpt(path, text))
    }

    /// The form of a scenario file as a JSON schema, for editors.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(raw::Scenario).to_value()
    }
}

/// What an expectation may refer to.
struct Context<'a> {
    populations: &'a [Population],
    /// The versions that claims name.
    versions: &'a BTreeSet<String>,
    /// Whether pods tell how many requests they served.
    counts: bool,
    errors: Errors,
}

struct Reader<'a> {
    path: &'a Path,
    folder: &'a Path,
}

impl Reader<'_> {
    fn error<T>(&self, at: Location, message: impl Into<String>) -> Result<T, ScenarioError> {
        Err(ScenarioError::at(self.path, at, message))
    }

    fn place(&self, at: Location) -> Place {
        Place::of(self.path, at)
    }

    fn scenario(&self, raw: raw::Scenario) -> Result<Scenario, ScenarioError> {
        let populations: Vec<Population> = raw
            .populations
            .into_iter()
            .map(|(name, population)| self.population(name, population))
            .collect::<Result<_, _>>()?;
        if !is_dns_label(&raw.namespace.value) {
            return self.error(
                raw.namespace.referenced,
                format!("`{}` is not a namespace: letters, digits and dashes, at most 63", raw.namespace.value),
            );
        }
        if raw.stages.value.is_empty() {
            return self.error(raw.stages.referenced, "a scenario needs at least one stage");
        }
        let client = self.client(raw.client)?;
        let expectations = raw.stages.value.iter().flat_map(|stage| &stage.expect);
        let versions: BTreeSet<String> = expectations.flat_map(|keys| keys.value.versions()).cloned().collect();
        let context = Context {
            populations: &populations,
            versions: &versions,
            counts: raw.served.is_some(),
            errors: self.errors(raw.errors, Errors::default())?,
        };
        let traffic = self.traffic(raw.traffic)?;
        let mut stages: Vec<Stage> = Vec::new();
        let mut countable = Countable::default();
        for stage in raw.stages.value {
            let name = &stage.name;
            if let Some(first) = stages.iter().find(|other| other.name == name.value) {
                let message = format!("a stage `{}` is there already, in line {}", name.value, first.place.line);
                return self.error(name.referenced, message);
            }
            let stage = self.stage(stages.len() + 1, stage, &context)?;
            countable.step_through(&stage);
            countable.check(&stage)?;
            stages.push(stage);
        }
        Ok(Scenario {
            path: self.path.to_owned(),
            name: raw.name,
            namespace: raw.namespace.value,
            service: self.service(&raw.service)?,
            client,
            version: self.version(raw.version)?,
            pod_header: raw.pod.map(|pod| self.header_name(pod.header)).transpose()?,
            served: raw.served.map(|counter| self.counter(counter)).transpose()?,
            traffic,
            populations,
            stages,
        })
    }

    fn service(&self, url: &Spanned<String>) -> Result<Service, ScenarioError> {
        let Some((host, port)) = url
            .value
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
            .map(|rest| rest.split_once(':').unwrap_or((rest, "80")))
            .filter(|(host, _)| !host.is_empty() && !host.contains('/'))
            .and_then(|(host, port)| Some((host, port.parse().ok().filter(|port| *port > 0)?)))
        else {
            return self.error(
                url.referenced,
                format!("`{}` is not a service address such as http://svc-hello:8080", url.value),
            );
        };
        Ok(Service { host: host.to_owned(), port })
    }

    fn client(&self, client: raw::Client) -> Result<Client, ScenarioError> {
        let manifests = self.manifests(&client.manifest)?;
        if !manifests.iter().any(|manifest| manifest.kind() == "Pod" && manifest.name() == client.pod.value) {
            return self.error(
                client.pod.referenced,
                format!("{} holds no Pod `{}`", self.resolve(&client.manifest.value).display(), client.pod.value),
            );
        }
        let container = client.container.unwrap_or_else(|| client.pod.value.clone());
        let driver = client.driver.unwrap_or_else(|| DRIVER.to_owned());
        Ok(Client { manifests, pod: client.pod.value, container, driver })
    }

    fn counter(&self, raw: raw::Counter) -> Result<Served, ScenarioError> {
        Ok(Served { path: self.http_path(raw.path)?, port: raw.port })
    }

    /// A path as it is sent.
    fn http_path(&self, path: Spanned<String>) -> Result<String, ScenarioError> {
        if !path.value.starts_with('/') {
            return self.error(path.referenced, format!("the path `{}` does not begin with `/`", path.value));
        }
        let hint = "; write spaces and other characters as %20 and so on";
        match PathAndQuery::try_from(path.value.as_str()) {
            Ok(read) if read.as_str() == path.value => Ok(path.value),
            // a fragment is never sent
            Ok(_) => self
                .error(path.referenced, format!("the path {:?} has a part behind `#`, which is not sent", path.value)),
            Err(_) => self.error(path.referenced, format!("{:?} is not a path of a URL{hint}", path.value)),
        }
    }

    fn header_name(&self, name: Spanned<String>) -> Result<String, ScenarioError> {
        match HeaderName::from_bytes(name.value.as_bytes()) {
            Ok(_) => Ok(name.value),
            Err(_) => {
                self.error(name.referenced, format!("{:?} is not the name of a header, such as x-version", name.value))
            }
        }
    }

    fn headers(&self, raw: raw::Headers) -> Result<BTreeMap<String, String>, ScenarioError> {
        let mut written: Vec<_> = raw.into_iter().collect();
        written.sort_by_key(|(name, _)| (name.referenced.line(), name.referenced.column()));
        let mut headers = BTreeMap::new();
        for (name, value) in written {
            let name = self.header_name(name)?;
            if HeaderValue::from_str(&value.value).is_err() {
                let message =
                    format!("{:?} is not the value of a header, which holds no control characters", value.value);
                return self.error(value.referenced, message);
            }
            headers.insert(name, value.value);
        }
        Ok(headers)
    }

    fn version(&self, version: Spanned<raw::Version>) -> Result<VersionRule, ScenarioError> {
        let (at, version) = (version.referenced, version.value);
        let told = [version.body.is_some(), version.header.is_some(), version.json.is_some()];
        if told.into_iter().filter(|told| *told).count() > 1 {
            let at = [version.body, version.header, version.json].into_iter().flatten().map(|own| own.referenced);
            let at = at.max_by_key(|at| (at.line(), at.column())).unwrap_or(Location::UNKNOWN);
            return self.error(at, "a version is told by one of `body`, `header` and `json`");
        }
        if let Some(body) = version.body {
            let regex = Regex::new(&body.value)
                .or_else(|error| self.error(body.referenced, format!("not a regular expression: {error}")))?;
            if !regex.capture_names().flatten().any(|name| name == "version") {
                return self.error(
                    body.referenced,
                    "this expression has no group `version`; write the part that tells it as (?<version>…)",
                );
            }
            Ok(VersionRule::Body(regex))
        } else if let Some(header) = version.header {
            Ok(VersionRule::Header(self.header_name(header)?))
        } else if let Some(pointer) = version.json {
            if !pointer.value.starts_with('/') {
                return self
                    .error(pointer.referenced, format!("`{}` is not a JSON pointer such as /version", pointer.value));
            }
            Ok(VersionRule::Json(pointer.value))
        } else {
            self.error(at, "`version` needs `body`, `header` or `json`")
        }
    }

    fn population(&self, name: String, population: raw::Population) -> Result<Population, ScenarioError> {
        let headers = self.headers(population.headers)?;
        if population.any_of.is_empty() {
            return Ok(Population { name, variants: vec![Request { headers }] });
        }
        let variants = population.any_of.into_iter().map(|variant| {
            let mut headers = headers.clone();
            headers.extend(self.headers(variant.headers)?);
            Ok(Request { headers })
        });
        Ok(Population { name, variants: variants.collect::<Result<_, _>>()? })
    }

    fn stage(&self, number: usize, stage: raw::Stage, context: &Context<'_>) -> Result<Stage, ScenarioError> {
        let mut steps = Vec::new();
        if let Some(files) = &stage.apply {
            let mut manifests = Vec::new();
            for file in &files.value {
                manifests.extend(self.manifests(file)?);
            }
            self.each_once(&manifests)?;
            steps.push((files.referenced, Step::Apply(manifests)));
        }
        if let Some(targets) = &stage.delete {
            let mut resolved = Vec::new();
            for target in &targets.value {
                resolved.extend(self.targets(target)?);
            }
            steps.push((targets.referenced, Step::Delete(resolved)));
        }
        steps.sort_by_key(|(at, _)| (at.line(), at.column()));
        let mut expect = Vec::new();
        for keys in stage.expect {
            expect.extend(self.expectation(keys, context)?);
        }
        let stage = Stage {
            name: stage.name.value,
            steps: steps.into_iter().map(|(_, step)| step).collect(),
            expect,
            place: self.place(stage.name.referenced),
        };
        unwatched(number, &stage)?;
        claimed_twice(&stage)?;
        Ok(stage)
    }

    /// Of two objects with one name the first would be gone as soon as it is there.
    #[expect(clippy::unused_self, reason = "one of the reader's steps")]
    fn each_once(&self, manifests: &[Manifest]) -> Result<(), ScenarioError> {
        let mut first: HashMap<(String, &str, Option<&str>), &Manifest> = HashMap::new();
        for manifest in manifests {
            let key = (manifest.id(), manifest.group(), manifest.object.metadata.namespace.as_deref());
            if let Some(first) = first.insert(key, manifest) {
                return Err(ScenarioError::Malformed {
                    place: manifest.origin.clone(),
                    message: format!("{} is applied in this stage already, from {}", manifest.id(), first.origin),
                });
            }
        }
        Ok(())
    }

    fn expectation(&self, keys: Spanned<raw::Keys>, context: &Context<'_>) -> Result<Vec<Expectation>, ScenarioError> {
        let at = keys.referenced;
        match keys.value.form(at).or_else(|(at, message)| self.error(at, message))? {
            raw::Expectation::Claim(claim) => Ok(vec![Expectation::Claim(self.claim(*claim, at, context)?)]),
            raw::Expectation::During(raw::Watched { during }) => {
                Ok(vec![Expectation::During(self.during(during, at, context)?)])
            }
            raw::Expectation::Served(_) if !context.counts => self.error(
                at,
                "`served` needs to know where a pod tells its count: `served: {path: …, port: …}` at the top",
            ),
            raw::Expectation::Served(raw::ServedBy { served }) => {
                let mut served: Vec<_> = served.into_iter().collect();
                served.sort_by_key(|(workload, _)| (workload.referenced.line(), workload.referenced.column()));
                let served = served.into_iter().map(|(workload, requests)| Expectation::Served {
                    place: self.place(workload.referenced),
                    workload: workload.value,
                    requests,
                });
                Ok(served.collect())
            }
            raw::Expectation::Left(raw::Left { objects }) if objects.value == "none" => {
                Ok(vec![Expectation::NoObjects { place: self.place(at) }])
            }
            raw::Expectation::Left(raw::Left { objects }) => {
                self.error(objects.referenced, format!("`objects` can only be `none`, not `{}`", objects.value))
            }
        }
    }

    fn during(&self, raw: raw::During, at: Location, context: &Context<'_>) -> Result<During, ScenarioError> {
        let mut last_of = BTreeMap::new();
        if let Some(written) = &raw.last_of
            && written.value.is_empty()
        {
            return self.error(written.referenced, "`last-of` names no version");
        }
        for (version, after) in raw.last_of.into_iter().flat_map(|written| written.value) {
            if !context.versions.contains(&version.value) {
                let known = context.versions.iter().map(String::as_str);
                let meant = nearest(&version.value, known);
                return self.error(version.referenced, format!("no claim names a version `{}`{meant}", version.value));
            }
            last_of.insert(version.value, after.value.0);
        }
        let gap = raw.gap.map(|gap| gap.value.0);
        if raw.errors.is_none() && gap.is_none() && last_of.is_empty() {
            return self.error(at, "`during` claims nothing: it needs `errors`, `gap` or `last-of`");
        }
        Ok(During {
            errors: raw.errors,
            excludes: match raw.excludes {
                None => During::EXCLUDES,
                Some(share) if share.value.is_part() => share.value,
                Some(share) => {
                    return self.error(
                        share.referenced,
                        format!("`excludes` lies between 0% and 100%, not at {}", share.value),
                    );
                }
            },
            miss: context.errors.miss,
            gap,
            last_of,
            place: self.place(at),
        })
    }

    fn claim(&self, raw: raw::Claim, at: Location, context: &Context<'_>) -> Result<Claim, ScenarioError> {
        let from = raw.from;
        if !context.populations.iter().any(|population| population.name == from.value) {
            let names = context.populations.iter().map(|population| population.name.as_str());
            return self.error(
                from.referenced,
                format!("there is no population `{}`{}", from.value, nearest(&from.value, names)),
            );
        }
        let path = raw.path.map_or_else(|| Ok("/".to_owned()), |path| self.http_path(path))?;
        let errors = self.errors(raw.errors.unwrap_or_default(), context.errors)?;
        if let Some(get) = &raw.get {
            let versions = get.value.iter().map(|(version, share)| (format!("`{version}`"), *share));
            self.shares(&versions.collect::<Vec<_>>(), errors, get.referenced)?;
        }
        let statuses = match raw.status {
            None => Statuses::Implied,
            Some(status) => {
                let shares = status.value.0;
                if let Some(wrong) = shares.keys().find(|status| !(100..600).contains(*status)) {
                    return self.error(status.referenced, format!("{wrong} is not an HTTP status"));
                }
                let named = shares.iter().map(|(status, share)| (format!("status {status}"), *share));
                self.shares(&named.collect::<Vec<_>>(), errors, status.referenced)?;
                Statuses::Claimed(shares)
            }
        };
        Ok(Claim {
            from: from.value,
            path,
            versions: raw.get.map(|get| get.value).unwrap_or_default(),
            statuses,
            errors,
            place: self.place(at),
        })
    }

    /// Shares that sum to 100 % and stay between 0 and 100 % when they are off by the smallest deviation to be seen.
    fn shares(&self, shares: &[(String, Share)], errors: Errors, at: Location) -> Result<(), ScenarioError> {
        let points = |fraction: f64| (fraction * 1e6).round() / 1e4;
        let sum: f64 = shares.iter().map(|(_, share)| share.fraction()).sum();
        if (sum - 1.0).abs() > 1e-9 {
            return self.error(at, format!("the shares sum to {} %, not to 100 %", points(sum)));
        }
        for (name, share) in shares.iter().filter(|(_, share)| share.is_part()) {
            let room = share.fraction().min(1.0 - share.fraction());
            if errors.deviation > room + 1e-9 {
                let beyond = if share.fraction() < 0.5 { "below 0 %" } else { "above 100 %" };
                return self.error(
                    at,
                    format!(
                        "a deviation of {} points from {share} of {name} reaches {beyond}; claim with `errors: {{deviation: {}%}}` or less",
                        points(errors.deviation),
                        points(room),
                    ),
                );
            }
        }
        Ok(())
    }

    fn errors(&self, raw: raw::Errors, base: Errors) -> Result<Errors, ScenarioError> {
        let rate = |name: &str, written: Option<Spanned<f64>>, base: Rate| match written {
            None => Ok(base),
            Some(chance) => Rate::new(chance.value).map_or_else(
                || {
                    self.error(
                        chance.referenced,
                        format!("`{name}` is a chance above 0 and below 0.5, not {}", chance.value),
                    )
                },
                Ok,
            ),
        };
        let share = |name: &str, written: Option<Spanned<Share>>, base: f64| match written {
            None => Ok(base),
            Some(share) if share.value.is_none() || share.value.is_all() => {
                self.error(share.referenced, format!("`{name}` lies between 0% and 100%, not at {}", share.value))
            }
            Some(share) => Ok(share.value.fraction()),
        };
        let max_requests = match raw.max_requests {
            Some(requests) if requests.value == 0 => {
                return self.error(requests.referenced, "`max-requests` has to allow at least one request");
            }
            Some(requests) => requests.value,
            None => base.max_requests,
        };
        Ok(Errors {
            false_alarm: rate("false-alarm", raw.false_alarm, base.false_alarm)?,
            miss: rate("miss", raw.miss, base.miss)?,
            deviation: share("deviation", raw.deviation, base.deviation)?,
            leak: share("leak", raw.leak, base.leak)?,
            max_requests,
        })
    }

    fn traffic(&self, raw: raw::Traffic) -> Result<Traffic, ScenarioError> {
        if let Some(connections) = raw.connections.as_ref().filter(|number| !(1..=256).contains(&number.value)) {
            return self.error(connections.referenced, format!("{} is not between 1 and 256", connections.value));
        }
        if let Some(qps) = raw.qps.as_ref().filter(|qps| !(0.1..=1e6).contains(&qps.value)) {
            return self
                .error(qps.referenced, format!("{} requests a second is not between 0.1 and 1,000,000", qps.value));
        }
        Ok(Traffic {
            connections: raw.connections.map(|connections| connections.value),
            qps: raw.qps.map(|qps| qps.value),
            keep_alive: raw.keep_alive,
        })
    }

    /// The file beside the scenario, without the detours of `..`.
    fn resolve(&self, file: &str) -> PathBuf {
        let mut path = PathBuf::new();
        for part in self.folder.join(file).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir if matches!(path.components().next_back(), Some(Component::Normal(_))) => {
                    path.pop();
                }
                other => path.push(other),
            }
        }
        path
    }

    fn manifests(&self, file: &Spanned<String>) -> Result<Vec<Manifest>, ScenarioError> {
        let path = self.resolve(&file.value);
        if path.is_file() {
            return manifest::read(&path);
        }
        let present: Vec<String> = std::fs::read_dir(path.parent().unwrap_or(self.folder))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.error(
            file.referenced,
            format!("there is no file {}{}", path.display(), nearest(&name, present.iter().map(String::as_str))),
        )
    }

    fn targets(&self, target: &Spanned<String>) -> Result<Vec<Target>, ScenarioError> {
        let place = self.place(target.referenced);
        if let Some((kind, name)) = target.value.split_once('/').filter(|(_, name)| !is_yaml(name)) {
            return Ok(vec![Target { kind: KindRef::Written(kind.to_owned()), name: name.to_owned(), place }]);
        }
        if !is_yaml(&target.value) {
            return self.error(
                target.referenced,
                format!(
                    "`{}` is neither KIND/NAME, such as deployment/hello-server-v1, nor a manifest file",
                    target.value
                ),
            );
        }
        let manifests = self.manifests(target)?;
        Ok(manifests.iter().map(|manifest| Target::of(manifest, place.clone())).collect())
    }
}

/// The Deployments that are there at a stage, by name: the workloads whose pods `served` can count.
#[derive(Debug, Default)]
struct Countable {
    deployments: BTreeSet<String>,
    /// Why other names cannot be counted.
    others: BTreeMap<String, String>,
}

impl Countable {
    fn step_through(&mut self, stage: &Stage) {
        for step in &stage.steps {
            match step {
                Step::Apply(manifests) => manifests.iter().for_each(|manifest| self.apply(manifest)),
                Step::Delete(targets) => targets.iter().for_each(|target| self.delete(target)),
                Step::Mesh(_) => {}
            }
        }
    }

    fn apply(&mut self, manifest: &Manifest) {
        const OTHERS: [&str; 7] =
            ["StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "Pod", "Rollout"];
        let name = manifest.name().to_owned();
        if manifest.kind() == "Deployment" {
            self.others.remove(&name);
            self.deployments.insert(name);
        } else if OTHERS.contains(&manifest.kind()) && !self.deployments.contains(&name) {
            let why = format!("`{name}` is a {}, and `served` counts the pods of Deployments only", manifest.kind());
            self.others.insert(name, why);
        }
    }

    fn delete(&mut self, target: &Target) {
        let is_deployment = match &target.kind {
            KindRef::Exact { kind, .. } => kind == "Deployment",
            KindRef::Written(written) => ApiKind::of("apps", "Deployment").is_called(written),
        };
        if is_deployment && self.deployments.remove(&target.name) {
            let why = format!(
                "the Deployment `{}` is deleted by then ({}), and pods that are gone tell no count",
                target.name, target.place
            );
            self.others.insert(target.name.clone(), why);
        }
    }

    /// Refuses a claim about the count of pods that are not there, or that nothing is sent to.
    fn check(&self, stage: &Stage) -> Result<(), ScenarioError> {
        for expectation in &stage.expect {
            let Expectation::Served { workload, place, .. } = expectation else { continue };
            let message = if !self.deployments.contains(workload) {
                self.others.get(workload).cloned().unwrap_or_else(|| {
                    let meant = nearest(workload, self.deployments.iter().map(String::as_str));
                    format!("no manifest up to this stage makes a workload `{workload}`{meant}")
                })
            } else if stage.claims().next().is_none() {
                "no request is sent in this stage: `served` counts those of the stage's claims about populations"
                    .to_owned()
            } else {
                continue;
            };
            return Err(ScenarioError::Malformed { place: place.clone(), message });
        }
        Ok(())
    }
}

/// Refuses two claims about the same in one stage: of one population and path, or of one workload.
fn claimed_twice(stage: &Stage) -> Result<(), ScenarioError> {
    let mut first: HashMap<(&str, Option<&str>), &Place> = HashMap::new();
    for expectation in &stage.expect {
        let (key, place) = match expectation {
            Expectation::Claim(claim) => ((claim.from.as_str(), Some(claim.path.as_str())), &claim.place),
            Expectation::Served { workload, place, .. } => ((workload.as_str(), None), place),
            Expectation::During(_) | Expectation::NoObjects { .. } => continue,
        };
        let Some(first) = first.insert(key, place) else { continue };
        let what = match key {
            (from, Some(path)) => format!("what `{from}` gets from {path}"),
            (workload, None) => format!("what `{workload}` serves"),
        };
        let message = format!("{what} is claimed in this stage already, in line {}", first.line);
        return Err(ScenarioError::Malformed { place: place.clone(), message });
    }
    Ok(())
}

/// Refuses a claim about a change that nobody watches.
fn unwatched(number: usize, stage: &Stage) -> Result<(), ScenarioError> {
    let mut during = stage.expect.iter().filter_map(|expectation| match expectation {
        Expectation::During(during) => Some(during),
        _ => None,
    });
    let Some(first) = during.next() else { return Ok(()) };
    let refused = |place: &Place, message: String| Err(ScenarioError::Malformed { place: place.clone(), message });
    if let Some(second) = during.next() {
        let message = format!("the change of this stage has its `during` already, in line {}", first.place.line);
        return refused(&second.place, message);
    }
    let reason = if number == 1 {
        "the client pod, which sends the requests, starts in the first stage"
    } else if !stage.does_something() {
        "nothing is applied or deleted in this stage"
    } else if stage.claims().next().is_none() {
        "this stage claims nothing of a population, whose requests could be watched"
    } else {
        return Ok(());
    };
    refused(&first.place, format!("there is no change to watch: {reason}"))
}

/// A rendered parser message without the places that stand in front of it anyway: the message, then the excerpt.
fn without_place(rendered: &str) -> String {
    let mut lines = rendered.lines().filter(|line| !line.trim_start().starts_with("--> "));
    let first = lines.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let message = match message.split_once(": ") {
        Some((place, message)) if place.starts_with("line ") && place.contains(" column ") => message,
        _ => message,
    };
    let lines: Vec<&str> = std::iter::once(message).chain(lines).map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// The message about an unknown key with the known one that is close to it.
fn with_nearest(message: &str) -> String {
    let (first, rest) = message.split_once('\n').map_or((message, None), |(first, rest)| (first, Some(rest)));
    let meant = first.strip_prefix("unknown field `").and_then(|unknown| {
        let (unknown, known) = unknown.split_once("`, expected one of ")?;
        Some(nearest(unknown, known.split(", ")))
    });
    let meant = meant.unwrap_or_default();
    match rest {
        Some(rest) => format!("{first}{meant}\n{rest}"),
        None => format!("{first}{meant}"),
    }
}

fn is_yaml(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn is_dns_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The canary scenario with a change.
    fn canary(from: &str, to: &str) -> Scenario {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/canary/scenario.yaml");
        let text = manifest::text(&path).unwrap();
        assert!(text.contains(from), "the scenario does not hold `{from}`");
        Scenario::parse(&path, &text.replacen(from, to, 1)).unwrap()
    }

    fn claims(stage: &Stage) -> Vec<&Claim> {
        stage.claims().collect()
    }

    #[test]
    fn a_claim_has_the_errors_of_the_scenario_but_for_its_own() {
        let scenario = canary("populations:", "errors: {false-alarm: 1e-4, deviation: 5%}\npopulations:");
        let errors = claims(&scenario.stages[3])[1].errors;
        let defaults = Errors::default();
        assert_eq!((errors.false_alarm, errors.miss), (Rate::new(1e-4).unwrap(), defaults.miss));
        assert!((errors.deviation - 0.05).abs() < 1e-12);

        let own = "get: {v1: 50%, v2: 50%}, errors: {miss: 1e-2, leak: 0.5%, max-requests: 5000}}";
        let scenario = canary("get: {v1: 50%, v2: 50%}}", own);
        let split = claims(&scenario.stages[3]);
        assert_eq!((split[1].errors.miss, split[1].errors.max_requests), (Rate::new(1e-2).unwrap(), 5000));
        assert!((split[1].errors.leak - 0.005).abs() < 1e-12);
        assert_eq!(split[0].errors, defaults, "another claim is left alone");
    }

    #[test]
    fn a_status_is_one_or_a_split_or_200_on_the_side() {
        let scenario = canary("status: 503", "status: {200: 90%, 503: 10%}");
        let [split, all] = claims(&scenario.stages[4])[..] else { panic!("two claims") };
        let shares = [200, 503, 404].map(|status| split.statuses.share(status).to_string());
        assert_eq!(shares, ["90 %", "10 %", "0 %"]);
        assert!(all.statuses.share(503).is_all() && all.statuses.share(200).is_none());
        let implied = claims(&scenario.stages[0])[0];
        assert_eq!(implied.statuses, Statuses::Implied);
        assert!(implied.statuses.share(200).is_all() && implied.statuses.share(204).is_none());
    }

    #[test]
    fn only_the_status_may_be_claimed() {
        let scenario = canary("path: /error, get: {v1: 100%}, status: 503", "path: /error, status: 503");
        assert!(claims(&scenario.stages[4])[0].versions.is_empty());
    }

    #[test]
    fn traffic_is_driven_as_the_scenario_says() {
        let scenario = canary("populations:", "traffic: {connections: 4, qps: 250.5, keep-alive: false}\npopulations:");
        assert_eq!(scenario.traffic, Traffic { connections: Some(4), qps: Some(250.5), keep_alive: Some(false) });
        assert_eq!(canary("name: canary", "name: other").traffic, Traffic::default());
    }

    #[test]
    fn a_change_is_claimed_by_errors_gap_and_last_answers() {
        let wanted = "- {during: {errors: 2, excludes: 5%, gap: 200ms, last-of: {v1: 1m30s, v2: 5s}}}";
        let scenario = canary("- {served: {hello-server-v2: 0}}", wanted);
        let Some(Expectation::During(during)) = scenario.stages[2].expect.last() else {
            panic!("a claim of the change")
        };
        assert_eq!((during.errors, during.gap), (Some(2), Some(Duration::from_millis(200))));
        assert_eq!((during.excludes, during.miss), ("5%".parse().unwrap(), Errors::default().miss));
        let last = [("v1".to_owned(), Duration::from_secs(90)), ("v2".to_owned(), Duration::from_secs(5))];
        assert_eq!(during.last_of, BTreeMap::from(last));
        let shown = "at most 2 errors, at most 200ms without a right answer, no v1 after 1m 30s, no v2 after 5s";
        assert_eq!(during.to_string(), shown);
        let scenario = canary("- {served: {hello-server-v2: 0}}", "- {during: {gap: 1s}}");
        let Some(Expectation::During(during)) = scenario.stages[2].expect.last() else {
            panic!("a claim of the change")
        };
        assert_eq!((during.errors, during.excludes), (None, "1%".parse().unwrap()));
    }

    #[test]
    fn every_expectation_and_stage_has_its_place() {
        let scenario = canary("v2: 0}}\n", "v2: 0}}\n      - {during: {errors: 0}}\n");
        let places = |stage: usize| -> Vec<(u64, u64)> {
            scenario.stages[stage].expect.iter().map(|own| (own.place().line, own.place().column)).collect()
        };
        assert_eq!(places(2), [(39, 9), (40, 9), (41, 9), (42, 19), (43, 9)]);
        assert_eq!(places(8), [(83, 9)]);
        let place = &scenario.stages[2].place;
        assert!(place.to_string().ends_with("fixtures/canary/scenario.yaml:36:11"), "{place}");
    }
}
