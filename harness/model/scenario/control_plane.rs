use std::fmt;

use super::istio_version::IstioVersion;

/// An Istio control plane to install.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControlPlane {
    /// The version as requested: `1.31`.
    pub version: IstioVersion,
    /// The revision; empty for the default revision.
    pub revision: String,
    /// Additional settings, in the syntax of `istioctl --set`.
    pub set: Vec<String>,
}

impl ControlPlane {
    /// The default revision of a version.
    pub const fn of(version: IstioVersion) -> Self {
        Self { version, revision: String::new(), set: Vec::new() }
    }

    /// The same control plane as a separate revision, named after the version: `1-31`.
    #[must_use]
    pub fn beside(mut self) -> Self {
        self.revision = self.version.to_string().replace('.', "-");
        self
    }
}

impl fmt::Display for ControlPlane {
    /// `1.31`, `1.31 with compatibilityVersion=1.30`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(formatter)?;
        if self.set.is_empty() { Ok(()) } else { write!(formatter, " with {}", self.set.join(", ")) }
    }
}

/// A change of the mesh between the stages of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshStep {
    /// Install a control plane. It replaces the one with the same revision.
    Install(ControlPlane),
    /// Inject the sidecars of this control plane into new pods.
    Inject(ControlPlane),
    /// Restart all pods, the client last, so that they get the sidecars of the current control plane.
    Restart,
    /// Remove a control plane.
    Remove(ControlPlane),
}

impl fmt::Display for MeshStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Install(plane) if plane.revision.is_empty() => write!(formatter, "install Istio {plane}"),
            Self::Install(plane) => write!(formatter, "install Istio {plane} as the revision {}", plane.revision),
            Self::Inject(plane) => write!(formatter, "inject the sidecars of Istio {plane}"),
            Self::Restart => formatter.write_str("restart all pods"),
            Self::Remove(plane) => write!(formatter, "remove Istio {plane}"),
        }
    }
}
