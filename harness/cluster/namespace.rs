use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};

use super::answer::answered;
use super::kubeconfig::{ANSWER_LIMIT, KubeCluster};
use super::run_id::RunId;
use super::{ClusterError, RUN_LABEL};

impl KubeCluster {
    /// Deletes the namespace of a run with all objects in it. Returns false if there is none.
    ///
    /// # Errors
    /// The kubeconfig now selects another cluster, or the API server does not answer or refuses.
    pub async fn remove_namespace(&self, name: &str, run: &RunId) -> Result<bool, ClusterError> {
        delete_namespace(&Api::<Namespace>::all(self.client().await?), name, run).await
    }
}

/// Begins to delete a namespace if it has the label of the run. Returns false if there is no such namespace.
async fn delete_namespace(namespaces: &Api<Namespace>, name: &str, run: &RunId) -> Result<bool, ClusterError> {
    let doing = || format!("deleting the namespace `{name}`");
    let found = answered("the API server", ANSWER_LIMIT, namespaces.get_opt(name)).await?;
    let Some(found) = found.map_err(ClusterError::api(doing()))? else { return Ok(false) };
    if found.metadata.labels.and_then(|labels| labels.get(RUN_LABEL).cloned()).as_deref() != Some(run.as_str()) {
        return Ok(false);
    }
    // not a namespace of the same name that was created in the meantime
    let preconditions = Preconditions { uid: found.metadata.uid, resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match answered("the API server", ANSWER_LIMIT, namespaces.delete(name, &parameters)).await? {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(false),
        Err(error) => Err(ClusterError::api(doing())(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use hyper::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    const RUN: &str = "0123abcd";

    /// The result of deleting the run's namespace on a cluster where it has this label, and the body of the request.
    async fn deleted(label: &str) -> (bool, Option<serde_json::Value>) {
        let sent = Arc::new(Mutex::new(None));
        let (own, label) = (Arc::clone(&sent), label.to_owned());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (own, label) = (Arc::clone(&own), label.clone());
            async move {
                if request.method() == "DELETE" {
                    let body = request.into_body().collect_bytes().await.unwrap();
                    *own.lock().unwrap() = Some(serde_json::from_slice(&body).unwrap());
                }
                let metadata = json!({"name": "canary-1", "uid": "uid-1", "labels": {RUN_LABEL: label}});
                let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}).to_string();
                Ok::<_, Infallible>(Response::new(Body::from(body.into_bytes())))
            }
        });
        let namespaces = Api::all(Client::new(service, "default"));
        let deletion = delete_namespace(&namespaces, "canary-1", &RUN.parse().unwrap()).await.unwrap();
        let sent = sent.lock().unwrap().take();
        (deletion, sent)
    }

    #[tokio::test]
    async fn only_the_namespace_that_was_read_is_deleted_and_none_of_another_run() {
        let (deletion, sent) = deleted(RUN).await;
        assert_eq!((deletion, &sent.unwrap()["preconditions"]), (true, &json!({"uid": "uid-1"})));
        assert_eq!(deleted("4567cdef").await, (false, None));
    }
}
