//! The messages of gRPC.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use serde_saphyr::Spanned;

use super::Resolver;
use crate::scenario::descriptors::{Descriptors, Messages};
use crate::scenario::error::ScenarioError;
use crate::scenario::model::Scenario;
use crate::scenario::scheme::Scheme;

impl Resolver<'_> {
    pub(super) fn messages(
        &self,
        service: &Spanned<String>,
        descriptors: Option<&Spanned<String>>,
        sent: HashMap<Spanned<String>, Spanned<Value>>,
    ) -> Result<Messages, ScenarioError> {
        let mut messages = Messages::none(self.origin(service.referenced));
        messages.descriptors = descriptors.map(|file| self.existing(file)).transpose()?;
        messages.descriptors_origin = descriptors.map(|file| self.origin(file.referenced));
        let mut written: Vec<_> = sent.into_iter().collect();
        written.sort_by_key(|(method, _)| (method.referenced.line(), method.referenced.column()));
        let mut sent = BTreeMap::new();
        for (method, message) in written {
            if !Scheme::Grpc.takes(&method.value) {
                let example = Scheme::Grpc.default_path();
                let message = format!("`{}` is not a method of gRPC such as {example}", method.value);
                return self.error(method.referenced, message);
            }
            sent.insert(method.value, (message.value, self.origin(method.referenced)));
        }
        Ok(Messages { sent, ..messages })
    }

    /// The scenario with its calls, as far as a descriptor set gives them.
    pub(super) fn with_calls(mut scenario: Scenario) -> Result<Scenario, ScenarioError> {
        scenario.refuse_versions_without_message()?;
        let (Some(file), Some(origin)) = (&scenario.messages.descriptors, &scenario.messages.descriptors_origin) else {
            // the server's reflection gives them
            return Ok(scenario);
        };
        let unreadable = |source| ScenarioError::Unreadable { path: file.clone(), source };
        let set = std::fs::read(file).map_err(unreadable)?;
        let descriptors = Descriptors::of_set(&set).map_err(|reason| {
            let message = format!(
                "{} is not a descriptor set, as `protoc --include_imports --descriptor_set_out` writes it: {reason}",
                file.display()
            );
            ScenarioError::Malformed { origin: origin.clone(), message }
        })?;
        scenario.messages.calls = Some(scenario.resolved(&descriptors)?);
        Ok(scenario)
    }
}
