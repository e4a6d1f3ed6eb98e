//! The frames that a server sends on a connection of HTTP/2, of which GOAWAY is counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The length of the header of a frame: three bytes with the length of the payload, the type, flags and the stream.
const HEADER: usize = 9;
/// The type of the frame with which an endpoint ends a connection.
const GOAWAY: u8 = 7;

/// A stream of HTTP/2 that counts the connections that the server ends with GOAWAY, and that sends together what tasks write at the same time:
/// the sidecars on the way take each part that they read through all of their filters.
#[derive(Debug)]
pub(super) struct Frames<S> {
    stream: S,
    reader: FrameReader,
    /// The number of connections that were ended with GOAWAY; none once this one is counted.
    ended: Option<Arc<AtomicU64>>,
    /// Whether the tasks that could run when the next write began have run, and have written as well.
    has_waited: bool,
}

impl<S> Frames<S> {
    pub const fn new(stream: S, ended: Arc<AtomicU64>) -> Self {
        Self {
            stream,
            reader: FrameReader { header: [0; HEADER], known: 0, payload: 0 },
            ended: Some(ended),
            has_waited: false,
        }
    }
}

/// Follows the frames in a stream of bytes.
#[derive(Debug)]
struct FrameReader {
    /// The beginning of the next frame.
    header: [u8; HEADER],
    /// How much of the header is known.
    known: usize,
    /// How much of the current frame's payload is to come.
    payload: usize,
}

impl FrameReader {
    /// Reads on, and says whether a frame is GOAWAY.
    fn has_goaway(&mut self, mut bytes: &[u8]) -> bool {
        let mut found = false;
        while !bytes.is_empty() {
            let skipped = self.payload.min(bytes.len());
            self.payload -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEADER - self.known).min(bytes.len());
            self.header[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEADER {
                let [high, middle, low, kind, ..] = self.header;
                self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                self.known = 0;
                found |= kind == GOAWAY;
            }
        }
        found
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, reader, ended, .. } = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(stream).poll_read(context, buffer);
        if let Some(count) = ended
            && reader.has_goaway(&buffer.filled()[before..])
        {
            count.fetch_add(1, Ordering::Relaxed);
            *ended = None;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, has_waited, .. } = self.get_mut();
        if !*has_waited {
            *has_waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = Pin::new(stream).poll_write(context, bytes);
        *has_waited = written.is_pending();
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use hyper::{Request, Response, client, server};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use proptest::prelude::*;
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    /// A stream that counts the parts in which it is written.
    struct Counted(DuplexStream, Arc<AtomicU64>);

    impl AsyncRead for Counted {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Counted {
        fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.get_mut().0).poll_write(context, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().0).poll_flush(context)
        }

        fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().0).poll_shutdown(context)
        }
    }

    #[tokio::test]
    async fn requests_that_are_sent_at_the_same_time_leave_in_one_part_with_their_bodies() {
        let (own, other) = duplex(1 << 16);
        let service = service_fn(async |_: Request<Incoming>| Ok::<_, io::Error>(Response::new(Empty::<Bytes>::new())));
        tokio::spawn(
            server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(other), service),
        );
        let writes = Arc::new(AtomicU64::new(0));
        let stream = Frames::new(Counted(own, Arc::clone(&writes)), Arc::default());
        let builder = client::conn::http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let send = |count| {
            let mut requests = tokio::task::JoinSet::new();
            for _ in 0..count {
                let mut sender = sender.clone();
                let request = Request::post("http://svc/").body(Full::new(Bytes::from_static(&[0; 5]))).unwrap();
                requests.spawn(async move { sender.send_request(request).await.unwrap() });
            }
            requests.join_all()
        };
        send(1).await;
        // what the server has to be told of the first response is on its way
        tokio::task::yield_now().await;
        let before = writes.load(Ordering::Relaxed);
        send(8).await;
        assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 0], payload].concat()
    }

    proptest! {
        #[test]
        fn goaway_is_found_wherever_the_stream_is_cut(
            kinds in proptest::collection::vec((0_u8..10, 0_usize..40), 1..20),
            cut in 1_usize..30,
        ) {
            // payloads that look like GOAWAY
            let bytes: Vec<u8> = kinds.iter().flat_map(|(kind, length)| frame(*kind, &vec![GOAWAY; *length])).collect();
            let mut reader = FrameReader { header: [0; HEADER], known: 0, payload: 0 };
            let mut found = false;
            for chunk in bytes.chunks(cut) {
                found |= reader.has_goaway(chunk);
            }
            prop_assert_eq!(found, kinds.iter().any(|(kind, _)| *kind == GOAWAY));
        }
    }
}
