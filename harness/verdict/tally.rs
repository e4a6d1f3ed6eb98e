use std::collections::BTreeMap;

/// What came back for one request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// A version answered.
    Version {
        /// Which.
        version: String,
        /// With which HTTP status.
        status: u16,
    },
    /// Something answered that told no version, such as a proxy.
    Unknown {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        excerpt: String,
    },
    /// Nothing answered: no connection, or none in time.
    Nothing {
        /// What went wrong.
        reason: String,
    },
}

/// How often each answer came.
///
/// The number of distinct answers is bounded: past [`Tally::KINDS`] further unknown ones are counted as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<Answer, u64>,
    total: u64,
}

impl Tally {
    /// The most distinct answers that are kept apart.
    pub const KINDS: usize = 64;

    /// Counts one answer.
    pub fn add(&mut self, answer: Answer) {
        self.total += 1;
        if self.counts.len() >= Self::KINDS && !self.counts.contains_key(&answer) {
            let other = Answer::Unknown { status: 0, excerpt: "(many different answers)".to_owned() };
            *self.counts.entry(other).or_default() += 1;
        } else {
            *self.counts.entry(answer).or_default() += 1;
        }
    }

    /// The number of requests.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Every answer with its count.
    pub fn iter(&self) -> impl Iterator<Item = (&Answer, u64)> {
        self.counts.iter().map(|(answer, count)| (answer, *count))
    }

    /// How many requests each version answered, whatever the status.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<&str, u64> {
        let mut versions = BTreeMap::new();
        for (answer, count) in &self.counts {
            if let Answer::Version { version, .. } = answer {
                *versions.entry(version.as_str()).or_default() += count;
            }
        }
        versions
    }
}

impl FromIterator<Answer> for Tally {
    fn from_iter<I: IntoIterator<Item = Answer>>(answers: I) -> Self {
        let mut tally = Self::default();
        answers.into_iter().for_each(|answer| tally.add(answer));
        tally
    }
}
