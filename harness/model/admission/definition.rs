use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::schema::{KUBERNETES, Schema};
use crate::scenario::IstioVersion;

/// Definitions, as `ci/schemas` writes them: one entry a line, for a kind (`group/Kind`) or a schema that several kinds share.
const GATEWAY_API: &str = include_str!("definitions/gateway-api.json");
const ISTIO_1_22: &str = include_str!("definitions/istio-1.22.json");
const ISTIO_1_31: &str = include_str!("definitions/istio-1.31.json");

/// The definitions that a cluster has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Definitions {
    /// Those of Istio up to 1.22.
    Istio1_22,
    /// Those of the newest Istio, which count from 1.23 on.
    #[default]
    Newest,
}

/// The definition of a kind in some of its versions.
#[derive(Debug, Deserialize)]
pub(super) struct Definition {
    /// The versions of the API group that have this schema.
    pub versions: Vec<String>,
    pub schema: Schema,
}

/// A kind of an API group, whose definitions are parsed when they are needed.
#[derive(Debug)]
pub(super) struct Kind {
    pub group: &'static str,
    pub name: &'static str,
    text: &'static str,
    parsed: OnceLock<Vec<Definition>>,
}

static NEWEST: LazyLock<Vec<Kind>> = LazyLock::new(|| kinds(ISTIO_1_31));
static WITH_1_22: LazyLock<Vec<Kind>> = LazyLock::new(|| kinds(ISTIO_1_22));

fn kinds(istio: &'static str) -> Vec<Kind> {
    let entries = [GATEWAY_API, istio, KUBERNETES]
        .into_iter()
        .flat_map(|file| serde_json::from_str::<BTreeMap<&'static str, &'static RawValue>>(file).unwrap_or_default());
    let kind = |(name, raw): (&'static str, &'static RawValue)| {
        let (group, name) = name.split_once('/')?;
        Some(Kind { group, name, text: raw.get(), parsed: OnceLock::new() })
    };
    entries.filter_map(kind).collect()
}

impl Definitions {
    /// The definitions of a version of Istio; the newest if it is not known.
    pub fn of(istio: Option<&IstioVersion>) -> Self {
        match istio {
            Some(version) if *version < IstioVersion::new(1, 23) => Self::Istio1_22,
            _ => Self::Newest,
        }
    }

    /// All known kinds.
    pub(super) fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Istio1_22 => &WITH_1_22,
            Self::Newest => &NEWEST,
        }
    }

    /// The known kind with a group and a name.
    pub(super) fn find(self, group: &str, name: &str) -> Option<&'static Kind> {
        self.kinds().iter().find(|kind| kind.name == name && kind.group == group)
    }
}

impl Kind {
    /// The definitions of the kind.
    pub fn definitions(&self) -> &[Definition] {
        self.parsed.get_or_init(|| serde_json::from_str(self.text).unwrap_or_default())
    }

    /// The schema of a version.
    pub fn schema(&self, version: &str) -> Option<&Schema> {
        let has_version = |definition: &&Definition| definition.versions.iter().any(|own| own == version);
        self.definitions().iter().find(has_version).map(|definition| &definition.schema)
    }

    /// The versions of the API group that have the kind.
    pub fn versions(&self) -> impl Iterator<Item = &str> {
        self.definitions().iter().flat_map(|definition| &definition.versions).map(String::as_str)
    }

    /// Whether the API fills in a field of the kind.
    pub fn has_defaults(&self) -> bool {
        self.text.contains("\"default\":")
    }
}
