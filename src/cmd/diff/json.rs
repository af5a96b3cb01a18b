//! The difference for programs: one JSON object, with a schema version that changes when a field changes its meaning.

use std::io::{self, Write};

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::grouping::{About, Action, ChainDiff, Grouped, Summary};
use super::lines::Fate;
use super::objects::{AddressLine, ServerDiff, SetDiff};
use crate::kernel::link::SERVICE_DEVICE;
use crate::kernel::nftables::ObservedTable;

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
    sets: &'a [SetDiff<'a>],
    #[serde(rename = "virtualServers")]
    virtual_servers: &'a [ServerDiff],
    addresses: Vec<Address>,
    /// What happens to the service device.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<Device>,
    /// Whole tables of nf_tables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tables: Vec<Table<'a>>,
    /// Names of accounting objects that go.
    #[serde(rename = "accountingObjects", skip_serializing_if = "<[_]>::is_empty")]
    accounting: &'a [&'a str],
}

#[derive(Serialize)]
struct Table<'a> {
    action: Action,
    family: &'static str,
    table: &'a str,
    /// How many chains, sets and maps it has.
    objects: u32,
}

impl<'a> From<&'a ObservedTable> for Table<'a> {
    fn from(table: &'a ObservedTable) -> Self {
        let ObservedTable { family, name, objects } = table;
        Table { action: Action::Remove, family: family.as_str(), table: name, objects: *objects }
    }
}

#[derive(Serialize)]
struct Line {
    action: Fate,
    rule: String,
}

#[derive(Serialize)]
struct EntryLine {
    action: Fate,
    entry: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerLine<'a> {
    action: Fate,
    line: &'a str,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    drains_until: Option<u32>,
    /// There is more to it than the line says, and than weir knows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_more: bool,
}

#[derive(Serialize)]
struct Address {
    action: Fate,
    address: String,
    device: &'static str,
}

impl From<&AddressLine> for Address {
    fn from(line: &AddressLine) -> Self {
        Address { action: line.fate, address: line.address.to_string(), device: SERVICE_DEVICE }
    }
}

#[derive(Serialize)]
struct Device {
    action: Action,
    device: &'static str,
}

impl Serialize for ChainDiff<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let family = self.key.family;
        let lines = self.lines.iter().map(|line| Line { action: line.fate, rule: line.rule.text(family) });
        let mut chain = serializer.serialize_struct("ChainDiff", 7)?;
        match self.variant {
            Some(variant) => chain.serialize_field("iptables", variant.as_str())?,
            None => chain.skip_field("iptables")?,
        }
        chain.serialize_field("family", family.as_str())?;
        chain.serialize_field("table", self.key.table.as_str())?;
        chain.serialize_field("chain", self.key.name.as_str())?;
        chain.serialize_field("action", &self.action)?;
        chain.serialize_field("whole", &self.whole)?;
        chain.serialize_field("rules", &Lines(lines.collect()))?;
        chain.end()
    }
}

impl Serialize for SetDiff<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries = self.entries.iter().map(|line| EntryLine {
            action: line.fate,
            entry: line.entry.to_string(),
            comment: line.comment.map(str::to_owned),
        });
        let set_type = self.new.or(self.gone).map(|spec| spec.set_type.as_str());
        let mut set = serializer.serialize_struct("SetDiff", 5)?;
        set.serialize_field("family", self.family.as_str())?;
        set.serialize_field("set", self.name.as_str())?;
        set.serialize_field("action", &self.action)?;
        match set_type {
            Some(set_type) => set.serialize_field("type", set_type)?,
            None => set.skip_field("type")?,
        }
        set.serialize_field("entries", &Lines(entries.collect()))?;
        set.end()
    }
}

impl Serialize for ServerDiff {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lines = self.lines.iter();
        let lines = lines.map(|line| ServerLine {
            action: line.fate,
            line: &line.text,
            drains_until: line.drains_until,
            has_more: line.has_more,
        });
        let mut server = serializer.serialize_struct("ServerDiff", 6)?;
        server.serialize_field("family", self.key.family().as_str())?;
        server.serialize_field("protocol", self.key.protocol.upper())?;
        server.serialize_field("address", &self.key.address.to_string())?;
        server.serialize_field("port", &self.key.port)?;
        server.serialize_field("action", &self.action)?;
        server.serialize_field("lines", &Lines(lines.collect()))?;
        server.end()
    }
}

/// The lines of one object: only so many are text at a time.
#[derive(Serialize)]
#[serde(transparent)]
struct Lines<T>(Vec<T>);

/// Writes the document, indented.
pub fn write(out: &mut impl Write, grouped: &Grouped) -> io::Result<()> {
    let groups = grouped.groups.iter().map(|(about, group)| {
        let (about, service) = match about {
            About::Base => ("base", None),
            About::Service(name) => ("service", Some(name.as_str())),
            About::Unknown => ("unknown", None),
        };
        Group {
            about,
            service,
            chains: &group.chains,
            sets: &group.sets,
            virtual_servers: &group.servers,
            addresses: group.addresses.iter().map(Address::from).collect(),
            device: group.device.map(|action| Device { action, device: SERVICE_DEVICE }),
            tables: group.tables.iter().map(|table| Table::from(*table)).collect(),
            accounting: &group.accounting,
        }
    });
    let document = Document { schema: SCHEMA, summary: &grouped.summary, groups: groups.collect() };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}
