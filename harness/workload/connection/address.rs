//! The address of a server, and how its name is looked up.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::refused;
use super::stream::{Stream, Tls};
use crate::protocol::RequestFailure;

/// The IP addresses of a name, or why there are none.
type Resolved = io::Result<Vec<SocketAddr>>;
/// Looks up a name.
type LookUp = dyn Fn(String) -> Pin<Box<dyn Future<Output = Resolved> + Send>> + Send + Sync;

/// The address of a server, `HOST:PORT`, with the IP addresses of the last DNS look-up.
///
/// A lost DNS packet delays a look-up by five seconds, and a look-up of a name with search domains sends ten packets. Neither is a property of
/// the route that is asked: [`ServerAddress::resolve`] looks the name up before the first connection, new connections use the known IP addresses,
/// and [`ServerAddress::refresh`] updates them in the background.
pub struct ServerAddress {
    name: String,
    look_up: Arc<LookUp>,
    known: Mutex<Option<Vec<SocketAddr>>>,
    tls: Option<Tls>,
}

impl ServerAddress {
    /// The time between two look-ups.
    const REFRESH: Duration = Duration::from_millis(500);
    /// The timeout of a look-up in the background.
    const TIMEOUT: Duration = Duration::from_secs(30);
    /// The time after which a look-up before the first connection is presumed lost, and another one is sent without waiting any longer.
    const LOST: Duration = Duration::from_secs(1);
    /// The time before the next look-up after one that failed temporarily.
    const PAUSE: Duration = Duration::from_millis(250);
    /// The maximum time of the look-ups before the first connection.
    const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

    /// The address of a server that the system's resolver looks up.
    pub fn new(name: String) -> Self {
        Self::resolved_by(name, |name| Box::pin(async { Ok(tokio::net::lookup_host(name).await?.collect()) }))
    }

    /// The address of a server that a function looks up.
    pub fn resolved_by(
        name: String,
        look_up: impl Fn(String) -> Pin<Box<dyn Future<Output = Resolved> + Send>> + Send + Sync + 'static,
    ) -> Self {
        Self { name, look_up: Arc::new(look_up), known: Mutex::new(None), tls: None }
    }

    /// With TLS on each connection.
    pub fn with(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Looks up the name before the first connection. A look-up that fails temporarily or gets no reply is repeated for ten seconds. Without a
    /// result, every connection looks up the name itself and reports the error.
    pub async fn resolve(&self) {
        let attempts = async {
            let mut running = JoinSet::new();
            loop {
                running.spawn((self.look_up)(self.name.clone()));
                match tokio::time::timeout(Self::LOST, running.join_next()).await {
                    Ok(Some(Ok(Ok(addresses)))) => return Some(addresses),
                    Ok(Some(Ok(Err(error)))) if is_temporary(&error) => tokio::time::sleep(Self::PAUSE).await,
                    Ok(_) => return None,
                    Err(_) => {}
                }
            }
        };
        if let Ok(known) = tokio::time::timeout(Self::RESOLVE_LIMIT, attempts).await {
            self.set(known);
        }
    }

    /// Looks up the name periodically, until the future is dropped. New connections use the result.
    pub async fn refresh(&self) {
        loop {
            tokio::time::sleep(Self::REFRESH).await;
            match tokio::time::timeout(Self::TIMEOUT, (self.look_up)(self.name.clone())).await {
                Ok(Ok(addresses)) => self.set(Some(addresses)),
                // the name does not exist any more: the next connection looks it up and reports the error
                Ok(Err(error)) if !is_temporary(&error) => self.set(None),
                _ => {}
            }
        }
    }

    fn set(&self, known: Option<Vec<SocketAddr>>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known.filter(|known| !known.is_empty());
    }

    /// Opens a connection.
    pub async fn connect(&self) -> Result<Stream, RequestFailure> {
        let stream = self.reach().await?;
        match &self.tls {
            None => Ok(Stream::Plain(stream)),
            Some(tls) => tls.handshake(stream).await,
        }
    }

    async fn reach(&self) -> Result<TcpStream, RequestFailure> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let addresses = match known {
            Some(known) => known,
            None => (self.look_up)(self.name.clone()).await.map_err(|error| refused(&error))?,
        };
        let stream = TcpStream::connect(&addresses[..]).await.map_err(|error| refused(&error))?;
        stream.set_nodelay(true).map_err(|error| refused(&error))?;
        Ok(stream)
    }
}

impl std::fmt::Debug for ServerAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServerAddress")
            .field("name", &self.name)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

/// Whether a look-up failed without an answer about the name, in the words of glibc or musl: the standard library keeps no code of the error.
fn is_temporary(error: &io::Error) -> bool {
    let text = error.to_string();
    ["Temporary failure in name resolution", "Try again"].iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const TEMPORARY: &str = "failed to lookup address information: Temporary failure in name resolution";
    const UNKNOWN: &str = "failed to lookup address information: Name or service not known";

    /// What becomes of a look-up.
    #[derive(Clone, Copy)]
    enum Fate {
        Lost,
        Fails(&'static str),
        Succeeds,
    }

    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

    /// An address whose look-ups have these fates, in order; the last one counts for all that follow. Also the number of look-ups.
    fn server(fates: &[Fate]) -> (ServerAddress, Arc<AtomicUsize>) {
        let (fates, sent) = (fates.to_vec(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&sent);
        let look_up = move |_| -> Pin<Box<dyn Future<Output = Resolved> + Send>> {
            let fate = fates[counted.fetch_add(1, Ordering::Relaxed).min(fates.len() - 1)];
            Box::pin(async move {
                match fate {
                    Fate::Lost => std::future::pending().await,
                    Fate::Fails(text) => Err(io::Error::other(text)),
                    Fate::Succeeds => Ok(vec![ADDRESS]),
                }
            })
        };
        (ServerAddress::resolved_by("name:80".to_owned(), look_up), sent)
    }

    fn known(server: &ServerAddress) -> Option<Vec<SocketAddr>> {
        server.known.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn a_connection_uses_the_known_addresses() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (server, _) = server(&[Fate::Fails(UNKNOWN)]);
        assert_eq!(server.connect().await.unwrap_err().message, UNKNOWN);
        server.set(Some(vec![address]));
        assert_eq!(server.reach().await.unwrap().peer_addr().unwrap(), address);
        // no known addresses
        server.set(Some(Vec::new()));
        assert_eq!(server.connect().await.unwrap_err().message, UNKNOWN);
    }

    #[rstest::rstest]
    #[case::at_once(&[Fate::Succeeds], 1, 0)]
    #[case::after_a_temporary_failure(&[Fate::Fails(TEMPORARY), Fate::Succeeds], 2, 250)]
    #[case::after_a_lost_packet(&[Fate::Lost, Fate::Lost, Fate::Succeeds], 3, 2000)]
    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_until_there_is_an_answer(
        #[case] fates: &[Fate],
        #[case] look_ups: usize,
        #[case] millis: u64,
    ) {
        let (server, sent) = server(fates);
        let start = tokio::time::Instant::now();
        server.resolve().await;
        assert_eq!(known(&server), Some(vec![ADDRESS]));
        assert_eq!(sent.load(Ordering::Relaxed), look_ups);
        // the clock of tokio advances in steps of a millisecond
        assert!(
            start.elapsed().abs_diff(Duration::from_millis(millis)) < Duration::from_millis(5),
            "{:?}",
            start.elapsed()
        );
    }

    #[rstest::rstest]
    #[case::unknown(Fate::Fails(UNKNOWN), 0)]
    #[case::no_server(Fate::Lost, 10)]
    #[case::failing(Fate::Fails(TEMPORARY), 10)]
    #[tokio::test(start_paused = true)]
    async fn a_name_without_an_address_is_given_up(#[case] fate: Fate, #[case] seconds: u64) {
        let (server, _) = server(&[fate]);
        let start = tokio::time::Instant::now();
        server.resolve().await;
        assert_eq!(known(&server), None);
        assert_eq!(start.elapsed().as_secs(), seconds);
    }

    #[rstest::rstest]
    #[case::temporary(Fate::Fails(TEMPORARY), true)]
    #[case::unknown(Fate::Fails(UNKNOWN), false)]
    #[tokio::test(start_paused = true)]
    async fn refresh_forgets_a_name_only_when_it_is_unknown(#[case] then: Fate, #[case] kept: bool) {
        let (server, sent) = server(&[Fate::Succeeds, then]);
        let refreshed = tokio::time::timeout(Duration::from_secs(2), server.refresh()).await;
        assert!(refreshed.is_err());
        assert!(sent.load(Ordering::Relaxed) > 1);
        assert_eq!(known(&server).is_some(), kept);
    }

    #[tokio::test]
    async fn the_system_resolves_an_ip_address() {
        let server = ServerAddress::new("127.0.0.1:8080".to_owned());
        server.resolve().await;
        assert_eq!(known(&server), Some(vec![ADDRESS]));
    }
}
