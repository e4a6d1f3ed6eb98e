use std::fmt;

/// A way from one version to the other that is to be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Mode {
    /// The whole scenario on each version alone.
    Fresh,
    /// The new control plane over the old one, in the middle of the scenario; the sidecars restart afterwards.
    InPlace,
    /// The new control plane beside the old one, as a revision; the namespace moves to it, then the old one is removed.
    Revision,
    /// The old control plane over the new one, in the middle of the scenario; the sidecars restart afterwards.
    RollBack,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fresh, Self::InPlace, Self::Revision, Self::RollBack];

    /// The walks that it takes.
    #[must_use]
    pub const fn courses(self) -> &'static [Course] {
        match self {
            Self::Fresh => &[Course::FreshOnOld, Course::FreshOnNew],
            Self::InPlace => &[Course::InPlace],
            Self::Revision => &[Course::Revision],
            Self::RollBack => &[Course::RollBack],
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fresh => "fresh",
            Self::InPlace => "in-place",
            Self::Revision => "revision",
            Self::RollBack => "roll-back",
        })
    }
}

/// A walk of the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Course {
    /// On the old version alone.
    FreshOnOld,
    /// On the new version alone.
    FreshOnNew,
    /// From the old version to the new one, in place.
    InPlace,
    /// From the old version to the new one, by revision.
    Revision,
    /// From the new version back to the old one, in place.
    RollBack,
}

impl Course {
    /// Whether the mesh is changed on its way.
    #[must_use]
    pub const fn is_across(self) -> bool {
        !matches!(self, Self::FreshOnOld | Self::FreshOnNew)
    }

    /// Its name in a table, with the versions where they tell it from another.
    #[must_use]
    pub fn heading(self, from: &str, to: &str) -> String {
        match self {
            Self::FreshOnOld => format!("fresh {from}"),
            Self::FreshOnNew if from == to => format!("fresh {to} again"),
            Self::FreshOnNew => format!("fresh {to}"),
            Self::InPlace => "in place".to_owned(),
            Self::Revision => "by revision".to_owned(),
            Self::RollBack => "roll back".to_owned(),
        }
    }

    /// Its name in a path.
    #[must_use]
    pub fn folder(self, from: &str, to: &str) -> String {
        self.heading(from, to).replace(' ', "-")
    }
}

/// Where a walk stands within a stage: at the stage itself, or at a change of the mesh that is made there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The stage itself.
    Itself,
    /// Another control plane is there; the sidecars are still those of the one before.
    ControlPlane,
    /// The sidecars are those of the other control plane.
    Sidecars,
    /// The control plane before is removed.
    Removed,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Itself => "",
            Self::ControlPlane => "other control plane",
            Self::Sidecars => "other sidecars",
            Self::Removed => "control plane before removed",
        })
    }
}

/// A row of the table of all walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The scenario's stage, from 1.
    pub stage: usize,
    /// Where within.
    pub phase: Phase,
}
