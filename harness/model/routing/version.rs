/// A minor version of Istio, where routing depends on it.
///
/// The oracle compares the model with istiod 1.22 and 1.31. Changes whose version no release note tells are taken to have come with 1.23.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoutingVersion {
    minor: u32,
}

impl RoutingVersion {
    /// The newest version that the model knows.
    pub const NEWEST: Self = Self { minor: 31 };

    /// The version in a text such as `1.22` or `1.31.0-dev`; none if the text is no version of Istio 1.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let minor = text.strip_prefix("1.")?.split(['.', '-']).next()?;
        Some(Self { minor: minor.parse().ok()? })
    }

    /// Whether `DestinationRule`s of one host are merged only if the younger one is exported to the same namespaces or to more.
    pub(super) const fn merges_by_export(self) -> bool {
        self.minor >= 24
    }

    /// Whether the version is later than 1.22.
    pub(super) const fn is_after_1_22(self) -> bool {
        self.minor > 22
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_by_their_minor_number() {
        assert_eq!(RoutingVersion::parse("1.31.0-dev.55"), Some(RoutingVersion::NEWEST));
        assert!(RoutingVersion::parse("1.22").unwrap() < RoutingVersion::NEWEST);
        assert_eq!(RoutingVersion::parse("2.0"), None);
    }
}
