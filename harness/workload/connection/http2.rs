//! HTTP/2 with prior knowledge: several requests at a time on each connection.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;

use super::frames::Frames;
use super::{ClientRequest, HttpResponse, ServerAddress, broken, read, refused};
use crate::protocol::RequestFailure;

type Sender = SendRequest<Full<Bytes>>;

/// A connection that several senders share, opened again after it was closed.
#[derive(Debug)]
pub(super) struct Http2 {
    server: Arc<ServerAddress>,
    keep_alive: bool,
    goaways: Arc<AtomicU64>,
    open: Mutex<Option<Sender>>,
}

impl Http2 {
    /// A connection that is opened by its first request.
    pub fn new(server: Arc<ServerAddress>, keep_alive: bool, goaways: Arc<AtomicU64>) -> Self {
        Self { server, keep_alive, goaways, open: Mutex::new(None) }
    }

    /// Sends a request, alone on a connection or with others, and reads the response.
    pub async fn exchange(&self, request: &ClientRequest, alone: bool) -> Result<HttpResponse, RequestFailure> {
        loop {
            let (mut sender, is_new) = self.sender(alone).await?;
            match sender.try_send_request(request.clone()).await {
                Ok(response) => return read(response).await,
                Err(mut error) => {
                    // ended by the server before it took the request: not a failure of this request
                    let is_taken = error.take_message().is_none() && !is_refused(error.error());
                    if is_taken || is_new {
                        return Err(broken(error.error()));
                    }
                    self.close();
                }
            }
        }
    }

    /// Has the next request open a connection. Requests in flight end on the old one.
    pub fn close(&self) {
        // while it is locked, a connection is being opened
        if let Ok(mut open) = self.open.try_lock() {
            *open = None;
        }
    }

    /// A sender on the open connection, or on a new one, and whether the connection is new.
    async fn sender(&self, alone: bool) -> Result<(Sender, bool), RequestFailure> {
        if alone || !self.keep_alive {
            return Ok((self.connect().await?, true));
        }
        let mut open = self.open.lock().await;
        if let Some(sender) = open.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok((sender.clone(), false));
        }
        let sender = self.connect().await?;
        Ok((open.insert(sender).clone(), true))
    }

    /// Opens a connection, which is closed when its senders are dropped.
    async fn connect(&self) -> Result<Sender, RequestFailure> {
        let stream = TokioIo::new(Frames::new(self.server.connect().await?, Arc::clone(&self.goaways)));
        let builder = Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| refused(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection was closed");
            }
        });
        Ok(sender)
    }
}

/// Whether the server has not processed a request: it refused the stream, or has announced the end of the connection before.
fn is_refused(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_some_and(|error| {
        error.is_remote()
            && match error.reason() {
                Some(h2::Reason::NO_ERROR) => error.is_go_away(),
                reason => reason == Some(h2::Reason::REFUSED_STREAM),
            }
    })
}
