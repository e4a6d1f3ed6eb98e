use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

/// How long pods are called without another look for them.
const FRESH: Duration = Duration::from_secs(1);
/// The timeout of the search for pods, and of opening a connection to one.
const LIMIT: Duration = Duration::from_secs(10);

/// A port of a pod.
#[derive(Clone)]
pub struct PodPort {
    /// The pods of its namespace.
    pub pods: Api<Pod>,
    /// Its name.
    pub pod: String,
    /// The port.
    pub port: u16,
}

/// Finds the pods behind a [`PortForward`]; empty while there are none.
pub type FindPods = Box<dyn Fn() -> BoxFuture<'static, Vec<PodPort>> + Send + Sync>;

/// A port of this machine whose connections go on to pods, one after another. It is closed, with its connections, when dropped.
pub struct PortForward {
    /// Where it listens.
    pub address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for PortForward {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl PortForward {
    /// Listens on a free port of the loopback address. A connection is closed where no pod takes it.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn listen(find: FindPods) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let known = Arc::new(Known { find, pods: Mutex::default() });
        let accepting = tokio::spawn(async move {
            // dropped with this task, so that no connection outlives it
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            let known = Arc::clone(&known);
                            connections.spawn(async move { known.serve(stream).await });
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, accepting })
    }
}

/// The pods of a forward, as they were found last.
struct Known {
    find: FindPods,
    pods: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    at: Option<Instant>,
    pods: Vec<PodPort>,
    turn: usize,
}

impl Known {
    async fn serve(&self, mut stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        for _ in 0..2 {
            let Some(next) = self.next().await else { return };
            match within_limit(next.pods.portforward(&next.pod, &[next.port])).await {
                Some(Ok(mut forward)) => {
                    if let Some(mut pod) = forward.take_stream(next.port) {
                        let _ = copy_bidirectional(&mut stream, &mut pod).await;
                    }
                    return;
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, pod = next.pod, "a port-forward was refused");
                }
                None => tracing::debug!(pod = next.pod, "a port-forward took too long"),
            }
            // the pod may have ended since
            self.pods.lock().await.at = None;
        }
    }

    /// The pod for the next connection; none if there is none.
    async fn next(&self) -> Option<PodPort> {
        let mut found = self.pods.lock().await;
        if found.at.is_none_or(|at| at.elapsed() > FRESH) {
            found.pods = within_limit((self.find)()).await.unwrap_or_default();
            found.at = Some(Instant::now());
        }
        found.turn = found.turn.wrapping_add(1);
        let turn = found.turn.checked_rem(found.pods.len())?;
        found.pods.get(turn).cloned()
    }
}

async fn within_limit<T>(work: impl Future<Output = T>) -> Option<T> {
    timeout(LIMIT, work).await.ok()
}
