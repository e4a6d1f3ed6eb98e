//! TCP: each request is a connection, and the response is the first line that the server sends.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::stream::Stream;
use super::{HttpResponse, ServerAddress, broken, closed};
use crate::protocol::RequestFailure;

/// The maximum length of a line, in bytes. The rest of a longer one is not read.
const MAX_LINE: usize = 16 << 10;

/// How long a server may take to close a connection after its first line.
const LINGER: Duration = Duration::from_millis(100);

/// Connections to a server, one for each request.
#[derive(Debug)]
pub(super) struct Tcp {
    server: Arc<ServerAddress>,
}

impl Tcp {
    pub const fn new(server: Arc<ServerAddress>) -> Self {
        Self { server }
    }

    /// Opens a connection and reads a line.
    pub async fn exchange(&self) -> Result<HttpResponse, RequestFailure> {
        let mut stream = self.server.connect().await?;
        let line = read_line(&mut stream).await?;
        tokio::spawn(close_after_server(stream));
        Ok(line)
    }
}

/// Closes a connection after the server has, or when it is late. Whoever closes first cannot use the port for a minute, and a client has no more
/// than some 28,000 of them.
async fn close_after_server(mut stream: Stream) {
    let mut unread = [0; 512];
    let ended = async { while matches!(stream.read(&mut unread).await, Ok(1..)) {} };
    let _ = tokio::time::timeout(LINGER, ended).await;
}

async fn read_line(stream: &mut Stream) -> Result<HttpResponse, RequestFailure> {
    let mut read = BytesMut::with_capacity(512);
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            return Ok(line(read.freeze().slice(..end)));
        }
        let ended = match stream.read_buf(&mut read).await {
            Ok(0) => true,
            Ok(_) => read.len() > MAX_LINE,
            Err(error) => return Err(broken(&error)),
        };
        if ended && !read.is_empty() {
            return Ok(line(read.freeze()));
        }
        if ended {
            return Err(closed());
        }
    }
}

fn line(read: Bytes) -> HttpResponse {
    let body = match read.strip_suffix(b"\r") {
        Some(without) => read.slice(..without.len()),
        None => read,
    };
    HttpResponse { body, ..HttpResponse::default() }
}
