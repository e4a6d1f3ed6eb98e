use std::fmt;

use clap::ValueEnum;

use crate::scenario::{ControllerKind, IstioVersion};

/// The two versions that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions<'a> {
    /// The controller whose versions they are; none if they are those of Istio.
    pub controller: Option<ControllerKind>,
    /// The version before the upgrade.
    pub from: &'a IstioVersion,
    /// The version after the upgrade.
    pub to: &'a IstioVersion,
}

/// A way to upgrade that is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Mode {
    /// Runs the whole scenario on each version alone.
    Fresh,
    /// Replaces the old control plane in the middle of the scenario, then restarts the sidecars.
    InPlace,
    /// Installs the new control plane as a second revision, moves the namespace to it, then removes the old one.
    Revision,
    /// Replaces the new control plane with the old one in the middle of the scenario, then restarts the sidecars.
    RollBack,
}

impl Mode {
    /// The runs that the mode needs.
    pub const fn paths(self) -> &'static [UpgradePath] {
        match self {
            Self::Fresh => &[UpgradePath::FreshOnOld, UpgradePath::FreshOnNew],
            Self::InPlace => &[UpgradePath::InPlace],
            Self::Revision => &[UpgradePath::Revision],
            Self::RollBack => &[UpgradePath::RollBack],
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the name of the argument
        self.to_possible_value().map_or(Ok(()), |value| formatter.write_str(value.get_name()))
    }
}

/// The Istio versions that one run of the scenario uses, and how it gets from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpgradePath {
    /// The old version alone.
    FreshOnOld,
    /// The new version alone.
    FreshOnNew,
    /// From the old version to the new one, in place.
    InPlace,
    /// From the old version to the new one, by revision.
    Revision,
    /// From the new version back to the old one, in place.
    RollBack,
}

impl UpgradePath {
    /// Whether the mesh is upgraded or rolled back during the run.
    pub const fn changes_mesh(self) -> bool {
        !matches!(self, Self::FreshOnOld | Self::FreshOnNew)
    }

    /// The column heading, such as `fresh 1.31` or `in place`.
    pub fn heading(self, Versions { from, to, .. }: Versions<'_>) -> String {
        match self {
            Self::FreshOnOld => format!("fresh {from}"),
            Self::FreshOnNew if from == to => format!("fresh {to} again"),
            Self::FreshOnNew => format!("fresh {to}"),
            Self::InPlace => "in place".to_owned(),
            Self::Revision => "by revision".to_owned(),
            Self::RollBack => "roll back".to_owned(),
        }
    }

    /// The name of the folder with the reports of the run, such as `in-place`.
    pub fn folder(self, versions: Versions<'_>) -> String {
        self.heading(versions).replace(' ', "-")
    }
}

/// The part of a stage: the stage itself, or a change of the mesh at that stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The stage itself.
    Itself,
    /// The other control plane runs; the sidecars still have the previous version.
    ControlPlane,
    /// The sidecars are restarted with the version of the new control plane.
    Sidecars,
    /// The previous control plane is removed.
    Removed,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Itself => "",
            Self::ControlPlane => "control plane changed",
            Self::Sidecars => "sidecars restarted",
            Self::Removed => "previous control plane removed",
        })
    }
}

/// A row of the table of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The stage of the scenario, from 1.
    pub stage: usize,
    /// The part of the stage.
    pub phase: Phase,
}
