use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::ClusterError;

/// The timeout of the exit status of a program whose output has ended.
const STATUS_LIMIT: Duration = Duration::from_secs(5);
/// The maximum size of the kept error output, in bytes.
const STDERR: usize = 4096;
/// The maximum length of a line, in bytes. The longest lines of the driver have the beginning of a response.
const LINE: usize = 1 << 20;

/// A program in a container that reads and writes lines. It ends when the session is dropped.
pub struct Session {
    pod: String,
    command: String,
    input: Box<dyn AsyncWrite + Send + Unpin>,
    output: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    /// What was read of the next line.
    part: Vec<u8>,
    stderr: Arc<Mutex<Vec<u8>>>,
    process: AttachedProcess,
}

impl Session {
    /// Starts a program in a container.
    ///
    /// # Errors
    /// The API server refuses, or there is no such pod or container.
    pub async fn open(pods: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<Self, ClusterError> {
        let name = command.join(" ");
        let failed = |reason: String| ClusterError::Exec { command: name.clone(), pod: pod.to_owned(), reason };
        // with the default buffers of 1 KiB the program would wait for this process
        let options = AttachParams::default()
            .container(container)
            .stdin(true)
            .max_stdin_buf_size(64 * 1024)
            .max_stdout_buf_size(256 * 1024)
            .max_stderr_buf_size(STDERR);
        let mut process =
            pods.exec(pod, command.iter().copied(), &options).await.map_err(|error| failed(error.to_string()))?;
        let (Some(input), Some(stdout), Some(mut stderr)) = (process.stdin(), process.stdout(), process.stderr())
        else {
            return Err(failed("the API server gave no streams".to_owned()));
        };
        let kept = Arc::new(Mutex::new(Vec::new()));
        let buffer = Arc::clone(&kept);
        // an unread stream fills up and blocks the program
        tokio::spawn(async move {
            let mut part = [0; 512];
            while let Ok(read @ 1..) = stderr.read(&mut part).await {
                let mut kept = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < STDERR {
                    kept.extend_from_slice(&part[..read]);
                }
            }
        });
        let stdout: Box<dyn AsyncRead + Send + Unpin> = Box::new(stdout);
        let output = BufReader::with_capacity(64 * 1024, stdout);
        Ok(Self {
            pod: pod.to_owned(),
            command: name,
            input: Box::new(input),
            output,
            part: Vec::new(),
            stderr: kept,
            process,
        })
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The program has ended.
    pub async fn send(&mut self, line: &str) -> Result<(), ClusterError> {
        let sent = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.write_all(b"\n").await?;
            self.input.flush().await
        };
        match sent.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(error.to_string()).await),
        }
    }

    /// The next line that the program prints.
    ///
    /// # Errors
    /// The program has ended.
    pub async fn line(&mut self) -> Result<String, ClusterError> {
        match next_line(&mut self.output, &mut self.part).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(self.failed("it ended".to_owned()).await),
            Err(error) => Err(self.failed(error.to_string()).await),
        }
    }

    /// An error with the error output of the program, or with its exit status.
    async fn failed(&mut self, reason: String) -> ClusterError {
        let ended = match self.process.take_status() {
            // the connection may be dead
            Some(status) => timeout(STATUS_LIMIT, status).await.ok().flatten().and_then(|status| status.message),
            None => None,
        };
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        let reason = if stderr.is_empty() { ended.unwrap_or(reason) } else { stderr };
        ClusterError::Exec { command: self.command.clone(), pod: self.pod.clone(), reason }
    }
}

/// The next line, without its end; none at the end of the output. `part` is what was read of it before.
async fn next_line(output: &mut (impl AsyncBufRead + Unpin), part: &mut Vec<u8>) -> io::Result<Option<String>> {
    let left = LINE.saturating_sub(part.len());
    output.take(u64::try_from(left).unwrap_or(0)).read_until(b'\n', part).await?;
    if part.last() == Some(&b'\n') {
        part.pop();
    } else if part.len() >= LINE {
        return Err(io::Error::other(format!("it printed a line of more than {LINE} bytes")));
    } else if part.is_empty() {
        return Ok(None);
    }
    String::from_utf8(std::mem::take(part)).map(Some).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_without_an_end_is_not_kept_in_memory() {
        let mut output = BufReader::new(b"one\n\nthree".as_slice());
        let mut part = b"number ".to_vec();
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut output, &mut part).await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["number one", "", "three"]);
        let mut endless = BufReader::new(tokio::io::repeat(b'x'));
        let error = next_line(&mut endless, &mut part).await.unwrap_err();
        assert_eq!(error.to_string(), "it printed a line of more than 1048576 bytes");
        assert_eq!(part.len(), LINE);
    }
}
