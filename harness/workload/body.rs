//! The bodies of answers.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// A message of gRPC begins with a flag for compression and its length in four bytes.
const PREFIX: usize = 5;

/// The body of an answer, with the trailers of one of gRPC.
#[derive(Debug, Default)]
pub struct AnswerBody {
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl AnswerBody {
    /// A body without trailers.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), trailers: None }
    }

    /// A message of gRPC, with the status OK.
    pub fn message(message: &[u8]) -> Self {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static(GRPC_STATUS), HeaderValue::from_static("0"))]);
        Self { data: framed(message), trailers: Some(trailers) }
    }

    /// The body without trailers.
    pub fn into_data(self) -> Bytes {
        self.data
    }
}

/// The header or trailer with the status of gRPC.
pub const GRPC_STATUS: &str = "grpc-status";

/// A message as gRPC sends it.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut data = Vec::with_capacity(PREFIX + message.len());
    data.push(0);
    data.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    data.extend(message);
    data.into()
}

/// The message in the body of a unary call; none if there is none, several, or a compressed one.
pub(super) fn unframed(body: &[u8]) -> Option<&[u8]> {
    let (prefix, message) = body.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    (prefix[0] == 0 && usize::try_from(length) == Ok(message.len())).then_some(message)
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = std::mem::take(&mut self.data);
        let frame = if data.is_empty() { self.trailers.take().map(Frame::trailers) } else { Some(Frame::data(data)) };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.len() as u64)
    }
}
