use indicatif::HumanCount;
use maud::{Markup, html};

use crate::report::graph::{Graph, Health, Node, NodeKind, Part};
use crate::report::model::Outcome;
use crate::report::words::short;

/// The width fits the window of a phone: text is not scaled down there.
const WIDTH: usize = 300;
/// The position of the client and the service, with all requests between them.
const TRUNK: usize = 32;
/// The upper edge of the first workload.
const TOP: usize = 196;
/// The left edge and the width of the boxes of workloads.
const BOX: (usize, usize) = (60, 82);
/// The left edge of the lines about a workload.
const LINES: usize = BOX.0 + BOX.1 + 6;
/// The height of a line of text.
const LINE: usize = 15;
/// The height of the box of a workload.
const HEIGHT: usize = 40;

/// The traffic graph of a stage as SVG: the client, the service below, and the workloads that answered, with the share of each population.
pub(super) fn picture(graph: &Graph, title: &str) -> Markup {
    let mut rows = Vec::new();
    let mut top = TOP;
    for node in &graph.nodes {
        rows.push((node, top));
        top += HEIGHT.max(LINE * (1 + node.parts.len().max(1))) + 14;
    }
    // edges share their beginning: a failing one is drawn over a good one
    let mut edges = rows.clone();
    edges.sort_by_key(|(node, _)| node.health());
    let health = graph.health().word();
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {top}")) role="img" aria-label=(described(graph, title)) {
            line class={ "edge " (health) } x1=(TRUNK) y1="52" x2=(TRUNK) y2="110" stroke-width="4" {}
            @for (node, top) in &edges { (edge(node, *top)) }
            circle class={ "node " (health) } cx=(TRUNK) cy="30" r="22" {}
            text x=(TRUNK) y="34" text-anchor="middle" { "client" }
            text x=(BOX.0) y="28" { (short(&graph.client, 32)) }
            @for (index, line) in populations(graph).into_iter().enumerate() {
                text class="dim small" x=(BOX.0) y=(43 + LINE * index) { (line) }
            }
            text class="dim" x=(TRUNK + 12) y="96" { (HumanCount(graph.all.requests)) " requests" }
            path class={ "node " (health) } d=(format!("M {TRUNK} 110 l 26 26 l -26 26 l -26 -26 Z")) {}
            text class="small" x=(TRUNK) y="140" text-anchor="middle" { "svc" }
            text x=(BOX.0) y="140" { (short(&graph.service, 16)) }
            @for (index, badge) in badges(graph).into_iter().enumerate() {
                g {
                    title { (badge.1) }
                    rect class="badge" x="184" y=(108 + 19 * index) width="112" height="17" rx="8" {}
                    text class="small" x="192" y=(121 + 19 * index) { (badge.0) }
                }
            }
            @for (node, top) in &rows { (self::node(node, *top)) }
        }
    }
}

fn edge(node: &Node, top: usize) -> Markup {
    let end = top + HEIGHT / 2;
    let stroke = if node.flow.requests == 0 { "1.5" } else { "3" };
    html! {
        path class={ "edge " (node.health().word()) } stroke-width=(stroke)
            d=(format!("M {TRUNK} 162 L {TRUNK} {} Q {TRUNK} {end} {} {end} L {} {end}", end - 12, TRUNK + 12, BOX.0)) {}
    }
}

fn node(node: &Node, top: usize) -> Markup {
    let (left, width) = BOX;
    let middle = left + width / 2;
    let health = node.health();
    let dashes = matches!(node.kind, NodeKind::Mesh(_)).then_some("4 3");
    html! {
        rect class={ "node " (health.word()) } stroke-dasharray=[dashes] x=(left) y=(top) width=(width) height=(HEIGHT) rx="6" {}
        @match &node.kind {
            NodeKind::Workload(workload) => {
                text x=(middle) y=(top + 17) text-anchor="middle" { (short(&workload.version, 12)) }
                text class="dim small" x=(middle) y=(top + 32) text-anchor="middle" {
                    (workload.ready) " of " (workload.pods.len()) " ready"
                }
                text class="small" x=(LINES) y=(top + 11) { (short(&workload.name, 24)) }
                @if !workload.sidecar {
                    rect class="badge" x=(left + 10) y=(top - 9) width="62" height="15" rx="7" {}
                    text class="small Failure" x=(middle) y=(top + 2) text-anchor="middle" { "no sidecar" }
                }
            }
            NodeKind::Mesh(said) => {
                text class="small" x=(middle) y=(top + 24) text-anchor="middle" { "no workload" }
                text class="small" x=(LINES) y=(top + 11) { title { (said) } (short(said, 24)) }
            }
        }
        @if health == Health::Idle {
            text class="small NA" x=(LINES) y=(top + 11 + LINE) { "deployed, unused" }
        }
        @for (index, part) in node.parts.iter().enumerate() {
            text class={ "small " (part.health().word()) } x=(LINES) y=(top + 11 + LINE * (index + 1)) { (line(part)) }
        }
    }
}

/// `testers /error 49.8 %`, with a cross where there were errors or a claim failed.
fn line(part: &Part) -> String {
    let path = if part.path == "/" { String::new() } else { format!(" {}", part.path) };
    let mark = if part.failed || part.flow.errors() > 0 { " ✗" } else { "" };
    format!("{} {:.1} %{mark}", short(&format!("{}{path}", part.from), 15), part.share * 100.0)
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
    const LONGEST: usize = 40;
    const MOST: usize = 2;
    let mut names: Vec<&str> = graph.nodes.iter().flat_map(|node| &node.parts).map(|part| part.from.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let text = names.join(", ");
    let options = textwrap::Options::new(LONGEST).word_splitter(textwrap::WordSplitter::NoHyphenation);
    let mut lines: Vec<String> = textwrap::wrap(&text, options).into_iter().map(Into::into).collect();
    if lines.len() > MOST {
        lines.truncate(MOST);
        if let Some(last) = lines.last_mut() {
            *last = short(&format!("{last} …"), LONGEST);
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

/// The symbol of a result. Colour is never the only indicator.
pub(in crate::report) const fn sign(result: Option<Outcome>) -> &'static str {
    match result {
        Some(Outcome::Passed) => "✓",
        Some(Outcome::Inconclusive) => "?",
        Some(Outcome::NotJudged) => "–",
        Some(Outcome::Interrupted) | None => "■",
        Some(_) => "✗",
    }
}
