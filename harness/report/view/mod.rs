//! The view of a run that goes on: its state by the events so far, what draws it in a browser, and its recording. The live page shows it while the
//! run goes on, the report plays it again.

mod recording;
mod state;
mod window;

pub(in crate::report) use recording::Recording;
pub(in crate::report) use state::State;

/// The elements of the view.
pub(in crate::report) const MARKUP: &str = include_str!("view.html");
/// The style of the view, beside that of the report.
pub(in crate::report) const STYLE: &str = include_str!("view.css");
/// Draws the view in a browser: `take` takes a change of the state.
pub(in crate::report) const SCRIPT: &str = include_str!("view.js");
