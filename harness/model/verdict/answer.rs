use std::collections::HashMap;
use std::fmt;

use crate::scenario::StatusCode;

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// A version answered.
    Version {
        /// The version.
        version: String,
        /// The status: of HTTP, or of gRPC for a service of gRPC.
        status: u16,
    },
    /// A response without a version, such as one from a proxy.
    Unknown {
        /// The status: of HTTP, or of gRPC for a service of gRPC.
        status: u16,
        /// The beginning of the body.
        excerpt: String,
    },
    /// No response: no connection, or a timeout.
    Nothing {
        /// The cause.
        reason: String,
    },
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version { version, status } => write!(formatter, "{version} with {}", StatusCode(*status)),
            Self::Unknown { status, excerpt } if excerpt.is_empty() => write!(formatter, "{}", StatusCode(*status)),
            Self::Unknown { status, excerpt } => write!(formatter, "{} `{excerpt}`", StatusCode(*status)),
            Self::Nothing { reason } => formatter.write_str(reason),
        }
    }
}

/// A kind of answer: all answers that are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AnswerKind(pub(super) usize);

/// The kinds of answers in a sample.
///
/// Their number is bounded: after [`Kinds::LIMIT`] kinds, new answers are one kind for each status. No claim names that many versions, so
/// that these answers are excluded in any case.
#[derive(Debug, Clone, Default)]
pub(super) struct Kinds {
    known: HashMap<Answer, AnswerKind>,
    answers: Vec<Answer>,
}

impl Kinds {
    /// The number of kinds that are distinguished by all of their content.
    pub const LIMIT: usize = 256;

    pub fn kind(&mut self, answer: &Answer) -> AnswerKind {
        if let Some(kind) = self.known.get(answer) {
            return *kind;
        }
        let answer = if self.answers.len() < Self::LIMIT { answer.clone() } else { generalized(answer) };
        let next = AnswerKind(self.answers.len());
        *self.known.entry(answer).or_insert_with_key(|answer| {
            self.answers.push(answer.clone());
            next
        })
    }

    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }
}

/// The answer without its distinguishing content.
fn generalized(answer: &Answer) -> Answer {
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
