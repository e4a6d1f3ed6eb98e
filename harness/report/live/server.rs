use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State as Extracted};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::Stream;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use super::access::{Access, Refused, secret};
use crate::events::Timed;
use crate::report::model::Report;
use crate::report::recorder::Recorder;
use crate::report::view::{self, State};
use crate::scenario::Sensitive;
use crate::session::Pause;

const PAGE: &str = include_str!("page.html");
/// Gets the changes, and sends what the buttons say.
const SCRIPT: &str = include_str!("live.js");
/// The style of the HTML report, with which the page begins.
const STYLE: &str = include_str!("../page/style.css");
/// The number of changes after which a reader that does not keep up gets the state instead.
const BEHIND: usize = 64;
/// The largest number of readers at the same time.
const READERS: usize = 16;
/// How long the end of the program waits for readers to get the last changes.
const LAST: Duration = Duration::from_millis(500);

/// A change as JSON, and its number.
type Change = (u64, Arc<str>);

/// A server on the loopback interface that shows a run in a browser.
///
/// All clones are the same page.
#[derive(Debug, Clone)]
pub struct Live(Arc<Shared>);

struct Shared {
    access: Access,
    pause: Pause,
    shown: Mutex<Shown>,
    is_closed: watch::Sender<bool>,
    server: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl std::fmt::Debug for Shared {
    /// Without the secrets.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// The state, and where its changes are sent.
struct Shown {
    state: State,
    sensitive: Sensitive,
    /// The number of changes so far.
    number: u64,
    changes: broadcast::Sender<Change>,
}

impl Live {
    /// Starts a server at a port, or at any free one for port 0. Readers can continue a run that waits at this pause.
    ///
    /// # Errors
    /// The port is in use.
    pub async fn start(port: u16, pause: Pause) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let shown = Shown {
            state: State::default(),
            sensitive: Sensitive::default(),
            number: 0,
            changes: broadcast::Sender::new(BEHIND),
        };
        let access = Access::new(listener.local_addr()?.port())?;
        let (is_closed, mut closed) = watch::channel(false);
        let shared = Arc::new(Shared { access, pause, shown: Mutex::new(shown), is_closed, server: Mutex::default() });
        let router = Router::new()
            .route("/", get(page))
            .route("/events", get(events))
            .route("/continue", post(resume))
            .layer(from_fn_with_state(Arc::clone(&shared), guarded))
            .with_state(Arc::clone(&shared));
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = closed.wait_for(|closed| *closed).await;
        });
        *shared.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokio::spawn(server.into_future()));
        Ok(Self(shared))
    }

    /// The address of the page. It can be opened once.
    pub fn url(&self) -> String {
        self.0.access.url()
    }

    /// Where readers continue a run.
    pub fn pause(&self) -> &Pause {
        &self.0.pause
    }

    /// Shows an event that the recorder has taken.
    pub fn show(&self, event: &Timed, recorder: &Recorder) {
        let mut shown = self.0.shown();
        if let crate::events::Event::Started { sensitive, .. } = &event.event {
            shown.sensitive.clone_from(sensitive);
        }
        let changed = shown.state.take(event, recorder.report());
        shown.send(changed);
    }

    /// Shows the end of a run.
    pub fn end(&self, report: &Report) {
        let mut shown = self.0.shown();
        let changed = shown.state.end(report);
        shown.send(changed);
    }

    /// Ends the server after its readers had a moment to get the last changes.
    pub async fn close(self) {
        self.0.is_closed.send_replace(true);
        let server = self.0.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut server) = server
            && tokio::time::timeout(LAST, &mut server).await.is_err()
        {
            server.abort();
        }
    }
}

impl Shared {
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    /// Sends a change to the readers that are there.
    fn send(&mut self, changed: Map<String, Value>) {
        if changed.is_empty() {
            return;
        }
        self.number += 1;
        if self.changes.receiver_count() > 0 {
            // the last reader may just have gone
            let _ = self.changes.send((self.number, self.text(changed)));
        }
    }

    fn text(&self, changed: Map<String, Value>) -> Arc<str> {
        let changed = Value::Object(changed);
        let shown = if self.sensitive.is_empty() { changed } else { self.sensitive.hidden_in_value(changed) };
        shown.to_string().into()
    }

    /// The state now, and the changes from now on.
    fn follow(&self) -> (Change, broadcast::Receiver<Change>) {
        ((self.number, self.text(self.state.whole())), self.changes.subscribe())
    }
}

/// Refuses what comes from elsewhere, and adds the headers of every response.
async fn guarded(Extracted(shared): Extracted<Arc<Shared>>, request: Request, next: Next) -> Response {
    let checked = shared.access.check_sender(request.headers()).and_then(|()| match request.uri().path() {
        // the page admits by its token, too
        "/" => Ok(()),
        _ => shared.access.check_cookie(request.headers()),
    });
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    let fixed = [
        (CACHE_CONTROL.as_str(), "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ];
    for (name, value) in fixed {
        response.headers_mut().insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

/// The query of the page's address.
#[derive(Deserialize)]
struct Opened {
    token: Option<String>,
}

/// The page, for the browser that first opens it, or has opened it.
async fn page(
    Extracted(shared): Extracted<Arc<Shared>>,
    Query(opened): Query<Opened>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    if !opened.token.is_some_and(|token| shared.access.admits(&token)) {
        shared.access.check_cookie(&headers)?;
    }
    let nonce = secret().map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "the system gives no random bytes"))?;
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let page = PAGE
        .replace("NONCE", &nonce)
        .replace("/*STYLE*/", STYLE)
        .replace("/*VIEW*/", view::STYLE)
        .replace("<!--VIEW-->", view::MARKUP)
        .replace("/*SCRIPT*/", &format!("{}{SCRIPT}", view::SCRIPT));
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CONTENT_SECURITY_POLICY, policy),
        (SET_COOKIE, shared.access.cookie()),
    ];
    Ok((headers, page).into_response())
}

/// The state, and then its changes.
async fn events(Extracted(shared): Extracted<Arc<Shared>>) -> Result<impl IntoResponse, Refused> {
    if shared.shown().changes.receiver_count() >= READERS {
        return Err((StatusCode::SERVICE_UNAVAILABLE, "too many pages are open"));
    }
    Ok(Sse::new(changes(shared)).keep_alive(KeepAlive::default()))
}

/// A reader of the changes.
struct Reader {
    shared: Arc<Shared>,
    closed: watch::Receiver<bool>,
    /// Where changes come from; none before the state was sent.
    changes: Option<broadcast::Receiver<Change>>,
}

fn changes(shared: Arc<Shared>) -> impl Stream<Item = Result<Event, Infallible>> {
    let reader = Reader { closed: shared.is_closed.subscribe(), shared, changes: None };
    futures::stream::unfold(reader, |mut reader| async {
        let (number, text) = reader.next().await?;
        let event = Event::default().id(number.to_string()).retry(Duration::from_secs(1)).data(&*text);
        Some((Ok(event), reader))
    })
}

impl Reader {
    /// The next change; the state first, and again for a reader that was too slow. None at the end of the program.
    async fn next(&mut self) -> Option<Change> {
        if let Some(changes) = &mut self.changes {
            let received = tokio::select! {
                // the last changes are sent first
                biased;
                received = changes.recv() => received,
                _ = self.closed.wait_for(|closed| *closed) => return None,
            };
            match received {
                Ok(change) => return Some(change),
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(_)) => {}
            }
        }
        let (state, changes) = self.shared.shown().follow();
        self.changes = Some(changes);
        Some(state)
    }
}

/// The query with which a run is continued.
#[derive(Deserialize)]
struct Continued {
    /// Whether the run waits again after its next stage.
    #[serde(default)]
    step: bool,
}

/// Continues a run that waits.
async fn resume(Extracted(shared): Extracted<Arc<Shared>>, Query(continued): Query<Continued>) -> StatusCode {
    if shared.pause.resume(continued.step) { StatusCode::NO_CONTENT } else { StatusCode::CONFLICT }
}
