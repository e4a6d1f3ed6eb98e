//! HTTP/1.1: one request at a time on each connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::stream::Stream;
use super::{ClientRequest, HttpResponse, ServerAddress, broken, closed, read, refused};
use crate::protocol::RequestFailure;

/// A connection with one request at a time, opened again after it was closed.
#[derive(Debug)]
pub(super) struct Http1 {
    server: Arc<ServerAddress>,
    keep_alive: bool,
    /// Boxed, because it is large and moves with every task that owns the connection.
    open: Option<Box<OpenConnection>>,
}

/// An open connection. The task that waits for a response also reads and writes: a separate task would add two task switches per request.
#[derive(Debug)]
pub(super) struct OpenConnection {
    pub sender: SendRequest<Full<Bytes>>,
    pub stream: Driven,
}

pub(super) type Driven = Connection<TokioIo<Stream>, Full<Bytes>>;

impl OpenConnection {
    /// Reads and writes until a future is done; none if the connection was closed before.
    async fn until<F: Future>(stream: &mut Driven, done: F) -> Option<F::Output> {
        let mut done = std::pin::pin!(done);
        poll_fn(|context| {
            if let Poll::Ready(value) = done.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            let ended = Pin::new(&mut *stream).poll(context).is_ready();
            match done.as_mut().poll(context) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending if ended => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Whether the connection can send a request: the server may have closed it while it was idle.
    async fn is_ready(&mut self) -> bool {
        // read first what has arrived since the last request
        let stream = &mut self.stream;
        let ended = poll_fn(|context| Poll::Ready(Pin::new(&mut *stream).poll(context).is_ready())).await;
        !ended && matches!(Self::until(&mut self.stream, self.sender.ready()).await, Some(Ok(())))
    }
}

impl Http1 {
    /// A connection that is opened by its first request.
    pub const fn new(server: Arc<ServerAddress>, keep_alive: bool) -> Self {
        Self { server, keep_alive, open: None }
    }

    /// Sends a request and reads the response.
    pub async fn exchange(&mut self, request: &ClientRequest) -> Result<HttpResponse, RequestFailure> {
        if let Some(open) = &mut self.open
            && !open.is_ready().await
        {
            // closed by the server while idle: not a failure of this request
            self.open = None;
        }
        let OpenConnection { sender, stream } = match &mut self.open {
            Some(open) => open.as_mut(),
            None => self.open.insert(connect(&self.server).await?),
        };
        let response = OpenConnection::until(stream, sender.send_request(request.clone())).await.ok_or_else(closed)?;
        let response = response.map_err(|error| broken(&error))?;
        let response = OpenConnection::until(stream, read(response)).await.ok_or_else(closed)?;
        if !self.keep_alive {
            self.close();
        }
        response
    }

    /// Has the next request open a connection.
    pub fn close(&mut self) {
        self.open = None;
    }
}

/// Opens a connection.
pub(super) async fn connect(server: &ServerAddress) -> Result<Box<OpenConnection>, RequestFailure> {
    let stream = TokioIo::new(server.connect().await?);
    let (sender, stream) = Builder::new().writev(false).handshake(stream).await.map_err(|error| refused(&error))?;
    Ok(Box::new(OpenConnection { sender, stream }))
}
