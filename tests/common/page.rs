//! The live page as a browser reads it, without a browser.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// Sends a request with these headers, and returns the connection.
pub fn sent(port: u16, request: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{request} HTTP/1.1\r\n{}Connection: close\r\n\r\n", headers.concat()).unwrap();
    stream
}

/// The whole response.
pub fn answered(port: u16, request: &str, headers: &[(&str, &str)]) -> String {
    let mut text = String::new();
    sent(port, request, headers).read_to_string(&mut text).unwrap();
    text
}

pub fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap()
}

/// The port and the token of the printed address.
pub fn address(url: &str) -> (u16, String) {
    let (port, token) = url.trim().rsplit_once(':').unwrap().1.split_once("/?token=").unwrap();
    (port.parse().unwrap(), token.to_owned())
}

/// Opens the page and returns the cookie.
pub fn opened(port: u16, token: &str) -> (String, String) {
    let response = answered(port, &format!("GET /?token={token}"), &[("Host", &format!("127.0.0.1:{port}"))]);
    assert_eq!(status(&response), "200", "{response}");
    let cookie = response.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    (cookie.split(';').next().unwrap().to_owned(), response)
}

/// The changes that a reader gets, until `enough`.
pub fn followed(port: u16, cookie: &str, mut enough: impl FnMut(&Value) -> bool) -> Vec<Value> {
    let host = format!("127.0.0.1:{port}");
    let stream = BufReader::new(sent(port, "GET /events", &[("Host", &host), ("Cookie", cookie)]));
    let mut changes = Vec::new();
    for line in stream.lines().map_while(Result::ok) {
        let Some(data) = line.strip_prefix("data: ") else { continue };
        changes.push(serde_json::from_str(data).unwrap());
        if enough(changes.last().unwrap()) {
            break;
        }
    }
    changes
}

/// Applies a change as the page does.
pub fn apply(state: &mut Value, change: &Value) {
    if change["reset"] == true {
        *state = serde_json::json!({"stages": [], "log": []});
    }
    for (key, value) in change.as_object().unwrap() {
        match key.as_str() {
            "stage" => {
                let (index, stages) = (
                    serde_json::from_value::<usize>(value[0].clone()).unwrap(),
                    state["stages"].as_array_mut().unwrap(),
                );
                stages.resize(stages.len().max(index + 1), Value::Null);
                stages[index] = value[1].clone();
            }
            "log" => state["log"].as_array_mut().unwrap().extend(value.as_array().unwrap().iter().cloned()),
            _ => state[key] = value.clone(),
        }
    }
}

/// Checks that the page, after all changes, shows what the report says.
pub fn shows(report: &Value, state: &Value) {
    for (key, at) in [("result", "/head/result"), ("note", "/head/note"), ("run", "/head/run")] {
        assert_eq!(Some(&report[key]), state.pointer(at), "{key}");
    }
    let (stages, shown) = (report["stages"].as_array().unwrap(), state["stages"].as_array().unwrap());
    assert_eq!(stages.len(), shown.len());
    for (stage, shown) in stages.iter().zip(shown) {
        for (key, value) in stage.as_object().unwrap() {
            assert_eq!(value, &shown[key], "{key}");
        }
        let log = state["log"].as_array().unwrap();
        for claim in stage["claims"].as_array().unwrap() {
            let line = format!(
                "{}: {}: {}",
                claim["result"].as_str().unwrap(),
                claim["subject"].as_str().unwrap(),
                claim["claim"].as_str().unwrap()
            );
            assert!(log.iter().any(|own| own["text"].as_str().unwrap().starts_with(&line)), "{line} is not in {log:?}");
        }
    }
}
