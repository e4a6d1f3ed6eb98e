//! HTTP/2 with prior knowledge: several requests at a time on each connection.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Mutex;

use super::{ClientRequest, HttpResponse, ServerAddress, broken, read, refused};
use crate::protocol::RequestFailure;

type Sender = SendRequest<Full<Bytes>>;

/// A connection that several senders share, opened again after it was closed.
#[derive(Debug)]
pub(super) struct Http2 {
    server: Arc<ServerAddress>,
    keep_alive: bool,
    open: Mutex<Option<Sender>>,
}

impl Http2 {
    /// A connection that is opened by its first request.
    pub fn new(server: Arc<ServerAddress>, keep_alive: bool) -> Self {
        Self { server, keep_alive, open: Mutex::new(None) }
    }

    /// Sends a request and reads the response.
    pub async fn exchange(&self, mut request: ClientRequest) -> Result<HttpResponse, RequestFailure> {
        loop {
            let (mut sender, is_new) = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return read(response).await,
                // closed by the server before the request was sent: not a failure of this request
                Err(mut unsent) => match unsent.take_message().filter(|_| !is_new) {
                    Some(unsent) => {
                        self.close();
                        request = unsent;
                    }
                    None => return Err(broken(unsent.error())),
                },
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
    async fn sender(&self) -> Result<(Sender, bool), RequestFailure> {
        if !self.keep_alive {
            return Ok((connect(&self.server).await?, true));
        }
        let mut open = self.open.lock().await;
        if let Some(sender) = open.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok((sender.clone(), false));
        }
        let sender = connect(&self.server).await?;
        Ok((open.insert(sender).clone(), true))
    }
}

/// Opens a connection, which is closed when its senders are dropped.
async fn connect(server: &ServerAddress) -> Result<Sender, RequestFailure> {
    let stream = TokioIo::new(server.connect().await?);
    let builder = Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(stream).await.map_err(|error| refused(&error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection was closed");
        }
    });
    Ok(sender)
}
