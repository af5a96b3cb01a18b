//! The difference for programs: one JSON object, with a schema version that changes when a field changes its meaning.

use serde::Serialize;

use super::grouping::{About, ChainDiff, Grouped, Summary};

/// Raised when a field goes or changes its meaning; new fields do not raise it.
const SCHEMA: &str = "weir.dev/diff/v1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    summary: &'a Summary,
    groups: Vec<Group<'a>>,
}

#[derive(Serialize)]
struct Group<'a> {
    about: &'a About,
    chains: &'a [ChainDiff],
}

/// The document, indented.
pub fn render(grouped: &Grouped) -> serde_json::Result<String> {
    let groups = grouped.groups.iter().map(|(about, chains)| Group { about, chains }).collect();
    serde_json::to_string_pretty(&Document { schema: SCHEMA, summary: &grouped.summary, groups })
}
