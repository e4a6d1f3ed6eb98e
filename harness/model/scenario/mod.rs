//! Scenarios: the file that a user writes, and its manifests.
//!
//! A scenario names a service, the populations that call it, and the stages of its rollout. [`Scenario::read`] parses the file, resolves the names
//! in it and reads the manifests. Every error is reported with file, line and column.

mod addon;
mod calls;
mod canary;
mod certificate;
mod control_plane;
mod controller;
mod descriptors;
mod document;
mod duration;
mod error;
mod error_rates;
mod excerpt;
mod expectation;
mod growth;
mod istio_version;
mod kinds;
mod manifest;
mod model;
mod origin;
mod parse;
mod population;
mod positions;
mod replicas;
mod resolve;
mod scalar;
mod scheme;
mod sensitive;
mod service_level;
mod sessions;
mod share;
mod status;
mod suggest;
mod unstructured;

pub use addon::{Addon, WantedAddon};
pub use canary::{Canary, Webhook};
pub(crate) use certificate::{authorities, certificates};
pub use control_plane::{ControlPlane, MeshStep};
pub use controller::{
    Action, Component, Controlled, ControllerKind, ControllerWait, FollowedWeight, Gate, Install, Phase, Weights,
};
pub use descriptors::{Call, Calls, Descriptors, Messages, VersionField, VersionValue};
pub use error::ScenarioError;
pub use error_rates::{Confidence, ErrorProbability, ErrorRates};
pub use expectation::{Claim, Count, DeclaredClaim, During, Expectation, Statuses};
pub use growth::Growth;
pub use istio_version::{InvalidVersion, IstioVersion};
pub use kinds::{ApiKind, KindRef, ObjectId, Scope, Target, UnresolvedKind};
pub use manifest::{Manifest, parse as parse_manifests, read as read_manifests};
pub use model::{
    Client, DRIVER, Nodes, OtherClient, Outside, Scenario, Sends, Served, Service, Stage, Step, Traffic, VersionRule,
};
pub use origin::{InvalidOrigin, Origin};
pub use population::{CallerTls, GatewayApi, IngressGateway, Population, Request, Sender};
pub(crate) use positions::{escaped, field};
pub use scheme::Scheme;
pub use sensitive::{Redactor, Sensitive};
pub use service_level::{Comparison, Factor, Limits, Objective, ServiceLevel};
pub use sessions::{KeptVersion, SessionClaim, SessionKey, Sessions, Stay};
pub use share::{InvalidShare, Share};
pub use status::{GRPC_STATUSES, StatusCode};
pub(crate) use suggest::nearest;
pub use unstructured::{Metadata, Unstructured};
