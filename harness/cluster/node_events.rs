use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use testcontainers::bollard::query_parameters::{EventsOptionsBuilder, LogsOptionsBuilder};
use tokio::time::sleep;

use super::engine::Docker;
use super::run_id::RunId;
use super::{ClusterError, RUN_LABEL};

/// The pause before the engine is asked again for its events.
const AGAIN: Duration = Duration::from_secs(1);
/// The exit code of a container that was killed.
const KILLED: &str = "137";

impl Docker {
    /// Waits until the node of a run ends or is paused, and returns that as an error. Without it, the run would learn of it only from answers
    /// that never come.
    pub async fn node_lost(&self, run: &RunId) -> ClusterError {
        let label = format!("{RUN_LABEL}={run}");
        let filters = HashMap::from([("label", vec![label.as_str()]), ("event", vec!["die", "pause"])]);
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        loop {
            let mut events = std::pin::pin!(self.engine().events(Some(options.clone())));
            while let Some(Ok(event)) = events.next().await {
                let actor = event.actor.unwrap_or_default();
                let code = actor.attributes.as_ref().and_then(|about| about.get("exitCode"));
                let what = match (event.action.as_deref(), code.map(String::as_str)) {
                    (Some("pause"), _) => "was paused".to_owned(),
                    (Some("die"), Some(KILLED)) => "was killed".to_owned(),
                    (Some("die"), code) => {
                        let log = self.end_of_log(&actor.id.unwrap_or_default()).await;
                        format!("ended with exit code {}; end of its log: {log}", code.unwrap_or("unknown"))
                    }
                    _ => continue,
                };
                return ClusterError::NodeLost { run: run.clone(), what };
            }
            // the engine itself has restarted, or does not answer
            sleep(AGAIN).await;
        }
    }

    /// The last lines of a container's log.
    async fn end_of_log(&self, id: &str) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("3").build();
        let lines =
            self.engine().logs(id, Some(options)).filter_map(async |line| line.ok().map(|line| line.to_string()));
        lines.collect::<Vec<_>>().await.concat().trim_end().to_owned()
    }
}
