use std::time::Duration;

use thiserror::Error;

use crate::cluster::ClusterError;
use crate::scenario::{Origin, ScenarioError};
use crate::workload::DriveError;

/// Why a sample could not be taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// A claim names a population that the scenario does not have.
    #[error("there is no population `{0}`")]
    NoPopulation(String),
    /// There is no driver for the sender of a population.
    #[error("no requests can be sent {0} here")]
    NoSender(String),
    /// The driver could not be started in the client pod, or it failed there.
    #[error(transparent)]
    Driver(#[from] ClusterError),
    /// The driver could not be started in this process.
    #[error("cannot start the driver: {0}")]
    Start(#[source] std::io::Error),
    /// The driver in this process failed.
    #[error("the driver failed: {0}")]
    Failed(#[from] DriveError),
    /// The driver ended before the sample was complete.
    #[error("the driver ended before the sample was complete")]
    Ended,
    /// The driver sent no message for longer than its requests can take: it, its node or the API server does not run any more.
    #[error("the driver in pod {pod} sent nothing for {} s", limit.as_secs())]
    Silent {
        /// The client pod.
        pod: String,
        /// The timeout.
        limit: Duration,
    },
    /// A method or a field of gRPC that the scenario names does not exist.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The server does not describe its messages, and the scenario needs them.
    #[error(
        "{origin}: {address} does not describe the messages of gRPC: reflection (grpc.reflection.v1 and v1alpha) is answered {said}; turn it on, route it to the servers, or name a descriptor set with `descriptors`"
    )]
    NoReflection {
        /// Where the scenario needs the messages.
        origin: Origin,
        /// The address of the service.
        address: String,
        /// The status, with the message.
        said: String,
    },
    /// What the server says of its messages is not valid.
    #[error(
        "{origin}: what {address} says of its messages by reflection is not valid: {reason}; name a descriptor set with `descriptors`"
    )]
    BadReflection {
        /// Where the scenario needs the messages.
        origin: Origin,
        /// The address of the service.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The server cannot be asked for the types of its messages.
    #[error("{address} cannot be asked for the messages of gRPC: {said}")]
    NotAsked {
        /// The address of the service.
        address: String,
        /// The status, with the message, or why there was no answer.
        said: String,
    },
    /// The driver sent a message that does not fit the plan.
    #[error("the driver in pod {pod} sent an invalid message: {source}")]
    Protocol {
        /// The client pod.
        pod: String,
        /// What is wrong with the message.
        source: ProtocolError,
    },
}

impl TrafficError {
    /// Where in the scenario, if that is to blame.
    pub const fn place(&self) -> Option<&Origin> {
        match self {
            Self::Scenario(error) => error.origin(),
            Self::NoReflection { origin, .. } | Self::BadReflection { origin, .. } => Some(origin),
            _ => None,
        }
    }
}

/// An invalid message of the driver.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A line that is not a message.
    #[error("`{0}`: {1}")]
    Line(String, #[source] serde_json::Error),
    /// A kind of result, by its number, without a status and a failure.
    #[error("kind {0} of results has neither a status nor a failure")]
    EmptyKind(usize),
    /// A result, by the number of its request, of a kind that was not sent before.
    #[error("result {0} is of the unknown kind {1}")]
    UnknownKind(u64, usize),
    /// A result, by the number of its request, of a flow that the plan does not have.
    #[error("result {0} belongs to the unknown flow {1}")]
    UnknownFlow(u64, usize),
    /// The types of messages during a plan, which does not ask for them.
    #[error("the types of messages came, for which nobody has asked")]
    Unasked,
    /// Results where the types of messages were asked for.
    #[error("results came instead of the types of messages")]
    NotReflected,
    /// The end of a plan that is not running, by its id.
    #[error("plan {0} ended, which is not running")]
    OtherPlan(u64),
}
