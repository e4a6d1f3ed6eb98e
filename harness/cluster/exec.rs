use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines};

use super::ClusterError;

/// How much of what a program says on stderr is kept.
const STDERR: usize = 4096;

/// A program that runs in a container and is talked to line by line. It ends when the session is dropped.
pub struct Session {
    pod: String,
    command: String,
    input: Box<dyn AsyncWrite + Send + Unpin>,
    output: Lines<BufReader<Box<dyn AsyncRead + Send + Unpin>>>,
    said: Arc<Mutex<Vec<u8>>>,
    process: AttachedProcess,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("pod", &self.pod)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Starts a program in a container.
    ///
    /// # Errors
    /// The API server refuses, or there is no such pod or container.
    pub async fn open(pods: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<Self, ClusterError> {
        let name = command.join(" ");
        let failed = |reason: String| ClusterError::Exec { command: name.clone(), pod: pod.to_owned(), reason };
        // the default of 1 KiB a stream makes the program wait for us
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
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&said);
        // a stream that nobody reads fills up and stops the program
        tokio::spawn(async move {
            let mut part = [0; 512];
            while let Ok(read @ 1..) = stderr.read(&mut part).await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < STDERR {
                    kept.extend_from_slice(&part[..read]);
                }
            }
        });
        let stdout: Box<dyn AsyncRead + Send + Unpin> = Box::new(stdout);
        let output = BufReader::with_capacity(64 * 1024, stdout).lines();
        Ok(Self { pod: pod.to_owned(), command: name, input: Box::new(input), output, said, process })
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

    /// An error with what the program said last, and how it ended.
    async fn failed(&mut self, reason: String) -> ClusterError {
        let ended = match self.process.take_status() {
            Some(status) => status.await.and_then(|status| status.message),
            None => None,
        };
        let said = {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            String::from_utf8_lossy(&said).trim().to_owned()
        };
        let reason = if said.is_empty() { ended.unwrap_or(reason) } else { said };
        ClusterError::Exec { command: self.command.clone(), pod: self.pod.clone(), reason }
    }
}
