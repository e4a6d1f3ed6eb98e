//! WebSocket connections: each request is the handshake of one.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::*;

fn handshakes(port: u16, version: VersionSource, flows: Vec<Flow>) -> DrivePlan {
    DrivePlan { base: format!("ws://127.0.0.1:{port}"), version, timeout_ms: 300, ..plan(port, flows) }
}

fn in_header() -> VersionSource {
    VersionSource::Header("x-version".to_owned())
}

fn in_message() -> VersionSource {
    VersionSource::Body("Hello server - (?<version>[^ ]+)".to_owned())
}

/// The head of the request on a connection.
async fn head(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut read).await.unwrap() > 0);
    }
    String::from_utf8(read).unwrap()
}

/// The value of a header in a head.
fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let own = |line: &&str| line.to_lowercase().starts_with(&format!("{name}: "));
    Some(head.lines().find(own)?.split_once(": ")?.1)
}

/// The port of a server that answers each handshake with what a function makes of its key, and goes on with these bytes. The heads of the
/// handshakes are collected.
async fn answering(
    answer: impl Fn(&str) -> String + Send + 'static,
    rest: &'static [u8],
) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = head(&mut stream).await;
            stream.write_all(answer(value(&head, "sec-websocket-key").unwrap()).as_bytes()).await.unwrap();
            stream.write_all(rest).await.unwrap();
            lock(&seen).push(head);
            open.push(stream);
        }
    });
    (port, heads)
}

/// The answer that accepts a handshake with a key.
fn accepted(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\
         x-version: v1\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}

#[rstest::rstest]
#[case::in_a_header(in_header())]
#[case::in_the_first_message(in_message())]
#[tokio::test]
async fn the_demo_server_accepts_each_handshake(#[case] version: VersionSource) {
    let (port, server) = server().await;
    let found = answers(handshakes(port, version, vec![flow("/chat", 100), flow("/error", 20)]), |_| None).await;
    assert_eq!(found.len(), 120);
    for (result, kind) in found {
        let status = if result.flow == 0 { 101 } else { 503 };
        assert_eq!(
            (kind.status, kind.version.as_deref(), kind.pod.as_deref()),
            (Some(status), Some("v1"), Some("pod-a"))
        );
    }
    server.abort();
}

#[tokio::test]
async fn each_connection_has_a_handshake_of_its_own_with_the_headers_of_its_flow() {
    let (port, heads) = answering(accepted, b"").await;
    let testers = BTreeMap::from([("end-user".to_owned(), "testers".to_owned())]);
    let flows = vec![Flow { variants: vec![testers], ..flow("/chat?room=1", 20) }];
    let found = answers(handshakes(port, in_header(), flows), |_| None).await;
    assert!(
        found.iter().all(|(_, kind)| (kind.status, kind.version.as_deref()) == (Some(101), Some("v1"))),
        "{found:?}"
    );
    let heads = lock(&heads).clone();
    let host = format!("127.0.0.1:{port}");
    for head in &heads {
        assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
        let expected =
            [("host", &*host), ("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
        assert!(expected.iter().all(|(name, text)| value(head, name) == Some(text)), "{head}");
        assert_eq!(value(head, "end-user"), Some("testers"));
    }
    let keys: BTreeSet<_> = heads.iter().filter_map(|head| value(head, "sec-websocket-key")).collect();
    assert_eq!((heads.len(), keys.len()), (20, 20));
}

const WRONG: &str = "101 without the headers that accept a WebSocket handshake";

#[rstest::rstest]
#[case::another_key(|_: &str| accepted("another"), FailureKind::Broken, WRONG)]
#[case::another_protocol(|key: &str| accepted(key).replace("websocket\r", "h2c\r"), FailureKind::Broken, WRONG)]
#[case::silence(|_: &str| String::new(), FailureKind::Timeout, "none in 300 ms")]
#[tokio::test]
async fn an_answer_that_does_not_accept_the_handshake_fails_it(
    #[case] answer: fn(&str) -> String,
    #[case] kind: FailureKind,
    #[case] message: &str,
) {
    let began = Instant::now();
    let (port, _) = answering(answer, b"").await;
    let found = answers(handshakes(port, in_header(), vec![flow("/", 4)]), |_| None).await;
    let failures: Vec<_> = found.into_iter().filter_map(|(_, own)| own.failure).collect();
    assert_eq!(failures, vec![RequestFailure { kind, message: message.to_owned() }; 4]);
    assert!(began.elapsed().as_secs() < 5);
}

#[rstest::rstest]
#[case::text(b"\x81\x11Hello server - v1", Some("v1"))]
#[case::bytes(b"\x82\x11Hello server - v1", Some("v1"))]
#[case::after_a_ping(b"\x89\x00\x81\x11Hello server - v1", Some("v1"))]
#[case::in_two_frames(b"\x01\x0bHello serve\x80\x06r - v1", Some("v1"))]
#[case::another(b"\x81\x02ok\x81\x11Hello server - v1", None)]
#[tokio::test]
async fn the_first_message_has_the_version(#[case] said: &'static [u8], #[case] version: Option<&str>) {
    let (port, _) = answering(accepted, said).await;
    let found = answers(handshakes(port, in_message(), vec![flow("/", 4)]), |_| None).await;
    for (_, kind) in found {
        assert_eq!((kind.status, kind.version.as_deref(), kind.failure), (Some(101), version, None));
    }
}

#[rstest::rstest]
#[case::silence(b"", FailureKind::Timeout)]
#[case::the_end(b"\x88\x00", FailureKind::Broken)]
#[case::nonsense(b"\xf1\x00", FailureKind::Broken)]
#[tokio::test]
async fn a_server_that_sends_no_message_fails_connections_that_wait_for_one(
    #[case] said: &'static [u8],
    #[case] expected: FailureKind,
) {
    let (port, _) = answering(accepted, said).await;
    let found = answers(handshakes(port, in_message(), vec![flow("/", 2)]), |_| None).await;
    let kinds: Vec<_> = found.into_iter().filter_map(|(_, kind)| Some(kind.failure?.kind)).collect();
    assert_eq!(kinds, [expected; 2]);
}

/// Whoever closes a connection first keeps its port busy for a minute, of which a client that goes on connecting would soon have none.
#[tokio::test]
async fn the_client_says_that_it_ends_and_the_server_closes_the_connection_first() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let first = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        stream.write_all(accepted(value(&head, "sec-websocket-key").unwrap()).as_bytes()).await.unwrap();
        // a masked frame with the end of the connection, and nothing after it
        let mut frame = [0; 6];
        stream.read_exact(&mut frame).await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut [0; 16])).await;
        (frame[0], frame[1], more.is_err())
    });
    answers(handshakes(port, in_header(), vec![flow("/", 1)]), |_| None).await;
    assert_eq!(first.await.unwrap(), (0x88, 0x80, true));
}
