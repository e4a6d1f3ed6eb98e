use crate::report::Outcome;
use crate::session::Signal;

/// The exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Every claim holds.
    Pass = 0,
    /// A claim fails.
    Fail = 1,
    /// The scenario, a manifest or an argument is invalid.
    BadInput = 2,
    /// The environment failed: engine, images, cluster or mesh.
    Environment = 3,
    /// No claim failed, but a claim could not be decided.
    Undecided = 4,
    /// Interrupted by SIGINT.
    Interrupted = 130,
    /// Terminated by SIGTERM or SIGHUP.
    Terminated = 143,
}

impl ExitCode {
    /// The exit code of several scenarios: what needs attention first.
    pub(super) fn worst(self, other: Self) -> Self {
        let severity = |code: Self| match code {
            Self::Pass => 0,
            Self::Undecided => 1,
            Self::Fail => 2,
            Self::BadInput => 3,
            Self::Environment => 4,
            Self::Interrupted | Self::Terminated => 5,
        };
        if severity(other) > severity(self) { other } else { self }
    }

    /// The result of one of several scenarios.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Pass => "ok",
            Self::Fail => "FAIL",
            Self::Undecided => "undecided",
            Self::BadInput => "bad input",
            Self::Environment => "environment",
            Self::Interrupted | Self::Terminated => "interrupted",
        }
    }

    /// The result in a report of the run.
    pub(super) const fn outcome(self) -> Outcome {
        match self {
            Self::Pass => Outcome::Passed,
            Self::Fail => Outcome::Failed,
            Self::Undecided => Outcome::Inconclusive,
            Self::BadInput => Outcome::BadInput,
            Self::Environment => Outcome::EnvironmentFailed,
            Self::Interrupted | Self::Terminated => Outcome::Interrupted,
        }
    }
}

impl From<Signal> for ExitCode {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Interrupt => Self::Interrupted,
            Signal::Terminate => Self::Terminated,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
