use std::time::Duration;

use thiserror::Error;

use crate::cluster::ClusterError;
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
    /// The driver sent a message that does not fit the plan.
    #[error("the driver in pod {pod} sent an invalid message: {source}")]
    Protocol {
        /// The client pod.
        pod: String,
        /// What is wrong with the message.
        source: ProtocolError,
    },
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
    /// The end of a plan that is not running, by its id.
    #[error("plan {0} ended, which is not running")]
    OtherPlan(u64),
}
