use crate::scenario::IstioVersion;

/// A minor version of Istio, where routing depends on it.
///
/// The oracle compares the model with istiod 1.22 and 1.31. Changes whose version no release note tells are taken to have come with 1.23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RoutingVersion {
    minor: u32,
}

impl RoutingVersion {
    /// The newest version that the model knows.
    pub const NEWEST: Self = Self { minor: 31 };

    /// Whether `DestinationRule`s of one host are merged only if the younger one is exported to the same namespaces or to more.
    pub(super) const fn merges_by_export(self) -> bool {
        self.minor >= 24
    }

    /// Whether a request is sent again by default after a response with the status 503.
    pub(super) const fn retries_unavailable(self) -> bool {
        self.minor < 24
    }

    /// The order of objects of one second: by name, then by namespace. Up to 1.22, by the text `name.namespace`, so that `a-b` comes before `a`.
    pub fn order(self, name: &str, namespace: &str) -> (String, String) {
        if self.is_after_1_22() {
            (name.to_owned(), namespace.to_owned())
        } else {
            (format!("{name}.{namespace}"), String::new())
        }
    }

    /// Whether the version is later than 1.22.
    pub(super) const fn is_after_1_22(self) -> bool {
        self.minor > 22
    }
}

impl From<&IstioVersion> for RoutingVersion {
    fn from(version: &IstioVersion) -> Self {
        Self { minor: version.minor }
    }
}
