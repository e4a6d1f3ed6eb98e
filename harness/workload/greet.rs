//! A server of TCP: it says a line to every client and closes the connection.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long the server waits for a client to close its side of a connection.
const LINGER: Duration = Duration::from_secs(5);

/// Says a line to each client, without end.
pub(super) async fn greet_each(listener: TcpListener, line: impl Fn() -> Bytes) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let line = line();
        tokio::spawn(async move {
            if let Err(error) = greet(stream, &line).await {
                tracing::debug!(%error, "a connection was closed");
            }
        });
    }
}

async fn greet(mut stream: TcpStream, line: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(line).await?;
    stream.shutdown().await?;
    // closing a connection with unread bytes would reset it, and the client might lose the line
    let mut unread = [0; 512];
    let read_all = async {
        while stream.read(&mut unread).await? > 0 {}
        Ok(())
    };
    tokio::time::timeout(LINGER, read_all).await.unwrap_or(Ok(()))
}
