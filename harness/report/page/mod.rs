//! `report.html`: one page without external resources. The templates escape all text from responses and manifests. Only the page of a run has
//! a script, which plays the recording; the content security policy names its digest.

mod comparison;
mod picture;
mod player;
mod plot;

use std::path::Path;
use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::comparison::comparison;
use self::picture::picture;
pub(in crate::report) use self::picture::sign;
use self::player::{player, source};
use self::plot::{decision, timeline};
use super::graph::Graph;
use super::model::{Claim, Edit, Outcome, Path as DecisionPath, Report, Stage};
use super::words::{chance, millis, seconds};
use crate::events::{Transition, Write};

const STYLE: &str = include_str!("style.css");

/// The page as HTML. `folder` is the folder in which the page is stored; links to its other files are relative to it.
pub(super) fn page(report: &Report, folder: Option<&Path>) -> String {
    let name = if report.scenario.name.is_empty() { "shiftcheck" } else { &report.scenario.name };
    let graphs: Vec<Graph> = report.stages.iter().map(|stage| Graph::of(report, stage)).collect();
    let (player, script) = if report.recorded.is_empty() { Default::default() } else { player(&report.recorded) };
    let content = html! {
        a class="skip" href="#stages" { "skip to the stages" }
        header {
            h1 { (mark(Some(report.result))) " " (name) ": " (report.note) }
            (summary(report, folder))
            (first_failure(report))
            @if let Some(failure) = &report.failure {
                div class="panel" role="alert" {
                    strong { (failure.link) }
                    pre { (failure.message) }
                    @if let Some(hint) = &failure.hint { p { (hint) } }
                }
            }
        }
        nav aria-label="stages" { (strip(report)) }
        main id="stages" {
            (player)
            @for (index, current) in report.stages.iter().enumerate() {
                (stage(current, index.checked_sub(1).map(|before| &graphs[before]), &graphs[index]))
            }
            (sources(report))
        }
        footer {
            "shiftcheck " (report.tool.version) ". One sample a stage, no retries. Graph and colours follow Kiali: green good, orange degraded, \
             red failing, grey unused."
        }
    };
    document_with(&format!("{name}: {}", report.result.words()), &content, &script)
}

/// An HTML document that loads nothing and runs no scripts.
pub(super) fn document(title: &str, content: &Markup) -> String {
    document_with(title, content, "")
}

/// An HTML document that loads nothing and runs this script alone, if it is not empty.
fn document_with(title: &str, content: &Markup, script: &str) -> String {
    let own = if script.is_empty() { String::new() } else { format!("; script-src {}", source(script)) };
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'{own}");
    let document = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(policy);
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (content)
                @if !script.is_empty() { script { (PreEscaped(script)) } }
            }
        }
    };
    document.into_string()
}

pub(super) fn mark(result: Option<Outcome>) -> Markup {
    let words = result.map_or("not finished", Outcome::words);
    html! { span class={ "mark " (class(result)) } { (sign(result)) " " (words) } }
}

/// The CSS class of a result: its name in the JSON.
fn class(result: Option<Outcome>) -> String {
    result.unwrap_or(Outcome::Interrupted).words().replace(' ', "-")
}

fn summary(report: &Report, folder: Option<&Path>) -> Markup {
    let environment = &report.environment;
    let versions =
        [("Kubernetes", &environment.kubernetes), ("Istio", &environment.istio), ("Envoy", &environment.envoy)];
    let versions: Vec<String> =
        versions.into_iter().filter_map(|(what, version)| Some(format!("{what} {}", version.as_ref()?))).collect();
    let nodes = environment.nodes.filter(|nodes| *nodes > 1).map(|nodes| format!(" of {nodes} nodes"));
    let (claims, held) = report.claims();
    html! {
        dl {
            @if !report.place.is_empty() { dt { "cluster" } dd { (report.place) (nodes.unwrap_or_default()) } }
            @if !versions.is_empty() { dt { "versions" } dd { (versions.join(", ")) } }
            dt { "claims" } dd { (held) " of " (claims) " claims hold" }
            @if let Some(errors) = &report.errors {
                dt { "error probabilities" }
                dd {
                    "false alarm (type I error) below " (chance(errors.false_alarm)) " in total, missed fault (type II error) below " (chance(errors.worst_miss))
                    " per claim; sampling errors only: if one request in a million is lost, a correct rollout fails with probability "
                    (format!("{:.1} %", errors.refused_by_losses * 100.0))
                }
            }
            dt { "started" } dd { (report.started) ", " (seconds(report.took)) ", run " (report.run) }
            @if let Some(state) = &report.state {
                dt { "cluster state" }
                dd {
                    @match link(Path::new(state), folder) {
                        Some(link) => a href=(link) { code { (state) } },
                        None => code { (state) },
                    }
                }
            }
            dt { "command" } dd { code { (report.reproduce) } }
        }
    }
}

/// The link from a page to a folder beside or above the page.
fn link(target: &Path, page: Option<&Path>) -> Option<String> {
    let folder = page?;
    let below = |folder: &Path| Some(format!("{}/", target.strip_prefix(folder).ok()?.display()));
    below(folder).or_else(|| Some(format!("../{}", below(folder.parent()?)?)))
}

/// The first claim that does not hold, with a link to its stage.
fn first_failure(report: &Report) -> Markup {
    let mut claims = report.stages.iter().flat_map(|stage| stage.claims.iter().map(move |claim| (stage, claim)));
    let first = claims.find(|(_, claim)| claim.result != Outcome::Passed);
    html! {
        @if let Some((stage, claim)) = first {
            div class="panel" role="alert" {
                a href={ "#stage-" (stage.number) } { "stage " (stage.number) " " (stage.name) }
                ": " strong { (claim.subject) ": " (claim.claim) } " — " (claim.reason)
                @for line in claim.explanation() { div { (line) } }
            }
        }
    }
}

fn strip(report: &Report) -> Markup {
    html! {
        ol class="strip" {
            @for stage in &report.stages {
                li {
                    a class=(class(stage.result)) href={ "#stage-" (stage.number) } {
                        (sign(stage.result)) " " (stage.number) " " (stage.name) br;
                        span class="dim" {
                            (seconds(stage.took))
                            @if let Some(converged) = stage.converged { ", converged in " (millis(converged)) }
                        }
                    }
                }
            }
            @for (index, name) in report.scenario.stages.iter().enumerate().skip(report.stages.len()) {
                li { span class="missed" { "□ " (index + 1) " " (name) br; span class="dim" { "not run" } } }
            }
        }
    }
}

fn stage(stage: &Stage, before: Option<&Graph>, graph: &Graph) -> Markup {
    let graphs = !graph.nodes.is_empty();
    html! {
        section id={ "stage-" (stage.number) } {
            details open[!matches!(stage.result, Some(Outcome::Passed | Outcome::NotJudged))] {
                summary { h2 { (stage.number) " " (stage.name) } " " (mark(stage.result)) }
                (claims(&stage.claims))
                @for claim in &stage.claims { (comparison(claim)) }
                @if graphs {
                    h3 { "traffic" }
                    div class="graphs" {
                        @if let Some(before) = before.filter(|before| !before.nodes.is_empty()) {
                            figure {
                                (picture(before, "before"))
                                figcaption { "before: stage " (stage.number - 1) }
                            }
                        }
                        figure {
                            (picture(graph, &format!("stage {}", stage.number)))
                            figcaption { "now: stage " (stage.number) }
                        }
                    }
                }
                @if let Some(traffic) = &stage.traffic {
                    p class="dim" {
                        (traffic.requests) " requests at " (format!("{:.0}", traffic.rate)) "/s, median latency " (millis(traffic.latency.median))
                        (range(traffic.latency.median_interval)) ", p99 " (millis(traffic.latency.p99)) (range(traffic.latency.p99_interval))
                    }
                }
                @if stage.claims.iter().flat_map(|claim| &claim.paths).any(is_drawn) {
                    h3 { "sequential tests of the shares" }
                    div class="graphs" {
                        @for claim in &stage.claims {
                            @for path in claim.paths.iter().filter(|path| is_drawn(path)) {
                                div { strong { (claim.subject) } (decision(path)) }
                            }
                        }
                    }
                }
                @if let Some(observed) = &stage.transition { (transition(observed)) }
                @if let Some(routing) = &stage.routing {
                    details {
                        summary { "routes of the client's sidecar" }
                        pre { @for line in &routing.lines { (line) "\n" } }
                    }
                }
                @if !stage.edits.is_empty() { (edits(&stage.edits)) }
            }
        }
    }
}

/// The interval of a latency; nothing in reports of older versions.
fn range([low, high]: [Duration; 2]) -> String {
    if high.is_zero() { String::new() } else { format!(" ({} to {})", millis(low), millis(high)) }
}

/// Whether a test of a share has a path to draw. An answer that the claim excludes ends a test at once.
fn is_drawn(path: &DecisionPath) -> bool {
    path.points.len() > 1 && path.compared.is_none()
}

fn claims(claims: &[Claim]) -> Markup {
    html! {
        @if !claims.is_empty() {
            div class="scroll" tabindex="0" role="region" aria-label="claims" {
                table class="claims" {
                    thead { tr { th scope="col" { "claim" } th scope="col" { "verdict" } th scope="col" { "reason" } } }
                    tbody {
                        @for claim in claims {
                            tr {
                                td { strong { (claim.subject) } br; (claim.claim) }
                                td { (mark(Some(claim.result))) }
                                td class="reason" {
                                    (claim.reason)
                                    @if let Some(link) = &claim.link { div class="because" { (link) } }
                                    @for hint in &claim.hints { div class="because" { "because " (hint) } }
                                    @if let Some(place) = claim.place.as_ref().filter(|_| claim.result != Outcome::Passed) {
                                        div class="dim" { "claimed in " code { (place) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn transition(transition: &Transition) -> Markup {
    let failed = transition.failed();
    html! {
        h3 { "traffic during the change" }
        p {
            (transition.requests) " requests, "
            @if failed == 0 { "no errors" } @else { strong class="failed" { (failed) " errors" } }
            @for (answer, count) in &transition.errors { ", " (count) " × " (answer) }
            @if let Some(gap) = &transition.gap {
                "; longest time without a correct answer " (millis(gap.lasted)) " (" (gap.from) ", from " (format!("{:.2} s", gap.began.as_secs_f64()))
                ", a request every " (millis(transition.resolution)) ")"
            }
            @if let Some(goaways) = transition.goaways_in_words() { "; " (goaways) }
            @for bound in &transition.bounds {
                "; " (bound.count) " of " (bound.requests) " " (bound.of) ", which excludes a share above " (format!("{:.2} %", (bound.excluded * 1e4).ceil() / 1e2))
            }
            @for shift in &transition.shifts {
                @if let Some(first) = shift.first_new { "; " (shift.from) ": first " (shift.new) " after " (format!("{:.2} s", first.as_secs_f64())) }
                @if let Some(last) = shift.last_old { "; " (shift.from) ": last old answer after " (format!("{:.2} s", last.as_secs_f64())) }
            }
        }
        @if transition.timeline.iter().any(|moment| moment.step > 0) { (timeline(transition)) }
        @if let Some(times) = &transition.step_times { p { "step of the controller: " (times) } }
        @if !transition.writes.is_empty() { (writes(&transition.writes)) }
    }
}

fn writes(writes: &[Write]) -> Markup {
    html! {
        details {
            summary { "writes of the controller: " (writes.len()) }
            div class="scroll" tabindex="0" role="region" aria-label="writes of the controller" {
                table {
                    thead { tr { th scope="col" { "after" } th scope="col" { "object" } th scope="col" { "change" } } }
                    tbody {
                        @for write in writes {
                            tr {
                                td { (format!("{:.3} s", write.at.as_secs_f64())) }
                                td { (write.object) }
                                td { @for change in &write.changes { div { (change) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn edits(edits: &[Edit]) -> Markup {
    let count = |what: &str| edits.iter().filter(|edit| edit.what == what).count();
    let counted: Vec<String> = ["created", "changed", "deleted", "unchanged"]
        .into_iter()
        .filter(|what| count(what) > 0)
        .map(|what| format!("{} {what}", count(what)))
        .collect();
    html! {
        details {
            summary { "changes to objects: " (counted.join(", ")) }
            @for edit in edits {
                details open[edit.what == "changed"] {
                    summary {
                        (edit.object) " " (edit.what)
                        @if let Some(place) = &edit.place { " " code class="dim" { (place) } }
                    }
                    @if !edit.diff.is_empty() {
                        pre class="diff" tabindex="0" {
                            @for line in &edit.diff {
                                span class=[sign_of(line)] { (line) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn sign_of(line: &str) -> Option<&'static str> {
    match line.as_bytes().first() {
        Some(b'+') => Some("plus"),
        Some(b'-') => Some("minus"),
        _ => None,
    }
}

fn sources(report: &Report) -> Markup {
    html! {
        @if !report.scenario.files.is_empty() || !report.environment.images.is_empty() {
            section {
                details {
                    summary { h2 { "files and images" } }
                    div class="scroll" tabindex="0" role="region" aria-label="files and images" {
                        table {
                            thead { tr { th scope="col" { "file or image" } th scope="col" { "digest" } } }
                            tbody {
                                @for file in &report.scenario.files {
                                    tr { td { (file.path) } td { code { (file.sha256) } } }
                                }
                                @for (image, digest) in &report.environment.images {
                                    tr { td { (image) } td { code { (digest) } } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
