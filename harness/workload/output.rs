//! Where the driver's messages go, in batches.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::protocol::{DriverMessage, Flow, RequestFailure, RequestResult, ResultKind};

/// The maximum number of kinds of results: bounds the memory.
const MAX_KINDS: usize = 1024;
/// How long a message may wait for others. Each batch wakes up six processes, which takes more CPU time than the messages in it.
const MAX_DELAY: Duration = Duration::from_millis(50);
/// How long a message may wait while no stop command can come.
const MAX_DELAY_BEFORE_STOP: Duration = Duration::from_millis(250);

/// A sink of messages that may buffer them.
pub trait MessageSink {
    /// Takes a message.
    ///
    /// # Errors
    /// The output is closed.
    fn send(&mut self, message: DriverMessage) -> io::Result<()>;

    /// Passes on every buffered message.
    ///
    /// # Errors
    /// The output is closed.
    fn flush(&mut self) -> io::Result<()>;

    /// Whether messages are buffered.
    fn has_buffered(&self) -> bool;
}

/// A sink that writes each message as a JSON line.
pub struct JsonLines<'a>(io::BufWriter<Box<dyn Write + Send + 'a>>);

impl<'a> JsonLines<'a> {
    /// A sink that writes to an output.
    pub fn new(output: impl Write + Send + 'a) -> Self {
        Self(io::BufWriter::with_capacity(32 * 1024, Box::new(output)))
    }
}

impl MessageSink for JsonLines<'_> {
    fn send(&mut self, message: DriverMessage) -> io::Result<()> {
        match message {
            // an array of numbers without a key: see `DriverMessage::parse`
            DriverMessage::Result(result) => serde_json::to_writer(&mut self.0, &result)?,
            other => serde_json::to_writer(&mut self.0, &other)?,
        }
        self.0.write_all(b"\n")
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn has_buffered(&self) -> bool {
        !self.0.buffer().is_empty()
    }
}

/// Numbers the kinds of results and flushes messages in batches, each message at most [`max_delay`](Self::max_delay) after it came.
pub(super) struct Batcher<'a> {
    sink: &'a mut (dyn MessageSink + Send),
    kinds: HashMap<Arc<ResultKind>, usize>,
    flows: Vec<FlowProgress>,
    flushed: Instant,
    max_delay: Duration,
}

/// How many results of a flow were reported, out of how many.
struct FlowProgress {
    reported: u64,
    min_results: u64,
    requests: u64,
}

impl<'a> Batcher<'a> {
    pub fn new(sink: &'a mut (dyn MessageSink + Send), flows: &[Flow]) -> Self {
        let flows = flows.iter();
        let flows =
            flows.map(|flow| FlowProgress { reported: 0, min_results: flow.min_results, requests: flow.requests });
        Self { sink, kinds: HashMap::new(), flows: flows.collect(), flushed: Instant::now(), max_delay: MAX_DELAY }
    }

    /// How long a message may wait for others.
    pub fn max_delay(&self) -> Duration {
        self.max_delay
    }

    /// Reports a result, after its kind if the kind is new.
    pub fn result(&mut self, mut result: RequestResult, kind: Arc<ResultKind>) -> io::Result<()> {
        self.flows[result.flow].reported += 1;
        let stop_may_come = |flow: &FlowProgress| flow.min_results <= flow.reported && flow.reported < flow.requests;
        self.max_delay = if self.flows.iter().any(stop_may_come) { MAX_DELAY } else { MAX_DELAY_BEFORE_STOP };
        let known = self.kinds.get(&kind).copied();
        let kind = if known.is_some() || self.kinds.len() < MAX_KINDS { kind } else { without_details(&kind) };
        result.kind = if let Some(number) = known.or_else(|| self.kinds.get(&kind).copied()) {
            number
        } else {
            let number = self.kinds.len();
            self.kinds.insert(Arc::clone(&kind), number);
            self.send(DriverMessage::Kind((*kind).clone()))?;
            // a new kind may decide a test
            self.max_delay = Duration::ZERO;
            number
        };
        self.send(DriverMessage::Result(result))
    }

    /// Sends a message.
    pub fn send(&mut self, message: DriverMessage) -> io::Result<()> {
        self.sink.send(message)?;
        if self.flushed.elapsed() > self.max_delay { self.flush() } else { Ok(()) }
    }

    /// Whether messages are buffered.
    pub fn has_buffered(&self) -> bool {
        self.sink.has_buffered()
    }

    /// Passes on every buffered message.
    pub fn flush(&mut self) -> io::Result<()> {
        self.flushed = Instant::now();
        self.sink.flush()
    }
}

/// A kind that stands for many: without version, pod and details. No claim accepts a response without a version unnoticed.
fn without_details(kind: &ResultKind) -> Arc<ResultKind> {
    const MANY: &str = "(one of many different answers)";
    Arc::new(ResultKind {
        status: kind.status,
        grpc_status: kind.grpc_status,
        excerpt: kind.status.map(|_| MANY.to_owned()),
        failure: kind.failure.as_ref().map(|failure| RequestFailure { kind: failure.kind, message: MANY.to_owned() }),
        ..ResultKind::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_kinds_is_bounded() {
        let mut sink = JsonLines::new(io::sink());
        let flow = Flow {
            path: "/".to_owned(),
            method: None,
            requests: 100_000,
            min_results: 0,
            message: Vec::new(),
            field: None,
            cookie: None,
            queries: Vec::new(),
            variants: Vec::new(),
        };
        let mut batcher = Batcher::new(&mut sink, &[flow]);
        for n in 0..100_000 {
            let result = RequestResult { n, flow: 0, kind: 0, connection: 0, due_us: 0, late_us: 0, took_us: 0 };
            let kind = ResultKind { status: Some(200), excerpt: Some(n.to_string()), ..ResultKind::default() };
            batcher.result(result, Arc::new(kind)).unwrap();
        }
        assert_eq!(batcher.kinds.len(), MAX_KINDS + 1);
    }
}
