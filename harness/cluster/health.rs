use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::{Instant, sleep, timeout};

use super::ClusterError;
use super::wait::reason;

/// How long a part of a cluster may be out of order before what needs it ends: as long as a request to the API server may take.
pub const OUTAGE_LIMIT: Duration = Duration::from_secs(40);
/// The same for a node. The cluster itself says so only after 40 s without a sign of the kubelet.
const NODE_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two checks.
const AGAIN: Duration = Duration::from_secs(5);
/// The timeout of a check.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

/// Waits until every check for `limit` has found an outage, and returns the last description. A check returns none where nothing is out of order
/// or where that cannot be seen.
pub(crate) async fn outage<Check: Future<Output = Option<String>>>(
    limit: Duration,
    mut check: impl FnMut() -> Check,
) -> String {
    let mut since = None;
    loop {
        let start = Instant::now();
        match check().await {
            Some(what) if since.get_or_insert(start).elapsed() >= limit => return what,
            Some(_) => {}
            None => since = None,
        }
        sleep(AGAIN).await;
    }
}

/// Waits until the API server has not been ready for 40 s, or until no kubelet reports any more, and returns that as an error. Until the API
/// server has been ready once, it is starting.
pub(crate) async fn cluster_lost(client: &Client) -> ClusterError {
    while api_outage(client).await.is_some() {
        sleep(AGAIN).await;
    }
    tokio::select! {
        reason = outage(OUTAGE_LIMIT, || api_outage(client)) => ClusterError::ApiLost { limit: OUTAGE_LIMIT, reason },
        reason = outage(NODE_LIMIT, || node_outage(client)) => ClusterError::NoNode(reason),
    }
}

/// Why the API server is not ready. One that refuses the question answers.
async fn api_outage(client: &Client) -> Option<String> {
    let request = hyper::Request::get("/readyz").body(Vec::new());
    let request = request.unwrap_or_else(|_| unreachable!("a literal path"));
    match timeout(CHECK_LIMIT, client.request_text(request)).await {
        Ok(Ok(_)) => None,
        Ok(Err(kube::Error::Api(status))) if status.code < 500 => None,
        Ok(Err(error)) => {
            let text = if let kube::Error::Service(error) = &error { root(&**error) } else { reason(&error) };
            let failed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("[-]")).collect();
            Some(if failed.is_empty() { text } else { failed.join(", ") })
        }
        Err(_) => Some(format!("no answer to GET /readyz within {} s", CHECK_LIMIT.as_secs())),
    }
}

/// The first cause of an error, such as `Connection refused (os error 111)`.
fn root(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().unwrap_or(error).to_string()
}

/// Why no node runs pods: the kubelet of none reports its state.
async fn node_outage(client: &Client) -> Option<String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = timeout(CHECK_LIMIT, nodes.list(&ListParams::default())).await.ok()?.ok()?;
    let silent = |node: &Node| {
        let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let unknown = conditions.find(|condition| condition.type_ == "Ready" && condition.status == "Unknown")?;
        Some(format!("node {}: {}", node.name_any(), unknown.message.as_deref().unwrap_or("its state is unknown")))
    };
    // none of an empty list is silent
    nodes.iter().map(silent).collect::<Option<Vec<_>>>()?.into_iter().next()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper::{Request, Response};
    use kube::client::Body;
    use rstest::rstest;

    use super::*;

    const READY: (u16, &str) = (200, "ok");
    const NODES: (u16, &str) = (200, r#"{"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": []}"#);

    /// A client of a server with answers by the seconds since its start; a status of 0 means that no answer comes.
    fn of_server(ready: fn(u64) -> (u16, &'static str), nodes: fn(u64) -> (u16, &'static str)) -> Client {
        let start = Instant::now();
        let server = tower::service_fn(move |request: Request<Body>| async move {
            let seconds = start.elapsed().as_secs();
            let (status, body) = if request.uri().path() == "/readyz" { ready(seconds) } else { nodes(seconds) };
            if status == 0 {
                std::future::pending::<()>().await;
            }
            let answer = Response::builder().status(status).body(Full::new(Bytes::from(body)));
            Ok::<_, Infallible>(answer.unwrap())
        });
        Client::new(server, "default")
    }

    /// When a cluster is lost, in seconds, and why; none where it is not within an hour.
    async fn lost(client: Client) -> Option<(u64, String)> {
        let start = Instant::now();
        let error = timeout(Duration::from_secs(3600), cluster_lost(&client)).await.ok()?;
        Some((start.elapsed().as_secs(), error.to_string()))
    }

    #[rstest]
    #[case::healthy(|_| READY, None)]
    #[case::silent(
        |at| if at < 20 { READY } else { (0, "") },
        Some((60, "the API server has not been ready for 40 s: no answer to GET /readyz within 10 s"))
    )]
    #[case::without_etcd(
        |at| if at < 20 { READY } else { (500, "[+]ping ok\n[-]etcd failed: reason withheld\n[-]etcd-readiness failed: reason withheld\nreadyz check failed") },
        Some((60, "the API server has not been ready for 40 s: etcd failed: reason withheld, etcd-readiness failed: reason withheld"))
    )]
    #[case::recovers(|at| if (20..55).contains(&at) { (503, "busy") } else { READY }, None)]
    #[case::refuses_the_question(|at| if at < 20 { READY } else { (403, "forbidden") }, None)]
    #[case::never_ready(|_| (503, "starting"), None)]
    #[tokio::test(start_paused = true)]
    async fn an_api_server_without_answers_is_lost(
        #[case] ready: fn(u64) -> (u16, &'static str),
        #[case] expected: Option<(u64, &str)>,
    ) {
        let found = lost(of_server(ready, |_| NODES)).await;
        assert_eq!(found.as_ref().map(|(at, why)| (*at, why.as_str())), expected);
    }

    const SILENT: &str = r#"{"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": [{"metadata": {"name": "a"}, "status": {"conditions": [
        {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}]}}]}"#;
    const ONE_OF_TWO: &str = r#"{"apiVersion": "v1", "kind": "NodeList", "metadata": {}, "items": [
        {"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}},
        {"metadata": {"name": "b"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}]}"#;

    #[rstest]
    #[case::silent(
        |at| if at < 100 { NODES } else { (200, SILENT) },
        Some((110, "no node of the cluster runs pods any more; node a: Kubelet stopped posting node status."))
    )]
    #[case::for_a_moment(|at| if (100..108).contains(&at) { (200, SILENT) } else { NODES }, None)]
    #[case::another_node(|_| (200, ONE_OF_TWO), None)]
    #[case::not_allowed(|_| (403, "{}"), None)]
    #[tokio::test(start_paused = true)]
    async fn a_cluster_whose_kubelets_are_silent_is_lost(
        #[case] nodes: fn(u64) -> (u16, &'static str),
        #[case] expected: Option<(u64, &str)>,
    ) {
        let found = lost(of_server(|_| READY, nodes)).await;
        assert_eq!(found.as_ref().map(|(at, why)| (*at, why.as_str())), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_refused_is_told_as_that() {
        let start = Instant::now();
        let server = tower::service_fn(move |_: Request<Body>| async move {
            if start.elapsed().as_secs() > 20 {
                return Err(std::io::Error::other(std::io::Error::from_raw_os_error(111)));
            }
            Ok(Response::new(Full::new(Bytes::from("ok"))))
        });
        let (_, why) = lost(Client::new(server, "default")).await.unwrap();
        assert_eq!(why, "the API server has not been ready for 40 s: Connection refused (os error 111)");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_counted_from_its_first_check_without_a_break() {
        let checks = Arc::new(AtomicU64::new(0));
        let start = Instant::now();
        let found = outage(Duration::from_secs(10), || {
            let check = checks.fetch_add(1, Ordering::Relaxed);
            std::future::ready((check != 2).then(|| format!("check {check}")))
        });
        assert_eq!(found.await, "check 5");
        assert_eq!(start.elapsed(), Duration::from_secs(25));
    }
}
