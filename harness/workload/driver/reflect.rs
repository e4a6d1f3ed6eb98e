//! What the driver asks the reflection of a server for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::DriveError;
use super::requests::Target;
use crate::body::{GRPC_STATUS, unframed};
use crate::connection::{Connection, HttpResponse, ServerAddress};
use crate::protocol::{FailureKind, ReflectPlan, Reflection, RequestFailure};
use crate::reflection::{
    FILE_BY_FILENAME, FILE_CONTAINING_SYMBOL, FILES, File, LIST_SERVICES, METHODS, SERVICES, all, text,
};
use crate::wire::bytes_field;

/// The maximum number of files that a server is asked for.
const MAX_FILES: usize = 1000;
/// The statuses of methods that do not exist, of gRPC and of HTTP.
const MISSING: [u16; 2] = [12, 404];

/// Asks a server for the files that define services, and for all that these import.
///
/// # Errors
/// The plan is not valid.
pub(super) async fn reflect(plan: &ReflectPlan) -> Result<Reflection, DriveError> {
    let target = Target::new(&plan.base)?;
    let server = ServerAddress::new(plan.connect.clone().unwrap_or_else(|| target.address.clone()));
    server.resolve().await;
    let mut server = Asked {
        connection: Connection::http2(Arc::new(server), true, Duration::from_millis(plan.timeout_ms), Arc::default()),
        target,
        method: METHODS[0],
    };
    let mut listed = server.ask(&bytes_field(LIST_SERVICES, b"")).await;
    if matches!(&listed, Err(Reflection::Refused { status, .. }) if MISSING.contains(status)) {
        server.method = METHODS[1];
        listed = server.ask(&bytes_field(LIST_SERVICES, b"")).await;
    }
    let described = match listed {
        Ok(listed) => server.described(&listed, &plan.services).await,
        Err(refused) => Err(refused),
    };
    Ok(described.unwrap_or_else(|refused| refused))
}

/// A server that is asked.
struct Asked {
    connection: Connection,
    target: Target,
    method: &'static str,
}

impl Asked {
    /// The files that define services, given the answer with the list of all services.
    async fn described(&mut self, listed: &[u8], wanted: &[String]) -> Result<Reflection, Reflection> {
        let services = all(listed, SERVICES).flat_map(|list| all(list, 1)).filter_map(|own| text(own, 1));
        let services: Vec<String> = services.map(ToOwned::to_owned).collect();
        let mut questions: Vec<Vec<u8>> =
            wanted.iter().map(|service| bytes_field(FILE_CONTAINING_SYMBOL, service.as_bytes())).collect();
        let (mut known, mut asked, mut files) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        while let Some(question) = questions.pop() {
            let answer = self.ask(&question).await?;
            // of a service that is not known there is no file
            for file in all(&answer, FILES).flat_map(|files| all(files, 1)).map(File) {
                if files.len() < MAX_FILES && known.insert(file.name().to_owned()) {
                    files.push(file.0.to_vec());
                }
            }
            if questions.is_empty() {
                let imports: BTreeSet<String> =
                    files.iter().flat_map(|file| File(file).imports()).map(ToOwned::to_owned).collect();
                let missing = imports.into_iter().filter(|name| !known.contains(name) && asked.insert(name.clone()));
                questions.extend(missing.map(|name| bytes_field(FILE_BY_FILENAME, name.as_bytes())));
            }
        }
        Ok(Reflection::Described { files, services })
    }

    /// The answer to one question, or why there is none.
    async fn ask(&mut self, question: &[u8]) -> Result<Vec<u8>, Reflection> {
        let unsent = |error: DriveError| RequestFailure { kind: FailureKind::Unsent, message: error.to_string() };
        let request = self.target.call(self.method, question).map_err(|error| Reflection::Failed(unsent(error)))?;
        let response = self.connection.send(&request).await.map_err(Reflection::Failed)?;
        message(&response)
    }
}

/// The message of a response, or why there is none.
fn message(response: &HttpResponse) -> Result<Vec<u8>, Reflection> {
    let text = |name| response.header(name).and_then(|value| value.to_str().ok());
    match text(GRPC_STATUS).and_then(|status| status.parse().ok()) {
        Some(0) => match unframed(&response.body) {
            Some(message) => Ok(message.to_vec()),
            None => Err(Reflection::Refused { status: 0, message: "there is no message in the answer".to_owned() }),
        },
        status => Err(Reflection::Refused {
            status: status.unwrap_or(response.status.as_u16()),
            message: text("grpc-message").unwrap_or_default().to_owned(),
        }),
    }
}
