use std::time::{Duration, Instant};

use super::error::ProtocolError;
use super::sample::{DriverStart, ObservedResponse, Sample, Tally};
use crate::scenario::{Scheme, StatusCode};
use crate::verdict::Answer;
use crate::workload::{DriverMessage, FailureKind, RequestResult, ResultKind};

/// Turns the driver's messages about one plan into responses and a sample.
pub(super) struct Decoder {
    plan: u64,
    statuses: Statuses,
    /// When the plan was sent.
    earliest: Instant,
    /// The upper bound on the start of the driver's clock, from the first result on.
    latest: Option<Instant>,
    /// The kinds of results: the answer and the pod.
    kinds: Vec<(Answer, Option<String>)>,
    /// The number of results by flow and kind.
    counts: Vec<Vec<u64>>,
    sample: Sample,
}

/// Whose statuses answers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statuses {
    /// Those of HTTP.
    Http,
    /// Those of gRPC.
    Grpc,
    /// That of a connection of TCP whose server has sent a line.
    Connections,
}

impl Statuses {
    /// The statuses of answers to a plan with this base URL.
    pub fn of(base: &str) -> Self {
        match base.split_once("://").map(|(scheme, _)| scheme) {
            Some("grpc") => Self::Grpc,
            Some("tcp") => Self::Connections,
            _ => Self::Http,
        }
    }
}

/// A decoded message.
#[derive(Debug)]
pub(super) enum Decoded<'a> {
    /// A new kind of result.
    Kind,
    /// A response or a failed request.
    Response(ObservedResponse<'a>),
    /// The end of the plan.
    End,
}

impl Decoder {
    /// A decoder for a plan with so many flows that is sent now.
    pub fn new(plan: u64, flows: usize, statuses: Statuses) -> Self {
        Self {
            plan,
            statuses,
            earliest: Instant::now(),
            latest: None,
            kinds: Vec::new(),
            counts: vec![Vec::new(); flows],
            sample: Sample::new(),
        }
    }

    /// Decodes a message that was received now.
    pub fn decode(&mut self, message: DriverMessage) -> Result<Decoded<'_>, ProtocolError> {
        match message {
            DriverMessage::Kind(kind) => {
                self.kinds.push(answer(kind, self.statuses).ok_or(ProtocolError::EmptyKind(self.kinds.len()))?);
                Ok(Decoded::Kind)
            }
            DriverMessage::Result(result) => self.response(result).map(Decoded::Response),
            DriverMessage::End { plan, took_us, started_us, goaways, cookies } if plan == self.plan => {
                self.sample.goaways = goaways;
                self.sample.cookies = cookies;
                self.sample.took = Duration::from_micros(took_us);
                self.sample.started = Duration::from_micros(started_us);
                Ok(Decoded::End)
            }
            DriverMessage::End { plan, .. } => Err(ProtocolError::OtherPlan(plan)),
            DriverMessage::Reflected(_) => Err(ProtocolError::Unasked),
        }
    }

    fn response(&mut self, result: RequestResult) -> Result<ObservedResponse<'_>, ProtocolError> {
        let RequestResult { n, flow, kind, connection, .. } = result;
        let (answer, pod) = self.kinds.get(kind).ok_or(ProtocolError::UnknownKind(n, kind))?;
        let counts = self.counts.get_mut(flow).ok_or(ProtocolError::UnknownFlow(n, flow))?;
        if counts.len() <= kind {
            counts.resize(kind + 1, 0);
        }
        counts[kind] += 1;
        self.sample.add(result, pod.as_deref());
        let due = Duration::from_micros(result.due_us);
        let sent = due + Duration::from_micros(result.late_us);
        let at = sent + Duration::from_micros(result.took_us);
        // the clock started at least `at` before now
        let latest = Instant::now().checked_sub(at).unwrap_or(self.earliest).max(self.earliest);
        let latest = self.latest.map_or(latest, |known| known.min(latest));
        self.latest = Some(latest);
        let start = DriverStart { earliest: self.earliest, latest };
        Ok(ObservedResponse { flow, kind, answer, pod: pod.as_deref(), connection, due, sent, at, start })
    }

    /// The sample, after the end of the plan.
    pub fn finish(mut self) -> Sample {
        for (flow, counts) in self.counts.into_iter().enumerate() {
            let counted = counts.into_iter().zip(&self.kinds).filter(|(count, _)| *count > 0);
            let tally = |(count, (answer, pod)): (u64, &(Answer, Option<String>))| Tally {
                flow,
                answer: answer.clone(),
                pod: pod.clone(),
                count,
            };
            self.sample.tallies.extend(counted.map(tally));
        }
        self.sample
    }
}

/// The sample that the lines of a driver give, for a first plan with so many flows. Lines after its end are not read.
///
/// # Errors
/// A line is not a message, or does not fit the plan.
pub fn replay(lines: &str, flows: usize) -> Result<Sample, ProtocolError> {
    let mut decoder = Decoder::new(1, flows, Statuses::Http);
    for line in lines.lines() {
        if let Decoded::End = decoder.decode(message(line.to_owned())?)? {
            break;
        }
    }
    Ok(decoder.finish())
}

/// The message in a line.
pub(super) fn message(line: String) -> Result<DriverMessage, ProtocolError> {
    DriverMessage::parse(&line).map_err(|source| ProtocolError::Line(line, source))
}

/// The answer and the pod of a kind of result; none if it has neither a status nor a failure. For gRPC, a status of HTTP stands for
/// one of gRPC where there is no other.
fn answer(kind: ResultKind, statuses: Statuses) -> Option<(Answer, Option<String>)> {
    let by_grpc = |status| kind.grpc_status.unwrap_or_else(|| StatusCode(status).as_grpc().0);
    let status = kind.status.map(|status| match statuses {
        Statuses::Http => status,
        Statuses::Grpc => by_grpc(status),
        Statuses::Connections => Scheme::Tcp.success(),
    });
    let answer = match (status, kind.version, kind.failure) {
        (Some(status), Some(version), _) => Answer::Version { version, status },
        (Some(status), None, _) => Answer::Unknown { status, excerpt: kind.excerpt.unwrap_or_default() },
        (None, _, Some(failure)) => Answer::Nothing {
            reason: match failure.kind {
                FailureKind::Connect => format!("no connection ({})", failure.message),
                FailureKind::Handshake => format!("no TLS handshake ({})", failure.message),
                FailureKind::Timeout => "no answer in time".to_owned(),
                FailureKind::Unsent => format!("not sent ({})", failure.message),
                FailureKind::Broken => format!("connection error ({})", failure.message),
            },
        },
        (None, _, None) => return None,
    };
    Some((answer, kind.pod))
}

#[cfg(test)]
mod tests {
    use assert_matches::assert_matches;

    use super::*;

    const RESULT: RequestResult =
        RequestResult { n: 3, flow: 0, kind: 0, connection: 1, due_us: 1000, late_us: 20, took_us: 300 };

    /// A decoder for plan 7 with one flow that knows the answer of v1.
    fn decoder() -> Decoder {
        let mut decoder = Decoder::new(7, 1, Statuses::Http);
        let kind = ResultKind {
            status: Some(200),
            version: Some("v1".to_owned()),
            pod: Some("pod-a".to_owned()),
            ..ResultKind::default()
        };
        assert_matches!(decoder.decode(DriverMessage::Kind(kind)), Ok(Decoded::Kind));
        decoder
    }

    #[test]
    fn a_result_becomes_a_response_and_is_counted() {
        let mut decoder = decoder();
        let micros = Duration::from_micros;
        assert_matches!(
            decoder.decode(DriverMessage::Result(RESULT)),
            Ok(Decoded::Response(seen)) if (seen.due, seen.sent, seen.at) == (micros(1000), micros(1020), micros(1320))
        );
        assert_matches!(
            decoder.decode(DriverMessage::End { plan: 7, took_us: 5000, started_us: 9, goaways: 0, cookies: vec![2] }),
            Ok(Decoded::End)
        );
        let sample = decoder.finish();
        let answer = Answer::Version { version: "v1".to_owned(), status: 200 };
        assert_eq!(sample.tallies, [Tally { flow: 0, answer, pod: Some("pod-a".to_owned()), count: 1 }]);
        assert_eq!((sample.requests, sample.took, sample.pods["pod-a"]), (1, micros(5000), 1));
        assert_eq!(sample.cookies, [2]);
    }

    #[test]
    fn a_kind_without_status_and_failure_is_refused() {
        let message = DriverMessage::Kind(ResultKind { version: Some("v1".to_owned()), ..ResultKind::default() });
        assert_matches!(decoder().decode(message), Err(ProtocolError::EmptyKind(1)));
    }

    #[test]
    fn a_result_of_an_unknown_kind_is_refused() {
        let message = DriverMessage::Result(RequestResult { kind: 1, ..RESULT });
        assert_matches!(decoder().decode(message), Err(ProtocolError::UnknownKind(3, 1)));
    }

    #[test]
    fn a_result_of_an_unknown_flow_is_refused() {
        let message = DriverMessage::Result(RequestResult { flow: 1, ..RESULT });
        assert_matches!(decoder().decode(message), Err(ProtocolError::UnknownFlow(3, 1)));
    }

    #[test]
    fn the_end_of_another_plan_is_refused() {
        let message = DriverMessage::End { plan: 6, took_us: 1, started_us: 0, goaways: 0, cookies: Vec::new() };
        assert_matches!(decoder().decode(message), Err(ProtocolError::OtherPlan(6)));
    }
}
