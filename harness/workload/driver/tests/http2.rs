//! HTTP/2 and gRPC.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http2_are_answered_as_over_http1() {
    let (port, server) = server().await;
    let h2c = DrivePlan {
        base: format!("h2c://127.0.0.1:{port}"),
        connections: 2,
        streams: 3,
        ..plan(port, vec![flow("/", 30), flow("/error", 20)])
    };
    let found = answers(h2c.clone(), |_| None).await;
    assert_eq!(found.iter().map(|(result, _)| result.n).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    for (result, kind) in &found {
        let status = if result.flow == 0 { 200 } else { 503 };
        assert_eq!((kind.status, kind.grpc_status, kind.version.as_deref()), (Some(status), None, Some("v1")));
        assert_eq!(kind.pod.as_deref(), Some("pod-a"));
        assert!(result.connection < 2, "{}", result.connection);
    }
    // in an open loop, too
    let found = answers(DrivePlan { qps: Some(400.0), in_flight: Some(50), ..h2c }, |_| None).await;
    assert!(found.iter().all(|(_, kind)| kind.version.as_deref() == Some("v1")), "{found:?}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_http2_carries_several_requests_at_a_time() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let server = tokio::spawn(async move {
        // no request is answered before four are there
        let four = Arc::new(tokio::sync::Barrier::new(4));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let four = Arc::clone(&four);
            let service = hyper::service::service_fn(move |_| {
                let four = Arc::clone(&four);
                async move {
                    four.wait().await;
                    Ok::<_, io::Error>(hyper::Response::new(crate::AnswerBody::new("Hello server - v1")))
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    let base = format!("h2c://127.0.0.1:{port}");
    let found = answers(DrivePlan { base, connections: 1, streams: 4, ..plan(port, vec![flow("/", 40)]) }, |_| None);
    let found = found.await;
    assert!(found.iter().all(|(_, kind)| kind.version.as_deref() == Some("v1")), "{found:?}");
    assert_eq!((found.len(), accepted.load(Ordering::Relaxed)), (40, 1));
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_server_ends_with_goaway_fails_no_request() {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let (answered, mut answer) = mpsc::channel(64);
            let service = hyper::service::service_fn(move |_| {
                let answered = answered.clone();
                async move {
                    let _ = answered.send(()).await;
                    Ok::<_, io::Error>(hyper::Response::new(crate::AnswerBody::new("Hello server - v1")))
                }
            });
            tokio::spawn(async move {
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                tokio::select! {
                    _ = &mut connection => return,
                    _ = answer.recv() => {}
                }
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            });
        }
    });
    let base = format!("h2c://127.0.0.1:{port}");
    let plan = DrivePlan { base, connections: 1, streams: 2, ..plan(port, vec![flow("/", 200)]) };
    let (found, goaways) = answers_and_goaways(LoadGenerator::new(plan).unwrap(), |_| None).await;
    let failed: Vec<_> = found.iter().filter(|(_, kind)| kind.failure.is_some()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let accepted = accepted.load(std::sync::atomic::Ordering::Relaxed);
    assert!(accepted > 2);
    // each but the last, whose end may come after the last answer
    assert!(goaways == accepted as u64 || goaways + 1 == accepted as u64, "{goaways} of {accepted}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_grpc_have_a_status_of_their_own() {
    let (port, server) = server().await;
    let flows = ["/grpc.health.v1.Health/Check", "/helloworld.Greeter/SayHello", "/helloworld.Greeter/SayBye"];
    let calls = |version: VersionSource| DrivePlan {
        base: format!("grpc://127.0.0.1:{port}"),
        version,
        ..plan(port, flows.map(|path| flow(path, 10)).to_vec())
    };
    let header = answers(calls(VersionSource::Header("x-version".to_owned())), |_| None).await;
    assert_eq!(header.len(), 30);
    for (result, kind) in &header {
        let status = if result.flow == 2 { 12 } else { 0 };
        assert_eq!((kind.status, kind.grpc_status), (Some(200), Some(status)));
        assert_eq!((kind.version.as_deref(), kind.pod.as_deref()), (Some("v1"), Some("pod-a")));
    }
    // the greeting in the message
    let body = answers(calls(VersionSource::Body("Hello server - (?<version>[^ ]+)".to_owned())), |_| None).await;
    for (result, kind) in &body {
        let version = (result.flow == 1).then_some("v1");
        let said = (result.flow == 2).then_some("unknown method");
        assert_eq!((kind.version.as_deref(), said), (version, kind.excerpt.as_deref().filter(|_| said.is_some())));
    }
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_read_from_the_field_of_the_flow() {
    let (port, server) = server().await;
    let field =
        |numbers: &[u32]| Some(MessageField { numbers: numbers.to_vec(), value: FieldValue::Text, default: None });
    let greeting = "/helloworld.Greeter/SayHello";
    let serving = FieldValue::Enum(BTreeMap::from([(1, "SERVING".to_owned())]));
    let flows = vec![
        Flow { field: field(&[2, 1]), ..flow(greeting, 10) },
        // the same answer, read in another way on the same connection
        Flow { field: field(&[2, 2]), ..flow(greeting, 10) },
        Flow { field: field(&[1]), message: vec![10, 5, b'w', b'o', b'r', b'l', b'd'], ..flow(greeting, 10) },
        Flow {
            field: Some(MessageField { numbers: vec![1], value: serving, default: None }),
            ..flow("/grpc.health.v1.Health/Check", 10)
        },
        Flow { field: field(&[3]), ..flow(greeting, 10) },
        flow("/helloworld.Greeter/SayBye", 10),
    ];
    let base = format!("grpc://127.0.0.1:{port}");
    let calls = DrivePlan { base, connections: 1, streams: 1, version: VersionSource::Field, ..plan(port, flows) };
    let stated = [Some("v1"), Some("pod-a"), Some("Hello server - v1 (name=world)"), Some("SERVING"), None, None];
    for (result, kind) in answers(calls, |_| None).await {
        assert_eq!(kind.version.as_deref(), stated[result.flow], "{}", result.flow);
    }
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_grpc_needs_http2() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().await));
    let server = tokio::spawn(crate::serve(address, crate::DemoServer::new("v1", "pod-a", true).speaking_http2(false)));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    let over_http1 = plan(address.port(), vec![flow("/", 3)]);
    let call = BTreeMap::from([("content-type".to_owned(), "application/grpc".to_owned())]);
    let call = Flow { method: Some("POST".to_owned()), variants: vec![call], ..flow("/a.B/C", 3) };
    let found = answers(DrivePlan { flows: vec![call, flow("/", 3)], ..over_http1.clone() }, |_| None).await;
    for (result, kind) in &found {
        let expected = if result.flow == 0 { (Some(505), None) } else { (Some(200), Some("v1")) };
        assert_eq!((kind.status, kind.version.as_deref()), expected);
    }
    // a server of HTTP/1.1 does not understand HTTP/2
    let base = format!("h2c://{address}");
    for (_, kind) in answers(DrivePlan { base, ..over_http1 }, |_| None).await {
        assert_eq!(kind.failure.map(|failure| failure.kind), Some(FailureKind::Broken), "{:?}", kind.status);
    }
    server.abort();
}

#[tokio::test]
async fn an_unknown_protocol_is_refused() {
    let (_sender, mut commands) = mpsc::channel(1);
    let other = DrivePlan { base: "https://svc:443".to_owned(), ..plan(1, vec![flow("/", 1)]) };
    let error = drive(other, &mut commands, &mut JsonLines::new(io::sink())).await.unwrap_err();
    let expected = "the plan is not valid: `https://svc:443` is not http://HOST:PORT, h2c://HOST:PORT, grpc://HOST:PORT, tcp://HOST:PORT or ws://HOST:PORT";
    assert_eq!(error.to_string(), expected);
}

/// What the reflection of a server at a port answers to the driver.
async fn reflected(port: u16, services: &[&str]) -> Reflection {
    let plan = ReflectPlan {
        base: format!("grpc://127.0.0.1:{port}"),
        connect: None,
        services: services.iter().map(|name| (*name).to_owned()).collect(),
        timeout_ms: 2000,
    };
    let (sender, commands) = mpsc::channel(1);
    sender.send(DriverCommand::Reflect(Box::new(plan))).await.unwrap();
    drop(sender);
    let lines = Arc::new(Mutex::new(Vec::new()));
    drive_all(commands, JsonLines::new(SharedLines(Arc::clone(&lines)))).await.unwrap();
    let lines = String::from_utf8(lock(&lines).clone()).unwrap();
    match DriverMessage::parse(lines.trim()).unwrap() {
        DriverMessage::Reflected(reflection) => reflection,
        other => panic!("{other:?}"),
    }
}

struct SharedLines(Arc<Mutex<Vec<u8>>>);

impl Write for SharedLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_asked_for_the_files_of_its_services() {
    let (port, server) = server().await;
    let both = reflected(port, &["helloworld.Greeter", "grpc.health.v1.Health"]).await;
    assert_matches::assert_matches!(both, Reflection::Described { files, services } if files.len() == 2
        && services == ["helloworld.Greeter", "grpc.health.v1.Health"]);
    let one = reflected(port, &["helloworld.Greeter", "helloworld.Greter"]).await;
    assert_matches::assert_matches!(one, Reflection::Described { files, .. } if files.len() == 1);
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_reflection_refuses() {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().await));
    let server = tokio::spawn(crate::serve(address, crate::DemoServer::new("v1", "pod-a", true).reflecting(false)));
    while tokio::net::TcpStream::connect(address).await.is_err() {
        tokio::task::yield_now().await;
    }
    let refused = Reflection::Refused { status: 12, message: "unknown method".to_owned() };
    assert_eq!(reflected(address.port(), &["helloworld.Greeter"]).await, refused);
    server.abort();
    let nobody = reflected(free_port().await, &["helloworld.Greeter"]).await;
    assert_matches::assert_matches!(nobody, Reflection::Failed(failure) if failure.kind == FailureKind::Connect);
}

/// A server of the former version of reflection, which sends each file without those that it imports.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_others_import_are_asked_for_by_name_and_the_former_version_is_understood() {
    use crate::wire::{WireFields, WireValue, bytes_field};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    // a imports b, which imports c and a again
    let file = |name: &str, imports: &[&str]| {
        let imports = imports.iter().flat_map(|import| bytes_field(3, import.as_bytes()));
        bytes_field(1, name.as_bytes()).into_iter().chain(imports).collect::<Vec<_>>()
    };
    let files = Arc::new([file("a", &["b"]), file("b", &["c", "a"]), file("c", &[])]);
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::clone(&files);
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let files = Arc::clone(&sent);
            let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let files = Arc::clone(&files);
                async move {
                    let is_former = request.uri().path().contains(".v1alpha.");
                    let question = crate::message_of(request.into_body()).await;
                    let named = |number| match WireFields(&question).last(number) {
                        Some(WireValue::Bytes(name)) => Some(String::from_utf8(name.to_owned()).unwrap()),
                        _ => None,
                    };
                    let found = match (named(3), named(4)) {
                        (Some(name), _) => files.iter().find(|file| {
                            **file == bytes_field(1, name.as_bytes())
                                || file.starts_with(&bytes_field(1, name.as_bytes()))
                        }),
                        (_, Some(_)) => files.first(),
                        _ => None,
                    };
                    let answer = found.map(|file| bytes_field(4, &bytes_field(1, file))).unwrap_or_default();
                    let mut response = hyper::Response::new(crate::AnswerBody::message(&answer));
                    if !is_former {
                        response = hyper::Response::new(crate::AnswerBody::default());
                        response.headers_mut().insert("grpc-status", hyper::header::HeaderValue::from_static("12"));
                    }
                    Ok::<_, io::Error>(response)
                }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    let described = reflected(port, &["a.Service"]).await;
    assert_eq!(described, Reflection::Described { files: files.to_vec(), services: Vec::new() });
    server.abort();
}
