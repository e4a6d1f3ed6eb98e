//! Kubernetes clusters: throwaway k3s containers and existing clusters. Applies and deletes objects, waits for rollouts, and runs programs in
//! pods. Every object of a run has a label with its id, so that a sweep can remove it.

mod answer;
mod discovery;
mod embedded;
mod error;
mod exec;
mod images;
mod k3s;
mod kubeconfig;
mod namespace;
mod objects;
mod owner;
mod pod;
mod pull;
mod reach;
mod rollout;
mod run;
mod run_id;
mod sweep;
mod tunnel;
pub mod wait;
mod workload_image;

pub(crate) use answer::answered;
pub(crate) use discovery::discover;
pub use embedded::EmbeddedMesh;
pub use error::ClusterError;
pub(crate) use error::is_about_object;
pub use exec::Session;
pub use images::{ImageCache, IstioSet, NodeImage, default_cache};
pub use k3s::{Docker, K3sCluster, K3sOptions, RunContainer};
pub use kubeconfig::KubeCluster;
pub use objects::{Applied, Deleted, Objects, RUN_LABEL};
pub use owner::Owner;
pub use pod::PodState;
pub(crate) use pod::{is_staying, pod_state};
pub use rollout::Workloads;
pub use run::{Keep, KnownRuns, KubeNamespace, RunRecord, RunRecords};
pub use run_id::{RunId, RunIdError};
pub use sweep::{LeftAlone, Swept, Wanted, sweep};
pub use tunnel::{Tunnel, TunnelError};
pub use workload_image::{ImageError, print_files, write_archive};
