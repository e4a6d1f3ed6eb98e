use std::fmt;

/// A control plane of Istio that is to be installed: which one, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControlPlane {
    /// The version, as users ask for it: `1.31`.
    pub version: String,
    /// The revision beside which others may run; empty for the default one.
    pub revision: String,
    /// Settings beside those of its version, as `istioctl --set` takes them.
    pub set: Vec<String>,
}

impl ControlPlane {
    /// The default revision of a version.
    #[must_use]
    pub fn of(version: &str) -> Self {
        Self { version: version.to_owned(), ..Self::default() }
    }

    /// The same as a revision of its own, named after the version: `1-31`.
    #[must_use]
    pub fn beside(mut self) -> Self {
        self.revision = self.version.replace('.', "-");
        self
    }
}

impl fmt::Display for ControlPlane {
    /// `1.31`, `1.31 with compatibilityVersion=1.30`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.version)?;
        if self.set.is_empty() { Ok(()) } else { write!(formatter, " with {}", self.set.join(", ")) }
    }
}

/// Something that is done to the mesh itself while a scenario stands at one of its stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MeshStep {
    /// A control plane is installed: over the one of its revision, or beside the others.
    Install(ControlPlane),
    /// New pods get their sidecars from this control plane from now on.
    Inject(ControlPlane),
    /// All pods start anew, so that they get the sidecars of the control plane that injects now; the client last.
    Restart,
    /// A control plane is removed.
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
