use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::ClusterError;

/// How much of what a program says on stderr is kept.
const STDERR: u64 = 4096;

/// Runs a program in a container and passes each line of its output to `line` while it runs.
///
/// # Errors
/// The program cannot be started, exits with another status than 0, or `line` refuses a line.
pub async fn exec(
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    command: &[&str],
    mut line: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), ClusterError> {
    let failed = |reason: String| ClusterError::Exec {
        command: command.iter().take(3).copied().collect::<Vec<_>>().join(" "),
        pod: pod.to_owned(),
        reason,
    };
    // the default of 1 KiB a stream makes the driver wait for us
    let options =
        AttachParams::default().container(container).max_stdout_buf_size(256 * 1024).max_stderr_buf_size(4096);
    let mut process: AttachedProcess =
        pods.exec(pod, command.iter().copied(), &options).await.map_err(|error| failed(error.to_string()))?;
    let (Some(stdout), Some(mut stderr), Some(status)) = (process.stdout(), process.stderr(), process.take_status())
    else {
        return Err(failed("the API server gave no streams".to_owned()));
    };
    // both streams are drained at once: whichever is left alone fills up and stops the program
    let said = async {
        let mut said = Vec::new();
        let _ = (&mut stderr).take(STDERR).read_to_end(&mut said).await;
        let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
        String::from_utf8_lossy(&said).trim().to_owned()
    };
    let printed = async {
        let mut lines = BufReader::with_capacity(64 * 1024, stdout).lines();
        loop {
            match lines.next_line().await {
                Ok(Some(text)) => line(&text)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    };
    let (printed, said, status) = tokio::join!(printed, said, status);
    printed.map_err(failed)?;
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => Ok(()),
        Some(status) => Err(failed(if said.is_empty() { status.message.unwrap_or_default() } else { said })),
        None => Err(failed("the connection broke off".to_owned())),
    }
}
