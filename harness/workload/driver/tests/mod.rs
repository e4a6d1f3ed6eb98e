mod http2;
mod tcp;
mod tls;
mod websocket;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::output::JsonLines;
use crate::protocol::{FieldValue, Flow, MessageField, ReflectPlan, Reflection, VersionSource};

fn plan(port: u16, flows: Vec<Flow>) -> DrivePlan {
    DrivePlan {
        id: 7,
        base: format!("http://127.0.0.1:{port}"),
        connect: None,
        tls: None,
        connections: 4,
        streams: 1,
        qps: None,
        in_flight: None,
        busy_qps: None,
        keep_alive: true,
        timeout_ms: 2000,
        limit_ms: 20_000,
        version: VersionSource::Body("Hello server - (?<version>[^ ]+)".to_owned()),
        pod_header: Some("x-pod".to_owned()),
        flows,
    }
}

/// An output that parses each line and calls `seen` with the message.
struct LineReader<F: FnMut(&DriverMessage)> {
    rest: Vec<u8>,
    messages: Vec<DriverMessage>,
    seen: F,
}

impl<F: FnMut(&DriverMessage)> Write for LineReader<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            if *byte == b'\n' {
                let message = DriverMessage::parse(std::str::from_utf8(&self.rest).unwrap()).unwrap();
                (self.seen)(&message);
                self.messages.push(message);
                self.rest.clear();
            } else {
                self.rest.push(*byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The results of a plan with their kinds. `react` is called with each result and may return a command.
async fn answers(
    plan: DrivePlan,
    react: impl Fn(&RequestResult) -> Option<DriverCommand> + Send + Sync,
) -> Vec<(RequestResult, ResultKind)> {
    answers_of(LoadGenerator::new(plan).unwrap(), react).await
}

async fn answers_of(
    generator: LoadGenerator,
    react: impl Fn(&RequestResult) -> Option<DriverCommand> + Send + Sync,
) -> Vec<(RequestResult, ResultKind)> {
    answers_and_goaways(generator, react).await.0
}

/// The same, with the number of connections that the server has ended with GOAWAY.
async fn answers_and_goaways(
    generator: LoadGenerator,
    react: impl Fn(&RequestResult) -> Option<DriverCommand> + Send + Sync,
) -> (Vec<(RequestResult, ResultKind)>, u64) {
    let mut ended = 0;
    let (sender, mut commands) = mpsc::channel(16);
    let id = generator.plan.id;
    let seen = |message: &DriverMessage| {
        if let DriverMessage::Result(result) = message
            && let Some(command) = react(result)
        {
            sender.try_send(command).unwrap();
        }
    };
    let mut lines = LineReader { rest: Vec::new(), messages: Vec::new(), seen };
    run(generator, &mut commands, &mut JsonLines::new(&mut lines)).await.unwrap();
    let mut kinds = Vec::new();
    let mut answers = Vec::new();
    assert_matches::assert_matches!(lines.messages.last(), Some(DriverMessage::End { plan, .. }) if *plan == id);
    for message in lines.messages {
        match message {
            DriverMessage::Kind(kind) => kinds.push(kind),
            DriverMessage::Result(result) => answers.push((result, kinds[result.kind].clone())),
            DriverMessage::End { goaways, .. } => ended = goaways,
            DriverMessage::Reflected(_) => {}
        }
    }
    (answers, ended)
}

fn flow(path: &str, requests: u64) -> Flow {
    Flow {
        path: path.to_owned(),
        method: None,
        requests,
        min_results: 0,
        message: Vec::new(),
        field: None,
        cookie: None,
        queries: Vec::new(),
        variants: vec![BTreeMap::new()],
    }
}

async fn free_port() -> u16 {
    tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
}

/// A demo server of v1 on a free port.
async fn server() -> (u16, tokio::task::JoinHandle<()>) {
    let port = free_port().await;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let server = tokio::spawn(async move {
        crate::serve(address, crate::DemoServer::new("v1", "pod-a", true)).await.unwrap();
    });
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    (port, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_order_of_sending_with_version_status_and_pod() {
    let (port, server) = server().await;
    let found = answers(plan(port, vec![flow("/", 30), flow("/error", 20)]), |_| None).await;
    assert_eq!(found.iter().map(|(result, _)| result.n).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    for (result, kind) in &found {
        let status = if result.flow == 0 { 200 } else { 503 };
        assert_eq!(
            (kind.status, kind.version.as_deref(), kind.pod.as_deref()),
            (Some(status), Some("v1"), Some("pod-a"))
        );
        assert_eq!(result.late_us, 0);
    }
    assert_eq!(found.iter().filter(|(result, _)| result.flow == 1).count(), 20);
    server.abort();
}

/// In each of 24 requests a lost look-up would count as an answer that the mesh did not give.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_that_fail_for_a_moment_cost_no_request() {
    let (port, server) = server().await;
    let mut generator = LoadGenerator::new(plan(port, vec![flow("/", 24)])).unwrap();
    let earlier = std::sync::atomic::AtomicUsize::new(0);
    generator.server = Arc::new(ServerAddress::resolved_by(format!("svc-hello:{port}"), move |_| {
        let fails = earlier.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2;
        Box::pin(async move {
            if fails {
                return Err(io::Error::other("Temporary failure in name resolution"));
            }
            Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))])
        })
    }));
    let found = answers_of(generator, |_| None).await;
    assert!(found.iter().all(|(_, kind)| kind.status == Some(200)), "{found:?}");
    // the look-ups are over before the clock starts
    assert!(found.iter().all(|(result, _)| result.due_us < 200_000), "{found:?}");
    server.abort();
}

/// A server that sets a cookie for each connection and answers with the cookie of the request as the version.
async fn setting_cookies() -> (u16, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut request).await {
                    let text = String::from_utf8_lossy(&request[..length]).into_owned();
                    let cookie = text.lines().find_map(|line| line.strip_prefix("cookie: theme=dark; user="));
                    let own = format!("c{number}");
                    let set = if cookie.is_none() { format!("set-cookie: user={own}\r\n") } else { String::new() };
                    let body = format!("Hello server - {}", cookie.unwrap_or(&own));
                    // long enough for all connections to send
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    let length = body.len();
                    let answer = format!("HTTP/1.1 200 OK\r\n{set}content-length: {length}\r\n\r\n{body}");
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, server)
}

#[rstest::rstest]
#[case::sessions_that_share_a_connection(1)]
#[case::senders_that_wait_for_answers_to_earlier_requests_of_a_session(8)]
#[tokio::test(flavor = "multi_thread")]
async fn each_session_keeps_the_cookie_of_its_first_answer(#[case] connections: usize) {
    let (port, server) = setting_cookies().await;
    let headers = BTreeMap::from([("cookie".to_owned(), "theme=dark".to_owned())]);
    let sessions = Flow { cookie: Some("user".to_owned()), variants: vec![headers; 3], ..flow("/", 30) };
    let found = answers(DrivePlan { connections, ..plan(port, vec![sessions]) }, |_| None).await;
    let of = |session: u64| found.iter().filter(move |(result, _)| result.n % 3 == session);
    let first: Vec<_> = (0..3).map(|session| of(session).next().unwrap().1.version.clone()).collect();
    for (session, first) in (0..3).zip(&first) {
        assert_eq!(of(session).count(), 10);
        assert!(of(session).all(|(_, kind)| kind.version.is_some() && kind.version == *first), "{found:?}");
    }
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2], "{first:?}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_no_cookie_begin_a_session_each() {
    let (port, server) = setting_cookies().await;
    let sessions = Flow { cookie: Some("user".to_owned()), ..flow("/", 30) };
    let when_due = DrivePlan { in_flight: Some(64), qps: Some(1000.0), ..plan(port, vec![sessions]) };
    let found = answers(when_due, |_| None).await;
    let cookies: BTreeSet<_> = found.iter().map(|(_, kind)| kind.version.clone()).collect();
    assert_eq!((found.len(), cookies.len()), (30, 30), "{cookies:?}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_flow_is_drained_and_the_others_go_on() {
    let (port, server) = server().await;
    let plan = plan(port, vec![flow("/", 100_000), flow("/error", 300)]);
    let id = plan.id;
    let stop = |result: &RequestResult| (result.n == 100).then_some(DriverCommand::Stop { plan: id, flow: 0 });
    let found = answers(plan, stop).await;
    let first = found.iter().filter(|(result, _)| result.flow == 0).count();
    assert!((50..20_000).contains(&first), "{first}");
    assert_eq!(found.len() - first, 300);
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_for_another_plan_is_ignored() {
    let (port, server) = server().await;
    let stop = |result: &RequestResult| (result.n == 5).then_some(DriverCommand::Stop { plan: 6, flow: 0 });
    assert_eq!(answers(plan(port, vec![flow("/", 400)]), stop).await.len(), 400);
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_sends_when_requests_are_due_and_counts_the_wait() {
    let (port, server) = server().await;
    let start = Instant::now();
    let found = answers(DrivePlan { qps: Some(400.0), ..plan(port, vec![flow("/", 100)]) }, |_| None).await;
    assert!(start.elapsed() >= Duration::from_micros(99 * 2500), "{:?}", start.elapsed());
    for (result, _) in &found {
        assert_eq!(result.due_us, result.n * 2500);
    }
    // at a rate that the server cannot keep up with, later requests wait longer
    let fast = DrivePlan { qps: Some(1e6), connections: 1, ..plan(port, vec![flow("/", 200)]) };
    let found = answers(fast, |_| None).await;
    assert!(found[199].0.late_us > found[20].0.late_us && found[199].0.late_us > 1000);
    server.abort();
}

/// A server that answers requests at once, except those received between `from` and `to` after the first request: it answers them at `to`.
async fn hanging(from: Duration, to: Duration) -> (u16, tokio::task::JoinHandle<()>) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // the time of the first request
    let start = Arc::new(std::sync::OnceLock::new());
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while let Ok(1..) = stream.read(&mut request).await {
                    let start: Instant = *start.get_or_init(Instant::now);
                    if start.elapsed() > from {
                        tokio::time::sleep_until((start + to).into()).await;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\nHello server - v1";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, server)
}

/// The number of requests due in `[from, to)` milliseconds, and how many of them failed.
fn due_within(found: &[(RequestResult, ResultKind)], from: u64, to: u64) -> (usize, usize) {
    let due = found.iter().filter(|(result, _)| (from * 1000..to * 1000).contains(&result.due_us));
    (due.clone().count(), due.filter(|(_, kind)| kind.failure.is_some()).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_does_not_slow_down_an_open_loop_with_requests_in_flight() {
    let (port, server) = hanging(Duration::from_secs(1), Duration::from_secs(3)).await;
    let watch =
        DrivePlan { qps: Some(200.0), in_flight: Some(400), timeout_ms: 500, ..plan(port, vec![flow("/", 800)]) };
    // with one request in flight per connection, few requests are sent during the hang
    let (port, other) = hanging(Duration::from_secs(1), Duration::from_secs(3)).await;
    let few = DrivePlan { in_flight: None, base: format!("http://127.0.0.1:{port}"), ..watch.clone() };
    let (found, few) = tokio::join!(answers(watch, |_| None), answers(few, |_| None));
    other.abort();
    let failed = few.iter().filter(|(_, kind)| kind.failure.is_some()).count();
    assert!(failed < 40, "{failed}");
    // as many requests were due during the hang as before and after it
    let (hang, failed) = due_within(&found, 1000, 3000);
    let (calm, _) = due_within(&found, 0, 1000);
    let (after, _) = due_within(&found, 3000, 4000);
    assert_eq!((hang, calm, after), (400, 200, 200));
    // they were sent during the hang, and those that waited longer than their timeout failed: about 300, depending on machine load
    let sent =
        found.iter().filter(|(result, _)| (1_000_000..3_000_000).contains(&(result.due_us + result.late_us))).count();
    assert!(sent > 200, "{sent}");
    assert!((150..=350).contains(&failed), "{failed}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_beyond_those_in_flight_fails_and_is_counted() {
    let (port, server) = hanging(Duration::ZERO, Duration::from_secs(60)).await;
    let watch = DrivePlan {
        qps: Some(200.0),
        in_flight: Some(20),
        timeout_ms: 4000,
        limit_ms: 20_000,
        ..plan(port, vec![flow("/", 100)])
    };
    let found = answers(watch, |_| None).await;
    let of = |wanted: FailureKind| {
        found.iter().filter(|(_, kind)| kind.failure.as_ref().is_some_and(|failure| failure.kind == wanted)).count()
    };
    assert_eq!((of(FailureKind::Timeout), of(FailureKind::Unsent), found.len()), (20, 80, 100));
    // unsent requests are reported before the timeouts of earlier requests
    assert_eq!(found[0].1.failure.as_ref().unwrap().kind, FailureKind::Unsent);
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_can_be_raised_and_a_flow_stopped_while_requests_are_in_flight() {
    let (port, server) = server().await;
    let watch =
        DrivePlan { qps: Some(50.0), in_flight: Some(100), limit_ms: 20_000, ..plan(port, vec![flow("/", 10_000)]) };
    let id = watch.id;
    let found = answers(watch, |result| match result.n {
        10 => Some(DriverCommand::Rate { plan: id, qps: 1000.0 }),
        500 => Some(DriverCommand::Stop { plan: id, flow: 0 }),
        _ => None,
    })
    .await;
    assert!((500..2000).contains(&found.len()), "{}", found.len());
    let due = |n: u64| found.iter().find(|(result, _)| result.n == n).unwrap().0.due_us;
    assert_eq!(due(10), 200_000);
    assert!((11..500).any(|n| due(n + 1) - due(n) == 1000));
    let used: std::collections::BTreeSet<usize> = found.iter().map(|(result, _)| result.connection).collect();
    assert!(used.len() >= 4, "{used:?}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_raised_rate_falls_back_while_nothing_is_answered() {
    let (port, server) = hanging(Duration::from_millis(300), Duration::from_secs(60)).await;
    let watch = DrivePlan {
        qps: Some(50.0),
        in_flight: Some(5000),
        timeout_ms: 3000,
        limit_ms: 2500,
        ..plan(port, vec![flow("/", 10_000)])
    };
    let id = watch.id;
    let raise = |result: &RequestResult| (result.n == 3).then_some(DriverCommand::Rate { plan: id, qps: 1000.0 });
    let found = answers(watch, raise).await;
    // at the raised rate of 1000 requests per second it would be about 2300
    let hung = found.iter().filter(|(_, kind)| kind.failure.is_some()).count();
    assert!((60..BUSY + 400).contains(&hung), "{hung}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_high_initial_rate_falls_to_that_of_a_busy_service_while_nothing_is_answered() {
    let (port, server) = hanging(Duration::from_millis(300), Duration::from_secs(60)).await;
    let watch = DrivePlan {
        qps: Some(1000.0),
        busy_qps: Some(50.0),
        in_flight: Some(5000),
        timeout_ms: 3000,
        limit_ms: 2500,
        ..plan(port, vec![flow("/", 10_000)])
    };
    let found = answers(watch, |_| None).await;
    // at the initial rate it would be about 2200
    let hung = found.iter().filter(|(_, kind)| kind.failure.is_some()).count();
    assert!((60..BUSY + 400).contains(&hung), "{hung}");
    server.abort();
}

#[tokio::test]
async fn a_limit_of_requests_in_flight_needs_a_rate() {
    let (_sender, mut commands) = mpsc::channel(1);
    let watch = DrivePlan { in_flight: Some(100), ..plan(1, vec![flow("/", 1)]) };
    let error = drive(watch, &mut commands, &mut JsonLines::new(io::sink())).await.unwrap_err();
    assert!(error.to_string().contains("needs a positive rate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_after_the_time_limit() {
    let (port, server) = server().await;
    let slow = DrivePlan { qps: Some(100.0), limit_ms: 200, ..plan(port, vec![flow("/", 1000)]) };
    let sent = answers(slow, |_| None).await.len();
    assert!((10..=30).contains(&sent), "{sent}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_keep_alive_every_request_opens_a_connection() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while let Ok(1..) = stream.read(&mut request).await {
                    // otherwise one connection could have all answers before the others are opened
                    while count.load(std::sync::atomic::Ordering::Relaxed) < 4 {
                        tokio::task::yield_now().await;
                    }
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 17\r\n\r\nHello server - v1").await.unwrap();
                }
            });
        }
    });
    for (keep_alive, connections) in [(true, 4), (false, 40)] {
        accepted.store(0, std::sync::atomic::Ordering::Relaxed);
        let found = answers(DrivePlan { keep_alive, ..plan(port, vec![flow("/", 40)]) }, |_| None).await;
        assert_eq!(found.len(), 40);
        assert_eq!(accepted.load(std::sync::atomic::Ordering::Relaxed), connections, "keep-alive {keep_alive}");
    }
    server.abort();
}

#[tokio::test]
async fn a_refused_connection_is_a_failure_without_status() {
    let found = answers(plan(free_port().await, vec![flow("/", 3)]), |_| None).await;
    assert_eq!(found.len(), 3);
    for (_, kind) in found {
        assert_eq!(kind.status, None);
        assert_eq!(kind.failure.unwrap().kind, FailureKind::Connect);
    }
}
