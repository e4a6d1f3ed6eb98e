use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Body as HttpBody;
use hyper::header::UPGRADE;
use hyper::{Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tokio::time::timeout;
use tower::{BoxError, Service};

use super::ClusterError;
use super::unanswered::Unanswered;

/// The timeout of one request to an API server. Longer than the 30 s that an admission webhook may take, so that an error of the webhook is
/// reported by the API server and not hidden by this timeout.
const REQUEST_LIMIT: Duration = Duration::from_secs(40);

/// A client of an API server. No request waits forever: kube sets no timeout for answers.
///
/// # Errors
/// The configuration is not valid.
pub(super) fn client(config: Config) -> Result<Client, ClusterError> {
    let builder = ClientBuilder::try_from(config).map_err(|error| ClusterError::Kubeconfig(error.to_string()))?;
    Ok(builder.with_layer(&tower::layer::layer_fn(|inner| Deadlines { inner, limit: REQUEST_LIMIT })).build())
}

/// Ends requests that are not answered in time. The body of a response has to be complete in time too, except that of a watch or of a
/// connection that is used for another protocol.
#[derive(Debug, Clone)]
struct Deadlines<S> {
    inner: S,
    limit: Duration,
}

impl<S, B> Service<Request<Body>> for Deadlines<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<Full<Bytes>, B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let streams = request.headers().contains_key(UPGRADE) || is_watch(request.uri().query().unwrap_or_default());
        let unanswered = Unanswered {
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            limit: self.limit,
        };
        let answer = self.inner.call(request);
        let answer = async move {
            let (head, body) = answer.await.map_err(Into::into)?.into_parts();
            let body = if streams {
                Either::Right(body)
            } else {
                Either::Left(Full::new(body.collect().await.map_err(Into::into)?.to_bytes()))
            };
            Ok(Response::from_parts(head, body))
        };
        let limited = timeout(self.limit, answer);
        Box::pin(async move { limited.await.map_err(|_| BoxError::from(unanswered))? })
    }
}

fn is_watch(query: &str) -> bool {
    query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1" | "follow=true"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::StreamExt;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{ListParams, WatchParams};
    use kube::{Api, Client};
    use tokio::time::Instant;

    use super::super::wait::reason;
    use super::*;

    /// A client of a server that answers with a body that never ends, or that does not answer at all.
    fn of_server(answers: bool) -> Client {
        let server = tower::service_fn(move |_: Request<Body>| async move {
            if !answers {
                std::future::pending::<()>().await;
            }
            let endless = futures::stream::pending::<Result<Frame<Bytes>, Infallible>>();
            Ok::<_, Infallible>(Response::new(StreamBody::new(endless)))
        });
        Client::new(Deadlines { inner: server, limit: REQUEST_LIMIT }, "default")
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_not_answered_ends_with_its_name() {
        for answers in [false, true] {
            let start = Instant::now();
            let pods: Api<Pod> = Api::default_namespaced(of_server(answers));
            let error = pods.list(&ListParams::default()).await.unwrap_err();
            assert_eq!(start.elapsed(), REQUEST_LIMIT);
            let expected = "the API server did not answer GET /api/v1/namespaces/default/pods within 40 s";
            assert_eq!(reason(&error), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_stays_open_without_events() {
        let pods: Api<Pod> = Api::default_namespaced(of_server(true));
        let mut events = Box::pin(pods.watch(&WatchParams::default(), "0").await.unwrap());
        let idle = timeout(10 * REQUEST_LIMIT, events.next()).await;
        assert!(idle.is_err(), "{idle:?}");
        // without a response there is no watch
        let pods: Api<Pod> = Api::default_namespaced(of_server(false));
        assert!(pods.watch(&WatchParams::default(), "0").await.is_err());
    }
}
