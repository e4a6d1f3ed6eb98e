//! Connections of TCP: each request is one, and the first line that the server sends is the response.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::serve::{DemoServer, serve};

fn connections(address: SocketAddr, requests: u64) -> DrivePlan {
    DrivePlan { base: format!("tcp://{address}"), timeout_ms: 300, ..plan(address.port(), vec![flow("/", requests)]) }
}

/// A server that tells each client these bytes and then closes the connection, or keeps it open.
async fn saying(said: &'static [u8], closes: bool) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(said).await.unwrap();
            if !closes {
                open.push(stream);
            }
        }
    });
    address
}

#[rstest::rstest]
#[case::a_line(b"Hello server - v1\nmore", false, Some("v1"))]
#[case::a_line_of_windows(b"Hello server - v1\r\n", false, Some("v1"))]
#[case::the_end(b"Hello server - v1", true, Some("v1"))]
#[case::another_line(b"\nHello server - v1\n", true, None)]
#[tokio::test]
async fn the_first_line_has_the_version(
    #[case] said: &'static [u8],
    #[case] closes: bool,
    #[case] version: Option<&str>,
) {
    let found = answers(connections(saying(said, closes).await, 20), |_| None).await;
    assert_eq!(found.len(), 20);
    for (_, kind) in found {
        assert_eq!((kind.version.as_deref(), kind.failure), (version, None));
    }
}

#[rstest::rstest]
#[case::silence(b"", false, FailureKind::Timeout)]
#[case::an_unfinished_line(b"Hello", false, FailureKind::Timeout)]
#[case::a_closed_connection(b"", true, FailureKind::Broken)]
#[tokio::test]
async fn a_server_that_says_no_line_fails_the_connection(
    #[case] said: &'static [u8],
    #[case] closes: bool,
    #[case] expected: FailureKind,
) {
    let began = Instant::now();
    let found = answers(connections(saying(said, closes).await, 4), |_| None).await;
    let kinds: Vec<FailureKind> = found.into_iter().filter_map(|(_, kind)| Some(kind.failure?.kind)).collect();
    assert_eq!(kinds, [expected; 4]);
    assert!(began.elapsed().as_secs() < 5);
}

/// Whoever closes a connection first keeps its port busy for a minute, of which a client that goes on connecting would soon have none.
#[tokio::test]
async fn the_server_closes_the_connection_first() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let first = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"Hello server - v1\n").await.unwrap();
        let read = tokio::time::timeout(Duration::from_millis(30), stream.read(&mut [0; 16])).await;
        read.is_err()
    });
    let found = answers(connections(address, 1), |_| None).await;
    assert_eq!(found[0].1.version.as_deref(), Some("v1"));
    assert!(first.await.unwrap(), "the client has closed the connection");
}

#[tokio::test]
async fn the_demo_server_greets_each_client() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    tokio::spawn(serve(address, DemoServer::new("v7", "", false).greeting(true)));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    let found = answers(connections(address, 200), |_| None).await;
    assert!(found.iter().all(|(_, kind)| kind.version.as_deref() == Some("v7")), "{found:?}");
}
