//! WebSocket at a server: it accepts the handshake, says its greeting, and holds the connection.

use std::error::Error;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::body::AnswerBody;

/// Whether the headers of a request ask for a WebSocket connection, or those of a response grant it.
pub fn asks_for_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// A WebSocket handshake that a server may accept.
#[derive(Debug)]
pub struct Handshake {
    accept: HeaderValue,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// The handshake in a request; none if there is none, or one of another version than 13.
    pub fn of<B>(request: &mut Request<B>) -> Option<Self> {
        let headers = request.headers();
        if !asks_for_websocket(headers) || headers.get(SEC_WEBSOCKET_VERSION)? != "13" {
            return None;
        }
        let accept = derive_accept_key(headers.get(SEC_WEBSOCKET_KEY)?.as_bytes());
        let accept = HeaderValue::try_from(accept).ok()?;
        Some(Self { accept, upgrade: hyper::upgrade::on(request) })
    }

    /// Accepts the handshake where a server responds to the request with 200: then the response has the status 101, and its body becomes the
    /// first message on the connection, which is held until the client closes it.
    pub fn accept(self, response: Response<AnswerBody>) -> Response<AnswerBody> {
        if response.status() != StatusCode::OK {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        parts.status = StatusCode::SWITCHING_PROTOCOLS;
        parts.headers.extend([
            (CONNECTION, HeaderValue::from_static("Upgrade")),
            (UPGRADE, HeaderValue::from_static("websocket")),
            (SEC_WEBSOCKET_ACCEPT, self.accept),
        ]);
        tokio::spawn(async move {
            if let Err(error) = greet(self.upgrade, body.into_data()).await {
                tracing::debug!(%error, "a connection was closed");
            }
        });
        Response::from_parts(parts, AnswerBody::default())
    }
}

async fn greet(upgrade: OnUpgrade, greeting: Bytes) -> Result<(), Box<dyn Error + Send + Sync>> {
    let stream = TokioIo::new(upgrade.await?);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    socket.send(Message::text(String::from_utf8_lossy(&greeting).into_owned())).await?;
    while let Some(Ok(_)) = socket.next().await {}
    Ok(())
}
