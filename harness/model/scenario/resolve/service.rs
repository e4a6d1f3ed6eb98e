//! The address of the service, and what its protocol asks of other keys.

use serde_saphyr::Spanned;

use super::{Context, Resolver};
use crate::scenario::error::ScenarioError;
use crate::scenario::expectation::Statuses;
use crate::scenario::model::{Service, VersionRule};
use crate::scenario::parse::{Status, raw};
use crate::scenario::scheme::Scheme;
use crate::scenario::status::StatusCode;
use crate::scenario::suggest::nearest;

impl Resolver<'_> {
    pub(super) fn service(&self, url: &Spanned<String>) -> Result<Service, ScenarioError> {
        let refused = |hint: String| {
            let message = format!("`{}` is not a service address such as http://svc-hello:8080{hint}", url.value);
            self.error(url.referenced, message)
        };
        let Some((scheme, rest)) = url.value.split_once("://") else { return refused(String::new()) };
        let schemes = || Scheme::ALL.iter().map(ToString::to_string);
        let Some(scheme) = Scheme::ALL.into_iter().find(|known| known.to_string() == scheme) else {
            let names: Vec<String> = schemes().collect();
            if scheme == "wss" {
                return refused("; clients in the mesh speak WebSocket without TLS, ws://HOST:PORT".to_owned());
            }
            let meant = nearest(scheme, names.iter().map(String::as_str));
            return refused(format!("; the schemes are {}{meant}", names.join(", ")));
        };
        let (address, path) = match rest.split_once('/') {
            None | Some((_, "")) => (rest.trim_end_matches('/'), scheme.default_path().to_owned()),
            Some((address, method)) if scheme == Scheme::Grpc => (address, format!("/{method}")),
            Some((address, path)) if scheme == Scheme::Ws => {
                (address, self.http_path(Spanned { value: format!("/{path}"), ..url.clone() })?)
            }
            Some(_) => return refused(String::new()),
        };
        let (host, port) = address.split_once(':').unwrap_or((address, "80"));
        let Some(port) = port.parse().ok().filter(|port| *port > 0 && !host.is_empty()) else {
            return refused(String::new());
        };
        if !scheme.takes(&path) {
            return refused(format!("; `{path}` is not a method of gRPC such as {}", Scheme::Grpc.default_path()));
        }
        Ok(Service { host: host.to_owned(), port, scheme, path })
    }

    /// The path of a claim's requests.
    pub(super) fn path_of(
        &self,
        written: Option<Spanned<String>>,
        context: &Context<'_>,
    ) -> Result<String, ScenarioError> {
        let Some(written) = written else { return Ok(context.service.path.clone()) };
        if context.service.scheme == Scheme::Tcp {
            return self.error(written.referenced, "connections of TCP have no path; remove `path`");
        }
        if !context.service.scheme.takes(&written.value) && context.service.scheme == Scheme::Grpc {
            let message =
                format!("`{}` is not a method of gRPC such as {}", written.value, Scheme::Grpc.default_path());
            return self.error(written.referenced, message);
        }
        self.http_path(written)
    }

    /// The statuses of a claim.
    pub(super) fn statuses(
        &self,
        written: Option<Spanned<Status>>,
        context: &Context<'_>,
    ) -> Result<Statuses, ScenarioError> {
        let Service { scheme, host, port, .. } = context.service;
        let Some(status) = written else { return Ok(Statuses::Implied(scheme.success())) };
        if *scheme == Scheme::Tcp {
            return self.error(status.referenced, "connections of TCP have no status; remove `status`");
        }
        let shares = status.value.0;
        let is_grpc = *scheme == Scheme::Grpc;
        let valid = |code: u16| if is_grpc { StatusCode(code).is_grpc() } else { (100..600).contains(&code) };
        if let Some(wrong) = shares.keys().find(|code| !valid(**code)) {
            let code = StatusCode(*wrong);
            let message = match (is_grpc, code.is_grpc()) {
                (true, _) => format!("{wrong} is not a status of gRPC, such as OK or UNAVAILABLE"),
                (false, true) => format!(
                    "{code} is a status of gRPC; {scheme}://{host}:{port} has statuses of HTTP, such as 200; a service of gRPC is grpc://{host}:{port}"
                ),
                (false, false) => format!("{wrong} is not an HTTP status"),
            };
            return self.error(status.referenced, message);
        }
        Ok(Statuses::Claimed(shares))
    }

    /// Refuses what requests of a scheme do not have.
    pub(super) fn refuse_for_scheme(
        &self,
        raw: &raw::Scenario,
        scheme: Scheme,
        version: &VersionRule,
        at: serde_saphyr::Location,
    ) -> Result<(), ScenarioError> {
        if scheme != Scheme::Grpc {
            let other = format!("and the service is {scheme}; a service of gRPC is grpc://HOST:PORT");
            let messages = raw.messages.keys().map(|method| ("messages", method.referenced));
            let descriptors = raw.descriptors.iter().map(|file| ("descriptors", file.referenced));
            if let Some((key, at)) = messages.chain(descriptors).next() {
                return self.error(at, format!("`{key}` is about messages of gRPC, {other}"));
            }
            return match version {
                VersionRule::Field(_) => self.error(at, format!("`field` is a field of a message of gRPC, {other}")),
                _ => self.refuse_for_connections(raw, scheme, version, at),
            };
        }
        if let Some(method) = raw.populations.values().find_map(|population| population.method.as_ref()) {
            let message = "every request of gRPC is a POST; a claim names the method of gRPC as its `path`";
            return self.error(method.referenced, message);
        }
        let mut sessions = raw.populations.values().filter_map(|population| population.sessions.as_ref());
        if let Some(query) = sessions.find_map(|sessions| sessions.value.query.as_ref()) {
            return self
                .error(query.referenced, "calls of gRPC have no query; tell sessions apart by `header` or `cookie`");
        }
        match version {
            VersionRule::Json(_) => self.error(
                at,
                "answers of gRPC are no JSON; read the version with `field`, `header` (or trailer) or `body`",
            ),
            VersionRule::Header(_) | VersionRule::Body(_) | VersionRule::Field(_) | VersionRule::Line(_) => {
                self.refuse_for_connections(raw, scheme, version, at)
            }
        }
    }

    /// Refuses what is not said in WebSocket handshakes, or not tested with them.
    fn refuse_for_websocket(&self, raw: &raw::Scenario) -> Result<(), ScenarioError> {
        let unfit = raw.populations.values().find_map(|own| {
            let sessions = own.sessions.as_ref().map(|sessions| ("sessions", sessions.referenced));
            let through = own.through.as_ref().map(|through| ("through", through.referenced));
            sessions.or(through).or_else(|| Some(("method", own.method.as_ref()?.referenced)))
        });
        match unfit {
            None => Ok(()),
            Some(("method", at)) => self.error(at, "every WebSocket handshake is a GET; remove `method`"),
            Some((key, at)) => {
                let message = format!(
                    "`{key}` is not supported with ws://; use a service of http://, whose requests take the same routes"
                );
                self.error(at, message)
            }
        }
    }

    /// Refuses what connections of TCP do not have, and what only they have.
    fn refuse_for_connections(
        &self,
        raw: &raw::Scenario,
        scheme: Scheme,
        version: &VersionRule,
        at: serde_saphyr::Location,
    ) -> Result<(), ScenarioError> {
        match (scheme, version) {
            (Scheme::Tcp, VersionRule::Line(_)) => {}
            (Scheme::Tcp, _) => {
                let message = "a connection of TCP has no answer of HTTP; read the version in the first line that the server sends, `version: {line: '…(?<version>…)'}`";
                return self.error(at, message);
            }
            (Scheme::Ws, VersionRule::Line(_)) => {
                let message = "`line` is the first line of a server of TCP, and the service is ws; read the version in the answer to the handshake, `version: {header: …}`, or in the first message, `version: {body: '…(?<version>…)'}`";
                return self.error(at, message);
            }
            (_, VersionRule::Line(_)) => {
                let message = format!(
                    "`line` is the first line of a server of TCP, and the service is {scheme}; a service of TCP is tcp://HOST:PORT"
                );
                return self.error(at, message);
            }
            (Scheme::Ws, _) => return self.refuse_for_websocket(raw),
            _ => return Ok(()),
        }
        let of_scenario = raw.pod.iter().map(|pod| ("pod", pod.header.referenced));
        let of_populations = raw.populations.values().flat_map(|own| {
            let texts = [("through", &own.through), ("method", &own.method), ("host", &own.host)];
            let texts = texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?.referenced)));
            let headers = own.headers.keys().map(|name| ("headers", name.referenced));
            let variants = own.any_of.iter().flat_map(|variant| variant.headers.keys());
            let variants = variants.map(|name| ("headers", name.referenced));
            let sessions = own.sessions.iter().map(|sessions| ("sessions", sessions.referenced));
            texts.chain(headers).chain(variants).chain(sessions).collect::<Vec<_>>()
        });
        match of_scenario.chain(of_populations).next() {
            None => Ok(()),
            Some((key, at)) => {
                let message = format!(
                    "`{key}` is about requests of HTTP, and the service is {scheme}: a server of TCP speaks first, and nothing is sent to it"
                );
                self.error(at, message)
            }
        }
    }
}
