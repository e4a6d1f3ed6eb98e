//! The driver's memory does not grow with the number of requests.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::BINARY;

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn server() -> (Process, u16) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let server = Command::new(BINARY).args(["workload", "serve", "--listen", &listen]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(Instant::now() < deadline, "the server does not listen");
        std::thread::yield_now();
    }
    (Process(server), port)
}

/// The most memory, in KiB, that a driver has used when it has sent so many requests.
fn memory_after(port: u16, requests: u64) -> u64 {
    let plan = serde_json::json!({"drive": {
        "id": 1, "base": format!("http://127.0.0.1:{port}"), "connections": 8, "keep_alive": true, "timeout_ms": 5000,
        "limit_ms": 60_000, "version": {"header": "x-version"}, "pod_header": null,
        "flows": [{"path": "/", "requests": requests, "variants": [{}]}],
    }});
    let command = Command::new(BINARY).args(["workload", "drive"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut driver = Process(command.unwrap());
    let mut orders = driver.0.stdin.take().unwrap();
    writeln!(orders, "{plan}").unwrap();
    let lines = BufReader::new(driver.0.stdout.take().unwrap()).lines();
    let mut answers = 0;
    for line in lines.map_while(Result::ok) {
        answers += u64::from(line.starts_with('['));
        if line.starts_with("{\"end\"") {
            break;
        }
    }
    assert_eq!(answers, requests);
    let status = std::fs::read_to_string(format!("/proc/{}/status", driver.0.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn forty_times_the_requests_take_no_more_memory() {
    let (_server, port) = server();
    let (few, many) = (memory_after(port, 2_000), memory_after(port, 80_000));
    assert!(many < few + 2048, "{few} KiB for 2,000 requests, {many} KiB for 80,000");
}
