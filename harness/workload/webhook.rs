//! The server of a webhook whose answers take time.

use std::net::SocketAddr;
use std::pin::Pin;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::body::AnswerBody;
use super::serve::{Protocols, ServeError, serve_each};

/// The longest body of a request, in bytes; a controller sends some hundred.
const LONGEST: usize = 64 * 1024;

/// A request of a webhook.
#[derive(Debug)]
pub struct WebhookRequest {
    /// The body.
    pub body: String,
    /// Where the answer goes. It is closed once nobody waits for the answer any more.
    pub answer: oneshot::Sender<WebhookAnswer>,
}

/// The answer to a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub text: String,
}

/// The running server. Boxed so that all of it is compiled in this package, which is optimised in every profile.
pub type WebhookFuture = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

/// Passes each POST on, and sends the answer that it gets. GET is for readiness probes.
///
/// # Errors
/// The address cannot be bound.
pub fn webhook(address: SocketAddr, requests: mpsc::Sender<WebhookRequest>) -> WebhookFuture {
    Box::pin(async move {
        let listener = TcpListener::bind(address).await.map_err(|source| ServeError { address, source })?;
        serve_each(listener, Protocols::default(), move |request| answer(request, requests.clone())).await;
        Ok(())
    })
}

async fn answer(request: Request<Incoming>, requests: mpsc::Sender<WebhookRequest>) -> Response<AnswerBody> {
    let WebhookAnswer { status, text } = match *request.method() {
        Method::POST => match Limited::new(request.into_body(), LONGEST).collect().await {
            Ok(body) => passed_on(String::from_utf8_lossy(&body.to_bytes()).into_owned(), &requests).await,
            Err(error) => WebhookAnswer { status: 400, text: format!("the body cannot be read: {error}") },
        },
        Method::GET => WebhookAnswer { status: 200, text: "POST judges".to_owned() },
        _ => WebhookAnswer { status: 405, text: "POST judges".to_owned() },
    };
    let mut response = Response::new(AnswerBody::new(text));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

async fn passed_on(body: String, requests: &mpsc::Sender<WebhookRequest>) -> WebhookAnswer {
    let (answer, answered) = oneshot::channel();
    // either end may be gone while the program ends
    let sent = requests.send(WebhookRequest { body, answer }).await;
    let answered = if sent.is_ok() { answered.await.ok() } else { None };
    answered.unwrap_or_else(|| WebhookAnswer { status: 424, text: "the program ends".to_owned() })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn sent(address: SocketAddr, method: &str, body: &str) -> TcpStream {
        let mut stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let length = body.len();
        let head = format!("{method} / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        stream
    }

    async fn received(mut stream: TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        format!("{} {body}", head.split(' ').nth(1).unwrap())
    }

    async fn server() -> (SocketAddr, mpsc::Receiver<WebhookRequest>) {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (requests, received) = mpsc::channel(1);
        tokio::spawn(webhook(address, requests));
        (address, received)
    }

    #[tokio::test]
    async fn a_request_gets_the_answer_that_is_given_to_it() {
        let (address, mut requests) = server().await;
        let asked = sent(address, "POST", r#"{"name":"hello"}"#).await;
        let request = requests.recv().await.unwrap();
        assert_eq!(request.body, r#"{"name":"hello"}"#);
        request.answer.send(WebhookAnswer { status: 412, text: "a claim fails".to_owned() }).unwrap();
        assert_eq!(received(asked).await, "412 a claim fails");
        assert_eq!(received(sent(address, "GET", "").await).await, "200 POST judges");
        assert_eq!(received(sent(address, "PUT", "").await).await, "405 POST judges");
        let long = received(sent(address, "POST", &"x".repeat(LONGEST + 1)).await).await;
        assert!(long.starts_with("400 the body cannot be read: "), "{long}");
        drop(requests);
        assert_eq!(received(sent(address, "POST", "").await).await, "424 the program ends");
    }

    #[tokio::test]
    async fn an_answer_that_nobody_waits_for_is_told() {
        let (address, mut requests) = server().await;
        let asked = sent(address, "POST", "").await;
        let mut request = requests.recv().await.unwrap();
        drop(asked);
        request.answer.closed().await;
        let late = WebhookAnswer { status: 200, text: String::new() };
        assert_eq!(request.answer.send(late.clone()), Err(late));
    }
}
