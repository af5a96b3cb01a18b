//! The difference for programs: one JSON object, with a schema version that changes when a field changes its meaning.

use std::io::{self, Write};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::grouping::{About, ChainDiff, Grouped, Summary};
use super::lines::Fate;

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
    /// `base`, `service` or `unknown`.
    about: &'static str,
    /// `namespace/name:port`, only of services.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    chains: &'a [ChainDiff<'a>],
}

#[derive(Serialize)]
struct Line {
    action: Fate,
    rule: String,
}

impl Serialize for ChainDiff<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let family = self.key.family;
        let lines = self.lines.iter().map(|line| Line { action: line.fate, rule: line.rule.text(family) });
        let mut chain = serializer.serialize_struct("ChainDiff", 6)?;
        chain.serialize_field("family", family.as_str())?;
        chain.serialize_field("table", self.key.table.as_str())?;
        chain.serialize_field("chain", self.key.name.as_str())?;
        chain.serialize_field("action", &self.action)?;
        chain.serialize_field("whole", &self.whole)?;
        chain.serialize_field("rules", &Lines(lines.collect()))?;
        chain.end()
    }
}

/// The lines of one chain: only so many are text at a time.
#[derive(Serialize)]
#[serde(transparent)]
struct Lines(Vec<Line>);

/// Writes the document, indented.
pub fn write(out: &mut impl Write, grouped: &Grouped) -> io::Result<()> {
    let groups = grouped.groups.iter().map(|(about, chains)| {
        let (about, service) = match about {
            About::Base => ("base", None),
            About::Service(name) => ("service", Some(name.as_str())),
            About::Unknown => ("unknown", None),
        };
        Group { about, service, chains }
    });
    let document = Document { schema: SCHEMA, summary: &grouped.summary, groups: groups.collect() };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}
