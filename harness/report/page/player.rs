//! Plays the recording of a run: the view of the live page, with a slider over the time of the run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::report::view;

const CONTROLS: &str = include_str!("player.html");
const STYLE: &str = include_str!("player.css");
const SCRIPT: &str = include_str!("player.js");

/// The player, folded, and its script, which no text of the run is a part of.
pub(super) fn player(recorded: &str) -> (Markup, String) {
    // no text in the recording ends its element
    let recorded = recorded.replace('<', "\\u003c");
    let markup = html! {
        section id="play" aria-label="recording" {
            details {
                summary { h2 { "play the run again" } }
                div id="player" {
                    template shadowrootmode="open" {
                        style { (PreEscaped(super::STYLE)) (PreEscaped(view::STYLE)) (PreEscaped(STYLE)) }
                        (PreEscaped(CONTROLS))
                        (PreEscaped(view::MARKUP))
                    }
                }
                script type="application/json" id="recorded" { (PreEscaped(recorded)) }
            }
        }
    };
    (markup, format!("{}{SCRIPT}", view::SCRIPT))
}

/// The source of a script for the content security policy.
pub(super) fn source(script: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script)))
}
