use std::fmt;

/// A property of a stage that is compared between two runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Aspect {
    /// Whether a claim holds.
    Claim(String),
    /// The share of an answer to a population.
    Answers(String),
    /// The number of requests to servers for each request of the client. It is above 1 with retries.
    Attempts,
    /// The response flags of failed requests.
    Flags,
    /// Whether connections to servers use mutual TLS.
    Secured,
    /// The order in which servers are picked for a population.
    Order(String),
    /// How sidecars are injected into pods.
    Injection,
    /// What a rollout controller writes to Services and rules, in order.
    Writes,
    /// The state of its object that a rollout controller reports.
    State,
    /// The share of requests that fail while a rollout controller works.
    Failed,
    /// A value in the configuration of the client's sidecar, by its path.
    Configuration(String),
}

impl Aspect {
    /// The name of the aspect in the list of known changes.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Claim(_) => "claim",
            Self::Answers(_) => "answers",
            Self::Attempts => "attempts",
            Self::Flags => "flags",
            Self::Secured => "secured",
            Self::Order(_) => "order",
            Self::Injection => "injection",
            Self::Writes => "writes",
            Self::State => "state",
            Self::Failed => "failed",
            Self::Configuration(_) => "configuration",
        }
    }

    /// The claim, population or configuration path; empty for aspects that exist once a stage.
    pub fn path(&self) -> &str {
        match self {
            Self::Claim(path) | Self::Answers(path) | Self::Order(path) | Self::Configuration(path) => path,
            _ => "",
        }
    }

    /// Whether clients or operators can observe the aspect. They cannot observe values of a sidecar's configuration.
    pub const fn is_behaviour(&self) -> bool {
        !matches!(self, Self::Configuration(_))
    }

    /// Whether the aspect is sampled, so that two runs may differ in it by chance. A claim is decided with error probabilities of its
    /// own, and a configuration is read.
    pub const fn is_sampled(&self) -> bool {
        !matches!(self, Self::Claim(_) | Self::Configuration(_))
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(claim) => write!(formatter, "claim {claim}"),
            Self::Answers(flow) => write!(formatter, "share of {flow}"),
            Self::Attempts => formatter.write_str("requests to servers for each client request"),
            Self::Flags => formatter.write_str("response flags"),
            Self::Secured => formatter.write_str("mutual TLS to servers"),
            Self::Order(flow) => write!(formatter, "server selection for {flow}"),
            Self::Injection => formatter.write_str("sidecar injection"),
            Self::Writes => formatter.write_str("writes of the controller"),
            Self::State => formatter.write_str("state that the controller reports"),
            Self::Failed => formatter.write_str("failed requests while the controller works"),
            Self::Configuration(path) => formatter.write_str(path),
        }
    }
}

/// An aspect that has another value in the second run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AspectChange {
    /// The aspect.
    pub aspect: Aspect,
    /// Its value in the first run.
    pub before: String,
    /// Its value in the second run.
    pub after: String,
}
