use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::origin::Origin;

/// The numbers of pods that a stage waits for after its changes: something else than the stage starts the pods, such as a
/// `HorizontalPodAutoscaler`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// The least number of available pods, by the name of the Deployment.
    pub pods: BTreeMap<String, i32>,
    /// The timeout.
    pub within: Duration,
    /// Whether requests are judged all the time.
    pub is_followed: bool,
    /// The position in the scenario.
    pub origin: Origin,
}

impl fmt::Display for Growth {
    /// `3 pods of hello-server-v2`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pods =
            |(name, pods): (&String, &i32)| format!("{pods} {} of {name}", if *pods == 1 { "pod" } else { "pods" });
        formatter.write_str(&self.pods.iter().map(pods).collect::<Vec<_>>().join(", "))
    }
}
