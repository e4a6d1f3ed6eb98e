use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode};

/// The number of random bytes of a secret.
const SECRET: usize = 16;

/// Why a request is refused: the status and a sentence.
pub(super) type Refused = (StatusCode, &'static str);

/// Who may read the page: the browser that first opens its address, with the token in it. The browser then has a cookie.
pub(super) struct Access {
    port: u16,
    token: String,
    is_used: AtomicBool,
    session: String,
}

impl Access {
    /// Access to the server at a port, with new secrets.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new(port: u16) -> io::Result<Self> {
        Ok(Self { port, token: secret()?, is_used: AtomicBool::new(false), session: secret()? })
    }

    /// The address of the page, which can be opened once.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/?token={}", self.port, self.token)
    }

    /// The cookie of the browser that has opened the page. Browsers send cookies to all ports of a host, so that its name has the port.
    pub fn cookie(&self) -> String {
        format!("{}; Path=/; HttpOnly; SameSite=Strict", self.pair())
    }

    fn pair(&self) -> String {
        format!("shiftcheck-{}={}", self.port, self.session)
    }

    /// Refuses requests that were addressed to another host, and those of other pages: a name that another server resolves to the loopback
    /// address must not give access.
    pub fn check_sender(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let hosts = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{}", self.port));
        let host = text(headers, HOST).unwrap_or_default();
        if !hosts.iter().any(|own| own == host) {
            return Err((StatusCode::FORBIDDEN, "this server has another name"));
        }
        match text(headers, ORIGIN) {
            Some(origin) if origin != format!("http://{host}") => {
                Err((StatusCode::FORBIDDEN, "another page sent this request"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses requests without the cookie.
    pub fn check_cookie(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let pair = self.pair();
        let all = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        if all.flat_map(|line| line.split(';')).any(|own| is_same(own.trim(), &pair)) {
            return Ok(());
        }
        Err((StatusCode::FORBIDDEN, "open the address that shiftcheck has printed; it can be opened once"))
    }

    /// Whether the token is right and was not used before.
    pub fn admits(&self, token: &str) -> bool {
        is_same(token, &self.token) && !self.is_used.swap(true, Ordering::Relaxed)
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("unreadable"))
}

/// Compares in a time that does not depend on where the texts differ.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |all, (one, other)| all | (one ^ other)) == 0
}

pub(super) fn secret() -> io::Result<String> {
    let mut bytes = [0; SECRET];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(hex::encode(bytes))
}
