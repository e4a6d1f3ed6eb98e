use crate::verify::Fate;

/// A mutant that was tried on a real mesh.
#[derive(Debug, Clone)]
pub struct TrialledMutant {
    /// The mutation operator.
    pub slip: &'static str,
    /// The change and its place.
    pub what: String,
    /// The fate that the model computes.
    pub fate: Fate,
    /// The stage that was applied to the mesh, from 1.
    pub stage: usize,
    /// Whether a claim failed there.
    pub failed: bool,
}

impl TrialledMutant {
    /// Whether the mesh agrees with the model.
    #[must_use]
    pub const fn agrees(&self) -> bool {
        matches!(self.fate, Fate::Caught(_)) == self.failed
    }
}
