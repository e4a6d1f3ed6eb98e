use std::collections::BTreeMap;

use maud::{Markup, html};

use super::model::{Cell, Change, Difference, UpgradeReport};
use crate::report::page::{document, mark};

/// `upgrade.html`: one page without scripts and without external resources.
pub(super) fn page(report: &UpgradeReport) -> String {
    let title = format!("{}: {} {} → {}", report.scenario, report.software, report.from, report.to);
    let content = html! {
        a class="skip" href="#matrix" { "skip to the table" }
        header {
            h1 { (mark(Some(report.result))) " " (title) }
            p { strong { (report.sentence) } }
            dl {
                dt { "upgraded at" } dd { (report.at) }
                dt { "started" } dd { (report.started) ", " (format!("{:.0} s", report.took)) }
                dt { "command" } dd { code { (report.reproduce) } }
                @for left in &report.left_out {
                    dt { "skipped" } dd { (left.mode) ": Istio does not support " (left.because) }
                }
            }
        }
        main id="matrix" {
            section {
                h2 { "Claims that hold" }
                div class="scroll" { (table(report)) }
            }
            (failures(report))
            (changes(report))
            (differences(report))
        }
        footer {
            "shiftcheck " (report.tool.version) ". A known change is in the list of changes that comes with shiftcheck. Every other difference \
             that clients or operators can observe is new."
        }
    };
    document(&title, &content)
}

fn table(report: &UpgradeReport) -> Markup {
    html! {
        table {
            thead {
                tr {
                    th scope="col" { "stage" }
                    @for walk in &report.walks {
                        th scope="col" { a href={ (walk.folder) "/report.html" } { (walk.name) } }
                    }
                }
            }
            tbody {
                @for (index, row) in report.rows.iter().enumerate() {
                    tr {
                        th scope="row" {
                            @if row.is_change { "· " (row.name) } @else { (row.stage) " " (row.name) }
                        }
                        @for walk in &report.walks { td { (cell(walk.cells[index].as_ref())) } }
                    }
                }
            }
        }
    }
}

fn cell(cell: Option<&Cell>) -> Markup {
    html! {
        @match cell {
            None => span class="dim" { "–" },
            Some(cell) if cell.held == cell.of => span class="passed" { "✓ " (cell.held) " of " (cell.of) },
            Some(cell) => span class="failed" { "✗ " (cell.held) " of " (cell.of) },
        }
    }
}

fn failures(report: &UpgradeReport) -> Markup {
    let broke = report.walks.iter().filter_map(|walk| Some((walk, walk.broke.as_ref()?))).collect::<Vec<_>>();
    if broke.is_empty() && report.cells().all(|(_, _, cell)| cell.failed.is_empty()) {
        return html! {};
    }
    html! {
        section {
            h2 { "Failures" }
            ul {
                @for (walk, row, cell) in report.cells() {
                    @for text in &cell.failed { li { strong { (walk.name) ", " (row.name) } ": " (text) } }
                }
                @for (walk, broke) in broke { li { strong { (walk.name) } " ended early: " (broke) } }
            }
            @for cleared in &report.causes {
                div class="panel" role="alert" {
                    strong { "cause of the failure at " (cleared.stage) }
                    p { (cleared.cause) }
                    @for suspect in &cleared.suspects { p { (suspect) } }
                }
            }
        }
    }
}

fn changes(report: &UpgradeReport) -> Markup {
    if report.changes().next().is_none() {
        return html! {};
    }
    html! {
        section {
            h2 { "Traffic during the changes of the mesh" }
            div class="scroll" {
                table {
                    thead {
                        tr {
                            th scope="col" { "change" } th scope="col" { "requests" } th scope="col" { "per second" } th scope="col" { "errors" }
                            th scope="col" { "longest gap" } th scope="col" { "answers" }
                        }
                    }
                    tbody {
                        @for (walk, row, change) in report.changes() {
                            tr {
                                th scope="row" { (walk.name) ", " (row.name) }
                                td { (change.requests) }
                                td { (format!("{:.0}", change.rate)) }
                                td { (errors(change)) }
                                td { (format!("{:.0} ms", change.gap * 1e3)) }
                                td { @for (from, answers) in &change.answers { (from) ": " (listed(answers)) br; } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn errors(change: &Change) -> Markup {
    html! {
        @if change.errors.is_empty() { span class="passed" { "none" } }
        @else { span class="failed" { (listed(&change.errors)) } }
    }
}

fn listed(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(answer, count)| format!("{count} {answer}")).collect::<Vec<_>>().join(", ")
}

fn differences(report: &UpgradeReport) -> Markup {
    let behaviour: Vec<&Difference> = report.differences.iter().filter(|difference| difference.behaviour).collect();
    let hidden: Vec<&Difference> = report.differences.iter().filter(|difference| !difference.behaviour).collect();
    html! {
        section {
            h2 { "Differences" }
            @if behaviour.is_empty() { p { "No difference that clients or operators can observe." } } @else { (listing(&behaviour)) }
            @if !hidden.is_empty() {
                details {
                    summary { (hidden.len()) " values in the configuration of the client's sidecar" }
                    (listing(&hidden))
                }
            }
        }
    }
}

fn listing(all: &[&Difference]) -> Markup {
    html! {
        div class="scroll" {
            table {
                thead {
                    tr {
                        th scope="col" { "where" } th scope="col" { "what" } th scope="col" { "before" } th scope="col" { "after" }
                        th scope="col" { "why" }
                    }
                }
                tbody {
                    @for difference in all {
                        tr {
                            td { (difference.stage) @if let Some(walk) = &difference.walk { " (" (walk) ")" } }
                            td { (difference.what) }
                            td { (difference.before) }
                            td { (difference.after) }
                            td {
                                @match &difference.known {
                                    Some(known) => { "known since " (known.since) ": " (known.what) },
                                    None if difference.behaviour => span class="failed" { "new" },
                                    None => span class="dim" { "no effect on behaviour" },
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
