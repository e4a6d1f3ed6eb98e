use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines};
use tokio::time::timeout;

use super::ClusterError;

/// The timeout of the exit status of a program whose output has ended.
const STATUS_LIMIT: Duration = Duration::from_secs(5);
/// The maximum size of the kept error output, in bytes.
const STDERR: usize = 4096;

/// A program in a container that reads and writes lines. It ends when the session is dropped.
pub struct Session {
    pod: String,
    command: String,
    input: Box<dyn AsyncWrite + Send + Unpin>,
    output: Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>>,
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
        let output = BufReader::with_capacity(64 * 1024, stdout).lines();
        Ok(Self { pod: pod.to_owned(), command: name, input: Box::new(input), output, stderr: kept, process })
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
        match self.output.next_line().await {
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
