//! The topology as a picture: which stage reads what and writes where.

use std::fmt::Write;

use crate::topology::{Stage, StageKind, Topology};

/// For Markdown pages.
pub fn mermaid(topology: &Topology) -> String {
    let mut text = String::from("flowchart LR\n");
    for topic in topology.topics() {
        let _ = writeln!(
            text,
            "  {}[(\"{}<br/>{} × by {}\")]",
            id(&topic.name),
            topic.name,
            topic.partitions,
            topic.key
        );
    }
    for stage in topology.stages() {
        let _ = writeln!(text, "  {}([\"{}\"])", stage_id(stage), stage.name);
        for (from, to, label) in edges(stage) {
            let _ = match label {
                Some(label) => writeln!(text, "  {from} -. {label} .-> {to}"),
                None => writeln!(text, "  {from} --> {to}"),
            };
        }
    }
    text
}

/// For Graphviz.
pub fn dot(topology: &Topology) -> String {
    let mut text = String::from("digraph topology {\n  rankdir=LR;\n");
    for topic in topology.topics() {
        let (id, name) = (id(&topic.name), &topic.name);
        let _ = writeln!(
            text,
            "  {id} [shape=cylinder, label=\"{name}\\n{} × by {}\"];",
            topic.partitions, topic.key
        );
    }
    for stage in topology.stages() {
        let _ = writeln!(text, "  {} [shape=box, style=rounded, label=\"{}\"];", stage_id(stage), stage.name);
        for (from, to, label) in edges(stage) {
            let _ = match label {
                Some(label) => writeln!(text, "  {from} -> {to} [style=dashed, label=\"{label}\"];"),
                None => writeln!(text, "  {from} -> {to};"),
            };
        }
    }
    text.push_str("}\n");
    text
}

/// From, to and, for what happens only in trouble, a word for it.
fn edges(stage: &Stage) -> Vec<(String, String, Option<&'static str>)> {
    let me = stage_id(stage);
    let mut edges = vec![(id(&stage.source), me.clone(), None)];
    edges.extend(stage.emits.iter().map(|topic| (me.clone(), id(topic), None)));
    if let (StageKind::Effect, Some(retry)) = (stage.kind, &stage.retry_topic) {
        edges.push((me.clone(), id(retry), Some("parks")));
        edges.push((id(retry), me.clone(), Some("tries again")));
    }
    edges.push((me, id(&stage.dead_letters), Some("gives up")));
    edges
}

fn id(topic: &str) -> String {
    format!("topic_{}", topic.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"))
}

fn stage_id(stage: &Stage) -> String {
    format!("stage_{}", stage.name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_"))
}
