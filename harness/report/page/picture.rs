use maud::{Markup, html};

use crate::report::graph::{Graph, Health, Node, NodeKind, Part};
use crate::report::model::Outcome;

/// The height of the row of workloads without the lines below.
const ROW: usize = 246;
const COLUMN: usize = 164;
const NARROWEST: usize = 340;

/// The traffic graph of a stage as SVG: the client, the service below, and the workloads that answered at the bottom.
pub(super) fn picture(graph: &Graph, title: &str) -> Markup {
    let columns = graph.nodes.len().max(1);
    let width = NARROWEST.max(columns * COLUMN + 12);
    let middle = width / 2;
    let longest = graph.nodes.iter().map(|node| node.parts.len()).max().unwrap_or(0);
    let height = ROW + 68 + 15 * longest.max(1);
    let asked = graph.all.requests;
    let health = graph.all.health();
    html! {
        svg viewBox=(format!("0 0 {width} {height}")) role="img" aria-label=(described(graph, title)) {
            line class={ "edge " (health.word()) } x1=(middle) y1="58" x2=(middle) y2="116"
                stroke-width=(if asked > 0 { "4" } else { "1.5" }) {}
            @for (index, node) in graph.nodes.iter().enumerate() {
                (edge(node, middle, place(index, columns, width), asked))
            }
            circle class={ "node " (health.word()) } cx=(middle) cy="34" r="22" {}
            text x=(middle) y="38" text-anchor="middle" { "client" }
            text x=(middle + 30) y="32" { (graph.client) }
            @for (index, line) in populations(graph).into_iter().enumerate() {
                text class="dim small" x=(middle + 30) y=(46 + 13 * index) { (line) }
            }
            text class="dim" x=(middle + 10) y="90" { (count(asked)) }
            @if graph.all.errors() > 0 {
                text class={ "small " (health.word()) } x=(middle + 10) y="104" {
                    (percent(graph.all.errors(), asked)) " errors"
                }
            }
            path class={ "node " (health.word()) }
                d=(format!("M {middle} 114 L {} 140 L {middle} 166 L {} 140 Z", middle + 26, middle - 26)) {}
            text class="small" x=(middle) y="144" text-anchor="middle" { "svc" }
            text x=(middle - 34) y="144" text-anchor="end" { (graph.service) }
            @for (index, badge) in badges(graph).into_iter().enumerate() {
                g {
                    title { (badge.1) }
                    rect class="badge" x=(middle + 32) y=(114 + 19 * index) width="126" height="16" rx="8" {}
                    text class="small" x=(middle + 40) y=(126 + 19 * index) { (badge.0) }
                }
            }
            @for (index, node) in graph.nodes.iter().enumerate() {
                (self::node(node, place(index, columns, width)))
            }
        }
    }
}

fn place(index: usize, columns: usize, width: usize) -> usize {
    width * (2 * index + 1) / (2 * columns)
}

fn edge(node: &Node, from: usize, to: usize, asked: u64) -> Markup {
    let health = node.flow.health();
    let share = crate::report::graph::share(node.flow.requests, asked);
    let stroke = if node.flow.requests == 0 { 1.5 } else { 1.5 + 6.5 * share };
    let (x, y) = (from.midpoint(to), 208);
    html! {
        path class={ "edge " (health.word()) } stroke-width=(format!("{stroke:.1}"))
            d=(format!("M {from} 164 C {from} 204 {to} 186 {to} {}", ROW - 4)) {}
        @if node.flow.requests > 0 {
            rect class="plate" x=(x - 22) y=(y - 12) width="44" height="16" rx="3" {}
            text class="small" x=(x) y=(y) text-anchor="middle" { (percent(node.flow.requests, asked)) }
        }
    }
}

fn node(node: &Node, x: usize) -> Markup {
    let health = node.flow.health();
    html! {
        @match &node.kind {
            NodeKind::Workload(workload) => {
                rect class={ "node " (health.word()) } x=(x - 44) y=(ROW) width="88" height="40" rx="6" {}
                text x=(x) y=(ROW + 18) text-anchor="middle" { (short(&workload.version, 12)) }
                text class="dim small" x=(x) y=(ROW + 33) text-anchor="middle" {
                    (workload.ready) " of " (workload.pods.len()) " ready"
                }
                text class="small" x=(x) y=(ROW + 56) text-anchor="middle" { (short(&workload.name, 24)) }
                @if !workload.sidecar {
                    rect class="badge" x=(x + 14) y=(ROW - 9) width="62" height="16" rx="8" {}
                    text class="small Failure" x=(x + 45) y=(ROW + 3) text-anchor="middle" { "no sidecar" }
                }
                @if health == Health::Idle {
                    text class="small NA" x=(x) y=(ROW + 71) text-anchor="middle" { "deployed, unused" }
                }
            }
            NodeKind::Mesh(said) => {
                rect class={ "node " (health.word()) } stroke-dasharray="4 3" x=(x - 72) y=(ROW) width="144" height="40" rx="6" {}
                text x=(x) y=(ROW + 18) text-anchor="middle" { "no workload" }
                text class="small" x=(x) y=(ROW + 33) text-anchor="middle" { title { (said) } (short(said, 26)) }
            }
        }
        @for (index, part) in node.parts.iter().enumerate() {
            text class={ "small " (part.flow.health().word()) } x=(x) y=(ROW + 71 + 15 * index) text-anchor="middle" {
                (line(part))
            }
        }
    }
}

/// `testers /error 49.8 %`, with a cross where there were errors.
fn line(part: &Part) -> String {
    let path = if part.path == "/" { String::new() } else { format!(" {}", part.path) };
    let errors = if part.flow.errors() > 0 { " ✗" } else { "" };
    format!("{} {:.1} %{errors}", short(&format!("{}{path}", part.from), 20), part.share() * 100.0)
}

fn badges(graph: &Graph) -> Vec<(&'static str, String)> {
    let mut badges = Vec::new();
    if !graph.rules.is_empty() {
        badges.push(("virtual service", graph.rules.join(", ")));
    }
    if graph.shifting {
        badges.push(("traffic shifting", "a route splits requests".to_owned()));
    }
    if graph.fault {
        badges.push(("fault injection", "a route answers faults".to_owned()));
    }
    badges
}

/// The names of the populations, in lines that fit next to the client.
fn populations(graph: &Graph) -> Vec<String> {
    const LONGEST: usize = 24;
    const MOST: usize = 3;
    let mut names: Vec<&str> = graph.nodes.iter().flat_map(|node| &node.parts).map(|part| part.from.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut() {
            Some(line) if line.chars().count() + name.chars().count() + 2 <= LONGEST => {
                line.push_str(", ");
                line.push_str(name);
            }
            _ => lines.push(short(name, LONGEST)),
        }
    }
    if lines.len() > MOST {
        lines.truncate(MOST);
        if let Some(last) = lines.last_mut() {
            *last = short(&format!("{last}, …"), LONGEST);
        }
    }
    lines
}

fn described(graph: &Graph, title: &str) -> String {
    let nodes = graph.nodes.iter().map(|node| {
        let name = match &node.kind {
            NodeKind::Workload(workload) => format!("{} ({})", workload.name, workload.version),
            NodeKind::Mesh(said) => format!("no workload ({said})"),
        };
        if node.parts.is_empty() {
            return format!("{name}: no requests");
        }
        format!("{name}: {}", node.parts.iter().map(line).collect::<Vec<_>>().join(", "))
    });
    format!("{title}. {} to {}: {}", graph.client, graph.service, nodes.collect::<Vec<_>>().join("; "))
}

fn count(requests: u64) -> String {
    let digits = requests.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} requests")
}

fn percent(part: u64, of: u64) -> String {
    let share = crate::report::graph::share(part, of) * 100.0;
    if share > 0.0 && share < 1.0 { format!("{share:.1} %") } else { format!("{share:.0} %") }
}

/// A text cut to a length. The tables of the page have the full text.
fn short(text: &str, longest: usize) -> String {
    if text.chars().count() <= longest {
        return text.to_owned();
    }
    let start: String = text.chars().take(longest - 1).collect();
    format!("{start}…")
}

/// The symbol of a result. Colour is never the only indicator.
pub(super) const fn sign(result: Option<Outcome>) -> &'static str {
    match result {
        Some(Outcome::Passed) => "✓",
        Some(Outcome::Inconclusive) => "?",
        Some(Outcome::Interrupted) | None => "■",
        Some(_) => "✗",
    }
}
