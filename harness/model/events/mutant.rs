use crate::verify::MutantStatus;

/// A mutant that was tried on a real mesh.
#[derive(Debug, Clone)]
pub struct TrialledMutant {
    /// The mutation operator.
    pub operator: &'static str,
    /// The change, with its position in a file.
    pub what: String,
    /// The status by the routing model.
    pub status: MutantStatus,
    /// The stage that was applied to the mesh, from 1.
    pub stage: usize,
    /// Whether a claim failed there.
    pub failed: bool,
}

impl TrialledMutant {
    /// Whether the mesh agrees with the model.
    pub const fn agrees(&self) -> bool {
        matches!(self.status, MutantStatus::Killed(_)) == self.failed
    }
}
