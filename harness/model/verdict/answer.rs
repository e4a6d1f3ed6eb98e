use std::collections::HashMap;
use std::fmt;

/// What came back for one request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { version, status } => write!(formatter, "{version} with {status}"),
            Self::Unknown { status, excerpt } if excerpt.is_empty() => write!(formatter, "{status}"),
            Self::Unknown { status, excerpt } => write!(formatter, "{status} `{excerpt}`"),
            Self::Nothing { reason } => formatter.write_str(reason),
        }
    }
}

/// A kind of answer: all answers that are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub(super) usize);

/// The kinds of answers that a sample has seen.
///
/// Their number is bounded: past [`Kinds::LIMIT`] further ones that tell no version are one kind for each status, and versions
/// have nowhere to hide, since no claim names so many.
#[derive(Debug, Clone, Default)]
pub(super) struct Kinds {
    known: HashMap<Answer, Kind>,
    answers: Vec<Answer>,
}

impl Kinds {
    /// The most kinds that are kept apart by what they say.
    pub const LIMIT: usize = 256;

    pub fn kind(&mut self, answer: &Answer) -> Kind {
        if let Some(kind) = self.known.get(answer) {
            return *kind;
        }
        let answer = if self.answers.len() < Self::LIMIT { answer.clone() } else { alike(answer) };
        let next = Kind(self.answers.len());
        *self.known.entry(answer).or_insert_with_key(|answer| {
            self.answers.push(answer.clone());
            next
        })
    }

    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }
}

/// The same answer without what makes it one of too many.
fn alike(answer: &Answer) -> Answer {
    const MANY: &str = "(one of many different answers)";
    match answer {
        Answer::Version { status, .. } | Answer::Unknown { status, .. } => {
            Answer::Unknown { status: *status, excerpt: MANY.to_owned() }
        }
        Answer::Nothing { .. } => Answer::Nothing { reason: MANY.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_kinds_is_bounded() {
        let mut kinds = Kinds::default();
        for n in 0..10_000 {
            kinds.kind(&Answer::Unknown { status: 500 + n % 3, excerpt: format!("request {n}") });
        }
        assert_eq!(kinds.answers().len(), Kinds::LIMIT + 3);
    }
}
