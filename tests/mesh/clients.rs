//! Several client pods share the requests of the client, each through its own sidecar.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::cluster::{containers, docker, shared};
use crate::common::{Deadline, shiftcheck};
use crate::harness::tests;

tests![several_clients_share_the_requests(), a_sidecar_that_lags_is_named(),];

fn several_clients_share_the_requests() {
    let (printed, errors, code) = shared().on("run", Path::new("fixtures/canary"), &["--clients", "3"]);
    assert_eq!(code, Some(0), "{printed}{errors}");
    assert_eq!(printed.matches(", the first of 3 clients, httpbin, after ").count(), 8, "{printed}");
}

/// The agent of one sidecar, through which it gets its configuration, is stopped after the first stage.
fn a_sidecar_that_lags_is_named() {
    let kubeconfig = shared().kubeconfig.to_string_lossy().into_owned();
    let arguments = ["run", "fixtures/canary", "--cluster", "kubeconfig", "--kubeconfig", &kubeconfig, "--no-report"];
    let mut command = shiftcheck(&[&arguments[..], &["--clients", "3"]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _deadline = Deadline::of(&child, Duration::from_secs(120));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("ok 1/9 ")));
    let node = containers(shared().run().as_str()).remove(0);
    let stop = "for process in /proc/[0-9]*; do \
        tr '\\0' '\\n' < $process/environ 2>/dev/null | grep -qx HOSTNAME=httpbin-2 || continue; \
        case $(readlink $process/exe) in */pilot-agent) kill -STOP ${process#/proc/} && echo stopped ;; esac; done";
    assert_eq!(docker(&["exec", &node, "sh", "-c", stop]), ["stopped"]);
    let (mut errors, printed) = (String::new(), lines.collect::<Vec<_>>().join("\n"));
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    let code = child.wait().unwrap().code();
    assert!(errors.contains("the sidecar of pod httpbin-2"), "{code:?}\n{printed}\n{errors}");
    assert_eq!(code, Some(3), "{printed}\n{errors}");
}
