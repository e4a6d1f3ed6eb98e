use std::collections::BTreeMap;

/// The configuration of a sidecar for one service port, as values by their paths: `route/routes/0/route/timeout`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration(pub BTreeMap<String, String>);

/// A value that differs between two configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// Its path.
    pub path: String,
    /// The value before; none where there was none.
    pub before: Option<String>,
    /// The value after; none where there is none.
    pub after: Option<String>,
}

impl Configuration {
    /// The values that differ in `after`: routes first, then clusters, then the listener.
    pub fn changes(&self, after: &Self) -> Vec<ConfigChange> {
        let mut paths: Vec<&String> = self.0.keys().chain(after.0.keys()).collect();
        paths.sort_by_key(|path| (rank(path), path.as_str()));
        paths.dedup();
        let changes = paths.into_iter().filter_map(|path| {
            let (before, after) = (self.0.get(path), after.0.get(path));
            (before != after).then(|| ConfigChange {
                path: path.clone(),
                before: before.cloned(),
                after: after.cloned(),
            })
        });
        changes.collect()
    }
}

/// In the order in which a request meets them: the match of its route, the route's action, then the cluster.
fn rank(path: &str) -> u8 {
    match path.split(['/', ' ']).next() {
        Some("route") if path.contains("/match/") => 0,
        Some("route") => 1,
        Some("cluster") => 2,
        _ => 3,
    }
}
