use crate::scenario::Share;
use crate::verdict::compared::ComparedPart;
use crate::verdict::ruling::{Ruling, Stop};
use crate::verdict::sequential::{Boundaries, ShareDesign};

/// The ruling on a claim, with its reason and its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The ruling.
    pub ruling: Ruling,
    /// The reason, as one sentence.
    pub reason: String,
    /// The number of requests that the ruling took.
    pub requests: u64,
    /// The largest number of requests that the ruling could have taken.
    pub allowed: u64,
    /// The claimed shares, with their counts.
    pub shares: Vec<ServedShare>,
    /// A bound on the probability, if the claim is correct, of evidence against it that is at least this strong.
    pub chance: Option<f64>,
    /// The event that ended the sample.
    pub stop: Stop,
    /// The path of each sequential test.
    pub paths: Vec<DecisionPath>,
}

/// The path of a sequential test of a share.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionPath {
    /// What counts as a hit: answers of a version, or with a status: `status 503`.
    pub part: String,
    /// What the test takes: `requests`, or bad events, such as `errors`.
    pub of: String,
    /// The claimed share, as a fraction.
    pub claimed: f64,
    /// The largest number of requests.
    pub cap: u64,
    /// The lines that stop the test.
    pub boundaries: Boundaries,
    /// Where gross faults stop the test: numbers of requests, each with the share below which and the share above which it fails.
    pub gross_faults: Vec<(u64, f64, f64)>,
    /// Requests and hits, up to the end of the test; the points become less dense with the number of requests.
    pub points: Vec<(u64, u64)>,
    /// In a comparison of versions, what was seen of both.
    pub compared: Option<ComparedPart>,
}

impl DecisionPath {
    /// The path of a test of a share of all requests.
    pub(super) fn new(part: String, design: &ShareDesign, points: Vec<(u64, u64)>) -> Self {
        Self {
            part,
            of: "requests".to_owned(),
            claimed: design.share(),
            cap: design.cap(),
            boundaries: design.boundaries(),
            gross_faults: design.gross_faults(),
            points,
            compared: None,
        }
    }
}

/// A claimed share with its count.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedShare {
    /// The version, or `status 503`.
    pub part: String,
    /// The claimed share.
    pub claimed: Share,
    /// The number of the verdict's requests that count for the share.
    pub count: u64,
    /// The confidence interval of the share, as fractions: valid at any stopping time, with a confidence of `1 - miss`.
    pub interval: (f64, f64),
}

impl Verdict {
    /// A ruling on something that is counted and not sampled.
    pub const fn counted(ruling: Ruling, requests: u64, reason: String) -> Self {
        Self {
            ruling,
            reason,
            requests,
            allowed: requests,
            shares: Vec::new(),
            chance: None,
            stop: Stop::Counted,
            paths: Vec::new(),
        }
    }
}
