//! Which messages the calls of a scenario send, and where their answers state the version.

use super::descriptors::{Call, Calls, Descriptors};
use super::error::ScenarioError;
use super::expectation::{Expectation, Statuses};
use super::manifest;
use super::model::{Scenario, Stage, VersionRule};
use super::origin::Origin;
use super::status::StatusCode;

/// The status of gRPC of methods that do not exist.
const UNIMPLEMENTED: u16 = 12;

/// A method that requests of a scenario call.
struct Called<'a> {
    method: &'a str,
    /// Whether its answers have to state the version.
    states_version: bool,
    /// Whether it need not exist.
    may_be_missing: bool,
    origin: &'a Origin,
}

impl Scenario {
    /// The calls by method, if they are known without a server: the descriptor set of the scenario gives them, or every message is empty and
    /// states no version.
    pub fn calls(&self) -> Option<Calls> {
        if self.needs_descriptors() { self.messages.calls.clone() } else { Some(Calls::new()) }
    }

    /// Whether calls can be made only if the types of their messages are known.
    pub(super) fn needs_descriptors(&self) -> bool {
        matches!(self.version, VersionRule::Field(_)) || !self.messages.sent.is_empty()
    }

    /// Where the scenario needs the types of messages.
    pub fn messages_origin(&self) -> &Origin {
        let sent = self.messages.sent.values().map(|(_, origin)| origin).next();
        if matches!(self.version, VersionRule::Field(_)) {
            &self.version_origin
        } else {
            sent.unwrap_or(&self.version_origin)
        }
    }

    /// The services whose methods are called.
    pub fn called_services(&self) -> Vec<&str> {
        let methods =
            self.called().into_iter().map(|called| called.method).chain(self.messages.sent.keys().map(String::as_str));
        let mut services: Vec<&str> =
            methods.filter_map(|method| Some(method.trim_start_matches('/').split_once('/')?.0)).collect();
        services.sort_unstable();
        services.dedup();
        services
    }

    /// The calls by method, with the types of their messages.
    ///
    /// # Errors
    /// A method or a field does not exist, with the place of its name in the scenario.
    pub fn calls_by(&self, descriptors: &Descriptors) -> Result<Calls, ScenarioError> {
        let found = self.resolved(descriptors);
        found.map_err(|error| match manifest::text(&self.path) {
            Ok(text) => error.with_excerpt(&self.path, &text),
            Err(_) => error,
        })
    }

    pub(super) fn resolved(&self, descriptors: &Descriptors) -> Result<Calls, ScenarioError> {
        let refuse = |origin: &Origin, message: String| ScenarioError::Malformed { origin: origin.clone(), message };
        let mut calls = Calls::new();
        for (path, (written, origin)) in &self.messages.sent {
            let method = descriptors.method(path).map_err(|message| refuse(origin, message))?;
            let message = Descriptors::message(&method, written).map_err(|message| refuse(origin, message))?;
            calls.insert(path.clone(), Call { message, version: None });
        }
        for called in self.called() {
            let method = match descriptors.method(called.method) {
                Ok(method) => method,
                Err(_) if called.may_be_missing => continue,
                Err(message) => return Err(refuse(called.origin, message)),
            };
            let (VersionRule::Field(path), true) = (&self.version, called.states_version) else { continue };
            let version = Descriptors::version(&method, path).map_err(|message| {
                let message = format!("no answer of {} states a version: {message}", called.method);
                // the method that claims call by default is a part of the service's address
                let is_default = called.method == self.service.path;
                refuse(if is_default { &self.version_origin } else { called.origin }, message)
            })?;
            calls.entry(called.method.to_owned()).or_default().version = Some(version);
        }
        Ok(calls)
    }

    /// The methods that requests call, the default one first.
    fn called(&self) -> Vec<Called<'_>> {
        let default = Called {
            method: &self.service.path,
            states_version: true,
            may_be_missing: false,
            origin: &self.messages.service_origin,
        };
        let claims = self.stages.iter().flat_map(|stage| &stage.expect).filter_map(|expectation| match expectation {
            Expectation::Claim(claim) => Some(Called {
                method: &claim.path,
                states_version: !claim.versions.is_empty() && claim.slower_than.is_none(),
                may_be_missing: matches!(&claim.statuses, Statuses::Claimed(shares) if shares.contains_key(&UNIMPLEMENTED)),
                origin: &claim.origin,
            }),
            Expectation::ServiceLevel(level) => Some(Called {
                method: &level.path,
                states_version: level.versions().is_some(),
                may_be_missing: false,
                origin: &level.origin,
            }),
            _ => None,
        });
        std::iter::once(default).chain(claims).collect()
    }

    /// Refuses claims about the version of answers that have no message.
    pub(super) fn refuse_versions_without_message(&self) -> Result<(), ScenarioError> {
        let VersionRule::Field(_) = self.version else { return Ok(()) };
        for claim in self.stages.iter().flat_map(Stage::claims) {
            let Statuses::Claimed(shares) = &claim.statuses else { continue };
            if let Some((status, _)) = shares.iter().find(|(status, _)| **status != 0)
                && !claim.versions.is_empty()
                && !shares.contains_key(&0)
            {
                let message = format!(
                    "answers with the status {} have no message, which would state the version; claim the status alone, or read the version with `header`",
                    StatusCode(*status)
                );
                return Err(ScenarioError::Malformed { origin: claim.origin.clone(), message });
            }
        }
        Ok(())
    }
}
