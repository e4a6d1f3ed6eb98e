//! WebSocket: each request is the handshake of a connection, and the response is that to the handshake.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::http1::{OpenConnection, connect};
use super::{ClientRequest, HttpResponse, MAX_BODY, ServerAddress, broken, closed, read};
use crate::protocol::{FailureKind, RequestFailure};
use crate::websocket::asks_for_websocket;

/// How long a server may take to close a connection that the client has ended.
const LINGER: Duration = Duration::from_millis(500);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Connections to a server, one for each request.
#[derive(Debug)]
pub(super) struct WebSocket {
    server: Arc<ServerAddress>,
    reads_message: bool,
}

impl WebSocket {
    pub const fn new(server: Arc<ServerAddress>, reads_message: bool) -> Self {
        Self { server, reads_message }
    }

    /// Opens a connection and performs the handshake. The response has the status 101 where the server has accepted it.
    pub async fn exchange(&self, request: &ClientRequest) -> Result<HttpResponse, RequestFailure> {
        let key = generate_key();
        let mut request = request.clone();
        request.headers_mut().insert(SEC_WEBSOCKET_KEY, HeaderValue::try_from(&key).map_err(|error| broken(&error))?);
        let OpenConnection { mut sender, stream } = *connect(&self.server).await?;
        // ends with the connection, or when the sender is dropped
        tokio::spawn(stream.with_upgrades());
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return read(response).await;
        }
        if !accepts(response.headers(), &key) {
            let message = "101 without the headers that accept a WebSocket handshake".to_owned();
            return Err(RequestFailure { kind: FailureKind::Broken, message });
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| broken(&error))?;
        let config = WebSocketConfig::default().max_message_size(Some(MAX_BODY));
        let mut socket = Socket::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        let body = if self.reads_message { first_message(&mut socket).await? } else { Bytes::new() };
        tokio::spawn(close(socket));
        Ok(HttpResponse { status, headers, body, trailers: None })
    }
}

/// Whether the headers of a response accept the handshake with a key.
fn accepts(headers: &HeaderMap, key: &str) -> bool {
    let accepted = headers.get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    asks_for_websocket(headers) && accepted == Some(derive_accept_key(key.as_bytes()).as_bytes())
}

/// The first message that the server sends.
async fn first_message(socket: &mut Socket) -> Result<Bytes, RequestFailure> {
    while let Some(message) = socket.next().await {
        match message.map_err(|error| broken(&error))? {
            Message::Text(text) => return Ok(text.into()),
            Message::Binary(data) => return Ok(data),
            Message::Close(_) => break,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Err(closed())
}

/// Ends a connection, which the server closes. Whoever closes first cannot use the port for a minute, and a client has no more than some 28,000 of
/// them.
async fn close(mut socket: Socket) {
    let ended = async {
        if socket.close(None).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = tokio::time::timeout(LINGER, ended).await;
}
