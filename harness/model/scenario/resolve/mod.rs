//! From the parsed scenario file to the [`Scenario`]: resolves names and files, and checks values.

mod acts;
mod addons;
mod checks;
mod claims;
mod clients;
mod controller;
mod growth;
mod messages;
mod outside;
mod service;
mod service_levels;
mod sessions;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use regex::Regex;
use serde_saphyr::{Location, Spanned};

use self::checks::{Countable, claimed_once, declared_once, watchable};
use self::controller::{Awaited, driven};
use super::error::ScenarioError;
use super::error_rates::ErrorRates;
use super::kinds::{KindRef, Target};
use super::manifest::{self, Manifest};
use super::model::{Client, DRIVER, Nodes, Scenario, Served, Service, Stage, Step, Traffic, VersionRule};
use super::origin::Origin;
use super::parse::{Keys, parse, raw};
use super::population::Population;
use super::scheme::Scheme;
use super::suggest::nearest;

impl Scenario {
    /// Reads a scenario file and the manifests that it names.
    ///
    /// # Errors
    /// A file cannot be read or is not YAML, a key is unknown, a value has the wrong type, a name is unknown, shares do not sum to 100 %: each
    /// with file, line and column.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ScenarioError> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join("scenario.yaml") } else { path.to_owned() };
        Self::parse(&path, &manifest::text(&path)?)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        let resolver = Resolver { path, folder: path.parent().unwrap_or(Path::new("")) };
        resolver.scenario(parse(path, text)?).map_err(|error| error.with_excerpt(path, text))
    }

    /// The manifest files, and those of certificates and descriptors, that the text of a scenario file names, relative to where `path` is. They are not read.
    ///
    /// # Errors
    /// The text is not YAML, a key is unknown, or a value has the wrong type.
    pub fn named_files(path: &Path, text: &str) -> Result<Vec<PathBuf>, ScenarioError> {
        let raw = parse(path, text)?;
        let resolver = Resolver { path, folder: path.parent().unwrap_or(Path::new("")) };
        let stages = raw.stages.value.iter();
        let beside =
            raw.descriptors.iter().chain(raw.populations.values().filter_map(|own| Some(&own.tls.as_ref()?.value.ca)));
        let named = stages.flat_map(|stage| stage.apply.iter().chain(&stage.delete).flat_map(|files| &files.value));
        let named =
            std::iter::once(&raw.client.manifest).chain(named.filter(|name| is_yaml(&name.value))).chain(beside);
        Ok(named.map(|name| resolver.full_path(&name.value)).collect())
    }

    /// The JSON schema of scenario files, for editors.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(raw::Scenario).to_value()
    }
}

/// What expectations refer to.
struct Context<'a> {
    populations: &'a [Population],
    service: &'a Service,
    version: &'a VersionRule,
    /// The versions in claims.
    versions: &'a BTreeSet<String>,
    /// Whether pods report the number of requests that they have served.
    has_counter: bool,
    sending: Sending,
    /// Whether responses name the pod.
    names_pods: bool,
    errors: ErrorRates,
}

/// How requests are sent.
#[derive(Clone, Copy)]
struct Sending {
    /// Whether requests are sent at a rate, whatever is in flight.
    is_open_loop: bool,
    /// Whether each request has a connection of its own.
    connects_each: bool,
}

impl Sending {
    fn of(traffic: &raw::Traffic) -> Self {
        Self {
            is_open_loop: traffic.qps.is_some(),
            connects_each: traffic.keep_alive.as_ref().is_some_and(|kept| !kept.value),
        }
    }
}

struct Resolver<'a> {
    path: &'a Path,
    folder: &'a Path,
}

impl Resolver<'_> {
    fn error<T>(&self, at: Location, message: impl Into<String>) -> Result<T, ScenarioError> {
        Err(ScenarioError::at(self.path, at, message))
    }

    fn origin(&self, at: Location) -> Origin {
        Origin::of(self.path, at)
    }

    fn scenario(&self, raw: raw::Scenario) -> Result<Scenario, ScenarioError> {
        let service = self.service(&raw.service)?;
        let version_at = raw.version.referenced;
        let version = self.version(raw.version.clone())?;
        self.refuse_for_scheme(&raw, service.scheme, &version, version_at)?;
        let messages = self.messages(&raw.service, raw.descriptors.as_ref(), raw.messages)?;
        self.check_namespace(&raw.namespace)?;
        if raw.stages.value.is_empty() {
            return self.error(raw.stages.referenced, "a scenario needs at least one stage");
        }
        let replicas = self.replicas(raw.client.replicas.as_ref())?;
        let mut client = self.client(raw.client)?;
        let others = self.clients(raw.clients, &raw.namespace.value, &mut client)?;
        let mut entrances = Vec::new();
        let mut populations = self.populations(raw.populations, &client.others, &mut entrances)?;
        self.add_outside(raw.traffic.outside.as_ref(), &entrances, &mut client)?;
        let versions = versions(&raw.stages.value);
        let context = Context {
            populations: &populations,
            service: &service,
            version: &version,
            versions: &versions,
            has_counter: raw.served.is_some(),
            sending: Sending::of(&raw.traffic),
            names_pods: raw.pod.is_some(),
            errors: self.top_level_error_rates(raw.error_rates, raw.errors)?,
        };
        let traffic = self.traffic(raw.traffic, service.scheme)?;
        let sensitive_headers = raw.redact_headers.into_iter().map(|name| self.header_name(name));
        let sensitive_headers = sensitive_headers.collect::<Result<_, _>>()?;
        let stages = self.stages(raw.stages.value, &context, &client)?;
        let controller = raw.controller.map(|raw| self.controlled(raw)).transpose()?;
        driven(controller.as_ref(), &stages)?;
        self.enter(&entrances, &stages, &mut populations)?;
        self.only_send(&others, &populations, (&client, &raw.namespace.value), &stages)?;
        let counter = |raw: raw::Counter| Ok(Served { path: self.http_path(raw.path)?, port: raw.port });
        let scenario = Scenario {
            path: self.path.to_owned(),
            name: raw.name,
            namespace: raw.namespace.value,
            install: self.install(raw.install),
            addons: self.addons(raw.addons)?,
            nodes: raw.nodes.as_ref().map(|own| self.nodes(own)).transpose()?,
            controller,
            service,
            client,
            version_origin: self.origin(version_at),
            version,
            messages,
            pod_header: raw.pod.map(|pod| self.header_name(pod.header)).transpose()?,
            served: raw.served.map(counter).transpose()?,
            traffic,
            sensitive_headers,
            populations,
            stages,
        };
        Self::with_calls(scenario)?.with_clients(replicas)
    }

    fn check_namespace(&self, written: &Spanned<String>) -> Result<(), ScenarioError> {
        if is_dns_label(&written.value) {
            return Ok(());
        }
        let message = format!("`{}` is not a namespace: letters, digits and dashes, at most 63", written.value);
        self.error(written.referenced, message)
    }

    fn nodes(&self, written: &Spanned<u8>) -> Result<Nodes, ScenarioError> {
        let (least, most) = (Nodes::RANGE.start(), Nodes::RANGE.end());
        if !Nodes::RANGE.contains(&written.value) {
            let message = format!("{} is not between {least} and {most}", written.value);
            return self.error(written.referenced, message);
        }
        Ok(Nodes { number: written.value, origin: self.origin(written.referenced) })
    }

    fn replicas(&self, written: Option<&Spanned<u16>>) -> Result<u16, ScenarioError> {
        match written {
            Some(number) if !Client::REPLICAS.contains(&number.value) => {
                self.error(number.referenced, format!("{} is not between 1 and 64", number.value))
            }
            number => Ok(number.map_or(1, |number| number.value)),
        }
    }

    fn stages(
        &self,
        raw: Vec<raw::Stage>,
        context: &Context<'_>,
        client: &Client,
    ) -> Result<Vec<Stage>, ScenarioError> {
        let mut stages: Vec<Stage> = Vec::new();
        let mut countable = Countable::default();
        for stage in raw {
            let name = &stage.name;
            if let Some(first) = stages.iter().find(|other| other.name == name.value) {
                let message = format!("the stage name `{}` is already used in line {}", name.value, first.origin.line);
                return self.error(name.referenced, message);
            }
            let mut stage = self.stage(&stages, stage, context)?;
            client.end_others(&mut stage);
            countable.step_through(&stage);
            countable.check(&stage)?;
            stages.push(stage);
        }
        Ok(stages)
    }

    fn client(&self, client: raw::Client) -> Result<Client, ScenarioError> {
        let manifests = self.manifests(&client.manifest)?;
        if !manifests.iter().any(|manifest| manifest.kind() == "Pod" && manifest.name() == client.pod.value) {
            return self.error(
                client.pod.referenced,
                format!("{} contains no Pod `{}`", self.full_path(&client.manifest.value).display(), client.pod.value),
            );
        }
        let container = client.container.unwrap_or_else(|| client.pod.value.clone());
        let driver = client.driver.unwrap_or_else(|| DRIVER.to_owned());
        Ok(Client { manifests, pod: client.pod.value, outside: None, others: Vec::new(), container, driver })
    }

    /// A request path that is sent as written.
    fn http_path(&self, path: Spanned<String>) -> Result<String, ScenarioError> {
        if !path.value.starts_with('/') {
            return self.error(path.referenced, format!("the path `{}` does not begin with `/`", path.value));
        }
        let hint = "; write spaces and other characters as %20 and so on";
        match PathAndQuery::try_from(path.value.as_str()) {
            Ok(read) if read.as_str() == path.value => Ok(path.value),
            // a fragment is never sent
            Ok(_) => self.error(
                path.referenced,
                format!("the path {:?} has a fragment after `#`, which is not sent", path.value),
            ),
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
        let rules = [&version.body, &version.header, &version.json, &version.field, &version.line];
        let mut rules: Vec<Location> = rules.into_iter().flatten().map(|rule| rule.referenced).collect();
        rules.sort_by_key(|at| (at.line(), at.column()));
        if let [_, .., last] = rules[..] {
            return self.error(last, "`version` takes only one of `body`, `header`, `json`, `field` and `line`");
        }
        if let Some(body) = version.body {
            Ok(VersionRule::Body(self.expression(&body)?))
        } else if let Some(line) = version.line {
            Ok(VersionRule::Line(self.expression(&line)?))
        } else if let Some(header) = version.header {
            Ok(VersionRule::Header(self.header_name(header)?))
        } else if let Some(pointer) = version.json {
            if !pointer.value.starts_with('/') {
                return self
                    .error(pointer.referenced, format!("`{}` is not a JSON pointer such as /version", pointer.value));
            }
            Ok(VersionRule::Json(pointer.value))
        } else if let Some(field) = version.field {
            Ok(VersionRule::Field(field.value))
        } else {
            self.error(at, "`version` needs `body`, `header`, `json`, `field` or `line`")
        }
    }

    /// A regular expression with a group for the version.
    fn expression(&self, written: &Spanned<String>) -> Result<Regex, ScenarioError> {
        let regex = Regex::new(&written.value)
            .or_else(|error| self.error(written.referenced, format!("not a regular expression: {error}")))?;
        if !regex.capture_names().flatten().any(|name| name == "version") {
            let message = "this expression has no group `version`; write the version as (?<version>…)";
            return self.error(written.referenced, message);
        }
        Ok(regex)
    }

    fn stage(&self, earlier: &[Stage], stage: raw::Stage, context: &Context<'_>) -> Result<Stage, ScenarioError> {
        let mut steps = Vec::new();
        for file in stage.apply.iter().flat_map(|files| &files.value) {
            let applied = self.manifests(file)?.into_iter().map(|manifest| Step::Apply(Arc::new(manifest)));
            steps.extend(applied.map(|step| (key_of(stage.apply.as_ref()), step)));
        }
        for target in stage.delete.iter().flat_map(|targets| &targets.value) {
            steps.extend(
                self.targets(target)?.into_iter().map(|target| (key_of(stage.delete.as_ref()), Step::Delete(target))),
            );
        }
        let key = key_of(stage.act.as_ref());
        let acts = stage
            .act
            .map(|acts| self.acts(acts, earlier, steps.iter().map(|(_, step)| step.clone()).collect()))
            .transpose()?
            .unwrap_or_default();
        steps.extend(acts.into_iter().map(|act| (key, act)));
        // the order of the keys
        steps.sort_by_key(|(key, _)| key.map(|key| (key.line(), key.column())));
        let mut expect = Vec::new();
        for keys in stage.expect {
            expect.extend(self.expectation(keys, context)?);
        }
        let steps: Vec<Step> = steps.into_iter().map(|(_, step)| step).collect();
        let before: Vec<&Step> = earlier.iter().flat_map(|stage| &stage.steps).chain(&steps).collect();
        let Awaited { wait, growth } = self.awaited(stage.wait, stage.follow, &before)?;
        let stage =
            Stage { name: stage.name.value, steps, wait, growth, expect, origin: self.origin(stage.name.referenced) };
        declared_once(&stage)?;
        watchable(earlier.len() + 1, &stage)?;
        claimed_once(&stage)?;
        Ok(stage)
    }

    fn traffic(&self, raw: raw::Traffic, scheme: Scheme) -> Result<Traffic, ScenarioError> {
        let kept = raw.keep_alive.as_ref().filter(|kept| kept.value);
        if let Some(kept) = kept.filter(|_| scheme.is_of_connections()) {
            let message = format!("each request of `{scheme}://` is a connection of its own; remove `keep-alive`");
            return self.error(kept.referenced, message);
        }
        for number in [&raw.connections, &raw.streams].into_iter().flatten() {
            if !(1..=256).contains(&number.value) {
                return self.error(number.referenced, format!("{} is not between 1 and 256", number.value));
            }
        }
        if let Some(streams) = raw.streams.as_ref().filter(|_| !matches!(scheme, Scheme::H2c | Scheme::Grpc)) {
            let message = format!("a connection of `{scheme}://` has one request in flight; remove `streams`");
            return self.error(streams.referenced, message);
        }
        if let Some(qps) = raw.qps.as_ref().filter(|qps| !(0.1..=1e6).contains(&qps.value)) {
            return self
                .error(qps.referenced, format!("{} requests per second is not between 0.1 and 1,000,000", qps.value));
        }
        Ok(Traffic {
            connections: raw.connections.map(|connections| connections.value),
            streams: raw.streams.map(|streams| streams.value),
            qps: raw.qps.map(|qps| qps.value),
            keep_alive: raw.keep_alive.map(|kept| kept.value),
            outside: raw.outside.map(|outside| outside.value).unwrap_or_default(),
        })
    }

    /// The path of a file, relative to the scenario's folder, without `..` where possible.
    fn full_path(&self, file: &str) -> PathBuf {
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
        manifest::read(&self.existing(file)?)
    }

    /// The path of a file that is there.
    fn existing(&self, file: &Spanned<String>) -> Result<PathBuf, ScenarioError> {
        let path = self.full_path(&file.value);
        if path.is_file() {
            return Ok(path);
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
        let origin = self.origin(target.referenced);
        if let Some((kind, name)) = target.value.split_once('/').filter(|(_, name)| !is_yaml(name)) {
            return Ok(vec![Target { kind: KindRef::Written(kind.to_owned()), name: name.to_owned(), origin }]);
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
        Ok(manifests.iter().map(|manifest| Target::of(manifest, origin.clone())).collect())
    }
}

/// The versions in the claims of stages.
fn versions(stages: &[raw::Stage]) -> BTreeSet<String> {
    let claims = stages.iter().flat_map(|stage| &stage.expect).map(|keys| &keys.value);
    let named = claims.clone().flat_map(Keys::versions).cloned();
    named.chain(claims.flat_map(Keys::versions_along).map(ToOwned::to_owned)).collect()
}

fn key_of<T>(key: Option<&Spanned<T>>) -> Option<Location> {
    key.map(|key| key.referenced)
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
