//! Chromium, driven by its debugging protocol over pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Deadline;

/// A page in Chromium.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    number: u64,
    _profile: TempDir,
    _deadline: Deadline,
}

impl Browser {
    /// Starts Chromium with an empty page.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // the protocol uses the file descriptors 3 and 4
        let script = "exec chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
            --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe \"--user-data-dir=$0\" about:blank \
            3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null";
        let mut child = Command::new("sh")
            .args(["-c", script, profile.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Deadline::of(&child, Duration::from_secs(120));
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut browser =
            Self { child, input, output, session: None, number: 0, _profile: profile, _deadline: deadline };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        browser.session = attached["sessionId"].as_str().map(ToOwned::to_owned);
        browser
    }

    /// Calls a method of the protocol and returns its result.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.number += 1;
        let mut command = json!({"id": self.number, "method": method, "params": params});
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        self.input.write_all(command.to_string().as_bytes()).unwrap();
        self.input.write_all(&[0]).unwrap();
        self.input.flush().unwrap();
        loop {
            let mut message = Vec::new();
            assert!(self.output.read_until(0, &mut message).unwrap() > 0, "Chromium has ended; ci/browser installs it");
            message.pop();
            let mut message: Value = serde_json::from_slice(&message).unwrap();
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }

    /// Opens an address.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", &json!({"url": url}));
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        self.evaluated(expression).unwrap_or_else(|exception| panic!("{expression}: {exception}"))
    }

    /// Waits until an expression in the page is true. It may fail before: a page that is being loaded has no elements.
    pub fn wait_for(&mut self, expression: &str) {
        let start = Instant::now();
        loop {
            let seen = self.evaluated(&format!("!!({expression})"));
            if seen == Ok(json!(true)) {
                return;
            }
            let body = "document.body && document.body.innerText";
            assert!(start.elapsed() < Duration::from_secs(60), "never: {expression}: {seen:?}\n{}", self.value(body));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The value of an expression in the page, or the exception that it ends with.
    fn evaluated(&mut self, expression: &str) -> Result<Value, String> {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", &params);
        match &result["exceptionDetails"] {
            Value::Null => Ok(result["result"]["value"].take()),
            exception => Err(exception.to_string()),
        }
    }

    /// Sets the size of the window, and whether the user prefers dark colours and reduced motion.
    pub fn set(&mut self, width: u32, height: u32, dark: bool, still: bool) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let (scheme, motion) = (if dark { "dark" } else { "light" }, if still { "reduce" } else { "no-preference" });
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": motion}]);
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// A picture of the whole page, as PNG in base64.
    pub fn picture(&mut self) -> String {
        let taken = self.call("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        taken["data"].as_str().unwrap().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
