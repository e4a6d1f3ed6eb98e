use std::collections::BTreeSet;
use std::fmt;

use docker_credential::DockerCredential;
use serde_json::{Map, Value, json};

/// Credentials for registries, in the format of Docker's `config.json`. `Debug` does not show them.
#[derive(Clone)]
pub struct RegistryCredentials(Map<String, Value>);

impl RegistryCredentials {
    /// The credentials that the engine's client has for these registries, by `config.json` in `~/.docker` or in
    /// `DOCKER_CONFIG`, with its credential helpers; none if there are none.
    pub(super) fn find(registries: &BTreeSet<String>) -> Option<Self> {
        let entries: Map<String, Value> = registries
            .iter()
            .filter_map(|registry| {
                let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry.as_str() };
                match docker_credential::get_credential(server) {
                    Ok(DockerCredential::UsernamePassword(username, password)) => {
                        Some((server.to_owned(), json!({"username": username, "password": password})))
                    }
                    // the kubelet does not use identity tokens; without credentials an image may be public
                    Ok(DockerCredential::IdentityToken(_)) | Err(_) => None,
                }
            })
            .collect();
        (!entries.is_empty()).then_some(Self(entries))
    }

    /// The content of `config.json`.
    pub(super) fn config(&self) -> Vec<u8> {
        json!({"auths": self.0}).to_string().into_bytes()
    }
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}
