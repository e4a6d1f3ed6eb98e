use displaydoc::Display;
use schemars::JsonSchema;

use super::origin::Origin;

/// A tool to look at the mesh whose manifests come with every release of Istio. No claim depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum Addon {
    /// Kiali
    Kiali,
    /// Prometheus
    Prometheus,
}

/// An addon that a scenario names. It is installed on a throwaway cluster; an existing cluster may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedAddon {
    /// The addon.
    pub addon: Addon,
    /// The position of the name.
    pub origin: Origin,
}

impl Addon {
    /// All addons.
    pub const ALL: [Self; 2] = [Self::Kiali, Self::Prometheus];

    /// The name of the addon in a scenario, of its manifest file in a release of Istio without `.yaml`, and of its Service.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Kiali => "kiali",
            Self::Prometheus => "prometheus",
        }
    }

    /// The port of its Service.
    pub const fn port(self) -> u16 {
        match self {
            Self::Kiali => 20001,
            Self::Prometheus => 9090,
        }
    }

    /// The path of its first page; empty for `/`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Kiali => "/kiali",
            Self::Prometheus => "",
        }
    }
}
