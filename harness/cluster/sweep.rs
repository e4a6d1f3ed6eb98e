use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::DeleteParams;

use super::existing::kubeconfig_client;
use super::k3s::Docker;
use super::run::{Owner, RunId, RunRecords};
use super::{ClusterError, RUN_LABEL};

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Containers, by run.
    pub clusters: Vec<RunId>,
    /// Namespaces on existing clusters, by name.
    pub namespaces: Vec<String>,
    /// What could not be removed, and why.
    pub failures: Vec<String>,
}

/// Removes what runs have left that are no longer at work: clusters with their volumes, and namespaces.
///
/// What was kept on purpose goes only with `kept`, and only one run's things with `only`. A run that is at work is never
/// touched.
///
/// # Errors
/// The engine does not list its containers. Where none answers, only namespaces are looked at.
pub async fn sweep(
    docker: Option<&Docker>,
    records: &RunRecords,
    kept: bool,
    only: Option<&RunId>,
) -> Result<Swept, ClusterError> {
    let mut swept = Swept::default();
    let known = records.all();
    let wanted = |id: &RunId, owner: Option<&Owner>| {
        let was_kept = known.iter().any(|record| record.id == *id && record.kept);
        only.is_none_or(|only| only == id)
            && owner.is_none_or(|owner| !owner.is_alive())
            && (kept || only.is_some() || !was_kept)
    };
    if let Some(docker) = docker {
        for container in docker.run_containers().await? {
            if wanted(&container.run, container.owner.as_ref()) {
                match docker.remove(&container.id).await {
                    Ok(()) => swept.clusters.push(container.run),
                    Err(error) => swept.failures.push(error.to_string()),
                }
            }
        }
    }
    for record in known.iter().filter(|record| wanted(&record.id, Some(&record.owner))) {
        if let Some(namespace) = &record.namespace {
            let removed = async {
                let client = kubeconfig_client(namespace.kubeconfig.as_deref(), namespace.context.as_deref()).await?;
                delete_namespace(&Api::all(client), &namespace.name, &record.id).await
            };
            match removed.await {
                Ok(true) => swept.namespaces.push(namespace.name.clone()),
                Ok(false) => {}
                Err(error) => {
                    // the record stays: the next sweep tries again
                    swept.failures.push(format!("namespace {}: {error}", namespace.name));
                    continue;
                }
            }
        }
        records.remove(&record.id)?;
    }
    Ok(swept)
}

/// Deletes a namespace that carries the run's label; whether there was one.
pub(super) async fn delete_namespace(
    namespaces: &Api<Namespace>,
    name: &str,
    run: &RunId,
) -> Result<bool, ClusterError> {
    let doing = || format!("deleting the namespace `{name}`");
    let Some(found) = namespaces.get_opt(name).await.map_err(ClusterError::api(doing()))? else { return Ok(false) };
    if found.metadata.labels.and_then(|labels| labels.get(RUN_LABEL).cloned()).as_deref() != Some(run.as_str()) {
        return Ok(false);
    }
    namespaces.delete(name, &DeleteParams::default()).await.map_err(ClusterError::api(doing()))?;
    Ok(true)
}
