use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use displaydoc::Display;

use super::controller::Weights;
use super::duration::shown;
use super::error_rates::{ErrorProbability, ErrorRates};
use super::origin::Origin;
use super::service_level::ServiceLevel;
use super::sessions::SessionClaim;
use super::share::Share;
use super::status::StatusCode;
use crate::demo::ARROW;

/// A claim of a stage.
#[derive(Debug, Clone)]
pub enum Expectation {
    /// The shares of versions and statuses for a population.
    Claim(Claim),
    /// The shares that the live route declares, while a controller moves its weights.
    Declared(DeclaredClaim),
    /// The errors or the latency of the answers to a population.
    ServiceLevel(ServiceLevel),
    /// What the sessions of a population get.
    Sessions(SessionClaim),
    /// The number of requests that the pods of a workload serve during the stage's sample.
    Served {
        /// The Deployment.
        workload: String,
        /// The number of requests.
        requests: Count,
        /// The position of the claim.
        origin: Origin,
    },
    /// What callers observe while the stage is applied.
    During(During),
    /// The weights in the live route of the controlled object.
    Weights {
        /// The weights.
        weights: Weights,
        /// The position of the claim.
        origin: Origin,
    },
    /// The weight of the new version that the controller reports.
    Reports {
        /// The weight.
        weight: Share,
        /// The position of the claim.
        origin: Origin,
    },
    /// None of the objects that the scenario applied is left. With the position of the claim.
    NoObjects(Origin),
}

impl Expectation {
    /// The position of the claim.
    pub const fn origin(&self) -> &Origin {
        match self {
            Self::Claim(Claim { origin, .. })
            | Self::Declared(DeclaredClaim { origin, .. })
            | Self::ServiceLevel(ServiceLevel { origin, .. })
            | Self::Sessions(SessionClaim { origin, .. })
            | Self::Served { origin, .. }
            | Self::During(During { origin, .. })
            | Self::Weights { origin, .. }
            | Self::Reports { origin, .. }
            | Self::NoObjects(origin) => origin,
        }
    }
}

/// The claim that a population gets the shares that the live route declares at each time.
#[derive(Debug, Clone, PartialEq)]
pub struct DeclaredClaim {
    /// The population.
    pub from: String,
    /// The time after a change of the route from which on the new shares count.
    pub lag: Duration,
    /// The error rates of the verdict.
    pub errors: ErrorRates,
    /// The position of the claim.
    pub origin: Origin,
}

impl DeclaredClaim {
    /// The default of `lag`.
    pub const LAG: Duration = Duration::from_secs(2);
}

impl fmt::Display for DeclaredClaim {
    /// `as the route declares, from 2s after each change`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "as the route declares, from {} after each change", shown(self.lag))
    }
}

/// What callers observe while a stage is applied. At least one of `errors`, `gap`, `last_of` and `latency` is set.
#[derive(Debug, Clone, PartialEq)]
pub struct During {
    /// The largest number of failed requests: those with an answer that neither the previous stage nor this stage gives.
    pub errors: Option<u64>,
    /// The error share that a pass has to exclude. It determines the smallest number of watched requests.
    pub excludes: Share,
    /// β: the probability of a pass if the error share is `excludes`.
    pub miss: ErrorProbability,
    /// The longest time without a correct answer.
    pub gap: Option<Duration>,
    /// By version, the time after the change from which on the version answers no request.
    pub last_of: BTreeMap<String, Duration>,
    /// Shares of the requests, each with the time within which at least this share gets a correct answer. The bad share to detect is twice the
    /// claimed one.
    pub latency: Vec<(Share, Duration)>,
    /// α of each claim about latency.
    pub false_alarm: ErrorProbability,
    /// The position of the claim.
    pub origin: Origin,
}

impl During {
    /// The default of `excludes`.
    pub const EXCLUDES: Share = Share::ONE_PERCENT;
}

impl fmt::Display for During {
    /// `at most 0 errors, at most 200ms without a right answer, no v2 after 5s`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.errors.map(|errors| format!("at most {errors} errors"));
        let gap = self.gap.map(|gap| format!("at most {} without a right answer", shown(gap)));
        let last = self.last_of.iter().map(|(version, after)| format!("no {version} after {}", shown(*after)));
        let latency = self.latency.iter().map(|(share, limit)| format!("{share} answered within {}", shown(*limit)));
        let parts: Vec<String> = errors.into_iter().chain(gap).chain(last).chain(latency).collect();
        formatter.write_str(&parts.join(", "))
    }
}

/// A number of requests that a workload serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display)]
pub enum Count {
    /// Exactly this number.
    #[displaydoc("{0}")]
    Exactly(u64),
    /// At least one, as for mirrored requests, whose number is not exact.
    #[displaydoc("some")]
    Some,
}

/// The shares of versions and statuses for a population.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The population.
    pub from: String,
    /// The request path.
    pub path: String,
    /// The time of a claim about slow answers; none if versions and statuses are claimed. The shares of the two [`speeds`](Self::speeds) are
    /// then in place of those of versions.
    pub slower_than: Option<Duration>,
    /// The share of each version; the shares sum to 100 %. Empty if only statuses are claimed.
    pub versions: BTreeMap<String, Share>,
    /// The share of each status; the shares sum to 100 %.
    pub statuses: Statuses,
    /// The error rates of the verdict.
    pub errors: ErrorRates,
    /// The position of the claim.
    pub origin: Origin,
}

impl Claim {
    /// Whether the claim is about the versions of several services along the way of a request.
    pub fn is_along_a_path(&self) -> bool {
        self.versions.keys().any(|version| version.contains(ARROW))
    }

    /// The names of slow and of other answers: `slower than 400ms` and `within 400ms`.
    pub fn speeds(limit: Duration) -> [String; 2] {
        ["slower than", "within"].map(|speed| format!("{speed} {}", shown(limit)))
    }
}

impl fmt::Display for Claim {
    /// `v1 50 %, v2 50 %, status 503`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |name: String, share: Share| if share.is_all() { name } else { format!("{name} {share}") };
        let versions = self.versions.iter().filter(|(_, share)| !share.is_none());
        let mut parts: Vec<String> = versions.map(|(version, share)| one(version.clone(), *share)).collect();
        if let Statuses::Claimed(statuses) = &self.statuses {
            let statuses = statuses.iter().filter(|(_, share)| !share.is_none());
            parts.extend(statuses.map(|(status, share)| one(format!("status {}", StatusCode(*status)), *share)));
        }
        formatter.write_str(&parts.join(", "))
    }
}

impl fmt::Display for Expectation {
    /// `testers /error: v1, status 503`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(claim) if claim.path == "/" => write!(formatter, "{}: {claim}", claim.from),
            Self::Claim(claim) => write!(formatter, "{} {}: {claim}", claim.from, claim.path),
            Self::Declared(claim) => write!(formatter, "{}: {claim}", claim.from),
            Self::ServiceLevel(level) if level.path == "/" => write!(formatter, "{}: {level}", level.from),
            Self::ServiceLevel(level) => write!(formatter, "{} {}: {level}", level.from, level.path),
            Self::Sessions(claim) if claim.path == "/" => write!(formatter, "{}: {claim}", claim.from),
            Self::Sessions(claim) => write!(formatter, "{} {}: {claim}", claim.from, claim.path),
            Self::Served { workload, requests, .. } => write!(formatter, "{workload}: {requests} served"),
            Self::During(during) => write!(formatter, "during the change: {during}"),
            Self::Weights { weights, .. } => write!(formatter, "weights in the route: {weights}"),
            Self::Reports { weight, .. } => write!(formatter, "weight reported by the controller: {weight}"),
            Self::NoObjects(_) => formatter.write_str("objects: none"),
        }
    }
}

/// The statuses that a claim allows.
#[derive(Debug, Clone, PartialEq)]
pub enum Statuses {
    /// The scenario claims no status: all have this one, which means success.
    Implied(u16),
    /// Claimed, with these shares.
    Claimed(BTreeMap<u16, Share>),
}

impl Statuses {
    /// The claimed share of a status.
    pub fn share(&self, status: u16) -> Share {
        match self {
            Self::Implied(success) if status == *success => Share::ALL,
            Self::Implied(_) => Share::NONE,
            Self::Claimed(shares) => shares.get(&status).copied().unwrap_or(Share::NONE),
        }
    }
}
