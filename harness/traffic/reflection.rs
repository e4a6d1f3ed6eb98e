//! The messages of gRPC, of which the server's reflection gives the types.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::driver::{Backend, Driver};
use super::error::{ProtocolError, TrafficError};
use crate::scenario::{Calls, Descriptors, Scenario, StatusCode};
use crate::workload::{DriverCommand, DriverMessage, ReflectPlan, Reflection};

/// How long a server that does not answer is asked again.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);
/// The timeout of one question.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the driver may be silent while it asks.
const SILENCE: Duration = Duration::from_secs(60);
/// The statuses of methods that do not exist, of gRPC and of HTTP.
const MISSING: [u16; 2] = [12, 404];

impl Driver {
    /// The calls of a scenario by method. The first time that types of messages are needed, the server is asked for them, through the mesh like
    /// every request.
    ///
    /// # Errors
    /// The server does not describe its messages, or a method or a field does not exist.
    pub(super) async fn calls(&mut self, scenario: &Scenario) -> Result<Arc<Calls>, TrafficError> {
        if let Some(calls) = scenario.calls() {
            return Ok(Arc::new(calls));
        }
        if let Some(known) = &self.calls {
            return Ok(Arc::clone(known));
        }
        self.start_for(scenario).await?;
        let deadline = Instant::now() + LIMIT;
        let calls = loop {
            match self.reflected(scenario).await {
                Err(TrafficError::NotAsked { .. }) if Instant::now() < deadline => sleep(PAUSE).await,
                described => break Arc::new(scenario.calls_by(&described?)?),
            }
        };
        self.calls = Some(Arc::clone(&calls));
        Ok(calls)
    }

    /// The types of messages of a server, asked once.
    async fn reflected(&mut self, scenario: &Scenario) -> Result<Descriptors, TrafficError> {
        let service = &scenario.service;
        let address = format!("{}:{}", service.host, service.port);
        let plan = ReflectPlan {
            base: format!("{}://{address}", service.scheme),
            connect: match &self.backend {
                Backend::Local(address, _) => address.map(|address| address.to_string()),
                Backend::Pod(..) => None,
            },
            services: scenario.called_services().into_iter().map(ToOwned::to_owned).collect(),
            timeout_ms: u64::try_from(TIMEOUT.as_millis()).unwrap_or(u64::MAX),
        };
        let pod = self.pod(scenario).to_owned();
        let invalid = |source: ProtocolError| TrafficError::Protocol { pod: pod.clone(), source };
        let asked = async {
            self.send(DriverCommand::Reflect(Box::new(plan))).await?;
            self.receive(invalid).await
        };
        let silent = |_| TrafficError::Silent { pod: pod.clone(), limit: SILENCE };
        let DriverMessage::Reflected(reflection) = timeout(SILENCE, asked).await.map_err(silent)?? else {
            return Err(invalid(ProtocolError::NotReflected));
        };
        let origin = scenario.messages_origin().clone();
        match reflection {
            Reflection::Described { files, services } => Descriptors::of_files(&files, services)
                .map_err(|reason| TrafficError::BadReflection { origin, address, reason }),
            Reflection::Refused { status, message } => {
                let status_said = StatusCode(status);
                let said =
                    if message.is_empty() { status_said.to_string() } else { format!("{status_said} `{message}`") };
                Err(if MISSING.contains(&status) {
                    TrafficError::NoReflection { origin, address, said }
                } else {
                    TrafficError::NotAsked { address, said }
                })
            }
            Reflection::Failed(failure) => Err(TrafficError::NotAsked { address, said: failure.message }),
        }
    }
}
