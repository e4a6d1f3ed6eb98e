//! The webhook of a Canary whose answers are verdicts.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::sync::mpsc;

use super::advice::Failure;
use super::exit::ExitCode;
use super::options::own_pod;
use super::process::{interrupt, output};
use crate::report::Report;
use crate::scenario::Controlled;
use crate::session::Interrupt;
use crate::workload::{WebhookAnswer, WebhookRequest, webhook};

/// The longest answer in characters. Flagger puts it into an event, of which Kubernetes keeps 1,024 bytes.
const LONGEST: usize = 800;

/// Answers each request with a verdict of `judge`, one after another, until the process is told to end.
pub(super) async fn serve(
    port: u16,
    canary: &Controlled,
    judge: impl AsyncFn(Interrupt) -> (ExitCode, Report),
) -> Result<ExitCode, Failure> {
    let namespace = own_pod()?.namespace;
    let interrupt = interrupt();
    let address = SocketAddr::from(([0, 0, 0, 0], port));
    // a request whose sender no longer waits for the answer is not judged
    let (requests, mut received) = mpsc::channel(1);
    let answering = async {
        while let Some(WebhookRequest { body, answer }) = received.recv().await {
            if answer.is_closed() {
                note("a request was not judged: its sender did not wait for the one before");
                continue;
            }
            let given = if let Some(text) = refusal(&body, canary, &namespace) {
                WebhookAnswer { status: status(ExitCode::BadInput), text }
            } else {
                let (code, report) = judge(interrupt.clone()).await;
                WebhookAnswer { status: status(code), text: report.told(LONGEST) }
            };
            if answer.send(given).is_err() {
                note("the answer came too late: give the webhook a longer `timeout`, such as 60s");
            }
        }
    };
    tokio::select! {
        served = webhook(address, requests) => {
            served.map(|()| ExitCode::Pass).map_err(|error| Failure::environment(error.to_string()))
        }
        signal = interrupt.clone().signalled() => Ok(signal.into()),
        () = answering => Ok(ExitCode::Pass),
    }
}

/// Why a request is not judged: it is about another Canary.
fn refusal(body: &str, canary: &Controlled, namespace: &str) -> Option<String> {
    let payload: Value = serde_json::from_str(body).unwrap_or_default();
    let (name, own) = (payload["name"].as_str()?, payload["namespace"].as_str()?);
    let is_other = (name, own) != (canary.name.as_str(), namespace);
    is_other.then(|| {
        format!(
            "Canary/{name} in namespace {own} asked, and {} is about {canary} in namespace {namespace}: give each Canary a judge of its own",
            canary.origin
        )
    })
}

/// The HTTP status of a verdict. None is 500 or above: Flagger would drop the text of the answer.
const fn status(code: ExitCode) -> u16 {
    match code {
        ExitCode::Pass => 200,
        ExitCode::Undecided => 409,
        ExitCode::Fail => 412,
        ExitCode::BadInput => 422,
        ExitCode::Environment | ExitCode::Interrupted | ExitCode::Terminated => 424,
    }
}

fn note(line: &str) {
    use std::io::Write;
    // a closed pipe is not an error
    let _ = writeln!(output().0, "{line}");
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::scenario::{ControllerKind, Origin};

    #[rstest]
    #[case::its_own(r#"{"name": "hello", "namespace": "shop", "phase": "Progressing"}"#, None)]
    #[case::by_hand("", None)]
    #[case::another(
        r#"{"name": "front", "namespace": "shop", "phase": "Progressing"}"#,
        Some(
            "Canary/front in namespace shop asked, and judge.yaml:4:22 is about Canary/hello in namespace shop: give each Canary a judge of its own"
        )
    )]
    #[case::elsewhere(
        r#"{"name": "hello", "namespace": "test", "phase": "Progressing"}"#,
        Some(
            "Canary/hello in namespace test asked, and judge.yaml:4:22 is about Canary/hello in namespace shop: give each Canary a judge of its own"
        )
    )]
    fn another_canary_is_not_judged(#[case] body: &str, #[case] expected: Option<&str>) {
        let origin = Origin::new("judge.yaml", 4, 22);
        let canary = Controlled { kind: ControllerKind::Flagger, name: "hello".to_owned(), origin };
        assert_eq!(refusal(body, &canary, "shop").as_deref(), expected);
    }

    #[test]
    fn only_claims_that_hold_let_a_canary_advance() {
        let codes = [
            ExitCode::Fail,
            ExitCode::BadInput,
            ExitCode::Environment,
            ExitCode::Undecided,
            ExitCode::Interrupted,
            ExitCode::Terminated,
        ];
        assert_eq!(status(ExitCode::Pass), 200);
        // Flagger takes up to 202 for a yes, and tells the text of answers below 500
        assert!(codes.map(status).iter().all(|status| (400..500).contains(status)));
    }
}
