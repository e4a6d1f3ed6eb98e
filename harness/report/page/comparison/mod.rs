//! The plots of a comparison of two versions: what was seen of both, and the path of the test.

mod errors;
mod evidence;
mod latency;
mod scale;
#[cfg(test)]
mod tests;

use maud::{Markup, html};

use self::errors::errors;
use self::evidence::evidence;
use self::latency::latency;
use crate::report::model::Claim;

/// The plots of a claim that compares two versions: both versions and the path of the test, for each part of the claim. Nothing for other claims.
pub(super) fn comparison(claim: &Claim) -> Markup {
    let parts = claim.paths.iter().filter_map(|path| Some((path, path.compared.as_ref()?)));
    html! {
        @for (path, seen) in parts {
            @let [canary, baseline] = &seen.versions;
            h3 {
                (claim.subject) ": " (path.of) @if seen.share.is_some() { " of " (baseline.version) "'s" } ", " (canary.version) " against "
                (baseline.version)
            }
            div class="graphs" {
                @match seen.share {
                    Some(share) => (latency(seen, share)),
                    None => (errors(seen)),
                }
                (evidence(path, seen))
            }
        }
    }
}
