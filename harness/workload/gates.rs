//! The server that answers a rollout controller's webhooks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::body::AnswerBody;
use super::serve::{Protocols, ServeError, serve_each};

/// The port that the webhooks are asked at.
pub const GATE_PORT: u16 = 18765;

/// As a command, how a webhook is answered from now on; as a message, how it has been answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateState {
    /// The webhook's name.
    pub gate: String,
    /// Whether the answer is a success.
    pub open: bool,
}

/// The running server. Boxed so that all of it is compiled in this package, which is optimised in every profile.
pub type GatesFuture = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

/// Answers the webhook NAME at `/NAME` until the command channel is closed: 200 if its gate is open, 403 if it is closed, 404 if no command
/// has named it. Calls `answered` after each answer, and once with an empty name when the server listens.
///
/// # Errors
/// The address cannot be bound.
pub fn gates(
    address: SocketAddr,
    commands: mpsc::Receiver<GateState>,
    answered: impl Fn(GateState) + Send + Sync + 'static,
) -> GatesFuture {
    Box::pin(answering(address, commands, Arc::new(answered)))
}

async fn answering(
    address: SocketAddr,
    mut commands: mpsc::Receiver<GateState>,
    answered: Arc<dyn Fn(GateState) + Send + Sync>,
) -> Result<(), ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError { address, source })?;
    answered(GateState { gate: String::new(), open: true });
    let gates: Arc<Mutex<BTreeMap<String, bool>>> = Arc::default();
    let known = Arc::clone(&gates);
    let serving = serve_each(listener, Protocols { http2: true, tls: None }, move |request| {
        let gate = request.uri().path().trim_start_matches('/').to_owned();
        let open = known.lock().unwrap_or_else(PoisonError::into_inner).get(&gate).copied();
        let (status, body) = match open {
            Some(true) => (StatusCode::OK, format!("gate {gate} is open")),
            Some(false) => (StatusCode::FORBIDDEN, format!("gate {gate} is closed")),
            None => (StatusCode::NOT_FOUND, format!("there is no gate `{gate}`")),
        };
        if let Some(open) = open {
            answered(GateState { gate, open });
        }
        let mut response = Response::new(AnswerBody::new(body));
        *response.status_mut() = status;
        std::future::ready(response)
    });
    let obeying = async {
        while let Some(GateState { gate, open }) = commands.recv().await {
            gates.lock().unwrap_or_else(PoisonError::into_inner).insert(gate, open);
        }
    };
    tokio::select! {
        () = serving => {}
        () = obeying => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn asked(address: SocketAddr, gate: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("POST /{gate} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        format!("{} {body}", head.split(' ').nth(1).unwrap())
    }

    #[tokio::test]
    async fn a_webhook_is_answered_as_commanded_and_told() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (commands, receiver) = mpsc::channel(4);
        let (told, mut answers) = mpsc::unbounded_channel();
        let server = tokio::spawn(gates(address, receiver, move |state| drop(told.send(state))));
        assert_eq!(answers.recv().await.unwrap().gate, "");
        let state = |open| GateState { gate: "promotion".to_owned(), open };
        assert_eq!(asked(address, "promotion").await, "404 there is no gate `promotion`");
        commands.send(state(false)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(asked(address, "promotion").await, "403 gate promotion is closed");
        commands.send(state(true)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(asked(address, "promotion").await, "200 gate promotion is open");
        assert_eq!((answers.recv().await, answers.recv().await), (Some(state(false)), Some(state(true))));
        drop(commands);
        server.await.unwrap().unwrap();
    }
}
